//! How a run ends other than by its steps: cancel, timeout, containers that cannot start; retries; sidecars
//! (T-322 to T-327, T-370 to T-390).

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStateWaiting, Pod};
use serde_json::json;
use tektite_api::Duration;
use tektite_api::names::{annotation, task_run_reason as reason};
use tektite_api::v1::{Condition, StepState};

use super::condition::{self, seconds};
use super::failure::{containers, is_step, phase, pod_status};
use super::pass::Pass;
use super::status::{self, RESULTS_SIDECAR, Sources, from_sidecar_logs};
use super::timeout;
use crate::decision::{Effect, Patch};

/// Fails the run now and ends its pod, if it has one.
pub(super) fn fail(pass: &mut Pass<'_>, class: &str, message: &str) {
    condition::failed(&mut pass.run.status, class, message, pass.now);
    pass.run.status.completion_time = Some(seconds(pass.now));
    let pod = pass.run.status.pod_name.clone();
    if pod.is_empty() {
        return;
    }
    terminate_steps(pass, class);
    let keep = pass.config.feature_flags.enable_keep_pod_on_cancel
        && matches!(class, reason::CANCELLED | reason::TIMED_OUT);
    pass.effects.push(if keep {
        annotate(pod, annotation::CANCEL, "CANCEL")
    } else {
        Effect::DeletePod { name: pod }
    });
}

/// A JSON patch that sets an annotation as upstream does: `replace`, which succeeds on a missing key too (K-098).
fn annotate(pod: String, key: &str, value: &str) -> Effect {
    let path = format!("/metadata/annotations/{}", key.replace('/', "~1"));
    Effect::PatchPod {
        name: pod,
        patch: Patch::Json(vec![json!({"op": "replace", "path": path, "value": value})]),
    }
}

/// T-385
fn terminate_steps(pass: &mut Pass<'_>, class: &str) {
    let created = pass.run.metadata.creation_timestamp.clone();
    let run_status = &mut pass.run.status;
    let (pod, finished) = (&run_status.pod_name, &run_status.completion_time);
    for step in &mut run_status.steps {
        let started = match (&step.running, &step.waiting) {
            (Some(running), _) => running.started_at.clone(),
            (None, Some(_)) => created.clone(),
            (None, None) => continue,
        };
        step.terminated = Some(ContainerStateTerminated {
            exit_code: 1,
            started_at: started,
            finished_at: finished.clone(),
            reason: Some(class.to_owned()),
            message: Some(format!(
                "Step {} terminated as pod {pod} is terminated",
                step.name
            )),
            ..ContainerStateTerminated::default()
        });
        step.termination_reason = class.to_owned();
        (step.running, step.waiting) = (None, None);
    }
}

/// Adds what the run was doing before, if that says something (T-372).
pub(super) fn with_previous(before: Option<&Condition>, message: String) -> String {
    let telling = before.filter(|c| {
        !c.message.is_empty()
            && !matches!(
                c.reason.as_str(),
                reason::STARTED | reason::RUNNING | reason::PENDING
            )
    });
    match telling {
        Some(c) => format!("{message}\nPrevious status: [{}] {}", c.reason, c.message),
        None => message,
    }
}

/// T-384
pub(super) fn has_timed_out(pass: &Pass<'_>) -> bool {
    let limit = timeout(&pass.run, pass.config);
    let start = pass.run.status.start_time.as_ref();
    !limit.is_zero()
        && start.is_some_and(|t| t.0.duration_until(pass.now) > jiff::SignedDuration::from(limit))
}

/// The pod that `status.podName` names, if it is still there.
pub(super) fn named_pod<'p>(pass: &Pass<'p>) -> Option<&'p Pod> {
    let name = &pass.run.status.pod_name;
    let seen = pass.seen;
    seen.pods
        .iter()
        .map(AsRef::as_ref)
        .find(|p| !name.is_empty() && p.metadata.name.as_ref() == Some(name))
}

/// Brings the steps' states up to date before the run is failed (T-384).
pub(super) fn refresh_steps(pass: &mut Pass<'_>) {
    let (Some(pod), Some(spec)) = (named_pod(pass), pass.run.status.task_spec.clone()) else {
        return;
    };
    let mut fresh = pass.run.status.clone();
    let from = Sources {
        spec: &spec,
        logged: &[],
        config: pass.config,
        now: pass.now,
    };
    status::follow_pod(&mut fresh, &pass.run, pod, &from);
    pass.run.status.steps = fresh.steps;
}

/// A step or sidecar that an earlier pass saw unable to start (T-373 to T-378).
pub(super) fn container_failure(pass: &Pass<'_>) -> Option<(&'static str, String)> {
    let run_status = &pass.run.status;
    if run_status.pod_name.is_empty() {
        // What is left of the sidecars of a failed attempt says nothing about the next.
        return None;
    }
    let steps = run_status
        .steps
        .iter()
        .map(|s: &StepState| ("step", &s.name, &s.image_id, &s.waiting));
    let sidecars = run_status
        .sidecars
        .iter()
        .map(|s| ("sidecar", &s.name, &s.image_id, &s.waiting));
    steps
        .chain(sidecars)
        .find_map(|(kind, name, image, waiting)| {
            let waiting = waiting.as_ref()?;
            let what = format!("the {kind} {name:?} in TaskRun {:?}", pass.name());
            class_of_waiting(pass, waiting, &what, image)
        })
}

fn class_of_waiting(
    pass: &Pass<'_>,
    waiting: &ContainerStateWaiting,
    what: &str,
    image: &str,
) -> Option<(&'static str, String)> {
    let message = waiting.message.as_deref().unwrap_or_default();
    let pulled = || {
        format!(
            "{what} failed to pull the image {image:?}. The pod errored with the message: \"{message}.\""
        )
    };
    let started =
        || format!("{what} failed to start. The pod errored with the message: \"{message}.\"");
    let defaults = &pass.config.defaults;
    let gone = || format!("pod {:?} not found", pass.run.status.pod_name);
    let slow = message.contains("context deadline exceeded")
        && !defaults.create_container_error_timeout.is_zero();
    let why = waiting.reason.as_deref().unwrap_or_default();
    match why {
        "ImagePullBackOff" if !defaults.image_pull_back_off_timeout.is_zero() => {
            match named_pod(pass) {
                None => Some((
                    reason::IMAGE_PULL_FAILED,
                    format!(
                        "{what} failed to pull the image {image:?}. Failed to get pod with error: \"{}.\"",
                        gone()
                    ),
                )),
                Some(pod) if within_grace(pass, pod, defaults.image_pull_back_off_timeout) => None,
                Some(_) => Some((reason::IMAGE_PULL_FAILED, pulled())),
            }
        }
        "ImagePullBackOff" | "InvalidImageName" => Some((reason::IMAGE_PULL_FAILED, pulled())),
        "CreateContainerConfigError" | "CreateContainerError" => {
            if slow {
                match named_pod(pass) {
                    None => {
                        let text = format!(
                            "{what} failed to start. Failed to get pod with error: \"{}.\"",
                            gone()
                        );
                        return Some((reason::POD_CREATION_FAILED, text));
                    }
                    Some(pod)
                        if within_grace(pass, pod, defaults.create_container_error_timeout) =>
                    {
                        return None;
                    }
                    Some(_) => {}
                }
            }
            let config_error = why == "CreateContainerConfigError";
            let class = if config_error {
                reason::CREATE_CONTAINER_CONFIG_ERROR
            } else {
                reason::POD_CREATION_FAILED
            };
            Some((class, started()))
        }
        _ => None,
    }
}

/// Whether the pod became able to start containers less than `grace` ago (T-374, T-377).
fn within_grace(pass: &Pass<'_>, pod: &Pod, grace: Duration) -> bool {
    pod_status(pod).conditions.iter().flatten().any(|c| {
        let since = c
            .last_transition_time
            .as_ref()
            .map(|t| t.0.duration_until(pass.now));
        matches!(
            c.type_.as_str(),
            "Initialized" | "PodReadyToStartContainers"
        ) && since.is_some_and(|s| s < jiff::SignedDuration::from(grace))
    })
}

/// Keeps the failed attempt and starts over (T-388 to T-390).
pub(super) fn retry(pass: &mut Pass<'_>, message: String) {
    let run_status = &mut pass.run.status;
    let mut attempt = run_status.clone();
    attempt.retries_status.clear();
    run_status.retries_status.push(attempt);
    run_status.start_time = None;
    run_status.completion_time = None;
    run_status.pod_name.clear();
    run_status.results.clear();
    condition::ongoing(run_status, reason::TO_BE_RETRIED, message, pass.now);
    pass.wake = Some(pass.now);
}

/// Whether the first step may start.
pub(super) fn is_released(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    annotations
        .and_then(|a| a.get(annotation::READY))
        .is_some_and(|v| v == "READY")
}

/// Releases the first step when everything beside the steps is ready (T-322, T-323); says whether it does.
pub(super) fn release_first_step(pass: &mut Pass<'_>, pod: &Pod) -> bool {
    if phase(pod) != "Running" || is_released(pod) {
        return false;
    }
    let settled = containers(pod)
        .iter()
        .filter(|s| !is_step(&s.name))
        .all(|s| {
            let state = s.state.as_ref();
            state.is_some_and(|state| {
                state.terminated.is_some() || (state.running.is_some() && s.ready)
            })
        });
    if settled {
        pass.effects.push(annotate(
            pod.metadata.name.clone().unwrap_or_default(),
            annotation::READY,
            "READY",
        ));
    }
    settled
}

/// Stops what still runs beside the steps of a finished run, and notes how sidecars ended (T-324 to T-327).
pub(super) fn stop_sidecars(pass: &mut Pass<'_>) {
    let flags = &pass.config.feature_flags;
    if flags.enable_kubernetes_sidecar && pass.seen.pod_options.kubernetes_minor >= 29 {
        return;
    }
    let class = pass.succeeded().map(|c| c.reason).unwrap_or_default();
    if matches!(class.as_str(), reason::CANCELLED | reason::TIMED_OUT) {
        return;
    }
    let Some(pod) = named_pod(pass) else { return };
    if let Some(refusal) = pass
        .seen
        .refusals
        .iter()
        .find(|r| matches!(&r.effect, Effect::PatchPod { .. }))
    {
        match refusal.code {
            404 => {}
            409 => pass.wake_after(jiff::SignedDuration::from_secs(1)),
            _ => {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                let message = format!(
                    "error stopping sidecars of Pod {name:?}: {}",
                    refusal.message
                );
                condition::failed(
                    &mut pass.run.status,
                    reason::STOP_SIDECAR_FAILED,
                    message,
                    pass.now,
                );
            }
        }
        return;
    }
    if phase(pod) == "Running" {
        let operations = stop_operations(pass, pod);
        if !operations.is_empty() {
            let name = pod.metadata.name.clone().unwrap_or_default();
            pass.effects.push(Effect::PatchPod {
                name,
                patch: Patch::Json(operations),
            });
        }
    }
    if pass
        .run
        .status
        .sidecars
        .iter()
        .any(|s| s.terminated.is_none())
    {
        pass.run.status.sidecars = status::stopped_sidecars(pod);
    }
}

fn stop_operations(pass: &Pass<'_>, pod: &Pod) -> Vec<serde_json::Value> {
    let nop = &pass.seen.pod_options.nop_image;
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let runs = |name: &str| {
        let status = containers(pod).iter().find(|s| s.name == name);
        status
            .and_then(|s| s.state.as_ref())
            .is_some_and(|s| s.running.is_some())
    };
    let spared =
        |name: &str| is_step(name) || (from_sidecar_logs(pass.config) && name == RESULTS_SIDECAR);
    spec.containers
        .iter()
        .enumerate()
        .filter(|(_, c)| !spared(&c.name) && runs(&c.name) && c.image.as_ref() != Some(nop))
        .map(|(i, _)| json!({"op": "replace", "path": format!("/spec/containers/{i}/image"), "value": nop}))
        .collect()
}
