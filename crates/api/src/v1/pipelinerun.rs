//! PipelineRuns: a pipeline with the params and workspaces of one run.

use k8s_openapi::api::core::v1::ResourceRequirements;
use serde::{Deserialize, Serialize};

use super::{
    Condition, Param, PipelineRef, PipelineRunStatus, PipelineSpec, PipelineTaskMetadata,
    PodTemplate, TaskRunSidecarSpec, TaskRunStepSpec, WorkspaceBinding,
};
use crate::{Duration, kind::kind, names, unset};

kind!(
    /// One run of a pipeline.
    PipelineRun, names::GROUP, "v1", "pipelineruns", spec: PipelineRunSpec, status: PipelineRunStatus
);

impl PipelineRun {
    /// The `Succeeded` condition.
    pub fn succeeded(&self) -> Option<&Condition> {
        Condition::succeeded(&self.status.conditions)
    }

    /// Whether it has ended.
    pub fn is_done(&self) -> bool {
        self.succeeded().is_some_and(Condition::is_done)
    }
}

impl PipelineRunSpec {
    /// `status` that cancels the run at once.
    pub const CANCELLED: &'static str = "Cancelled";
    /// `status` that cancels the tasks and then runs `finally`.
    pub const CANCELLED_RUN_FINALLY: &'static str = "CancelledRunFinally";
    /// `status` that lets running tasks end and then runs `finally`.
    pub const STOPPED_RUN_FINALLY: &'static str = "StoppedRunFinally";
    /// `status` that holds the run back.
    pub const PENDING: &'static str = "PipelineRunPending";
}

/// What to run and with what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PipelineRunSpec {
    /// Pipeline to run.
    #[serde(skip_serializing_if = "unset")]
    pub pipeline_ref: Option<PipelineRef>,
    /// Pipeline to run, given inline.
    #[serde(skip_serializing_if = "unset")]
    pub pipeline_spec: Option<PipelineSpec>,
    /// Params of the pipeline.
    #[serde(skip_serializing_if = "unset")]
    pub params: Vec<Param>,
    /// Wish to cancel, stop or hold back; see the constants.
    #[serde(skip_serializing_if = "unset")]
    pub status: String,
    /// How long it may take.
    #[serde(skip_serializing_if = "unset")]
    pub timeouts: Option<TimeoutFields>,
    /// What all its TaskRuns get; on the wire even when empty.
    pub task_run_template: PipelineTaskRunTemplate,
    /// What stands behind the pipeline's workspaces.
    #[serde(skip_serializing_if = "unset")]
    pub workspaces: Vec<WorkspaceBinding>,
    /// What single TaskRuns get.
    #[serde(skip_serializing_if = "unset")]
    pub task_run_specs: Vec<PipelineTaskRunSpec>,
    /// Controller that looks after this run, if not Tekton's.
    #[serde(skip_serializing_if = "unset")]
    pub managed_by: Option<String>,
}

/// How long parts of a run may take; zero means for ever.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimeoutFields {
    /// The whole.
    #[serde(skip_serializing_if = "unset")]
    pub pipeline: Option<Duration>,
    /// The tasks.
    #[serde(skip_serializing_if = "unset")]
    pub tasks: Option<Duration>,
    /// The `finally` tasks.
    #[serde(skip_serializing_if = "unset")]
    pub finally: Option<Duration>,
}

/// What all TaskRuns of a run get.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PipelineTaskRunTemplate {
    /// Parts of the pod.
    #[serde(skip_serializing_if = "unset")]
    pub pod_template: Option<PodTemplate>,
    /// Account of the pod.
    #[serde(skip_serializing_if = "unset")]
    pub service_account_name: String,
}

/// What the TaskRuns of one pipeline task get.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PipelineTaskRunSpec {
    /// The pipeline task.
    #[serde(skip_serializing_if = "unset")]
    pub pipeline_task_name: String,
    /// Account of the pod.
    #[serde(skip_serializing_if = "unset")]
    pub service_account_name: String,
    /// Parts of the pod.
    #[serde(skip_serializing_if = "unset")]
    pub pod_template: Option<PodTemplate>,
    /// Resources by step.
    #[serde(skip_serializing_if = "unset")]
    pub step_specs: Vec<TaskRunStepSpec>,
    /// Resources by sidecar.
    #[serde(skip_serializing_if = "unset")]
    pub sidecar_specs: Vec<TaskRunSidecarSpec>,
    /// Labels and annotations.
    #[serde(skip_serializing_if = "unset")]
    pub metadata: Option<PipelineTaskMetadata>,
    /// Resources of all steps together.
    #[serde(skip_serializing_if = "unset")]
    pub compute_resources: Option<ResourceRequirements>,
    /// How long it may take.
    #[serde(skip_serializing_if = "unset")]
    pub timeout: Option<Duration>,
}
