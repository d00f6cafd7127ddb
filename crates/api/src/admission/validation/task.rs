//! Tasks (T-024 to T-062).

use std::borrow::Cow;

use super::{
    param, result,
    scope::Scope,
    step, step_usage,
    variable::{self, Names, Prefix},
    workspace,
};
use crate::{
    admission::{FieldError, FieldErrors, field_error::quote},
    v1::{ParamSpec, Step, StepTemplate, TaskResult, TaskSpec},
};

pub(super) fn task(spec: &TaskSpec, scope: Scope<'_>) -> FieldErrors {
    let mut errors = validate(spec, scope);
    errors.add(declared_params(&merged_steps(spec), &spec.params, scope));
    errors.via("spec")
}

/// What is checked once more before a pod is built of a resolved and substituted spec (T-202): that its steps use only
/// declared params, else what admission checks.
pub(super) fn resolved(spec: &TaskSpec, scope: Scope<'_>) -> FieldErrors {
    let errors = declared_params(&spec.steps, &spec.params, scope);
    if errors.is_empty() {
        validate(spec, scope)
    } else {
        errors
    }
}

/// What holds for a task's spec wherever it stands.
pub(super) fn validate(spec: &TaskSpec, scope: Scope<'_>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if spec.steps.is_empty() {
        errors.add(FieldError::missing("steps"));
    }
    errors.add(volumes(spec).via("volumes"));
    let declared =
        workspace::declarations(&spec.workspaces, &spec.steps, spec.step_template.as_ref());
    errors.add(declared.via("workspaces"));
    errors.add(workspace::usages(spec, scope));
    let steps = merged_steps(spec);
    errors.add(step::all(&steps, scope).via("steps"));
    errors.add(step::sidecars(&spec.sidecars, scope));
    errors.add(param::types(&spec.params).via("params"));
    errors.add(param_variables(&steps, &spec.params, scope));
    for (prefix, known) in [
        ("context.taskRun", &["name", "namespace", "uid"][..]),
        ("context.task", &["name", "retry-count"][..]),
    ] {
        let known: Names = known.iter().map(|n| (*n).to_owned()).collect();
        errors.add(step_usage::unknown(
            &steps,
            Prefix::new(prefix),
            &known,
            scope.beta,
        ));
    }
    errors.add(script_results(&steps, &spec.results, scope));
    errors.add(result::task_results(&spec.results).via("results"));
    errors
}

fn volumes(spec: &TaskSpec) -> FieldErrors {
    let (mut names, mut errors) = (Names::new(), FieldErrors::new());
    for (index, volume) in spec.volumes.iter().enumerate() {
        if !names.insert(volume.name.clone()) {
            let message = format!("multiple volumes with same name {}", quote(&volume.name));
            errors.add(FieldErrors::from(FieldError::generic(message, ["name"])).via_index(index));
        }
    }
    errors
}

/// Task results that scripts mention must be declared (T-045).
fn script_results(steps: &[Step], results: &[TaskResult], scope: Scope<'_>) -> FieldErrors {
    let names: Names = results.iter().map(|r| r.name.clone()).collect();
    let mut errors = FieldErrors::new();
    for (index, step) in steps.iter().enumerate() {
        let error = variable::unknown(&step.script, Prefix::RESULTS, &names, scope.beta);
        errors.add(
            FieldErrors::from(error)
                .via("script")
                .via_field_index("steps", index),
        );
    }
    errors
}

/// Declared params by themselves, and arrays where they are used.
pub(super) fn param_variables(
    steps: &[Step],
    params: &[ParamSpec],
    scope: Scope<'_>,
) -> FieldErrors {
    let mut errors = param::declared_once(params);
    errors.add(param::enums(params, scope).via("params"));
    let sorted = param::sorted(params);
    errors.add(param::name_format(&sorted));
    errors.add(step_usage::arrays(steps, &sorted.arrays));
    errors
}

/// Every param that steps use is declared, and objects are used by key (T-047, T-056).
pub(super) fn declared_params(
    steps: &[Step],
    params: &[ParamSpec],
    scope: Scope<'_>,
) -> FieldErrors {
    let mut errors = step_usage::unknown(steps, Prefix::PARAMS, &param::names(params), scope.beta);
    errors.add(step_usage::objects(
        steps,
        &param::sorted(params).objects,
        scope.beta,
    ));
    errors.add(param::objects_have_properties(params));
    errors
}

/// The steps as they start from the template; steps that refer to a StepAction stay as they are (T-028).
pub(super) fn merged_steps(spec: &TaskSpec) -> Cow<'_, [Step]> {
    let Some(template) = &spec.step_template else {
        return Cow::Borrowed(&spec.steps);
    };
    let merge = |step: &Step| {
        if step.ref_.is_some() {
            step.clone()
        } else {
            merged(step, template)
        }
    };
    Cow::Owned(spec.steps.iter().map(merge).collect())
}

fn merged(step: &Step, template: &StepTemplate) -> Step {
    let mut step = step.clone();
    let text = |own: &mut String, base: &str| {
        if own.is_empty() {
            base.clone_into(own);
        }
    };
    text(&mut step.image, &template.image);
    text(&mut step.working_dir, &template.working_dir);
    text(&mut step.image_pull_policy, &template.image_pull_policy);
    list(&mut step.command, &template.command);
    list(&mut step.args, &template.args);
    list(&mut step.env_from, &template.env_from);
    by_key(&mut step.env, &template.env, |env| &env.name);
    by_key(&mut step.volume_mounts, &template.volume_mounts, |mount| {
        &mount.mount_path
    });
    by_key(
        &mut step.volume_devices,
        &template.volume_devices,
        |device| &device.device_path,
    );
    step
}

fn list<T: Clone>(own: &mut Vec<T>, base: &[T]) {
    if own.is_empty() {
        *own = base.to_vec();
    }
}

fn by_key<T: Clone>(own: &mut Vec<T>, base: &[T], key: impl Fn(&T) -> &String) {
    let add: Vec<T> = base
        .iter()
        .filter(|b| !own.iter().any(|o| key(o) == key(b)))
        .cloned()
        .collect();
    own.extend(add);
}
