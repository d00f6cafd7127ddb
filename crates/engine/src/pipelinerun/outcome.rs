//! What the tasks' states amount to: the condition, references to children, skipped tasks, results of the pipeline.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tektite_api::names::pipeline_run_reason as reason;
use tektite_api::v1::{
    ChildStatusReference, Param, ParamValue, PipelineResult, PipelineRun, PipelineRunResult,
    PipelineRunSpec, SkippedTask, TaskRunResult,
};

use super::facts::{Facts, Skip};
use super::results;
use super::task::{Child, Resolved};
use super::texts;
use super::timeouts::{Timeouts, exceeded};
use crate::child_name::cut;
use crate::references::{split_index, variables};
use crate::substitution::Replacements;

/// Longest text about failed validations in a message (P-150).
const MAX_ERRORS: usize = 1024;

/// How many tasks are in which state; each counts once (P-285).
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    succeeded: usize,
    failed: usize,
    ignored: usize,
    cancelled: usize,
    invalid: usize,
    skipped: usize,
    skipped_by_timeout: usize,
    incomplete: usize,
}

/// The `Succeeded` condition the run should have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Whether it ended well; `None` while it goes on.
    pub well: Option<bool>,
    pub reason: &'static str,
    pub message: String,
}

impl Facts {
    fn count(&mut self) -> Count {
        let mut count = Count::default();
        for at in 0..self.state.len() {
            let task = &self.state[at];
            if task.succeeded() {
                count.succeeded += 1;
            } else if task.timed_out_by_pipeline() {
                count.failed += 1;
            } else if task.cancelled() {
                count.cancelled += 1;
            } else if task.failed() {
                if task.continues_on_error() {
                    count.ignored += 1;
                } else {
                    count.failed += 1;
                }
            } else if self.is_invalid(at) {
                count.invalid += 1;
            } else {
                match self.skip(at).or_else(|| self.skip_finally(at)) {
                    Some(skip) => {
                        count.skipped += 1;
                        let late = match skip {
                            Skip::TasksTimeout | Skip::FinallyTimeout => true,
                            // A finally task skipped for the pipeline's timeout does not count as late.
                            Skip::PipelineTimeout => !self.is_finally(at),
                            _ => false,
                        };
                        count.skipped_by_timeout += usize::from(late);
                    }
                    None => count.incomplete += 1,
                }
            }
        }
        count
    }

    /// What the run has come to (P-281 to P-284).
    pub(super) fn outcome(
        &mut self,
        run: &PipelineRun,
        timeouts: &Timeouts,
        now: Timestamp,
    ) -> Outcome {
        let name = run.metadata.name.as_deref().unwrap_or_default();
        let start = run.status.start_time.as_ref().map(|time| time.0);
        let failed = |reason, message| Outcome {
            well: Some(false),
            reason,
            message,
        };
        if exceeded(start, Some(timeouts.pipeline), now) {
            return failed(reason::TIMED_OUT, timed_out(name, timeouts));
        }
        // Measured to now even if the tasks ended in time (P-195).
        let tasks_are_late = exceeded(start, timeouts.tasks, now);
        if tasks_are_late && (!self.has_finally() || self.finally_done()) {
            let limit = timeouts.tasks.unwrap_or_default();
            return failed(
                reason::TIMED_OUT,
                format!(
                    "PipelineRun {name:?} failed due to tasks failed to finish within \"{limit}\""
                ),
            );
        }
        let count = self.count();
        let cancelled_by_user = run.spec.status == PipelineRunSpec::CANCELLED_RUN_FINALLY;
        let stopped_by_user = run.spec.status == PipelineRunSpec::STOPPED_RUN_FINALLY;
        if count.incomplete > 0 {
            let reason = if tasks_are_late && self.has_finally() && !self.finally_done() {
                reason::TIMED_OUT_RUNNING_FINALLY
            } else if cancelled_by_user {
                reason::CANCELLED_RUNNING_FINALLY
            } else if stopped_by_user {
                reason::STOPPED_RUNNING_FINALLY
            } else if count.cancelled > 0 || (count.failed > 0 && self.finally_done()) {
                reason::STOPPING
            } else {
                reason::RUNNING
            };
            return Outcome {
                well: None,
                reason,
                message: count.running_message(),
            };
        }
        let message = count.done_message(&self.invalid_errors);
        if count.invalid > 0 {
            failed(reason::FAILED_VALIDATION, message)
        } else if count.failed > 0 || count.skipped_by_timeout > 0 {
            failed(reason::FAILED, message)
        } else if cancelled_by_user || stopped_by_user {
            failed(
                reason::CANCELLED,
                format!("PipelineRun {name:?} was cancelled"),
            )
        } else if count.cancelled > 0 {
            failed(reason::CANCELLED, message)
        } else {
            let reason = if count.skipped > 0 {
                reason::COMPLETED
            } else {
                reason::SUCCESSFUL
            };
            Outcome {
                well: Some(true),
                reason,
                message,
            }
        }
    }

    /// `status.childReferences`, from the children that exist (P-298, P-299).
    pub(super) fn child_references(&mut self) -> Vec<ChildStatusReference> {
        let mut references = Vec::new();
        for at in 0..self.state.len() {
            if self.is_done(at)
                && let Ok(values) = self.resolve_results(at)
                && !values.is_empty()
            {
                let pass = results::pass(&values);
                self.state
                    .iter_mut()
                    .for_each(|task| pass.task(&mut task.task));
            }
            let task = &self.state[at];
            references.extend(
                task.children
                    .iter()
                    .map(|child| child_reference(task, child)),
            );
        }
        references
    }

    /// `status.skippedTasks`.
    pub(super) fn skipped_tasks(&mut self) -> Vec<SkippedTask> {
        let mut skipped = Vec::new();
        for at in 0..self.state.len() {
            let (skip, with_when) = match self.skip(at) {
                Some(skip) => (skip, true),
                // Of finally tasks only those that their when expressions skipped show them (P-166).
                None => match self.skip_finally(at) {
                    Some(skip) => (skip, skip == Skip::When),
                    None => continue,
                },
            };
            let task = &self.state[at].task;
            skipped.push(SkippedTask {
                name: task.name.clone(),
                reason: skip.reason().to_owned(),
                when_expressions: if with_when {
                    task.when.clone()
                } else {
                    Vec::new()
                },
            });
        }
        skipped
    }
}

/// The message of a run that took too long (P-190).
pub(super) fn timed_out(run: &str, timeouts: &Timeouts) -> String {
    format!(
        "PipelineRun {run:?} failed to finish within \"{}\"",
        timeouts.pipeline
    )
}

impl Count {
    fn completed(&self) -> usize {
        self.succeeded + self.failed + self.cancelled + self.ignored
    }

    /// P-281
    fn running_message(&self) -> String {
        format!(
            "Tasks Completed: {} (Failed: {}, Cancelled {}), Incomplete: {}, Skipped: {}",
            self.completed(),
            self.failed,
            self.cancelled,
            self.incomplete,
            self.skipped
        )
    }

    /// P-282
    fn done_message(&self, errors: &BTreeMap<String, String>) -> String {
        let ignored = if self.ignored > 0 {
            format!(" (Ignored: {})", self.ignored)
        } else {
            String::new()
        };
        let mut message = format!(
            "Tasks Completed: {} (Failed: {}{ignored}, Cancelled {}), Skipped: {}",
            self.completed(),
            self.failed + self.ignored,
            self.cancelled,
            self.skipped
        );
        if self.invalid > 0 {
            message.push_str(&format!(", Failed Validation: {}", self.invalid));
            if !errors.is_empty() {
                let joined = errors
                    .values()
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .join("; ");
                let shown = cut(&joined, MAX_ERRORS);
                let more = if shown.len() < joined.len() {
                    "..."
                } else {
                    ""
                };
                message.push_str(&format!(" ({shown}{more})"));
            }
        }
        message
    }
}

fn child_reference(task: &Resolved, child: &Child) -> ChildStatusReference {
    let (kind, params): (_, &[Param]) = match child {
        Child::Task(run) => (super::task::Kind::Task, &run.spec.params),
        Child::Custom(run) => (super::task::Kind::Custom, &run.spec.params),
        Child::Pipeline(run) => (super::task::Kind::Pipeline, &run.spec.params),
    };
    ChildStatusReference {
        api_version: kind.api_version().to_owned(),
        kind: kind.name().to_owned(),
        name: child.name().to_owned(),
        display_name: display_name(task, params),
        pipeline_task_name: task.task.name.clone(),
        when_expressions: task.task.when.clone(),
    }
}

/// The task's name for people, with the child's params; names of matching includes take precedence (P-212).
fn display_name(task: &Resolved, params: &[Param]) -> String {
    let texts = params
        .iter()
        .filter_map(|param| Some((format!("params.{}", param.name), param.value.as_str()?)));
    let known = Replacements::of_strings(texts);
    let mut names = Vec::new();
    for include in task
        .task
        .matrix
        .iter()
        .flat_map(|matrix| &matrix.include)
        .filter(|include| !include.name.is_empty())
    {
        let matches = include.params.iter().all(|param| {
            let own = known.strings.get(&format!("params.{}", param.name));
            own.is_some_and(|own| param.value.as_str().is_none_or(|value| value == own))
        });
        if matches {
            names.push(known.text(&include.name));
        }
    }
    if names.is_empty() {
        known.text(&task.task.display_name)
    } else {
        names.join(" ").trim().to_owned()
    }
}

/// Results of the pipeline, and the complaint if some that must be there are not (P-155 to P-157).
pub(super) fn pipeline_results(
    declared: &[PipelineResult],
    facts: &Facts,
) -> (Vec<PipelineRunResult>, Option<String>) {
    let task_runs = results::of_task_runs(&facts.state);
    let custom_runs = results::of_custom_runs(&facts.state);
    let mut known = Replacements::default();
    let mut given = Vec::new();
    let mut invalid: Vec<&str> = Vec::new();
    for result in declared {
        let expressions: Vec<&str> = result
            .value
            .texts()
            .into_iter()
            .flat_map(variables)
            .collect();
        if expressions.is_empty() {
            continue;
        }
        let mut valid = true;
        for expression in expressions {
            let memoised = known.strings.contains_key(expression)
                || known.arrays.contains_key(expression)
                || known.objects.contains_key(expression);
            if memoised {
                continue;
            }
            match look_up(expression, &task_runs, &custom_runs, facts, &mut known) {
                Found::Yes => {}
                Found::NotRun => valid = false,
                Found::No => {
                    valid = false;
                    invalid.push(&result.name);
                }
            }
        }
        if valid {
            let mut value = result.value.clone();
            known.apply_value(&mut value);
            given.push(PipelineRunResult {
                name: result.name.clone(),
                value,
            });
        }
    }
    let complaint = (!invalid.is_empty()).then(|| {
        format!(
            "invalid pipelineresults {}, the referenced results don't exist",
            texts::list(&invalid)
        )
    });
    (given, complaint)
}

enum Found {
    Yes,
    /// Not there, but the task did not succeed either.
    NotRun,
    No,
}

fn look_up(
    expression: &str,
    task_runs: &BTreeMap<String, Vec<TaskRunResult>>,
    custom_runs: &BTreeMap<String, BTreeMap<String, String>>,
    facts: &Facts,
    known: &mut Replacements,
) -> Found {
    let parts: Vec<&str> = expression.split('.').collect();
    let (task, result, key) = match parts[..] {
        ["tasks" | "finally", task, "results", result] => (task, result, None),
        ["tasks" | "finally", task, "results", result, key] => (task, result, Some(key)),
        _ => return Found::No,
    };
    let (result, index) = split_index(result);
    let value = task_runs
        .get(task)
        .into_iter()
        .flatten()
        .find(|it| it.name == result)
        .map(|it| &it.value);
    let custom = custom_runs
        .get(task)
        .and_then(|results| results.get(&result))
        .filter(|_| key.is_none());
    let variable = expression.strip_suffix("[*]").unwrap_or(expression);
    match (value, key) {
        (None, _) => {
            if let Some(text) = custom {
                known.strings.insert(expression.to_owned(), text.clone());
                return Found::Yes;
            }
            let state = facts.find(task).map(|at| facts.state[at].state());
            if state.is_some_and(|state| state != "Succeeded") {
                Found::NotRun
            } else {
                Found::No
            }
        }
        (Some(value), Some(key)) => match value.as_object().and_then(|pairs| pairs.get(key)) {
            Some(text) => {
                known.strings.insert(expression.to_owned(), text.clone());
                Found::Yes
            }
            None => Found::No,
        },
        (Some(ParamValue::String(text)), None) => {
            known.strings.insert(expression.to_owned(), text.clone());
            Found::Yes
        }
        (Some(ParamValue::Object(pairs)), None) => {
            known.objects.insert(variable.to_owned(), pairs.clone());
            Found::Yes
        }
        (Some(ParamValue::Array(items)), None) if index == "*" => {
            known.arrays.insert(variable.to_owned(), items.clone());
            Found::Yes
        }
        // Without an index the first element is meant (P-155).
        (Some(ParamValue::Array(items)), None) => {
            match items.get(index.parse::<usize>().unwrap_or(0)) {
                Some(text) => {
                    known.strings.insert(expression.to_owned(), text.clone());
                    Found::Yes
                }
                None => Found::No,
            }
        }
    }
}
