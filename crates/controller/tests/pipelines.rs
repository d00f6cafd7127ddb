//! PipelineRuns on our own API server: custom tasks with a controller of their own, and what goes beyond Tekton.

mod server;

use std::time::Duration;

use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use server::{Local, api, ended, local, node, object};

/// A controller of custom tasks of `example.dev/v1`, kind `Wait`, as small as the protocol lets it be: it says that a run
/// is under way, fails as many attempts as param `failures` says (the run only once its retries are used up), gives the
/// result `waited`, never ends if param `forever` is there, and ends what is to be cancelled.
fn wait_controller(client: &kube::Client) -> tokio::task::JoinHandle<()> {
    let runs = api(client, "tekton.dev", "v1beta1", "CustomRun");
    tokio::spawn(async move {
        loop {
            let all = runs.list(&Default::default()).await;
            for run in all.map(|list| list.items).unwrap_or_default() {
                let name = run.metadata.name.clone().unwrap_or_default();
                if let Some(status) = next_status(&run.data) {
                    let patch = Patch::Merge(json!({ "status": status }));
                    let _ = runs
                        .patch_status(&name, &PatchParams::default(), &patch)
                        .await;
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
}

/// What the controller writes next about a CustomRun; nothing if the run is none of its business or has ended.
fn next_status(run: &Value) -> Option<Value> {
    let spec = &run["spec"];
    let kind = |of: &Value| of["apiVersion"] == "example.dev/v1" && of["kind"] == "Wait";
    let known = &run["status"]["conditions"][0];
    if !(kind(&spec["customRef"]) || kind(&spec["customSpec"]))
        || matches!(known["status"].as_str(), Some("True" | "False"))
    {
        return None;
    }
    let condition = |status: &str, reason: &str| json!([{"type": "Succeeded", "status": status, "reason": reason, "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    if spec["status"] == "RunCancelled" {
        return Some(json!({"conditions": condition("False", "CustomRunCancelled")}));
    }
    if known.is_null() {
        return Some(
            json!({"startTime": "2026-01-01T00:00:00Z", "conditions": condition("Unknown", "Running")}),
        );
    }
    let param = |name: &str| {
        let mut params = spec["params"].as_array().into_iter().flatten();
        params
            .find(|it| it["name"] == name)
            .and_then(|it| it["value"].as_str())
    };
    if param("forever").is_some() {
        return None;
    }
    let tried = run["status"]["retriesStatus"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let failures = param("failures")
        .and_then(|it| it.parse().ok())
        .unwrap_or(0);
    if tried.len() < failures {
        if tried.len() as u64 == spec["retries"].as_u64().unwrap_or(0) {
            return Some(json!({"conditions": condition("False", "Failed")}));
        }
        let tried: Vec<Value> = tried
            .into_iter()
            .chain([json!({"conditions": condition("False", "Failed")})])
            .collect();
        return Some(
            json!({"conditions": condition("Unknown", "Running"), "retriesStatus": tried}),
        );
    }
    let waited = param("for").unwrap_or("nothing");
    Some(
        json!({"conditions": condition("True", "Succeeded"), "completionTime": "2026-01-01T00:00:01Z",
        "results": [{"name": "waited", "value": waited}], "extraFields": {"attempts": tried.len() + 1}}),
    )
}

async fn create(local: &Local, kind: &str, value: Value) -> String {
    let mut value = value;
    value["apiVersion"] = json!("tekton.dev/v1");
    value["kind"] = json!(kind);
    let created = api(&local.client, "tekton.dev", "v1", kind)
        .create(&PostParams::default(), &object(value))
        .await
        .expect("is admitted");
    created.metadata.name.unwrap_or_default()
}

fn pipeline_runs(local: &Local) -> Api<DynamicObject> {
    api(&local.client, "tekton.dev", "v1", "PipelineRun")
}

fn reason(run: &Value) -> &str {
    run["status"]["conditions"][0]["reason"]
        .as_str()
        .unwrap_or_default()
}

/// Waits until the run of this name is as wanted.
async fn until(runs: &Api<DynamicObject>, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..2000 {
        if let Ok(run) = runs.get(name).await
            && wanted(&run.data)
        {
            return run.data;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{name} is not as wanted: {:#?}", runs.get(name).await);
}

fn wait(name: &str, params: Value) -> Value {
    json!({"name": name, "taskRef": {"apiVersion": "example.dev/v1", "kind": "Wait", "name": "w"}, "params": params})
}

fn step(name: &str) -> Value {
    json!({"name": name, "taskSpec": {"steps": [{"image": "busybox", "command": ["true"]}]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_custom_task_runs_by_its_own_controller_and_gives_results() {
    // P-009, P-224, P-227, P-229, P-231
    let local = local().await;
    let (node, controller) = (node(&local.client), wait_controller(&local.client));
    let mut first = wait(
        "first",
        json!([{"name": "for", "value": "tea"}, {"name": "failures", "value": "1"}]),
    );
    first["retries"] = json!(1);
    let inline = json!({"name": "inline", "params": [{"name": "for", "value": "$(tasks.first.results.waited)"}],
        "taskSpec": {"apiVersion": "example.dev/v1", "kind": "Wait", "spec": {"anything": [1, {"at": "all"}]}}});
    let user = json!({"name": "user", "params": [{"name": "x", "value": "$(tasks.inline.results.waited)"}],
        "taskSpec": {"params": [{"name": "x"}], "steps": [{"image": "busybox", "command": ["echo"], "args": ["$(params.x)"]}]}});
    let spec = json!({"pipelineSpec": {"tasks": [first, inline, user],
        "results": [{"name": "out", "value": "$(tasks.inline.results.waited)"}]}});
    create(
        &local,
        "PipelineRun",
        json!({"metadata": {"name": "p"}, "spec": spec}),
    )
    .await;
    let run = ended(&pipeline_runs(&local), "p").await;
    assert_eq!(reason(&run), "Succeeded", "{run:#}");
    assert_eq!(
        run["status"]["results"],
        json!([{"name": "out", "value": "tea"}])
    );
    let custom = api(&local.client, "tekton.dev", "v1beta1", "CustomRun");
    let first = custom.get("p-first").await.expect("is there");
    assert_eq!(first.data["spec"]["retries"], 1);
    assert_eq!(
        first.data["status"]["retriesStatus"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    // Nobody but its controller writes its status.
    assert_eq!(first.data["status"]["extraFields"], json!({"attempts": 2}));
    let inline = custom.get("p-inline").await.expect("is there");
    assert_eq!(
        inline.data["spec"]["customSpec"]["spec"],
        json!({"anything": [1, {"at": "all"}]})
    );
    let user = api(&local.client, "tekton.dev", "v1", "TaskRun")
        .get("p-user")
        .await
        .expect("is there");
    assert_eq!(
        user.data["spec"]["params"],
        json!([{"name": "x", "value": "tea"}])
    );
    node.abort();
    controller.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_custom_task_that_fails_fails_its_run_and_one_that_is_cancelled_cancels_it() {
    // P-227, P-228
    let local = local().await;
    let controller = wait_controller(&local.client);
    let runs = pipeline_runs(&local);
    let failing = json!({"pipelineSpec": {"tasks": [wait("w", json!([{"name": "failures", "value": "3"}]))]}});
    create(
        &local,
        "PipelineRun",
        json!({"metadata": {"name": "bad"}, "spec": failing}),
    )
    .await;
    assert_eq!(reason(&ended(&runs, "bad").await), "Failed");
    let endless =
        json!({"pipelineSpec": {"tasks": [wait("w", json!([{"name": "forever", "value": ""}]))]}});
    create(
        &local,
        "PipelineRun",
        json!({"metadata": {"name": "long"}, "spec": endless}),
    )
    .await;
    let custom = api(&local.client, "tekton.dev", "v1beta1", "CustomRun");
    until(&custom, "long-w", |run| reason(run) == "Running").await;
    let patch = Patch::Merge(json!({"spec": {"status": "Cancelled"}}));
    runs.patch("long", &PatchParams::default(), &patch)
        .await
        .expect("is patched");
    assert_eq!(reason(&ended(&runs, "long").await), "Cancelled");
    let told = until(&custom, "long-w", |run| reason(run) == "CustomRunCancelled").await;
    assert_eq!(
        told["spec"]["statusMessage"],
        "CustomRun cancelled as the PipelineRun it belongs to has been cancelled."
    );
    controller.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_of_one_key_go_one_after_the_other_by_priority() {
    let local = local().await;
    let runs = pipeline_runs(&local);
    let queued = async |name: &str, priority: &str| {
        let annotations = json!({"tektite.dev/concurrency-key": "deploy-$(params.env)", "tektite.dev/concurrency-priority": priority});
        let spec = json!({"params": [{"name": "env", "value": "prod"}],
            "pipelineSpec": {"params": [{"name": "env"}], "tasks": [wait("w", json!([]))]}});
        create(
            &local,
            "PipelineRun",
            json!({"metadata": {"name": name, "annotations": annotations}, "spec": spec}),
        )
        .await
    };
    // Nobody ends the custom task of the first yet.
    queued("a", "0").await;
    until(&runs, "a", |run| reason(run) == "Running").await;
    queued("b", "0").await;
    queued("c", "5").await;
    for name in ["b", "c"] {
        let run = until(&runs, name, |run| reason(run) == "Queued").await;
        assert_eq!(run["status"]["startTime"], Value::Null);
    }
    let controller = wait_controller(&local.client);
    let started = async |name: &str| {
        let run = ended(&runs, name).await;
        assert_eq!(reason(&run), "Succeeded", "{run:#}");
        let events = api(&local.client, "tekton.dev", "v1beta1", "CustomRun");
        let child = events.get(&format!("{name}-w")).await.expect("is there");
        child
            .metadata
            .resource_version
            .and_then(|it| it.parse::<u64>().ok())
    };
    let (a, b, c) = (started("a").await, started("b").await, started("c").await);
    assert!(a < c && c < b, "{a:?} {c:?} {b:?}");
    controller.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_run_cancels_the_previous_one_of_its_key() {
    let local = local().await;
    let runs = pipeline_runs(&local);
    let controller = wait_controller(&local.client);
    for (name, params) in [
        ("a", json!([{"name": "forever", "value": ""}])),
        ("b", json!([])),
    ] {
        let annotations = json!({"tektite.dev/concurrency-key": "k", "tektite.dev/concurrency-policy": "cancel-previous"});
        let spec = json!({"pipelineSpec": {"tasks": [wait("w", params)]}});
        create(
            &local,
            "PipelineRun",
            json!({"metadata": {"name": name, "annotations": annotations}, "spec": spec}),
        )
        .await;
        until(&runs, name, |run| {
            run["status"]["childReferences"].is_array() || reason(run) == "Queued"
        })
        .await;
    }
    assert_eq!(reason(&ended(&runs, "a").await), "Cancelled");
    assert_eq!(reason(&ended(&runs, "b").await), "Succeeded");
    controller.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rerun_shows_what_it_took_over_and_runs_the_rest() {
    let local = local().await;
    let (node, controller) = (node(&local.client), wait_controller(&local.client));
    let runs = pipeline_runs(&local);
    let spec = |failures: &str| {
        let mut after = wait("after", json!([{"name": "failures", "value": failures}]));
        after["runAfter"] = json!(["first"]);
        json!({"pipelineSpec": {"tasks": [step("first"), after]}})
    };
    create(
        &local,
        "PipelineRun",
        json!({"metadata": {"name": "p"}, "spec": spec("1")}),
    )
    .await;
    let first = ended(&runs, "p").await;
    assert_eq!(reason(&first), "Failed");
    let annotations = json!({"tektite.dev/rerun-of": "p"});
    create(
        &local,
        "PipelineRun",
        json!({"metadata": {"name": "q", "annotations": annotations}, "spec": spec("0")}),
    )
    .await;
    let run = ended(&runs, "q").await;
    assert_eq!(reason(&run), "Succeeded", "{run:#}");
    assert_eq!(
        run["status"]["annotations"]["tektite.dev/inherited"],
        "first"
    );
    let children = run["status"]["childReferences"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let names: Vec<&Value> = children.iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["p-first", "q-after"]);
    node.abort();
    controller.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cached_task_runs_once_for_two_runs() {
    let local = local().await;
    let node = node(&local.client);
    let runs = pipeline_runs(&local);
    let mut cached = step("a");
    cached["taskSpec"]["metadata"] = json!({"annotations": {"tektite.dev/cache": "true"}});
    cached["taskSpec"]["steps"][0]["image"] = json!("host");
    for name in ["p", "q"] {
        let spec = json!({"pipelineSpec": {"tasks": [cached, step("b")]}});
        create(
            &local,
            "PipelineRun",
            json!({"metadata": {"name": name}, "spec": spec}),
        )
        .await;
        assert_eq!(reason(&ended(&runs, name).await), "Succeeded");
    }
    let run = runs.get("q").await.expect("is there").data;
    assert_eq!(run["status"]["annotations"]["tektite.dev/cached"], "a");
    let task_runs = api(&local.client, "tekton.dev", "v1", "TaskRun")
        .list(&Default::default())
        .await;
    let mut names: Vec<String> = task_runs
        .expect("a list")
        .items
        .into_iter()
        .filter_map(|it| it.metadata.name)
        .collect();
    names.sort();
    assert_eq!(names, ["p-a", "p-b", "q-b"]);
    node.abort();
}
