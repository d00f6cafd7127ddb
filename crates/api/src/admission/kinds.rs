//! Which kinds the webhooks serve.

use super::Request;

/// Shape of the request's kind in that version, if the webhooks serve it.
pub(crate) fn shape_of(request: &Request<'_>) -> Option<&'static str> {
    Some(match (request.group, request.version, request.kind) {
        ("tekton.dev", "v1", "Task") => "v1.Task",
        ("tekton.dev", "v1", "TaskRun") => "v1.TaskRun",
        ("tekton.dev", "v1", "Pipeline") => "v1.Pipeline",
        ("tekton.dev", "v1", "PipelineRun") => "v1.PipelineRun",
        ("tekton.dev", "v1beta1", "Task") => "v1beta1.Task",
        ("tekton.dev", "v1beta1", "TaskRun") => "v1beta1.TaskRun",
        ("tekton.dev", "v1beta1", "Pipeline") => "v1beta1.Pipeline",
        ("tekton.dev", "v1beta1", "PipelineRun") => "v1beta1.PipelineRun",
        ("tekton.dev", "v1beta1", "StepAction") => "v1beta1.StepAction",
        ("tekton.dev", "v1beta1", "CustomRun") => "v1beta1.CustomRun",
        ("tekton.dev", "v1alpha1", "StepAction") => "v1alpha1.StepAction",
        ("tekton.dev", "v1alpha1", "VerificationPolicy") => "v1alpha1.VerificationPolicy",
        ("resolution.tekton.dev", "v1alpha1", "ResolutionRequest") => "res0.ResolutionRequest",
        ("resolution.tekton.dev", "v1beta1", "ResolutionRequest") => "res1.ResolutionRequest",
        _ => return None,
    })
}
