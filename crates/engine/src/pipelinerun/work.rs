//! One reconcile in progress: the run as it will be, and what is to be done.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tektite_api::config::Config;
use tektite_api::names::pipeline_run_reason as reason;
use tektite_api::names::{annotation, label};
use tektite_api::v1::{
    ChildStatusReference, Condition, PipelineRun, PipelineRunSpec, PipelineRunStatus, PipelineSpec,
    TaskRun,
};

use super::condition::{mark_done, mark_running, stored};
use super::observed::Observed;
use super::outcome::timed_out;
use super::patches::{self, Cause};
use super::stop::Stop;
use super::task::{Child, Kind};
use super::timeouts::{Timeouts, exceeded, over_at};
use super::{affinity, concurrency, defaults};
use crate::child_name::{LONGEST, cut};
use crate::decision::{Decision, Effect, Event, Inquiry, Refusal};
use crate::trace;

/// How soon to look again for what somebody else is fetching (P-104), or after a fault that may pass.
const SOON: SignedDuration = SignedDuration::from_secs(1);

/// How soon to see again whose turn it is, should nobody tell.
const TURN: SignedDuration = SignedDuration::from_secs(15);

/// One reconcile in progress.
pub(super) struct Work<'a> {
    /// The run as it is stored.
    pub stored: &'a PipelineRun,
    /// The run as it will be: defaulted, with values filled into its workspaces. Neither its spec nor its status holds
    /// the pipeline, which is the bulk of it: see `stored` and `pipeline`.
    pub run: PipelineRun,
    /// The pipeline that the status is to hold, once it is known.
    pub pipeline: Option<Arc<PipelineSpec>>,
    pub seen: &'a Observed,
    pub config: &'a Config,
    pub now: Timestamp,
    pub inquiry: Inquiry<'a>,
    pub effects: Vec<Effect>,
    pub events: Vec<Event>,
    /// TaskRuns that were seen, by name.
    pub task_runs: HashMap<&'a str, &'a Arc<TaskRun>>,
    /// Children of another run that are taken over in this reconcile.
    pub adopted: Vec<Child>,
    /// Tasks whose children the stored status knew, before others were found.
    pub recorded: BTreeSet<String>,
}

/// Decides from the run as it is stored.
pub(super) fn decide(
    stored: &PipelineRun,
    seen: &Observed,
    config: &Config,
    now: Timestamp,
) -> Decision<PipelineRunStatus> {
    if stored.is_done() {
        // P-098
        return Decision::settled(stored.status.clone());
    }
    let mut work = Work {
        stored,
        run: without_pipeline(stored),
        pipeline: None,
        seen,
        config,
        now,
        inquiry: Inquiry::new(&seen.answers),
        effects: Vec::new(),
        events: Vec::new(),
        task_runs: seen
            .task_runs
            .iter()
            .filter_map(|run| Some((run.metadata.name.as_deref()?, run)))
            .collect(),
        adopted: Vec::new(),
        recorded: BTreeSet::new(),
    };
    let mut before = stored.succeeded().cloned();
    let result = work.live(&mut before);
    if result == Err(Stop::Ask) {
        return Decision::unanswered(stored.status.clone(), work.inquiry.into_needs());
    }
    if work.run.is_done() {
        work.clean_up();
        if !work.inquiry.needs().is_empty() {
            return Decision::unanswered(stored.status.clone(), work.inquiry.into_needs());
        }
    }
    work.tell_change(before.as_ref());
    if let Err(Stop::Permanent(error) | Stop::Retry(error)) = &result {
        // P-381
        work.events
            .push(Event::warning("InternalError", error.clone()));
    }
    let wake = work.wake(&result);
    work.run.status.pipeline_spec = match work.pipeline {
        Some(pipeline) => Some(Arc::unwrap_or_clone(pipeline)),
        None => stored.status.pipeline_spec.clone(),
    };
    Decision {
        labels: added(&stored.metadata.labels, &work.run.metadata.labels),
        annotations: added(&stored.metadata.annotations, &work.run.metadata.annotations),
        effects: work.effects,
        events: work.events,
        wake,
        ..Decision::settled(work.run.status)
    }
}

/// A copy of the run without the pipeline in its spec and its status.
fn without_pipeline(run: &PipelineRun) -> PipelineRun {
    let PipelineRunSpec {
        pipeline_ref,
        pipeline_spec: _,
        params,
        status,
        timeouts,
        task_run_template,
        workspaces,
        task_run_specs,
        managed_by,
    } = &run.spec;
    let spec = PipelineRunSpec {
        pipeline_ref: pipeline_ref.clone(),
        pipeline_spec: None,
        params: params.clone(),
        status: status.clone(),
        timeouts: timeouts.clone(),
        task_run_template: task_run_template.clone(),
        workspaces: workspaces.clone(),
        task_run_specs: task_run_specs.clone(),
        managed_by: managed_by.clone(),
    };
    let PipelineRunStatus {
        observed_generation,
        conditions,
        annotations,
        start_time,
        completion_time,
        results,
        pipeline_spec: _,
        skipped_tasks,
        child_references,
        finally_start_time,
        provenance,
        span_context,
    } = &run.status;
    let status = PipelineRunStatus {
        observed_generation: *observed_generation,
        conditions: conditions.clone(),
        annotations: annotations.clone(),
        start_time: start_time.clone(),
        completion_time: completion_time.clone(),
        results: results.clone(),
        pipeline_spec: None,
        skipped_tasks: skipped_tasks.clone(),
        child_references: child_references.clone(),
        finally_start_time: finally_start_time.clone(),
        provenance: provenance.clone(),
        span_context: span_context.clone(),
    };
    PipelineRun {
        metadata: run.metadata.clone(),
        spec,
        status,
    }
}

/// What `new` has that `old` has not or has otherwise.
fn added(
    old: &Option<BTreeMap<String, String>>,
    new: &Option<BTreeMap<String, String>>,
) -> BTreeMap<String, String> {
    let same =
        |key: &String, value: &String| old.as_ref().and_then(|old| old.get(key)) == Some(value);
    new.iter()
        .flatten()
        .filter(|(key, value)| !same(key, value))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

impl Work<'_> {
    pub(super) fn name(&self) -> &str {
        self.run.metadata.name.as_deref().unwrap_or_default()
    }

    pub(super) fn namespace(&self) -> &str {
        self.run.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub(super) fn uid(&self) -> &str {
        self.run.metadata.uid.as_deref().unwrap_or_default()
    }

    pub(super) fn timeouts(&self) -> Timeouts {
        Timeouts::of(&self.run, self.config)
    }

    fn started(&self) -> Option<Timestamp> {
        self.run.status.start_time.as_ref().map(|time| time.0)
    }

    /// Ends the run as failed.
    pub(super) fn fail(&mut self, reason: &str, message: &str, error: impl Into<String>) -> Stop {
        mark_done(&mut self.run.status, false, reason, message, self.now);
        Stop::Permanent(error.into())
    }

    pub(super) fn mark_running(&mut self, reason: &str, message: &str) {
        mark_running(&mut self.run.status, reason, message, self.now);
    }

    /// The refusal of an effect on the object of this kind and name, if the API refused it.
    pub(super) fn refusal(&self, is_it: impl Fn(&Effect) -> bool) -> Option<&Refusal> {
        self.seen
            .refusals
            .iter()
            .find(|refusal| is_it(&refusal.effect))
    }

    /// The steps of a reconcile in their order (P-099).
    fn live(&mut self, before: &mut Option<Condition>) -> Result<(), Stop> {
        trace::adopt(
            &mut self.run.status.span_context,
            &self.run.metadata,
            annotation::PIPELINE_RUN_SPAN_CONTEXT,
            &self.config.tracing,
        );
        self.find_children();
        self.end_what_is_long_overdue()?;
        if !self.let_in()? {
            return Ok(());
        }
        if self.run.status.start_time.is_none() && self.run.spec.status != PipelineRunSpec::PENDING
        {
            self.begin();
            *before = self.run.succeeded().cloned();
        }
        self.label_with_pipeline()?;
        if self.run.spec.status == PipelineRunSpec::CANCELLED {
            return self.cancel();
        }
        self.refuse_unknown_children()?;
        defaults::run(&mut self.run, self.config);
        if self.run.spec.status == PipelineRunSpec::PENDING {
            // P-103
            let message = format!("PipelineRun {:?} is pending", self.name());
            self.mark_running(reason::PENDING, &message);
            return Ok(());
        }
        self.proceed()
    }

    /// P-097
    fn begin(&mut self) {
        let created = self
            .run
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0);
        let start = stored(self.now);
        self.run.status.start_time = Some(match created {
            Some(created) if start.0 < created => stored(created),
            _ => start,
        });
        self.mark_running(reason::STARTED, "");
        self.events.push(Event::normal("Started", ""));
    }

    /// A run that has lived twice its time is ended whatever its state (P-100).
    fn end_what_is_long_overdue(&mut self) -> Result<(), Stop> {
        let timeouts = self.timeouts();
        let overdue = exceeded(self.started(), Some(timeouts.pipeline), self.now)
            && self.started().is_some_and(|start| {
                self.now.duration_since(start) >= SignedDuration::from(timeouts.pipeline) * 2
            });
        if !overdue {
            return Ok(());
        }
        self.time_out()?;
        Err(Stop::Permanent(
            "PipelineRun has timed out for a long time".to_owned(),
        ))
    }

    /// Tells all children to end and marks the run as timed out (P-190, P-192).
    pub(super) fn time_out(&mut self) -> Result<(), Stop> {
        let patches = patches::tell(&self.run, self.seen, Cause::TimedOut, None);
        self.effects.extend(patches.effects);
        let name = self.name().to_owned();
        if patches.errors.is_empty() {
            let message = timed_out(&name, &self.timeouts());
            mark_done(
                &mut self.run.status,
                false,
                reason::TIMED_OUT,
                &message,
                self.now,
            );
            return Ok(());
        }
        let errors = patches.errors.join("\n");
        self.mark_running(
            reason::COULDNT_TIME_OUT,
            &format!(
                "PipelineRun {name:?} was timed out but had errors trying to time out TaskRuns and/or Runs: {errors}"
            ),
        );
        Err(Stop::Retry(format!(
            "error(s) from timing out TaskRun(s) from PipelineRun {name}: {errors}"
        )))
    }

    /// Tells the running children of some tasks that their time is over (P-193, P-196).
    pub(super) fn time_out_tasks(&mut self, tasks: &BTreeSet<String>) -> Result<(), Stop> {
        if tasks.is_empty() {
            return Ok(());
        }
        let patches = patches::tell(&self.run, self.seen, Cause::TimedOut, Some(tasks));
        self.effects.extend(patches.effects);
        if patches.errors.is_empty() {
            return Ok(());
        }
        let errors = patches.errors.join("\n");
        Err(Stop::Retry(format!(
            "error(s) from cancelling TaskRun(s) from PipelineRun {}: {errors}",
            self.name()
        )))
    }

    /// P-272
    fn cancel(&mut self) -> Result<(), Stop> {
        self.tell_children_to_end()?;
        let message = format!("PipelineRun {:?} was cancelled", self.name());
        mark_done(
            &mut self.run.status,
            false,
            reason::CANCELLED,
            &message,
            self.now,
        );
        self.run.status.completion_time = Some(stored(self.now));
        Ok(())
    }

    /// Asks all recorded children to cancel (P-273, P-274).
    pub(super) fn tell_children_to_end(&mut self) -> Result<(), Stop> {
        let patches = patches::tell(&self.run, self.seen, Cause::Cancelled, None);
        self.effects.extend(patches.effects);
        if patches.errors.is_empty() {
            return Ok(());
        }
        let (name, errors) = (self.name().to_owned(), patches.errors.join("\n"));
        self.mark_running(
            reason::COULDNT_CANCEL,
            &format!(
                "PipelineRun {name:?} was cancelled but had errors trying to cancel TaskRuns and/or Runs: {errors}"
            ),
        );
        Err(Stop::Retry(format!(
            "error(s) from cancelling TaskRun(s) from PipelineRun {name}: {errors}"
        )))
    }

    /// Labels the run with the pipeline's name as far as it can be told now (P-266).
    fn label_with_pipeline(&mut self) -> Result<(), Stop> {
        let name = self.name().to_owned();
        let generated = self.run.metadata.generate_name.clone().unwrap_or_default();
        let labels = self.run.metadata.labels.get_or_insert_default();
        if labels.contains_key(label::PIPELINE) {
            return Ok(());
        }
        let spec = &self.stored.spec;
        let value = match (&spec.pipeline_ref, &spec.pipeline_spec) {
            (Some(reference), _) if !reference.name.is_empty() => reference.name.clone(),
            (_, Some(_)) => {
                let shortened =
                    cut(&generated, LONGEST).trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
                if shortened.is_empty() {
                    name
                } else {
                    shortened.to_owned()
                }
            }
            (Some(reference), None) if !reference.resolver.is_empty() => {
                let param = |wanted: &str| {
                    let param = reference
                        .params
                        .iter()
                        .rev()
                        .find(|param| param.name == wanted);
                    param
                        .and_then(|param| param.value.as_str())
                        .unwrap_or_default()
                };
                if param("kind") == "pipeline" {
                    param("name").to_owned()
                } else {
                    name
                }
            }
            _ => {
                return Err(Stop::Retry(format!(
                    "pipelineRun {name} not providing PipelineRef or PipelineSpec"
                )));
            }
        };
        labels.insert(label::PIPELINE.to_owned(), value);
        Ok(())
    }

    /// Adds children that the status does not know yet to `status.childReferences` (P-271, P-299), before anything can end
    /// the run: upstream tells only those that were written down to end, and others run on for good (P-275).
    fn find_children(&mut self) {
        let (name, uid) = (self.name().to_owned(), self.uid().to_owned());
        let known: HashSet<&str> = self
            .run
            .status
            .child_references
            .iter()
            .map(|child| child.name.as_str())
            .collect();
        let mine = |metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
                    kind: Kind| {
            let labels = metadata.labels.as_ref()?;
            let owner = metadata.owner_references.as_ref()?.first()?;
            let child = metadata.name.as_deref().unwrap_or_default();
            let is_mine = !known.contains(child)
                && labels.get(label::PIPELINE_RUN) == Some(&name)
                && labels.get(label::PIPELINE_RUN_UID) == Some(&uid)
                && owner.uid == uid;
            is_mine.then(|| ChildStatusReference {
                api_version: kind.api_version().to_owned(),
                kind: kind.name().to_owned(),
                name: child.to_owned(),
                pipeline_task_name: labels
                    .get(label::PIPELINE_TASK)
                    .cloned()
                    .unwrap_or_default(),
                ..ChildStatusReference::default()
            })
        };
        let task_runs = self
            .seen
            .task_runs
            .iter()
            .filter_map(|run| mine(&run.metadata, Kind::Task));
        let custom_runs = self
            .seen
            .custom_runs
            .iter()
            .filter_map(|run| mine(&run.metadata, Kind::Custom));
        let pipeline_runs = self
            .seen
            .pipeline_runs
            .iter()
            .filter_map(|run| mine(&run.metadata, Kind::Pipeline));
        let found: Vec<_> = pipeline_runs.chain(task_runs).chain(custom_runs).collect();
        let known = &mut self.run.status.child_references;
        self.recorded = known
            .iter()
            .map(|child| child.pipeline_task_name.clone())
            .collect();
        if !found.is_empty() {
            known.extend(found);
            known.sort_by(|a, b| {
                (&a.pipeline_task_name, &a.name, &a.kind).cmp(&(
                    &b.pipeline_task_name,
                    &b.name,
                    &b.kind,
                ))
            });
        }
    }

    fn refuse_unknown_children(&self) -> Result<(), Stop> {
        let known = &self.run.status.child_references;
        let kinds = [Kind::Task, Kind::Custom, Kind::Pipeline].map(Kind::name);
        let unknown: Vec<String> = known
            .iter()
            .filter(|child| !kinds.contains(&child.kind.as_str()))
            .map(|child| {
                format!(
                    "child with name {} has unknown kind {}",
                    child.name, child.kind
                )
            })
            .collect();
        if unknown.is_empty() {
            Ok(())
        } else {
            Err(Stop::Retry(unknown.join("\n")))
        }
    }

    /// Takes down what only a running pipeline needs (P-243, P-244, P-256). It happens before the status is written, so
    /// a finished run has nothing left to do.
    fn clean_up(&mut self) {
        affinity::clean_up(self);
        let auto = self
            .run
            .metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get(annotation::AUTO_CLEANUP_PVC));
        let auto = auto.is_some_and(|value| value == "true");
        affinity::delete_claims(self, auto);
    }

    /// The event that a changed condition is worth (P-380).
    fn tell_change(&mut self, before: Option<&Condition>) {
        let Some(after) = self.run.succeeded() else {
            return;
        };
        if before == Some(after) {
            return;
        }
        self.events.push(match after.status.as_str() {
            "True" => Event::normal("Succeeded", after.message.clone()),
            "False" => Event::warning("Failed", after.message.clone()),
            _ if after.reason == concurrency::QUEUED => {
                Event::normal(concurrency::QUEUED, after.message.clone())
            }
            _ if before.is_none() => Event::normal("Started", ""),
            _ => Event::normal(after.reason.clone(), after.message.clone()),
        });
    }

    /// When to look again although nothing happens (P-104, P-105).
    fn wake(&self, result: &Result<(), Stop>) -> Option<Timestamp> {
        if self.run.is_done() {
            return None;
        }
        let Some(start) = self.started() else {
            // Whoever goes before it may end unnoticed.
            let queued = self
                .run
                .succeeded()
                .is_some_and(|it| it.reason == concurrency::QUEUED);
            return queued.then(|| self.now.checked_add(TURN).ok()).flatten();
        };
        let timeouts = self.timeouts();
        let limited = |limit: tektite_api::Duration| (!limit.is_zero()).then_some(limit);
        let pipeline = limited(timeouts.pipeline).and_then(|limit| over_at(start, limit));
        match result {
            Err(Stop::Retry(_) | Stop::Waiting) => return self.now.checked_add(SOON).ok(),
            // Nothing will be done before P-100 does it, unless something happens.
            Err(_) => {
                return limited(timeouts.pipeline)
                    .and_then(|limit| start.checked_add(SignedDuration::from(limit) * 2).ok());
            }
            Ok(()) => {}
        }
        if let Some(begun) = self
            .run
            .status
            .finally_start_time
            .as_ref()
            .map(|time| time.0)
        {
            let finally = timeouts
                .finally
                .and_then(limited)
                .and_then(|limit| over_at(begun, limit));
            return [finally, pipeline].into_iter().flatten().min();
        }
        let tasks = timeouts
            .tasks
            .and_then(limited)
            .and_then(|limit| over_at(start, limit));
        // Once the tasks' time is over the pipeline's is next.
        tasks.filter(|&at| at > self.now).or(pipeline)
    }
}
