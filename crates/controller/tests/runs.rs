//! Runs from creation to their end, on a fake API.

mod fake;

use fake::FakeApi;
use fake::cluster::{
    CONFIG_MAPS, EVENTS, PIPELINE_RUNS, PODS, Running, TASK_RUNS, condition, eventually, node,
    one_step, pod_status, quiet, run_pod,
};
use http::Method;
use serde_json::{Value, json};
use tektite_controller::ControllerOptions;

fn options() -> ControllerOptions {
    ControllerOptions::default()
}

async fn ended(api: &FakeApi, collection: &str, name: &str) -> Value {
    eventually(api, &format!("the end of {name}"), || {
        let run = api.get(collection, "ns", name)?;
        matches!(condition(&run).0.as_str(), "True" | "False").then_some(run)
    })
    .await
}

async fn pod_of(api: &FakeApi, run: &str) -> Value {
    eventually(api, &format!("the pod of {run}"), || {
        api.list(PODS)
            .into_iter()
            .find(|pod| pod["metadata"]["labels"]["tekton.dev/taskRun"] == run)
    })
    .await
}

#[tokio::test]
async fn a_one_step_task_run_succeeds_with_few_requests() {
    let api = FakeApi::new();
    let controller = Running::start(&api, options());
    quiet(&api).await;
    let before = api.requests().len();
    api.create(TASK_RUNS, one_step("hello"));
    let pod = pod_of(&api, "hello").await;
    quiet(&api).await;
    let running = json!({"running": {"startedAt": "2026-01-01T00:00:01Z"}});
    api.merge(
        PODS,
        "ns",
        pod["metadata"]["name"].as_str().unwrap(),
        &pod_status(&pod, "Running", &running),
    );
    quiet(&api).await;
    run_pod(&api, &pod, 0);
    let run = ended(&api, TASK_RUNS, "hello").await;
    assert_eq!(condition(&run), ("True".into(), "Succeeded".into()));
    quiet(&api).await;
    let requests = api.requests()[before..].to_vec();
    let (events, others): (Vec<_>, Vec<_>) = requests
        .iter()
        .partition(|request| request.contains("/events"));
    println!("{others:#?}\n{events:#?}");
    assert!(others.len() <= 6, "{others:#?}");
    controller.stop().await;
}

fn pipeline_run(name: &str, tasks: Value) -> Value {
    json!({"apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "metadata": {"namespace": "ns", "name": name},
        "spec": {"taskRunTemplate": {"serviceAccountName": "default"}, "timeouts": {"pipeline": "1h0m0s"}, "pipelineSpec": {"tasks": tasks}}})
}

fn inline_task(name: &str, after: &[&str]) -> Value {
    json!({"name": name, "runAfter": after,
        "taskSpec": {"steps": [{"name": "s", "image": "busybox", "command": ["true"]}]}})
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
