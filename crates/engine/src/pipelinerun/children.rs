//! Building the children of a pipeline task.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use tektite_api::Duration;
use tektite_api::names::{annotation, label, pipeline_run_reason as reason};
use tektite_api::v1::{
    Param, PipelineRun, PipelineRunSpec, PipelineTask, PipelineTaskRunSpec, PodTemplate, TaskRun,
    TaskRunSpec,
};
use tektite_api::v1beta1::{CustomRun, CustomRunSpec, EmbeddedCustomRunSpec};

use super::cache::CacheKey;
use super::facts::Facts;
use super::pod_template;
use super::stop::Stop;
use super::substitute::Pass;
use super::task::{CONTINUE, Child, Kind};
use super::texts::{USER_ERROR, list, used_as_format};
use super::timeouts::{Timeouts, default_timeout};
use super::work::Work;
use super::{affinity, params, workspaces};
use crate::annotations;
use crate::decision::{Effect, Event};
use crate::matrix;
use crate::references;
use crate::substitution::Replacements;

/// The reference by which the run owns what it makes (P-398).
pub(super) fn owner(run: &PipelineRun) -> OwnerReference {
    OwnerReference {
        api_version: "tekton.dev/v1".to_owned(),
        kind: "PipelineRun".to_owned(),
        name: run.metadata.name.clone().unwrap_or_default(),
        uid: run.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// A trace context of this many bytes is not passed on (P-301).
const LONGEST_TRACE: usize = 1024;

/// Why a child cannot be made, now and for ever.
pub(super) type Unmakeable = String;

impl Work<'_> {
    /// Creates the children of the task at `at`, or says why not (P-293).
    pub(super) fn create_children(&mut self, facts: &mut Facts, at: usize) -> Result<(), Stop> {
        let task = &facts.state[at];
        let kind = task.kind;
        let combinations = matrix::of(&task.task)
            .filter(|_| kind != Kind::Pipeline)
            .map(matrix::combinations);
        let combinations = combinations.unwrap_or_default();
        if kind == Kind::Task && self.config.feature_flags.enable_param_enum {
            self.check_enums(facts, at, &combinations)?;
        }
        let names = facts.state[at].names.clone();
        let mut children = Vec::with_capacity(names.len());
        for (number, name) in names.iter().enumerate() {
            let existing = facts.state[at]
                .children
                .iter()
                .find(|child| child.name() == name);
            if let Some(child) = existing {
                children.push(child.clone());
                continue;
            }
            self.fill_in_at_creation(facts, at);
            let mut given = combinations.get(number).cloned().unwrap_or_default();
            given.extend(facts.state[at].task.params.iter().cloned());
            let made = match kind {
                Kind::Task => self
                    .make_task_run(facts, at, name, given)
                    .map(|run| Child::Task(Arc::new(run))),
                Kind::Custom => self
                    .make_custom_run(facts, at, name, given)
                    .map(|run| Child::Custom(Arc::new(run))),
                Kind::Pipeline => self
                    .make_pipeline_run(facts, at, name)
                    .map(|run| Child::Pipeline(Arc::new(run))),
            };
            let child = match made {
                Ok(child) => child,
                Err(error) => {
                    return Err(self.cannot_create(
                        kind,
                        &names,
                        &facts.state[at].task.name,
                        &error,
                        true,
                    ));
                }
            };
            if let Some(refusal) = self.refusal(|effect| creates(effect, kind, name)).cloned() {
                // What stands before the refused one has been created; what stands after it has not.
                let for_good = refusal.code == 422 || refusal.code == 400;
                let error = refusal.message;
                return Err(self.cannot_create(
                    kind,
                    &names,
                    &facts.state[at].task.name,
                    &error,
                    for_good,
                ));
            }
            self.effects.push(match &child {
                Child::Task(run) => Effect::CreateTaskRun(Box::new(TaskRun::clone(run))),
                Child::Custom(run) => Effect::CreateCustomRun(Box::new(CustomRun::clone(run))),
                Child::Pipeline(run) => {
                    Effect::CreatePipelineRun(Box::new(PipelineRun::clone(run)))
                }
            });
            children.push(child);
        }
        facts.state[at].children = children;
        facts.state[at].interrupted = false;
        Ok(())
    }

    fn cannot_create(
        &mut self,
        kind: Kind,
        names: &[String],
        task: &str,
        error: &str,
        for_good: bool,
    ) -> Stop {
        let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
        let (event, what) = match kind {
            Kind::Task => ("TaskRunsCreationFailed", "TaskRuns"),
            Kind::Custom => ("RunsCreationFailed", "CustomRuns"),
            Kind::Pipeline => (
                "ChildPipelineRunsCreationFailed",
                "child (PIP) PipelineRuns",
            ),
        };
        self.events.push(Event::warning(
            event,
            format!("Failed to create {what} {}: {error}", list(&quoted)),
        ));
        let what = if kind == Kind::Pipeline {
            "child PipelineRuns"
        } else {
            what
        };
        let whole = format!(
            "error creating {what} called {} for PipelineTask {task} from PipelineRun {}: {error}",
            list(names),
            self.name()
        );
        if for_good {
            return self.fail(reason::CREATE_RUN_FAILED, &used_as_format(error), whole);
        }
        Stop::Retry(whole)
    }

    /// Values of each combination against the enums of the Task (P-128).
    fn check_enums(
        &mut self,
        facts: &Facts,
        at: usize,
        combinations: &[Vec<Param>],
    ) -> Result<(), Stop> {
        let task = &facts.state[at];
        let declared = task.task_spec().map_or(&[][..], |spec| &spec.params);
        for number in 0..task.names.len() {
            let mut given = combinations.get(number).cloned().unwrap_or_default();
            given.extend(task.task.params.iter().cloned());
            if let Err(error) = params::outside_enum(declared, &given) {
                let message = format!(
                    "{USER_ERROR}Invalid param value from PipelineTask \"{}\": {error}",
                    task.task.name
                );
                return Err(self.fail(reason::INVALID_PARAM_VALUE, &message, error));
            }
        }
        Ok(())
    }

    /// Fills in the number of retries and the lengths of matrices (P-138, P-208).
    fn fill_in_at_creation(&self, facts: &mut Facts, at: usize) {
        let task = &facts.state[at].task;
        let mut known =
            Replacements::of_strings([("context.pipelineTask.retries", task.retries.to_string())]);
        let asked: Vec<(String, String)> = task.params.iter().filter_map(matrix_length).collect();
        let spec = self.pipeline.as_ref();
        for (producer, result) in asked {
            let declared =
                spec.and_then(|spec| spec.tasks.iter().find(|task| task.name == producer));
            if let Some(declared) = declared {
                let length = declared.matrix.as_ref().map_or(0, matrix::count);
                known.strings.insert(
                    format!("tasks.{producer}.matrix.length"),
                    length.to_string(),
                );
            }
            if result.is_empty() {
                continue;
            }
            if let Some(found) = facts.find(&producer) {
                facts.state[found].gather();
                let length = facts.state[found].gathered.get(&result).map_or(0, Vec::len);
                known.strings.insert(
                    format!("tasks.{producer}.matrix.{result}.length"),
                    length.to_string(),
                );
            }
        }
        Pass::new(known).task_at_creation(&mut facts.state[at].task);
    }

    fn make_task_run(
        &self,
        facts: &mut Facts,
        at: usize,
        name: &str,
        params: Vec<Param>,
    ) -> Result<TaskRun, Unmakeable> {
        let given = given_for(&self.run, &facts.state[at].task.name);
        let (bindings, claim_workspace) = workspaces::for_task(self, &mut facts.state[at])?;
        let is_finally = facts.is_finally(at);
        let resolved = &facts.state[at];
        let task = &resolved.task;
        let mut metadata = self.child_metadata(name, &task.name);
        self.merge_metadata(&mut metadata, &given, task);
        let labels = metadata.labels.get_or_insert_default();
        let annotations = metadata.annotations.get_or_insert_default();
        match &resolved.cache_key {
            Some(CacheKey::Whole(key)) => {
                labels.insert(annotations::CACHE_KEY.to_owned(), key.0.clone());
            }
            Some(CacheKey::Basis { key, contents }) => {
                annotations.insert(annotations::CACHE_BASIS.to_owned(), key.0.clone());
                annotations.insert(annotations::CACHE_WORKSPACES.to_owned(), contents.clone());
            }
            None => {}
        }
        if task.on_error == CONTINUE {
            // P-185
            annotations.insert(
                annotation::PIPELINE_TASK_ON_ERROR.to_owned(),
                CONTINUE.to_owned(),
            );
        }
        if let Some(assistant) = affinity::annotation(self, claim_workspace.as_deref()) {
            annotations.insert(annotation::AFFINITY_ASSISTANT.to_owned(), assistant);
        }
        let trace = serde_json::to_string(&self.run.status.span_context).unwrap_or_default();
        if !self.run.status.span_context.is_empty() && trace.len() < LONGEST_TRACE {
            annotations.insert(annotation::TASK_RUN_SPAN_CONTEXT.to_owned(), trace);
        }
        let mut spec = TaskRunSpec {
            retries: task.retries,
            params,
            service_account_name: given.service_account_name,
            pod_template: given.pod_template,
            step_specs: given.step_specs,
            sidecar_specs: given.sidecar_specs,
            compute_resources: given.compute_resources,
            timeout: given
                .timeout
                .or(task.timeout)
                .or_else(|| self.child_timeout(is_finally)),
            workspaces: bindings,
            ..TaskRunSpec::default()
        };
        // P-260
        if resolved.task_name().is_empty() {
            spec.task_spec = resolved.task_spec().cloned();
        } else {
            spec.task_ref.clone_from(&task.task_ref);
        }
        Ok(TaskRun {
            metadata,
            spec,
            ..TaskRun::default()
        })
    }

    fn make_custom_run(
        &self,
        facts: &mut Facts,
        at: usize,
        name: &str,
        params: Vec<Param>,
    ) -> Result<CustomRun, Unmakeable> {
        let given = given_for(&self.run, &facts.state[at].task.name);
        let (bindings, claim_workspace) = workspaces::for_task(self, &mut facts.state[at])?;
        let is_finally = facts.is_finally(at);
        let task = &facts.state[at].task;
        let mut metadata = self.child_metadata(name, &task.name);
        if let Some(assistant) = affinity::annotation(self, claim_workspace.as_deref()) {
            let annotations = metadata.annotations.get_or_insert_default();
            annotations.insert(annotation::AFFINITY_ASSISTANT.to_owned(), assistant);
        }
        let custom_spec = task
            .task_spec
            .as_ref()
            .map(|embedded| EmbeddedCustomRunSpec {
                api_version: embedded.api_version.clone(),
                kind: embedded.kind.clone(),
                metadata: embedded.metadata.clone(),
                spec: embedded.spec.clone(),
            });
        let spec = CustomRunSpec {
            custom_ref: task.task_ref.clone(),
            custom_spec,
            params,
            retries: task.retries,
            service_account_name: given.service_account_name,
            timeout: given
                .timeout
                .or(task.timeout)
                .or_else(|| self.child_timeout(is_finally)),
            workspaces: bindings,
            ..CustomRunSpec::default()
        };
        Ok(CustomRun {
            metadata,
            spec,
            ..CustomRun::default()
        })
    }

    /// P-213 to P-216
    fn make_pipeline_run(
        &self,
        facts: &Facts,
        at: usize,
        name: &str,
    ) -> Result<PipelineRun, Unmakeable> {
        let resolved = &facts.state[at];
        let task = &resolved.task;
        let pipeline = resolved.pipeline.clone().unwrap_or_default();
        let mut metadata = self.child_metadata(name, &task.name);
        if !pipeline.name.is_empty() {
            if task.pipeline_ref.is_some() {
                self.refuse_recursion(&pipeline.name)?;
            }
            metadata
                .labels
                .get_or_insert_default()
                .insert(label::PIPELINE.to_owned(), pipeline.name);
        }
        let mut spec = PipelineRunSpec {
            task_run_template: self.run.spec.task_run_template.clone(),
            params: task.params.clone(),
            workspaces: workspaces::for_child_pipeline(self, task),
            ..PipelineRunSpec::default()
        };
        match &task.pipeline_ref {
            Some(reference) => spec.pipeline_ref = Some(reference.clone()),
            None => spec.pipeline_spec = Some(pipeline.spec),
        }
        Ok(PipelineRun {
            metadata,
            spec,
            ..PipelineRun::default()
        })
    }

    /// Walks up the controllers of the run looking for one that runs `pipeline` (P-216).
    fn refuse_recursion(&self, pipeline: &str) -> Result<(), Unmakeable> {
        let mut visited: Vec<String> = Vec::new();
        let mut current = &self.run;
        loop {
            let running = current
                .metadata
                .labels
                .as_ref()
                .and_then(|labels| labels.get(label::PIPELINE));
            if let Some(running) = running {
                if running == pipeline {
                    return Err(format!(
                        "detected cycle in pipeline-in-pipeline: pipeline {pipeline:?} is already running in ancestor \
                         chain {}",
                        list(&visited)
                    ));
                }
                if !running.is_empty() {
                    visited.push(running.clone());
                }
            }
            let owners = current
                .metadata
                .owner_references
                .as_deref()
                .unwrap_or_default();
            let controller = owners
                .iter()
                .find(|owner| owner.controller == Some(true) && owner.kind == "PipelineRun");
            let parent = controller.and_then(|owner| {
                let named =
                    |run: &&Arc<PipelineRun>| run.metadata.name.as_ref() == Some(&owner.name);
                self.seen.pipeline_runs.iter().find(named)
            });
            // The number of runs seen bounds the walk, should owners ever form a ring.
            match parent.filter(|_| visited.len() <= self.seen.pipeline_runs.len()) {
                Some(parent) => current = parent,
                None => return Ok(()),
            }
        }
    }

    /// Metadata of every child (P-268, P-270, P-398).
    fn child_metadata(&self, name: &str, task: &str) -> ObjectMeta {
        let mut labels = self.run.metadata.labels.clone().unwrap_or_default();
        labels.insert(label::PIPELINE_RUN.to_owned(), self.name().to_owned());
        labels.insert(label::PIPELINE_RUN_UID.to_owned(), self.uid().to_owned());
        labels.insert(label::PIPELINE_TASK.to_owned(), task.to_owned());
        if let Some(spec) = &self.pipeline {
            let among = |tasks: &[PipelineTask]| tasks.iter().any(|known| known.name == task);
            let member_of = if among(&spec.tasks) {
                Some("tasks")
            } else {
                among(&spec.finally).then_some("finally")
            };
            if let Some(member_of) = member_of {
                labels.insert(label::MEMBER_OF.to_owned(), member_of.to_owned());
            }
        }
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: self.run.metadata.namespace.clone(),
            owner_references: Some(vec![owner(&self.run)]),
            labels: Some(labels),
            annotations: Some(self.annotations_for_children()),
            ..ObjectMeta::default()
        }
    }

    fn annotations_for_children(&self) -> BTreeMap<String, String> {
        const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
        let all = self.run.metadata.annotations.iter().flatten();
        // What a run asks of us it does not ask for its children.
        let ours = |key: &str| key.starts_with(annotations::PREFIX);
        all.filter(|(key, _)| {
            !key.contains("chains.tekton.dev/") && *key != LAST_APPLIED && !ours(key)
        })
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
    }

    /// Metadata of taskRunSpecs goes before the run's, which goes before the inline task's (P-269).
    fn merge_metadata(
        &self,
        metadata: &mut ObjectMeta,
        given: &PipelineTaskRunSpec,
        task: &PipelineTask,
    ) {
        let labels = metadata.labels.get_or_insert_default();
        let annotations = metadata.annotations.get_or_insert_default();
        if let Some(own) = &given.metadata {
            labels.extend(own.labels.clone());
            annotations.extend(own.annotations.clone());
        }
        if let Some(embedded) = &task.task_spec {
            for (key, value) in &embedded.metadata.labels {
                labels.entry(key.clone()).or_insert_with(|| value.clone());
            }
            for (key, value) in &embedded.metadata.annotations {
                annotations
                    .entry(key.clone())
                    .or_insert_with(|| value.clone());
            }
        }
    }

    /// The run's limit for tasks or finally tasks, where it is wider than what a child has by default (P-198).
    fn child_timeout(&self, is_finally: bool) -> Option<Duration> {
        let timeouts = Timeouts::of(&self.run, self.config);
        let limit = if is_finally {
            timeouts.finally
        } else {
            timeouts.tasks
        };
        limit.filter(|&limit| limit.is_zero() || limit > default_timeout(self.config))
    }
}

fn creates(effect: &Effect, kind: Kind, name: &str) -> bool {
    let metadata = match (effect, kind) {
        (Effect::CreateTaskRun(run), Kind::Task) => &run.metadata,
        (Effect::CreateCustomRun(run), Kind::Custom) => &run.metadata,
        (Effect::CreatePipelineRun(run), Kind::Pipeline) => &run.metadata,
        _ => return false,
    };
    metadata.name.as_deref() == Some(name)
}

/// What the run says about one task's children (P-257).
pub(super) fn given_for(run: &PipelineRun, task: &str) -> PipelineTaskRunSpec {
    let template = &run.spec.task_run_template;
    let mut given = PipelineTaskRunSpec {
        pipeline_task_name: task.to_owned(),
        service_account_name: template.service_account_name.clone(),
        pod_template: template.pod_template.clone(),
        ..PipelineTaskRunSpec::default()
    };
    for entry in run
        .spec
        .task_run_specs
        .iter()
        .filter(|entry| entry.pipeline_task_name == task)
    {
        let pod_template: Option<PodTemplate> =
            pod_template::merge(entry.pod_template.clone(), given.pod_template.take());
        let account = if entry.service_account_name.is_empty() {
            given.service_account_name
        } else {
            entry.service_account_name.clone()
        };
        given = PipelineTaskRunSpec {
            service_account_name: account,
            pod_template,
            ..entry.clone()
        };
    }
    given
}

/// Task and result of the first `tasks.<t>.matrix.length` or `tasks.<t>.matrix.<r>.length` in a param (P-208).
fn matrix_length(param: &Param) -> Option<(String, String)> {
    references::param_variables(param)
        .into_iter()
        .find_map(
            |variable| match variable.split('.').collect::<Vec<_>>()[..] {
                ["tasks", task, "matrix", "length"] => Some((task.to_owned(), String::new())),
                ["tasks", task, "matrix", result, "length"] => {
                    Some((task.to_owned(), result.to_owned()))
                }
                _ => None,
            },
        )
}
