//! The controller and its webhooks on our own API server, in one process; only the node is played.
#![allow(dead_code)] // each test binary uses its part

use std::time::Duration;

use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use tektite_apiserver::{ApiServer, Identity, Options};
use tektite_controller::{
    ConfigHandle, Controller, ControllerOptions, InstallOptions, WEBHOOK_SERVICE, install,
    webhook_router,
};
use tokio_util::sync::CancellationToken;

pub struct Local {
    pub client: kube::Client,
    pub shutdown: CancellationToken,
}

impl Drop for Local {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// The API, the webhooks and the installation.
pub async fn installed() -> (kube::Client, ConfigHandle) {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
    let server = ApiServer::start(Options::default())
        .await
        .expect("the server starts");
    let client = kube::Client::new(server.client_service(Identity::admin()), "default");
    let config = ConfigHandle::default();
    server.register_service(
        WEBHOOK_SERVICE.0,
        WEBHOOK_SERVICE.1,
        webhook_router(config.clone()),
    );
    install(&client, &InstallOptions::default())
        .await
        .expect("installs");
    (client, config)
}

/// All of it with the controllers.
pub async fn local() -> Local {
    let (client, config) = installed().await;
    // Twice, for an update of what is there must do no harm.
    install(&client, &InstallOptions::default())
        .await
        .expect("installs again");
    let local = Local::with_controllers(client, config);
    // There is no namespace controller here.
    let accounts = api(&local.client, "", "v1", "ServiceAccount");
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let _ = accounts
        .create(&PostParams::default(), &object(account))
        .await;
    local
}

impl Local {
    pub fn with_controllers(client: kube::Client, config: ConfigHandle) -> Self {
        let shutdown = CancellationToken::new();
        let options = ControllerOptions {
            config,
            ..ControllerOptions::default()
        };
        let (controller_client, stop) = (client.clone(), shutdown.clone());
        tokio::spawn(async move {
            Controller::run(controller_client, options, stop)
                .await
                .expect("the controller runs");
        });
        Self { client, shutdown }
    }
}

pub fn api(client: &kube::Client, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(client.clone(), "default", &resource)
}

pub fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).expect("an object")
}

/// Ends every pod that appears.
pub fn node(client: &kube::Client) -> tokio::task::JoinHandle<()> {
    let pods = api(client, "", "v1", "Pod");
    tokio::spawn(async move {
        loop {
            for pod in pods
                .list(&Default::default())
                .await
                .map(|list| list.items)
                .unwrap_or_default()
            {
                if pod.data["status"]["phase"]
                    .as_str()
                    .is_some_and(|phase| phase != "Pending")
                {
                    continue;
                }
                let containers: Vec<Value> = pod.data["spec"]["containers"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|container| {
                        json!({"name": container["name"], "image": container["image"], "imageID": "sha256:1", "ready": false,
                            "restartCount": 0, "state": {"terminated": {"exitCode": 0, "reason": "Completed", "message": "[]",
                            "startedAt": "2026-01-01T00:00:01Z", "finishedAt": "2026-01-01T00:00:02Z"}}})
                    })
                    .collect();
                let patch =
                    json!({"status": {"phase": "Succeeded", "containerStatuses": containers}});
                let name = pod.metadata.name.unwrap_or_default();
                let _ = pods
                    .patch_status(&name, &PatchParams::default(), &Patch::Merge(patch))
                    .await;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
}

pub async fn ended(runs: &Api<DynamicObject>, name: &str) -> Value {
    for _ in 0..2000 {
        let run = runs.get(name).await.expect("the run is there");
        if run.data["status"]["conditions"][0]["status"]
            .as_str()
            .is_some_and(|status| status != "Unknown")
        {
            return run.data;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{name} does not end: {:#?}", runs.get(name).await);
}
