//! Steps, step templates and sidecars: the containers of a task.

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvFromSource, EnvVar, Lifecycle, Probe, ResourceRequirements,
    SecurityContext, VolumeDevice, VolumeMount,
};
use serde::{Deserialize, Serialize};

use super::{Param, Ref, StepResult, WhenExpression, WorkspaceUsage};
use crate::{Duration, unset};

/// One container of a task; steps run one after another (T-005).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Step {
    /// Name; on the wire even when empty (T-009).
    pub name: String,
    /// Name for people.
    #[serde(skip_serializing_if = "unset")]
    pub display_name: String,
    /// Image to run.
    #[serde(skip_serializing_if = "unset")]
    pub image: String,
    /// Replaces the image's entrypoint.
    #[serde(skip_serializing_if = "unset")]
    pub command: Vec<String>,
    /// Arguments of the command.
    #[serde(skip_serializing_if = "unset")]
    pub args: Vec<String>,
    /// Directory to start in.
    #[serde(skip_serializing_if = "unset")]
    pub working_dir: String,
    /// Environment from ConfigMaps and Secrets.
    #[serde(skip_serializing_if = "unset")]
    pub env_from: Vec<EnvFromSource>,
    /// Environment.
    #[serde(skip_serializing_if = "unset")]
    pub env: Vec<EnvVar>,
    /// CPU, memory and the like; on the wire even when empty (T-009).
    pub compute_resources: ResourceRequirements,
    /// Volumes to mount.
    #[serde(skip_serializing_if = "unset")]
    pub volume_mounts: Vec<VolumeMount>,
    /// Block devices to map.
    #[serde(skip_serializing_if = "unset")]
    pub volume_devices: Vec<VolumeDevice>,
    /// `Always`, `IfNotPresent` or `Never`.
    #[serde(skip_serializing_if = "unset")]
    pub image_pull_policy: String,
    /// User, capabilities and the like.
    #[serde(skip_serializing_if = "unset")]
    pub security_context: Option<SecurityContext>,
    /// Script to run instead of a command.
    #[serde(skip_serializing_if = "unset")]
    pub script: String,
    /// How long it may take.
    #[serde(skip_serializing_if = "unset")]
    pub timeout: Option<Duration>,
    /// Workspaces that only this container mounts.
    #[serde(skip_serializing_if = "unset")]
    pub workspaces: Vec<WorkspaceUsage>,
    /// `continue`, `stopAndFail` or a param reference.
    #[serde(skip_serializing_if = "unset")]
    pub on_error: String,
    /// Where to copy its output.
    #[serde(skip_serializing_if = "unset")]
    pub stdout_config: Option<StepOutputConfig>,
    /// Where to copy its errors.
    #[serde(skip_serializing_if = "unset")]
    pub stderr_config: Option<StepOutputConfig>,
    /// StepAction to run instead.
    #[serde(rename = "ref", skip_serializing_if = "unset")]
    pub ref_: Option<Ref>,
    /// Params of the StepAction.
    #[serde(skip_serializing_if = "unset")]
    pub params: Vec<Param>,
    /// Results it writes.
    #[serde(skip_serializing_if = "unset")]
    pub results: Vec<StepResult>,
    /// Conditions to run on.
    #[serde(skip_serializing_if = "unset")]
    pub when: Vec<WhenExpression>,
}

/// File that a stream is copied to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepOutputConfig {
    /// Path of the file.
    #[serde(skip_serializing_if = "unset")]
    pub path: String,
}

/// What all steps of a task start from (T-006).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StepTemplate {
    /// Image to run.
    #[serde(skip_serializing_if = "unset")]
    pub image: String,
    /// Replaces the image's entrypoint.
    #[serde(skip_serializing_if = "unset")]
    pub command: Vec<String>,
    /// Arguments of the command.
    #[serde(skip_serializing_if = "unset")]
    pub args: Vec<String>,
    /// Directory to start in.
    #[serde(skip_serializing_if = "unset")]
    pub working_dir: String,
    /// Environment from ConfigMaps and Secrets.
    #[serde(skip_serializing_if = "unset")]
    pub env_from: Vec<EnvFromSource>,
    /// Environment.
    #[serde(skip_serializing_if = "unset")]
    pub env: Vec<EnvVar>,
    /// CPU, memory and the like; on the wire even when empty (T-009).
    pub compute_resources: ResourceRequirements,
    /// Volumes to mount.
    #[serde(skip_serializing_if = "unset")]
    pub volume_mounts: Vec<VolumeMount>,
    /// Block devices to map.
    #[serde(skip_serializing_if = "unset")]
    pub volume_devices: Vec<VolumeDevice>,
    /// `Always`, `IfNotPresent` or `Never`.
    #[serde(skip_serializing_if = "unset")]
    pub image_pull_policy: String,
    /// User, capabilities and the like.
    #[serde(skip_serializing_if = "unset")]
    pub security_context: Option<SecurityContext>,
}

/// A container that runs beside the steps (T-007).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Sidecar {
    /// Name; on the wire even when empty (T-009).
    pub name: String,
    /// Image to run.
    #[serde(skip_serializing_if = "unset")]
    pub image: String,
    /// Replaces the image's entrypoint.
    #[serde(skip_serializing_if = "unset")]
    pub command: Vec<String>,
    /// Arguments of the command.
    #[serde(skip_serializing_if = "unset")]
    pub args: Vec<String>,
    /// Directory to start in.
    #[serde(skip_serializing_if = "unset")]
    pub working_dir: String,
    /// Ports it listens on.
    #[serde(skip_serializing_if = "unset")]
    pub ports: Vec<ContainerPort>,
    /// Environment from ConfigMaps and Secrets.
    #[serde(skip_serializing_if = "unset")]
    pub env_from: Vec<EnvFromSource>,
    /// Environment.
    #[serde(skip_serializing_if = "unset")]
    pub env: Vec<EnvVar>,
    /// CPU, memory and the like; on the wire even when empty (T-009).
    pub compute_resources: ResourceRequirements,
    /// Volumes to mount.
    #[serde(skip_serializing_if = "unset")]
    pub volume_mounts: Vec<VolumeMount>,
    /// Block devices to map.
    #[serde(skip_serializing_if = "unset")]
    pub volume_devices: Vec<VolumeDevice>,
    /// Restarts it when failing.
    #[serde(skip_serializing_if = "unset")]
    pub liveness_probe: Option<Probe>,
    /// Says when steps may begin.
    #[serde(skip_serializing_if = "unset")]
    pub readiness_probe: Option<Probe>,
    /// Holds the other probes back.
    #[serde(skip_serializing_if = "unset")]
    pub startup_probe: Option<Probe>,
    /// Hooks after start and before stop.
    #[serde(skip_serializing_if = "unset")]
    pub lifecycle: Option<Lifecycle>,
    /// File of its last message.
    #[serde(skip_serializing_if = "unset")]
    pub termination_message_path: String,
    /// Where the last message is taken from.
    #[serde(skip_serializing_if = "unset")]
    pub termination_message_policy: String,
    /// `Always`, `IfNotPresent` or `Never`.
    #[serde(skip_serializing_if = "unset")]
    pub image_pull_policy: String,
    /// User, capabilities and the like.
    #[serde(skip_serializing_if = "unset")]
    pub security_context: Option<SecurityContext>,
    /// Whether it has a standard input.
    #[serde(skip_serializing_if = "unset")]
    pub stdin: bool,
    /// Whether its standard input closes after the first attach.
    #[serde(skip_serializing_if = "unset")]
    pub stdin_once: bool,
    /// Whether it has a terminal.
    #[serde(skip_serializing_if = "unset")]
    pub tty: bool,
    /// Script to run instead of a command.
    #[serde(skip_serializing_if = "unset")]
    pub script: String,
    /// Workspaces that only this container mounts.
    #[serde(skip_serializing_if = "unset")]
    pub workspaces: Vec<WorkspaceUsage>,
    /// `Always` makes it a native sidecar.
    #[serde(skip_serializing_if = "unset")]
    pub restart_policy: Option<String>,
}

/// `None` for empty text, as Kubernetes' types want it.
fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// `None` for an empty list, as Kubernetes' types want it.
fn listed<T: Clone>(items: &[T]) -> Option<Vec<T>> {
    (!items.is_empty()).then(|| items.to_vec())
}

/// `None` for resources that say nothing.
fn resources(of: &ResourceRequirements) -> Option<ResourceRequirements> {
    (*of != ResourceRequirements::default()).then(|| of.clone())
}

impl Step {
    /// The part of it that is a Kubernetes container.
    pub fn to_container(&self) -> Container {
        Container {
            name: self.name.clone(),
            image: some(&self.image),
            command: listed(&self.command),
            args: listed(&self.args),
            working_dir: some(&self.working_dir),
            env_from: listed(&self.env_from),
            env: listed(&self.env),
            resources: resources(&self.compute_resources),
            volume_mounts: listed(&self.volume_mounts),
            volume_devices: listed(&self.volume_devices),
            image_pull_policy: some(&self.image_pull_policy),
            security_context: self.security_context.clone(),
            ..Container::default()
        }
    }
}

impl Sidecar {
    /// The part of it that is a Kubernetes container.
    pub fn to_container(&self) -> Container {
        Container {
            name: self.name.clone(),
            image: some(&self.image),
            command: listed(&self.command),
            args: listed(&self.args),
            working_dir: some(&self.working_dir),
            ports: listed(&self.ports),
            env_from: listed(&self.env_from),
            env: listed(&self.env),
            resources: resources(&self.compute_resources),
            volume_mounts: listed(&self.volume_mounts),
            volume_devices: listed(&self.volume_devices),
            liveness_probe: self.liveness_probe.clone(),
            readiness_probe: self.readiness_probe.clone(),
            startup_probe: self.startup_probe.clone(),
            lifecycle: self.lifecycle.clone(),
            termination_message_path: some(&self.termination_message_path),
            termination_message_policy: some(&self.termination_message_policy),
            image_pull_policy: some(&self.image_pull_policy),
            security_context: self.security_context.clone(),
            stdin: self.stdin.then_some(true),
            stdin_once: self.stdin_once.then_some(true),
            tty: self.tty.then_some(true),
            restart_policy: self.restart_policy.clone(),
            ..Container::default()
        }
    }
}
