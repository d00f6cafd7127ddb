//! Results of tasks and steps (T-059 to T-062).

use super::{
    param,
    variable::{self, Names, Prefix},
};
use crate::{
    admission::{FieldError, FieldErrors, field_error::quote},
    names_of_objects::is_dns_label,
    v1::{ParamType, ParamValue, StepResult, TaskResult},
};

const NAME_FORMAT: &str = "^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$";
const NAME_RULE: &str = "must consist of alphanumeric characters, '-', '_', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my-name',  or 'my_name', regex used for validation is '";

fn is_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    edge(text.as_bytes().first()) && edge(text.as_bytes().last()) && text.bytes().all(inner)
}

fn bad_name(name: &str) -> Option<FieldError> {
    let details = || format!("Name {NAME_RULE}{NAME_FORMAT}')");
    (!is_name(name)).then(|| FieldError::invalid_key_name(name, "name").details(details()))
}

pub(super) fn task_results(results: &[TaskResult]) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (index, result) in results.iter().enumerate() {
        errors.add(task_result(result).via_index(index));
    }
    errors
}

fn task_result(result: &TaskResult) -> FieldErrors {
    if let Some(error) = bad_name(&result.name) {
        return error.into();
    }
    let mut errors = FieldErrors::new();
    let properties = format!("{}.properties", result.name);
    match &result.type_ {
        Some(ParamType::Object) if result.properties.is_empty() => {
            errors.add(FieldError::missing(&properties))
        }
        Some(ParamType::Object) => {
            if let Some(keys) = param::invalid_properties(&result.properties) {
                let text = format!(
                    "The value type specified for these keys {keys} is invalid, the type must be string"
                );
                errors.add(FieldError::generic(text, [properties.as_str()]));
            }
        }
        Some(ParamType::Other(type_)) => {
            errors.add(FieldError::invalid_value(type_, "type").details("type must be string"));
        }
        _ => {}
    }
    errors.add(value(result));
    errors
}

/// T-061
fn value(result: &TaskResult) -> FieldErrors {
    let at = format!("{}.value", result.name);
    let text = match &result.value {
        None => return FieldErrors::new(),
        Some(ParamValue::String(text)) if text.is_empty() => return FieldErrors::new(),
        Some(ParamValue::String(text)) => text,
        Some(other) => {
            let message = format!("Invalid Type. Wanted string but got: \"{}\"", other.type_());
            return FieldError::generic(message, [format!("{}.type", result.name).as_str()]).into();
        }
    };
    let Some((step, name)) = step_result(text) else {
        let message = format!(
            "Could not extract step name and result name. Expected value to look like \
             $(steps.<stepName>.results.<resultName>) but got \"{text}\""
        );
        return FieldError::generic(message, [at.as_str()]).into();
    };
    let mut errors = FieldErrors::new();
    if !is_dns_label(step) {
        let message = format!("invalid extracted step name {}", quote(step));
        errors.add(FieldError::generic(message, [at.as_str()]).details(
            "stepName in $(steps.<stepName>.results.<resultName>) must be a valid DNS Label, For more info refer to https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#names",
        ));
    }
    if !is_name(name) {
        let details = format!(
            "resultName in $(steps.<stepName>.results.<resultName>) {NAME_RULE}{NAME_FORMAT}')"
        );
        let message = format!("invalid extracted result name {}", quote(name));
        errors.add(FieldError::generic(message, [at.as_str()]).details(details));
    }
    errors
}

/// Step and result of the first `$(steps.S.results.R)` on one line of the text.
fn step_result(text: &str) -> Option<(&str, &str)> {
    text.lines().find_map(|line| {
        line.match_indices("$(steps.").find_map(|(at, open)| {
            let (step, rest) = line[at + open.len()..].split_once(".results.")?;
            let (result, _) = rest.split_once(')')?;
            Some((step, result))
        })
    })
}

/// Whether the text refers to a step's result, as loosely as upstream looks (T-038).
pub(super) fn mentions_step_result(text: &str) -> bool {
    step_result(text).is_some()
}

pub(super) fn step_results(results: &[StepResult]) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (index, result) in results.iter().enumerate() {
        errors.add(FieldErrors::from(one_step_result(result)).via_index(index));
    }
    errors
}

fn one_step_result(result: &StepResult) -> Option<FieldError> {
    if let Some(error) = bad_name(&result.name) {
        return Some(error);
    }
    let properties = format!("{}.properties", result.name);
    match &result.type_ {
        Some(ParamType::Object) if result.properties.is_empty() => {
            Some(FieldError::missing(&properties))
        }
        Some(ParamType::Object) => param::invalid_properties(&result.properties).map(|keys| {
            let text = format!(
                "the value type specified for these keys {keys} is invalid, the type must be string"
            );
            FieldError::generic(text, [properties.as_str()])
        }),
        Some(ParamType::Other(type_)) => {
            Some(FieldError::invalid_value(type_, "type").details(format!("invalid type {type_}")))
        }
        _ => None,
    }
}

/// A script may only mention the step results that are declared (T-045).
pub(super) fn script_mentions(results: &[StepResult], script: &str) -> FieldErrors {
    let names: Names = results.iter().map(|r| r.name.clone()).collect();
    FieldErrors::from(variable::unknown(
        script,
        Prefix::STEP_RESULTS,
        &names,
        false,
    ))
    .via("script")
}

/// As [`script_mentions`], under either spelling (T-084).
pub(super) fn action_script_mentions(results: &[StepResult], script: &str) -> FieldErrors {
    let names: Names = results.iter().map(|r| r.name.clone()).collect();
    let mut errors = script_mentions(results, script);
    errors.add(
        FieldErrors::from(variable::unknown(script, Prefix::RESULTS, &names, false)).via("script"),
    );
    errors
}
