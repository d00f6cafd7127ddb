//! TaskRuns: a task with the params and workspaces of one run.

use k8s_openapi::api::core::v1::ResourceRequirements;
use serde::{Deserialize, Serialize};

use super::{Condition, Param, PodTemplate, TaskRef, TaskRunStatus, TaskSpec, WorkspaceBinding};
use crate::{Duration, kind::kind, names, unset};

kind!(
    /// One run of a task.
    TaskRun, names::GROUP, "v1", "taskruns", spec: TaskRunSpec, status: TaskRunStatus
);

impl TaskRun {
    /// The `Succeeded` condition.
    pub fn succeeded(&self) -> Option<&Condition> {
        Condition::succeeded(&self.status.conditions)
    }

    /// Whether it has ended.
    pub fn is_done(&self) -> bool {
        self.succeeded().is_some_and(Condition::is_done)
    }

    /// Whether it has ended well.
    pub fn is_successful(&self) -> bool {
        self.succeeded().is_some_and(|c| c.status == "True")
    }

    /// Whether somebody asked to cancel it.
    pub fn is_cancelled(&self) -> bool {
        self.spec.status == TaskRunSpec::CANCELLED
    }
}

impl TaskRunSpec {
    /// `status` that asks to cancel the run.
    pub const CANCELLED: &'static str = "TaskRunCancelled";
    /// `status` that holds the run back.
    pub const PENDING: &'static str = "TaskRunPending";
}

/// What to run and with what (T-008).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TaskRunSpec {
    /// Where to stop for a look.
    #[serde(skip_serializing_if = "unset")]
    pub debug: Option<TaskRunDebug>,
    /// Params of the task.
    #[serde(skip_serializing_if = "unset")]
    pub params: Vec<Param>,
    /// Account its pod runs as; on the wire even when empty (T-009).
    pub service_account_name: String,
    /// Task to run.
    #[serde(skip_serializing_if = "unset")]
    pub task_ref: Option<TaskRef>,
    /// Task to run, given inline.
    #[serde(skip_serializing_if = "unset")]
    pub task_spec: Option<TaskSpec>,
    /// Wish to cancel or to hold back: [`TaskRunSpec::CANCELLED`], [`TaskRunSpec::PENDING`] or empty.
    #[serde(skip_serializing_if = "unset")]
    pub status: String,
    /// Why, for people.
    #[serde(skip_serializing_if = "unset")]
    pub status_message: String,
    /// How often to try again.
    #[serde(skip_serializing_if = "unset")]
    pub retries: i64,
    /// How long it may take; zero means for ever.
    #[serde(skip_serializing_if = "unset")]
    pub timeout: Option<Duration>,
    /// Parts of the pod.
    #[serde(skip_serializing_if = "unset")]
    pub pod_template: Option<PodTemplate>,
    /// What stands behind the task's workspaces.
    #[serde(skip_serializing_if = "unset")]
    pub workspaces: Vec<WorkspaceBinding>,
    /// Resources by step.
    #[serde(skip_serializing_if = "unset")]
    pub step_specs: Vec<TaskRunStepSpec>,
    /// Resources by sidecar.
    #[serde(skip_serializing_if = "unset")]
    pub sidecar_specs: Vec<TaskRunSidecarSpec>,
    /// Resources of all steps together.
    #[serde(skip_serializing_if = "unset")]
    pub compute_resources: Option<ResourceRequirements>,
    /// Controller that looks after this run, if not Tekton's.
    #[serde(skip_serializing_if = "unset")]
    pub managed_by: Option<String>,
}

/// Where a run stops for a look.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskRunDebug {
    /// Its breakpoints.
    #[serde(skip_serializing_if = "unset")]
    pub breakpoints: Option<TaskBreakpoints>,
}

/// Breakpoints of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TaskBreakpoints {
    /// `enabled` stops a step that failed.
    #[serde(skip_serializing_if = "unset")]
    pub on_failure: String,
    /// Steps to stop before.
    #[serde(skip_serializing_if = "unset")]
    pub before_steps: Vec<String>,
}

/// Resources of one step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TaskRunStepSpec {
    /// The step.
    pub name: String,
    /// Its resources.
    pub compute_resources: ResourceRequirements,
}

/// Resources of one sidecar.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TaskRunSidecarSpec {
    /// The sidecar.
    pub name: String,
    /// Its resources.
    pub compute_resources: ResourceRequirements,
}
