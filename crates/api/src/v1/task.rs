//! Tasks: the unit that runs as one pod.

use k8s_openapi::api::core::v1::Volume;
use serde::{Deserialize, Serialize};

use super::{ParamSpec, Sidecar, Step, StepTemplate, TaskResult, WorkspaceDeclaration};
use crate::{kind::kind, names, unset};

kind!(
    /// Steps that run one after another in one pod, with what they take and give.
    Task, names::GROUP, "v1", "tasks", spec: TaskSpec
);

/// What a task is (T-004).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TaskSpec {
    /// Params it takes.
    #[serde(skip_serializing_if = "unset")]
    pub params: Vec<ParamSpec>,
    /// Name for people.
    #[serde(skip_serializing_if = "unset")]
    pub display_name: String,
    /// For people.
    #[serde(skip_serializing_if = "unset")]
    pub description: String,
    /// Its steps in order.
    #[serde(skip_serializing_if = "unset")]
    pub steps: Vec<Step>,
    /// Volumes for its containers.
    #[serde(skip_serializing_if = "unset")]
    pub volumes: Vec<Volume>,
    /// What every step starts from.
    #[serde(skip_serializing_if = "unset")]
    pub step_template: Option<StepTemplate>,
    /// Containers beside the steps.
    #[serde(skip_serializing_if = "unset")]
    pub sidecars: Vec<Sidecar>,
    /// Workspaces it needs.
    #[serde(skip_serializing_if = "unset")]
    pub workspaces: Vec<WorkspaceDeclaration>,
    /// Results it gives.
    #[serde(skip_serializing_if = "unset")]
    pub results: Vec<TaskResult>,
}
