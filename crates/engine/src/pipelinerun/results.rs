//! Results of tasks: finding what references stand for, and putting it where it is wanted.

use std::collections::BTreeMap;

use tektite_api::v1::{ParamType, ParamValue, TaskRunResult};

use super::facts::Facts;
use super::substitute::Pass;
use super::task::{Child, Kind, Resolved};
use crate::matrix;
use crate::references::{self, ResultRef};
use crate::substitution::Replacements;

/// References with their values.
pub(super) type Values = Vec<(ResultRef, ParamValue)>;

/// Values of all references of `task`, found among `others`.
///
/// # Errors
/// The name of the task whose result cannot be had (yet); then none of the values is known (P-165).
pub(super) fn resolve(task: &Resolved, others: &mut [Resolved]) -> Result<Values, String> {
    values_of(&references::result_refs(&task.task), others)
}

/// As [`resolve`], for references that were collected before.
pub(super) fn values_of(refs: &[ResultRef], others: &mut [Resolved]) -> Result<Values, String> {
    let mut values = Values::new();
    for reference in refs {
        let unknown = || reference.task.clone();
        let producer = others
            .iter_mut()
            .find(|other| other.task.name == reference.task)
            .ok_or_else(unknown)?;
        if !producer.finished() {
            return Err(unknown());
        }
        let value = value(producer, reference).ok_or_else(unknown)?;
        if !values.iter().any(|(known, _)| known == reference) {
            values.push((reference.clone(), value));
        }
    }
    Ok(values)
}

fn value(producer: &mut Resolved, reference: &ResultRef) -> Option<ParamValue> {
    if producer.kind == Kind::Task && matrix::of(&producer.task).is_some() {
        producer.gather();
        return producer
            .gathered
            .get(&reference.result)
            .cloned()
            .map(ParamValue::Array);
    }
    child_value(producer.children.first()?, &reference.result)
}

fn child_value(child: &Child, result: &str) -> Option<ParamValue> {
    match child {
        Child::Task(run) => run
            .status
            .results
            .iter()
            .find(|it| it.name == result)
            .map(|it| it.value.clone()),
        Child::Custom(run) => run
            .status
            .results
            .iter()
            .find(|it| it.name == result)
            .map(|it| custom_value(&it.value)),
        Child::Pipeline(_) => None,
    }
}

/// A custom task's result: a JSON list of texts is an array, anything else a text (P-152).
fn custom_value(text: &str) -> ParamValue {
    match serde_json::from_str::<Vec<String>>(text) {
        Ok(items) if !items.is_empty() => ParamValue::Array(items),
        _ => ParamValue::String(text.to_owned()),
    }
}

/// The first index that is beyond its array's end (P-145).
pub(super) fn beyond_array(values: &Values) -> Option<String> {
    values.iter().find_map(|(reference, value)| {
        let (index, size) = (reference.index?, value.as_array()?.len());
        (index >= size).then(|| {
            format!(
                "array Result Index {index} for Task {} Result {} is out of bound of size {size}",
                reference.task, reference.result
            )
        })
    })
}

/// What variables stand for by `values`, in all spellings (P-144).
pub(super) fn pass(values: &Values) -> Pass {
    let mut all = Replacements::default();
    for (ResultRef { task, result, .. }, value) in values {
        let keys = [
            format!("tasks.{task}.results.{result}"),
            format!("tasks.{task}.results[{result:?}]"),
            format!("tasks.{task}.results['{result}']"),
        ];
        for (dotted, key) in [true, false, false].into_iter().zip(keys) {
            match value {
                ParamValue::String(text) => {
                    all.strings.insert(key, text.clone());
                }
                ParamValue::Array(items) => {
                    all.strings.extend(
                        items
                            .iter()
                            .enumerate()
                            .map(|(i, item)| (format!("{key}[{i}]"), item.clone())),
                    );
                    all.arrays.insert(key, items.clone());
                }
                ParamValue::Object(pairs) => {
                    let spelled = |name: &str| {
                        if dotted {
                            format!("{key}.{name}")
                        } else {
                            format!("{key}[{name}]")
                        }
                    };
                    all.strings.extend(
                        pairs
                            .iter()
                            .map(|(name, text)| (spelled(name), text.clone())),
                    );
                    all.objects.insert(key, pairs.clone());
                }
            }
        }
    }
    Pass::new(all)
}

/// Results of the TaskRuns that have ended, by pipeline task (P-143); of a matrixed task what was gathered (P-160).
pub(super) fn of_task_runs(state: &[Resolved]) -> BTreeMap<String, Vec<TaskRunResult>> {
    let mut all = BTreeMap::new();
    for task in state
        .iter()
        .filter(|task| task.kind == Kind::Task && task.finished())
    {
        if matrix::of(&task.task).is_none() {
            if let Some(Child::Task(run)) = task.children.first() {
                all.insert(task.task.name.clone(), run.status.results.clone());
            }
        } else if !task.gathered.is_empty() {
            let gathered = task.gathered.iter().map(|(name, items)| TaskRunResult {
                name: name.clone(),
                type_: Some(ParamType::Array),
                value: ParamValue::Array(items.clone()),
            });
            all.insert(task.task.name.clone(), gathered.collect());
        }
    }
    all
}

/// Results of the custom tasks that have ended, if they have one CustomRun (P-159).
pub(super) fn of_custom_runs(state: &[Resolved]) -> BTreeMap<String, BTreeMap<String, String>> {
    state
        .iter()
        .filter(|task| task.kind == Kind::Custom && task.finished())
        .filter_map(|task| match &task.children[..] {
            [Child::Custom(run)] => {
                let results = run
                    .status
                    .results
                    .iter()
                    .map(|it| (it.name.clone(), it.value.clone()));
                Some((task.task.name.clone(), results.collect()))
            }
            _ => None,
        })
        .collect()
}

/// What variables stand for in workspace bindings and inline tasks: dotted texts, whole arrays, keys (P-147, P-148).
pub(super) fn for_propagation(results: &BTreeMap<String, Vec<TaskRunResult>>) -> Replacements {
    let mut all = Replacements::default();
    for (task, results) in results {
        for result in results {
            let key = format!("tasks.{task}.results.{}", result.name);
            match (&result.type_, &result.value) {
                (Some(ParamType::String), ParamValue::String(text)) => {
                    all.strings.insert(key, text.clone());
                }
                (Some(ParamType::Array), ParamValue::Array(items)) => {
                    all.arrays.insert(key, items.clone());
                }
                (Some(ParamType::Object), ParamValue::Object(pairs)) => {
                    all.strings.extend(
                        pairs
                            .iter()
                            .map(|(name, text)| (format!("{key}.{name}"), text.clone())),
                    );
                }
                _ => {}
            }
        }
    }
    all
}

/// Artifacts of the TaskRuns that have ended (P-153).
pub(super) fn artifacts(state: &[Resolved]) -> Replacements {
    let mut all = Replacements::default();
    for task in state
        .iter()
        .filter(|task| task.kind == Kind::Task && task.finished())
    {
        let runs: Vec<_> = task
            .children
            .iter()
            .filter_map(|child| match child {
                Child::Task(run) => run.status.artifacts.as_ref(),
                _ => None,
            })
            .collect();
        let name = &task.task.name;
        let inputs = runs
            .iter()
            .flat_map(|artifacts| &artifacts.inputs)
            .map(|artifact| ("inputs", artifact));
        let outputs = runs
            .iter()
            .flat_map(|artifacts| &artifacts.outputs)
            .map(|artifact| ("outputs", artifact));
        for (part, artifact) in inputs.chain(outputs) {
            let values = serde_json::to_string(&artifact.values).unwrap_or_default();
            all.strings
                .entry(format!("tasks.{name}.{part}"))
                .or_insert_with(|| values.clone());
            all.strings
                .insert(format!("tasks.{name}.{part}.{}", artifact.name), values);
        }
    }
    all
}

impl Facts {
    /// Values of the references of the task at `at` among all tasks.
    ///
    /// # Errors
    /// The name of the task whose result cannot be had.
    pub(super) fn resolve_results(&mut self, at: usize) -> Result<Values, String> {
        let refs = references::result_refs(&self.state[at].task);
        if refs.is_empty() {
            return Ok(Values::new());
        }
        values_of(&refs, &mut self.state)
    }

    /// Why the task at `at`, whose turn it is, lacks a result (P-149).
    pub(super) fn missing_result(&self, at: usize) -> Option<String> {
        let target = &self.state[at].task;
        references::result_refs(target).iter().find_map(|reference| {
            let Some(producer) = self.find(&reference.task).map(|i| &self.state[i]) else {
                return Some(format!(
                    "Result reference error: Could not find ref \"{}\" in internal pipelineRunState",
                    reference.task
                ));
            };
            let children = if producer.kind == Kind::Custom { "CustomRuns" } else { "TaskRuns" };
            let first = producer.children.first().filter(|_| producer.kind != Kind::Pipeline);
            let Some(first) = first else {
                return Some(format!(
                    "Result reference error: Internal result ref \"{}\" has zero-length {children}",
                    reference.task
                ));
            };
            if child_value(first, &reference.result).is_some() {
                None
            } else if producer.succeeded() {
                Some(format!(
                    "task {:?} completed successfully but did not emit the result {:?}, which is referenced by task {:?}",
                    reference.task, reference.result, target.name
                ))
            } else {
                Some(format!(
                    "Invalid task result reference: Could not find result with name {} for pipeline task {}",
                    reference.result, reference.task
                ))
            }
        })
    }
}
