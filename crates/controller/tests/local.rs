//! The controller and its webhooks on our own API server, in one process; only the node is played.

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

struct Local {
    client: kube::Client,
    shutdown: CancellationToken,
}

impl Drop for Local {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn local() -> Local {
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
    // Twice, for an update of what is there must do no harm.
    install(&client, &InstallOptions::default())
        .await
        .expect("installs again");
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
    // There is no namespace controller here.
    let accounts = api(&client, "", "v1", "ServiceAccount");
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let _ = accounts
        .create(&PostParams::default(), &object(account))
        .await;
    Local { client, shutdown }
}

fn api(client: &kube::Client, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(client.clone(), "default", &resource)
}

fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).expect("an object")
}

/// Ends every pod that appears.
fn node(client: &kube::Client) -> tokio::task::JoinHandle<()> {
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

async fn ended(runs: &Api<DynamicObject>, name: &str) -> Value {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_of_both_versions_are_defaulted_converted_and_run() {
    let local = local().await;
    let node = node(&local.client);
    for version in ["v1", "v1beta1"] {
        let runs = api(&local.client, "tekton.dev", version, "TaskRun");
        let name = format!("hello-{version}");
        let run = json!({"apiVersion": format!("tekton.dev/{version}"), "kind": "TaskRun", "metadata": {"name": name},
            "spec": {"taskSpec": {"params": [{"name": "who", "default": "you"}],
                "steps": [{"image": "busybox", "command": ["echo"], "args": ["$(params.who)"]}]}}});
        let created = runs
            .create(&PostParams::default(), &object(run))
            .await
            .expect("is admitted");
        assert_eq!(created.data["spec"]["timeout"], "1h0m0s");
        assert_eq!(
            created.data["spec"]["taskSpec"]["params"][0]["type"],
            "string"
        );
        let ended = ended(&runs, &name).await;
        assert_eq!(
            ended["status"]["conditions"][0]["reason"], "Succeeded",
            "{ended:#}"
        );
    }
    node.abort();
}

// T-016, T-018, P-016
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_admission_refuses_is_refused_with_upstreams_words() {
    let local = local().await;
    let refused = async |group: &str, kind: &str, value: Value| {
        let api = api(&local.client, group, "v1", kind);
        match api.create(&PostParams::default(), &object(value)).await {
            Err(kube::Error::Api(status)) => (status.code, status.message),
            other => panic!("not refused: {other:?}"),
        }
    };
    let run = json!({"apiVersion": "tekton.dev/v1", "kind": "TaskRun", "metadata": {"name": "x"}, "spec": {}});
    assert_eq!(
        refused("tekton.dev", "TaskRun", run).await,
        (
            400,
            "admission webhook \"validation.webhook.pipeline.tekton.dev\" denied the request: validation failed: \
             expected exactly one, got neither: spec.taskRef, spec.taskSpec"
                .into()
        )
    );
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "feature-flags",
        "labels": {"app.kubernetes.io/part-of": "tekton-pipelines"}}, "data": {"enable-api-fields": "gamma"}});
    assert_eq!(
        refused("", "ConfigMap", map).await,
        (
            400,
            "admission webhook \"config.webhook.pipeline.tekton.dev\" denied the request: validation failed: \
             invalid value for feature flag \"enable-api-fields\": \"gamma\""
                .into()
        )
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_run_goes_through_its_tasks_on_the_real_server() {
    let local = local().await;
    let node = node(&local.client);
    let tasks = api(&local.client, "tekton.dev", "v1", "Task");
    let task = json!({"apiVersion": "tekton.dev/v1", "kind": "Task", "metadata": {"name": "t"},
        "spec": {"steps": [{"image": "busybox", "command": ["true"]}]}});
    tasks
        .create(&PostParams::default(), &object(task))
        .await
        .expect("is admitted");
    let runs = api(&local.client, "tekton.dev", "v1", "PipelineRun");
    let run = json!({"apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "metadata": {"name": "p"},
        "spec": {"pipelineSpec": {"tasks": [
            {"name": "a", "taskRef": {"name": "t"}},
            {"name": "b", "runAfter": ["a"], "taskRef": {"name": "t"}},
        ], "finally": [{"name": "z", "taskRef": {"name": "t"}}]}}});
    runs.create(&PostParams::default(), &object(run))
        .await
        .expect("is admitted");
    let ended = ended(&runs, "p").await;
    assert_eq!(
        ended["status"]["conditions"][0]["reason"], "Succeeded",
        "{ended:#}"
    );
    let children: Vec<&Value> = ended["status"]["childReferences"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|child| &child["name"])
        .collect();
    assert_eq!(children, ["p-a", "p-b", "p-z"]);
    node.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_installation_has_upstreams_objects() {
    // P-012, P-379, P-400
    let local = local().await;
    for (path, field, value) in [
        (
            "/api/v1/namespaces/tekton-pipelines/configmaps/pipelines-info",
            "/data/version",
            json!("devel"),
        ),
        (
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/tekton-aggregate-view",
            "/rules/0/apiGroups/0",
            json!("tekton.dev"),
        ),
        (
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/tekton-aggregate-edit",
            "/rules/0/resources/0",
            json!("tasks"),
        ),
        (
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/webhook.pipeline.tekton.dev",
            "/webhooks/0/failurePolicy",
            json!("Fail"),
        ),
        (
            "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/config.webhook.pipeline.tekton.dev",
            "/webhooks/0/rules/0/resources/0",
            json!("configmaps/*"),
        ),
        (
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/taskruns.tekton.dev",
            "/spec/conversion/strategy",
            json!("Webhook"),
        ),
    ] {
        let request = http::Request::get(path)
            .body(Vec::new())
            .expect("a request");
        let object: Value = local
            .client
            .request(request)
            .await
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(object.pointer(field), Some(&value), "{path}");
    }
}
