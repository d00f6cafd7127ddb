//! Params of a run against what its pipeline declares, and the values that variables then stand for.

use std::collections::{BTreeMap, BTreeSet};

use tektite_api::v1::{Param, ParamSpec, ParamType, ParamValue, PipelineSpec, PipelineTask};

use super::texts;
use crate::matrix;
use crate::references;
use crate::substitution::{self, Replacements};

/// How deep defaults may refer to other defaults (P-131).
const MAX_DEPTH: usize = 10;

/// The spellings of a param: `params.x`, `params["x"]`, `params['x']` (P-129).
pub(super) fn spellings(name: &str) -> [String; 3] {
    [
        format!("params.{name}"),
        format!("params[{name:?}]"),
        format!("params['{name}']"),
    ]
}

/// What variables stand for by the run's own params (P-129).
pub(super) fn of_run(params: &[Param]) -> Replacements {
    let mut all = Replacements::default();
    for Param { name, value } in params {
        for key in spellings(name) {
            match value {
                ParamValue::String(text) => {
                    all.strings.insert(key, text.clone());
                }
                ParamValue::Array(items) => {
                    let elements = items
                        .iter()
                        .enumerate()
                        .map(|(i, item)| (format!("{key}[{i}]"), item.clone()));
                    all.strings.extend(elements);
                    all.arrays.insert(key, items.clone());
                }
                ParamValue::Object(pairs) => {
                    all.objects.insert(key, pairs.clone());
                }
            }
        }
        if let ParamValue::Object(pairs) = value {
            all.strings.extend(
                pairs
                    .iter()
                    .map(|(key, text)| (format!("params.{name}.{key}"), text.clone())),
            );
        }
    }
    all
}

/// What variables stand for by the run's params and the pipeline's defaults (P-130 to P-132).
///
/// # Errors
/// A default refers to itself, to something undefined, or through too many others (P-131).
pub(super) fn of_run_and_defaults(
    declared: &[ParamSpec],
    params: &[Param],
) -> Result<Replacements, String> {
    let mut all = of_run(params);
    let mut unresolved: BTreeMap<String, String> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    let defaults = |type_: ParamType| {
        declared
            .iter()
            .filter(move |spec| spec_type(spec) == type_)
            .filter_map(|spec| Some((spec, spec.default.as_ref()?)))
    };
    for (spec, default) in defaults(ParamType::String) {
        let keys = spellings(&spec.name);
        if keys.iter().any(|key| all.strings.contains_key(key)) {
            continue;
        }
        let text = default.as_str().unwrap_or_default();
        order.extend(keys.iter().cloned());
        unresolved.extend(keys.map(|key| (key, text.to_owned())));
    }
    for key in order {
        if !all.strings.contains_key(&key) {
            resolve(&key, &mut all, &unresolved, &mut BTreeSet::new())?;
        }
    }
    for (spec, default) in defaults(ParamType::Array) {
        let keys = spellings(&spec.name);
        if keys.iter().any(|key| all.arrays.contains_key(key)) {
            continue;
        }
        for key in keys {
            let items: Vec<String> = default
                .as_array()
                .unwrap_or_default()
                .iter()
                .map(|item| all.text(item))
                .collect();
            all.strings.extend(
                items
                    .iter()
                    .enumerate()
                    .map(|(i, item)| (format!("{key}[{i}]"), item.clone())),
            );
            all.arrays.insert(key, items);
        }
    }
    for (spec, default) in defaults(ParamType::Object) {
        let keys = spellings(&spec.name);
        if keys.iter().any(|key| all.objects.contains_key(key)) {
            continue;
        }
        for key in keys {
            let pairs: BTreeMap<String, String> = default
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, text)| (name.clone(), all.text(text)))
                .collect();
            // Unlike an object of the run, the bracket spellings have keys too (P-129).
            all.strings.extend(
                pairs
                    .iter()
                    .map(|(name, text)| (format!("{key}.{name}"), text.clone())),
            );
            all.objects.insert(key, pairs);
        }
    }
    Ok(all)
}

fn spec_type(spec: &ParamSpec) -> ParamType {
    spec.type_.clone().unwrap_or(ParamType::String)
}

fn resolve(
    key: &str,
    all: &mut Replacements,
    unresolved: &BTreeMap<String, String>,
    visiting: &mut BTreeSet<String>,
) -> Result<(), String> {
    if !visiting.insert(key.to_owned()) {
        return Err(format!(
            "parameter resolution failed: circular dependency detected in param {key:?}"
        ));
    }
    if visiting.len() - 1 > MAX_DEPTH {
        return Err(format!(
            "parameter resolution failed: maximum recursion depth ({MAX_DEPTH}) exceeded for param {key:?}"
        ));
    }
    let text = unresolved.get(key).cloned().unwrap_or_default();
    for reference in references::variables(&text)
        .into_iter()
        .filter(|variable| variable.starts_with("params."))
    {
        if all.strings.contains_key(reference) {
            continue;
        }
        if !unresolved.contains_key(reference) {
            return Err(format!(
                "parameter resolution failed: param {key:?} references undefined param {reference:?}"
            ));
        }
        resolve(reference, all, unresolved, visiting)?;
    }
    // A default without dotted references stays as it is, brackets and all (P-130).
    let dotted = references::variables(&text)
        .iter()
        .any(|variable| variable.starts_with("params."));
    let value = if dotted { all.text(&text) } else { text };
    all.strings.insert(key.to_owned(), value);
    visiting.remove(key);
    Ok(())
}

/// Declared params without default that the run does not give (P-122).
pub(super) fn missing(declared: &[ParamSpec], given: &[Param]) -> Result<(), String> {
    let missing: Vec<&str> = declared
        .iter()
        .filter(|spec| spec.default.is_none() && !given.iter().any(|param| param.name == spec.name))
        .map(|spec| spec.name.as_str())
        .collect();
    refuse(missing.is_empty(), || {
        format!("pipelineRun missing parameters: {}", texts::list(&missing))
    })
}

/// Given params of another type than declared (P-123).
pub(super) fn mistyped(declared: &[ParamSpec], given: &[Param]) -> Result<(), String> {
    let wrong: Vec<&str> = given
        .iter()
        .filter(|param| {
            let spec = declared.iter().rev().find(|spec| spec.name == param.name);
            spec.is_some_and(|spec| spec_type(spec) != param.value.type_())
        })
        .map(|param| param.name.as_str())
        .collect();
    refuse(wrong.is_empty(), || {
        format!(
            "parameters have inconsistent types : {}",
            texts::list(&wrong)
        )
    })
}

/// Keys of declared objects that neither default nor given value has, by param (P-124).
pub(super) fn missing_keys(
    declared: &[ParamSpec],
    given: &[Param],
) -> BTreeMap<String, Vec<String>> {
    let mut provided: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let objects = declared
        .iter()
        .filter(|spec| spec.type_ == Some(ParamType::Object));
    for spec in objects.clone() {
        if let Some(pairs) = spec.default.as_ref().and_then(ParamValue::as_object) {
            provided
                .entry(&spec.name)
                .or_default()
                .extend(pairs.keys().map(String::as_str));
        }
    }
    for param in given {
        if let Some(pairs) = param.value.as_object() {
            provided
                .entry(&param.name)
                .or_default()
                .extend(pairs.keys().map(String::as_str));
        }
    }
    let mut missing = BTreeMap::new();
    for spec in objects {
        let Some(keys) = provided
            .get(spec.name.as_str())
            .filter(|keys| !keys.is_empty())
        else {
            continue;
        };
        let lacking: Vec<String> = spec
            .properties
            .keys()
            .filter(|key| !keys.contains(key.as_str()))
            .cloned()
            .collect();
        if !lacking.is_empty() {
            missing.insert(spec.name.clone(), lacking);
        }
    }
    missing
}

/// Given values outside the list that a param declares (P-126, P-128).
pub(super) fn outside_enum(declared: &[ParamSpec], given: &[Param]) -> Result<(), String> {
    for param in given {
        let Some(text) = param.value.as_str().filter(|text| !text.is_empty()) else {
            continue;
        };
        let Some(spec) = declared
            .iter()
            .rev()
            .find(|spec| spec.name == param.name && !spec.enum_.is_empty())
        else {
            continue;
        };
        if !spec.enum_.iter().any(|allowed| allowed == text) {
            return Err(format!(
                "param `{}` value: {text} is not in the enum list",
                param.name
            ));
        }
    }
    Ok(())
}

/// Indices into array params that are beyond the array's end (P-125).
pub(super) fn beyond_arrays(spec: &PipelineSpec, given: &[Param]) -> Result<(), String> {
    let mut lengths: BTreeMap<&str, usize> = BTreeMap::new();
    let defaults = spec
        .params
        .iter()
        .filter_map(|declared| Some((&declared.name, declared.default.as_ref()?)));
    for (name, value) in defaults.chain(given.iter().map(|param| (&param.name, &param.value))) {
        if let Some(items) = value.as_array() {
            lengths.insert(name, items.len());
        }
    }
    let mut texts: Vec<&str> = Vec::new();
    for (is_task, task) in spec
        .tasks
        .iter()
        .map(|task| (true, task))
        .chain(spec.finally.iter().map(|task| (false, task)))
    {
        texts.extend(indexable_texts(task));
        if is_task {
            texts.extend(
                task.workspaces
                    .iter()
                    .map(|workspace| workspace.sub_path.as_str()),
            );
        }
    }
    let beyond: BTreeSet<&str> = texts
        .into_iter()
        .flat_map(substitution::array_references)
        .filter(|reference| {
            let (name, index) = split_indexed(reference);
            lengths.get(name).is_some_and(|&length| index >= length)
        })
        .collect();
    let beyond: Vec<&str> = beyond.into_iter().collect();
    refuse(beyond.is_empty(), || {
        format!("non-existent param references:{}", texts::list(&beyond))
    })
}

fn indexable_texts(task: &PipelineTask) -> Vec<&str> {
    let matrix = matrix::of(task)
        .into_iter()
        .flat_map(|matrix| &matrix.params);
    let mut texts: Vec<&str> = task
        .params
        .iter()
        .chain(matrix)
        .flat_map(|param| param.value.texts())
        .collect();
    for when in &task.when {
        texts.push(&when.input);
        texts.extend(when.values.iter().map(String::as_str));
    }
    texts
}

/// Name and index of `$(params.name[3])`, in whichever spelling.
fn split_indexed(reference: &str) -> (&str, usize) {
    let inner = reference
        .trim_start_matches("$(params")
        .trim_end_matches(")");
    let (name, index) = inner.rsplit_once('[').unwrap_or((inner, ""));
    let index = index.trim_end_matches(']').parse().unwrap_or(usize::MAX);
    let name = match name.strip_prefix('.') {
        Some(dotted) => dotted.split('.').next().unwrap_or(dotted),
        None => name
            .trim_start_matches(['[', '"', '\''])
            .trim_end_matches([']', '"', '\'']),
    };
    (name, index)
}

/// What is wrong with the params that a pipeline task passes to its task (P-141).
pub(super) fn unfit_for_task(declared: &[ParamSpec], task: &PipelineTask) -> Result<(), String> {
    let of_matrix: Vec<&Param> = references::all_params(task)
        .skip(task.params.len())
        .collect();
    let given = |name: &str| {
        task.params.iter().any(|param| param.name == name)
            || of_matrix.iter().any(|param| param.name == name)
    };
    let missing: Vec<&str> = declared
        .iter()
        .filter(|spec| spec.default.is_none() && !given(&spec.name))
        .map(|spec| spec.name.as_str())
        .collect();
    refuse(missing.is_empty(), || {
        format!(
            "missing values for these params which have no default values: {}",
            texts::list(&missing)
        )
    })?;
    let needed = |name: &str| {
        declared
            .iter()
            .rev()
            .find(|spec| spec.name == name)
            .map(spec_type)
    };
    let mut wrong: Vec<&str> = Vec::new();
    for param in &task.params {
        let Some(type_) = needed(&param.name) else {
            continue;
        };
        let may_become = type_ != ParamType::String
            && param
                .value
                .as_str()
                .is_some_and(|text| !references::variables(text).is_empty());
        if !may_become && param.value.type_() != type_ {
            wrong.push(&param.name);
        }
    }
    for param in of_matrix {
        if needed(&param.name).is_some_and(|type_| type_ != ParamType::String) {
            wrong.push(&param.name);
        }
    }
    refuse(wrong.is_empty(), || {
        format!(
            "param types don't match the user-specified type: {}",
            texts::list(&wrong)
        )
    })?;
    let keys = missing_keys(declared, &task.params);
    refuse(keys.is_empty(), || {
        format!(
            "missing keys for these params which are required in ParamSpec's properties {}",
            texts::map_of_lists(&keys)
        )
    })
}

/// Whether matrix params are arrays and include params texts, once all is known (P-202).
pub(super) fn mistyped_matrix(task: &PipelineTask) -> Result<(), String> {
    let Some(matrix) = &task.matrix else {
        return Ok(());
    };
    let complain = |kind: &str, param: &Param| {
        Err(format!(
            "parameters of type {kind} only are allowed, but param \"{}\" has type \"{}\" in pipelineTask \"{}\"",
            param.name,
            param.value.type_(),
            task.name
        ))
    };
    for param in matrix.include.iter().flat_map(|include| &include.params) {
        if param.value.type_() != ParamType::String {
            return complain("string", param);
        }
    }
    for param in &matrix.params {
        let awaits = || {
            references::param_variables(param)
                .into_iter()
                .any(references::looks_like_result)
        };
        if param.value.type_() != ParamType::Array && !awaits() {
            return complain("array", param);
        }
    }
    Ok(())
}

/// Whether the enum of a pipeline param that feeds a task param lies within the task param's (P-127).
pub(super) fn enum_not_subset(
    passed: &[Param],
    of_pipeline: &[ParamSpec],
    task_name: &str,
    of_task: &[ParamSpec],
) -> Result<(), String> {
    for param in passed {
        let Some(text) = param.value.as_str() else {
            continue;
        };
        let expressions: Vec<&str> = substitution::expressions(text).collect();
        let [expression] = expressions[..] else {
            continue;
        };
        let inner = expression
            .trim_start_matches("$(params")
            .trim_end_matches(')');
        let name = match inner.strip_prefix('.') {
            Some(dotted) => dotted.split('.').next().unwrap_or(dotted),
            None => inner
                .trim_start_matches(['[', '"', '\''])
                .trim_end_matches([']', '"', '\'']),
        };
        let (name, _) = references::split_index(name);
        let outer = of_pipeline.iter().find(|spec| spec.name == name);
        let inner = of_task.iter().find(|spec| spec.name == param.name);
        let (Some(outer), Some(inner)) = (outer, inner) else {
            return Ok(());
        };
        if spec_type(outer) != ParamType::String || inner.enum_.is_empty() {
            return Ok(());
        }
        if outer.enum_.is_empty() {
            return Err(format!(
                "pipeline param \"{}\" has no enum, but referenced in \"{task_name}\" task has enums: {}",
                outer.name,
                texts::list(&inner.enum_)
            ));
        }
        if !outer.enum_.iter().all(|value| inner.enum_.contains(value)) {
            return Err(format!(
                "pipeline param \"{}\" enum: {} is not a subset of the referenced in \"{task_name}\" task param enum: {}",
                outer.name,
                texts::list(&outer.enum_),
                texts::list(&inner.enum_)
            ));
        }
    }
    Ok(())
}

fn refuse(fine: bool, message: impl FnOnce() -> String) -> Result<(), String> {
    if fine { Ok(()) } else { Err(message()) }
}
