//! The page that Prometheus reads.

mod fake;

use fake::FakeApi;
use fake::cluster::{Running, TASK_RUNS, condition, eventually, node, one_step, quiet};
use http_body_util::BodyExt;
use serde_json::json;
use tektite_controller::{ControllerOptions, Metrics, metrics_router};
use tower::ServiceExt;

async fn get(metrics: &Metrics, path: &str) -> (u16, String) {
    let request = http::Request::get(path)
        .body(axum::body::Body::empty())
        .expect("a request");
    let response = metrics_router(metrics.clone())
        .oneshot(request)
        .await
        .expect("routers do not fail");
    let code = response.status().as_u16();
    let body = response
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    (code, String::from_utf8(body.to_vec()).expect("text"))
}

#[tokio::test]
async fn finished_and_running_task_runs_are_counted() {
    // T-409, T-412, T-413, T-421
    let api = FakeApi::new();
    let options = ControllerOptions::default();
    let metrics = options.metrics.clone();
    let controller = Running::start(&api, options);
    let playing = node(&api);
    for name in ["a", "b"] {
        api.create(TASK_RUNS, one_step(name));
        eventually(&api, "an end", || {
            api.get(TASK_RUNS, "ns", name)
                .filter(|run| condition(run).0 == "True")
        })
        .await;
    }
    playing.abort();
    let mut cancelled = one_step("c");
    cancelled["spec"]["status"] = json!("TaskRunCancelled");
    api.create(TASK_RUNS, cancelled);
    api.create(TASK_RUNS, one_step("d"));
    eventually(&api, "an end", || {
        api.get(TASK_RUNS, "ns", "c")
            .filter(|run| condition(run).0 == "False")
    })
    .await;
    quiet(&api).await;
    let (code, page) = get(&metrics, "/metrics").await;
    assert_eq!(code, 200);
    let scope = "otel_scope_name=\"tekton_pipelines_controller\"";
    for line in [
        format!("tekton_pipelines_controller_taskrun_total{{status=\"success\",{scope}}} 2"),
        format!("tekton_pipelines_controller_taskrun_total{{status=\"cancelled\",{scope}}} 1"),
        format!("tekton_pipelines_controller_running_taskruns{{{scope}}} 1"),
        format!(
            "tekton_pipelines_controller_taskrun_duration_seconds_count{{namespace=\"ns\",status=\"success\",task=\"anonymous\",{scope}}} 2"
        ),
    ] {
        assert!(page.lines().any(|l| l == line), "{line}\nnot in\n{page}");
    }
    for path in ["/", "/health", "/readiness"] {
        assert_eq!(get(&metrics, path).await.0, 200, "{path}");
    }
    controller.stop().await;
}
