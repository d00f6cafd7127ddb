//! The order of a pipeline's tasks: no duplicates, no cycles, nothing unknown.

use std::collections::{BTreeMap, BTreeSet};

use super::task_result_ref;
use crate::{
    admission::{FieldError, field_error::quote},
    v1::PipelineTask,
};

pub(super) fn validate(tasks: &[PipelineTask]) -> Option<FieldError> {
    problem(tasks).map(|message| FieldError::invalid_value(message, "tasks"))
}

fn problem(tasks: &[PipelineTask]) -> Option<String> {
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for task in tasks {
        if !names.insert(&task.name) {
            let name = &task.name;
            return Some(format!(
                "task {name} is already present in Graph, can't add it again: duplicate pipeline task"
            ));
        }
    }
    let mut parents: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for task in tasks {
        let mut of: BTreeSet<&str> = task_result_ref::of_task(task)
            .into_iter()
            .map(|r| r.task)
            .collect();
        of.extend(task.run_after.iter().map(String::as_str));
        if !of.is_empty() {
            parents.insert(&task.name, of);
        }
    }
    if let Some((name, of)) = cycle(&parents) {
        let shown: Vec<_> = of.into_iter().map(quote).collect();
        return Some(format!(
            "cycle detected; task {} depends on {}",
            quote(name),
            shown.join(", ")
        ));
    }
    for (name, of) in &parents {
        if let Some(unknown) = of.iter().find(|parent| !names.contains(**parent)) {
            return Some(format!(
                "couldn't add link between {name} and {unknown}: task {name} depends on {unknown} but {unknown} wasn't \
                 present in Pipeline"
            ));
        }
    }
    None
}

/// The first task, by name, that can never start, with what it waits for.
fn cycle<'a>(
    parents: &BTreeMap<&'a str, BTreeSet<&'a str>>,
) -> Option<(&'a str, BTreeSet<&'a str>)> {
    let mut waiting = parents.clone();
    loop {
        let still: BTreeSet<&str> = waiting.keys().copied().collect();
        for of in waiting.values_mut() {
            of.retain(|parent| still.contains(parent));
        }
        let before = waiting.len();
        waiting.retain(|_, of| !of.is_empty());
        if waiting.len() == before {
            return waiting.into_iter().next();
        }
    }
}
