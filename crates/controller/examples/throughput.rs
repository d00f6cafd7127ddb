//! What a TaskRun costs the control plane when its pod is played: CPU time and requests, with API server, webhooks and
//! controller in one process. `cargo run --release -p tektite-controller --example throughput [RUNS] [SECONDS-TO-REST]`

use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::Api;
use kube::api::{
    DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use tektite_apiserver::{ApiServer, Identity, Options};
use tektite_controller::{
    ConfigHandle, Controller, ControllerOptions, InstallOptions, WEBHOOK_SERVICE, install,
    webhook_router,
};
use tokio_util::sync::CancellationToken;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runs: usize = std::env::args()
        .nth(1)
        .map_or(Ok(1000), |text| text.parse())?;
    let server = ApiServer::start(Options::default()).await?;
    let client = kube::Client::new(server.client_service(Identity::admin()), "default");
    let config = ConfigHandle::default();
    server.register_service(
        WEBHOOK_SERVICE.0,
        WEBHOOK_SERVICE.1,
        webhook_router(config.clone()),
    );
    let begin = Instant::now();
    install(&client, &InstallOptions::default()).await?;
    eprintln!("install: {:?}", begin.elapsed());
    let shutdown = CancellationToken::new();
    let options = ControllerOptions {
        config,
        ..ControllerOptions::default()
    };
    tokio::spawn(Controller::run(client.clone(), options, shutdown.clone()));
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let _ = api(&client, "", "v1", "ServiceAccount")
        .create(&PostParams::default(), &serde_json::from_value(account)?)
        .await;
    tokio::spawn(play_node(client.clone()));
    tokio::time::sleep(Duration::from_millis(200)).await;

    let task_runs = api(&client, "tekton.dev", "v1", "TaskRun");
    let (cpu, begin) = (cpu_seconds(), Instant::now());
    for number in 0..runs {
        let run = json!({"apiVersion": "tekton.dev/v1", "kind": "TaskRun", "metadata": {"name": format!("r{number}")},
            "spec": {"taskSpec": {"steps": [{"name": "s", "image": "busybox", "script": "echo hi"}]}}});
        task_runs
            .create(&PostParams::default(), &serde_json::from_value(run)?)
            .await?;
    }
    loop {
        let list = task_runs.list(&ListParams::default()).await?;
        let done = list
            .items
            .iter()
            .filter(|run| run.data["status"]["conditions"][0]["status"] == "True")
            .count();
        if done >= runs {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (used, took) = (cpu_seconds() - cpu, begin.elapsed());
    println!(
        "{runs} TaskRuns in {took:?}: {:.0}/s, {:.3} ms CPU each (the played node and this program included)",
        runs as f64 / took.as_secs_f64(),
        used * 1000.0 / runs as f64
    );
    if let Some(seconds) = std::env::args().nth(2) {
        tokio::time::sleep(Duration::from_secs(seconds.parse()?)).await;
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    println!(
        "{}",
        status
            .lines()
            .find(|line| line.starts_with("VmRSS"))
            .unwrap_or_default()
    );
    shutdown.cancel();
    Ok(())
}

fn api(client: &kube::Client, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(client.clone(), "default", &resource)
}

/// Ends every new pod at once.
async fn play_node(client: kube::Client) {
    let pods = api(&client, "", "v1", "Pod");
    let Ok(events) = pods.watch(&WatchParams::default(), "0").await else {
        return;
    };
    let mut events = std::pin::pin!(events);
    while let Some(Ok(event)) = events.next().await {
        let WatchEvent::Added(pod) = event else {
            continue;
        };
        let names = pod.data["spec"]["containers"]
            .as_array()
            .into_iter()
            .flatten();
        let containers: Vec<Value> = names
            .map(|container| {
                json!({"name": container["name"], "image": container["image"], "imageID": "sha256:1", "ready": false,
                    "restartCount": 0, "state": {"terminated": {"exitCode": 0, "reason": "Completed", "message": "[]",
                    "startedAt": "2026-01-01T00:00:01Z", "finishedAt": "2026-01-01T00:00:02Z"}}})
            })
            .collect();
        let patch = json!({"status": {"phase": "Succeeded", "containerStatuses": containers}});
        let name = pod.metadata.name.unwrap_or_default();
        let _ = pods
            .patch_status(&name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
    }
}

/// User and system time of this process so far.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks = |index: usize| {
        fields
            .get(index)
            .and_then(|text| text.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    // Fields 14 and 15 of proc(5), in hundredths of a second.
    (ticks(11) + ticks(12)) / 100.0
}
