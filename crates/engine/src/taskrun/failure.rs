//! Why a pod failed, and why it waits: classes of failure in their order, with upstream's words (T-353 to T-368).

use std::sync::LazyLock;

use k8s_openapi::api::core::v1::{
    ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, Pod, PodStatus,
};
use tektite_api::names::task_run_reason as reason;

use super::termination::{self, Kind};

/// Whether the container is a step.
pub(crate) fn is_step(name: &str) -> bool {
    name.starts_with("step-")
}

/// Whether the container is one of the task's sidecars (and not one that somebody injected).
pub(crate) fn is_sidecar(name: &str) -> bool {
    name.starts_with("sidecar-")
}

static NO_STATUS: LazyLock<PodStatus> = LazyLock::new(PodStatus::default);

pub(crate) fn pod_status(pod: &Pod) -> &PodStatus {
    pod.status.as_ref().unwrap_or(&NO_STATUS)
}

/// The pod's phase, empty before anybody set it.
pub(crate) fn phase(pod: &Pod) -> &str {
    pod_status(pod).phase.as_deref().unwrap_or_default()
}

pub(crate) fn containers(pod: &Pod) -> &[ContainerStatus] {
    pod_status(pod)
        .container_statuses
        .as_deref()
        .unwrap_or_default()
}

pub(crate) fn init_containers(pod: &Pod) -> &[ContainerStatus] {
    pod_status(pod)
        .init_container_statuses
        .as_deref()
        .unwrap_or_default()
}

pub(crate) fn terminated(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    status.state.as_ref()?.terminated.as_ref()
}

fn waiting(status: &ContainerStatus) -> Option<&ContainerStateWaiting> {
    status.state.as_ref()?.waiting.as_ref()
}

pub(crate) fn is_oom_killed(terminated: &ContainerStateTerminated) -> bool {
    terminated.reason.as_deref() == Some("OOMKilled")
}

/// Whether a pod that is complete counts as failed (T-350).
pub(crate) fn has_failed(pod: &Pod) -> bool {
    phase(pod) == "Failed"
        || containers(pod)
            .iter()
            .filter(|s| is_step(&s.name))
            .filter_map(terminated)
            .any(|t| t.exit_code != 0 || is_oom_killed(t))
}

/// Reason and message of a failed pod.
pub(crate) fn classify(pod: &Pod) -> (&'static str, String) {
    let status = pod_status(pod);
    let pod_message = status.message.clone().unwrap_or_default();
    if status.reason.as_deref() == Some("Evicted") {
        return (reason::POD_EVICTED, pod_message);
    }
    let culprit = culprit(pod);
    let class = culprit.as_ref().map_or(reason::FAILED, |c| c.0);
    if let Some(message) = culprit.and_then(|(_, container, init)| {
        let message = container_message(container)?;
        Some(if init {
            format!("init container failed, {message}")
        } else {
            message
        })
    }) {
        return (class, message);
    }
    if !pod_message.is_empty() {
        return (class, pod_message);
    }
    let oom = containers(pod)
        .iter()
        .filter(|s| is_step(&s.name) || is_sidecar(&s.name))
        .filter_map(terminated)
        .any(is_oom_killed);
    let message = if oom {
        "OOMKilled"
    } else {
        "build failed for unspecified reasons."
    };
    (class, message.to_owned())
}

type Test = fn(&ContainerStatus, &ContainerStateTerminated) -> bool;

/// The container that is to blame: first match of the list of classes, each over all containers (T-368).
fn culprit(pod: &Pod) -> Option<(&'static str, &ContainerStatus, bool)> {
    let sidecar_oom: Test = |s, t| is_sidecar(&s.name) && is_oom_killed(t);
    let sidecar_failed: Test = |s, t| is_sidecar(&s.name) && t.exit_code != 0;
    let classes: [(bool, &'static str, Test); 8] = [
        (true, reason::SIDECAR_OOM, sidecar_oom),
        (true, reason::INIT_CONTAINER_OOM, |s, t| {
            !is_sidecar(&s.name) && is_oom_killed(t)
        }),
        (true, reason::SIDECAR_FAILED, sidecar_failed),
        (true, reason::INIT_CONTAINER_FAILED, |s, t| {
            !is_sidecar(&s.name) && t.exit_code != 0
        }),
        (false, reason::SIDECAR_OOM, sidecar_oom),
        (false, reason::STEP_OOM, |s, t| {
            is_step(&s.name) && is_oom_killed(t)
        }),
        (false, reason::SIDECAR_FAILED, sidecar_failed),
        (false, reason::STEP_FAILED, |s, t| {
            is_step(&s.name) && t.exit_code != 0
        }),
    ];
    classes.into_iter().find_map(|(init, class, test)| {
        let statuses = if init {
            init_containers(pod)
        } else {
            containers(pod)
        };
        let found = statuses
            .iter()
            .find(|s| terminated(s).is_some_and(|t| test(s, t)))?;
        Some((class, found, init))
    })
}

fn container_message(status: &ContainerStatus) -> Option<String> {
    let ended = terminated(status)?;
    let notes =
        termination::parse(ended.message.as_deref().unwrap_or_default()).unwrap_or_default();
    if notes
        .iter()
        .any(|n| n.kind == Kind::Internal && n.key == "Reason" && n.value == "TimeoutExceeded")
    {
        return Some(format!(
            "{:?} exited because the step exceeded the specified timeout limit",
            status.name
        ));
    }
    if ended.exit_code == 0 {
        return None;
    }
    let because = ended
        .reason
        .as_deref()
        .filter(|r| !r.is_empty())
        .map(|r| format!(": {r}"))
        .unwrap_or_default();
    Some(format!(
        "{:?} exited with code {}{because}",
        status.name, ended.exit_code
    ))
}

/// Whether the scheduler finds no room for the pod (T-357).
pub(crate) fn exceeds_node_resources(pod: &Pod) -> bool {
    pod_status(pod).conditions.iter().flatten().any(|c| {
        c.reason.as_deref() == Some("Unschedulable")
            && c.message
                .as_deref()
                .unwrap_or_default()
                .contains("Insufficient")
    })
}

const SUB_PATH: &str = "failed to create subPath directory";
const CONFIG_ERROR: &str = "CreateContainerConfigError";

fn says(waiting: &ContainerStateWaiting, reason: &str, part: &str) -> bool {
    waiting.reason.as_deref() == Some(reason)
        && waiting
            .message
            .as_deref()
            .unwrap_or_default()
            .contains(part)
}

fn any_waiting(pod: &Pod, test: impl Fn(&ContainerStateWaiting) -> bool) -> bool {
    init_containers(pod)
        .iter()
        .chain(containers(pod))
        .filter_map(waiting)
        .any(test)
}

/// What a pending pod waits for, in order of precedence (T-360).
pub(crate) enum Pending {
    /// The scheduler finds no room.
    NodeResources,
    /// A subPath directory is being made.
    SubPath,
    /// It will never start.
    ConfigError,
    /// Its images cannot be had, yet.
    ImagePull(String),
    /// Something else.
    Other(String),
}

pub(crate) fn pending(pod: &Pod) -> Pending {
    let config_error =
        |w: &ContainerStateWaiting| says(w, CONFIG_ERROR, "") && !says(w, CONFIG_ERROR, SUB_PATH);
    let image_error = |w: &ContainerStateWaiting| {
        matches!(
            w.reason.as_deref(),
            Some(
                "ImagePullBackOff"
                    | "ImageInspectError"
                    | "ErrImagePull"
                    | "ErrImageNeverPull"
                    | "RegistryUnavailable"
                    | "InvalidImageName"
            )
        )
    };
    if exceeds_node_resources(pod) {
        Pending::NodeResources
    } else if containers(pod)
        .iter()
        .filter_map(waiting)
        .any(|w| says(w, CONFIG_ERROR, SUB_PATH))
    {
        Pending::SubPath
    } else if any_waiting(pod, config_error) {
        Pending::ConfigError
    } else if any_waiting(pod, image_error) {
        Pending::ImagePull(waiting_message(pod))
    } else {
        Pending::Other(waiting_message(pod))
    }
}

/// The first thing known about why a pod waits (T-353).
fn waiting_message(pod: &Pod) -> String {
    for status in containers(pod) {
        if let Some(message) = waiting(status)
            .and_then(|w| w.message.as_deref())
            .filter(|m| !m.is_empty())
        {
            return format!(
                "build step {:?} is pending with reason {message:?}",
                status.name
            );
        }
    }
    if let Some(c) = pod_status(pod)
        .conditions
        .iter()
        .flatten()
        .find(|c| c.status != "True")
    {
        let message = c.message.as_deref().unwrap_or_default();
        return format!(
            "pod status {:?}:{:?}; message: {message:?}",
            c.type_, c.status
        );
    }
    match pod_status(pod).message.as_deref() {
        Some(message) if !message.is_empty() => message.to_owned(),
        _ => "Pending".to_owned(),
    }
}
