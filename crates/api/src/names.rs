//! Names that users and tools read: groups, labels, annotations, condition reasons, ConfigMaps (T-014).

/// API group of Tekton's kinds.
pub const GROUP: &str = "tekton.dev";
/// API group of requests to resolvers.
pub const RESOLUTION_GROUP: &str = "resolution.tekton.dev";
/// Namespace of the installation.
pub const NAMESPACE: &str = "tekton-pipelines";
/// Namespace of the resolvers' ConfigMaps.
pub const RESOLVERS_NAMESPACE: &str = "tekton-pipelines-resolvers";
/// Service that serves the admission and conversion webhooks, in [`NAMESPACE`].
pub const WEBHOOK_SERVICE: &str = "tekton-pipelines-webhook";
/// Value of `spec.managedBy` that means Tekton itself.
pub const MANAGED_BY_TEKTON: &str = "tekton.dev/pipeline";

/// Label keys.
pub mod label {
    /// Task that a TaskRun or pod runs.
    pub const TASK: &str = "tekton.dev/task";
    /// Cluster-wide task; only on old objects.
    pub const CLUSTER_TASK: &str = "tekton.dev/clusterTask";
    /// StepAction that is run.
    pub const STEP_ACTION: &str = "tekton.dev/stepAction";
    /// TaskRun that a pod belongs to.
    pub const TASK_RUN: &str = "tekton.dev/taskRun";
    /// Uid of that TaskRun.
    pub const TASK_RUN_UID: &str = "tekton.dev/taskRunUID";
    /// Pipeline that a run belongs to.
    pub const PIPELINE: &str = "tekton.dev/pipeline";
    /// PipelineRun that a run belongs to.
    pub const PIPELINE_RUN: &str = "tekton.dev/pipelineRun";
    /// Uid of that PipelineRun.
    pub const PIPELINE_RUN_UID: &str = "tekton.dev/pipelineRunUID";
    /// Pipeline task that a run belongs to.
    pub const PIPELINE_TASK: &str = "tekton.dev/pipelineTask";
    /// CustomRun.
    pub const CUSTOM_RUN: &str = "tekton.dev/customRun";
    /// `tasks` or `finally`.
    pub const MEMBER_OF: &str = "tekton.dev/memberOf";
    /// Who made the object.
    pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
    /// Installation that an object is part of.
    pub const PART_OF: &str = "app.kubernetes.io/part-of";
    /// Role of an object; the affinity assistant carries it.
    pub const COMPONENT: &str = "app.kubernetes.io/component";
    /// Which of its like; the affinity assistant carries it.
    pub const INSTANCE: &str = "app.kubernetes.io/instance";
    /// Resolver that a ResolutionRequest is for.
    pub const RESOLVER_TYPE: &str = "resolution.tekton.dev/type";
}

/// Annotation keys.
pub mod annotation {
    /// On pods: `READY` once steps may begin.
    pub const READY: &str = "tekton.dev/ready";
    /// On pods: `CANCEL` stops the step.
    pub const CANCEL: &str = "tekton.dev/cancel";
    /// Version of the controller that made the pod.
    pub const RELEASE: &str = "pipeline.tekton.dev/release";
    /// Affinity assistant that a TaskRun's pod goes with.
    pub const AFFINITY_ASSISTANT: &str = "pipeline.tekton.dev/affinity-assistant";
    /// `continue` when the pipeline goes on after a failure.
    pub const PIPELINE_TASK_ON_ERROR: &str = "pipeline.tekton.dev/pipeline-task-on-error";
    /// Whether claims of templates go with the run's end.
    pub const AUTO_CLEANUP_PVC: &str = "tekton.dev/auto-cleanup-pvc";
    /// Signature of a definition.
    pub const SIGNATURE: &str = "tekton.dev/signature";
    /// Trace that a TaskRun belongs to.
    pub const TASK_RUN_SPAN_CONTEXT: &str = "tekton.dev/taskrunSpanContext";
    /// Trace that a PipelineRun belongs to.
    pub const PIPELINE_RUN_SPAN_CONTEXT: &str = "tekton.dev/pipelinerunSpanContext";
    /// Trace that a CustomRun belongs to.
    pub const CUSTOM_RUN_SPAN_CONTEXT: &str = "tekton.dev/customrunSpanContext";
    /// Prefix of registries that a Secret is for.
    pub const DOCKER_CREDENTIALS_PREFIX: &str = "tekton.dev/docker-";
    /// Prefix of Git hosts that a Secret is for.
    pub const GIT_CREDENTIALS_PREFIX: &str = "tekton.dev/git-";
    /// Content type of what a resolver found.
    pub const CONTENT_TYPE: &str = "resolution.tekton.dev/content-type";
    /// v1beta1 `resources` kept through conversion.
    pub const V1BETA1_RESOURCES: &str = "tekton.dev/v1beta1Resources";
    /// Reserved for Chains; not passed on.
    pub const CHAINS_PREFIX: &str = "chains.tekton.dev/";
}

/// Reasons of a TaskRun's `Succeeded` condition.
pub mod task_run_reason {
    /// `Started`
    pub const STARTED: &str = "Started";
    /// `Running`
    pub const RUNNING: &str = "Running";
    /// `Succeeded`
    pub const SUCCESSFUL: &str = "Succeeded";
    /// `Failed`
    pub const FAILED: &str = "Failed";
    /// `ToBeRetried`
    pub const TO_BE_RETRIED: &str = "ToBeRetried";
    /// `TaskRunCancelled`
    pub const CANCELLED: &str = "TaskRunCancelled";
    /// `TaskRunTimeout`
    pub const TIMED_OUT: &str = "TaskRunTimeout";
    /// `ResolvingTaskRef`
    pub const RESOLVING_TASK_REF: &str = "ResolvingTaskRef";
    /// `ResolvingStepActionRef`
    pub const RESOLVING_STEP_ACTION_REF: &str = "ResolvingStepActionRef";
    /// `TaskRunImagePullFailed`
    pub const IMAGE_PULL_FAILED: &str = "TaskRunImagePullFailed";
    /// `CreateContainerConfigError`
    pub const CREATE_CONTAINER_CONFIG_ERROR: &str = "CreateContainerConfigError";
    /// `PodCreationFailed`
    pub const POD_CREATION_FAILED: &str = "PodCreationFailed";
    /// `TaskRunResultLargerThanAllowedLimit`
    pub const RESULT_LARGER_THAN_ALLOWED_LIMIT: &str = "TaskRunResultLargerThanAllowedLimit";
    /// `TaskRunStopSidecarFailed`
    pub const STOP_SIDECAR_FAILED: &str = "TaskRunStopSidecarFailed";
    /// `InvalidParamValue`
    pub const INVALID_PARAM_VALUE: &str = "InvalidParamValue";
    /// `TaskRunResolutionFailed`
    pub const FAILED_RESOLUTION: &str = "TaskRunResolutionFailed";
    /// `TaskRunValidationFailed`
    pub const FAILED_VALIDATION: &str = "TaskRunValidationFailed";
    /// `TaskValidationFailed`
    pub const TASK_FAILED_VALIDATION: &str = "TaskValidationFailed";
    /// `ResourceVerificationFailed`
    pub const RESOURCE_VERIFICATION_FAILED: &str = "ResourceVerificationFailed";
    /// `PodEvicted`
    pub const POD_EVICTED: &str = "PodEvicted";
    /// `StepOOM`
    pub const STEP_OOM: &str = "StepOOM";
    /// `StepFailed`
    pub const STEP_FAILED: &str = "StepFailed";
    /// `SidecarOOM`
    pub const SIDECAR_OOM: &str = "SidecarOOM";
    /// `SidecarFailed`
    pub const SIDECAR_FAILED: &str = "SidecarFailed";
    /// `InitContainerOOM`
    pub const INIT_CONTAINER_OOM: &str = "InitContainerOOM";
    /// `InitContainerFailed`
    pub const INIT_CONTAINER_FAILED: &str = "InitContainerFailed";
    /// `FailureIgnored`
    pub const FAILURE_IGNORED: &str = "FailureIgnored";
    /// `TaskRunPending`
    pub const PENDING: &str = "TaskRunPending";
}

/// Reasons of a PipelineRun's `Succeeded` condition.
pub mod pipeline_run_reason {
    /// `Started`
    pub const STARTED: &str = "Started";
    /// `Running`
    pub const RUNNING: &str = "Running";
    /// `Succeeded`
    pub const SUCCESSFUL: &str = "Succeeded";
    /// `Completed`
    pub const COMPLETED: &str = "Completed";
    /// `Failed`
    pub const FAILED: &str = "Failed";
    /// `Cancelled`
    pub const CANCELLED: &str = "Cancelled";
    /// `PipelineRunPending`
    pub const PENDING: &str = "PipelineRunPending";
    /// `PipelineRunTimeout`
    pub const TIMED_OUT: &str = "PipelineRunTimeout";
    /// `PipelineRunStopping`
    pub const STOPPING: &str = "PipelineRunStopping";
    /// `PipelineRunTimeoutRunningFinally`
    pub const TIMED_OUT_RUNNING_FINALLY: &str = "PipelineRunTimeoutRunningFinally";
    /// `CancelledRunningFinally`
    pub const CANCELLED_RUNNING_FINALLY: &str = "CancelledRunningFinally";
    /// `StoppedRunningFinally`
    pub const STOPPED_RUNNING_FINALLY: &str = "StoppedRunningFinally";
    /// `CouldntGetPipeline`
    pub const COULDNT_GET_PIPELINE: &str = "CouldntGetPipeline";
    /// `InvalidPipelineResourceBindings`
    pub const INVALID_BINDINGS: &str = "InvalidPipelineResourceBindings";
    /// `InvalidWorkspaceBindings`
    pub const INVALID_WORKSPACE_BINDING: &str = "InvalidWorkspaceBindings";
    /// `InvalidTaskRunSpecs`
    pub const INVALID_TASK_RUN_SPEC: &str = "InvalidTaskRunSpecs";
    /// `ParameterTypeMismatch`
    pub const PARAMETER_TYPE_MISMATCH: &str = "ParameterTypeMismatch";
    /// `ObjectParameterMissKeys`
    pub const OBJECT_PARAMETER_MISS_KEYS: &str = "ObjectParameterMissKeys";
    /// `ParamArrayIndexingInvalid`
    pub const PARAM_ARRAY_INDEXING_INVALID: &str = "ParamArrayIndexingInvalid";
    /// `CouldntGetTask`
    pub const COULDNT_GET_TASK: &str = "CouldntGetTask";
    /// `ParameterMissing`
    pub const PARAMETER_MISSING: &str = "ParameterMissing";
    /// `PipelineValidationFailed`
    pub const FAILED_VALIDATION: &str = "PipelineValidationFailed";
    /// `CouldntGetPipelineResult`
    pub const COULDNT_GET_PIPELINE_RESULT: &str = "CouldntGetPipelineResult";
    /// `PipelineInvalidGraph`
    pub const INVALID_GRAPH: &str = "PipelineInvalidGraph";
    /// `PipelineRunCouldntCancel`
    pub const COULDNT_CANCEL: &str = "PipelineRunCouldntCancel";
    /// `PipelineRunCouldntTimeOut`
    pub const COULDNT_TIME_OUT: &str = "PipelineRunCouldntTimeOut";
    /// `InvalidMatrixParameterTypes`
    pub const INVALID_MATRIX_PARAMETER_TYPES: &str = "InvalidMatrixParameterTypes";
    /// `InvalidTaskResultReference`
    pub const INVALID_TASK_RESULT_REFERENCE: &str = "InvalidTaskResultReference";
    /// `InvalidPipelineResultReference`
    pub const INVALID_PIPELINE_RESULT_REFERENCE: &str = "InvalidPipelineResultReference";
    /// `RequiredWorkspaceMarkedOptional`
    pub const REQUIRED_WORKSPACE_MARKED_OPTIONAL: &str = "RequiredWorkspaceMarkedOptional";
    /// `ResolvingPipelineRef`
    pub const RESOLVING_PIPELINE_REF: &str = "ResolvingPipelineRef";
    /// `ResourceVerificationFailed`
    pub const RESOURCE_VERIFICATION_FAILED: &str = "ResourceVerificationFailed";
    /// `CreateRunFailed`
    pub const CREATE_RUN_FAILED: &str = "CreateRunFailed";
    /// `CELEvaluationFailed`
    pub const CEL_EVALUATION_FAILED: &str = "CELEvaluationFailed";
    /// `InvalidParamValue`
    pub const INVALID_PARAM_VALUE: &str = "InvalidParamValue";
}

/// Reasons of a CustomRun's `Succeeded` condition.
pub mod custom_run_reason {
    /// `Started`
    pub const STARTED: &str = "Started";
    /// `Running`
    pub const RUNNING: &str = "Running";
    /// `Succeeded`
    pub const SUCCESSFUL: &str = "Succeeded";
    /// `Failed`
    pub const FAILED: &str = "Failed";
    /// `CustomRunCancelled`
    pub const CANCELLED: &str = "CustomRunCancelled";
    /// `CustomRunTimedOut`
    pub const TIMED_OUT: &str = "CustomRunTimedOut";
    /// `CustomRunWorkspaceNotSupported`
    pub const WORKSPACE_NOT_SUPPORTED: &str = "CustomRunWorkspaceNotSupported";
}

/// Reasons for which a pipeline task is skipped.
pub mod skip {
    /// `When Expressions evaluated to false`
    pub const WHEN: &str = "When Expressions evaluated to false";
    /// `Parent Tasks were skipped`
    pub const PARENT: &str = "Parent Tasks were skipped";
    /// `PipelineRun was stopping`
    pub const STOPPING: &str = "PipelineRun was stopping";
    /// `PipelineRun was gracefully cancelled`
    pub const GRACEFULLY_CANCELLED: &str = "PipelineRun was gracefully cancelled";
    /// `PipelineRun was gracefully stopped`
    pub const GRACEFULLY_STOPPED: &str = "PipelineRun was gracefully stopped";
    /// `Results were missing`
    pub const MISSING_RESULTS: &str = "Results were missing";
    /// `PipelineRun timeout has been reached`
    pub const PIPELINE_TIMED_OUT: &str = "PipelineRun timeout has been reached";
    /// `PipelineRun Tasks timeout has been reached`
    pub const TASKS_TIMED_OUT: &str = "PipelineRun Tasks timeout has been reached";
    /// `PipelineRun Finally timeout has been reached`
    pub const FINALLY_TIMED_OUT: &str = "PipelineRun Finally timeout has been reached";
    /// `Matrix Parameters have an empty array`
    pub const EMPTY_MATRIX_ARRAY: &str = "Matrix Parameters have an empty array";
    /// `None`
    pub const NONE: &str = "None";
}

/// Messages that a parent leaves in `spec.statusMessage` of the runs it cancels.
pub mod status_message {
    /// The PipelineRun was cancelled.
    pub const TASK_RUN_CANCELLED_BY_PIPELINE: &str =
        "TaskRun cancelled as the PipelineRun it belongs to has been cancelled.";
    /// The PipelineRun timed out.
    pub const TASK_RUN_CANCELLED_BY_PIPELINE_TIMEOUT: &str =
        "TaskRun cancelled as the PipelineRun it belongs to has timed out.";
    /// The PipelineRun was cancelled.
    pub const CUSTOM_RUN_CANCELLED_BY_PIPELINE: &str =
        "CustomRun cancelled as the PipelineRun it belongs to has been cancelled.";
    /// The PipelineRun timed out.
    pub const CUSTOM_RUN_CANCELLED_BY_PIPELINE_TIMEOUT: &str =
        "CustomRun cancelled as the PipelineRun it belongs to has timed out.";
}

/// Names of the ConfigMaps of the installation.
pub mod config_map {
    /// Feature flags.
    pub const FEATURE_FLAGS: &str = "feature-flags";
    /// Defaults.
    pub const DEFAULTS: &str = "config-defaults";
    /// What is logged.
    pub const LOGGING: &str = "config-logging";
    /// How the controllers elect one of them.
    pub const LEADER_ELECTION: &str = "config-leader-election";
    /// How the webhooks elect one of them.
    pub const LEADER_ELECTION_WEBHOOK: &str = "config-leader-election-webhook";
    /// Where events go.
    pub const EVENTS: &str = "config-events";
    /// Metrics.
    pub const OBSERVABILITY: &str = "config-observability";
    /// SPIRE.
    pub const SPIRE: &str = "config-spire";
    /// Traces.
    pub const TRACING: &str = "config-tracing";
    /// Waiting for a slow API server.
    pub const WAIT_EXPONENTIAL_BACKOFF: &str = "config-wait-exponential-backoff";
}

/// Paths inside a pod.
pub mod path {
    /// Root of workspaces and default working directory.
    pub const WORKSPACE: &str = "/workspace";
    /// Files of task results.
    pub const RESULTS: &str = "/tekton/results";
    /// Home of steps.
    pub const HOME: &str = "/tekton/home";
    /// Credentials.
    pub const CREDS: &str = "/tekton/creds";
    /// What steps leave for each other.
    pub const STEPS: &str = "/tekton/steps";
    /// Scripts.
    pub const SCRIPTS: &str = "/tekton/scripts";
    /// Artifacts.
    pub const ARTIFACTS: &str = "/tekton/artifacts";
}
