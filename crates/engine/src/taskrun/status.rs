//! From a pod's status to the TaskRun's (T-344 to T-368).

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod};
use tektite_api::config::Config;
use tektite_api::names::{annotation, task_run_reason as reason};
use tektite_api::v1::{
    Artifacts, Provenance, SidecarState, StepState, TaskResult, TaskRun, TaskRunStatus, TaskSpec,
};

use super::condition::{self, seconds};
use super::failure::{
    self, Pending, containers, init_containers, is_sidecar, is_step, phase, terminated,
};
use super::results::{self, Sorted};
use super::termination::{self, Entry, Kind};

/// Name of the container of the results sidecar.
pub(crate) const RESULTS_SIDECAR: &str = "sidecar-tekton-log-results";

const NOT_ALL: &str = "Not all Steps in the Task have finished executing";

/// Whether results are read from the results sidecar's log.
pub(crate) fn from_sidecar_logs(config: &Config) -> bool {
    config.feature_flags.result_extraction_method == "sidecar-logs"
}

/// What is known beside the pod when a status is made of it.
pub(crate) struct Sources<'a> {
    /// The resolved spec before substitution.
    pub spec: &'a TaskSpec,
    /// Entries read from the results sidecar's log, if results come that way.
    pub logged: &'a [Entry],
    pub config: &'a Config,
    pub now: Timestamp,
}

/// Makes `status` say what the pod says; errors are messages nobody could read, which are reported and passed over.
pub(crate) fn follow_pod(
    status: &mut TaskRunStatus,
    run: &TaskRun,
    pod: &Pod,
    from: &Sources<'_>,
) -> Vec<String> {
    let now = from.now;
    let pod = in_spec_order(pod);
    let pod = pod.as_ref();
    if succeeded(status).is_none_or(|s| s == "Unknown") {
        condition::ongoing(status, reason::RUNNING, NOT_ALL, now);
    }
    if is_complete(pod, from.config) {
        complete(status, run, pod, now);
    } else {
        incomplete(status, pod, now);
    }
    status.pod_name = pod.metadata.name.clone().unwrap_or_default();
    let errors = follow_steps(status, run, pod, from);
    status.sidecars = containers(pod)
        .iter()
        .chain(init_containers(pod))
        .filter(|s| is_sidecar(&s.name))
        .map(|s| sidecar_state(s, s.state.clone().unwrap_or_default()))
        .collect();
    status.results = results::without_duplicates(std::mem::take(&mut status.results));
    errors
}

fn succeeded(status: &TaskRunStatus) -> Option<&str> {
    tektite_api::v1::Condition::succeeded(&status.conditions).map(|c| c.status.as_str())
}

/// Whether everything that decides about the run has ended (T-349, T-320, T-329).
fn is_complete(pod: &Pod, config: &Config) -> bool {
    let decides =
        |name: &str| is_step(name) || (from_sidecar_logs(config) && name == RESULTS_SIDECAR);
    let statuses = containers(pod);
    let runs = matches!(phase(pod), "Running" | "Succeeded");
    let containers_ended = runs
        && !statuses.is_empty()
        && statuses
            .iter()
            .filter(|s| decides(&s.name))
            .all(|s| terminated(s).is_some());
    let pod_ended = matches!(phase(pod), "Succeeded" | "Failed")
        || statuses
            .iter()
            .filter(|s| is_step(&s.name))
            .filter_map(terminated)
            .any(failure::is_oom_killed);
    let complete = containers_ended || pod_ended;
    if config.feature_flags.enable_kubernetes_sidecar && complete {
        let init = init_containers(pod);
        return phase(pod) == "Failed"
            || (runs && !init.is_empty() && init.iter().all(|s| terminated(s).is_some()));
    }
    complete
}

fn complete(status: &mut TaskRunStatus, run: &TaskRun, pod: &Pod, now: Timestamp) {
    if failure::has_failed(pod) {
        let (class, message) = failure::classify(pod);
        let annotations = run.metadata.annotations.as_ref();
        let on_error = annotations.and_then(|a| a.get(annotation::PIPELINE_TASK_ON_ERROR));
        let class = if on_error.is_some_and(|v| v == "continue") {
            reason::FAILURE_IGNORED
        } else {
            class
        };
        condition::not_succeeded(status, class, message, now);
    } else {
        condition::success(status, now);
    }
    status.completion_time = Some(seconds(now));
}

fn incomplete(status: &mut TaskRunStatus, pod: &Pod, now: Timestamp) {
    match phase(pod) {
        "Running" => condition::ongoing(status, reason::RUNNING, NOT_ALL, now),
        "Pending" => match failure::pending(pod) {
            Pending::NodeResources => {
                condition::ongoing(
                    status,
                    "ExceededNodeResources",
                    "TaskRun Pod exceeded available resources",
                    now,
                );
            }
            Pending::SubPath => {
                condition::ongoing(
                    status,
                    "Pending",
                    "Waiting for subPath directory creation to complete",
                    now,
                );
            }
            Pending::ConfigError => {
                let message = "Failed to create pod due to config error";
                condition::not_succeeded(
                    status,
                    reason::CREATE_CONTAINER_CONFIG_ERROR,
                    message,
                    now,
                );
            }
            Pending::ImagePull(message) => {
                condition::ongoing(status, "PullImageFailed", message, now)
            }
            Pending::Other(message) => condition::ongoing(status, "Pending", message, now),
        },
        _ => {}
    }
}

/// Steps in the order of the pod's containers, with what their messages say (T-345 to T-347).
fn follow_steps(
    status: &mut TaskRunStatus,
    run: &TaskRun,
    pod: &Pod,
    from: &Sources<'_>,
) -> Vec<String> {
    let done = succeeded(status).is_some_and(|s| s != "Unknown");
    let inline = run
        .spec
        .task_spec
        .as_ref()
        .map(|s| s.results.as_slice())
        .unwrap_or_default();
    let declared: Vec<&TaskResult> = inline.iter().chain(&from.spec.results).collect();
    let mut errors = Vec::new();

    if done {
        status
            .results
            .extend(results::sort(&of_kind(from.logged, Kind::TaskResult), &declared, &[]).task);
        let task_artifacts = from.logged.iter().find(|e| e.kind == Kind::TaskArtifacts);
        status.artifacts = Some(artifacts(task_artifacts, &mut errors));
    }

    let provenance: BTreeMap<String, Option<Provenance>> = status
        .steps
        .iter()
        .map(|s| (s.name.clone(), s.provenance.clone()))
        .collect();
    let mut steps = Vec::new();
    for container in containers(pod).iter().filter(|s| is_step(&s.name)) {
        let own_results = from
            .spec
            .steps
            .iter()
            .find(|s| format!("step-{}", s.name) == container.name);
        let own_results = own_results
            .map(|s| s.results.as_slice())
            .unwrap_or_default();
        let mut step = StepState {
            name: container
                .name
                .strip_prefix("step-")
                .unwrap_or(&container.name)
                .to_owned(),
            container: container.name.clone(),
            image_id: container.image_id.clone(),
            ..StepState::default()
        };
        let logged = logged_step_results(from.logged, &container.name);
        let mut found = results::sort(&logged, &declared, own_results).step;
        if done {
            status
                .results
                .extend(results::taken_from_step(&container.name, &found, &declared));
            step.results.append(&mut found);
        }
        let logged_artifacts = from
            .logged
            .iter()
            .find(|e| e.kind == Kind::StepArtifacts && e.key == container.name);
        let mut step_artifacts = artifacts(logged_artifacts, &mut errors);

        let state = container.state.clone().unwrap_or_default();
        (step.waiting, step.running, step.terminated) =
            (state.waiting, state.running, state.terminated);
        if let Some(ended) = step
            .terminated
            .as_mut()
            .filter(|t| t.message.as_deref().is_some_and(|m| !m.is_empty()))
        {
            match termination::parse(ended.message.as_deref().unwrap_or_default()) {
                Err(error) => errors.push(error.to_string()),
                Ok(entries) => {
                    if let Some(entry) = entries.iter().find(|e| e.kind == Kind::StepArtifacts) {
                        step_artifacts = artifacts(Some(entry), &mut errors);
                    }
                    let Sorted {
                        task,
                        step: of_step,
                        shown,
                    } = results::sort(&entries, &declared, own_results);
                    if done {
                        status.results.extend(task);
                        status.results.extend(results::taken_from_step(
                            &container.name,
                            &of_step,
                            &declared,
                        ));
                        step.results.extend(of_step);
                        let entry = shown.iter().find(|e| e.kind == Kind::TaskArtifacts);
                        let of_task = artifacts(entry, &mut errors);
                        let all = status.artifacts.get_or_insert_default();
                        results::merge_artifacts(all, &of_task);
                        results::merge_artifacts(all, &step_artifacts);
                    }
                    step.termination_reason = apply_notes(ended, &entries, &shown, &mut errors);
                }
            }
        }
        (step.inputs, step.outputs) = (step_artifacts.inputs, step_artifacts.outputs);
        step.provenance = provenance.get(&step.name).cloned().flatten();
        steps.push(step);
    }
    if !steps.is_empty() {
        status.steps = steps;
    }
    errors
}

/// Rewrites message, start and exit code from the internal notes, and says why the step ended (T-313, T-347).
fn apply_notes(
    ended: &mut ContainerStateTerminated,
    entries: &[Entry],
    shown: &[Entry],
    errors: &mut Vec<String>,
) -> String {
    let note = |key: &str| entries.iter().find(|e| e.key == key);
    let message = termination::write(shown);
    ended.message = (!message.is_empty()).then_some(message);
    if let Some(started) = note("StartedAt") {
        match started.value.parse::<Timestamp>() {
            Ok(time) => ended.started_at = Some(seconds(time)),
            Err(error) => errors.push(format!(
                "could not parse time value {:?} in StartedAt field: {error}",
                started.value
            )),
        }
    }
    let mut ignored = false;
    if let Some(code) = note("ExitCode") {
        match code.value.parse() {
            Ok(value) => (ended.exit_code, ignored) = (value, true),
            Err(error) => errors.push(format!(
                "could not parse int value {:?} in ExitCode field: {error}",
                code.value
            )),
        }
    }
    match entries
        .iter()
        .find(|e| e.kind == Kind::Internal && e.key == "Reason" && !e.value.is_empty())
    {
        Some(entry) => entry.value.clone(),
        None if ignored => "Continued".to_owned(),
        None => ended.reason.clone().unwrap_or_default(),
    }
}

/// The pod with container statuses in the order of its containers: a kubelet sorts them by name, and the first failed
/// step, not the first name, is to blame (T-368).
fn in_spec_order(pod: &Pod) -> Cow<'_, Pod> {
    let order: &[_] = pod.spec.as_ref().map_or(&[], |spec| &spec.containers);
    let place = |s: &ContainerStatus| order.iter().position(|c| c.name == s.name);
    if containers(pod).is_sorted_by_key(place) {
        return Cow::Borrowed(pod);
    }
    let mut pod = pod.clone();
    if let Some(statuses) = pod
        .status
        .as_mut()
        .and_then(|s| s.container_statuses.as_mut())
    {
        statuses.sort_by_key(place);
    }
    Cow::Owned(pod)
}

fn of_kind(entries: &[Entry], kind: Kind) -> Vec<Entry> {
    entries.iter().filter(|e| e.kind == kind).cloned().collect()
}

/// Results of one step in the results sidecar's log, where they are called `<container>.<result>` (T-317).
fn logged_step_results(logged: &[Entry], container: &str) -> Vec<Entry> {
    let own = |e: &Entry| {
        e.key
            .strip_prefix(container)?
            .strip_prefix('.')
            .map(str::to_owned)
    };
    let of_steps = logged.iter().filter(|e| e.kind == Kind::StepResult);
    of_steps
        .filter_map(|e| {
            Some(Entry {
                key: own(e)?,
                ..e.clone()
            })
        })
        .collect()
}

fn artifacts(entry: Option<&Entry>, errors: &mut Vec<String>) -> Artifacts {
    let Some(entry) = entry else {
        return Artifacts::default();
    };
    serde_json::from_str(&entry.value).unwrap_or_else(|error| {
        errors.push(error.to_string());
        Artifacts::default()
    })
}

fn sidecar_state(status: &ContainerStatus, state: ContainerState) -> SidecarState {
    SidecarState {
        waiting: state.waiting,
        running: state.running,
        terminated: state.terminated,
        name: status
            .name
            .strip_prefix("sidecar-")
            .unwrap_or(&status.name)
            .to_owned(),
        container: status.name.clone(),
        image_id: status.image_id.clone(),
    }
}

/// Sidecars after they were switched to the nop image: what they were before (T-327).
pub(crate) fn stopped_sidecars(pod: &Pod) -> Vec<SidecarState> {
    let before = |status: &ContainerStatus| status.last_state.as_ref()?.terminated.clone();
    containers(pod)
        .iter()
        .filter(|s| is_sidecar(&s.name))
        .map(|s| match before(s) {
            Some(last) => {
                let ended = ContainerStateTerminated {
                    reason: Some("Completed".into()),
                    message: Some("Sidecar container successfully stopped by nop image".into()),
                    signal: None,
                    ..last
                };
                sidecar_state(
                    s,
                    ContainerState {
                        terminated: Some(ended),
                        ..ContainerState::default()
                    },
                )
            }
            None => sidecar_state(s, s.state.clone().unwrap_or_default()),
        })
        .collect()
}
