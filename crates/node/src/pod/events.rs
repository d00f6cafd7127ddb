//! Events on pods (K-296).

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, ResourceExt};

use crate::shared::Shared;

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Writes an event about a pod or one of its containers; a failure is only logged.
pub(crate) fn emit(
    shared: &Shared,
    pod: &Pod,
    kind: &str,
    reason: &str,
    message: &str,
    container: Option<&str>,
) {
    let namespace = pod.namespace().unwrap_or_default();
    let now = Timestamp::now();
    let unique = (now.as_nanosecond() as u64).wrapping_add(NUMBER.fetch_add(1, Ordering::Relaxed));
    let event = Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{unique:x}", pod.name_any())),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            field_path: container.map(|name| format!("spec.containers{{{name}}}")),
            ..ObjectReference::default()
        },
        type_: Some(kind.to_string()),
        reason: Some(reason.to_string()),
        message: Some(message.to_string()),
        source: Some(EventSource {
            component: Some("kubelet".into()),
            host: Some(shared.name.clone()),
        }),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        count: Some(1),
        ..Event::default()
    };
    let events: Api<Event> = Api::namespaced(shared.client.clone(), &namespace);
    tokio::spawn(async move {
        if let Err(error) = events.create(&PostParams::default(), &event).await {
            tracing::debug!(%error, "cannot write an event");
        }
    });
}
