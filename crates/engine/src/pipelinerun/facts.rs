//! All tasks of a run together: which are done, which are skipped and why, which may start.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use tektite_api::v1::{PipelineRunSpec, PipelineTask};

use super::results;
use super::task::Resolved;
use super::timeouts::{Timeouts, exceeded};
use crate::dag::{DoneTooEarly, Graph};
use crate::matrix;
use crate::references;
use crate::when;

/// Why a task is not run (P-167).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skip {
    Stopping,
    GracefullyCancelled,
    GracefullyStopped,
    When,
    Parent,
    MissingResults,
    PipelineTimeout,
    TasksTimeout,
    FinallyTimeout,
    EmptyMatrix,
}

impl Skip {
    /// The text in `skippedTasks`.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Stopping => "PipelineRun was stopping",
            Self::GracefullyCancelled => "PipelineRun was gracefully cancelled",
            Self::GracefullyStopped => "PipelineRun was gracefully stopped",
            Self::When => "When Expressions evaluated to false",
            Self::Parent => "Parent Tasks were skipped",
            Self::MissingResults => "Results were missing",
            Self::PipelineTimeout => "PipelineRun timeout has been reached",
            Self::TasksTimeout => "PipelineRun Tasks timeout has been reached",
            Self::FinallyTimeout => "PipelineRun Finally timeout has been reached",
            Self::EmptyMatrix => "Matrix Parameters have an empty array",
        }
    }
}

/// Everything that decides what comes next.
#[derive(Debug)]
pub(super) struct Facts {
    pub state: Vec<Resolved>,
    by_name: HashMap<String, usize>,
    tasks: Graph,
    has_finally: bool,
    /// Of each task: whether it is one of finally.
    finally: Vec<bool>,
    /// Of each task: what it waits for.
    parents: Vec<Vec<usize>>,
    spec_status: String,
    timeouts: Timeouts,
    start: Option<Timestamp>,
    pub finally_start: Option<Timestamp>,
    now: Timestamp,
    skips: Vec<Option<Option<Skip>>>,
    /// Tasks whose results are missing, found in this reconcile (P-149).
    invalid: Vec<usize>,
    /// What is wrong with them, by name.
    pub invalid_errors: BTreeMap<String, String>,
}

/// When things began, as the status says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    pub start: Option<Timestamp>,
    pub finally_start: Option<Timestamp>,
    pub now: Timestamp,
}

impl Facts {
    pub(super) fn new(
        state: Vec<Resolved>,
        graphs: (Graph, Graph),
        spec_status: &str,
        timeouts: Timeouts,
        clocks: Clocks,
    ) -> Self {
        let by_name: HashMap<String, usize> = state
            .iter()
            .enumerate()
            .map(|(i, task)| (task.task.name.clone(), i))
            .collect();
        let (tasks, finally) = graphs;
        let parents = state.iter().map(|task| {
            let parents = tasks.parents(&task.task.name);
            parents
                .filter_map(|parent| by_name.get(parent).copied())
                .collect()
        });
        Self {
            parents: parents.collect(),
            finally: state
                .iter()
                .map(|task| finally.contains(&task.task.name))
                .collect(),
            has_finally: !finally.is_empty(),
            by_name,
            skips: vec![None; state.len()],
            state,
            tasks,
            spec_status: spec_status.to_owned(),
            timeouts,
            start: clocks.start,
            finally_start: clocks.finally_start,
            now: clocks.now,
            invalid: Vec::new(),
            invalid_errors: BTreeMap::new(),
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub(super) fn forget_skips(&mut self) {
        self.skips.fill(None);
    }

    pub(super) fn is_task(&self, at: usize) -> bool {
        !self.finally[at]
    }

    pub(super) fn is_finally(&self, at: usize) -> bool {
        self.finally[at]
    }

    pub(super) fn has_finally(&self) -> bool {
        self.has_finally
    }

    pub(super) fn before_first_child(&self) -> bool {
        self.state
            .iter()
            .all(|task| task.children.is_empty() || task.adopted.is_some())
    }

    /// Whether some task, not counting finally, is running.
    pub(super) fn is_running(&self) -> bool {
        (0..self.state.len()).any(|at| self.is_task(at) && self.state[at].is_running())
    }

    /// Whether result validation failed; upstream takes all custom tasks for one another here (P-151).
    pub(super) fn is_invalid(&self, at: usize) -> bool {
        self.invalid.contains(&at)
    }

    /// Notes that the task at `at` lacks results.
    pub(super) fn mark_invalid(&mut self, at: usize, error: String) {
        self.invalid_errors
            .insert(self.state[at].task.name.clone(), error);
        self.invalid.push(at);
    }

    /// Whether a task has failed so that no other may start (P-119).
    pub(super) fn is_stopping(&self) -> bool {
        (0..self.state.len()).any(|at| {
            let task = &self.state[at];
            self.is_task(at) && (task.failed() || self.is_invalid(at)) && !task.continues_on_error()
        })
    }

    /// Skipped, succeeded, failed or invalid (P-117).
    pub(super) fn is_done(&mut self, at: usize) -> bool {
        self.skip(at).is_some() || self.state[at].finished() || self.is_invalid(at)
    }

    fn parents_done(&mut self, at: usize) -> bool {
        self.is_finally(at)
            || (0..self.parents[at].len()).all(|number| self.is_done(self.parents[at][number]))
    }

    /// Why the task at `at` is skipped, if it is none of finally (P-168).
    pub(super) fn skip(&mut self, at: usize) -> Option<Skip> {
        if let Some(known) = self.skips[at] {
            return known;
        }
        let skip = self.skip_uncached(at);
        self.skips[at] = Some(skip);
        skip
    }

    fn skip_uncached(&mut self, at: usize) -> Option<Skip> {
        if self.is_finally(at) || self.state[at].is_scheduled() || self.is_invalid(at) {
            None
        } else if self.is_stopping() {
            Some(Skip::Stopping)
        } else if self.spec_status == PipelineRunSpec::CANCELLED_RUN_FINALLY {
            Some(Skip::GracefullyCancelled)
        } else if self.spec_status == PipelineRunSpec::STOPPED_RUN_FINALLY {
            Some(Skip::GracefullyStopped)
        } else if self.when_is_false(at) {
            Some(Skip::When)
        } else if self.parent_was_skipped(at) {
            Some(Skip::Parent)
        } else if self.results_are_missing(at) {
            Some(Skip::MissingResults)
        } else if self.pipeline_is_late() && self.parents_done(at) {
            Some(Skip::PipelineTimeout)
        } else if exceeded(self.start, self.timeouts.tasks, self.now) && self.parents_done(at) {
            Some(Skip::TasksTimeout)
        } else if matrix::has_empty_array(&self.state[at].task) && self.parents_done(at) {
            // Upstream does not wait for the parents, and then the graph refuses the whole run for good (P-118, P-173).
            Some(Skip::EmptyMatrix)
        } else {
            None
        }
    }

    /// Why the finally task at `at` is skipped, once all tasks are done (P-169).
    pub(super) fn skip_finally(&mut self, at: usize) -> Option<Skip> {
        if self.state[at].is_scheduled() || !self.is_finally(at) || !self.tasks_done() {
            None
        } else if self.results_are_missing(at) {
            Some(Skip::MissingResults)
        } else if self.when_is_false(at) {
            Some(Skip::When)
        } else if self.pipeline_is_late() {
            Some(Skip::PipelineTimeout)
        } else if exceeded(self.finally_start, self.timeouts.finally, self.now) {
            Some(Skip::FinallyTimeout)
        } else if matrix::has_empty_array(&self.state[at].task) {
            Some(Skip::EmptyMatrix)
        } else {
            None
        }
    }

    fn pipeline_is_late(&self) -> bool {
        exceeded(self.start, Some(self.timeouts.pipeline), self.now)
    }

    fn when_is_false(&mut self, at: usize) -> bool {
        self.parents_done(at) && !when::allow(&self.state[at].task.when, &self.state[at].evaluated)
    }

    /// A parent skipped for anything but its own when expressions takes its dependents along (P-170).
    fn parent_was_skipped(&mut self, at: usize) -> bool {
        (0..self.parents[at].len()).any(|number| {
            let parent = self.parents[at][number];
            self.skip(parent).is_some_and(|skip| skip != Skip::When)
        })
    }

    /// Fills in results; whether the task is skipped for want of one (P-171, P-172).
    fn results_are_missing(&mut self, at: usize) -> bool {
        if !self.parents_done(at) || !uses_results(&self.state[at].task) {
            return false;
        }
        match self.resolve_results(at) {
            Ok(values) => results::pass(&values).task(&mut self.state[at].task),
            Err(producer) => {
                if let Some(producer) = self.find(&producer)
                    && (self.state[at].continues_on_error()
                        || self.is_finally(at)
                        || self.skip(producer) == Some(Skip::When))
                {
                    return true;
                }
            }
        }
        self.forget_skips();
        false
    }

    /// Whether all tasks, not counting finally, are done.
    pub(super) fn tasks_done(&mut self) -> bool {
        (0..self.state.len()).all(|at| !self.is_task(at) || self.is_done(at))
    }

    /// Whether all finally tasks have ended; one that is skipped never has (P-194).
    pub(super) fn finally_done(&mut self) -> bool {
        (0..self.state.len()).all(|at| !self.is_finally(at) || self.is_done(at))
    }

    /// The tasks whose turn it is, in the order of the state (P-117, P-119); and the fault if a task is done before its
    /// ancestors are (P-118).
    pub(super) fn queue(&mut self) -> (Vec<usize>, Option<DoneTooEarly>) {
        if matches!(
            self.spec_status.as_str(),
            PipelineRunSpec::CANCELLED | PipelineRunSpec::CANCELLED_RUN_FINALLY
        ) {
            return (Vec::new(), None);
        }
        let mut done = Vec::new();
        for at in 0..self.state.len() {
            if self.is_task(at) && self.is_done(at) {
                done.push(at);
            }
        }
        let names: Vec<&str> = done
            .iter()
            .map(|&at| self.state[at].task.name.as_str())
            .collect();
        let (candidates, fault) = self.tasks.candidates(&names);
        if self.is_stopping() || self.spec_status == PipelineRunSpec::STOPPED_RUN_FINALLY {
            return (Vec::new(), fault);
        }
        let may_start = |at: &usize| {
            let task = &self.state[*at];
            task.may_start() && candidates.contains(task.task.name.as_str())
        };
        ((0..self.state.len()).filter(may_start).collect(), fault)
    }

    /// The finally tasks not started yet, once all tasks are done (P-175).
    pub(super) fn finally_queue(&mut self) -> Vec<usize> {
        if !self.tasks_done() {
            return Vec::new();
        }
        (0..self.state.len())
            .filter(|&at| self.is_finally(at) && self.state[at].may_start())
            .collect()
    }

    /// Where no task may start any more, those whose start was interrupted end with the children they have.
    pub(super) fn settle_interrupted(&mut self) {
        let closing = !self.spec_status.is_empty() || self.is_stopping();
        for at in 0..self.state.len() {
            if closing && self.is_task(at) {
                self.state[at].interrupted = false;
            }
        }
    }

    /// Whether finally has begun: all tasks are done and a finally task has children.
    pub(super) fn finally_has_begun(&mut self) -> bool {
        self.tasks_done()
            && (0..self.state.len()).any(|at| self.is_finally(at) && self.state[at].is_scheduled())
    }

    /// `tasks.<t>.status`, `tasks.<t>.reason` and `tasks.status` as finally tasks see them (P-176 to P-178).
    pub(super) fn states_for_finally(&mut self) -> BTreeMap<String, String> {
        let mut states = BTreeMap::new();
        for at in 0..self.state.len() {
            if self.is_task(at) {
                let task = &self.state[at];
                states.insert(
                    format!("tasks.{}.status", task.task.name),
                    task.state().to_owned(),
                );
                states.insert(
                    format!("tasks.{}.reason", task.task.name),
                    task.reason().to_owned(),
                );
            }
        }
        let aggregate = if !self.tasks_done() {
            "None"
        } else if (0..self.state.len()).any(|at| self.is_task(at) && self.state[at].any_failed()) {
            "Failed"
        } else if (0..self.state.len()).any(|at| self.is_task(at) && self.skip(at).is_some()) {
            "Completed"
        } else {
            "Succeeded"
        };
        states.insert("tasks.status".to_owned(), aggregate.to_owned());
        states
    }
}

/// Whether params or when speak of results: the places that make a task try the skip of [`Skip::MissingResults`]
/// (P-172).
fn uses_results(task: &PipelineTask) -> bool {
    let in_params = task.params.iter().flat_map(references::param_variables);
    let in_when = task.when.iter().flat_map(references::when_variables);
    in_params.chain(in_when).any(references::looks_like_result)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P-167
    #[test]
    fn reasons_of_skips_are_spelled_as_tools_know_them() {
        for (skip, reason) in [
            (Skip::When, "When Expressions evaluated to false"),
            (Skip::Parent, "Parent Tasks were skipped"),
            (Skip::Stopping, "PipelineRun was stopping"),
            (
                Skip::GracefullyCancelled,
                "PipelineRun was gracefully cancelled",
            ),
            (
                Skip::GracefullyStopped,
                "PipelineRun was gracefully stopped",
            ),
            (Skip::MissingResults, "Results were missing"),
            (
                Skip::PipelineTimeout,
                "PipelineRun timeout has been reached",
            ),
            (
                Skip::TasksTimeout,
                "PipelineRun Tasks timeout has been reached",
            ),
            (
                Skip::FinallyTimeout,
                "PipelineRun Finally timeout has been reached",
            ),
            (Skip::EmptyMatrix, "Matrix Parameters have an empty array"),
        ] {
            assert_eq!(skip.reason(), reason);
        }
    }
}
