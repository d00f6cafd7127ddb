//! What follows: preparing the pod, and starting its containers in their order.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod};
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use tokio::time::Instant;

use super::slot::{Phase, Slot};
use super::{Event, Worker};
use crate::pod::prepare;
use crate::pod::start::start;
use crate::status::{Role, State};

impl Worker {
    pub(super) fn step(&mut self) {
        let now = Instant::now();
        if self.view.finished {
            return;
        }
        if self.view.reason.is_none() && self.deadline.is_some_and(|deadline| deadline <= now) {
            let message =
                "Pod was active on the node longer than the specified deadline".to_string();
            self.view.reason = Some(("DeadlineExceeded".to_string(), message));
        }
        self.sharpen_kills(now);
        self.soften_pull_errors(now);
        if self.stopping() {
            self.stop(None);
            return;
        }
        if self.stopping_sidecars || self.nothing_to_start() {
            return self.stop_sidecars();
        }
        if self.prepared.is_none() {
            if !self.preparing && self.prepare_again.is_none_or(|again| again <= now) {
                self.prepare();
            }
            return;
        }
        if !self.advance_init(now) {
            return;
        }
        for at in 0..self.slots.len() {
            if self.slots[at].role == Role::Regular {
                self.start_if_due(at, now);
            }
        }
    }

    /// Whether nothing but sidecars is left: the regular containers are done, or an init container has failed for good.
    fn nothing_to_start(&self) -> bool {
        let failed = |slot: &Slot| {
            slot.role == Role::Init
                && slot.phase == Phase::Done
                && matches!(&slot.view.state, State::Ended(ended) if ended.code != 0)
        };
        let mut regular = self.slots.iter().filter(|slot| slot.role == Role::Regular);
        regular.all(|slot| slot.phase == Phase::Done) || self.slots.iter().any(failed)
    }

    /// Moves the init containers on; answers whether regular containers may run (K-279, K-281).
    fn advance_init(&mut self, now: Instant) -> bool {
        for at in 0..self.slots.len() {
            let slot = &self.slots[at];
            match slot.role {
                Role::Regular => {}
                Role::Sidecar => {
                    self.start_if_due(at, now);
                    let slot = &self.slots[at];
                    let begun = matches!(slot.view.state, State::Running { started: true, .. })
                        || slot.view.last.is_some();
                    if !begun {
                        return false;
                    }
                }
                Role::Init => match &slot.view.state {
                    State::Ended(ended) if ended.code == 0 => {}
                    _ => {
                        self.start_if_due(at, now);
                        return false;
                    }
                },
            }
        }
        true
    }

    fn start_if_due(&mut self, at: usize, now: Instant) {
        let due = match self.slots[at].phase {
            Phase::Idle => true,
            Phase::Waiting(again) => again <= now,
            Phase::Starting | Phase::Running | Phase::Done => false,
        };
        let (Some(prepared), true) = (self.prepared.clone(), due) else {
            return;
        };
        let Some(container) = self.spec_container(&self.slots[at].name).cloned() else {
            return;
        };
        let slot = &mut self.slots[at];
        slot.phase = Phase::Starting;
        let attempt = slot.attempt;
        let (shared, pod, sender) = (self.shared.clone(), self.pod.clone(), self.sender.clone());
        let instance = shared.layout.instance(&self.uid, &slot.name, attempt);
        let logged = std::fs::create_dir_all(instance.root())
            .and_then(|()| shared.logs.open(&instance.log()));
        if let Err(error) = logged {
            tracing::warn!(%error, "cannot watch a container's log");
        }
        tokio::spawn(async move {
            let name = container.name.clone();
            let result = start(shared.clone(), pod, container, attempt, prepared).await;
            if result.is_err() {
                shared.logs.close(&instance.log());
            }
            let _ = sender.send(Event::Started {
                container: name,
                attempt,
                result: Box::new(result),
            });
        });
    }

    fn prepare(&mut self) {
        self.prepare_again = None;
        let host_network = self.pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
        if let (Some(network), None, false) = (&self.shared.network, &self.lease, host_network) {
            match network.lease(&self.uid) {
                Ok(lease) => self.lease = Some(lease),
                Err(reason) => {
                    self.event("Warning", "FailedCreatePodSandBox", &reason, None);
                    self.prepare_again = Some(Instant::now() + Duration::from_secs(1));
                    return;
                }
            }
        }
        self.preparing = true;
        let interface = self.lease.as_ref().map(|lease| lease.interface().clone());
        let (shared, pod, sender, has_sandbox) = (
            self.shared.clone(),
            self.pod.clone(),
            self.sender.clone(),
            self.has_sandbox,
        );
        tokio::spawn(async move {
            let result = prepare::prepare(&shared, &pod, has_sandbox, interface).await;
            let _ = sender.send(Event::Prepared(Box::new(result)));
        });
    }

    pub(super) fn bind(&self) {
        let (client, name, pod, sender) = (
            self.shared.client.clone(),
            self.shared.name.clone(),
            self.pod.clone(),
            self.sender.clone(),
        );
        tokio::spawn(async move {
            let pods: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap_or_default());
            let binding = Binding {
                metadata: kube::api::ObjectMeta {
                    name: Some(pod.name_any()),
                    uid: pod.uid(),
                    ..Default::default()
                },
                target: ObjectReference {
                    kind: Some("Node".into()),
                    name: Some(name),
                    ..ObjectReference::default()
                },
            };
            let result: Result<serde_json::Value, _> = pods
                .create_subresource("binding", &pod.name_any(), &PostParams::default(), &binding)
                .await;
            let result = result.map(drop).map_err(|error| error.to_string());
            let _ = sender.send(Event::Bound(result));
        });
    }
}
