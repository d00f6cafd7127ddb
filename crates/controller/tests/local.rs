//! Runs and installation on our own API server.

mod server;

use kube::api::PostParams;
use serde_json::{Value, json};
use server::{api, ended, local, node, object};

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
