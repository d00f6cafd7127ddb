//! A pod's status from what is known of its containers. Pure (K-265 to K-284).

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use crate::quantity;

/// What a container is to its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Init,
    /// Init container with `restartPolicy: Always` (K-281).
    Sidecar,
    Regular,
}

/// What is known of one container.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct View {
    pub role: Role,
    pub state: State,
    /// How it ended before the present instance.
    pub last: Option<Ended>,
    pub restarts: i32,
    pub image_id: String,
    pub container_id: String,
    /// The image it was started with, if that is no longer the spec's.
    pub image: Option<String>,
}

/// The present state of a container.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum State {
    /// `reason` empty: whatever is usual before the start.
    Waiting {
        reason: String,
        message: String,
    },
    Running {
        since: Timestamp,
        started: bool,
        ready: bool,
    },
    Ended(Ended),
}

/// How an instance of a container ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ended {
    pub code: i32,
    pub reason: String,
    pub message: String,
    pub started: Option<Timestamp>,
    pub finished: Option<Timestamp>,
    pub container_id: String,
}

/// What is known of the pod itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PodView {
    pub start: Option<Timestamp>,
    pub pod_ip: String,
    pub host_ip: String,
    pub sandbox: bool,
    /// No container runs and none will; a failed pod may have an overriding reason and message.
    pub finished: bool,
    pub reason: Option<(String, String)>,
}

impl State {
    pub fn not_begun() -> Self {
        State::Waiting {
            reason: String::new(),
            message: String::new(),
        }
    }
}

/// The containers of a pod with their roles, init containers first.
pub(crate) fn containers(spec: &PodSpec) -> impl Iterator<Item = (Role, &Container)> {
    let init = spec.init_containers.iter().flatten().map(|container| {
        let sidecar = container.restart_policy.as_deref() == Some("Always");
        (if sidecar { Role::Sidecar } else { Role::Init }, container)
    });
    init.chain(
        spec.containers
            .iter()
            .map(|container| (Role::Regular, container)),
    )
}

/// The status to publish. `old` gives the conditions' transition times, `now` those of what changes.
pub(crate) fn compute(
    pod: &Pod,
    view: &PodView,
    views: &BTreeMap<String, View>,
    old: Option<&PodStatus>,
    now: Timestamp,
) -> PodStatus {
    let Some(spec) = &pod.spec else {
        return PodStatus::default();
    };
    let has_init = spec
        .init_containers
        .as_ref()
        .is_some_and(|list| !list.is_empty());
    let total = containers(spec).count().max(1);
    let deleting = pod.metadata.deletion_timestamp.is_some();
    let fresh = View {
        role: Role::Regular,
        state: State::not_begun(),
        last: None,
        restarts: 0,
        image_id: String::new(),
        container_id: String::new(),
        image: None,
    };
    let mut init_statuses = Vec::new();
    let mut statuses = Vec::new();
    let mut uninitialized = Vec::new();
    let mut unready = Vec::new();
    for (role, container) in containers(spec) {
        let seen = views.get(&container.name).unwrap_or(&fresh);
        let status = container_status(container, role, seen, has_init, total, deleting);
        if role != Role::Regular && !initialized(role, seen) {
            uninitialized.push(container.name.clone());
        }
        if role != Role::Init && !status.ready {
            unready.push(container.name.clone());
        }
        if role == Role::Regular {
            statuses.push(status)
        } else {
            init_statuses.push(status)
        }
    }
    statuses.sort_by(|a, b| a.name.cmp(&b.name));
    let phase = phase(spec, view, views, &uninitialized);
    let terminal = matches!(phase, "Succeeded" | "Failed");
    let mut status = PodStatus {
        phase: Some(phase.to_string()),
        qos_class: Some(qos_class(spec).to_string()),
        start_time: view.start.map(Time),
        container_statuses: Some(statuses),
        init_container_statuses: (!init_statuses.is_empty()).then_some(init_statuses),
        ..PodStatus::default()
    };
    if !view.host_ip.is_empty() {
        status.host_ip = Some(view.host_ip.clone());
        status.host_ips = Some(vec![HostIP {
            ip: view.host_ip.clone(),
        }]);
    }
    if !view.pod_ip.is_empty() {
        status.pod_ip = Some(view.pod_ip.clone());
        status.pod_ips = Some(vec![PodIP {
            ip: view.pod_ip.clone(),
        }]);
    }
    if let Some((reason, message)) = &view.reason {
        status.reason = Some(reason.clone());
        status.message = Some(message.clone());
    }
    let not_ready = match phase {
        "Succeeded" => Some(("PodCompleted", String::new())),
        "Failed" => Some(("PodFailed", String::new())),
        _ if !unready.is_empty() => Some((
            "ContainersNotReady",
            format!("containers with unready status: [{}]", unready.join(" ")),
        )),
        _ => None,
    };
    let not_initialized = match phase {
        "Succeeded" => None,
        _ if !uninitialized.is_empty() => Some((
            "ContainersNotInitialized",
            format!(
                "containers with incomplete status: [{}]",
                uninitialized.join(" ")
            ),
        )),
        _ => None,
    };
    let old = old
        .and_then(|old| old.conditions.as_deref())
        .unwrap_or_default();
    let condition = |kind: &str, truth: bool, why: Option<&(&str, String)>| {
        let status = if truth { "True" } else { "False" };
        let same = old
            .iter()
            .find(|earlier| earlier.type_ == kind && earlier.status == status);
        PodCondition {
            type_: kind.to_string(),
            status: status.to_string(),
            last_transition_time: same
                .and_then(|earlier| earlier.last_transition_time.clone())
                .or(Some(Time(now))),
            reason: why.map(|(reason, _)| (*reason).to_string()),
            message: why
                .filter(|(_, message)| !message.is_empty())
                .map(|(_, message)| message.clone()),
            ..PodCondition::default()
        }
    };
    let completed = ("PodCompleted", String::new());
    let initialized_why = if phase == "Succeeded" {
        Some(&completed)
    } else {
        not_initialized.as_ref()
    };
    status.conditions = Some(vec![
        condition("PodReadyToStartContainers", view.sandbox && !terminal, None),
        condition("Initialized", not_initialized.is_none(), initialized_why),
        condition("Ready", not_ready.is_none(), not_ready.as_ref()),
        condition("ContainersReady", not_ready.is_none(), not_ready.as_ref()),
        condition("PodScheduled", true, None),
    ]);
    status
}

/// Whether a pod from the API has a status that was sent to it, with whatever others added.
pub(crate) fn shows(pod: &Pod, sent: &Value) -> bool {
    fn covers(all: &Value, part: &Value) -> bool {
        match (all, part) {
            (Value::Object(all), Value::Object(part)) => part
                .iter()
                .all(|(key, part)| all.get(key).is_some_and(|all| covers(all, part))),
            (Value::Array(all), Value::Array(part)) => {
                all.len() == part.len() && all.iter().zip(part).all(|(all, part)| covers(all, part))
            }
            _ => all == part,
        }
    }
    serde_json::to_value(&pod.status).is_ok_and(|status| covers(&status, sent))
}

fn initialized(role: Role, seen: &View) -> bool {
    match (&seen.state, role) {
        (State::Ended(ended), Role::Init) => ended.code == 0,
        (State::Running { started, .. }, Role::Sidecar) => *started,
        (State::Ended(_), Role::Sidecar) => true,
        (State::Waiting { .. }, Role::Sidecar) => seen.last.is_some(),
        _ => false,
    }
}

/// K-265, K-266.
fn phase(
    spec: &PodSpec,
    view: &PodView,
    views: &BTreeMap<String, View>,
    uninitialized: &[String],
) -> &'static str {
    let regular = || {
        spec.containers
            .iter()
            .map(|container| views.get(&container.name))
    };
    if view.finished {
        let fine = view.reason.is_none()
            && regular().all(|seen| {
                seen.is_some_and(
                    |seen| matches!(&seen.state, State::Ended(ended) if ended.code == 0),
                )
            });
        return if fine { "Succeeded" } else { "Failed" };
    }
    let begun = |seen: Option<&View>| {
        seen.is_some_and(|seen| match &seen.state {
            State::Waiting { .. } => seen.last.is_some(),
            State::Running { .. } | State::Ended(_) => true,
        })
    };
    if uninitialized.is_empty() && regular().all(begun) {
        "Running"
    } else {
        "Pending"
    }
}

fn container_status(
    container: &Container,
    role: Role,
    seen: &View,
    has_init: bool,
    total: usize,
    deleting: bool,
) -> ContainerStatus {
    let ready = match (&seen.state, role) {
        (State::Running { ready, .. }, _) => *ready && !deleting,
        (State::Ended(ended), Role::Init) => ended.code == 0,
        _ => false,
    };
    let started = matches!(seen.state, State::Running { started: true, .. });
    let state = match &seen.state {
        State::Waiting { reason, message } => {
            let usual = if has_init {
                "PodInitializing"
            } else {
                "ContainerCreating"
            };
            ContainerState {
                waiting: Some(ContainerStateWaiting {
                    reason: Some(if reason.is_empty() {
                        usual.to_string()
                    } else {
                        reason.clone()
                    }),
                    message: (!message.is_empty()).then(|| message.clone()),
                }),
                ..ContainerState::default()
            }
        }
        State::Running { since, .. } => ContainerState {
            running: Some(ContainerStateRunning {
                started_at: Some(Time(*since)),
            }),
            ..ContainerState::default()
        },
        State::Ended(ended) => terminated(ended, total),
    };
    ContainerStatus {
        name: container.name.clone(),
        image: seen
            .image
            .clone()
            .or_else(|| container.image.clone())
            .unwrap_or_default(),
        image_id: seen.image_id.clone(),
        container_id: (!seen.container_id.is_empty()).then(|| seen.container_id.clone()),
        ready,
        started: Some(started),
        restart_count: seen.restarts,
        state: Some(state),
        last_state: Some(
            seen.last
                .as_ref()
                .map(|ended| terminated(ended, total))
                .unwrap_or_default(),
        ),
        ..ContainerStatus::default()
    }
}

fn terminated(ended: &Ended, total: usize) -> ContainerState {
    let message = cut(&ended.message, 12_288 / total);
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: ended.code,
            reason: Some(ended.reason.clone()),
            message: (!message.is_empty()).then(|| message.to_string()),
            started_at: ended.started.map(Time),
            finished_at: ended.finished.map(Time),
            container_id: (!ended.container_id.is_empty()).then(|| ended.container_id.clone()),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    }
}

/// The first bytes of a message, cut at a character (K-284).
fn cut(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let end = (0..=limit)
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    &text[..end]
}

/// K-262.
fn qos_class(spec: &PodSpec) -> &'static str {
    let mut any = false;
    let mut all = true;
    for (_, container) in containers(spec) {
        let resources = container.resources.as_ref();
        for name in ["cpu", "memory"] {
            let value = |list: Option<
                &BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>,
            >| {
                list.and_then(|list| list.get(name))
                    .and_then(|value| quantity::nanos(&value.0))
                    .filter(|value| *value != 0)
            };
            let limit = value(resources.and_then(|resources| resources.limits.as_ref()));
            let request = value(resources.and_then(|resources| resources.requests.as_ref()));
            any |= limit.is_some() || request.is_some();
            all &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, all) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
