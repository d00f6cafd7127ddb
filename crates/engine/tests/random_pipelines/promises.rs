//! What must be true of a run that has ended.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json};
use tektite_api::names::pipeline_run_reason;
use tektite_api::v1::{
    ChildStatusReference, ParamValue, PipelineRunResult, PipelineTask, SkippedTask,
};

use super::life::Made;
use super::story::{History, Story};

/// Why a finally task may be skipped (P-169); nothing else keeps it from running.
const FINALLY_SKIPS: [&str; 5] = [
    "Results were missing",
    "When Expressions evaluated to false",
    "PipelineRun timeout has been reached",
    "PipelineRun Finally timeout has been reached",
    "Matrix Parameters have an empty array",
];

impl Story {
    /// Everything that is not as it should be.
    pub fn broken_promises(&mut self) -> Vec<String> {
        let mut faults = std::mem::take(&mut self.faults);
        let condition = self.run.succeeded().cloned().unwrap_or_default();
        let (reason, message) = (condition.reason.as_str(), condition.message.as_str());
        let ended_early = reason == "PipelineRunTimeout"
            || self.run.spec.status == "Cancelled"
            // Lacking results take the place of that reason (P-157).
            || (reason == pipeline_run_reason::COULDNT_GET_PIPELINE_RESULT && self.time_was_over());
        let mut of_task: BTreeMap<&str, Vec<&History>> = BTreeMap::new();
        for child in self.children.values() {
            of_task.entry(&child.task).or_default().push(child);
        }
        let children = |task: &str| of_task.get(task).map_or(&[][..], Vec::as_slice);
        let is_finally: BTreeSet<&str> = self
            .run
            .spec
            .pipeline_spec
            .iter()
            .flat_map(|spec| &spec.finally)
            .map(|task| task.name.as_str())
            .collect();
        let mut skipped: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for it in &self.run.status.skipped_tasks {
            skipped.entry(&it.name).or_default().push(&it.reason);
        }
        let mut recorded: BTreeMap<&str, usize> = BTreeMap::new();
        for it in &self.run.status.child_references {
            *recorded.entry(&it.pipeline_task_name).or_default() += 1;
        }
        for task in self.tasks() {
            let name = task.name.as_str();
            let own = children(name);
            // Who started before a parent that started nevertheless?
            let first = own.iter().map(|it| it.made).min();
            for parent in self.parents(name) {
                let last = children(parent).iter().filter_map(|it| it.ended).max();
                if let (Some(first), Some(last)) = (first, last)
                    && first < last
                {
                    faults.push(format!("{name} ran before {parent} had ended"));
                }
            }
            let count = fan_out(task, &children);
            if own.len() > count {
                faults.push(format!(
                    "{name} has {} children instead of {count}",
                    own.len()
                ));
            }
            let skips = skipped.get(name).map_or(&[][..], Vec::as_slice);
            let recorded = recorded.get(name).copied().unwrap_or_default();
            // Results that the pipeline lacks take the place of the message that counts them.
            let counted = message.contains("Failed Validation")
                || reason == pipeline_run_reason::COULDNT_GET_PIPELINE_RESULT;
            let invalid = counted && own.is_empty() && skips.is_empty();
            let states = usize::from(recorded > 0) + skips.len() + usize::from(invalid);
            if !ended_early && states != 1 {
                faults.push(format!(
                    "{name} is in {states} states at the end of a run that is {reason}"
                ));
            }
            if !ended_early && recorded != own.len() {
                faults.push(format!(
                    "{name} has {} children of which {recorded} are recorded",
                    own.len()
                ));
            }
            if is_finally.contains(name) && !ended_early {
                let unreasonable = skips.iter().find(|skip| !FINALLY_SKIPS.contains(skip));
                if let Some(skip) = unreasonable {
                    faults.push(format!("the finally task {name} is skipped: {skip}"));
                }
                if unconditional(task) && own.is_empty() {
                    faults.push(format!("the finally task {name} did not run"));
                }
            }
        }
        let names: BTreeSet<&str> = self
            .run
            .status
            .child_references
            .iter()
            .map(|it| it.name.as_str())
            .collect();
        if names.len() != self.run.status.child_references.len() {
            faults.push("a child is recorded twice".to_owned());
        }
        if !ended_early && self.children.values().any(|it| it.ended.is_none()) {
            faults.push(format!("the run is {reason} while a child still runs"));
        }
        let untold = |it: &&History| it.ended.is_none() && !it.newest().is_told_to_end();
        if self.children.values().any(|it| untold(&it)) {
            faults.push(format!(
                "the run is {reason} while a child that was not told to end still runs"
            ));
        }
        self.stays_ended(&mut faults);
        faults
    }

    /// Whether the run ended as its time was over, or that of its tasks with no finally tasks to wait for (P-190, P-194).
    fn time_was_over(&self) -> bool {
        let spec = &self.run.spec;
        let status = &self.run.status;
        let (Some(limits), Some(start), Some(end)) =
            (&spec.timeouts, &status.start_time, &status.completion_time)
        else {
            return false;
        };
        let took = end.0.duration_since(start.0);
        let exceeded = |limit: Option<tektite_api::Duration>| {
            limit.is_some_and(|it| !it.is_zero() && took > it.into())
        };
        let has_finally = spec.pipeline_spec.iter().any(|it| !it.finally.is_empty());
        exceeded(limits.pipeline) || (!has_finally && exceeded(limits.tasks))
    }

    /// No reconcile of a finished run has an effect, whatever is seen and however late it is.
    fn stays_ended(&mut self, faults: &mut Vec<String>) {
        self.observe_all();
        for _ in 0..2 {
            self.pass(10_000);
            if self.reconcile(false, None) {
                faults.push("a finished run changes".to_owned());
            }
        }
        faults.append(&mut self.faults);
    }

    /// Features and outcomes that this story has shown.
    pub fn what_came_up(&self) -> BTreeSet<String> {
        let mut all: BTreeSet<String> = self.came_up.iter().map(|&it| it.to_owned()).collect();
        let reason = self.run.succeeded().map(|it| it.reason.as_str());
        all.insert(format!("a run ends {}", reason.unwrap_or("never")));
        let skipped = self.run.status.skipped_tasks.iter();
        all.extend(skipped.map(|it| format!("a task is skipped: {}", it.reason)));
        let mut per_task: BTreeMap<&str, usize> = BTreeMap::new();
        for child in self.children.values() {
            *per_task.entry(&child.task).or_default() += 1;
        }
        if per_task.values().any(|&number| number > 1) {
            all.insert("a task fans out".to_owned());
        }
        let dynamic = |task: &PipelineTask| {
            let matrix = task.matrix.as_ref();
            matrix.is_some_and(|it| {
                it.params.iter().any(|param| {
                    param
                        .value
                        .as_str()
                        .is_some_and(|text| text.contains(".results."))
                })
            })
        };
        let mut ran = self
            .tasks()
            .filter(|task| per_task.contains_key(task.name.as_str()));
        if ran.any(dynamic) {
            all.insert("a task fans out over a result".to_owned());
        }
        if !self.run.status.results.is_empty() {
            all.insert("a pipeline has results".to_owned());
        }
        if per_task.keys().any(|task| task.starts_with('f')) {
            all.insert("a finally task runs".to_owned());
            if self.run.spec.status == "CancelledRunFinally" {
                all.insert("a finally task runs although the run was cancelled".to_owned());
            }
        }
        if self.tasks().count() > 40 {
            all.insert("a pipeline has more than 40 tasks".to_owned());
        }
        all
    }

    /// What must be the same however the run was watched.
    pub fn end_state(&self) -> EndState<'_> {
        let status = &self.run.status;
        let mut children: Vec<_> = status.child_references.iter().collect();
        children.sort_by(|a, b| a.name.cmp(&b.name));
        let mut skipped: Vec<_> = status.skipped_tasks.iter().collect();
        skipped.sort_by(|a, b| a.name.cmp(&b.name));
        let condition = self.run.succeeded();
        EndState {
            outcome: condition.map(|it| [&*it.status, &*it.reason, &*it.message]),
            children,
            skipped,
            results: &status.results,
            made: self
                .children
                .values()
                .map(|it| it.newest().made())
                .collect(),
        }
    }
}

/// What must be the same however a run was watched.
#[derive(PartialEq, Serialize)]
pub struct EndState<'s> {
    outcome: Option<[&'s str; 3]>,
    children: Vec<&'s ChildStatusReference>,
    skipped: Vec<&'s SkippedTask>,
    results: &'s [PipelineRunResult],
    made: Vec<Made<'s>>,
}

impl EndState<'_> {
    /// Where this state first differs from `expected`, and how; `None` if it does not.
    pub fn difference(&self, expected: &Self) -> Option<String> {
        if self.outcome != expected.outcome {
            return Some(format!(
                "{:?} instead of {:?}",
                self.outcome, expected.outcome
            ));
        }
        (self != expected).then(|| first_difference(&json!(self), &json!(expected)))
    }
}

/// How many children `task` may have.
fn fan_out<'s>(task: &PipelineTask, children: &impl Fn(&str) -> &'s [&'s History]) -> usize {
    let Some(matrix) = &task.matrix else { return 1 };
    let length = match &matrix.params[0].value {
        ParamValue::Array(items) => items.len(),
        ParamValue::String(text) if text.contains("results") => {
            let producer = text.split('.').nth(1).unwrap_or_default();
            let producer = children(producer).first();
            producer
                .and_then(|it| it.newest().list_length())
                .unwrap_or_default()
        }
        _ => 0,
    };
    length + matrix.include.len()
}

/// Whether nothing but time can keep `task` from running.
fn unconditional(task: &PipelineTask) -> bool {
    task.when.is_empty() && task.params.is_empty() && task.matrix.is_none()
}

/// Where two values first differ, and how.
fn first_difference(ours: &Value, expected: &Value) -> String {
    match (ours, expected) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            let differ = keys.into_iter().find(|key| a.get(*key) != b.get(*key));
            differ.map_or_else(String::new, |key| {
                let of = |map: &serde_json::Map<String, Value>| {
                    map.get(key).cloned().unwrap_or_default()
                };
                format!(".{key}{}", first_difference(&of(a), &of(b)))
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let differ = (0..a.len()).find(|&at| a[at] != b[at]).unwrap_or_default();
            format!("[{differ}]{}", first_difference(&a[differ], &b[differ]))
        }
        _ => format!(": {ours} instead of {expected}"),
    }
}
