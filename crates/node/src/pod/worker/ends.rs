//! The ends of containers, and which of them are started again.

use std::time::Duration;

use kube::ResourceExt;
use tokio::time::Instant;

use super::Worker;
use super::slot::{Phase, Policy};
use crate::launcher::protocol::Exit;
use crate::pod::record::{self, Record};
use crate::remove::remove_tree;
use crate::shared::container_id;
use crate::status::{Ended, Role, State};

pub(super) const FIRST_BACKOFF: Duration = Duration::from_secs(10);

pub(super) const LAST_BACKOFF: Duration = Duration::from_secs(300);

/// A duration as Go prints whole seconds: `10s`, `1m20s`, `5m0s`.
fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 {
        format!("{seconds}s")
    } else {
        format!("{}m{}s", seconds / 60, seconds % 60)
    }
}

impl Worker {
    pub(super) fn ended(&mut self, name: &str, attempt: u32, exit: &Exit) {
        let Some(at) = self.slot(name, attempt) else {
            return;
        };
        if !matches!(self.slots[at].phase, Phase::Starting | Phase::Running) {
            // Its exit file has told already.
            return;
        }
        let fallback = self.spec_container(name).is_some_and(|container| {
            container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError")
        });
        let policy = self.policy(at);
        let instance = self.shared.layout.instance(&self.uid, name, attempt);
        self.shared.logs.close(&instance.log());
        let slot = &mut self.slots[at];
        let started = slot
            .record
            .as_ref()
            .map(Record::started_at)
            .or_else(|| Record::read(&instance).map(|record| record.started_at()));
        if slot.phase == Phase::Starting {
            // It ended before the answer to its start was heard.
            if let Some(record) = Record::read(&instance) {
                slot.view.image_id = record.image_id.clone();
                slot.record = Some(record);
            }
            slot.view.container_id =
                format!("tektite://{}", container_id(&self.uid, name, attempt));
        }
        let id = slot.view.container_id.clone();
        if slot
            .since
            .is_some_and(|since| since.elapsed() > Duration::from_secs(600))
        {
            slot.backoff = Duration::ZERO;
        }
        let ended = record::ended(&instance, exit, started, &id, fallback);
        let writable = instance.writable();
        tokio::task::spawn_blocking(move || remove_tree(&writable));
        self.instance_over(at, ended, policy);
    }

    /// Whatever ran is over; how it ended is known only if the launcher came to write it down (K-292).
    pub(super) fn lost(&mut self) {
        self.has_sandbox = false;
        self.prepared = None;
        self.view.sandbox = false;
        for at in 0..self.slots.len() {
            if self.slots[at].phase == Phase::Running {
                self.lost_instance(at);
            }
        }
    }

    pub(super) fn lost_instance(&mut self, at: usize) {
        let slot = &self.slots[at];
        let (name, attempt) = (slot.name.clone(), slot.attempt);
        let instance = self.shared.layout.instance(&self.uid, &name, attempt);
        if let Some(exit) = record::read_exit(&instance) {
            return self.ended(&name, attempt, &exit);
        }
        self.shared.logs.close(&instance.log());
        if slot.phase == Phase::Starting && !instance.pid().exists() {
            // It never began. Another launcher is on its way.
            self.slots[at].phase = Phase::Waiting(Instant::now() + Duration::from_millis(50));
            return;
        }
        let ended = record::lost(
            slot.record.as_ref().map(Record::started_at),
            &format!("tektite://{}", container_id(&self.uid, &name, attempt)),
        );
        let policy = self.policy(at);
        self.instance_over(at, ended, policy);
    }

    /// An instance is over: the container is done, or will be started again.
    pub(super) fn instance_over(&mut self, at: usize, ended: Ended, policy: Policy) {
        let stopping = self.stopping();
        let name = self.slots[at].name.clone();
        let slot = &mut self.slots[at];
        slot.kill = None;
        slot.probes = None;
        slot.image = None;
        slot.since = None;
        let again =
            !stopping && !self.stopping_sidecars && (slot.renew || policy.restarts(ended.code));
        if !again {
            slot.phase = Phase::Done;
            slot.view.state = State::Ended(ended);
            return;
        }
        slot.view.last = Some(ended);
        slot.view.restarts += 1;
        slot.attempt += 1;
        if slot.renew {
            slot.renew = false;
            slot.phase = Phase::Idle;
            slot.view.state = State::not_begun();
            return;
        }
        slot.backoff = if slot.backoff.is_zero() {
            FIRST_BACKOFF
        } else {
            (slot.backoff * 2).min(LAST_BACKOFF)
        };
        // K-278: the first restart comes at once, as the kubelet's does.
        if slot.view.restarts == 1 {
            slot.backoff = Duration::ZERO;
            slot.phase = Phase::Idle;
            slot.view.state = State::not_begun();
            return;
        }
        slot.phase = Phase::Waiting(Instant::now() + slot.backoff);
        let message = format!(
            "back-off {} restarting failed container={name} pod={}_{}({})",
            go_duration(slot.backoff),
            self.pod.name_any(),
            self.pod.namespace().unwrap_or_default(),
            self.uid
        );
        slot.view.state = State::Waiting {
            reason: "CrashLoopBackOff".to_string(),
            message,
        };
    }

    pub(super) fn policy(&self, at: usize) -> Policy {
        let role = self.slots[at].role;
        let policy = self
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.restart_policy.as_deref())
            .unwrap_or("Always");
        match (role, policy) {
            (Role::Sidecar, _) => Policy::Always,
            (Role::Init, "Never") | (Role::Regular, "Never") => Policy::Never,
            (Role::Init, _) | (Role::Regular, "OnFailure") => Policy::OnFailure,
            (Role::Regular, _) => Policy::Always,
        }
    }
}
