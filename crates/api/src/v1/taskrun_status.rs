//! What a TaskRun has come to.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting},
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde::{Deserialize, Serialize};

use super::{Artifact, Artifacts, Condition, Provenance, TaskRunResult, TaskSpec};
use crate::unset;

/// Status of a TaskRun (T-010).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TaskRunStatus {
    /// Generation of the spec that this speaks of.
    #[serde(skip_serializing_if = "unset")]
    pub observed_generation: i64,
    /// The `Succeeded` condition.
    #[serde(skip_serializing_if = "unset")]
    pub conditions: Vec<Condition>,
    /// Further facts.
    #[serde(skip_serializing_if = "unset")]
    pub annotations: BTreeMap<String, String>,
    /// Its pod; on the wire even when empty (T-009).
    pub pod_name: String,
    /// When the controller began.
    #[serde(skip_serializing_if = "unset")]
    pub start_time: Option<Time>,
    /// When it ended.
    #[serde(skip_serializing_if = "unset")]
    pub completion_time: Option<Time>,
    /// Its steps.
    #[serde(skip_serializing_if = "unset")]
    pub steps: Vec<StepState>,
    /// Attempts before this one.
    #[serde(skip_serializing_if = "unset")]
    pub retries_status: Vec<TaskRunStatus>,
    /// Results of the task.
    #[serde(skip_serializing_if = "unset")]
    pub results: Vec<TaskRunResult>,
    /// Artifacts of the task.
    #[serde(skip_serializing_if = "unset")]
    pub artifacts: Option<Artifacts>,
    /// Its sidecars.
    #[serde(skip_serializing_if = "unset")]
    pub sidecars: Vec<SidecarState>,
    /// The task as it runs: the source of truth once set (T-155).
    #[serde(skip_serializing_if = "unset")]
    pub task_spec: Option<TaskSpec>,
    /// Where the task came from.
    #[serde(skip_serializing_if = "unset")]
    pub provenance: Option<Provenance>,
    /// Trace it belongs to.
    #[serde(skip_serializing_if = "unset")]
    pub span_context: BTreeMap<String, String>,
}

/// One step (T-011).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StepState {
    /// While it waits.
    #[serde(skip_serializing_if = "unset")]
    pub waiting: Option<ContainerStateWaiting>,
    /// While it runs.
    #[serde(skip_serializing_if = "unset")]
    pub running: Option<ContainerStateRunning>,
    /// Once it has ended.
    #[serde(skip_serializing_if = "unset")]
    pub terminated: Option<ContainerStateTerminated>,
    /// The step.
    #[serde(skip_serializing_if = "unset")]
    pub name: String,
    /// Its container.
    #[serde(skip_serializing_if = "unset")]
    pub container: String,
    /// Image it runs, by digest.
    #[serde(rename = "imageID", skip_serializing_if = "unset")]
    pub image_id: String,
    /// Results of the step.
    #[serde(skip_serializing_if = "unset")]
    pub results: Vec<TaskRunResult>,
    /// Where its StepAction came from.
    #[serde(skip_serializing_if = "unset")]
    pub provenance: Option<Provenance>,
    /// Why it ended.
    #[serde(skip_serializing_if = "unset")]
    pub termination_reason: String,
    /// Artifacts it consumed.
    #[serde(skip_serializing_if = "unset")]
    pub inputs: Vec<Artifact>,
    /// Artifacts it built.
    #[serde(skip_serializing_if = "unset")]
    pub outputs: Vec<Artifact>,
}

/// One sidecar (T-011).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SidecarState {
    /// While it waits.
    #[serde(skip_serializing_if = "unset")]
    pub waiting: Option<ContainerStateWaiting>,
    /// While it runs.
    #[serde(skip_serializing_if = "unset")]
    pub running: Option<ContainerStateRunning>,
    /// Once it has ended.
    #[serde(skip_serializing_if = "unset")]
    pub terminated: Option<ContainerStateTerminated>,
    /// The sidecar.
    #[serde(skip_serializing_if = "unset")]
    pub name: String,
    /// Its container.
    #[serde(skip_serializing_if = "unset")]
    pub container: String,
    /// Image it runs, by digest.
    #[serde(rename = "imageID", skip_serializing_if = "unset")]
    pub image_id: String,
}
