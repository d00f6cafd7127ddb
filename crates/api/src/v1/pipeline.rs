//! Pipelines: tasks with what ties them together.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Volume;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Matrix, Param, ParamSpec, ParamType, ParamValue, PipelineRef, PipelineWorkspaceDeclaration,
    Sidecar, Step, StepTemplate, TaskRef, TaskResult, TaskSpec, WhenExpression,
    WorkspaceDeclaration, WorkspacePipelineTaskBinding,
};
use crate::{Duration, kind::kind, names, unset};

kind!(
    /// Tasks and the order they run in.
    Pipeline, names::GROUP, "v1", "pipelines", spec: PipelineSpec
);

/// What a pipeline is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PipelineSpec {
    /// Name for people.
    #[serde(skip_serializing_if = "unset")]
    pub display_name: String,
    /// For people.
    #[serde(skip_serializing_if = "unset")]
    pub description: String,
    /// Its tasks; params, results and `runAfter` order them.
    #[serde(skip_serializing_if = "unset")]
    pub tasks: Vec<PipelineTask>,
    /// Params it takes.
    #[serde(skip_serializing_if = "unset")]
    pub params: Vec<ParamSpec>,
    /// Workspaces it needs.
    #[serde(skip_serializing_if = "unset")]
    pub workspaces: Vec<PipelineWorkspaceDeclaration>,
    /// Results it gives.
    #[serde(skip_serializing_if = "unset")]
    pub results: Vec<PipelineResult>,
    /// Tasks that run when the others have ended, however they ended.
    #[serde(skip_serializing_if = "unset")]
    pub finally: Vec<PipelineTask>,
}

/// A result of a pipeline, taken from its tasks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PipelineResult {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type", skip_serializing_if = "unset")]
    pub type_: Option<ParamType>,
    /// For people.
    pub description: String,
    /// References to results of tasks.
    pub value: ParamValue,
}

/// One task of a pipeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PipelineTask {
    /// Its name within the pipeline.
    #[serde(skip_serializing_if = "unset")]
    pub name: String,
    /// Name for people.
    #[serde(skip_serializing_if = "unset")]
    pub display_name: String,
    /// For people.
    #[serde(skip_serializing_if = "unset")]
    pub description: String,
    /// Task, or custom task, to run.
    #[serde(skip_serializing_if = "unset")]
    pub task_ref: Option<TaskRef>,
    /// Task, or custom task, given inline.
    #[serde(skip_serializing_if = "unset")]
    pub task_spec: Option<EmbeddedTask>,
    /// Conditions to run on.
    #[serde(skip_serializing_if = "unset")]
    pub when: Vec<WhenExpression>,
    /// How often to try again.
    #[serde(skip_serializing_if = "unset")]
    pub retries: i64,
    /// Tasks to wait for.
    #[serde(skip_serializing_if = "unset")]
    pub run_after: Vec<String>,
    /// Params of the task.
    #[serde(skip_serializing_if = "unset")]
    pub params: Vec<Param>,
    /// Params to run it for, each combination once.
    #[serde(skip_serializing_if = "unset")]
    pub matrix: Option<Matrix>,
    /// Workspaces it gets.
    #[serde(skip_serializing_if = "unset")]
    pub workspaces: Vec<WorkspacePipelineTaskBinding>,
    /// How long it may take.
    #[serde(skip_serializing_if = "unset")]
    pub timeout: Option<Duration>,
    /// Pipeline to run instead of a task.
    #[serde(skip_serializing_if = "unset")]
    pub pipeline_ref: Option<PipelineRef>,
    /// Pipeline to run instead of a task, given inline.
    #[serde(skip_serializing_if = "unset")]
    pub pipeline_spec: Option<PipelineSpec>,
    /// `continue` or `stopAndFail`.
    #[serde(skip_serializing_if = "unset")]
    pub on_error: String,
}

/// A task, or the spec of a custom task, given inline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "EmbeddedFields", rename_all = "camelCase")]
pub struct EmbeddedTask {
    /// API version of a custom task.
    #[serde(skip_serializing_if = "unset")]
    pub api_version: String,
    /// Kind of a custom task.
    #[serde(skip_serializing_if = "unset")]
    pub kind: String,
    /// Spec of a custom task; on the wire as `null` when there is none.
    pub spec: Value,
    /// Labels and annotations of what is created from it; always on the wire.
    pub metadata: PipelineTaskMetadata,
    /// The task itself.
    #[serde(flatten)]
    pub task: TaskSpec,
}

/// An [`EmbeddedTask`] as it is read. A flattened member would be buffered first, and the readers of all its types be
/// compiled once more, for the buffer: they were a twentieth of the binary.
#[derive(Default, Deserialize)]
#[serde(default, rename = "EmbeddedTask", rename_all = "camelCase")]
struct EmbeddedFields {
    api_version: String,
    kind: String,
    spec: Value,
    metadata: PipelineTaskMetadata,
    params: Vec<ParamSpec>,
    display_name: String,
    description: String,
    steps: Vec<Step>,
    volumes: Vec<Volume>,
    step_template: Option<StepTemplate>,
    sidecars: Vec<Sidecar>,
    workspaces: Vec<WorkspaceDeclaration>,
    results: Vec<TaskResult>,
}

impl From<EmbeddedFields> for EmbeddedTask {
    fn from(read: EmbeddedFields) -> Self {
        Self {
            api_version: read.api_version,
            kind: read.kind,
            spec: read.spec,
            metadata: read.metadata,
            task: TaskSpec {
                params: read.params,
                display_name: read.display_name,
                description: read.description,
                steps: read.steps,
                volumes: read.volumes,
                step_template: read.step_template,
                sidecars: read.sidecars,
                workspaces: read.workspaces,
                results: read.results,
            },
        }
    }
}

/// Labels and annotations for a task's runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PipelineTaskMetadata {
    /// Labels.
    #[serde(skip_serializing_if = "unset")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(skip_serializing_if = "unset")]
    pub annotations: BTreeMap<String, String>,
}
