//! From the run's reference or inline spec to the spec that is run, with StepActions in place (T-155 to T-173).

use std::collections::BTreeMap;

use tektite_api::config::Config;
use tektite_api::names::task_run_reason as reason;
use tektite_api::v1::{
    ParamType, Provenance, Ref, RefSource, Step, StepState, TaskRef, TaskRun, TaskSpec,
};
use tektite_api::v1beta1::StepAction;

use super::{step_action, step_container_name};
use crate::decision::{
    Failure, FailureKind, Found, Inquiry, Known, Query, RemoteKind, RemoteObject, RemoteRef,
    Verification,
};
use crate::substitution::{self, Replacements};

/// A task that can be run.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub spec: TaskSpec,
    /// `context.task.name`: the Task's, or the run's if its spec is inline (T-180).
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub source: Option<RefSource>,
    pub verification: Verification,
    /// Where each step comes from, in order.
    pub step_sources: Vec<Option<RefSource>>,
}

/// Why there is none.
#[derive(Debug)]
pub(crate) enum Unresolved {
    /// Ask and come back.
    Unanswered,
    /// Somebody is fetching it: reason and message of the condition.
    Pending(&'static str, String),
    /// It cannot be had.
    Failed {
        reason: &'static str,
        message: String,
        verification: bool,
    },
}

fn cannot(message: String) -> Unresolved {
    Unresolved::Failed {
        reason: reason::FAILED_RESOLUTION,
        message,
        verification: false,
    }
}

fn failed(failure: &Failure, wrap: impl Fn(&str) -> String) -> Unresolved {
    let (reason, verification) = match failure.kind {
        FailureKind::Resolution => (reason::FAILED_RESOLUTION, false),
        FailureKind::Validation => (reason::TASK_FAILED_VALIDATION, false),
        FailureKind::Verification => (reason::RESOURCE_VERIFICATION_FAILED, true),
    };
    Unresolved::Failed {
        reason,
        message: wrap(&failure.message),
        verification,
    }
}

/// Finds the task of the run and its StepActions.
pub(crate) fn resolve(
    run: &TaskRun,
    config: &Config,
    inquiry: &mut Inquiry<'_>,
) -> Result<Resolved, Unresolved> {
    let mut resolved = task(run, inquiry)?;
    set_defaults(&mut resolved.spec, config);
    let (steps, sources) = steps(&resolved.spec, run, inquiry)?;
    resolved.spec.steps = steps;
    resolved.step_sources = sources;
    Ok(resolved)
}

fn task(run: &TaskRun, inquiry: &mut Inquiry<'_>) -> Result<Resolved, Unresolved> {
    let run_name = run.metadata.name.clone().unwrap_or_default();
    let plain = |spec: TaskSpec, name: String| Resolved {
        spec,
        name,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        source: None,
        verification: Verification::Skipped,
        step_sources: Vec::new(),
    };
    let reference = run
        .spec
        .task_ref
        .as_ref()
        .filter(|r| !r.name.is_empty() || !r.resolver.is_empty());
    let inline = run.spec.task_spec.as_ref();
    match (reference, inline) {
        (Some(reference), _) if !reference.name.is_empty() || inline.is_none() => {
            if let Some(stored) = &run.status.task_spec {
                // T-155: what was resolved once is never fetched again.
                let name = if reference.name.is_empty() {
                    run_name
                } else {
                    reference.name.clone()
                };
                return Ok(plain(stored.clone(), name));
            }
            referenced(run, reference, &run_name, inquiry)
        }
        (_, Some(spec)) => Ok(plain(spec.clone(), run_name)),
        _ => Err(cannot(format!(
            "taskRun {run_name} not providing TaskRef or TaskSpec"
        ))),
    }
}

fn referenced(
    run: &TaskRun,
    reference: &TaskRef,
    run_name: &str,
    inquiry: &mut Inquiry<'_>,
) -> Result<Resolved, Unresolved> {
    let namespace = run.metadata.namespace.clone().unwrap_or_default();
    let query = if reference.resolver.is_empty() {
        Query::Task {
            namespace: namespace.clone(),
            name: reference.name.clone(),
        }
    } else {
        let mut known =
            Replacements::of_values(run.spec.params.iter().map(|p| (p.name.as_str(), &p.value)));
        known.objects.clear();
        known.strings.extend(substitution::context(run, "").strings);
        remote(
            RemoteKind::Task,
            run,
            &reference.resolver,
            &reference.name,
            &reference.params,
            &known,
        )
    };
    let wrap = |message: &str| {
        if reference.name.is_empty() {
            message.to_owned()
        } else {
            format!("error when listing tasks for taskRun {run_name}: {message}")
        }
    };
    let (task, source, verification) = match inquiry.ask(query) {
        Known::Found(Found::Task(task)) => (task.as_ref().clone(), None, Verification::Skipped),
        Known::Found(Found::Remote(remote)) => match &remote.object {
            RemoteObject::Task(task) => (
                task.as_ref().clone(),
                remote.source.clone(),
                remote.verification.clone(),
            ),
            _ => return Err(cannot(wrap("resource is not a task"))),
        },
        Known::Missing(message) => return Err(cannot(wrap(message))),
        Known::Failed(failure) => return Err(failed(failure, wrap)),
        Known::Pending => {
            let message = format!("TaskRun {namespace}/{run_name} awaiting remote resource");
            return Err(Unresolved::Pending(reason::RESOLVING_TASK_REF, message));
        }
        Known::Found(_) => return Err(cannot(wrap("resource is not a task"))),
        Known::Unasked => return Err(Unresolved::Unanswered),
    };
    Ok(Resolved {
        spec: task.spec,
        name: task.metadata.name.unwrap_or_default(),
        labels: task.metadata.labels.unwrap_or_default(),
        annotations: task.metadata.annotations.unwrap_or_default(),
        source,
        verification,
        step_sources: Vec::new(),
    })
}

fn remote(
    kind: RemoteKind,
    run: &TaskRun,
    resolver: &str,
    name: &str,
    params: &[tektite_api::v1::Param],
    known: &Replacements,
) -> Query {
    let mut params = params.to_vec();
    known.apply_params(&mut params);
    // Only a name that looks like a URL belongs to the request (T-049).
    let url = if name.contains(":/") {
        known.text(name)
    } else {
        String::new()
    };
    Query::Remote(RemoteRef {
        kind,
        namespace: run.metadata.namespace.clone().unwrap_or_default(),
        run: run.metadata.name.clone().unwrap_or_default(),
        resolver: resolver.into(),
        url,
        params,
    })
}

/// Steps with StepActions in place, and where those came from.
fn steps(
    spec: &TaskSpec,
    run: &TaskRun,
    inquiry: &mut Inquiry<'_>,
) -> Result<(Vec<Step>, Vec<Option<RefSource>>), Unresolved> {
    let (mut steps, mut sources) = (Vec::new(), Vec::new());
    let (mut unanswered, mut pending) = (false, None);
    for (i, step) in spec.steps.iter().enumerate() {
        let Some(reference) = &step.ref_ else {
            steps.push(step.clone());
            sources.push(None);
            continue;
        };
        let wrap = |message: &str| {
            format!(
                "failed to resolve step ref for step {:?} (index {i}): {message}",
                step.name
            )
        };
        match action(reference, spec, run, inquiry) {
            Known::Found(found) => {
                let (action, source) = step_action_of(found)
                    .ok_or_else(|| cannot(wrap("resource is not a StepAction")))?;
                let merged = step_action::inline(step, &action.spec, spec, run)
                    .map_err(|e| cannot(wrap(&e)))?;
                steps.push(merged);
                sources.push(source);
            }
            Known::Missing(message) => return Err(cannot(wrap(message))),
            Known::Failed(failure) => return Err(failed(failure, wrap)),
            Known::Pending => {
                let run_name = run.metadata.name.as_deref().unwrap_or_default();
                let namespace = run.metadata.namespace.as_deref().unwrap_or_default();
                let message = format!("TaskRun {namespace}/{run_name} awaiting remote StepAction");
                pending = Some(Unresolved::Pending(
                    reason::RESOLVING_STEP_ACTION_REF,
                    message,
                ));
            }
            Known::Unasked => unanswered = true,
        }
    }
    if unanswered {
        return Err(Unresolved::Unanswered);
    }
    pending.map_or(Ok((steps, sources)), Err)
}

fn action<'a>(
    reference: &Ref,
    spec: &TaskSpec,
    run: &TaskRun,
    inquiry: &mut Inquiry<'a>,
) -> Known<'a> {
    let namespace = run.metadata.namespace.clone().unwrap_or_default();
    if reference.resolver.is_empty() {
        return inquiry.ask(Query::StepAction {
            namespace,
            name: reference.name.clone(),
        });
    }
    let known = Replacements::of_params(&spec.params, &run.spec.params);
    inquiry.ask(remote(
        RemoteKind::StepAction,
        run,
        &reference.resolver,
        &reference.name,
        &reference.params,
        &known,
    ))
}

fn step_action_of(found: &Found) -> Option<(&StepAction, Option<RefSource>)> {
    match found {
        Found::StepAction(action) => Some((action, None)),
        Found::Remote(remote) => match &remote.object {
            RemoteObject::StepAction(action) => Some((action, remote.source.clone())),
            _ => None,
        },
        _ => None,
    }
}

/// Defaults of a task's spec (T-086, T-087, T-094).
fn set_defaults(spec: &mut TaskSpec, config: &Config) {
    spec.params = step_action::defaulted(&spec.params);
    for result in &mut spec.results {
        result.type_.get_or_insert(if result.properties.is_empty() {
            ParamType::String
        } else {
            ParamType::Object
        });
        for property in result.properties.values_mut() {
            property.type_.get_or_insert(ParamType::String);
        }
    }
    for reference in spec.steps.iter_mut().filter_map(|s| s.ref_.as_mut()) {
        if reference.name.is_empty() && reference.resolver.is_empty() {
            reference
                .resolver
                .clone_from(&config.defaults.resolver_type);
        }
    }
}

/// Gives every step an entry in status that says where it comes from (T-173).
pub(crate) fn note_step_sources(
    states: &mut Vec<StepState>,
    steps: &[Step],
    sources: &[Option<RefSource>],
) {
    for (i, (step, source)) in steps.iter().zip(sources).enumerate() {
        let container = step_container_name(&step.name, i);
        let name = container.strip_prefix("step-").unwrap_or(&container);
        let at = states
            .iter()
            .position(|s| s.name == name)
            .unwrap_or_else(|| {
                states.push(StepState {
                    name: name.to_owned(),
                    ..StepState::default()
                });
                states.len() - 1
            });
        let provenance: &mut Provenance = states[at].provenance.get_or_insert_default();
        if source.is_some() {
            provenance.ref_source.clone_from(source);
        }
    }
}
