//! Stopping containers: for good, in order, or to be renewed.

use std::time::Duration;

use tokio::time::Instant;

use super::Worker;
use super::slot::{Kill, Phase};
use crate::pod::record;
use crate::shared::container_id;
use crate::status::{Role, State};

impl Worker {
    /// K-277: a container whose image is no longer the spec's is stopped, and started again with that.
    pub(super) fn renew_changed_images(&mut self) {
        for at in 0..self.slots.len() {
            let slot = &self.slots[at];
            let image = self
                .spec_container(&slot.name)
                .and_then(|container| container.image.as_ref());
            let other = slot
                .record
                .as_ref()
                .is_some_and(|record| image != Some(&record.image));
            if slot.phase == Phase::Running && other && !slot.renew {
                self.slots[at].renew = true;
                let grace = self.grace();
                self.kill(at, grace);
            }
        }
    }

    pub(super) fn grace(&self) -> Duration {
        let spec = self
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.termination_grace_period_seconds)
            .unwrap_or(30);
        let seconds = self
            .pod
            .metadata
            .deletion_grace_period_seconds
            .unwrap_or(spec);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(1))
    }

    pub(super) fn stopping(&self) -> bool {
        self.removed || self.view.reason.is_some() || self.pod.metadata.deletion_timestamp.is_some()
    }

    /// Kills what runs; once nothing does, the pod is finished.
    pub(super) fn stop(&mut self, grace: Option<Duration>) {
        let grace = if self.removed {
            Duration::ZERO
        } else {
            grace.unwrap_or_else(|| self.grace())
        };
        for at in 0..self.slots.len() {
            match self.slots[at].phase {
                Phase::Running => self.kill(at, grace),
                Phase::Idle | Phase::Waiting(_) | Phase::Starting | Phase::Done => {}
            }
        }
        if self
            .slots
            .iter()
            .all(|slot| !matches!(slot.phase, Phase::Running | Phase::Starting))
            && !self.preparing
        {
            self.finish();
        }
    }

    fn finish(&mut self) {
        for slot in &mut self.slots {
            // K-282: one that was waiting for a restart has no state of its own any more.
            if slot.role == Role::Sidecar
                && let (State::Waiting { .. }, Some(_)) = (&slot.view.state, &slot.view.last)
            {
                slot.view.state = State::Ended(record::lost(None, &slot.view.container_id));
            }
            slot.phase = Phase::Done;
        }
        self.view.finished = true;
    }

    /// Stops native sidecars in reverse order, one after the other; then the pod is finished.
    pub(super) fn stop_sidecars(&mut self) {
        self.stopping_sidecars = true;
        let grace = self.grace();
        let last = (0..self.slots.len()).rev().find(|at| {
            let slot = &self.slots[*at];
            slot.role == Role::Sidecar && matches!(slot.phase, Phase::Running | Phase::Starting)
        });
        match last {
            Some(at) if self.slots[at].phase == Phase::Running => self.kill(at, grace),
            Some(_) => {}
            None => self.finish(),
        }
    }

    /// Asks a container to stop, and sees to it that it does.
    pub(super) fn kill(&mut self, at: usize, grace: Duration) {
        let id = container_id(&self.uid, &self.slots[at].name, self.slots[at].attempt);
        let slot = &mut self.slots[at];
        let now = Instant::now();
        let deadline = now + grace;
        let signal = match &mut slot.kill {
            Some(kill) => {
                // A later request may only shorten the time (K-287).
                kill.deadline = kill.deadline.min(deadline);
                return self.sharpen_kills(now);
            }
            None if grace.is_zero() => {
                slot.kill = Some(Kill {
                    deadline,
                    killed: true,
                });
                9
            }
            None => {
                slot.kill = Some(Kill {
                    deadline: now + grace.max(Duration::from_secs(2)),
                    killed: false,
                });
                slot.record.as_ref().map_or(15, |record| record.stop_signal)
            }
        };
        self.signal(id, signal);
    }

    pub(super) fn sharpen_kills(&mut self, now: Instant) {
        let mut overdue = Vec::new();
        for slot in &mut self.slots {
            if let Some(kill) = &mut slot.kill
                && !kill.killed
                && kill.deadline <= now
            {
                kill.killed = true;
                overdue.push(container_id(&self.uid, &slot.name, slot.attempt));
            }
        }
        for id in overdue {
            self.signal(id, 9);
        }
    }

    fn signal(&self, id: String, signal: i32) {
        let launcher = self.shared.launcher();
        tokio::spawn(async move {
            if let Err(error) = launcher.signal(&id, signal).await {
                tracing::warn!(%error, container = %id, "cannot signal a container");
            }
        });
    }
}
