//! What the API is told of a pod.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::time::Instant;

use super::{Event, Worker};
use crate::shared::Shared;
use crate::status::{self, View};

/// A start that takes no longer than this is published as running at once, not as waiting first.
pub(super) const QUIET: Duration = Duration::from_millis(150);

/// Deletes a pod's object without grace.
pub(crate) fn delete_now(shared: &Shared, pod: &Pod) {
    let (client, name, namespace, uid) = (
        shared.client.clone(),
        pod.name_any(),
        pod.namespace().unwrap_or_default(),
        pod.uid(),
    );
    tokio::spawn(async move {
        let pods: Api<Pod> = Api::namespaced(client, &namespace);
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid,
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match pods.delete(&name, &params).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
            Err(error) => tracing::warn!(%error, pod = %name, "cannot delete a terminated pod"),
        }
    });
}

impl Worker {
    /// Sends the status if it changed. A write may follow another that is not on disk yet, but only once the API has that
    /// one: so they never overtake each other, and the last one sent is the last one kept.
    pub(super) fn publish(&mut self) {
        if self.unseen.is_some() || !self.bound || self.removed {
            return;
        }
        let views: BTreeMap<String, View> = self
            .slots
            .iter()
            .map(|slot| (slot.name.clone(), slot.view.clone()))
            .collect();
        let status = status::compute(
            &self.pod,
            &self.view,
            &views,
            self.published.as_ref(),
            Timestamp::now(),
        );
        let settled = matches!(
            status.phase.as_deref(),
            Some("Running" | "Succeeded" | "Failed")
        );
        let told = |status: &PodStatus| -> bool {
            status
                .container_statuses
                .iter()
                .chain(&status.init_container_statuses)
                .flatten()
                .any(|one| {
                    let waiting = one
                        .state
                        .as_ref()
                        .and_then(|state| state.waiting.as_ref())
                        .and_then(|waiting| waiting.reason.as_deref());
                    !matches!(
                        waiting,
                        None | Some("ContainerCreating" | "PodInitializing")
                    )
                })
        };
        if !settled
            && !told(&status)
            && self.published.is_none()
            && Instant::now() < self.write_after
        {
            return;
        }
        if self.published.as_ref() == Some(&status) {
            self.delete_object();
            return;
        }
        let uid = &self.pod.metadata.uid;
        let patch = Arc::new(json!({"metadata": {"uid": uid}, "status": status}));
        self.published = Some(status);
        self.unseen = Some(patch.clone());
        self.written += 1;
        self.unanswered += 1;
        let number = self.written;
        let (client, pod, sender) = (
            self.shared.client.clone(),
            self.pod.clone(),
            self.sender.clone(),
        );
        tokio::spawn(async move {
            let pods: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap_or_default());
            let result = pods
                .patch_status(
                    &pod.name_any(),
                    &PatchParams::default(),
                    &Patch::Merge(&*patch),
                )
                .await
                .map(drop);
            let _ = sender.send(Event::Written { number, result });
        });
    }

    pub(super) fn written(&mut self, number: u64, result: Result<(), kube::Error>) {
        self.unanswered -= 1;
        let last = number == self.written;
        if last {
            self.unseen = None;
        }
        match result {
            Ok(()) => {}
            Err(kube::Error::Api(status))
                if status.code == 404 || status.code == 409 || status.code == 422 =>
            {
                // Gone, or another pod has its name now.
                self.removed = self.removed || status.code != 422;
                if status.code == 422 {
                    tracing::error!(message = %status.message, pod = %self.pod.name_any(), "the API refused a pod status");
                }
            }
            Err(error) => {
                tracing::warn!(%error, pod = %self.pod.name_any(), "cannot write a pod status");
                if !last {
                    // The one after it says it all.
                    return;
                }
                self.published = None;
                self.write_after = Instant::now() + Duration::from_millis(500);
            }
        }
    }

    /// K-286: the node has the last word on a deleted pod.
    fn delete_object(&mut self) {
        if !self.view.finished
            || self.deleted_object
            || self.pod.metadata.deletion_timestamp.is_none()
        {
            return;
        }
        self.deleted_object = true;
        delete_now(&self.shared, &self.pod);
    }
}
