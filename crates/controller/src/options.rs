//! What a controller is started with.

use std::sync::Arc;

use tektite_engine::taskrun::pod::PodOptions;

use crate::config::ConfigHandle;
use crate::images::{ImageConfigs, NoImages};
use crate::metrics::Metrics;

/// How to run a [`Controller`](crate::Controller).
#[derive(Clone)]
pub struct ControllerOptions {
    /// Looks up the commands of images whose steps name none.
    pub image_configs: Arc<dyn ImageConfigs>,
    /// How pods are built.
    pub pod_options: PodOptions,
    /// The configuration in force; the controller keeps it current, the webhooks read it.
    pub config: ConfigHandle,
    /// What is counted; serve it with [`metrics_router`](crate::metrics_router).
    pub metrics: Metrics,
    /// Only objects of this namespace, or of all.
    pub namespace: Option<String>,
    /// Namespace of the installation, where its ConfigMaps and Leases are.
    pub system_namespace: String,
    /// How many runs may be reconciled at once.
    pub parallelism: usize,
    /// Take part in an election by Lease; none for a single process.
    pub leader_election: Option<LeaderElection>,
}

impl Default for ControllerOptions {
    fn default() -> Self {
        Self {
            image_configs: Arc::new(NoImages),
            pod_options: PodOptions::default(),
            config: ConfigHandle::default(),
            metrics: Metrics::default(),
            namespace: None,
            system_namespace: tektite_api::names::NAMESPACE.into(),
            parallelism: 32,
            leader_election: None,
        }
    }
}

/// How several controllers agree on who acts (P-392, P-393).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderElection {
    /// Name of this process, unique among the candidates.
    pub identity: String,
    /// How long a leader that fell silent is respected.
    pub lease_duration: std::time::Duration,
    /// How long a leader acts on without having renewed.
    pub renew_deadline: std::time::Duration,
    /// How often to try.
    pub retry_period: std::time::Duration,
}

impl LeaderElection {
    /// Upstream's periods (P-393).
    pub fn new(identity: impl Into<String>) -> Self {
        let seconds = std::time::Duration::from_secs;
        Self {
            identity: identity.into(),
            lease_duration: seconds(60),
            renew_deadline: seconds(40),
            retry_period: seconds(10),
        }
    }
}
