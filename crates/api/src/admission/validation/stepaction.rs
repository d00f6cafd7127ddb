//! StepActions (T-080 to T-085).

use std::collections::BTreeMap;

use super::{
    param, result,
    scope::Scope,
    step,
    variable::{self, Names, Prefix},
};
use crate::{
    admission::{FieldError, FieldErrors, field_error::quote},
    v1::{ParamSpec, ParamValue},
    v1beta1::StepActionSpec,
};

/// `alpha` is whether it came as v1alpha1, which also looks at defaults (T-085).
pub(super) fn validate(spec: &StepActionSpec, alpha: bool, scope: Scope<'_>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if spec.image.is_empty() {
        errors.add(FieldError::missing("Image"));
    }
    errors.add(step::script_and_command(&spec.script, &spec.command));
    errors.add(step::windows_script(&spec.script, scope));
    if variable::mentions(&spec.script, Prefix::PARAMS) {
        errors.add(FieldError::generic(
            "param substitution in scripts is not allowed.",
            ["script"],
        ));
    }
    let sorted = param::sorted(&spec.params);
    let declared = param::names(&spec.params);
    errors.add(each(spec, |text, _| {
        variable::unknown(text, Prefix::PARAMS, &declared, false)
    }));
    for object in &sorted.objects {
        let keys: Names = object.properties.keys().cloned().collect();
        let prefix = format!("params.{}", object.name);
        errors.add(each(spec, |text, _| {
            variable::unknown(text, Prefix::new(&prefix), &keys, false)
        }));
    }
    let objects: Names = sorted.objects.iter().map(|o| o.name.clone()).collect();
    errors.add(each(spec, |text, _| {
        variable::whole_prohibited(text, Prefix::PARAMS, &objects)
    }));
    errors.add(param::objects_have_properties(&spec.params));
    errors.add(param::types(&spec.params).via("params"));
    errors.add(param::declared_once(&spec.params));
    errors.add(param::name_format(&sorted));
    errors.add(each(spec, |text, argument| {
        let judge = if argument {
            variable::not_isolated
        } else {
            variable::prohibited
        };
        judge(text, Prefix::PARAMS, &sorted.arrays)
    }));
    if alpha {
        errors.add(default_references(&spec.params));
    }
    errors.add(result::action_script_mentions(&spec.results, &spec.script));
    errors.add(result::step_results(&spec.results).via("results"));
    errors.add(volume_mounts(spec, &declared).via("volumeMounts"));
    errors
}

/// Applies `judge` to every text that may hold variables; the flag says whether it is a command or an argument.
fn each(spec: &StepActionSpec, judge: impl Fn(&str, bool) -> Option<FieldError>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (text, field) in [(&spec.image, "image"), (&spec.script, "script")] {
        errors.add(FieldErrors::from(judge(text, false)).via(field));
    }
    for (list, field) in [(&spec.command, "command"), (&spec.args, "args")] {
        for (index, text) in list.iter().enumerate() {
            errors.add(FieldErrors::from(judge(text, true)).via_field_index(field, index));
        }
    }
    for env in &spec.env {
        let text = env.value.as_deref().unwrap_or_default();
        errors.add(FieldErrors::from(judge(text, false)).via_field_key("env", &env.name));
    }
    for (index, mount) in spec.volume_mounts.iter().enumerate() {
        errors.add(
            FieldErrors::from(judge(&mount.name, false)).via_field_index("volumeMounts", index),
        );
    }
    errors
}

/// T-083
fn volume_mounts(spec: &StepActionSpec, declared: &Names) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (index, mount) in spec.volume_mounts.iter().enumerate() {
        if variable::expressions(&mount.name, Prefix::PARAMS) != [mount.name.as_str()] {
            let error = FieldError::invalid_value(&mount.name, "name");
            errors.add(
                FieldErrors::from(error.details("expect the Name to be a single param reference"))
                    .via_index(index),
            );
            break;
        }
        let error = variable::unknown(&mount.name, Prefix::PARAMS, declared, false);
        errors.add(FieldErrors::from(error).via_index(index));
    }
    errors
}

/// Defaults may refer to other params, but not in a circle (T-085).
fn default_references(params: &[ParamSpec]) -> FieldErrors {
    let declared = param::names(params);
    let mut errors = FieldErrors::new();
    let (mut resolved, mut waiting) = (Names::new(), BTreeMap::new());
    for param in params {
        let text = param
            .default
            .as_ref()
            .and_then(ParamValue::as_str)
            .unwrap_or_default();
        let referred: Vec<&str> = variable::expressions(text, Prefix::PARAMS)
            .into_iter()
            .map(|e| e.strip_prefix("$(params.").unwrap_or(e))
            .map(|e| e.strip_suffix(')').unwrap_or(e))
            .collect();
        let undefined: Vec<_> = referred
            .iter()
            .filter(|name| !declared.contains(**name))
            .collect();
        for name in &undefined {
            let (param, name) = (quote(&param.name), quote(name));
            let message =
                format!("param {param} default value references param {name} which is not defined");
            errors.add(FieldError::generic(message, ["params"]));
        }
        if referred.is_empty() {
            resolved.insert(param.name.clone());
        } else if undefined.is_empty() {
            waiting.insert(param.name.as_str(), referred);
        }
    }
    loop {
        let ready = |(_, referred): &(&&str, &Vec<&str>)| {
            referred.iter().all(|name| resolved.contains(*name))
        };
        let names: Vec<&str> = waiting
            .iter()
            .filter(ready)
            .map(|(name, _)| *name)
            .collect();
        if names.is_empty() {
            break;
        }
        for name in names {
            waiting.remove(name);
            resolved.insert(name.to_owned());
        }
    }
    for name in waiting.keys() {
        let message = format!(
            "param {} default value has a circular dependency",
            quote(name)
        );
        errors.add(FieldError::generic(message, ["params"]));
    }
    errors
}
