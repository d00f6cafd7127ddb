//! What came of preparing the pod and of starting its containers.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use tokio::time::Instant;

use super::Worker;
use super::ends::{FIRST_BACKOFF, LAST_BACKOFF};
use super::slot::Phase;
use crate::images::ImageError;
use crate::pod::prepare::Prepared;
use crate::pod::start::{StartFailure, Started};
use crate::shared::container_id;
use crate::status::{self, Ended, State};

impl Worker {
    pub(super) fn was_prepared(&mut self, result: Result<Prepared, String>) {
        self.preparing = false;
        match result {
            Ok(prepared) => {
                self.has_sandbox = true;
                self.view.sandbox = true;
                self.view.pod_ip = prepared.facts.pod_ip.clone();
                self.prepared = Some(prepared);
                // The pod may have changed while its volumes were written.
                self.follow_metadata();
            }
            Err(reason) => {
                let (wait, tell) = self.mount_retry.failed(&reason);
                if tell {
                    tracing::warn!(pod = %self.pod.name_any(), %reason, "cannot prepare a pod; trying again");
                    self.event("Warning", "FailedMount", &reason, None);
                }
                self.prepare_again = Some(Instant::now() + wait);
            }
        }
    }

    pub(super) fn started(
        &mut self,
        name: &str,
        attempt: u32,
        result: Result<Started, StartFailure>,
    ) {
        let Some(at) = self.slot(name, attempt) else {
            return;
        };
        let id = format!("tektite://{}", container_id(&self.uid, name, attempt));
        let policy = self.policy(at);
        let probes = match &result {
            Ok(_) => self.start_probes(name, attempt),
            Err(_) => None,
        };
        let slot = &mut self.slots[at];
        match result {
            Ok(started) => {
                if slot.phase != Phase::Starting {
                    return;
                }
                let (gated, has_readiness) = probes.as_ref().map_or((false, false), |probes| {
                    (probes.has_startup, probes.has_readiness)
                });
                slot.phase = Phase::Running;
                slot.since = Some(Instant::now());
                slot.view.image_id = started.record.image_id.clone();
                slot.view.container_id = id;
                slot.view.image = Some(started.record.image.clone());
                slot.view.state = State::Running {
                    since: started.record.started_at(),
                    started: !gated,
                    ready: !gated && !has_readiness,
                };
                slot.record = Some(started.record);
                slot.image = Some(started.image);
                slot.probes = probes;
                slot.pull_backoff = None;
            }
            Err(StartFailure::Start { message, record }) => {
                let now = Timestamp::now();
                let ended = Ended {
                    code: 128,
                    reason: "StartError".to_string(),
                    message,
                    started: Some(Timestamp::UNIX_EPOCH),
                    finished: Some(now),
                    container_id: id.clone(),
                };
                slot.view.image_id = record.image_id.clone();
                slot.view.container_id = id;
                slot.record = Some(record);
                self.instance_over(at, ended, policy);
            }
            Err(StartFailure::Image(error)) => {
                let (reason, retry) = match &error {
                    ImageError::InvalidName(_) => ("InvalidImageName", None),
                    ImageError::NeverPull(_) => ("ErrImageNeverPull", None),
                    ImageError::Pull(_) => ("ErrImagePull", Some(())),
                };
                let message = match &error {
                    ImageError::InvalidName(text) => {
                        format!("Failed to apply default image tag: {text}")
                    }
                    other => other.to_string(),
                };
                slot.backoff = if slot.backoff.is_zero() {
                    FIRST_BACKOFF
                } else {
                    (slot.backoff * 2).min(LAST_BACKOFF)
                };
                let again = Instant::now()
                    + if retry.is_some() {
                        slot.backoff
                    } else {
                        FIRST_BACKOFF
                    };
                slot.phase = Phase::Waiting(again);
                slot.pull_backoff =
                    retry.map(|()| (Instant::now() + Duration::from_secs(1), message.clone()));
                slot.view.state = State::Waiting {
                    reason: reason.to_string(),
                    message: message.clone(),
                };
                self.event("Warning", "Failed", &format!("Error: {reason}"), Some(name));
            }
            Err(StartFailure::NoLauncher) => self.lost_instance(at),
            Err(StartFailure::Config(message) | StartFailure::Create(message))
                if message.is_empty() =>
            {
                slot.phase = Phase::Waiting(Instant::now() + FIRST_BACKOFF);
            }
            Err(failure) => {
                let (reason, message) = match failure {
                    StartFailure::Config(message) => ("CreateContainerConfigError", message),
                    StartFailure::Create(message) => ("CreateContainerError", message),
                    StartFailure::Image(_)
                    | StartFailure::Start { .. }
                    | StartFailure::NoLauncher => return,
                };
                slot.phase = Phase::Waiting(Instant::now() + FIRST_BACKOFF);
                slot.view.state = State::Waiting {
                    reason: reason.to_string(),
                    message: message.clone(),
                };
                self.event(
                    "Warning",
                    "Failed",
                    &format!("Error: {message}"),
                    Some(name),
                );
            }
        }
    }

    pub(super) fn soften_pull_errors(&mut self, now: Instant) {
        let images: BTreeMap<String, String> = self
            .pod
            .spec
            .iter()
            .flat_map(status::containers)
            .map(|(_, container)| {
                (
                    container.name.clone(),
                    container.image.clone().unwrap_or_default(),
                )
            })
            .collect();
        for slot in &mut self.slots {
            if let Some((at, error)) = &slot.pull_backoff
                && *at <= now
            {
                let image = images
                    .get(&slot.name)
                    .map(String::as_str)
                    .unwrap_or_default();
                slot.view.state = State::Waiting {
                    reason: "ImagePullBackOff".to_string(),
                    message: format!("Back-off pulling image \"{image}\": ErrImagePull: {error}"),
                };
                slot.pull_backoff = None;
            }
        }
    }
}
