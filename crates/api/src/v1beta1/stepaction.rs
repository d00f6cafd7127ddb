//! StepActions: steps that tasks share by reference.

use k8s_openapi::api::core::v1::{EnvVar, SecurityContext, VolumeMount};
use serde::{Deserialize, Serialize};

use crate::{
    kind::kind,
    names, unset,
    v1::{ParamSpec, StepResult},
};

kind!(
    /// A step that tasks refer to.
    StepAction, names::GROUP, "v1beta1", "stepactions", spec: StepActionSpec
);

/// What the step does (T-013).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StepActionSpec {
    /// For people.
    #[serde(skip_serializing_if = "unset")]
    pub description: String,
    /// Image to run.
    #[serde(skip_serializing_if = "unset")]
    pub image: String,
    /// Replaces the image's entrypoint.
    #[serde(skip_serializing_if = "unset")]
    pub command: Vec<String>,
    /// Arguments of the command.
    #[serde(skip_serializing_if = "unset")]
    pub args: Vec<String>,
    /// Environment.
    #[serde(skip_serializing_if = "unset")]
    pub env: Vec<EnvVar>,
    /// Script to run instead of a command.
    #[serde(skip_serializing_if = "unset")]
    pub script: String,
    /// Directory to start in.
    #[serde(skip_serializing_if = "unset")]
    pub working_dir: String,
    /// Params it takes.
    #[serde(skip_serializing_if = "unset")]
    pub params: Vec<ParamSpec>,
    /// Results it writes.
    #[serde(skip_serializing_if = "unset")]
    pub results: Vec<StepResult>,
    /// User, capabilities and the like.
    #[serde(skip_serializing_if = "unset")]
    pub security_context: Option<SecurityContext>,
    /// Volumes to mount.
    #[serde(skip_serializing_if = "unset")]
    pub volume_mounts: Vec<VolumeMount>,
}
