//! Remote tasks: the requests a controller makes, and what it takes from them.

mod fake;

use base64::Engine as _;
use fake::cluster::{
    PIPELINE_RUNS, PODS, Running, TASK_RUNS, condition, config_map, ended, eventually, node, quiet,
};
use fake::{ADMITTED, FakeApi};
use http::Method;
use serde_json::{Value, json};
use tektite_controller::ControllerOptions;

const REQUESTS: &str = "/apis/resolution.tekton.dev/v1beta1/resolutionrequests";

const TASK: &str = "apiVersion: tekton.dev/v1\nkind: Task\nmetadata: {name: remote}\nspec:\n  steps: [{name: s, image: busybox, command: [echo]}]\n";

fn run(name: &str) -> Value {
    json!({"apiVersion": "tekton.dev/v1", "kind": "TaskRun",
        "metadata": {"namespace": "ns", "name": name, "labels": {"app.kubernetes.io/managed-by": "tekton-pipelines"}},
        "spec": {"serviceAccountName": "default", "timeout": "1h0m0s", "taskRef": {"resolver": "git",
            "params": [{"name": "url", "value": "https://git.example/repo"}]}}})
}

async fn request(api: &FakeApi) -> Value {
    eventually(api, "a request", || api.list(REQUESTS).pop()).await
}

fn answer(api: &FakeApi, request: &Value, status: &Value) {
    let name = request["metadata"]["name"].as_str().unwrap();
    api.merge(REQUESTS, "ns", name, &json!({ "status": status }));
}

fn data(text: &str) -> Value {
    json!(base64::engine::general_purpose::STANDARD.encode(text))
}

#[tokio::test]
async fn a_remote_task_is_asked_for_once_and_run_when_it_comes() {
    // P-303, P-306, P-313, P-314
    let api = FakeApi::new();
    let controller = Running::start(&api, ControllerOptions::default());
    let node = node(&api);
    let created = api.create(TASK_RUNS, run("r"));
    let request = request(&api).await;
    let metadata = &request["metadata"];
    assert_eq!(
        metadata["labels"],
        json!({"resolution.tekton.dev/type": "git"})
    );
    let owner = &metadata["ownerReferences"][0];
    assert_eq!(
        (&owner["kind"], &owner["uid"], &owner["controller"]),
        (&json!("TaskRun"), &created["metadata"]["uid"], &json!(true))
    );
    assert_eq!(request["spec"]["params"][0]["name"], "url");
    let name = metadata["name"].as_str().unwrap();
    eventually(&api, "the request's beginning", || {
        api.get(REQUESTS, "ns", name).filter(|request| {
            condition(request) == ("Unknown".into(), "ResolutionInProgress".into())
        })
    })
    .await;
    let waiting = eventually(&api, "the run to wait", || {
        api.get(TASK_RUNS, "ns", "r")
            .filter(|run| condition(run).1 == "ResolvingTaskRef")
    })
    .await;
    assert_eq!(
        waiting["status"]["conditions"][0]["message"],
        "TaskRun ns/r awaiting remote resource"
    );

    let source = json!({"uri": "git+https://git.example/repo", "digest": {"sha1": "abc"}, "entryPoint": "task.yaml"});
    answer(
        &api,
        &request,
        &json!({"data": data(TASK), "refSource": source}),
    );
    let run = ended(&api, TASK_RUNS, "r").await;
    assert_eq!(condition(&run), ("True".into(), "Succeeded".into()));
    assert_eq!(run["status"]["provenance"]["refSource"], source);
    assert_eq!(condition(&api.get(REQUESTS, "ns", name).unwrap()).0, "True");
    let made = api
        .requests()
        .iter()
        .filter(|r| r.starts_with("POST") && r.ends_with("/resolutionrequests"))
        .count();
    assert_eq!(made, 1);
    // T-160
    let [tried] = &api.dry_runs()[..] else {
        panic!("{:#?}", api.dry_runs())
    };
    assert_tried(tried, "Task");
    node.abort();
    controller.stop().await;
}

/// What was fetched is sent to admission in the run's namespace, under a name of its own and owned by nobody.
#[track_caller]
fn assert_tried(tried: &Value, kind: &str) {
    let metadata = &tried["metadata"];
    assert_eq!(
        (&tried["kind"], &metadata["namespace"]),
        (&json!(kind), &json!("ns"))
    );
    assert_eq!(metadata["ownerReferences"], Value::Null);
    let name = metadata["name"].as_str().expect("a name");
    assert!(uuid::Uuid::parse_str(name).is_ok(), "{name}");
}

#[tokio::test]
async fn a_failed_or_refused_remote_task_fails_the_run_with_the_reason() {
    // P-306, T-160, T-161
    let failed = json!({"conditions": [{"type": "Succeeded", "status": "False", "reason": "ResolutionFailed", "message": "no such repo"}]});
    for (status, refusal, reason, text) in [
        (failed, None, "TaskRunResolutionFailed", "no such repo"),
        (
            json!({"data": data(TASK)}),
            Some((400, "BadRequest")),
            "TaskValidationFailed",
            "validation failed for referenced object remote: not nice",
        ),
        (
            json!({"data": data("kind: Pipeline\napiVersion: tekton.dev/v1\n")}),
            None,
            "TaskRunResolutionFailed",
            "resource is not a task",
        ),
    ] {
        let api = FakeApi::new();
        let controller = Running::start(&api, ControllerOptions::default());
        api.create(TASK_RUNS, run("r"));
        let request = request(&api).await;
        quiet(&api).await;
        if let Some((code, refused)) = refusal {
            api.refuse(Method::POST, "/tasks", 1, code, refused, "not nice");
        }
        answer(&api, &request, &status);
        let run = ended(&api, TASK_RUNS, "r").await;
        assert_eq!(condition(&run), ("False".into(), reason.into()), "{run:#}");
        let message = run["status"]["conditions"][0]["message"].as_str().unwrap();
        assert!(message.contains(text), "{message}");
        assert_eq!(api.list(PODS).len(), 0);
        controller.stop().await;
    }
}

#[tokio::test]
async fn a_request_that_nobody_answers_times_out() {
    // P-315
    let api = FakeApi::new();
    api.create(
        "/api/v1/configmaps",
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "tekton-pipelines", "name": "config-defaults"},
            "data": {"default-maximum-resolution-timeout": "1s"}}),
    );
    let controller = Running::start(&api, ControllerOptions::default());
    api.create(TASK_RUNS, run("r"));
    let run = ended(&api, TASK_RUNS, "r").await;
    let request = &api.list(REQUESTS)[0];
    assert_eq!(
        condition(request),
        ("False".into(), "ResolutionTimedOut".into())
    );
    assert_eq!(
        request["status"]["conditions"][0]["message"],
        "resolution took longer than global timeout of 1s"
    );
    assert_eq!(
        condition(&run),
        ("False".into(), "TaskRunResolutionFailed".into())
    );
    controller.stop().await;
}

const PIPELINE: &str = "apiVersion: tekton.dev/v1\nkind: Pipeline\nmetadata: {name: remote, namespace: elsewhere, \
    labels: {l: \"1\"}, ownerReferences: [{apiVersion: v1, kind: Pod, name: p, uid: u}]}\nspec:\n  tasks:\n  - name: a\n    \
    taskSpec: {steps: [{name: s, image: busybox, command: [echo]}]}\n";

fn pipeline_run(name: &str) -> Value {
    json!({"apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "metadata": {"namespace": "ns", "name": name},
        "spec": {"taskRunTemplate": {"serviceAccountName": "default"}, "timeouts": {"pipeline": "1h0m0s"},
            "pipelineRef": {"resolver": "git"}}})
}

#[tokio::test]
async fn a_remote_pipeline_is_run_as_admission_makes_it_under_its_own_name() {
    // P-108, P-110, P-310
    let api = FakeApi::new();
    let controller = Running::start(&api, ControllerOptions::default());
    let node = node(&api);
    api.create(PIPELINE_RUNS, pipeline_run("r"));
    let request = request(&api).await;
    // What an unwell server says is asked for again.
    api.refuse(Method::POST, "/pipelines", 1, 500, "InternalError", "no");
    answer(&api, &request, &json!({"data": data(PIPELINE)}));
    let run = ended(&api, PIPELINE_RUNS, "r").await;
    assert_eq!(condition(&run).0, "True");
    assert_eq!(run["status"]["pipelineSpec"]["description"], ADMITTED);
    let labels = &run["metadata"]["labels"];
    assert_eq!(
        (&labels["tekton.dev/pipeline"], &labels["l"]),
        (&json!("remote"), &json!("1"))
    );
    let tried = api.dry_runs();
    let [tried] = &tried[..] else {
        panic!("{tried:#?}")
    };
    assert_tried(tried, "Pipeline");
    node.abort();
    controller.stop().await;
}

#[tokio::test]
async fn a_failed_verification_counts_only_once_admission_has_agreed() {
    // P-310
    for (refused, reason) in [
        (true, "PipelineValidationFailed"),
        (false, "ResourceVerificationFailed"),
    ] {
        let api = FakeApi::new();
        let flags = json!({"trusted-resources-verification-no-match-policy": "fail"});
        config_map(&api, "feature-flags", flags);
        let controller = Running::start(&api, ControllerOptions::default());
        api.create(PIPELINE_RUNS, pipeline_run("r"));
        let request = request(&api).await;
        if refused {
            api.refuse(Method::POST, "/pipelines", 1, 400, "BadRequest", "no");
        }
        answer(&api, &request, &json!({"data": data(PIPELINE)}));
        let run = ended(&api, PIPELINE_RUNS, "r").await;
        assert_eq!(condition(&run), ("False".into(), reason.into()));
        assert_eq!(api.list(TASK_RUNS).len(), 0);
        controller.stop().await;
    }
}

#[tokio::test]
async fn what_a_resolver_wrote_into_a_request_stays_there() {
    // P-316
    let api = FakeApi::new();
    let controller = Running::start(&api, ControllerOptions::default());
    let node = node(&api);
    api.create(TASK_RUNS, run("r"));
    let request = request(&api).await;
    quiet(&api).await;
    let name = request["metadata"]["name"].as_str().expect("a name");
    let written = json!({"data": data(TASK), "refSource": {"uri": "u"}, "source": {"uri": "u"}, "annotations": {"a": "b"}});
    // The version that the controller knew is no longer the newest.
    let path = format!("/resolutionrequests/{name}/status");
    api.refuse(Method::PATCH, &path, 1, 409, "Conflict", "changed");
    answer(&api, &request, &written);
    ended(&api, TASK_RUNS, "r").await;
    let status = &api.get(REQUESTS, "ns", name).expect("is there")["status"];
    for (field, value) in written.as_object().expect("fields") {
        assert_eq!(status[field], *value);
    }
    assert_eq!(status["observedGeneration"], 1);
    assert_eq!(status["conditions"][0]["status"], "True");
    let requests = api.requests();
    assert!(
        !requests
            .iter()
            .any(|it| it.starts_with("DELETE") && it.contains(name)),
        "{requests:#?}"
    );
    node.abort();
    controller.stop().await;
}
