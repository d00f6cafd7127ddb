//! Probes: starting them, and what they find.

use super::Worker;
use super::slot::Phase;
use crate::status::State;

impl Worker {
    /// Probes of containers that an earlier node started.
    pub(super) fn resume_probes(&mut self) {
        for at in 0..self.slots.len() {
            if self.slots[at].phase != Phase::Running {
                continue;
            }
            let (name, attempt) = (self.slots[at].name.clone(), self.slots[at].attempt);
            let Some(probes) = self.start_probes(&name, attempt) else {
                continue;
            };
            let known = self.pod.status.iter().flat_map(|status| {
                let regular = status.container_statuses.iter().flatten();
                regular.chain(status.init_container_statuses.iter().flatten())
            });
            let was = known.filter(|one| one.name == name).find(|one| {
                one.state
                    .as_ref()
                    .is_some_and(|state| state.running.is_some())
            });
            let slot = &mut self.slots[at];
            if let State::Running { started, ready, .. } = &mut slot.view.state {
                *started = !probes.has_startup || was.is_some_and(|was| was.started == Some(true));
                *ready = *started && (!probes.has_readiness || was.is_some_and(|was| was.ready));
            }
            slot.probes = Some(probes);
        }
    }

    pub(super) fn start_probes(
        &self,
        name: &str,
        attempt: u32,
    ) -> Option<crate::pod::probe::Handle> {
        crate::pod::probe::start(
            &self.shared,
            &self.uid,
            self.spec_container(name)?,
            attempt,
            &self.view.pod_ip,
            &self.sender,
        )
    }

    pub(super) fn probed(&mut self, name: &str, attempt: u32, verdict: crate::pod::probe::Verdict) {
        use crate::pod::probe::Verdict;
        let Some(at) = self.slot(name, attempt) else {
            return;
        };
        let grace = self.grace();
        let slot = &mut self.slots[at];
        let has_readiness = slot
            .probes
            .as_ref()
            .is_some_and(|probes| probes.has_readiness);
        let State::Running { started, ready, .. } = &mut slot.view.state else {
            return;
        };
        match verdict {
            Verdict::Started => {
                *started = true;
                *ready = !has_readiness;
            }
            Verdict::Ready(now) => *ready = now && *started,
            Verdict::Dead(message) => {
                self.event("Warning", "Unhealthy", &message, Some(name));
                self.kill(at, grace);
            }
        }
    }
}
