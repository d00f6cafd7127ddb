//! A controller on a fake API, and a node that pretends to run its pods.

use std::time::Duration;

use serde_json::{Value, json};
use tektite_controller::{Controller, ControllerOptions};
use tokio_util::sync::CancellationToken;

use super::FakeApi;

pub const TASK_RUNS: &str = "/apis/tekton.dev/v1/taskruns";
pub const PIPELINE_RUNS: &str = "/apis/tekton.dev/v1/pipelineruns";
pub const PODS: &str = "/api/v1/pods";
pub const EVENTS: &str = "/api/v1/events";
pub const CONFIG_MAPS: &str = "/api/v1/configmaps";

/// A running controller.
pub struct Running {
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Starts a controller on `api`.
    pub fn start(api: &FakeApi, options: ControllerOptions) -> Self {
        // RUST_LOG shows what the controller says; without it, nothing.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let shutdown = CancellationToken::new();
        let (client, stop) = (api.client(), shutdown.clone());
        let task = tokio::spawn(async move {
            Controller::run(client, options, stop)
                .await
                .expect("the controller runs");
        });
        Self { shutdown, task }
    }

    /// Stops it in an orderly way.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.task
            .await
            .expect("the controller ends without a panic");
    }

    /// Kills it in the midst of things.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// Waits until `condition` gives something.
pub async fn eventually<T>(
    api: &FakeApi,
    what: &str,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    for _ in 0..4000 {
        if let Some(found) = condition() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let runs = [
        api.list(TASK_RUNS),
        api.list(PIPELINE_RUNS),
        api.list(EVENTS),
    ];
    panic!(
        "waited in vain for {what}; the API has {runs:#?} and was asked {:#?}",
        api.requests()
    );
}

/// Waits until nothing more is asked of the API.
pub async fn quiet(api: &FakeApi) {
    let mut last = api.requests().len();
    loop {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let now = api.requests().len();
        if now == last {
            return;
        }
        last = now;
    }
}

/// A TaskRun of one step that has a command.
pub fn one_step(name: &str) -> Value {
    json!({
        "apiVersion": "tekton.dev/v1",
        "kind": "TaskRun",
        "metadata": {"namespace": "ns", "name": name, "labels": {"app.kubernetes.io/managed-by": "tekton-pipelines"}},
        "spec": {
            "serviceAccountName": "default",
            "timeout": "1h0m0s",
            "taskSpec": {"steps": [{"name": "s", "image": "busybox", "command": ["echo"], "args": ["hi"]}]},
        },
    })
}

/// The status a kubelet would give a pod all of whose steps are in this state.
pub fn pod_status(pod: &Value, phase: &str, state: &Value) -> Value {
    let containers: Vec<Value> = pod["spec"]["containers"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|container| {
            json!({"name": container["name"], "image": container["image"], "imageID": "sha256:1", "ready": phase == "Running",
                "restartCount": 0, "state": state})
        })
        .collect();
    json!({"status": {"phase": phase, "startTime": "2026-01-01T00:00:00Z",
        "conditions": [{"type": "PodScheduled", "status": "True"}], "containerStatuses": containers}})
}

/// Plays the node for one pod: running, then ended with `exit_code`.
pub fn run_pod(api: &FakeApi, pod: &Value, exit_code: i32) {
    let name = pod["metadata"]["name"].as_str().expect("pods have names");
    let namespace = pod["metadata"]["namespace"]
        .as_str()
        .expect("pods have namespaces");
    let running = json!({"running": {"startedAt": "2026-01-01T00:00:01Z"}});
    api.merge(PODS, namespace, name, &pod_status(pod, "Running", &running));
    let phase = if exit_code == 0 {
        "Succeeded"
    } else {
        "Failed"
    };
    let reason = if exit_code == 0 { "Completed" } else { "Error" };
    let ended = json!({"terminated": {"exitCode": exit_code, "reason": reason, "startedAt": "2026-01-01T00:00:01Z",
        "finishedAt": "2026-01-01T00:00:02Z", "message": "[]"}});
    api.merge(PODS, namespace, name, &pod_status(pod, phase, &ended));
}

/// Ends every pod that appears, until dropped.
pub fn node(api: &FakeApi) -> tokio::task::JoinHandle<()> {
    let api = api.clone();
    tokio::spawn(async move {
        loop {
            for pod in api.list(PODS) {
                if pod["status"]["phase"].is_null() || pod["status"]["phase"] == "Pending" {
                    run_pod(&api, &pod, 0);
                }
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
}

/// The `Succeeded` condition's status and reason.
pub fn condition(object: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let condition = &object["status"]["conditions"][0];
    (text(&condition["status"]), text(&condition["reason"]))
}

/// Sets a ConfigMap of the installation.
pub fn config_map(api: &FakeApi, name: &str, data: Value) {
    api.create(
        CONFIG_MAPS,
        json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"namespace": "tekton-pipelines", "name": name}, "data": data}),
    );
}

/// The run once it has ended.
pub async fn ended(api: &FakeApi, collection: &str, name: &str) -> Value {
    eventually(api, &format!("the end of {name}"), || {
        let run = api.get(collection, "ns", name)?;
        matches!(condition(&run).0.as_str(), "True" | "False").then_some(run)
    })
    .await
}

/// The pod of a TaskRun.
pub async fn pod_of(api: &FakeApi, run: &str) -> Value {
    eventually(api, &format!("the pod of {run}"), || {
        api.list(PODS)
            .into_iter()
            .find(|pod| pod["metadata"]["labels"]["tekton.dev/taskRun"] == run)
    })
    .await
}

/// A PipelineRun of these tasks.
pub fn pipeline_run(name: &str, tasks: Value) -> Value {
    json!({"apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "metadata": {"namespace": "ns", "name": name},
        "spec": {"taskRunTemplate": {"serviceAccountName": "default"}, "timeouts": {"pipeline": "1h0m0s"}, "pipelineSpec": {"tasks": tasks}}})
}

/// A task of one step.
pub fn inline_task(name: &str, after: &[&str]) -> Value {
    json!({"name": name, "runAfter": after,
        "taskSpec": {"steps": [{"name": "s", "image": "busybox", "command": ["true"]}]}})
}
