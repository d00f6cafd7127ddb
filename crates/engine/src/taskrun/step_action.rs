//! Steps that refer to a StepAction become steps of their own (T-164 to T-172).

use std::collections::{BTreeMap, BTreeSet};

use tektite_api::v1::{Param, ParamSpec, ParamType, ParamValue, Step, TaskRun, TaskSpec};
use tektite_api::v1beta1::StepActionSpec;

use crate::substitution::{Replacements, expressions, spellings};

/// The step with what the StepAction says, or why it cannot be.
pub(crate) fn inline(
    step: &Step,
    action: &StepActionSpec,
    spec: &TaskSpec,
    run: &TaskRun,
) -> Result<Step, String> {
    let declared = defaulted(&action.params);
    check(&step.params, &declared)?;
    let mut from = Step {
        image: action.image.clone(),
        command: action.command.clone(),
        args: action.args.clone(),
        working_dir: action.working_dir.clone(),
        script: action.script.clone(),
        env: action.env.clone(),
        volume_mounts: action.volume_mounts.clone(),
        security_context: action.security_context.clone(),
        results: action.results.clone(),
        ..Step::default()
    };
    for result in &mut from.results {
        result.type_.get_or_insert(if result.properties.is_empty() {
            ParamType::String
        } else {
            ParamType::Object
        });
    }
    let mut given = step.params.clone();
    Replacements::of_params(&spec.params, &run.spec.params).apply_params(&mut given);
    replacements(&from, &given, &declared)?.apply_step(&mut from);

    let mut merged = step.clone();
    (merged.ref_, merged.params) = (None, Vec::new());
    (merged.image, merged.security_context, merged.working_dir) =
        (from.image, from.security_context, from.working_dir);
    fn set<T: Default + PartialEq>(field: &mut T, value: T) {
        if value != T::default() {
            *field = value;
        }
    }
    set(&mut merged.command, from.command);
    set(&mut merged.args, from.args);
    set(&mut merged.script, from.script);
    set(&mut merged.env, from.env);
    set(&mut merged.volume_mounts, from.volume_mounts);
    set(&mut merged.results, from.results);
    Ok(merged)
}

/// Params with the types that defaulting gives them (T-086).
pub(crate) fn defaulted(declared: &[ParamSpec]) -> Vec<ParamSpec> {
    let mut declared = declared.to_vec();
    for spec in &mut declared {
        if spec.type_.is_none() {
            spec.type_ = Some(if !spec.properties.is_empty() {
                ParamType::Object
            } else {
                spec.default
                    .as_ref()
                    .map_or(ParamType::String, ParamValue::type_)
            });
        }
        for property in spec.properties.values_mut() {
            property.type_.get_or_insert(ParamType::String);
        }
    }
    declared
}

/// T-168
fn check(given: &[Param], declared: &[ParamSpec]) -> Result<(), String> {
    let names = |items: Vec<&str>| items.join(" ");
    let extra: Vec<&str> = given
        .iter()
        .map(|p| p.name.as_str())
        .filter(|n| !declared.iter().any(|d| d.name == *n))
        .collect();
    if !extra.is_empty() {
        return Err(format!(
            "extra params passed by Step to StepAction: [{}]",
            names(extra)
        ));
    }
    let missing: Vec<&str> = declared
        .iter()
        .filter(|d| d.default.is_none() && !given.iter().any(|p| p.name == d.name))
        .map(|d| d.name.as_str())
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(format!("non-existent params in Step: [{}]", names(missing)))
    }
}

/// What references to the StepAction's params stand for, in the order of T-169.
fn replacements(
    step: &Step,
    given: &[Param],
    declared: &[ParamSpec],
) -> Result<Replacements, String> {
    let mut all = Replacements::of_defaults(declared);
    let values = values(given, declared)?;
    let processed = Replacements::of_values(values.iter().map(|(n, v)| (n.as_str(), v)));
    all.strings.extend(processed.strings);
    all.arrays.extend(processed.arrays);
    for (key, pairs) in processed.objects {
        all.objects.entry(key).or_default().extend(pairs);
    }
    for param in given {
        let Some(reference) = param
            .value
            .as_str()
            .filter(|text| text.starts_with("$(steps."))
        else {
            continue;
        };
        let (from, result) = step_result(reference)?;
        let Some(spec) = declared.iter().find(|d| d.name == param.name) else {
            continue;
        };
        let target = format!("steps.{from}.results.{result}");
        match spec.type_ {
            Some(ParamType::Object) => all.strings.extend(spec.properties.keys().map(|k| {
                (
                    format!("params.{}.{k}", spec.name),
                    format!("$({target}.{k})"),
                )
            })),
            Some(ParamType::Array) => {
                for key in spellings(&spec.name) {
                    all.strings
                        .insert(format!("{key}[*]"), format!("$({target}[*])"));
                    all.strings.extend(
                        indices(step, &key)
                            .into_iter()
                            .map(|i| (format!("{key}[{i}]"), format!("$({target}[{i}])"))),
                    );
                }
            }
            _ => all
                .strings
                .extend(spellings(&spec.name).map(|key| (key, reference.to_owned()))),
        }
    }
    if let Some(key) = all.strings.keys().find(|k| all.arrays.contains_key(*k)) {
        let name = declared
            .iter()
            .find(|d| spellings(&d.name).contains(key))
            .map_or(key.as_str(), |d| d.name.as_str());
        return Err(format!(
            "invalid parameter substitution: {name}. Please check the types of the default value and the passed value"
        ));
    }
    Ok(all)
}

/// Values of all params: the step's, plain defaults, and defaults that refer to other params (T-169, T-170).
fn values(given: &[Param], declared: &[ParamSpec]) -> Result<BTreeMap<String, ParamValue>, String> {
    let mut known: BTreeMap<String, ParamValue> = BTreeMap::new();
    let mut open: BTreeMap<&str, (&str, Vec<&str>)> = BTreeMap::new();
    for spec in declared {
        if let Some(param) = given.iter().rfind(|p| p.name == spec.name) {
            known.insert(spec.name.clone(), param.value.clone());
            continue;
        }
        let Some(default) = &spec.default else {
            continue;
        };
        match default.as_str().filter(|text| text.contains("$(params.")) {
            None => {
                known.insert(spec.name.clone(), default.clone());
            }
            Some(text) => {
                let references = expressions(text)
                    .map(|e| e.trim_start_matches("$(params.").trim_end_matches(')'));
                open.insert(&spec.name, (text, references.collect()));
            }
        }
    }
    while !open.is_empty() {
        let ready: Vec<&str> = open
            .iter()
            .filter(|(_, (_, references))| references.iter().all(|r| known.contains_key(*r)))
            .map(|(name, _)| *name)
            .collect();
        if ready.is_empty() {
            let lost = open.iter().find_map(|(name, (_, references))| {
                Some((
                    name,
                    references
                        .iter()
                        .find(|r| !declared.iter().any(|d| d.name == **r))?,
                ))
            });
            return Err(match lost {
                Some((name, reference)) => {
                    format!("parameter {name:?} references non-existent parameter {reference:?}")
                }
                None => "circular dependency detected in parameter references".to_owned(),
            });
        }
        for name in ready {
            let Some((text, references)) = open.remove(name) else {
                continue;
            };
            let value = references.iter().fold(text.to_owned(), |value, reference| {
                let with = known
                    .get(*reference)
                    .and_then(ParamValue::as_str)
                    .unwrap_or_default();
                value.replace(&format!("$(params.{reference})"), with)
            });
            known.insert(name.to_owned(), ParamValue::String(value));
        }
    }
    Ok(known)
}

/// Step and result of a reference that begins `$(steps.`.
fn step_result(reference: &str) -> Result<(&str, &str), String> {
    let inner = reference.trim_start_matches("$(").trim_end_matches(')');
    let parts: Vec<&str> = inner.split('.').collect();
    match parts.as_slice() {
        ["steps", step, "results", result] | ["steps", step, "results", result, _] => {
            Ok((step, result.split('[').next().unwrap_or(result)))
        }
        _ => Err(format!(
            "must be one of the form 1). \"steps.<stepName>.results.<resultName>\"; 2). \"steps.<stepName>.results.<objectResultName>.<individualAttribute>\", but got {inner:?}"
        )),
    }
}

/// Indices with which `key` is used in command, args and env values (T-171).
fn indices(step: &Step, key: &str) -> BTreeSet<String> {
    let env = step.env.iter().filter_map(|e| e.value.as_deref());
    let start = format!("$({key}[");
    let texts = step
        .command
        .iter()
        .chain(&step.args)
        .map(String::as_str)
        .chain(env);
    texts
        .flat_map(|text| text.split(&start).skip(1))
        .filter_map(|rest| Some(rest.split_once("])")?.0.to_owned()))
        .filter(|index| !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit()))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn merged(step: Value, action: Value, run_params: Value) -> Result<Value, String> {
        let run: TaskRun = serde_json::from_value(json!({"spec": {"params": run_params}})).unwrap();
        let spec = TaskSpec {
            params: vec![ParamSpec {
                name: "task".into(),
                default: Some("T".into()),
                ..ParamSpec::default()
            }],
            ..TaskSpec::default()
        };
        let step: Step = serde_json::from_value(step).unwrap();
        let action: StepActionSpec = serde_json::from_value(action).unwrap();
        inline(&step, &action, &spec, &run).map(|s| serde_json::to_value(s).unwrap())
    }

    #[test]
    fn a_step_takes_what_its_step_action_says() {
        // T-167
        let step = json!({"name": "s", "ref": {"name": "a"}, "workingDir": "/old", "securityContext": {"runAsUser": 1},
                          "onError": "continue", "timeout": "1m"});
        let action = json!({"image": "i", "command": ["c"], "args": ["a"], "env": [{"name": "E", "value": "v"}],
                            "volumeMounts": [{"name": "v", "mountPath": "/v"}], "results": [{"name": "r"}]});
        assert_eq!(
            merged(step, action, json!([])).unwrap(),
            json!({"name": "s", "image": "i", "command": ["c"], "args": ["a"], "env": [{"name": "E", "value": "v"}],
                   "volumeMounts": [{"name": "v", "mountPath": "/v"}], "results": [{"name": "r", "type": "string"}],
                   "onError": "continue", "timeout": "1m0s", "computeResources": {}})
        );
    }

    #[test]
    fn params_come_from_the_step_then_from_defaults() {
        // T-169
        let action = json!({"image": "i", "args": ["$(params.a)", "$(params.b)", "$(params.c)", "$(params.l[*])"], "params": [
            {"name": "a"}, {"name": "b", "default": "$(params.a)-b"}, {"name": "c", "default": "$(params.b)-c"},
            {"name": "l", "default": ["x", "y"]}]});
        let step = json!({"name": "s", "ref": {"name": "a"}, "params": [{"name": "a", "value": "$(params.task)"}]});
        let got = merged(step.clone(), action.clone(), json!([])).unwrap();
        assert_eq!(got["args"], json!(["T", "T-b", "T-b-c", "x", "y"]));
        let got = merged(step, action, json!([{"name": "task", "value": "run"}])).unwrap();
        assert_eq!(got["args"][2], "run-b-c");
    }

    #[test]
    fn a_param_that_is_a_step_result_becomes_a_reference_to_it() {
        // T-171
        let action = json!({"image": "i", "args": ["$(params.s)", "$(params.l[*])", "$(params.l[1])", "$(params.o.k)"], "params": [
            {"name": "s"}, {"name": "l", "type": "array"}, {"name": "o", "type": "object", "properties": {"k": {}}}]});
        let step = json!({"name": "s", "ref": {"name": "a"}, "params": [
            {"name": "s", "value": "$(steps.p.results.r)"}, {"name": "l", "value": "$(steps.p.results.l[*])"},
            {"name": "o", "value": "$(steps.p.results.o[*])"}]});
        assert_eq!(
            merged(step, action, json!([])).unwrap()["args"],
            json!([
                "$(steps.p.results.r)",
                "$(steps.p.results.l[*])",
                "$(steps.p.results.l[1])",
                "$(steps.p.results.o.k)"
            ])
        );
    }

    #[test]
    fn wrong_params_are_refused() {
        // T-168, T-170
        for (params, declared, error) in [
            (
                json!([{"name": "x", "value": "1"}]),
                json!([]),
                "extra params passed by Step to StepAction: [x]",
            ),
            (
                json!([]),
                json!([{"name": "a"}, {"name": "b"}]),
                "non-existent params in Step: [a b]",
            ),
            (
                json!([]),
                json!([{"name": "a", "default": "$(params.b)"}]),
                "parameter \"a\" references non-existent parameter \"b\"",
            ),
            (
                json!([]),
                json!([{"name": "a", "default": "$(params.b)"}, {"name": "b", "default": "$(params.a)"}]),
                "circular dependency detected in parameter references",
            ),
            (
                json!([{"name": "a", "value": "text"}]),
                json!([{"name": "a", "type": "array", "default": ["x"]}]),
                "invalid parameter substitution: a. Please check the types of the default value and the passed value",
            ),
        ] {
            let step = json!({"name": "s", "ref": {"name": "a"}, "params": params});
            assert_eq!(
                merged(step, json!({"image": "i", "params": declared}), json!([])).unwrap_err(),
                error
            );
        }
    }
}
