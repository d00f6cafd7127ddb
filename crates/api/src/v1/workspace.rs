//! Workspaces: directories that tasks declare, pipelines pass on and runs bind to volumes.

use k8s_openapi::api::core::v1::{
    CSIVolumeSource, ConfigMapVolumeSource, EmptyDirVolumeSource, PersistentVolumeClaim,
    PersistentVolumeClaimVolumeSource, ProjectedVolumeSource, SecretVolumeSource,
};
use serde::{Deserialize, Serialize};

use crate::unset;

/// A workspace that a task declares.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WorkspaceDeclaration {
    /// Name it is bound and referred to by.
    pub name: String,
    /// For people.
    #[serde(skip_serializing_if = "unset")]
    pub description: String,
    /// Where it is mounted; `/workspace/<name>` when empty.
    #[serde(skip_serializing_if = "unset")]
    pub mount_path: String,
    /// Whether steps may only read it.
    #[serde(skip_serializing_if = "unset")]
    pub read_only: bool,
    /// Whether a run may leave it out.
    #[serde(skip_serializing_if = "unset")]
    pub optional: bool,
}

impl WorkspaceDeclaration {
    /// Where steps find it.
    pub fn mount_path(&self) -> String {
        if self.mount_path.is_empty() {
            format!("/workspace/{}", self.name)
        } else {
            self.mount_path.clone()
        }
    }
}

/// What a run puts behind a declared workspace: exactly one source is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WorkspaceBinding {
    /// Name of the declared workspace.
    pub name: String,
    /// Directory within the volume.
    #[serde(skip_serializing_if = "unset")]
    pub sub_path: String,
    /// Claim to create for this run.
    #[serde(with = "claim_template", skip_serializing_if = "unset")]
    pub volume_claim_template: Option<PersistentVolumeClaim>,
    /// Claim that exists.
    #[serde(skip_serializing_if = "unset")]
    pub persistent_volume_claim: Option<PersistentVolumeClaimVolumeSource>,
    /// Directory that lives as long as the pod.
    #[serde(skip_serializing_if = "unset")]
    pub empty_dir: Option<EmptyDirVolumeSource>,
    /// ConfigMap, a file per key.
    #[serde(skip_serializing_if = "unset")]
    pub config_map: Option<ConfigMapVolumeSource>,
    /// Secret, a file per key.
    #[serde(skip_serializing_if = "unset")]
    pub secret: Option<SecretVolumeSource>,
    /// Several sources in one directory.
    #[serde(skip_serializing_if = "unset")]
    pub projected: Option<ProjectedVolumeSource>,
    /// Volume of a CSI driver.
    #[serde(skip_serializing_if = "unset")]
    pub csi: Option<CSIVolumeSource>,
}

/// A workspace that a pipeline declares.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PipelineWorkspaceDeclaration {
    /// Name it is bound and referred to by.
    pub name: String,
    /// For people.
    #[serde(skip_serializing_if = "unset")]
    pub description: String,
    /// Whether a run may leave it out.
    #[serde(skip_serializing_if = "unset")]
    pub optional: bool,
}

/// How a pipeline task passes a workspace of the pipeline to its task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WorkspacePipelineTaskBinding {
    /// Workspace of the task.
    pub name: String,
    /// Workspace of the pipeline; the same name when empty.
    #[serde(skip_serializing_if = "unset")]
    pub workspace: String,
    /// Directory within the volume.
    #[serde(skip_serializing_if = "unset")]
    pub sub_path: String,
}

/// A step's or sidecar's own mount of a task's workspace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WorkspaceUsage {
    /// Workspace of the task.
    pub name: String,
    /// Where it is mounted.
    pub mount_path: String,
}

/// An embedded claim, which need not say that it is one and is written without saying so.
mod claim_template {
    use k8s_openapi::api::core::v1::PersistentVolumeClaim;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
    use serde_json::Value;

    fn bare(mut value: Value) -> Value {
        if let Some(fields) = value.as_object_mut() {
            fields.remove("apiVersion");
            fields.remove("kind");
        }
        value
    }

    pub(super) fn serialize<S: Serializer>(
        claim: &Option<PersistentVolumeClaim>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        bare(serde_json::to_value(claim).map_err(ser::Error::custom)?).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PersistentVolumeClaim>, D::Error> {
        serde_json::from_value(bare(Value::deserialize(deserializer)?)).map_err(de::Error::custom)
    }
}
