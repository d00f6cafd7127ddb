//! Params of a pipeline: how they are declared and where its tasks use them.

use super::{
    matrix, param,
    pipeline::Known,
    scope::Scope,
    task_result_ref,
    variable::{self, Names, Prefix},
};
use crate::{
    admission::FieldErrors,
    v1::{Param, ParamSpec, ParamValue, PipelineTask, WhenExpression},
};

/// Declared params, and params passed to each task once.
pub(super) fn declared(
    tasks: &[PipelineTask],
    params: &[ParamSpec],
    scope: Scope<'_>,
) -> FieldErrors {
    let mut errors = param::types(params).via("params");
    errors.add(param::declared_once(params));
    errors.add(param::enums(params, scope).via("params"));
    errors.add(passed_once(tasks));
    errors
}

fn passed_once(tasks: &[PipelineTask]) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (index, task) in tasks.iter().enumerate() {
        errors.add(matrix::once(&task.params).via("params").via_index(index));
    }
    errors
}

/// What tasks refer to is declared, and of the right type.
pub(super) fn usage(tasks: &[PipelineTask], params: &[ParamSpec]) -> FieldErrors {
    let known = Known::of(params);
    let mut errors = FieldErrors::new();
    for (index, task) in tasks.iter().enumerate() {
        errors.add(task_params(&task.params, &known).via_index(index));
        if let Some(of) = task.matrix.as_ref().filter(|_| matrix::is_matrixed(task)) {
            for matrix::Text {
                text,
                path,
                is_item,
            } in matrix::texts(of)
            {
                let found = if is_item {
                    known.in_item(text)
                } else {
                    known.in_string(text)
                };
                errors.add(found.via(&path).via_index(index));
            }
        }
        for (at, when) in task.when.iter().enumerate() {
            errors.add(
                condition(when, &known)
                    .via_field_index("when", at)
                    .via_index(index),
            );
        }
    }
    errors.add(passed_once(tasks));
    errors
}

fn task_params(params: &[Param], known: &Known) -> FieldErrors {
    let mut errors = matrix::once(params).via("params");
    for param in params {
        let name = &param.name;
        match &param.value {
            ParamValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    errors.add(
                        known
                            .in_item(item)
                            .via_field_index("value", index)
                            .via_field_key("params", name),
                    );
                }
            }
            ParamValue::Object(pairs) => {
                for (key, text) in pairs {
                    errors.add(
                        known
                            .in_string(text)
                            .via_field_key("properties", key)
                            .via_field_key("params", name),
                    );
                }
            }
            ParamValue::String(text) if variable::is_whole_star(text, Prefix::PARAMS) => {
                let error = variable::unknown(text, Prefix::PARAMS, &known.all, false);
                errors.add(FieldErrors::from(error).via_field_key("params", name));
            }
            ParamValue::String(text) => {
                errors.add(known.in_string(text).via_field_key("params", name))
            }
        }
    }
    errors
}

fn condition(when: &WhenExpression, known: &Known) -> FieldErrors {
    let mut errors = known.in_string(&when.input).via("input");
    for value in &when.values {
        let array = value.strip_prefix("$(params.").unwrap_or(value);
        let array = array.strip_suffix("[*])").unwrap_or(array);
        let found = if known.arrays.contains(array) {
            known.in_item(value)
        } else {
            known.in_string(value)
        };
        errors.add(found.via("values"));
    }
    errors
}

/// Context variables in params; upstream looks only at the last task's.
pub(super) fn context(tasks: &[PipelineTask]) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let Some(last) = tasks.last() else {
        return errors;
    };
    for (prefix, known) in [
        ("context.pipelineRun", &["name", "namespace", "uid"][..]),
        ("context.pipeline", &["name"][..]),
        ("context.pipelineTask", &["retries"][..]),
    ] {
        let known: Names = known.iter().map(|n| (*n).to_owned()).collect();
        for text in task_result_ref::all_params(last).flat_map(|p| p.value.texts()) {
            let error = variable::unknown(text, Prefix::new(prefix), &known, false);
            errors.add(FieldErrors::from(error).via("value"));
        }
    }
    errors
}
