//! Putting the CRDs and webhook configurations into a cluster.

use std::time::Duration;

use bytes::Bytes;
use futures::TryFutureExt as _;
use futures::future::{BoxFuture, try_join_all};
use serde::Deserialize;
use serde_json::{Value, json};
use tektite_api::names::{NAMESPACE, RESOLVERS_NAMESPACE};
use tokio_util::task::AbortOnDropHandle;

use crate::rest::{CallError, PatchType, Rest};
use crate::webhook::{WebhookService, conversion_patch, webhook_configurations};

/// How to install.
#[derive(Clone, Debug, Default)]
pub struct InstallOptions {
    /// PEM certificate authority of the webhook service, if it is reached by TLS; also for CRD conversion.
    pub ca_bundle: Option<String>,
}

/// Why an installation failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot install {object}: {message}")]
pub struct InstallError {
    /// Kind and name of the object.
    pub object: String,
    /// What the API said.
    pub message: String,
}

/// How long a new CRD may take to be served, and how often to look.
const ESTABLISHED: (Duration, Duration) = (Duration::from_secs(30), Duration::from_millis(50));

/// Creates or updates the installation's namespace, the CRDs, the roles and the webhook configurations, and returns
/// once the CRDs are served.
///
/// The webhooks must answer as service `tekton-pipelines/tekton-pipelines-webhook` from then on: until they do, the API
/// server refuses every write of Tekton's kinds.
//
// Boxed, so that it is compiled here and not by whoever awaits it.
pub fn install<'a>(
    client: &'a kube::Client,
    options: &'a InstallOptions,
) -> BoxFuture<'a, Result<(), InstallError>> {
    Box::pin(put_all(client, options))
}

async fn put_all(client: &kube::Client, options: &InstallOptions) -> Result<(), InstallError> {
    let rest = Rest::new(client.clone());
    try_join_all(
        [NAMESPACE, RESOLVERS_NAMESPACE]
            .map(namespace)
            .iter()
            .map(|namespace| apply(&rest, "/api/v1/namespaces", namespace)),
    )
    .await?;
    let ca_bundle = options.ca_bundle.as_deref();
    // Each on a task of its own: to make and to write them is work for several cores.
    let crds = try_join_all(tektite_api::crd::makers().map(|make| {
        let (rest, ca_bundle) = (rest.clone(), options.ca_bundle.clone());
        let put = tokio::spawn(async move {
            let mut crd = make();
            add_ca_bundle(&mut crd, ca_bundle.as_deref());
            put_definition(&rest, &crd).await
        });
        AbortOnDropHandle::new(put).unwrap_or_else(|panicked| {
            Err(InstallError {
                object: "a CustomResourceDefinition".into(),
                message: panicked.to_string(),
            })
        })
    }));
    let roles = try_join_all(cluster_roles().into_iter().map(|role| {
        let rest = &rest;
        async move {
            apply(
                rest,
                "/apis/rbac.authorization.k8s.io/v1/clusterroles",
                &role,
            )
            .await
        }
    }));
    let info = try_join_all(info().into_iter().map(|(collection, object)| {
        let rest = &rest;
        async move { apply(rest, collection, &object).await }
    }));
    futures::future::try_join3(crds, roles, info).await?;
    // Last, so that nothing of the above is held up by a webhook that does not answer yet.
    let configurations = webhook_configurations(&WebhookService::default(), ca_bundle);
    let rest = &rest;
    let applied = configurations.iter().map(|configuration| async move {
        apply(rest, collection_of(configuration), configuration).await
    });
    try_join_all(applied).await.map(drop)
}

/// Where a webhook configuration is kept.
fn collection_of(configuration: &Value) -> &'static str {
    match configuration["kind"].as_str() {
        Some("MutatingWebhookConfiguration") => {
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
        }
        _ => "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
    }
}

/// Has the API server ask `service`, whose certificate `ca_bundle` (PEM) vouches for, for admission and conversion.
///
/// The CRDs must be there; what is as it should be already stays so. No more rights are needed than upstream's installation
/// gives its webhooks: to patch those CRDs, and to read and replace the configurations.
//
// Boxed, so that it is compiled here and not by whoever awaits it.
pub fn register_webhooks<'a>(
    client: &'a kube::Client,
    service: &'a WebhookService,
    ca_bundle: &'a str,
) -> BoxFuture<'a, Result<(), InstallError>> {
    Box::pin(async move {
        let rest = Rest::new(client.clone());
        let patch = conversion_patch(service, ca_bundle).to_string();
        let converted = tektite_api::crd::definitions()
            .into_iter()
            .filter(|crd| crd.pointer("/spec/conversion/webhook").is_some());
        for crd in converted {
            let name = crd["metadata"]["name"].as_str().unwrap_or_default();
            let path = format!("{CRDS}/{name}");
            let body = patch.clone().into_bytes();
            let patched = rest.patch(&path, PatchType::Merge, body).await;
            patched.map_err(|error| InstallError {
                object: format!("CustomResourceDefinition {name}"),
                message: error.to_string(),
            })?;
        }
        for configuration in webhook_configurations(service, Some(ca_bundle)) {
            replace(&rest, &configuration).await?;
        }
        Ok(())
    })
}

/// Brings a webhook configuration to this state, or creates it if there is none.
async fn replace(rest: &Rest, configuration: &Value) -> Result<(), InstallError> {
    let collection = collection_of(configuration);
    let name = configuration["metadata"]["name"].as_str();
    let name = name.unwrap_or_default();
    let path = format!("{collection}/{name}");
    let body = |object: &Value| object.to_string().into_bytes();
    let replaced = match rest.get(&path).await {
        Ok(found) => match serde_json::from_slice::<Value>(&found) {
            Ok(mut object) => {
                json_patch::merge(&mut object, configuration);
                rest.put(&path, body(&object)).await
            }
            Err(error) => Err(CallError::Unreachable(error.to_string())),
        },
        Err(error) if error.is_not_found() => rest.post(collection, body(configuration)).await,
        Err(error) => Err(error),
    };
    replaced.map(drop).map_err(|error| InstallError {
        object: format!(
            "{} {name}",
            configuration["kind"].as_str().unwrap_or_default()
        ),
        message: error.to_string(),
    })
}

/// Where CRDs are.
const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// Creates the object, or brings the one that is there to the same state; what others added to it stays.
async fn apply(rest: &Rest, collection: &str, object: &Value) -> Result<Bytes, InstallError> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let failed = |error: CallError| InstallError {
        object: format!("{} {name}", object["kind"].as_str().unwrap_or_default()),
        message: error.to_string(),
    };
    let body = object.to_string().into_bytes();
    let applied = match rest.post(collection, body.clone()).await {
        Err(exists) if exists.is_already_exists() => {
            rest.patch(&format!("{collection}/{name}"), PatchType::Merge, body)
                .await
        }
        created => created,
    };
    applied.map_err(failed)
}

/// Makes or updates a definition and waits until its kind is served.
async fn put_definition(rest: &Rest, crd: &Value) -> Result<(), InstallError> {
    let name = crd["metadata"]["name"].as_str().unwrap_or_default();
    let failed = |message: String| InstallError {
        object: format!("CustomResourceDefinition {name}"),
        message,
    };
    let mut seen = apply(rest, CRDS, crd).await?;
    let deadline = tokio::time::Instant::now() + ESTABLISHED.0;
    while !is_established(&seen).map_err(|error| failed(error.to_string()))? {
        if tokio::time::Instant::now() >= deadline {
            return Err(failed("it is not served: no condition Established".into()));
        }
        tokio::time::sleep(ESTABLISHED.1).await;
        seen = rest
            .get(&format!("{CRDS}/{name}"))
            .await
            .map_err(|error| failed(error.to_string()))?;
    }
    Ok(())
}

fn is_established(crd: &[u8]) -> Result<bool, serde_json::Error> {
    #[derive(Deserialize)]
    struct Condition {
        r#type: String,
        status: String,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Status {
        conditions: Vec<Condition>,
    }
    #[derive(Deserialize)]
    struct Definition {
        #[serde(default)]
        status: Status,
    }
    let Definition { status } = serde_json::from_slice(crd)?;
    let served =
        |condition: &Condition| condition.r#type == "Established" && condition.status == "True";
    Ok(status.conditions.iter().any(served))
}

fn add_ca_bundle(crd: &mut Value, pem: Option<&str>) {
    use base64::Engine as _;
    let Some(pem) = pem else { return };
    if let Some(config) = crd.pointer_mut("/spec/conversion/webhook/clientConfig") {
        config["caBundle"] = json!(base64::engine::general_purpose::STANDARD.encode(pem));
    }
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {
        "app.kubernetes.io/instance": "default",
        "app.kubernetes.io/part-of": "tekton-pipelines",
    }}})
}

/// The version of Tekton whose behaviour this is, where `tkn version` and others look for it (P-379).
const VERSION: &str = "devel";

/// ConfigMap `pipelines-info`, which everybody may read (P-379, P-400).
fn info() -> [(&'static str, Value); 3] {
    let labels = json!({
        "app.kubernetes.io/instance": "default",
        "app.kubernetes.io/part-of": "tekton-pipelines",
    });
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/tekton-pipelines/roles";
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/tekton-pipelines/rolebindings";
    [
        (
            "/api/v1/namespaces/tekton-pipelines/configmaps",
            json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "pipelines-info", "namespace": NAMESPACE, "labels": labels},
                "data": {"version": VERSION}}),
        ),
        (
            roles,
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
                "metadata": {"name": "tekton-pipelines-info", "namespace": NAMESPACE, "labels": labels},
                "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["pipelines-info"], "verbs": ["get"]}]}),
        ),
        (
            bindings,
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": {"name": "tekton-pipelines-info", "namespace": NAMESPACE, "labels": labels},
                "subjects": [{"kind": "Group", "name": "system:authenticated", "apiGroup": "rbac.authorization.k8s.io"}],
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tekton-pipelines-info"}}),
        ),
    ]
}

/// The roles that give users of a cluster's `edit`, `admin` and `view` roles access to Tekton's kinds (P-400).
fn cluster_roles() -> Vec<Value> {
    let kinds = [
        "tasks",
        "taskruns",
        "pipelines",
        "pipelineruns",
        "runs",
        "customruns",
        "stepactions",
    ];
    let role = |name: &str, aggregate: &[&str], verbs: &[&str]| {
        let mut labels = json!({
            "app.kubernetes.io/instance": "default",
            "app.kubernetes.io/part-of": "tekton-pipelines",
        });
        for to in aggregate {
            labels[format!("rbac.authorization.k8s.io/aggregate-to-{to}")] = json!("true");
        }
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": name, "labels": labels},
            "rules": [{"apiGroups": ["tekton.dev"], "resources": kinds, "verbs": verbs}],
        })
    };
    vec![
        role(
            "tekton-aggregate-edit",
            &["edit", "admin"],
            &[
                "create",
                "delete",
                "deletecollection",
                "get",
                "list",
                "patch",
                "update",
                "watch",
            ],
        ),
        role(
            "tekton-aggregate-view",
            &["view"],
            &["get", "list", "watch"],
        ),
    ]
}
