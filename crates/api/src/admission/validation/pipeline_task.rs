//! Tasks of a pipeline, each by itself.

use super::{pipeline, reference, scope::Scope, task, variable::Names};
use crate::{
    admission::{FieldError, FieldErrors, field_error::quote},
    names_of_objects::is_dns_label,
    v1::PipelineTask,
};

const NAME_DETAILS: &str = "Pipeline Task name must be a valid DNS Label.For more info refer to https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#names";

/// Tasks and `finally` tasks share one set of names.
pub(super) fn all(
    tasks: &[PipelineTask],
    field: &str,
    names: &mut Names,
    scope: Scope<'_>,
) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (index, task) in tasks.iter().enumerate() {
        let mut found = FieldErrors::new();
        if !is_dns_label(&task.name) {
            let message = format!("invalid value {}", quote(&task.name));
            found.add(FieldError::generic(message, ["name"]).details(NAME_DETAILS));
        }
        if !names.insert(task.name.clone()) {
            found.add(FieldError::multiple_one_of(&["name"]));
        }
        found.add(one(task, scope));
        errors.add(found.via_field_index(field, index));
    }
    errors
}

fn one(task: &PipelineTask, scope: Scope<'_>) -> FieldErrors {
    let mut errors = ref_or_spec(task, scope);
    if task.task_spec.is_some() {
        errors.add(scope.inline_disabled("pipeline", "taskSpec"));
    }
    if task.pipeline_spec.is_some() {
        errors.add(scope.inline_disabled("pipeline", "pipelineSpec"));
    }
    if let Some(inline) = task
        .task_spec
        .as_ref()
        .filter(|inline| !inline.task.steps.is_empty())
    {
        for (set, path) in [
            (&inline.api_version, "taskSpec.apiVersion"),
            (&inline.kind, "taskSpec.kind"),
        ] {
            if !set.is_empty() {
                errors.add(FieldError::generic(
                    format!("{path} cannot be specified when using taskSpec.steps"),
                    [path],
                ));
            }
        }
    }
    errors.add(on_error(task, scope));
    let custom =
        |kind: &str, api_version: &str| !matches!(kind, "" | "Task") || !api_version.is_empty();
    let is_custom = task
        .task_ref
        .as_ref()
        .is_some_and(|r| custom(&r.kind, &r.api_version))
        || task
            .task_spec
            .as_ref()
            .is_some_and(|s| custom(&s.kind, &s.api_version));
    errors.add(if is_custom {
        custom_task(task)
    } else {
        plain_task(task, scope)
    });
    errors
}

fn ref_or_spec(task: &PipelineTask, scope: Scope<'_>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let set: Vec<&str> = [
        (task.task_ref.is_some(), "taskRef"),
        (task.task_spec.is_some(), "taskSpec"),
        (task.pipeline_ref.is_some(), "pipelineRef"),
        (task.pipeline_spec.is_some(), "pipelineSpec"),
    ]
    .into_iter()
    .filter_map(|(set, name)| set.then_some(name))
    .collect();
    for name in set.iter().filter(|name| name.starts_with("pipeline")) {
        errors.add(scope.needs_alpha(name));
    }
    let alpha = scope.config.feature_flags.enable_api_fields == "alpha";
    match set.len() {
        0 if alpha => {
            errors.add(FieldError::missing_one_of(&[
                "taskRef",
                "taskSpec",
                "pipelineRef",
                "pipelineSpec",
            ]));
        }
        0 => errors.add(FieldError::missing_one_of(&["taskRef", "taskSpec"])),
        1 => {}
        _ => errors.add(FieldError::generic(
            "expected exactly one, got multiple",
            set,
        )),
    }
    errors
}

fn on_error(task: &PipelineTask, scope: Scope<'_>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if task.on_error.is_empty() || task.on_error.starts_with("$(params") {
        return errors;
    }
    errors.add(scope.needs_beta("OnError"));
    if task.on_error != "continue" && task.on_error != "stopAndFail" {
        let details = "PipelineTask OnError must be either \"continue\" or \"stopAndFail\"";
        errors.add(FieldError::invalid_value(&task.on_error, "OnError").details(details));
    }
    if task.on_error == "continue" && task.retries > 0 {
        let message =
            "PipelineTask OnError cannot be set to \"continue\" when Retries is greater than 0";
        errors.add(FieldError::generic(message, []));
    }
    errors
}

fn plain_task(task: &PipelineTask, scope: Scope<'_>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if let Some(inline) = &task.task_spec {
        errors.add(task::validate(&inline.task, scope).via("taskSpec"));
    }
    if let Some(of) = &task.task_ref {
        errors.add(reference::validate(&of.name, &of.resolver, &of.params, scope).via("taskRef"));
    }
    if scope.beta {
        return errors;
    }
    if let Some(of) = &task.pipeline_ref {
        errors
            .add(reference::validate(&of.name, &of.resolver, &of.params, scope).via("pipelineRef"));
    }
    if let Some(inline) = &task.pipeline_spec {
        errors.add(pipeline::validate(inline, scope).via("pipelineSpec"));
    }
    errors
}

fn custom_task(task: &PipelineTask) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let reference = task
        .task_ref
        .as_ref()
        .map(|r| ("ref", "taskRef", &r.kind, &r.api_version));
    let inline = task
        .task_spec
        .as_ref()
        .map(|s| ("spec", "taskSpec", &s.kind, &s.api_version));
    for (what, field, kind, api_version) in [reference, inline].into_iter().flatten() {
        let at = format!("{field}.apiVersion");
        if kind.is_empty() {
            let message = format!("custom task {what} must specify kind");
            errors.add(FieldError::invalid_value(message, &format!("{field}.kind")));
        }
        if api_version.is_empty() {
            errors.add(FieldError::invalid_value(
                format!("custom task {what} must specify apiVersion"),
                &at,
            ));
        } else if !is_group_version(api_version) {
            let version = quote(api_version);
            let message = format!(
                "invalid apiVersion format {version}, must be in the format \"group/version\""
            );
            errors.add(FieldError::invalid_value(message, &at));
        }
    }
    errors
}

fn is_group_version(text: &str) -> bool {
    text.split_once('/').is_some_and(|(group, version)| {
        !group.is_empty() && !version.is_empty() && !version.contains('/')
    })
}
