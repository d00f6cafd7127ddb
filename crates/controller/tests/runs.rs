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
    eventually(&format!("the end of {name}"), || {
        let run = api.get(collection, "ns", name)?;
        matches!(condition(&run).0.as_str(), "True" | "False").then_some(run)
    })
    .await
}

async fn pod_of(api: &FakeApi, run: &str) -> Value {
    eventually(&format!("the pod of {run}"), || {
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
