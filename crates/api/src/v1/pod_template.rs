//! Parts of a pod that runs, and an installation's defaults, may set.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, EnvVar, HostAlias, LocalObjectReference, PodDNSConfig, PodSecurityContext,
    Toleration, TopologySpreadConstraint, Volume,
};
use serde::{Deserialize, Serialize};

use crate::unset;

/// Parts of the pod of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodTemplate {
    /// Labels its node must have.
    #[serde(skip_serializing_if = "unset")]
    pub node_selector: BTreeMap<String, String>,
    /// Environment of every container.
    #[serde(skip_serializing_if = "unset")]
    pub env: Vec<EnvVar>,
    /// Taints it bears.
    #[serde(skip_serializing_if = "unset")]
    pub tolerations: Vec<Toleration>,
    /// Where it likes to run.
    #[serde(skip_serializing_if = "unset")]
    pub affinity: Option<Affinity>,
    /// User, groups and the like.
    #[serde(skip_serializing_if = "unset")]
    pub security_context: Option<PodSecurityContext>,
    /// Further volumes.
    #[serde(skip_serializing_if = "unset")]
    pub volumes: Vec<Volume>,
    /// Container runtime.
    #[serde(skip_serializing_if = "unset")]
    pub runtime_class_name: Option<String>,
    /// Whether its account's token is mounted.
    #[serde(skip_serializing_if = "unset")]
    pub automount_service_account_token: Option<bool>,
    /// How names are resolved.
    #[serde(skip_serializing_if = "unset")]
    pub dns_policy: Option<String>,
    /// How names are resolved, in detail.
    #[serde(skip_serializing_if = "unset")]
    pub dns_config: Option<PodDNSConfig>,
    /// Whether services appear in its environment.
    #[serde(skip_serializing_if = "unset")]
    pub enable_service_links: Option<bool>,
    /// Its priority.
    #[serde(skip_serializing_if = "unset")]
    pub priority_class_name: Option<String>,
    /// Scheduler that places it.
    #[serde(skip_serializing_if = "unset")]
    pub scheduler_name: String,
    /// Credentials for its images.
    #[serde(skip_serializing_if = "unset")]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Lines of its hosts file.
    #[serde(skip_serializing_if = "unset")]
    pub host_aliases: Vec<HostAlias>,
    /// Whether it uses the node's network.
    #[serde(skip_serializing_if = "unset")]
    pub host_network: bool,
    /// Whether it shares the node's users.
    #[serde(skip_serializing_if = "unset")]
    pub host_users: Option<bool>,
    /// How its like are spread.
    #[serde(skip_serializing_if = "unset")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
}

/// Parts of the affinity assistant's pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AffinityAssistantTemplate {
    /// Labels its node must have.
    #[serde(skip_serializing_if = "unset")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints it bears.
    #[serde(skip_serializing_if = "unset")]
    pub tolerations: Vec<Toleration>,
    /// Credentials for its images.
    #[serde(skip_serializing_if = "unset")]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// User, groups and the like.
    #[serde(skip_serializing_if = "unset")]
    pub security_context: Option<PodSecurityContext>,
    /// Its priority.
    #[serde(skip_serializing_if = "unset")]
    pub priority_class_name: Option<String>,
    /// Account it runs as.
    #[serde(skip_serializing_if = "unset")]
    pub service_account_name: String,
}
