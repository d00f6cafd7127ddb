//! The page that Prometheus reads.

mod fake;

use fake::FakeApi;
use fake::cluster::{
    CONFIG_MAPS, PIPELINE_RUNS, Running, TASK_RUNS, condition, config_map, ended, eventually,
    inline_task, node, one_step, pipeline_run, quiet,
};
use http_body_util::BodyExt;
use serde_json::{Value, json};
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

#[tokio::test]
async fn work_queues_are_told_of_by_kind_with_knatives_names() {
    // T-417
    let api = FakeApi::new();
    let options = ControllerOptions::default();
    let metrics = options.metrics.clone();
    let controller = Running::start(&api, options);
    let playing = node(&api);
    api.create(TASK_RUNS, one_step("a"));
    eventually(&api, "an end", || {
        api.get(TASK_RUNS, "ns", "a")
            .filter(|run| condition(run).0 == "True")
    })
    .await;
    quiet(&api).await;
    let (_, page) = get(&metrics, "/metrics").await;
    let value = |name: &str, kind: &str| -> f64 {
        let start = format!(
            "{name}{{name=\"github.com.tektoncd.pipeline.pkg.reconciler.{kind}.Reconciler\",otel_scope_name=\"knative.dev/pkg/observability/metrics/k8s\"}} "
        );
        let line = page.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("{start} not in\n{page}"))
            .parse()
            .expect("a number")
    };
    let adds = value("kn_workqueue_adds_total", "taskrun");
    assert!(adds >= 1.0, "{adds}");
    for name in [
        "kn_workqueue_queue_duration_seconds",
        "kn_workqueue_process_duration_seconds",
    ] {
        assert_eq!(value(&format!("{name}_count"), "taskrun"), adds, "{name}");
        assert_eq!(
            value(&format!("{name}_count"), "pipelinerun"),
            0.0,
            "{name}"
        );
        assert!(page.contains(&format!("{name}_bucket{{")), "{name}");
        assert!(value(&format!("{name}_sum"), "taskrun") > 0.0, "{name}");
    }
    for name in [
        "depth",
        "unfinished_work_seconds",
        "longest_running_processor_seconds",
    ] {
        assert_eq!(
            value(&format!("kn_workqueue_{name}"), "taskrun"),
            0.0,
            "{name}"
        );
    }
    // It has a timeout, so it was to be looked at later.
    assert!(value("kn_workqueue_retries_total", "taskrun") >= 1.0);
    playing.abort();
    controller.stop().await;
}

/// P-387: a histogram, or the last value.
#[tokio::test]
async fn a_pipeline_runs_duration_is_put_into_buckets_unless_the_last_one_is_wanted() {
    let name = "tekton_pipelines_controller_pipelinerun_duration_seconds";
    for last_value in [false, true] {
        let api = FakeApi::new();
        if last_value {
            let data = json!({"metrics.pipelinerun.duration-type": "lastvalue"});
            config_map(&api, "config-observability", data);
        }
        let options = ControllerOptions::default();
        let metrics = options.metrics.clone();
        let controller = Running::start(&api, options);
        let mut run = pipeline_run("p", json!([inline_task("a", &[])]));
        run["spec"]["status"] = json!("Cancelled");
        api.create(PIPELINE_RUNS, run);
        ended(&api, PIPELINE_RUNS, "p").await;
        quiet(&api).await;
        let (_, page) = get(&metrics, "/metrics").await;
        let lines: Vec<&str> = page.lines().filter(|it| it.contains(name)).collect();
        let bounds: Vec<&str> = lines
            .iter()
            .filter_map(|it| it.split_once("le=\"")?.1.split('"').next())
            .collect();
        let labels = "namespace=\"ns\",status=\"cancelled\",pipeline=\"anonymous\"";
        assert!(lines.iter().any(|it| it.contains(labels)), "{lines:#?}");
        if last_value {
            assert!(bounds.is_empty(), "{lines:#?}");
            assert!(
                lines.contains(&&*format!("# TYPE {name} gauge")),
                "{lines:#?}"
            );
        } else {
            let expected = [
                "10", "30", "60", "300", "900", "1800", "3600", "5400", "10800", "21600", "43200",
                "86400", "+Inf",
            ];
            assert_eq!(bounds, expected);
        }
        controller.stop().await;
    }
}

/// A run in some state that stays in it, as somebody else manages it.
fn standing(kind: &str, name: &str, status: &str, reason: &str) -> Value {
    json!({"apiVersion": "tekton.dev/v1", "kind": kind, "metadata": {"namespace": "ns", "name": name},
        "spec": {"managedBy": "somebody.dev/else", "taskRef": {"name": "t"}, "pipelineRef": {"name": "p"}},
        "status": {"conditions": [{"type": "Succeeded", "status": status, "reason": reason}]}})
}

#[tokio::test]
async fn runs_under_way_are_counted_by_what_holds_them_up() {
    // T-413, T-414, T-415, P-389
    let api = FakeApi::new();
    let options = ControllerOptions::default();
    let metrics = options.metrics.clone();
    let controller = Running::start(&api, options);
    for (name, status, reason) in [
        ("a", "Unknown", "Running"),
        ("b", "Unknown", "ResolvingTaskRef"),
        ("c", "Unknown", "ExceededResourceQuota"),
        ("d", "Unknown", "ExceededResourceQuota"),
        ("e", "False", "ExceededNodeResources"),
    ] {
        api.create(TASK_RUNS, standing("TaskRun", name, status, reason));
    }
    let mut new = standing("TaskRun", "f", "", "");
    new["status"] = json!({});
    api.create(TASK_RUNS, new);
    for (name, reason) in [
        ("a", "Running"),
        ("b", "ResolvingPipelineRef"),
        ("c", "ResolvingTaskRef"),
        ("d", "PipelineRunPending"),
    ] {
        api.create(
            PIPELINE_RUNS,
            standing("PipelineRun", name, "Unknown", reason),
        );
    }
    quiet(&api).await;
    let scope = "otel_scope_name=\"tekton_pipelines_controller\"";
    let start = "tekton_pipelines_controller_running_";
    let (_, page) = get(&metrics, "/metrics").await;
    for (name, count) in [
        ("taskruns", 4),
        ("taskruns_waiting_on_task_resolution_count", 1),
        ("taskruns_throttled_by_quota", 2),
        ("pipelineruns", 4),
        ("pipelineruns_waiting_on_pipeline_resolution", 1),
        ("pipelineruns_waiting_on_task_resolution", 1),
    ] {
        let line = format!("{start}{name}{{{scope}}} {count}");
        assert!(page.lines().any(|l| l == line), "{line}\nnot in\n{page}");
    }
    assert!(
        !page.contains("throttled_by_node"),
        "no sample where there is none:\n{page}"
    );
    let map = |level: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"namespace": "tekton-pipelines", "name": "config-observability"},
            "data": {"metrics.taskrun.throttle.enable-namespace": "true", "metrics.running-pipelinerun.level": level}})
    };
    api.create(CONFIG_MAPS, map(""));
    for (level, labels, count) in [
        (
            "pipelinerun",
            "pipelinerun=\"a\",pipeline=\"p\",namespace=\"ns\",",
            1,
        ),
        ("pipeline", "pipeline=\"p\",namespace=\"ns\",", 4),
        ("namespace", "namespace=\"ns\",", 4),
    ] {
        api.merge(
            CONFIG_MAPS,
            "tekton-pipelines",
            "config-observability",
            &map(level),
        );
        quiet(&api).await;
        let (_, page) = get(&metrics, "/metrics").await;
        for line in [
            format!("{start}taskruns_throttled_by_quota{{namespace=\"ns\",{scope}}} 2"),
            format!("{start}pipelineruns{{{labels}{scope}}} {count}"),
            format!("{start}pipelineruns{{{scope}}} 4"),
        ] {
            assert!(page.lines().any(|l| l == line), "{line}\nnot in\n{page}");
        }
    }
    controller.stop().await;
}
