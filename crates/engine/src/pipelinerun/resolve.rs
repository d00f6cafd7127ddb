//! Resolving the tasks of a pipeline: what they refer to, which children they have, what their results are.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tektite_api::names::{pipeline_run_reason as reason, task_run_reason};
use tektite_api::v1::{Param, PipelineTask, TaskSpec};

use super::cache::Caching;
use super::pipeline::{NotFetched, Origin, Ready, pipeline_of};
use super::stop::Stop;
use super::task::{Child, Kind, Resolved, ResolvedPipeline, ResolvedSpec};
use super::texts::USER_ERROR;
use super::work::Work;
use super::{defaults, names, results};
use crate::child_name::child_name;
use crate::decision::{
    FailureKind, Found, Known, Query, RemoteKind, RemoteObject, RemoteRef, Verification,
};
use crate::matrix;
use crate::references;
use crate::when::Evaluated;

/// More children than any task may have: upstream has no limit here and runs out of memory (P-200).
const MAX_FAN_OUT: usize = 10_000;

/// Why a task is not resolved.
enum Unresolved {
    Pending,
    /// Its Task, or its child pipeline, cannot be had: reason, what it is called and why (P-217, P-292).
    NotFound {
        reason: &'static str,
        text: String,
    },
    Unverified(String),
    /// Some other fault (P-145).
    Other(String),
}

impl Work<'_> {
    /// Resolves every task: first those with children, so that the others can use their results (P-102).
    pub(super) fn resolve_tasks(&mut self, ready: &Ready) -> Result<Vec<Resolved>, Stop> {
        let tasks = || ready.spec.tasks.iter().chain(&ready.spec.finally);
        self.ask_for_tasks(tasks());
        if !self.inquiry.needs().is_empty() {
            return Err(Stop::Ask);
        }
        // Those found just now are among them, or what is shown of skipped tasks would depend on who wrote down what.
        let children = self.run.status.child_references.iter();
        let with_children: BTreeSet<String> = children
            .map(|child| child.pipeline_task_name.clone())
            .collect();
        let (begun, waiting): (Vec<_>, Vec<_>) =
            tasks().partition(|task| with_children.contains(&task.name));
        let mut state: Vec<Resolved> = Vec::with_capacity(begun.len() + waiting.len());
        for task in begun.into_iter().chain(waiting) {
            match self.resolve_task(task, &mut state) {
                Ok(resolved) => state.push(resolved),
                Err(unresolved) => return Err(self.give_up(&ready.origin, task, unresolved)),
            }
        }
        for at in 0..state.len() {
            let task = &state[at].task;
            let fans_out_over_results = !self.recorded.contains(&task.name)
                && matrix::of(task).is_some()
                && !references::result_refs(task).is_empty();
            if fans_out_over_results {
                // Its producer may have come after it: only now can its children be counted.
                let task = task.clone();
                match self.resolve_task(&task, &mut state) {
                    Ok(resolved) => state[at] = resolved,
                    Err(unresolved) => {
                        return Err(self.give_up(&ready.origin, &task, unresolved));
                    }
                }
            }
        }
        fill_in_late(&mut state);
        Ok(state)
    }

    fn give_up(&mut self, origin: &Origin, task: &PipelineTask, unresolved: Unresolved) -> Stop {
        match unresolved {
            Unresolved::Pending => {
                let message = format!(
                    "PipelineRun {}/{} awaiting remote resource",
                    self.namespace(),
                    self.name()
                );
                self.mark_running(task_run_reason::RESOLVING_TASK_REF, &message);
                Stop::Waiting
            }
            Unresolved::NotFound { reason, text } => {
                let what = if reason == reason::COULDNT_GET_TASK {
                    "Tasks"
                } else {
                    "child Pipelines"
                };
                let message = format!(
                    "Pipeline {}/{} can't be Run; it contains {what} that don't exist: {text}",
                    origin.namespace, origin.name
                );
                self.fail(reason, &message, text)
            }
            Unresolved::Unverified(error) => self.unverified(&task.name, &error),
            Unresolved::Other(error) => {
                let message = format!(
                    "{USER_ERROR}PipelineRun {}/{} can't be Run; couldn't resolve all references: {error}",
                    origin.namespace,
                    self.name()
                );
                self.fail(reason::FAILED_VALIDATION, &message, error)
            }
        }
    }

    /// Asks for all that references need, so that it can be looked up at once.
    fn ask_for_tasks<'t>(&mut self, tasks: impl Iterator<Item = &'t PipelineTask>) {
        for task in tasks {
            if let Some(query) = self.query_for(task) {
                self.inquiry.ask(query);
            }
        }
    }

    /// What must be asked about `task`; nothing if a child knows its Task already (P-312).
    fn query_for(&self, task: &PipelineTask) -> Option<Query> {
        match Kind::of(task) {
            Kind::Custom => None,
            Kind::Pipeline => task
                .pipeline_ref
                .as_ref()
                .map(|reference| self.pipeline_query(reference)),
            Kind::Task => {
                let reference = task.task_ref.as_ref()?;
                let name = self.first_task_run(task);
                self.stored_spec(task)
                    .is_none()
                    .then(|| self.task_query(reference, name))
            }
        }
    }

    /// The Task as some child of `task` has it in its status (P-312).
    fn stored_spec(&self, task: &PipelineTask) -> Option<TaskSpec> {
        let recorded = self.run.status.child_references.iter().filter(|child| {
            child.kind == Kind::Task.name() && child.pipeline_task_name == task.name
        });
        let mut runs = recorded.filter_map(|child| self.child(Kind::Task, &child.name));
        runs.find_map(|child| match child {
            Child::Task(run) => run.status.task_spec.clone(),
            _ => None,
        })
    }

    /// Name under which the Task of `task` is asked for: of its first child, recorded or to come (P-305).
    fn first_task_run(&self, task: &PipelineTask) -> String {
        let recorded =
            self.run.status.child_references.iter().find(|child| {
                child.kind == Kind::Task.name() && child.pipeline_task_name == task.name
            });
        recorded.map_or_else(
            || child_name(self.name(), &format!("-{}", task.name)),
            |child| child.name.clone(),
        )
    }

    fn task_query(&self, reference: &tektite_api::v1::TaskRef, task_run: String) -> Query {
        let namespace = self.namespace().to_owned();
        if reference.resolver.is_empty() {
            return Query::Task {
                namespace,
                name: reference.name.clone(),
            };
        }
        Query::Remote(RemoteRef {
            kind: RemoteKind::Task,
            namespace,
            run: task_run,
            resolver: reference.resolver.clone(),
            // The url of the concise syntax is not passed on here (P-308).
            url: String::new(),
            params: reference.params.clone(),
        })
    }

    fn resolve_task(
        &mut self,
        task: &PipelineTask,
        state: &mut [Resolved],
    ) -> Result<Resolved, Unresolved> {
        let mut resolved = Resolved {
            task: task.clone(),
            kind: Kind::of(task),
            names: Vec::new(),
            children: Vec::new(),
            spec: None,
            pipeline: None,
            evaluated: Evaluated::new(),
            gathered: Default::default(),
            interrupted: false,
            adopted: self.is_adopted(&task.name),
            cache_key: None,
        };
        if let Ok(values) = results::resolve(&resolved, state) {
            if let Some(error) = results::beyond_array(&values) {
                return Err(Unresolved::Other(error));
            }
            if !values.is_empty() {
                results::pass(&values).task(&mut resolved.task);
            }
        }
        let number = matrix::of(&resolved.task).map_or(1, matrix::count);
        if number > MAX_FAN_OUT {
            return Err(Unresolved::Other(format!(
                "matrix of pipeline task {:?} has more than {MAX_FAN_OUT} combinations",
                task.name
            )));
        }
        let known = &self.run.status.child_references;
        resolved.names = names::children(known, resolved.kind, self.name(), &task.name, number);
        if !self.recorded.contains(&task.name) && resolved.names.len() < number {
            // The controller died between making these and writing them down. Upstream leaves it at that (P-121).
            let all = names::children(&[], resolved.kind, self.name(), &task.name, number);
            resolved.interrupted = resolved.names.iter().all(|name| all.contains(name));
            if resolved.interrupted {
                resolved.names = all;
            }
        }
        let unconfirmed = resolved.names.iter().find_map(|name| {
            let error = self.seen.unconfirmed.get(name)?;
            Some((name, error))
        });
        if let Some((name, error)) = unconfirmed {
            return Err(Unresolved::Other(format!(
                "error retrieving TaskRun {name}: cannot verify TaskRun {name} failure status against API server: {error}"
            )));
        }
        resolved.children = resolved
            .names
            .iter()
            .filter_map(|name| self.child(resolved.kind, name))
            .collect();
        if resolved.adopted.is_some() && resolved.children.is_empty() {
            // Deleted together with the run that made them.
            resolved.adopted = None;
            resolved.names = names::children(&[], resolved.kind, self.name(), &task.name, number);
        }
        if resolved.children.iter().any(Child::is_restored) {
            // Its own child, though cached.
            resolved.adopted = None;
        }
        match resolved.kind {
            Kind::Custom => {}
            Kind::Pipeline => resolved.pipeline = Some(self.resolve_pipeline(task)?),
            Kind::Task => resolved.spec = Some(self.resolve_spec(task)?),
        }
        Ok(resolved)
    }

    /// The object of this name, whoever made it (P-265).
    fn child(&self, kind: Kind, name: &str) -> Option<Child> {
        let named = |metadata: &ObjectMeta| metadata.name.as_deref() == Some(name);
        let seen = match kind {
            Kind::Task => self
                .task_runs
                .get(name)
                .map(|&run| Child::Task(run.clone())),
            Kind::Custom => {
                let run = self
                    .seen
                    .custom_runs
                    .iter()
                    .find(|run| named(&run.metadata));
                run.cloned().map(Child::Custom)
            }
            Kind::Pipeline => {
                let run = self
                    .seen
                    .pipeline_runs
                    .iter()
                    .find(|run| named(&run.metadata));
                run.cloned().map(Child::Pipeline)
            }
        };
        seen.or_else(|| {
            let mut adopted = self.adopted.iter();
            adopted
                .find(|child| child.kind() == kind && child.name() == name)
                .cloned()
        })
    }

    fn resolve_pipeline(&mut self, task: &PipelineTask) -> Result<ResolvedPipeline, Unresolved> {
        if let Some(spec) = &task.pipeline_spec {
            return Ok(ResolvedPipeline {
                name: String::new(),
                spec: spec.clone(),
            });
        }
        let Some(reference) = &task.pipeline_ref else {
            let error = format!(
                "PipelineTask {:?} must specify one of PipelineRef or PipelineSpec",
                task.name
            );
            return Err(Unresolved::Other(error));
        };
        let query = self.pipeline_query(reference);
        match pipeline_of(self.inquiry.ask(query), &reference.name) {
            Ok((origin, spec)) => Ok(ResolvedPipeline {
                name: origin.name,
                spec,
            }),
            Err(NotFetched::Unasked | NotFetched::Pending) => Err(Unresolved::Pending),
            Err(NotFetched::Unverified(error)) => Err(Unresolved::Unverified(error)),
            Err(NotFetched::Refused(error) | NotFetched::Failed(error)) => {
                let name = called(&reference.name, &reference.resolver, &reference.params);
                Err(Unresolved::NotFound {
                    reason: reason::COULDNT_GET_PIPELINE,
                    text: format!("Couldn't retrieve Pipeline {name:?}: {error}"),
                })
            }
        }
    }

    /// The Task behind `task`; results of other tasks are not filled into the reference (P-307).
    fn resolve_spec(&mut self, task: &PipelineTask) -> Result<ResolvedSpec, Unresolved> {
        let (name, mut spec, caching) = if let Some(reference) = &task.task_ref {
            match self.stored_spec(task) {
                Some(spec) => (reference.name.clone(), spec, Caching::default()),
                None => self.fetch_task(task, reference)?,
            }
        } else if task.task_spec.is_some() {
            return Ok(ResolvedSpec::Inline);
        } else {
            return Err(Unresolved::Other(format!(
                "PipelineTask {:?} must specify one of TaskRef, TaskSpec, PipelineRef, or PipelineSpec",
                task.name
            )));
        };
        defaults::task(&mut spec);
        let spec = Box::new(spec);
        Ok(ResolvedSpec::Other {
            name,
            spec,
            caching,
        })
    }

    fn fetch_task(
        &mut self,
        task: &PipelineTask,
        reference: &tektite_api::v1::TaskRef,
    ) -> Result<(String, TaskSpec, Caching), Unresolved> {
        let query = self.task_query(reference, self.first_task_run(task));
        let missing = |error: &str| Unresolved::NotFound {
            reason: reason::COULDNT_GET_TASK,
            text: format!(
                "Couldn't retrieve Task {:?}: {error}",
                called(&reference.name, &reference.resolver, &reference.params)
            ),
        };
        let (metadata, spec, verification): (&ObjectMeta, &TaskSpec, &Verification) = match self
            .inquiry
            .ask(query)
        {
            Known::Unasked | Known::Pending => return Err(Unresolved::Pending),
            Known::Missing(message) => return Err(missing(message)),
            Known::Failed(failure) if failure.kind == FailureKind::Verification => {
                return Err(Unresolved::Unverified(failure.message.clone()));
            }
            Known::Failed(failure) => return Err(missing(&failure.message)),
            Known::Found(Found::Task(task)) => (&task.metadata, &task.spec, &Verification::Skipped),
            Known::Found(Found::Remote(remote)) => match &remote.object {
                RemoteObject::Task(task) => (&task.metadata, &task.spec, &remote.verification),
                _ => return Err(missing("resource is not a task")),
            },
            Known::Found(_) => return Err(missing("resource is not a task")),
        };
        let caching = Caching::of(metadata.annotations.as_ref());
        let name = metadata.name.clone().unwrap_or_default();
        let found = (name, spec.clone(), caching);
        self.note_verification(verification);
        Ok(found)
    }
}

/// A task whose children are recorded but not seen (they were deleted) counts as not started (P-399) and may come before
/// those whose results it uses. Whoever has no children must know all results nevertheless, or its when expressions would
/// skip it.
fn fill_in_late(state: &mut [Resolved]) {
    for at in 0..state.len() {
        if !state[at].children.is_empty() {
            continue;
        }
        let references = references::result_refs(&state[at].task);
        if references.is_empty() {
            continue;
        }
        if let Ok(values) = results::values_of(&references, state) {
            results::pass(&values).task(&mut state[at].task);
        }
    }
}

/// What a reference is called in a message: its name, or the resolver with the params that tell most (P-292).
fn called(name: &str, resolver: &str, params: &[Param]) -> String {
    if !name.trim().is_empty() {
        return name.to_owned();
    }
    let mut text = format!("resolver type {resolver}\n");
    for param in params {
        let value = param.value.as_str().map_or_else(
            || serde_json::to_string(&param.value).unwrap_or_default(),
            str::to_owned,
        );
        match param.name.as_str() {
            "name" => text.push_str(&format!("name = {value}\n")),
            "url" => text.push_str(&format!(
                "url = {}\n",
                param.value.as_str().unwrap_or_default()
            )),
            _ => {}
        }
    }
    text
}
