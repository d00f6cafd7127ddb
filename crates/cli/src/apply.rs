//! Putting manifests into a cluster: what others need first, runs last.

use kube::api::{
    Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
};
use serde_json::{Value, json};

use crate::connect::{Connection, api_failure};
use crate::diagnostic::Diagnostic;
use crate::exit::{Exit, Failure};
use crate::lint::kinds;
use crate::manifest::Document;
use crate::start::is_run;
use crate::view::{Root, RootKind};

/// Kinds without a namespace.
const CLUSTER_SCOPED: [&str; 6] = [
    "Namespace",
    "PersistentVolume",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "StorageClass",
];

/// Creates or updates everything but runs, in the order in which things need each other.
pub async fn definitions(connection: &Connection, documents: &[Document]) -> Result<(), Failure> {
    let mut ordered: Vec<&Document> = documents
        .iter()
        .filter(|document| !is_run(document))
        .collect();
    ordered.sort_by_key(|document| rank(&document.kind));
    for document in ordered {
        let object = document.to_json();
        let api = api_of(
            connection,
            &document.api_version,
            &document.kind,
            document.namespace(),
        )
        .await?;
        match api.create(&PostParams::default(), &parse(&object)?).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
                let patched = api
                    .patch(
                        document.name(),
                        &PatchParams::default(),
                        &Patch::Merge(&object),
                    )
                    .await;
                patched.map_err(|error| refusal(document, error))?;
            }
            Err(error) => return Err(refusal(document, error)),
        }
    }
    Ok(())
}

/// Asks the cluster whether it would take the runs, without creating any.
pub async fn would_start(connection: &Connection, documents: &[Document]) -> Result<(), Failure> {
    let parameters = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    for document in documents.iter().filter(|document| is_run(document)) {
        let api = api_of(
            connection,
            &document.api_version,
            &document.kind,
            document.namespace(),
        )
        .await?;
        api.create(&parameters, &parse(&document.to_json())?)
            .await
            .map_err(|error| refusal(document, error))?;
    }
    Ok(())
}

/// Creates the runs among the documents.
pub async fn runs(connection: &Connection, documents: &[Document]) -> Result<Vec<Root>, Failure> {
    let mut roots = Vec::new();
    for document in documents.iter().filter(|document| is_run(document)) {
        let api = api_of(
            connection,
            &document.api_version,
            &document.kind,
            document.namespace(),
        )
        .await?;
        let created = api
            .create(&PostParams::default(), &parse(&document.to_json())?)
            .await;
        let created = created.map_err(|error| match error {
            kube::Error::Api(status) if status.reason == "AlreadyExists" => Failure::refused(vec![
                document
                    .error_at(
                        "metadata.name",
                        format!("{} exists already", document.title()),
                    )
                    .hint("a run runs once: use `generateName`, or delete the old one"),
            ]),
            other => refusal(document, other),
        })?;
        roots.push(root(&document.kind, &created));
    }
    Ok(roots)
}

/// Creates one object that stands in no manifest.
pub async fn create(connection: &Connection, object: &Value) -> Result<Root, Failure> {
    let text = |key: &str| object[key].as_str().unwrap_or_default();
    let api = api_of(connection, text("apiVersion"), text("kind"), "").await?;
    let created = api
        .create(&PostParams::default(), &parse(object)?)
        .await
        .map_err(|error| match error {
            kube::Error::Api(status) if refuses(&status) => {
                Failure::new(Exit::Refused, status.message)
            }
            other => api_failure(&format!("cannot create the {}", text("kind")), other),
        })?;
    Ok(root(text("kind"), &created))
}

fn root(kind: &str, created: &DynamicObject) -> Root {
    let kind = if kind == "TaskRun" {
        RootKind::TaskRun
    } else {
        RootKind::PipelineRun
    };
    Root {
        kind,
        name: created.metadata.name.clone().unwrap_or_default(),
    }
}

/// A claim on a directory of this machine, with the volume behind it.
pub async fn directory(
    connection: &Connection,
    claim: &str,
    path: &std::path::Path,
) -> Result<(), Failure> {
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": format!("{}-{claim}", connection.namespace)},
        "spec": {
            "capacity": {"storage": "1Ti"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "", "hostPath": {"path": path},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": connection.namespace, "name": claim},
        },
    });
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": claim},
        "spec": {
            "accessModes": ["ReadWriteMany"], "storageClassName": "", "volumeName": format!("{}-{claim}", connection.namespace),
            "resources": {"requests": {"storage": "1Gi"}},
        },
    });
    create(connection, &volume).await?;
    let created = create(connection, &claim).await?;
    // Nobody provisions a volume that exists: binding it is ours.
    let bound =
        Patch::Merge(json!({"status": {"phase": "Bound", "accessModes": ["ReadWriteMany"]}}));
    let claims = api_of(connection, "v1", "PersistentVolumeClaim", "").await?;
    let patched = claims
        .patch_status(&created.name, &PatchParams::default(), &bound)
        .await;
    patched
        .map(drop)
        .map_err(|error| api_failure("cannot bind the directory", error))
}

async fn api_of(
    connection: &Connection,
    api_version: &str,
    kind: &str,
    namespace: &str,
) -> Result<Api<DynamicObject>, Failure> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let gvk = GroupVersionKind::gvk(group, version, kind);
    let client = connection.client.clone();
    let known = kinds::KINDS
        .iter()
        .any(|known| known.api_version == api_version && known.kind == kind);
    let (resource, namespaced) = if known || CLUSTER_SCOPED.contains(&kind) {
        (ApiResource::from_gvk(&gvk), !CLUSTER_SCOPED.contains(&kind))
    } else {
        let found = kube::discovery::pinned_kind(&client, &gvk).await;
        let (resource, capabilities) = found.map_err(|error| {
            api_failure(&format!("cannot find kind {kind} of {api_version}"), error)
        })?;
        (
            resource,
            capabilities.scope == kube::discovery::Scope::Namespaced,
        )
    };
    Ok(match (namespaced, namespace) {
        (false, _) => Api::all_with(client, &resource),
        (true, "") => Api::namespaced_with(client, &connection.namespace, &resource),
        (true, own) => Api::namespaced_with(client, own, &resource),
    })
}

fn parse(object: &Value) -> Result<DynamicObject, Failure> {
    serde_json::from_value(object.clone())
        .map_err(|error| Failure::new(Exit::Refused, error.to_string()))
}

fn rank(kind: &str) -> usize {
    const ORDER: [&str; 13] = [
        "Namespace",
        "CustomResourceDefinition",
        "ServiceAccount",
        "Secret",
        "ConfigMap",
        "PersistentVolume",
        "PersistentVolumeClaim",
        "ClusterRole",
        "Role",
        "ClusterRoleBinding",
        "RoleBinding",
        "StepAction",
        "Task",
    ];
    ORDER
        .iter()
        .position(|known| *known == kind)
        .unwrap_or(ORDER.len())
}

fn refuses(status: &kube::core::Status) -> bool {
    matches!(status.code, 400 | 403 | 404 | 409 | 422)
}

/// What the API says to a document, at the document's place.
fn refusal(document: &Document, error: kube::Error) -> Failure {
    let kube::Error::Api(status) = error else {
        return api_failure(&format!("cannot create {}", document.title()), error);
    };
    let message = status.message.clone();
    let path = message
        .split([' ', ',', ';', '"'])
        .map(|word| word.trim_end_matches([':', '.']))
        .find(|word| word.starts_with("spec.") || word.starts_with("metadata."))
        .unwrap_or("metadata.name")
        .to_owned();
    let diagnostic: Diagnostic =
        document.error_at(&path, format!("{}: {message}", document.title()));
    let hint = "the cluster refuses this object";
    Failure {
        exit: Exit::Refused,
        diagnostics: vec![diagnostic.hint(hint)],
    }
}
