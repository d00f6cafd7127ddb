//! Matrices: how many combinations, of which params, and who uses their results.

use std::collections::BTreeMap;

use super::{param, scope::Scope, task_result_ref};
use crate::{
    admission::{FieldError, FieldErrors, field_error::quote},
    v1::{Matrix, Param, ParamType, ParamValue, PipelineTask},
};

/// Whether the task runs more than once by design.
pub(super) fn is_matrixed(task: &PipelineTask) -> bool {
    task.matrix
        .as_ref()
        .is_some_and(|m| !m.params.is_empty() || !m.include.is_empty())
}

pub(super) fn validate(tasks: &[PipelineTask], scope: Scope<'_>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (index, task) in tasks.iter().enumerate() {
        errors.add(one(task, scope).via_index(index));
    }
    errors.add(consumers(tasks));
    errors
}

fn one(task: &PipelineTask, scope: Scope<'_>) -> FieldErrors {
    let Some(matrix) = &task.matrix else {
        return FieldErrors::new();
    };
    let mut errors = FieldErrors::new();
    if is_matrixed(task) {
        errors.add(scope.needs_beta("matrix"));
        let (count, most) = (
            combinations(matrix),
            scope.config.defaults.max_matrix_combinations_count,
        );
        if count > most {
            errors.add(FieldError::generic(
                format!("expected 0 <= {count} <= {most}"),
                ["matrix"],
            ));
        }
        for (index, include) in matrix.include.iter().enumerate() {
            errors.add(once(&include.params).via(&format!("matrix.include[{index}].params")));
        }
        errors.add(once(&matrix.params).via("matrix.params"));
    }
    let mine = |name: &str| {
        matrix
            .params
            .iter()
            .chain(matrix.include.iter().flat_map(|i| &i.params))
            .any(|p| p.name == name)
    };
    for param in task.params.iter().filter(|p| mine(&p.name)) {
        let (matrix, params) = (
            format!("matrix[{}]", param.name),
            format!("params[{}]", param.name),
        );
        errors.add(FieldError::multiple_one_of(&[&matrix, &params]));
    }
    errors
}

/// The finding of every param that has been there before.
pub(super) fn once(params: &[Param]) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (index, param) in params.iter().enumerate() {
        if params[..index]
            .iter()
            .any(|before| before.name == param.name)
        {
            let message = format!(
                "parameter names must be unique, the parameter \"{}\" is also defined at",
                param.name
            );
            errors.add(FieldError::generic(
                message,
                [format!("[{index}].name").as_str()],
            ));
        }
    }
    errors
}

fn combinations(matrix: &Matrix) -> i64 {
    let items = |param: &Param| param.value.as_array().map_or(0, <[String]>::len);
    let counted = |count: i64, param: &Param| match i64::try_from(items(param)) {
        Ok(0) | Err(_) => count,
        Ok(items) => count.saturating_mul(items),
    };
    let generated = if matrix.params.is_empty() {
        0
    } else {
        matrix.params.iter().fold(1, counted)
    };
    generated.saturating_add(included(matrix))
}

/// Combinations that `include` adds to those of `params`.
fn included(matrix: &Matrix) -> i64 {
    if matrix.params.is_empty() {
        return i64::try_from(matrix.include.len()).unwrap_or(i64::MAX);
    }
    let mut count = 0;
    for include in &matrix.include {
        for param in &include.params {
            let Some(known) = matrix.params.iter().rfind(|p| p.name == param.name) else {
                continue;
            };
            let value = param.value.as_str().unwrap_or_default();
            if known
                .value
                .as_array()
                .is_some_and(|items| items.iter().any(|item| item == value))
            {
                break;
            }
            count += 1;
        }
    }
    count
}

/// Results of a matrixed task are text, and are used all together or not at all.
fn consumers(tasks: &[PipelineTask]) -> FieldErrors {
    let by_name: BTreeMap<&str, &PipelineTask> =
        tasks.iter().map(|t| (t.name.as_str(), t)).collect();
    let mut last = Vec::new();
    for value in tasks.iter().flat_map(|t| &t.params).map(|p| &p.value) {
        let expressions = task_result_ref::in_value(value);
        if !task_result_ref::any_looks_like(&expressions) {
            continue;
        }
        let of_matrixed = |e: &&str| {
            task_result_ref::looks_like(e)
                && e.split('.')
                    .nth(1)
                    .and_then(|name| by_name.get(name))
                    .is_some_and(|task| is_matrixed(task))
        };
        let consumed: Vec<&str> = expressions.into_iter().filter(of_matrixed).collect();
        let mut errors = FieldErrors::new();
        for expression in consumed.iter().filter(|e| !e.ends_with("[*]")) {
            let message = format!(
                "A matrixed pipelineTask can only be consumed in aggregate using [*] notation, but is currently set to \
                 {expression}"
            );
            errors.add(FieldError::generic(message, []));
        }
        if !errors.is_empty() {
            return errors;
        }
        // Upstream looks on only at what the last such param refers to.
        last = task_result_ref::all(&consumed);
    }
    let mut errors = FieldErrors::new();
    for reference in last {
        let Some(task) = by_name.get(reference.task) else {
            continue;
        };
        let described = match &task.task_ref {
            Some(of) => by_name
                .get(of.name.as_str())
                .and_then(|t| t.task_spec.as_ref()),
            None => task.task_spec.as_ref(),
        };
        let results = described.into_iter().flat_map(|spec| &spec.task.results);
        for result in
            results.filter(|r| r.name == reference.result && r.type_ != Some(ParamType::String))
        {
            let message = format!(
                "Matrixed PipelineTasks emitting results must have an underlying type string, but result {} has type {} \
                 in pipelineTask",
                result.name,
                param::type_of(&result.type_)
            );
            errors.add(FieldError::invalid_value(message, ""));
        }
    }
    errors
}

/// A text of a matrix.
pub(super) struct Text<'a> {
    pub text: &'a str,
    /// The path that upstream gives it.
    pub path: String,
    /// Whether an array may spread in it.
    pub is_item: bool,
}

/// Every text of a matrix.
pub(super) fn texts(matrix: &Matrix) -> Vec<Text<'_>> {
    let mut texts = Vec::new();
    for include in &matrix.include {
        for (index, param) in include.params.iter().enumerate() {
            let text = param.value.as_str().unwrap_or_default();
            texts.push(Text {
                text,
                path: format!("matrix.include.params[{index}]"),
                is_item: false,
            });
        }
    }
    for param in &matrix.params {
        if let ParamValue::Array(items) = &param.value {
            for (index, item) in items.iter().enumerate() {
                let path = format!("matrix.params[{}].value[{index}]", param.name);
                texts.push(Text {
                    text: item,
                    path,
                    is_item: true,
                });
            }
        }
    }
    texts
}

/// The finding that a reference begins with nothing known.
pub(super) fn bad_prefix(expression: &str, path: &str) -> Option<FieldError> {
    let prefix = expression.split('.').next().unwrap_or_default();
    if [
        "params",
        "tasks",
        "finally",
        "context",
        "workspaces",
        "results",
    ]
    .contains(&prefix)
    {
        return None;
    }
    let message = format!(
        "invalid variable reference {}, must start with a valid prefix: params, tasks, finally, context, workspaces, or \
         results; if you meant a shell variable, use ${{VAR}} instead",
        quote(&format!("$({expression})"))
    );
    Some(FieldError::invalid_value(message, path))
}
