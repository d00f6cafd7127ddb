//! What a controller is started with.

use std::sync::Arc;

use tektite_engine::taskrun::pod::PodOptions;

use crate::config::ConfigHandle;
use crate::images::{ImageConfigs, NoImages};
use crate::metrics::{Metrics, MetricsAddress};

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
    /// How often every run is looked at without cause; never, if zero (T-419).
    pub resync_period: std::time::Duration,
    /// Where metrics are served if the configuration wants them to be; nowhere, if none.
    pub metrics_address: Option<MetricsAddress>,
    /// When this process acts on runs.
    pub acting: Acting,
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
            resync_period: std::time::Duration::from_secs(10 * 60 * 60),
            metrics_address: None,
            acting: Acting::Always,
        }
    }
}

/// When a controller acts on what it sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Acting {
    /// Always: it is the only one.
    #[default]
    Always,
    /// While it leads, by Lease: others may be there.
    Elected(LeaderElection),
    /// On the keys that fall to its place among the pods of a StatefulSet, without an election.
    Assigned(StatefulSet),
    /// Never: it only keeps the configuration current, for webhooks; others see to the runs.
    Never,
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
    /// The ConfigMap of the installation whose periods win over these and that says how many buckets there are.
    pub config_map: String,
}

/// The ConfigMap of the controllers' election, unless the process is told another.
const CONFIG_MAP: &str = "config-leader-election-controller";

impl LeaderElection {
    /// For a process that is one of several: no two get the same identity, as upstream makes them from host and chance.
    pub fn anyone() -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self::new(format!("{}_{}", host.trim(), uuid::Uuid::new_v4()))
    }

    /// Upstream's periods (P-393).
    pub fn new(identity: impl Into<String>) -> Self {
        let seconds = std::time::Duration::from_secs;
        Self {
            identity: identity.into(),
            lease_duration: seconds(60),
            renew_deadline: seconds(40),
            retry_period: seconds(10),
            config_map: CONFIG_MAP.into(),
        }
    }
}

/// A pod's place in a StatefulSet whose pods share the work by their ordinals (P-395).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatefulSet {
    /// Name of the StatefulSet.
    pub name: String,
    /// Which of its pods this is, from 0.
    pub ordinal: u32,
    /// Its headless service.
    pub service: String,
    /// The service's port; part of the buckets' names only.
    pub port: String,
    /// The service's protocol; part of the buckets' names only.
    pub protocol: String,
    /// The ConfigMap of the installation that says how many buckets there are.
    pub config_map: String,
}

impl StatefulSet {
    /// The place of the pod of that name (`<StatefulSet>-<ordinal>`) behind `service`.
    ///
    /// # Errors
    /// The pod's name does not end in a number.
    pub fn of_pod(pod: &str, service: impl Into<String>) -> Result<Self, String> {
        let (name, ordinal) = pod
            .rsplit_once('-')
            .and_then(|(name, ordinal)| Some((name, ordinal.parse().ok()?)))
            .ok_or_else(|| format!("{pod:?} is not a valid stateful set controller ordinal"))?;
        Ok(Self {
            name: name.into(),
            ordinal,
            service: service.into(),
            port: "80".into(),
            protocol: "http".into(),
            config_map: CONFIG_MAP.into(),
        })
    }

    /// The address of a pod of the set, which is the name of its bucket.
    pub(crate) fn address(&self, ordinal: u32, namespace: &str) -> String {
        let Self {
            name,
            service,
            port,
            protocol,
            ..
        } = self;
        format!("{protocol}://{name}-{ordinal}.{service}.{namespace}.svc.cluster.local:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P-395
    #[test]
    fn a_pods_name_is_its_place_in_the_stateful_set() {
        let set = StatefulSet::of_pod("controller-a-3", "svc").unwrap();
        assert_eq!((set.name.as_str(), set.ordinal), ("controller-a", 3));
        assert_eq!(
            set.address(1, "ns"),
            "http://controller-a-1.svc.ns.svc.cluster.local:80"
        );
        for pod in ["controller", "controller-", "controller-x", ""] {
            assert!(StatefulSet::of_pod(pod, "svc").is_err(), "{pod}");
        }
    }
}
