//! PipelineRuns as the API sees their controller: what is asked, written and told.

mod fake;

use fake::FakeApi;
use fake::cluster::{
    EVENTS, PIPELINE_RUNS, PODS, Running, TASK_RUNS, condition, ended, eventually, inline_task,
    node, one_step, pipeline_run, pod_of, quiet,
};
use http::Method;
use serde_json::{Value, json};
use tektite_controller::ControllerOptions;

fn options() -> ControllerOptions {
    ControllerOptions::default()
}

#[tokio::test]
async fn a_pipeline_run_makes_each_task_run_once_and_succeeds() {
    let api = FakeApi::new();
    let controller = Running::start(&api, options());
    let node = node(&api);
    let tasks = json!([
        inline_task("a", &[]),
        inline_task("b", &["a"]),
        inline_task("c", &["a"]),
        inline_task("d", &["b", "c"])
    ]);
    api.create(PIPELINE_RUNS, pipeline_run("p", tasks));
    let run = ended(&api, PIPELINE_RUNS, "p").await;
    assert_eq!(condition(&run), ("True".into(), "Succeeded".into()));
    let names: Vec<_> = api
        .list(TASK_RUNS)
        .iter()
        .map(|run| run["metadata"]["name"].clone())
        .collect();
    assert_eq!(names, ["p-a", "p-b", "p-c", "p-d"]);
    let creations = api
        .requests()
        .iter()
        .filter(|r| r.starts_with("POST") && r.contains("/taskruns"))
        .count();
    assert_eq!((creations, api.list(PODS).len()), (4, 4));
    node.abort();
    controller.stop().await;
}

/// P-107: what the cache says of an eviction is confirmed by the API.
#[tokio::test]
async fn an_evicted_task_run_is_read_again_before_its_run_fails() {
    let api = FakeApi::new();
    let controller = Running::start(&api, options());
    api.create(
        PIPELINE_RUNS,
        pipeline_run("p", json!([inline_task("a", &[])])),
    );
    pod_of(&api, "p-a").await;
    quiet(&api).await;
    let before = api.requests().len();
    let status = json!({"status": {"conditions": [{"type": "Succeeded", "status": "False", "reason": "PodEvicted"}]}});
    api.merge(TASK_RUNS, "ns", "p-a", &status);
    let run = ended(&api, PIPELINE_RUNS, "p").await;
    assert_eq!(condition(&run), ("False".into(), "Failed".into()));
    let requests = api.requests();
    let mut later = requests[before..].iter();
    assert!(
        later.any(|it| it.starts_with("GET") && it.contains("/taskruns/p-a")),
        "{requests:#?}"
    );
    controller.stop().await;
}

/// P-107: what passes is asked for again, anything else ends the run.
#[tokio::test]
async fn an_eviction_that_the_api_will_not_confirm_fails_the_run() {
    let api = FakeApi::new();
    let controller = Running::start(&api, options());
    api.create(
        PIPELINE_RUNS,
        pipeline_run("p", json!([inline_task("a", &[])])),
    );
    pod_of(&api, "p-a").await;
    quiet(&api).await;
    for (code, reason) in [(503, "ServiceUnavailable"), (403, "Forbidden")] {
        api.refuse(Method::GET, "/taskruns/p-a", 1, code, reason, "not for you");
    }
    let status = json!({"status": {"conditions": [{"type": "Succeeded", "status": "False", "reason": "PodEvicted"}]}});
    api.merge(TASK_RUNS, "ns", "p-a", &status);
    let run = ended(&api, PIPELINE_RUNS, "p").await;
    assert_eq!(
        condition(&run),
        ("False".into(), "PipelineValidationFailed".into())
    );
    let message = run["status"]["conditions"][0]["message"].as_str().unwrap();
    assert!(
        message.ends_with("against API server: not for you"),
        "{message}"
    );
    controller.stop().await;
}

#[tokio::test]
async fn a_pipeline_is_asked_for_again_when_the_api_was_slow() {
    // P-108
    let api = FakeApi::new();
    let pipelines = "/apis/tekton.dev/v1/pipelines";
    let spec = json!({"tasks": [inline_task("a", &[])]});
    api.create(pipelines, json!({"apiVersion": "tekton.dev/v1", "kind": "Pipeline", "metadata": {"namespace": "ns", "name": "named"}, "spec": spec}));
    api.refuse(Method::GET, "/pipelines/named", 1, 504, "Timeout", "slow");
    let node = node(&api);
    let controller = Running::start(&api, options());
    let mut run = pipeline_run("p", json!([]));
    run["spec"]["pipelineSpec"] = Value::Null;
    run["spec"]["pipelineRef"] = json!({"name": "named"});
    api.create(PIPELINE_RUNS, run);
    let run = ended(&api, PIPELINE_RUNS, "p").await;
    assert_eq!(condition(&run), ("True".into(), "Succeeded".into()));
    node.abort();
    controller.stop().await;
}

#[tokio::test]
async fn labels_are_written_once_and_apart_from_the_status() {
    // P-109
    let api = FakeApi::new();
    let node = node(&api);
    let controller = Running::start(&api, options());
    let mut run = pipeline_run(
        "p",
        json!([inline_task("a", &[]), inline_task("b", &["a"])]),
    );
    run["metadata"]["labels"] = json!({"mine": "1"});
    api.create(PIPELINE_RUNS, run);
    let run = ended(&api, PIPELINE_RUNS, "p").await;
    quiet(&api).await;
    assert_eq!(
        run["metadata"]["labels"],
        json!({"mine": "1", "tekton.dev/pipeline": "p"})
    );
    let requests = api.requests();
    let writes = requests
        .iter()
        .filter(|it| !it.starts_with("GET") && it.contains("/pipelineruns/p"));
    let (status, others): (Vec<_>, Vec<_>) = writes.partition(|it| it.contains("/p/status"));
    assert!(!status.is_empty(), "{requests:#?}");
    assert_eq!(others.len(), 1, "{others:#?}");
    node.abort();
    controller.stop().await;
}

#[tokio::test]
async fn a_run_goes_on_when_a_custom_run_or_a_run_of_its_own_has_ended() {
    // P-110
    let api = FakeApi::new();
    let node = node(&api);
    let controller = Running::start(&api, options());
    let custom = json!({"name": "c", "taskRef": {"apiVersion": "example.dev/v1", "kind": "Wait"}});
    let inner =
        json!({"name": "i", "pipelineSpec": {"tasks": [inline_task("a", &[])]}, "runAfter": ["c"]});
    api.create(PIPELINE_RUNS, pipeline_run("p", json!([custom, inner])));
    let custom_runs = "/apis/tekton.dev/v1beta1/customruns";
    eventually(&api, "the CustomRun", || api.get(custom_runs, "ns", "p-c")).await;
    quiet(&api).await;
    let status = json!({"status": {"conditions": [{"type": "Succeeded", "status": "True", "reason": "Done"}]}});
    api.merge(custom_runs, "ns", "p-c", &status);
    let run = ended(&api, PIPELINE_RUNS, "p").await;
    assert_eq!(condition(&run), ("True".into(), "Succeeded".into()));
    assert_eq!(
        condition(&api.get(PIPELINE_RUNS, "ns", "p-i").unwrap()).0,
        "True"
    );
    node.abort();
    controller.stop().await;
}

#[tokio::test]
async fn what_keeps_a_run_from_being_written_is_told_but_not_a_conflict() {
    // P-381
    let labels = ("/pipelineruns/p", 400, "BadRequest");
    for ((path, code, reason), told) in [
        (labels, &["Error", "InternalError"][..]),
        (("/p/status", 422, "Invalid"), &["UpdateFailed"]),
        (("/p/status", 409, "Conflict"), &[]),
    ] {
        let api = FakeApi::new();
        api.refuse(Method::PATCH, path, 1, code, reason, "not so");
        let node = node(&api);
        let controller = Running::start(&api, options());
        let run = pipeline_run("p", json!([inline_task("a", &[])]));
        api.create(PIPELINE_RUNS, run);
        assert_eq!(condition(&ended(&api, PIPELINE_RUNS, "p").await).0, "True");
        controller.stop().await;
        let events = api.list(EVENTS).into_iter();
        let mut warnings: Vec<String> = events
            .filter(|it| it["type"] == "Warning" && it["involvedObject"]["name"] == "p")
            .filter_map(|it| Some(it["reason"].as_str()?.to_owned()))
            .collect();
        warnings.sort();
        assert_eq!(warnings, told, "{path} {code}");
        node.abort();
    }
}

#[tokio::test]
async fn a_child_that_another_leader_has_written_down_is_looked_up_before_it_counts_as_deleted() {
    // P-399
    let api = FakeApi::new();
    let controller = Running::start(&api, options());
    quiet(&api).await;
    // From now on nothing is heard of TaskRuns.
    let (taskruns, away) = ("/taskruns", "ServiceUnavailable");
    api.refuse(Method::GET, taskruns, usize::MAX, 503, away, "not now");
    api.end_watches();
    let mut child = one_step("p-a");
    child["status"] =
        json!({"conditions": [{"type": "Succeeded", "status": "True", "reason": "Succeeded"}]});
    api.create(TASK_RUNS, child);
    let mut run = pipeline_run("p", json!([inline_task("a", &[])]));
    let reference = json!({"apiVersion": "tekton.dev/v1", "kind": "TaskRun", "name": "p-a", "pipelineTaskName": "a"});
    run["status"] = json!({"startTime": jiff::Timestamp::now(), "childReferences": [reference],
        "conditions": [{"type": "Succeeded", "status": "Unknown", "reason": "Running"}]});
    api.create(PIPELINE_RUNS, run);
    let run = ended(&api, PIPELINE_RUNS, "p").await;
    assert_eq!(condition(&run), ("True".into(), "Succeeded".into()));
    let requests = api.requests();
    assert!(
        !requests
            .iter()
            .any(|it| it.starts_with("POST") && it.contains(taskruns)),
        "{requests:#?}"
    );
    controller.stop().await;
}

#[tokio::test]
async fn a_cancelled_pipeline_run_cancels_its_task_runs_and_their_pods_go() {
    let api = FakeApi::new();
    let controller = Running::start(&api, options());
    api.create(
        PIPELINE_RUNS,
        pipeline_run("p", json!([inline_task("a", &[])])),
    );
    pod_of(&api, "p-a").await;
    quiet(&api).await;
    api.merge(
        PIPELINE_RUNS,
        "ns",
        "p",
        &json!({"spec": {"status": "Cancelled"}}),
    );
    let run = ended(&api, PIPELINE_RUNS, "p").await;
    assert_eq!(condition(&run), ("False".into(), "Cancelled".into()));
    let child = ended(&api, TASK_RUNS, "p-a").await;
    assert_eq!(
        condition(&child),
        ("False".into(), "TaskRunCancelled".into())
    );
    quiet(&api).await;
    assert_eq!(api.list(PODS).len(), 0);
    controller.stop().await;
}
