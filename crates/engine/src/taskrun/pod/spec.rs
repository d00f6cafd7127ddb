//! The pod round its containers: metadata, what the podTemplate supplies, and where it is to run.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, Container, Pod, PodAffinity, PodAffinityTerm, PodSpec, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use tektite_api::config::Config;
use tektite_api::names::{annotation, label};
use tektite_api::v1::{PodTemplate, TaskRun};

use super::{PodOptions, name, owner};
use crate::taskrun::timeout;

/// T-211 to T-215
pub(super) fn metadata(
    run: &TaskRun,
    config: &Config,
    options: &PodOptions,
    namespace: &str,
    ready: bool,
) -> ObjectMeta {
    let mut labels = run.metadata.labels.clone().unwrap_or_default();
    labels.insert(
        label::TASK_RUN.into(),
        run.metadata.name.clone().unwrap_or_default(),
    );
    labels.insert(
        label::TASK_RUN_UID.into(),
        run.metadata.uid.clone().unwrap_or_default(),
    );
    labels.insert(
        label::MANAGED_BY.into(),
        config.defaults.managed_by_label_value.clone(),
    );
    let mut annotations = run.metadata.annotations.clone().unwrap_or_default();
    annotations.remove(label::MANAGED_BY);
    annotations.insert(annotation::RELEASE.into(), options.release.clone());
    if ready {
        annotations.insert(annotation::READY.into(), "READY".into());
    }
    ObjectMeta {
        name: Some(name(run)),
        namespace: Some(namespace.to_owned()),
        labels: Some(labels),
        annotations: Some(annotations),
        owner_references: Some(vec![owner(run)]),
        ..ObjectMeta::default()
    }
}

/// T-216 to T-218
pub(super) fn pod_spec(
    run: &TaskRun,
    config: &Config,
    template: PodTemplate,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    volumes: Vec<Volume>,
) -> PodSpec {
    fn some<T: Default + PartialEq>(value: T) -> Option<T> {
        (value != T::default()).then_some(value)
    }
    let limit = timeout(run, config);
    let deadline = if limit.is_zero() {
        i64::from(i32::MAX)
    } else {
        (limit.as_secs_f64() * 1.5) as i64
    };
    PodSpec {
        restart_policy: Some("Never".into()),
        init_containers: some(init_containers),
        containers,
        service_account_name: some(run.spec.service_account_name.clone()),
        volumes: Some(volumes),
        active_deadline_seconds: Some(deadline),
        node_selector: some(template.node_selector),
        tolerations: some(template.tolerations),
        affinity: template.affinity,
        security_context: template.security_context,
        runtime_class_name: template.runtime_class_name,
        automount_service_account_token: template.automount_service_account_token,
        scheduler_name: some(template.scheduler_name),
        host_network: some(template.host_network),
        host_users: template.host_users,
        dns_policy: template.dns_policy.and_then(some),
        dns_config: template.dns_config,
        enable_service_links: template.enable_service_links,
        priority_class_name: template.priority_class_name.and_then(some),
        image_pull_secrets: some(template.image_pull_secrets),
        host_aliases: some(template.host_aliases),
        topology_spread_constraints: some(template.topology_spread_constraints),
        ..PodSpec::default()
    }
}

/// Name of the affinity assistant to stay with, if any.
pub(super) fn affinity_assistant(run: &TaskRun) -> Option<&String> {
    run.metadata
        .annotations
        .as_ref()?
        .get(annotation::AFFINITY_ASSISTANT)
        .filter(|name| !name.is_empty())
}

/// Keeps the pod on the node of its affinity assistant (T-221).
pub(super) fn apply_affinity_assistant(pod: &mut Pod, run: &TaskRun) {
    let (Some(assistant), Some(spec)) = (affinity_assistant(run), &mut pod.spec) else {
        return;
    };
    let labels = BTreeMap::from([
        (label::INSTANCE.to_owned(), assistant.clone()),
        (label::COMPONENT.to_owned(), "affinity-assistant".to_owned()),
    ]);
    let term = PodAffinityTerm {
        label_selector: Some(LabelSelector {
            match_labels: Some(labels),
            match_expressions: None,
        }),
        topology_key: "kubernetes.io/hostname".into(),
        ..PodAffinityTerm::default()
    };
    let affinity: &mut Affinity = spec.affinity.get_or_insert_default();
    let pods: &mut PodAffinity = affinity.pod_affinity.get_or_insert_default();
    pods.required_during_scheduling_ignored_during_execution
        .get_or_insert_default()
        .push(term);
}
