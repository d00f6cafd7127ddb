//! `tekton.dev/v1`, the version that is stored and that the engine works on.

mod artifact;
mod condition;
mod matrix;
mod param;
mod pipeline;
mod pipelinerun;
mod pipelinerun_status;
mod pod_template;
mod provenance;
mod reference;
mod result;
mod step;
mod task;
mod taskrun;
mod taskrun_status;
mod when;
mod workspace;

pub use artifact::{Artifact, ArtifactValue, Artifacts};
pub use condition::Condition;
pub use matrix::{IncludeParams, Matrix};
pub use param::{Param, ParamSpec, ParamType, ParamValue, PropertySpec};
pub use pipeline::{
    EmbeddedTask, Pipeline, PipelineResult, PipelineSpec, PipelineTask, PipelineTaskMetadata,
};
pub use pipelinerun::{
    PipelineRun, PipelineRunSpec, PipelineTaskRunSpec, PipelineTaskRunTemplate, TimeoutFields,
};
pub use pipelinerun_status::{
    ChildStatusReference, PipelineRunResult, PipelineRunStatus, SkippedTask,
};
pub use pod_template::{AffinityAssistantTemplate, PodTemplate};
pub use provenance::{Provenance, RefSource};
pub use reference::{PipelineRef, Ref, TaskRef};
pub use result::{StepResult, TaskResult, TaskRunResult};
pub use step::{Sidecar, Step, StepOutputConfig, StepTemplate};
pub use task::{Task, TaskSpec};
pub use taskrun::{
    TaskBreakpoints, TaskRun, TaskRunDebug, TaskRunSidecarSpec, TaskRunSpec, TaskRunStepSpec,
};
pub use taskrun_status::{SidecarState, StepState, TaskRunStatus};
pub use when::WhenExpression;
pub use workspace::{
    PipelineWorkspaceDeclaration, WorkspaceBinding, WorkspaceDeclaration,
    WorkspacePipelineTaskBinding, WorkspaceUsage,
};
