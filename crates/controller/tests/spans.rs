//! Traces to a collector that really listens (T-143, T-424, P-301, P-302).

mod fake;

use std::collections::BTreeMap;

use fake::FakeApi;
use fake::cluster::{PIPELINE_RUNS, Running, TASK_RUNS, config_map, eventually, node};
use fake::sink::Sink;
use serde_json::{Value, json};
use tektite_controller::ControllerOptions;

/// All spans that came in, with the service they are said to come from.
fn spans(sink: &Sink) -> Vec<(String, Value)> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut spans = Vec::new();
    for heard in sink.heard.lock().unwrap().iter() {
        for resource in list(&heard.data["resourceSpans"]) {
            let service = resource["resource"]["attributes"][0]["value"]["stringValue"].clone();
            let service = service.as_str().unwrap_or_default().to_owned();
            for scope in list(&resource["scopeSpans"]) {
                let new = list(&scope["spans"]).into_iter();
                spans.extend(new.map(|span| (service.clone(), span)));
            }
        }
    }
    spans
}

fn pipeline_run() -> Value {
    let step = json!({"name": "s", "image": "busybox", "command": ["echo"]});
    json!({
        "apiVersion": "tekton.dev/v1", "kind": "PipelineRun",
        "metadata": {"namespace": "ns", "name": "p"},
        "spec": {
            "timeouts": {"pipeline": "1h0m0s"},
            "pipelineSpec": {"tasks": [{"name": "a", "taskSpec": {"steps": [step]}}]},
        },
    })
}

#[tokio::test]
async fn a_collector_gets_a_pipeline_run_its_task_runs_and_their_steps_as_one_trace() {
    // T-143, T-424, P-301, P-302
    let api = FakeApi::new();
    let sink = Sink::default();
    let endpoint = sink.listen().await;
    let tracing = json!({"enabled": "true", "endpoint": endpoint, "credentialsSecret": "login"});
    config_map(&api, "config-tracing", tracing);
    api.create(
        "/api/v1/secrets",
        json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"namespace": "tekton-pipelines", "name": "login"},
            "data": {"username": "dXNlcg==", "password": "cGFzcw=="}}),
    );
    let node = node(&api);
    let controller = Running::start(&api, ControllerOptions::default());
    api.create(PIPELINE_RUNS, pipeline_run());
    let spans = eventually(&api, "three spans", || {
        Some(spans(&sink)).filter(|spans| spans.len() >= 3)
    })
    .await;
    let run = api.get(PIPELINE_RUNS, "ns", "p").unwrap();
    let begun = run["status"]["spanContext"]["traceparent"].clone();
    let uid = run["metadata"]["uid"].as_str().unwrap().replace('-', "");
    assert_eq!(begun, format!("00-{uid}-{}-01", &uid[16..]));
    let task_run = api.get(TASK_RUNS, "ns", "p-a").unwrap();
    assert_eq!(task_run["status"]["spanContext"]["traceparent"], begun);
    let by_name: BTreeMap<&str, (&str, &Value)> = spans
        .iter()
        .map(|(service, span)| (span["name"].as_str().unwrap(), (service.as_str(), span)))
        .collect();
    let (services, names): (Vec<_>, Vec<_>) = by_name
        .iter()
        .map(|(name, (service, _))| (*service, *name))
        .unzip();
    assert_eq!(names, ["PipelineRun p", "TaskRun p-a", "step s"]);
    let tasks = "taskrun-reconciler";
    assert_eq!(services, ["pipelinerun-reconciler", tasks, tasks]);
    let [whole, task, step] = names[..] else {
        unreachable!("three names");
    };
    let [whole, task, step] = [whole, task, step].map(|name| by_name[name].1);
    assert!(spans.iter().all(|(_, span)| span["traceId"] == *uid));
    assert_eq!(whole.get("parentSpanId"), None);
    assert_eq!(task["parentSpanId"], whole["spanId"]);
    assert_eq!(step["parentSpanId"], task["spanId"]);
    assert_eq!(step["status"], json!({"code": 1}));
    let heard = sink.heard.lock().unwrap().clone();
    assert!(
        heard
            .iter()
            .all(|one| one.header("authorization") == "Basic dXNlcjpwYXNz")
    );
    node.abort();
    controller.stop().await;
}

#[tokio::test]
async fn without_tracing_nothing_is_sent_and_no_trace_begun() {
    let api = FakeApi::new();
    let sink = Sink::default();
    let endpoint = sink.listen().await;
    config_map(&api, "config-tracing", json!({"endpoint": endpoint}));
    let node = node(&api);
    let controller = Running::start(&api, ControllerOptions::default());
    api.create(PIPELINE_RUNS, pipeline_run());
    eventually(&api, "the end", || {
        let run = api.get(PIPELINE_RUNS, "ns", "p").unwrap();
        (run["status"]["conditions"][0]["status"] == "True").then_some(())
    })
    .await;
    let run = api.get(PIPELINE_RUNS, "ns", "p").unwrap();
    assert_eq!(run["status"].get("spanContext"), None);
    node.abort();
    // Stopping sends what waits.
    controller.stop().await;
    assert_eq!(spans(&sink), []);
}
