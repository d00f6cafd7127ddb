//! Pipelines as a whole.

use super::{
    artifact, graph, matrix, param, pipeline_params, pipeline_task,
    scope::Scope,
    task,
    task_result_ref::{self, TaskResultRef},
    variable::{self, Names, Prefix},
    when,
};
use crate::{
    admission::{FieldError, FieldErrors, field_error::quote},
    v1::{ParamSpec, PipelineResult, PipelineSpec, PipelineTask},
};

pub(super) fn pipeline(spec: &PipelineSpec, scope: Scope<'_>) -> FieldErrors {
    let mut errors = validate(spec, scope);
    for (field, tasks) in lists(spec) {
        for (index, one) in tasks.iter().enumerate() {
            if let Some(inline) = &one.task_spec {
                let params: Vec<ParamSpec> = inline
                    .task
                    .params
                    .iter()
                    .chain(&spec.params)
                    .cloned()
                    .collect();
                let steps = task::merged_steps(&inline.task);
                errors.add(
                    task::declared_params(&steps, &params, scope).via_field_index(field, index),
                );
            }
        }
        errors.add(pipeline_params::usage(tasks, &spec.params).via(field));
        let declared: Names = spec.workspaces.iter().map(|w| w.name.clone()).collect();
        for (index, one) in tasks.iter().enumerate() {
            errors.add(workspaces(one, &declared).via_field_index(field, index));
        }
    }
    errors.via("spec")
}

fn lists(spec: &PipelineSpec) -> [(&'static str, &[PipelineTask]); 2] {
    [("tasks", &spec.tasks), ("finally", &spec.finally)]
}

/// What holds for a pipeline's spec wherever it stands.
pub(super) fn validate(spec: &PipelineSpec, scope: Scope<'_>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for task_ref in spec
        .tasks
        .iter()
        .chain(&spec.finally)
        .filter_map(|t| t.task_ref.as_ref())
    {
        if !task_ref.resolver.is_empty() {
            errors.add(scope.needs_beta("taskref.resolver"));
        }
        if !task_ref.params.is_empty() {
            errors.add(scope.needs_beta("taskref.params"));
        }
    }
    if *spec == PipelineSpec::default() {
        let paths = ["description", "params", "resources", "tasks", "workspaces"];
        errors.add(FieldError::generic(
            "expected at least one, got none",
            paths,
        ));
    }
    let mut names = Names::new();
    for (field, tasks) in lists(spec) {
        errors.add(pipeline_task::all(tasks, field, &mut names, scope));
    }
    errors.add(graph::validate(&spec.tasks));
    for (field, tasks) in lists(spec) {
        errors.add(pipeline_params::declared(tasks, &spec.params, scope).via(field));
        errors.add(pipeline_params::context(tasks).via(field));
    }
    errors.add(execution_status(spec));
    errors.add(workspace_declarations(spec));
    errors.add(results(spec));
    errors.add(results_of_pipelines(spec));
    if spec.tasks.is_empty() && !spec.finally.is_empty() {
        let message = format!(
            "spec.tasks is empty but spec.finally has {} tasks",
            spec.finally.len()
        );
        errors.add(FieldError::invalid_value(message, "finally"));
    }
    errors.add(finally(spec));
    for (field, tasks) in lists(spec) {
        for (index, one) in tasks.iter().enumerate() {
            errors.add(when::validate(&one.when, scope).via_field_index(field, index));
        }
    }
    errors.add(artifacts(spec, scope));
    for (field, tasks) in lists(spec) {
        errors.add(matrix::validate(tasks, scope).via(field));
        errors.add(prefixes(tasks).via(field));
    }
    errors
}

/// Workspaces that a task takes must exist in the pipeline.
pub(super) fn workspaces(task: &PipelineTask, declared: &Names) -> FieldErrors {
    let (mut bound, mut errors) = (Names::new(), FieldErrors::new());
    for (index, one) in task.workspaces.iter().enumerate() {
        let mut say = |error: FieldError| {
            errors.add(FieldErrors::from(error).via_field_index("workspaces", index))
        };
        if !bound.insert(one.name.clone()) {
            say(FieldError::generic(
                format!("workspace name {} must be unique", quote(&one.name)),
                [""],
            ));
        }
        let wanted = if one.workspace.is_empty() {
            &one.name
        } else {
            &one.workspace
        };
        if !declared.contains(wanted) {
            let (task, wanted) = (quote(&task.name), quote(wanted));
            let message = format!(
                "pipeline task {task} expects workspace with name {wanted} but none exists in pipeline spec"
            );
            say(FieldError::invalid_value(message, ""));
        }
    }
    errors
}

fn workspace_declarations(spec: &PipelineSpec) -> FieldErrors {
    let (mut names, mut errors) = (Names::new(), FieldErrors::new());
    for (index, one) in spec.workspaces.iter().enumerate() {
        let mut say = |message: String| {
            errors.add(
                FieldErrors::from(FieldError::invalid_value(message, ""))
                    .via_field_index("workspaces", index),
            );
        };
        if one.name.is_empty() {
            say(format!("workspace {index} has empty name"));
        }
        if !names.insert(one.name.clone()) {
            say(format!(
                "workspace with name {} appears more than once",
                quote(&one.name)
            ));
        }
    }
    errors
}

/// The task whose status or reason the expression asks for.
fn status_of(expression: &str) -> Option<&str> {
    let name = expression.strip_prefix("tasks.")?;
    name.strip_suffix(".status")
        .or_else(|| name.strip_suffix(".reason"))
        .or_else(|| {
            // `tasks.status`, the status of all tasks together.
            (expression.ends_with(".status") || expression.ends_with(".reason")).then_some(name)
        })
}

/// Only `finally` tasks may ask how tasks ended, and only tasks that exist.
fn execution_status(spec: &PipelineSpec) -> FieldErrors {
    let tasks: Names = spec.tasks.iter().map(|t| t.name.clone()).collect();
    let mut errors = FieldErrors::new();
    let in_tasks = |expressions: &[&str], path: &str| {
        let asks = !task_result_ref::any_looks_like(expressions)
            && expressions.iter().any(|e| status_of(e).is_some());
        let message = "pipeline tasks can not refer to execution status of any other pipeline task or aggregate status of tasks";
        FieldErrors::from(asks.then(|| FieldError::invalid_value(message, path)))
    };
    errors.add(in_params_and_when(&spec.tasks, in_tasks).via("tasks"));
    let in_finally = |expressions: &[&str], path: &str| {
        let mut errors = FieldErrors::new();
        if task_result_ref::any_looks_like(expressions) {
            return errors;
        }
        for task in expressions
            .iter()
            .filter(|e| **e != "tasks.status")
            .filter_map(|e| status_of(e))
        {
            if !tasks.contains(task) {
                let message = format!("pipeline task {task} is not defined in the pipeline");
                errors.add(FieldError::invalid_value(message, path));
            }
        }
        errors
    };
    errors.add(in_params_and_when(&spec.finally, in_finally).via("finally"));
    errors
}

/// Judges what is substituted in each param and each condition.
fn in_params_and_when(
    tasks: &[PipelineTask],
    judge: impl Fn(&[&str], &str) -> FieldErrors,
) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (index, task) in tasks.iter().enumerate() {
        for param in &task.params {
            let found = judge(&task_result_ref::in_value(&param.value), "value");
            errors.add(found.via_field_key("params", &param.name).via_index(index));
        }
        for (at, when) in task.when.iter().enumerate() {
            let found = judge(&task_result_ref::in_when(when), "");
            errors.add(found.via_field_index("when", at).via_index(index));
        }
    }
    errors
}

fn results(spec: &PipelineSpec) -> FieldErrors {
    let names = |tasks: &[PipelineTask]| tasks.iter().map(|t| t.name.clone()).collect::<Names>();
    let (tasks, finally) = (names(&spec.tasks), names(&spec.finally));
    let mut errors = FieldErrors::new();
    for (index, result) in spec.results.iter().enumerate() {
        let mut say = |message: String| {
            let error = FieldErrors::from(FieldError::invalid_value(message, "value"));
            errors.add(error.via_field_index("results", index));
        };
        let expressions = task_result_ref::in_value(&result.value);
        if expressions.is_empty() {
            say("expected pipeline results to be task result expressions but no expressions were found".to_owned());
        }
        if !task_result_ref::any_looks_like(&expressions) {
            say("expected pipeline results to be task result expressions but an invalid expressions was found".to_owned());
        }
        let looking: Vec<&str> = expressions
            .into_iter()
            .filter(|e| task_result_ref::looks_like(e))
            .collect();
        let parsed = task_result_ref::all(&looking);
        if parsed.len() != looking.len() {
            // Upstream prints where these are in its memory; we print what they are.
            let shown: Vec<_> = parsed
                .iter()
                .map(|r| format!("{}.{}", r.task, r.result))
                .collect();
            say(format!(
                "expected all of the expressions [{}] to be result expressions but only [{}] were",
                looking.join(" "),
                shown.join(" ")
            ));
        }
        if !refers_to_known_tasks(result, &tasks, &finally) {
            say("referencing a nonexistent task".to_owned());
        }
    }
    errors
}

/// Upstream takes the text apart at every dollar sign, and wants each part to be a reference.
fn refers_to_known_tasks(result: &PipelineResult, tasks: &Names, finally: &Names) -> bool {
    let text = result.value.as_str().unwrap_or_default();
    text.split('$').filter(|part| !part.is_empty()).all(|part| {
        let inner = part
            .strip_prefix('(')
            .map_or_else(|| format!("${part}"), str::to_owned);
        let inner = inner.strip_suffix(')').unwrap_or(&inner);
        let known =
            |names: &Names| task_result_ref::parse(inner).is_some_and(|r| names.contains(r.task));
        // It begins with one of the two, or is no reference.
        known(if inner.starts_with("finally") {
            finally
        } else {
            tasks
        })
    })
}

/// Pipelines run as tasks do not pass results on.
fn results_of_pipelines(spec: &PipelineSpec) -> FieldErrors {
    let runs_pipeline =
        |task: &&PipelineTask| task.pipeline_ref.is_some() || task.pipeline_spec.is_some();
    let names: Vec<&str> = spec
        .tasks
        .iter()
        .filter(runs_pipeline)
        .map(|t| t.name.as_str())
        .collect();
    let mut errors = FieldErrors::new();
    for (field, tasks) in lists(spec) {
        for (index, task) in tasks.iter().enumerate() {
            for reference in task_result_ref::of_task(task)
                .iter()
                .filter(|r| names.contains(&r.task))
            {
                let message = format!(
                    "result reference to pipelineTask {} is not supported: referenced task uses pipelineRef or \
                     pipelineSpec and result propagation from child Pipelines is not yet implemented",
                    quote(reference.task)
                );
                errors.add(
                    FieldErrors::from(FieldError::invalid_value(message, ""))
                        .via_field_index(field, index),
                );
            }
        }
    }
    errors
}

fn finally(spec: &PipelineSpec) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (index, task) in spec
        .finally
        .iter()
        .enumerate()
        .filter(|(_, task)| !task.run_after.is_empty())
    {
        let message = format!(
            "no runAfter allowed under spec.finally, final task {} has runAfter specified",
            task.name
        );
        errors.add(
            FieldErrors::from(FieldError::invalid_value(message, ""))
                .via_field_index("finally", index),
        );
    }
    let has = |tasks: &[PipelineTask], reference: &TaskResultRef<'_>| {
        tasks.iter().any(|t| t.name == reference.task)
    };
    let judge = |expressions: &[&str], path: &str| {
        let mut errors = FieldErrors::new();
        for reference in task_result_ref::all(expressions) {
            let task = reference.task;
            let message = if has(&spec.finally, &reference) {
                format!(
                    "invalid task result reference, final task has task result reference from a final task {task}"
                )
            } else if !has(&spec.tasks, &reference) {
                format!(
                    "invalid task result reference, final task has task result reference from a task {task} which is \
                     not defined in the pipeline"
                )
            } else {
                continue;
            };
            errors.add(FieldError::invalid_value(message, path));
        }
        errors
    };
    errors.add(in_params_and_when(&spec.finally, judge).via("finally"));
    errors
}

/// Artifacts of tasks need their flag; upstream stops at the first.
fn artifacts(spec: &PipelineSpec, scope: Scope<'_>) -> FieldErrors {
    if scope.config.feature_flags.enable_artifacts {
        return FieldErrors::new();
    }
    for (field, tasks) in lists(spec) {
        let uses = |task: &PipelineTask| {
            task.params
                .iter()
                .flat_map(|p| p.value.texts())
                .any(artifact::mentions_task_usage)
        };
        if let Some(index) = tasks.iter().position(uses) {
            let error = FieldErrors::from(FieldError::generic(artifact::flag_needed(), [""]));
            return error.via("params").via_field_index(field, index);
        }
    }
    FieldErrors::new()
}

/// Every reference must begin with something that is substituted.
fn prefixes(tasks: &[PipelineTask]) -> FieldErrors {
    let judge = |expressions: &[&str], path: &str| {
        let mut errors = FieldErrors::new();
        for expression in expressions {
            errors.add(matrix::bad_prefix(expression, path));
        }
        errors
    };
    let mut errors = in_params_and_when(tasks, judge);
    for (index, task) in tasks.iter().enumerate() {
        let Some(of) = &task.matrix else { continue };
        for param in &of.params {
            let found = judge(&task_result_ref::in_value(&param.value), "value");
            errors.add(
                found
                    .via_field_key("matrix.params", &param.name)
                    .via_index(index),
            );
        }
        for (at, include) in of.include.iter().enumerate() {
            for param in &include.params {
                let found = judge(&task_result_ref::in_value(&param.value), "value");
                let found = found
                    .via_field_key("params", &param.name)
                    .via_field_index("matrix.include", at);
                errors.add(found.via_index(index));
            }
        }
    }
    errors
}

/// Params of a pipeline that may be referred to.
pub(super) struct Known {
    pub all: Names,
    pub arrays: Names,
    /// Objects with their keys.
    pub objects: Vec<(String, Names)>,
}

impl Known {
    pub(super) fn of(params: &[ParamSpec]) -> Self {
        let sorted = param::sorted(params);
        let objects = sorted
            .objects
            .iter()
            .map(|o| (o.name.clone(), o.properties.keys().cloned().collect()));
        Known {
            all: param::names(params),
            objects: objects.collect(),
            arrays: sorted.arrays,
        }
    }

    /// Text in which no array may spread.
    pub(super) fn in_string(&self, text: &str) -> FieldErrors {
        let mut errors = self.in_any(text);
        errors.add(variable::prohibited(text, Prefix::PARAMS, &self.arrays));
        errors
    }

    /// An item of an array, into which another array may spread.
    pub(super) fn in_item(&self, text: &str) -> FieldErrors {
        let mut errors = self.in_any(text);
        errors.add(variable::not_isolated(text, Prefix::PARAMS, &self.arrays));
        errors
    }

    fn in_any(&self, text: &str) -> FieldErrors {
        let mut errors =
            FieldErrors::from(variable::unknown(text, Prefix::PARAMS, &self.all, false));
        for (name, keys) in self.objects.iter().filter(|(_, keys)| !keys.is_empty()) {
            let prefix = format!("params.{name}");
            errors.add(variable::unknown(text, Prefix::new(&prefix), keys, false));
        }
        let named = self
            .objects
            .iter()
            .filter(|(_, keys)| !keys.is_empty())
            .map(|(name, _)| name.clone());
        errors.add(variable::whole_prohibited(
            text,
            Prefix::PARAMS,
            &named.collect(),
        ));
        errors
    }
}
