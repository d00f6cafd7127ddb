//! PipelineRuns.

use super::{
    param::{self, Supplied},
    pipeline, pipeline_params, reference,
    scope::Scope,
    task, task_result_ref,
    taskrun::{Resources, pod_template_env},
    variable::Names,
    workspace,
};
use crate::{
    Duration,
    admission::{FieldError, FieldErrors, field_error::quote},
    v1::{PipelineRunSpec, PipelineTaskRunSpec, TimeoutFields},
};

/// `timeout` is v1beta1's own field of that name.
pub(super) fn validate(
    spec: &PipelineRunSpec,
    timeout: Option<Duration>,
    scope: Scope<'_>,
) -> FieldErrors {
    let mut errors = FieldErrors::new();
    match (&spec.pipeline_ref, &spec.pipeline_spec) {
        (None, None) => errors.add(FieldError::missing_one_of(&["pipelineRef", "pipelineSpec"])),
        (Some(_), Some(_)) => errors.add(FieldError::multiple_one_of(&[
            "pipelineRef",
            "pipelineSpec",
        ])),
        _ => {}
    }
    if let Some(of) = &spec.pipeline_ref {
        errors
            .add(reference::validate(&of.name, &of.resolver, &of.params, scope).via("pipelineRef"));
    }
    if let Some(of) = &spec.pipeline_spec {
        errors.add(scope.inline_disabled("pipelinerun", "pipelineSpec"));
        errors.add(pipeline::validate(of, scope).via("pipelineSpec"));
    }
    errors.add(params(spec));
    errors.add(inline_params(spec, scope));
    if scope.beta {
        errors.add(propagated_workspaces(spec));
    }
    if let Some(timeout) = timeout.filter(|t| t.is_negative()) {
        errors.add(FieldError::invalid_value(
            format!("{timeout} should be >= 0"),
            "timeout",
        ));
    }
    if let Some(timeouts) = &spec.timeouts {
        if timeout.is_some() {
            errors.add(FieldError::generic(
                "must not set the field(s)",
                ["timeout", "timeouts"],
            ));
        }
        errors.add(timeout_fields(timeouts, scope));
    }
    for (index, run) in spec.task_run_specs.iter().enumerate() {
        errors.add(
            task_run_spec(run, spec.timeouts.as_ref(), scope)
                .via_index(index)
                .via("taskRunSpecs"),
        );
    }
    errors.add(wish(&spec.status));
    errors.add(workspaces(spec));
    if let Some(template) = &spec.task_run_template.pod_template {
        let found = pod_template_env(template, scope);
        errors.add(if scope.beta {
            found
        } else {
            found.via("taskRunTemplate")
        });
    }
    errors
}

fn params(spec: &PipelineRunSpec) -> FieldErrors {
    let mut errors = param::passed_once(&spec.params).via("params");
    for param in &spec.params {
        let expressions = task_result_ref::in_value(&param.value);
        let looking: Vec<&str> = expressions
            .into_iter()
            .filter(|e| task_result_ref::looks_like(e))
            .collect();
        if !task_result_ref::all(&looking).is_empty() {
            let message = format!(
                "cannot use result expressions in [{}] as PipelineRun parameter values",
                looking.join(" ")
            );
            let error = FieldErrors::from(FieldError::invalid_value(message, "value"));
            errors.add(error.via_field_key("params", &param.name));
        }
    }
    errors
}

fn inline_params(spec: &PipelineRunSpec, scope: Scope<'_>) -> FieldErrors {
    let Some(inline) = &spec.pipeline_spec else {
        return FieldErrors::new();
    };
    let mut errors = FieldErrors::new();
    let mut supplied = Supplied::by(&spec.params);
    for declared in &inline.params {
        errors.add(supplied.declare(declared));
    }
    for task in &inline.tasks {
        errors.add(supplied.pass_on(&task.params));
        for declared in task.task_spec.iter().flat_map(|s| &s.task.params) {
            errors.add(supplied.declare(declared));
        }
    }
    if inline.tasks.is_empty() {
        return errors;
    }
    let known = supplied.specs();
    for task in inline
        .tasks
        .iter()
        .filter_map(|t| t.task_spec.as_ref())
        .filter(|s| !s.task.steps.is_empty())
    {
        let steps = task::merged_steps(&task.task);
        errors.add(param::types(&known));
        errors.add(task::param_variables(&steps, &known, scope));
        errors.add(task::declared_params(&steps, &known, scope));
    }
    errors.add(pipeline_params::declared(&inline.tasks, &known, scope));
    errors.add(pipeline_params::usage(&inline.tasks, &known));
    errors
}

/// v1beta1 also looks at workspaces that tasks take without the pipeline declaring them.
fn propagated_workspaces(spec: &PipelineRunSpec) -> FieldErrors {
    let Some(inline) = &spec.pipeline_spec else {
        return FieldErrors::new();
    };
    let mut known: Names = spec.workspaces.iter().map(|w| w.name.clone()).collect();
    known.extend(inline.workspaces.iter().map(|w| w.name.clone()));
    let mut errors = FieldErrors::new();
    for tasks in [&inline.tasks, &inline.finally] {
        for (index, task) in tasks.iter().enumerate() {
            known.extend(task.workspaces.iter().map(|w| w.name.clone()));
            errors.add(pipeline::workspaces(task, &known).via_index(index));
        }
    }
    errors
}

fn timeout_fields(timeouts: &TimeoutFields, scope: Scope<'_>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (field, timeout) in [
        ("tasks", timeouts.tasks),
        ("finally", timeouts.finally),
        ("pipeline", timeouts.pipeline),
    ] {
        if let Some(timeout) = timeout.filter(|t| t.is_negative()) {
            errors.add(FieldError::invalid_value(
                format!("{timeout} should be >= 0"),
                &format!("timeouts.{field}"),
            ));
        }
    }
    // Where the default counts, upstream takes its minutes for nanoseconds.
    let (whole, what) = match timeouts.pipeline {
        Some(whole) => (whole, "should be <= pipeline duration"),
        None => (
            Duration(scope.config.defaults.timeout_minutes),
            "should be <= default timeout duration",
        ),
    };
    for (field, timeout) in [
        ("timeouts.tasks", timeouts.tasks),
        ("timeouts.finally", timeouts.finally),
    ] {
        let Some(timeout) = timeout.filter(|_| !whole.is_zero()) else {
            continue;
        };
        if timeout.is_zero() {
            errors.add(FieldError::invalid_value(
                format!("{timeout} (no timeout) {what}"),
                field,
            ));
        } else if timeout > whole {
            errors.add(FieldError::invalid_value(
                format!("{timeout} {what}"),
                field,
            ));
        }
    }
    if let (Some(tasks), Some(finally)) = (timeouts.tasks, timeouts.finally)
        && tasks.as_nanos().wrapping_add(finally.as_nanos()) > whole.as_nanos()
    {
        for field in ["timeouts.tasks", "timeouts.finally"] {
            errors.add(FieldError::invalid_value(
                format!("{tasks} + {finally} {what}"),
                field,
            ));
        }
    }
    errors
}

fn task_run_spec(
    run: &PipelineTaskRunSpec,
    timeouts: Option<&TimeoutFields>,
    scope: Scope<'_>,
) -> FieldErrors {
    let resources = Resources {
        steps: &run.step_specs,
        sidecars: run.sidecar_specs.iter().map(|s| s.name.as_str()).collect(),
        task: run.compute_resources.as_ref(),
    };
    let mut errors = resources.validate(scope);
    if let Some(template) = &run.pod_template {
        errors.add(pod_template_env(template, scope));
    }
    if let Some(timeout) = run.timeout {
        errors.add(task_timeout(timeout, timeouts, scope));
    }
    errors
}

fn task_timeout(
    timeout: Duration,
    timeouts: Option<&TimeoutFields>,
    scope: Scope<'_>,
) -> Option<FieldError> {
    let negative =
        |t: Duration| FieldError::invalid_value(format!("{t} should be >= 0"), "timeout");
    let (most, source) = match (
        timeouts.and_then(|t| t.tasks),
        timeouts.and_then(|t| t.pipeline),
    ) {
        (Some(tasks), _) => (tasks, "pipeline tasks duration"),
        (None, Some(whole)) => (whole, "pipeline duration"),
        (None, None) => (scope.config.defaults.timeout(), "default pipeline duration"),
    };
    if let Some(t) = [timeout, most].into_iter().find(|t| t.is_negative()) {
        return Some(negative(t));
    }
    (!most.is_zero() && timeout > most).then(|| {
        FieldError::invalid_value(format!("{timeout} should be <= {source} {most}"), "timeout")
    })
}

fn wish(status: &str) -> Option<FieldError> {
    let wishes = [
        PipelineRunSpec::CANCELLED,
        PipelineRunSpec::CANCELLED_RUN_FINALLY,
        PipelineRunSpec::STOPPED_RUN_FINALLY,
        PipelineRunSpec::PENDING,
    ];
    if status.is_empty() || wishes.contains(&status) {
        return None;
    }
    let [a, b, c, d] = wishes;
    Some(FieldError::invalid_value(
        format!("{status} should be {a}, {b}, {c} or {d}"),
        "status",
    ))
}

fn workspaces(spec: &PipelineRunSpec) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (index, one) in spec.workspaces.iter().enumerate() {
        let mut found = FieldErrors::from(workspace::binding(one));
        if let Some(before) = spec.workspaces[..index]
            .iter()
            .rposition(|w| w.name == one.name)
        {
            let name = quote(&one.name);
            let message = format!(
                "workspace {name} provided by pipelinerun more than once, at index {before} and {index}"
            );
            found.add(FieldError::generic(message, ["name"]));
        }
        errors.add(found.via_field_index("workspaces", index));
    }
    errors
}
