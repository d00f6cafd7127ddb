//! TaskRuns (T-063 to T-076).

use super::{
    param::{self, Supplied},
    reference,
    scope::Scope,
    step, task, workspace,
};
use crate::{
    admission::{FieldError, FieldErrors},
    v1::{PodTemplate, TaskRunDebug, TaskRunSpec, TaskRunStepSpec},
};
use k8s_openapi::api::core::v1::ResourceRequirements;

pub(super) fn validate(spec: &TaskRunSpec, scope: Scope<'_>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    match (&spec.task_ref, &spec.task_spec) {
        (None, None) => errors.add(FieldError::missing_one_of(&["taskRef", "taskSpec"])),
        (Some(_), Some(_)) => errors.add(FieldError::multiple_one_of(&["taskRef", "taskSpec"])),
        _ => {}
    }
    if let Some(of) = &spec.task_ref {
        errors.add(reference::validate(&of.name, &of.resolver, &of.params, scope).via("taskRef"));
    }
    if let Some(of) = &spec.task_spec {
        errors.add(scope.inline_disabled("taskrun", "taskSpec"));
        errors.add(task::validate(of, scope).via("taskSpec"));
    }
    errors.add(param::passed_once(&spec.params).via("params"));
    errors.add(inline_params(spec, scope));
    errors.add(workspace::bindings(&spec.workspaces).via("workspaces"));
    if let Some(of) = &spec.debug {
        errors.add(scope.needs_alpha("debug").via("debug"));
        errors.add(debug(of).via("debug"));
    }
    let resources = Resources {
        steps: &spec.step_specs,
        sidecars: spec.sidecar_specs.iter().map(|s| s.name.as_str()).collect(),
        task: spec.compute_resources.as_ref(),
    };
    errors.add(resources.validate(scope));
    errors.add(wish(spec));
    if spec.retries < 0 && !scope.beta {
        errors.add(FieldError::invalid_value(
            format!("{} should be >= 0", spec.retries),
            "retries",
        ));
    }
    if let Some(template) = &spec.pod_template {
        errors.add(pod_template_env(template, scope));
    }
    if let Some(timeout) = spec.timeout.filter(|t| t.is_negative()) {
        errors.add(FieldError::invalid_value(
            format!("{timeout} should be >= 0"),
            "timeout",
        ));
    }
    errors
}

/// T-066
fn inline_params(spec: &TaskRunSpec, scope: Scope<'_>) -> FieldErrors {
    let Some(inline) = &spec.task_spec else {
        return FieldErrors::new();
    };
    let mut errors = FieldErrors::new();
    let mut supplied = Supplied::by(&spec.params);
    for declared in &inline.params {
        errors.add(supplied.declare(declared));
    }
    if !inline.steps.is_empty() {
        let (steps, params) = (task::merged_steps(inline), supplied.specs());
        errors.add(param::types(&params));
        errors.add(task::param_variables(&steps, &params, scope));
        errors.add(task::declared_params(&steps, &params, scope));
    }
    errors
}

/// T-070
fn debug(of: &TaskRunDebug) -> FieldErrors {
    let Some(breakpoints) = &of.breakpoints else {
        return FieldErrors::new();
    };
    let mut errors = FieldErrors::new();
    match breakpoints.on_failure.as_str() {
        "enabled" => {}
        "" => errors.add(FieldError::invalid_value(
            "onFailure breakpoint is empty, it is only allowed to be set as enabled",
            "breakpoints.onFailure",
        )),
        other => {
            let message = format!(
                "{other} is not a valid onFailure breakpoint value, onFailure breakpoint is only allowed to be set as \
                 enabled"
            );
            errors.add(FieldError::invalid_value(message, "breakpoints.onFailure"));
        }
    }
    for (index, step) in breakpoints.before_steps.iter().enumerate() {
        if breakpoints.before_steps[..index].contains(step) {
            let message = format!(
                "before step must be unique, the same step: {step} is defined multiple times at"
            );
            errors.add(FieldError::generic(
                message,
                [format!("breakpoints.beforeSteps[{index}]").as_str()],
            ));
        }
    }
    errors
}

/// Resources that a run sets for steps, sidecars or all of its task (T-071, T-072).
pub(super) struct Resources<'a> {
    pub steps: &'a [TaskRunStepSpec],
    pub sidecars: Vec<&'a str>,
    pub task: Option<&'a ResourceRequirements>,
}

impl Resources<'_> {
    pub(super) fn validate(&self, scope: Scope<'_>) -> FieldErrors {
        let (of_steps, of_sidecars) = if scope.beta {
            ("stepOverrides", "sidecarOverrides")
        } else {
            ("stepSpecs", "sidecarSpecs")
        };
        let mut errors = FieldErrors::new();
        if !self.steps.is_empty() {
            errors.add(scope.needs_beta(of_steps).via(of_steps));
            errors.add(step::named_specs(self.steps.iter().map(|s| s.name.as_str())).via(of_steps));
        }
        if !self.sidecars.is_empty() {
            errors.add(scope.needs_beta(of_sidecars).via(of_sidecars));
            errors.add(step::named_specs(self.sidecars.iter().copied()).via(of_sidecars));
        }
        if self.task.is_some() {
            errors.add(scope.needs_beta("computeResources").via("computeResources"));
            if self
                .steps
                .iter()
                .any(|s| s.compute_resources != ResourceRequirements::default())
            {
                let path = format!("{of_steps}.resources");
                errors.add(FieldError::multiple_one_of(&[&path, "computeResources"]));
            }
        }
        errors
    }
}

/// T-073
fn wish(spec: &TaskRunSpec) -> Option<FieldError> {
    let (cancelled, pending) = (TaskRunSpec::CANCELLED, TaskRunSpec::PENDING);
    match spec.status.as_str() {
        "" if spec.status_message.is_empty() => None,
        "" => Some(FieldError::invalid_value(
            format!(
                "statusMessage should not be set if status is not set, but it is currently set to {}",
                spec.status_message
            ),
            "statusMessage",
        )),
        status if status == cancelled || status == pending => None,
        status => Some(FieldError::invalid_value(
            format!("{status} should be {cancelled} or {pending}"),
            "status",
        )),
    }
}

/// T-076
pub(super) fn pod_template_env(template: &PodTemplate, scope: Scope<'_>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for env in template
        .env
        .iter()
        .filter(|env| scope.config.defaults.forbidden_env.contains(&env.name))
    {
        let message = format!("PodTemplate cannot update a forbidden env: {}", env.name);
        errors.add(FieldError::invalid_value(message, "PodTemplate.Env"));
    }
    errors
}
