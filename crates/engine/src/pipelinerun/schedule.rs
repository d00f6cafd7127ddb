//! Starting what can be started, and writing down what has become of the run.

use std::collections::BTreeSet;

use tektite_api::names::pipeline_run_reason as reason;
use tektite_api::v1::{PipelineRunSpec, PipelineSpec};

use super::condition::{mark_done, stored};
use super::facts::Facts;
use super::outcome::pipeline_results;
use super::pipeline::{Ready, facts_of};
use super::stop::Stop;
use super::substitute::Pass;
use super::task::{Kind, Resolved, ResolvedSpec};
use super::texts::{USER_ERROR, used_as_format};
use super::timeouts::exceeded;
use super::work::Work;
use super::{affinity, params, results};
use crate::decision::Event;
use crate::references::{self, ResultRef};
use crate::substitution::Replacements;
use crate::when;

impl Work<'_> {
    /// The reconcile proper: from the pipeline to the new status.
    pub(super) fn proceed(&mut self) -> Result<(), Stop> {
        let ready = self.prepare()?;
        let mut state = self.resolve_tasks(&ready)?;
        self.check_task_params(&ready, &state)?;
        for task in &mut state {
            self.evaluate_when(task)?;
        }
        let mut facts = facts_of(self, state, ready.graphs.clone());
        if self.run.spec.status == PipelineRunSpec::CANCELLED_RUN_FINALLY && facts.is_running() {
            // P-276
            self.tell_children_to_end()?;
        }
        if facts.before_first_child() {
            self.check_before_first_child(&ready.spec, &facts)?;
            affinity::provide(self)?;
        }
        self.enforce_timeouts_of_tasks(&facts)?;
        self.start_next(&mut facts)?;
        facts.forget_skips();
        let timeouts = self.timeouts();
        if exceeded(
            self.run.status.start_time.as_ref().map(|time| time.0),
            Some(timeouts.pipeline),
            self.now,
        ) {
            self.time_out()?;
        }
        self.conclude(&ready.spec, &mut facts)
    }

    /// What pipeline tasks pass to their Tasks, in each reconcile (P-141, P-127).
    fn check_task_params(&mut self, ready: &Ready, state: &[Resolved]) -> Result<(), Stop> {
        for (at, task) in state.iter().enumerate() {
            let Some(spec) = task.task_spec() else {
                continue;
            };
            let name = task.task_name();
            if let Err(error) = params::unfit_for_task(&spec.params, &task.task) {
                let error = format!("invalid input params for task {name}: {error}");
                let message = format!(
                    "{USER_ERROR}Validation failed for pipelinerun {} with error {error}",
                    self.name()
                );
                return Err(self.fail(reason::FAILED_VALIDATION, &message, error));
            }
            if self.config.feature_flags.enable_param_enum {
                // The n-th task of the state against the n-th of the spec, as upstream pairs them (P-127).
                let passed = ready.original.get(at).map_or(&[][..], |task| &task.params);
                let declared = &ready.spec.params;
                if let Err(error) = params::enum_not_subset(passed, declared, name, &spec.params) {
                    let message =
                        format!("{USER_ERROR}Validation failed for pipelinerun with error {error}");
                    return Err(self.fail(reason::FAILED_VALIDATION, &message, error));
                }
            }
        }
        Ok(())
    }

    /// CEL of every task, whether it is its turn or not (P-164).
    fn evaluate_when(&mut self, task: &mut Resolved) -> Result<(), Stop> {
        match when::evaluate(&task.task.when) {
            Ok(evaluated) => {
                task.evaluated = evaluated;
                Ok(())
            }
            Err(error) => {
                let message = format!("{USER_ERROR}Error evaluating CEL {}: {error}", self.name());
                Err(self.fail(reason::CEL_EVALUATION_FAILED, &message, error.to_string()))
            }
        }
    }

    /// Checks that are made only while nothing has started (P-142, P-158, P-233).
    fn check_before_first_child(&mut self, spec: &PipelineSpec, facts: &Facts) -> Result<(), Stop> {
        for task in &facts.state {
            for reference in references::result_refs(&task.task) {
                if let Err(error) = result_exists(&reference, facts) {
                    let error = format!(
                        "invalid result reference in pipeline task {:?}: {error}",
                        task.task.name
                    );
                    return Err(self.fail(
                        reason::INVALID_TASK_RESULT_REFERENCE,
                        &used_as_format(&error),
                        error.clone(),
                    ));
                }
            }
        }
        for result in &spec.results {
            let variables = result
                .value
                .texts()
                .into_iter()
                .flat_map(references::variables);
            for reference in variables.filter_map(ResultRef::parse) {
                if let Err(error) = result_exists(&reference, facts) {
                    let error = format!("invalid pipeline result {:?}: {error}", result.name);
                    let message = format!(
                        "Failed to resolve pipeline result reference for {:?} with error {error}",
                        self.name()
                    );
                    return Err(self.fail(
                        reason::INVALID_PIPELINE_RESULT_REFERENCE,
                        &message,
                        error,
                    ));
                }
            }
        }
        let optional = |name: &str| {
            spec.workspaces
                .iter()
                .any(|declared| declared.optional && declared.name == name)
        };
        for task in &facts.state {
            let Some(declared) = task.task_spec() else {
                continue;
            };
            for workspace in task
                .task
                .workspaces
                .iter()
                .filter(|workspace| optional(&workspace.workspace))
            {
                let mut needed = declared.workspaces.iter();
                if needed.any(|declared| declared.name == workspace.name && !declared.optional) {
                    let error = format!(
                        "pipeline workspace {:?} is marked optional but pipeline task {:?} requires it be provided",
                        workspace.workspace, task.task.name
                    );
                    let message =
                        format!("{USER_ERROR}Optional workspace not supported by task: {error}");
                    return Err(self.fail(
                        reason::REQUIRED_WORKSPACE_MARKED_OPTIONAL,
                        &message,
                        error,
                    ));
                }
            }
        }
        Ok(())
    }

    /// Ends what runs beyond the time of tasks, or of finally tasks once they have begun (P-193, P-196).
    fn enforce_timeouts_of_tasks(&mut self, facts: &Facts) -> Result<(), Stop> {
        let timeouts = self.timeouts();
        let time = |time: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
            time.as_ref().map(|it| it.0)
        };
        let finally_start = time(&self.run.status.finally_start_time);
        let (late, finally) = match finally_start {
            None => (
                exceeded(time(&self.run.status.start_time), timeouts.tasks, self.now),
                false,
            ),
            Some(_) => (exceeded(finally_start, timeouts.finally, self.now), true),
        };
        if !late {
            return Ok(());
        }
        let running: BTreeSet<String> = (0..facts.state.len())
            .filter(|&at| facts.is_finally(at) == finally && facts.state[at].is_running())
            .map(|at| facts.state[at].task.name.clone())
            .collect();
        self.time_out_tasks(&running)
    }

    /// Creates the children of all tasks whose turn it is.
    fn start_next(&mut self, facts: &mut Facts) -> Result<(), Stop> {
        let mut next = self.next_tasks(facts)?;
        next.extend(self.next_finally(facts)?);
        if self.run.status.finally_start_time.is_none() && facts.finally_has_begun() {
            self.begin_finally(facts);
        }
        if !self.run.spec.workspaces.is_empty() {
            // P-148
            let results = results::for_propagation(&results::of_task_runs(&facts.state));
            let texts = Replacements {
                strings: results.strings,
                ..Replacements::default()
            };
            for binding in &mut self.run.spec.workspaces {
                texts.apply_workspace_binding(binding);
            }
        }
        let running = facts.state.iter().filter(|task| task.is_running()).count();
        let mut free = self.free_places(running)?;
        for at in next {
            // What was begun and interrupted has its place already.
            let takes_place = usize::from(!facts.state[at].is_running());
            if takes_place > free {
                continue;
            }
            if facts.is_finally(at) {
                self.begin_finally(facts);
            }
            if facts.skip(at).is_none() && facts.skip_finally(at).is_none() {
                self.start(facts, at)?;
                free -= takes_place;
            }
        }
        Ok(())
    }

    /// The tasks to start; those among them that lack results are set aside (P-149).
    fn next_tasks(&mut self, facts: &mut Facts) -> Result<Vec<usize>, Stop> {
        facts.settle_interrupted();
        loop {
            let (next, fault) = facts.queue();
            let errors: Vec<(usize, String)> = next
                .iter()
                .filter_map(|&at| Some((at, facts.missing_result(at)?)))
                .collect();
            let stops = errors
                .iter()
                .any(|(at, _)| !facts.state[*at].continues_on_error());
            if let Some(fault) = fault.filter(|_| stops || errors.is_empty()) {
                return Err(Stop::Permanent(fault.to_string()));
            }
            if errors.is_empty() {
                return Ok(next);
            }
            // Nothing else of the tasks starts in this round. Where all that fail continue on error, upstream holds the
            // others back in every round to come, until the timeout; we go on with what does not need the results.
            for (at, error) in errors {
                let name = &facts.state[at].task.name;
                let message = format!("Task {name:?} failed result validation: {error}");
                self.events
                    .push(Event::warning("ResultValidationFailed", message));
                facts.mark_invalid(at, error);
            }
            // Upstream keeps what it found before, which can keep finally from starting (P-150).
            facts.forget_skips();
            if stops {
                return Ok(Vec::new());
            }
        }
    }

    /// The finally tasks to start, with states and results filled in (P-175, P-179, P-180).
    fn next_finally(&mut self, facts: &mut Facts) -> Result<Vec<usize>, Stop> {
        let mut next = Vec::new();
        let queue = facts.finally_queue();
        if queue.is_empty() {
            return Ok(next);
        }
        let states = Pass::new(Replacements::of_strings(facts.states_for_finally()));
        for &at in &queue {
            states.finally_task(&mut facts.state[at].task);
        }
        for at in queue {
            let Ok(values) = facts.resolve_results(at) else {
                continue;
            };
            results::pass(&values).task(&mut facts.state[at].task);
            self.evaluate_when(&mut facts.state[at])?;
            next.push(at);
        }
        Ok(next)
    }

    /// P-181
    fn begin_finally(&mut self, facts: &mut Facts) {
        let now = self.now;
        let start = self
            .run
            .status
            .finally_start_time
            .get_or_insert_with(|| stored(now))
            .0;
        facts.finally_start.get_or_insert(start);
    }

    fn start(&mut self, facts: &mut Facts, at: usize) -> Result<(), Stop> {
        // P-147, P-153
        let results = results::for_propagation(&results::of_task_runs(&facts.state));
        let artifacts = results::artifacts(&facts.state);
        if let Some(spec) = facts.state[at].task_spec()
            && !(results.is_empty() && artifacts.is_empty())
        {
            let mut spec = Box::new(spec.clone());
            results.apply_task_spec(&mut spec);
            artifacts.apply_task_spec(&mut spec);
            let name = facts.state[at].task_name().to_owned();
            let caching = facts.state[at].caching();
            facts.state[at].spec = Some(ResolvedSpec::Other {
                name,
                spec,
                caching,
            });
        }
        if crate::matrix::of(&facts.state[at].task).is_some() {
            let wrong = facts
                .state
                .iter()
                .find_map(|task| params::mistyped_matrix(&task.task).err());
            if let Some(error) = wrong {
                // The text is Go's complaint about a missing argument (P-202).
                let message = format!(
                    "{USER_ERROR}Failed to validate matrix {error:?} with error %!v(MISSING)"
                );
                return Err(self.fail(reason::INVALID_MATRIX_PARAMETER_TYPES, &message, error));
            }
        }
        if self.restore(facts, at)? {
            return Ok(());
        }
        self.create_children(facts, at)
    }

    /// The condition, references, skipped tasks and results that follow from the facts.
    fn conclude(&mut self, spec: &PipelineSpec, facts: &mut Facts) -> Result<(), Stop> {
        let outcome = facts.outcome(&self.run, &self.timeouts(), self.now);
        match outcome.well {
            Some(well) => mark_done(
                &mut self.run.status,
                well,
                outcome.reason,
                &outcome.message,
                self.now,
            ),
            None => self.mark_running(outcome.reason, &outcome.message),
        }
        let earliest = facts
            .state
            .iter()
            .filter(|task| task.adopted.is_none())
            .flat_map(|task| &task.children)
            .filter_map(|child| child.created())
            .min();
        if let (Some(earliest), Some(start)) = (earliest, &mut self.run.status.start_time)
            && earliest < start.0
        {
            // P-106
            *start = stored(earliest);
        }
        self.run.status.child_references = facts.child_references();
        self.note_adopted(&facts.state);
        self.run.status.skipped_tasks = facts.skipped_tasks();
        if outcome.well.is_none() {
            return Ok(());
        }
        let (results, complaint) = pipeline_results(&spec.results, facts);
        self.run.status.results = results;
        let Some(error) = complaint else {
            return Ok(());
        };
        let message = format!(
            "Failed to get PipelineResult from TaskRun Results for PipelineRun {}: {error}",
            self.name()
        );
        // Not a permanent error upstream, but the run is done all the same (P-157).
        Err(self.fail(reason::COULDNT_GET_PIPELINE_RESULT, &message, error))
    }
}

/// Whether a referenced result exists as far as can be told beforehand (P-142).
fn result_exists(reference: &ResultRef, facts: &Facts) -> Result<(), String> {
    let Some(producer) = facts.find(&reference.task).map(|at| &facts.state[at]) else {
        return Err(format!(
            "referenced pipeline task {:?} does not exist",
            reference.task
        ));
    };
    if producer.kind == Kind::Custom {
        return Ok(());
    }
    let Some(spec) = producer.task_spec() else {
        return Err(format!(
            "unable to validate result referencing pipeline task {:?}: task spec not found",
            reference.task
        ));
    };
    if spec
        .results
        .iter()
        .any(|result| result.name == reference.result)
    {
        return Ok(());
    }
    Err(format!(
        "{:?} is not a named result returned by pipeline task {:?}",
        reference.result, reference.task
    ))
}
