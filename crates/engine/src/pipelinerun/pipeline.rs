//! The pipeline of a run: fetching it, storing it, and checking that the run fits it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tektite_api::names::{label, pipeline_run_reason as reason};
use tektite_api::v1::{
    Condition, PipelineRunSpec, PipelineSpec, PipelineTask, Provenance, RefSource,
};

use super::condition::set;
use super::params;
use super::stop::Stop;
use super::substitute::{self, Pass};
use super::texts::{USER_ERROR, map_of_lists, used_as_format};
use super::work::Work;
use super::{defaults, facts};
use crate::dag::{Graph, InvalidGraph};
use crate::decision::{
    FailureKind, Found, Known, Query, RemoteKind, RemoteObject, RemoteRef, Verification,
};
use crate::references;

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Where a pipeline comes from.
#[derive(Clone, Debug, Default)]
pub(super) struct Origin {
    pub name: String,
    pub namespace: String,
    generate_name: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    source: Option<RefSource>,
    verification: Verification,
}

impl Origin {
    fn of(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Self {
        Self {
            name: metadata.name.clone().unwrap_or_default(),
            namespace: metadata.namespace.clone().unwrap_or_default(),
            generate_name: metadata.generate_name.clone().unwrap_or_default(),
            labels: metadata.labels.clone().unwrap_or_default(),
            annotations: metadata.annotations.clone().unwrap_or_default(),
            ..Self::default()
        }
    }
}

/// A pipeline ready to be run.
pub(super) struct Ready {
    pub origin: Origin,
    /// With params, contexts and workspaces filled in.
    pub spec: Arc<PipelineSpec>,
    /// Its tasks and finally tasks as they were before, where params with enums need them.
    pub original: Vec<PipelineTask>,
    pub graphs: (Graph, Graph),
}

impl Work<'_> {
    /// Everything up to the substituted pipeline in the status; the order decides which fault is told (P-101).
    pub(super) fn prepare(&mut self) -> Result<Ready, Stop> {
        if let Some(spec) = &self.stored.status.pipeline_spec {
            return self.take_up(spec);
        }
        let (origin, mut spec) = self.fetch()?;
        defaults::pipeline(&mut spec);
        self.store(&origin, &spec);
        self.note_verification(&origin.verification);
        let graphs = self.graphs(&spec)?;
        self.check(&origin, &spec)?;
        self.inherit(&origin, &spec)?;
        let original = self.original(&spec);
        self.substitute(&origin, &mut spec)?;
        let invalid = spec.tasks.iter().chain(&spec.finally);
        let invalid = invalid.filter_map(invalid_on_error).next();
        let spec = Arc::new(spec);
        self.pipeline = Some(Arc::clone(&spec));
        if let Some(error) = invalid {
            // P-058
            return Err(self.invalid_spec(&origin, &error));
        }
        Ok(Ready {
            origin,
            spec,
            original,
            graphs,
        })
    }

    /// The pipeline that an earlier reconcile has checked, filled in and stored (P-296).
    fn take_up(&mut self, spec: &PipelineSpec) -> Result<Ready, Stop> {
        let origin = match &self.run.spec.pipeline_ref {
            Some(reference) => Origin {
                name: reference.name.clone(),
                namespace: self.namespace().to_owned(),
                ..Origin::default()
            },
            None => Origin::of(&self.run.metadata),
        };
        self.note_provenance(&origin);
        let graphs = self.graphs(spec)?;
        let original = self.original(self.stored.spec.pipeline_spec.as_ref().unwrap_or(spec));
        self.substitute_bindings();
        let spec = Arc::new(spec.clone());
        self.pipeline = Some(Arc::clone(&spec));
        Ok(Ready {
            origin,
            spec,
            original,
            graphs,
        })
    }

    fn original(&self, spec: &PipelineSpec) -> Vec<PipelineTask> {
        if self.config.feature_flags.enable_param_enum {
            spec.tasks.iter().chain(&spec.finally).cloned().collect()
        } else {
            Vec::new()
        }
    }

    /// The pipeline from the cluster, a resolver, or the run itself.
    fn fetch(&mut self) -> Result<(Origin, PipelineSpec), Stop> {
        let Some(reference) = self.run.spec.pipeline_ref.clone() else {
            return match &self.stored.spec.pipeline_spec {
                Some(spec) => Ok((Origin::of(&self.run.metadata), spec.clone())),
                None => {
                    let error = format!(
                        "pipelineRun {} not providing PipelineRef or PipelineSpec",
                        self.name()
                    );
                    Err(self.couldnt_get(&error))
                }
            };
        };
        let query = self.pipeline_query(&reference);
        let named = |error: String, name: &str| {
            // A reference by name says for which run it was looked up (P-290).
            if reference.name.is_empty() {
                error
            } else {
                format!("error when getting Pipeline for PipelineRun {name}: {error}")
            }
        };
        match pipeline_of(self.inquiry.ask(query), &reference.name) {
            Ok((origin, spec)) => Ok((origin, spec)),
            Err(NotFetched::Unasked) => Err(Stop::Ask),
            Err(NotFetched::Pending) => {
                let message = format!(
                    "PipelineRun {}/{} awaiting remote resource",
                    self.namespace(),
                    self.name()
                );
                self.mark_running(reason::RESOLVING_PIPELINE_REF, &message);
                Err(Stop::Waiting)
            }
            Err(NotFetched::Refused(error)) => {
                let message = format!(
                    "{USER_ERROR}Failed dryRunValidation for PipelineRun {}: {}",
                    self.name(),
                    named(error.clone(), self.name())
                );
                Err(self.fail(reason::FAILED_VALIDATION, &message, error))
            }
            Err(NotFetched::Unverified(error)) => Err(self.unverified(&reference.name, &error)),
            Err(NotFetched::Failed(error)) => {
                let error = named(error, self.name());
                Err(self.couldnt_get(&error))
            }
        }
    }

    /// The question that gets the pipeline behind `reference`, with the run's own values filled in (P-307).
    pub(super) fn pipeline_query(&self, reference: &tektite_api::v1::PipelineRef) -> Query {
        let namespace = self.namespace().to_owned();
        if reference.resolver.is_empty() {
            return Query::Pipeline {
                namespace,
                name: reference.name.clone(),
            };
        }
        let mut values = params::of_run(&self.run.spec.params);
        values
            .strings
            .extend(substitute::contexts("", &self.run).strings);
        let mut params = reference.params.clone();
        values.apply_params(&mut params);
        let url = if is_like_url(&reference.name) {
            values.text(&reference.name)
        } else {
            String::new()
        };
        Query::Remote(RemoteRef {
            kind: RemoteKind::Pipeline,
            namespace,
            run: self.name().to_owned(),
            resolver: reference.resolver.clone(),
            url,
            params,
        })
    }

    fn couldnt_get(&mut self, error: &str) -> Stop {
        let message = format!(
            "Error retrieving pipeline for pipelinerun {}/{}: {error}",
            self.namespace(),
            self.name()
        );
        self.fail(reason::COULDNT_GET_PIPELINE, &message, error)
    }

    /// Stores the pipeline with its labels and annotations (P-267), and where it came from.
    fn store(&mut self, origin: &Origin, spec: &PipelineSpec) {
        self.pipeline = Some(Arc::new(spec.clone()));
        let labels = self.run.metadata.labels.get_or_insert_default();
        for (key, value) in &origin.labels {
            labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
        let empty = labels.get(label::PIPELINE).is_none_or(String::is_empty);
        if !origin.name.is_empty() && (empty || origin.generate_name.is_empty()) {
            labels.insert(label::PIPELINE.to_owned(), origin.name.clone());
        }
        let annotations = self.run.metadata.annotations.get_or_insert_default();
        for (key, value) in origin
            .annotations
            .iter()
            .filter(|(key, _)| *key != LAST_APPLIED)
        {
            annotations
                .entry(key.clone())
                .or_insert_with(|| value.clone());
        }
        self.note_provenance(origin);
    }

    /// Says where the pipeline came from and what flags it runs with (P-300).
    fn note_provenance(&mut self, origin: &Origin) {
        if !self.config.feature_flags.enable_provenance_in_status {
            return;
        }
        let provenance = self
            .run
            .status
            .provenance
            .get_or_insert_with(Provenance::default);
        let flags = &self.config.feature_flags;
        if provenance.feature_flags.as_ref() != Some(flags) {
            provenance.feature_flags = Some(flags.clone());
        }
        if provenance.ref_source.is_none() {
            provenance.ref_source.clone_from(&origin.source);
        }
    }

    /// The condition that a verified object leaves (P-368).
    pub(super) fn note_verification(&mut self, verification: &Verification) {
        let (status, message) = match verification {
            Verification::Skipped => return,
            Verification::Passed => ("True", String::new()),
            Verification::Warned(text) => ("False", text.clone()),
        };
        set(&mut self.run.status, verified(status, message), self.now);
    }

    /// Ends the run because `resource` is not what its signature says (P-368).
    pub(super) fn unverified(&mut self, resource: &str, error: &str) -> Stop {
        let message = format!(
            "pipelineRun {}/{} referred resource {resource} failed signature verification: {error}",
            self.namespace(),
            self.name()
        );
        set(
            &mut self.run.status,
            verified("False", message.clone()),
            self.now,
        );
        self.fail(
            reason::RESOURCE_VERIFICATION_FAILED,
            &used_as_format(&message),
            message.clone(),
        )
    }

    fn graphs(&mut self, spec: &PipelineSpec) -> Result<(Graph, Graph), Stop> {
        let tasks: Vec<_> = spec
            .tasks
            .iter()
            .map(|task| (task.name.as_str(), references::dependencies(task)))
            .collect();
        let finally: Vec<_> = spec
            .finally
            .iter()
            .map(|task| (task.name.as_str(), Vec::new()))
            .collect();
        let (namespace, name) = (self.namespace().to_owned(), self.name().to_owned());
        let mut invalid = |error: InvalidGraph, of: &str| {
            let message = format!(
                "{USER_ERROR}PipelineRun {namespace}/{name}'s Pipeline DAG is invalid{of}: {error}"
            );
            self.fail(reason::INVALID_GRAPH, &message, error.to_string())
        };
        let tasks = Graph::build(&tasks).map_err(|error| invalid(error, ""))?;
        // P-116: finally tasks know no order.
        let finally =
            Graph::build(&finally).map_err(|error| invalid(error, " for finally clause"))?;
        Ok((tasks, finally))
    }

    /// Whether the run gives what the pipeline needs (P-122 to P-126, P-232, P-258, P-286, P-287).
    fn check(&mut self, origin: &Origin, spec: &PipelineSpec) -> Result<(), Stop> {
        let run = format!("PipelineRun {}/{}", self.namespace(), self.name());
        let pipeline = format!("Pipeline {}/{}", self.namespace(), origin.name);
        let given = self.run.spec.params.clone();
        let checks: [(&str, String, Result<(), String>); 7] = [
            (
                reason::PARAMETER_MISSING,
                format!("{run} is missing some parameters required by {pipeline}"),
                params::missing(&spec.params, &given),
            ),
            (
                reason::PARAMETER_TYPE_MISMATCH,
                format!("{run} parameters have mismatching types with {pipeline}'s parameters"),
                params::mistyped(&spec.params, &given),
            ),
            (
                reason::INVALID_PARAM_VALUE,
                format!("{run} parameters have invalid value"),
                if self.config.feature_flags.enable_param_enum {
                    params::outside_enum(&spec.params, &given)
                } else {
                    Ok(())
                },
            ),
            (
                reason::OBJECT_PARAMETER_MISS_KEYS,
                format!(
                    "{run} parameters is missing object keys required by {pipeline}'s parameters"
                ),
                missing_keys(spec, &given),
            ),
            (
                reason::PARAM_ARRAY_INDEXING_INVALID,
                format!(
                    "{run} failed validation: failed to validate {pipeline}'s parameter which has an invalid index while \
                     referring to an array"
                ),
                params::beyond_arrays(spec, &given),
            ),
            (
                reason::INVALID_WORKSPACE_BINDING,
                format!("{run} doesn't bind {pipeline}'s Workspaces correctly"),
                unbound_workspace(spec, &self.run.spec),
            ),
            (
                reason::INVALID_TASK_RUN_SPEC,
                format!("{run} doesn't define taskRunSpecs correctly"),
                unknown_task_run_spec(spec, &self.run.spec),
            ),
        ];
        for (reason, text, result) in checks {
            if let Err(error) = result {
                return Err(self.fail(reason, &format!("{USER_ERROR}{text}: {error}"), error));
            }
        }
        Ok(())
    }

    /// Fills in params, contexts and workspaces (P-130, P-138 to P-140).
    fn substitute(&mut self, origin: &Origin, spec: &mut PipelineSpec) -> Result<(), Stop> {
        self.substitute_bindings();
        match params::of_run_and_defaults(&spec.params, &self.run.spec.params) {
            Ok(values) => Pass::new(values).pipeline(spec),
            Err(error) => {
                let message = format!(
                    "{USER_ERROR}Failed to apply parameters to Pipeline {}/{}: {error}",
                    self.namespace(),
                    origin.name
                );
                return Err(self.fail(reason::FAILED_VALIDATION, &message, error));
            }
        }
        substitute::apply_contexts(spec, &origin.name, &self.run);
        substitute::apply_workspaces(spec, &self.run);
        Ok(())
    }

    /// Fills the run's params into its bindings.
    fn substitute_bindings(&mut self) {
        if self.run.spec.workspaces.is_empty() {
            return;
        }
        let own = params::of_run(&self.run.spec.params);
        for binding in &mut self.run.spec.workspaces {
            own.apply_workspace_binding(binding);
        }
    }

    fn invalid_spec(&mut self, origin: &Origin, error: &str) -> Stop {
        let message = format!(
            "{USER_ERROR}Pipeline {}/{} can't be Run; it has an invalid spec: {error}",
            origin.namespace, origin.name
        );
        self.fail(reason::FAILED_VALIDATION, &message, error)
    }
}

fn verified(status: &str, message: String) -> Condition {
    Condition {
        type_: "TrustedResourcesVerified".to_owned(),
        status: status.to_owned(),
        message,
        ..Condition::default()
    }
}

/// Why there is no pipeline (yet).
pub(super) enum NotFetched {
    Unasked,
    Pending,
    /// Admission refuses it (P-311).
    Refused(String),
    Unverified(String),
    Failed(String),
}

/// The pipeline that an answer holds.
pub(super) fn pipeline_of(
    known: Known<'_>,
    name: &str,
) -> Result<(Origin, PipelineSpec), NotFetched> {
    let not_here = |error: &str| {
        NotFetched::Failed(format!(
            "tekton client cannot get pipeline {name} from local cluster: {error}"
        ))
    };
    match known {
        Known::Unasked => Err(NotFetched::Unasked),
        Known::Pending => Err(NotFetched::Pending),
        Known::Missing(message) => Err(not_here(message)),
        Known::Found(Found::Pipeline(pipeline)) => {
            Ok((Origin::of(&pipeline.metadata), pipeline.spec.clone()))
        }
        Known::Found(Found::Remote(remote)) => match &remote.object {
            RemoteObject::Pipeline(pipeline) => {
                let origin = Origin {
                    source: remote.source.clone(),
                    verification: remote.verification.clone(),
                    ..Origin::of(&pipeline.metadata)
                };
                Ok((origin, pipeline.spec.clone()))
            }
            _ => Err(NotFetched::Failed(
                "failed to read runtime object as Pipeline: resource is not a pipeline".to_owned(),
            )),
        },
        Known::Found(_) => Err(not_here("the answer is not a Pipeline")),
        Known::Failed(failure) => Err(match failure.kind {
            FailureKind::Resolution => NotFetched::Failed(format!(
                "resolver failed to get Pipeline {name}: {}",
                failure.message
            )),
            FailureKind::Validation => NotFetched::Refused(format!(
                "failed to read runtime object as Pipeline: {}",
                failure.message
            )),
            FailureKind::Verification => NotFetched::Unverified(failure.message.clone()),
        }),
    }
}

/// Whether a name holds a scheme, which makes it the concise spelling of a resolver's params (P-308).
pub(super) fn is_like_url(name: &str) -> bool {
    name.split_once(":/").is_some_and(|(scheme, rest)| {
        let before = scheme.chars().next_back();
        rest.starts_with('/')
            && before.is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
    })
}

fn missing_keys(spec: &PipelineSpec, given: &[tektite_api::v1::Param]) -> Result<(), String> {
    let missing = params::missing_keys(&spec.params, given);
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "pipelineRun missing object keys for parameters: {}",
        map_of_lists(&missing)
    ))
}

fn unbound_workspace(spec: &PipelineSpec, run: &PipelineRunSpec) -> Result<(), String> {
    let bound = |name: &str| run.workspaces.iter().any(|binding| binding.name == name);
    match spec
        .workspaces
        .iter()
        .find(|declared| !declared.optional && !bound(&declared.name))
    {
        None => Ok(()),
        Some(declared) => Err(format!(
            "pipeline requires workspace with name {:?} be provided by pipelinerun",
            declared.name
        )),
    }
}

fn unknown_task_run_spec(spec: &PipelineSpec, run: &PipelineRunSpec) -> Result<(), String> {
    let known = |name: &str| {
        spec.tasks
            .iter()
            .chain(&spec.finally)
            .any(|task| task.name == name)
    };
    match run
        .task_run_specs
        .iter()
        .find(|entry| !known(&entry.pipeline_task_name))
    {
        None => Ok(()),
        Some(entry) => Err(format!(
            "pipelineRun's taskrunSpecs defined wrong taskName: {:?}, does not exist in Pipeline",
            entry.pipeline_task_name
        )),
    }
}

/// What is wrong with a task's `onError`, once params are filled in (P-057, P-058).
fn invalid_on_error(task: &PipelineTask) -> Option<String> {
    let on_error = task.on_error.as_str();
    if !on_error.is_empty()
        && !on_error.starts_with("$(params")
        && !matches!(on_error, "continue" | "stopAndFail")
    {
        return Some(format!(
            "invalid value: {on_error}: OnError\nPipelineTask OnError must be either \"continue\" or \"stopAndFail\""
        ));
    }
    if on_error == super::task::CONTINUE && task.retries > 0 {
        return Some(
            "PipelineTask OnError cannot be set to \"continue\" when Retries is greater than 0: "
                .to_owned(),
        );
    }
    None
}

/// The facts about a run whose pipeline and tasks are resolved.
pub(super) fn facts_of(
    work: &Work<'_>,
    state: Vec<super::task::Resolved>,
    graphs: (Graph, Graph),
) -> facts::Facts {
    let time = |time: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
        time.as_ref().map(|time| time.0)
    };
    let clocks = facts::Clocks {
        start: time(&work.run.status.start_time),
        finally_start: time(&work.run.status.finally_start_time),
        now: work.now,
    };
    facts::Facts::new(
        state,
        graphs,
        &work.run.spec.status,
        work.timeouts(),
        clocks,
    )
}
