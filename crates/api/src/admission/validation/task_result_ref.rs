//! References to results of pipeline tasks, `tasks.<task>.results.<result>…`.

use super::variable::substitutions;
use crate::v1::{Param, ParamValue, PipelineTask, Sidecar, Step, WhenExpression};
use k8s_openapi::api::core::v1::EnvVar;

/// A reference that is well formed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TaskResultRef<'a> {
    pub task: &'a str,
    /// Without its index.
    pub result: &'a str,
}

/// Whether it looks like one, well formed or not.
pub(super) fn looks_like(expression: &str) -> bool {
    let parts: Vec<_> = expression.splitn(4, '.').collect();
    parts.len() == 4 && matches!(parts[0], "tasks" | "finally") && parts[2] == "results"
}

pub(super) fn any_looks_like(expressions: &[&str]) -> bool {
    expressions.iter().any(|e| looks_like(e))
}

/// The reference that it is.
pub(super) fn parse(expression: &str) -> Option<TaskResultRef<'_>> {
    if !looks_like(expression) {
        return None;
    }
    let parts: Vec<_> = expression.split('.').collect();
    match parts.as_slice() {
        [_, task, _, result] => Some(TaskResultRef {
            task,
            result: result.split('[').next().unwrap_or_default(),
        }),
        [_, task, _, result, _] => Some(TaskResultRef { task, result }),
        _ => None,
    }
}

/// Every well-formed reference among `expressions`.
pub(super) fn all<'a>(expressions: &[&'a str]) -> Vec<TaskResultRef<'a>> {
    expressions.iter().filter_map(|e| parse(e)).collect()
}

/// What is substituted in a value.
pub(super) fn in_value(value: &ParamValue) -> Vec<&str> {
    value.texts().into_iter().flat_map(substitutions).collect()
}

/// What is substituted in a condition.
pub(super) fn in_when(when: &WhenExpression) -> Vec<&str> {
    let texts = [&when.input, &when.cel].into_iter().chain(&when.values);
    texts.flat_map(|text| substitutions(text)).collect()
}

/// Every param of the task: its own, and those of its matrix.
pub(super) fn all_params(task: &PipelineTask) -> impl Iterator<Item = &Param> {
    let matrix = task.matrix.iter().flat_map(|m| {
        m.params
            .iter()
            .chain(m.include.iter().flat_map(|i| &i.params))
    });
    task.params.iter().chain(matrix)
}

/// Every reference to a result that the task makes, and so what it depends on.
pub(super) fn of_task(task: &PipelineTask) -> Vec<TaskResultRef<'_>> {
    let mut expressions: Vec<&str> = all_params(task).flat_map(|p| in_value(&p.value)).collect();
    expressions.extend(task.when.iter().flat_map(in_when));
    if let Some(inline) = &task.task_spec {
        expressions.extend(inline.task.steps.iter().flat_map(in_step));
        expressions.extend(inline.task.sidecars.iter().flat_map(in_sidecar));
    }
    all(&expressions)
}

fn in_step(step: &Step) -> Vec<&str> {
    let texts = [
        &step.name,
        &step.image,
        &step.image_pull_policy,
        &step.script,
        &step.working_dir,
    ];
    in_container(
        texts.into_iter().chain(&step.command).chain(&step.args),
        &step.env,
    )
}

fn in_sidecar(of: &Sidecar) -> Vec<&str> {
    let texts = [
        &of.name,
        &of.image,
        &of.image_pull_policy,
        &of.script,
        &of.working_dir,
    ];
    in_container(
        texts.into_iter().chain(&of.command).chain(&of.args),
        &of.env,
    )
}

fn in_container<'a>(texts: impl Iterator<Item = &'a String>, env: &'a [EnvVar]) -> Vec<&'a str> {
    let mut found: Vec<&str> = texts.flat_map(|text| substitutions(text)).collect();
    for one in env {
        found.extend(one.value.as_deref().into_iter().flat_map(substitutions));
        let Some(from) = &one.value_from else {
            continue;
        };
        let secret = from.secret_key_ref.as_ref().map(|r| [&r.key, &r.name]);
        let config = from.config_map_key_ref.as_ref().map(|r| [&r.key, &r.name]);
        found.extend(
            [secret, config]
                .into_iter()
                .flatten()
                .flatten()
                .flat_map(|text| substitutions(text)),
        );
    }
    found
}
