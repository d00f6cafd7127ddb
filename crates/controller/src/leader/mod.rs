//! Which of several controllers acts on which keys: by Leases, one for each kind and bucket (P-392 to P-394), or by
//! the place of a pod in its StatefulSet (P-395).

mod buckets;
mod candidate;
mod election;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tektite_api::config;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cloud_events;
use crate::options::{LeaderElection, StatefulSet};
use crate::store::{Name, Slot};
use crate::world::{Kind, World};
use buckets::Buckets;
use candidate::Candidate;
pub use election::Election;

/// The component that the Leases are of.
const COMPONENT: &str = "tekton-pipelines-controller";

/// What this process leads. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Leadership {
    led: Option<Arc<[Led; Kind::ALL.len()]>>,
}

/// The buckets of one kind, or of another queue.
#[derive(Debug)]
struct Led {
    buckets: Buckets,
    leads: Vec<AtomicBool>,
}

impl Led {
    fn none_of(buckets: Buckets) -> Self {
        let leads = buckets.names().iter().map(|_| AtomicBool::default());
        Self {
            leads: leads.collect(),
            buckets,
        }
    }

    /// Whether this process leads the bucket of `key` (`namespace/name`).
    fn leads(&self, key: impl FnOnce() -> String) -> bool {
        let bucket = match self.leads.len() {
            1 => 0,
            _ => self.buckets.owner(&key()),
        };
        self.leads[bucket].load(Ordering::Acquire)
    }

    /// Says whether that is news.
    fn set(&self, bucket: usize, leading: bool) -> bool {
        self.leads[bucket].swap(leading, Ordering::AcqRel) != leading
    }
}

impl Leadership {
    /// Nothing, for ever.
    pub(crate) fn none() -> Self {
        Self::of(|_| Buckets::new(vec![String::new()]))
    }

    /// Nothing of these buckets, until elected.
    fn of(buckets: impl Fn(Kind) -> Buckets) -> Self {
        Self {
            led: Some(Arc::new(Kind::ALL.map(|kind| Led::none_of(buckets(kind))))),
        }
    }

    /// Whether this process acts on the object of `kind`; always without an election.
    pub(crate) fn leads(&self, kind: Kind, name: &Name) -> bool {
        let led = self.led.as_ref();
        led.is_none_or(|led| led[kind as usize].leads(|| name.to_string()))
    }

    /// Says whether that is news.
    fn set(&self, seat: Seat, leading: bool) -> bool {
        let led = self.led.as_ref();
        led.is_some_and(|led| led[seat.kind as usize].set(seat.bucket, leading))
    }

    fn names(&self, kind: Kind) -> &[String] {
        self.led
            .as_ref()
            .map_or(&[], |led| led[kind as usize].buckets.names())
    }
}

/// What one election is about.
#[derive(Clone, Copy)]
struct Seat {
    kind: Kind,
    bucket: usize,
}

/// Takes part in the elections until `stop`; then gives up what it leads.
pub(crate) fn elect(
    world: &Arc<World>,
    election: &LeaderElection,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Leadership {
    let shared = shared(world, &election.config_map);
    let election = with_periods(election, &shared);
    let leadership =
        Leadership::of(|kind| Buckets::new(lease_names(COMPONENT, kind.queue(), &shared)));
    for kind in Kind::ALL {
        for (bucket, lease) in leadership.names(kind).iter().enumerate() {
            let candidate = Candidate::new(
                world.rest.clone(),
                world.options.system_namespace.clone(),
                lease.clone(),
                election.clone(),
            );
            let seat = Seat { kind, bucket };
            let (world, leadership, stop) = (Arc::clone(world), leadership.clone(), stop.clone());
            tasks.spawn(async move {
                let set = |leading| leadership.set(seat, leading);
                let begins = || {
                    world.queue_all(seat.kind);
                    cloud_events::add_all(&world, seat.kind);
                };
                candidate.run(set, begins, &stop).await;
            });
        }
    }
    leadership
}

/// The election with what the ConfigMap says of its periods.
fn with_periods(election: &LeaderElection, shared: &config::LeaderElection) -> LeaderElection {
    let period = |said: Option<tektite_api::Duration>, other: std::time::Duration| {
        said.and_then(|period| {
            std::time::Duration::try_from(jiff::SignedDuration::from(period)).ok()
        })
        .unwrap_or(other)
    };
    LeaderElection {
        lease_duration: period(shared.lease_duration, election.lease_duration),
        renew_deadline: period(shared.renew_deadline, election.renew_deadline),
        retry_period: period(shared.retry_period, election.retry_period),
        ..election.clone()
    }
}

/// Leads the one bucket of each kind that falls to this pod of `set`, without any election (P-395).
///
/// # Errors
/// There are fewer buckets than pods: how many.
pub(crate) fn assigned(world: &World, set: &StatefulSet) -> Result<Leadership, u32> {
    let shared = shared(world, &set.config_map);
    if set.ordinal >= shared.buckets {
        return Err(shared.buckets);
    }
    let namespace = &world.options.system_namespace;
    let name = |ordinal: u32| set.address(ordinal, namespace);
    let buckets = Buckets::new((0..shared.buckets).map(name).collect());
    let leadership = Leadership::of(|_| buckets.clone());
    for kind in Kind::ALL {
        let bucket = set.ordinal as usize;
        leadership.set(Seat { kind, bucket }, true);
    }
    Ok(leadership)
}

/// What the ConfigMap says of sharing the work.
fn shared(world: &World, config_map: &str) -> config::LeaderElection {
    let name = Name::new(world.options.system_namespace.as_str(), config_map);
    let Slot::Here(map) = world.config_maps.get(&name) else {
        return config::LeaderElection::default();
    };
    read(config_map, &map.data.clone().unwrap_or_default())
}

fn read(config_map: &str, data: &BTreeMap<String, String>) -> config::LeaderElection {
    config::LeaderElection::from_data(data).unwrap_or_else(|error| {
        tracing::error!(config_map, %error, "the ConfigMap is refused; there is one bucket");
        config::LeaderElection::default()
    })
}

/// The Leases' names (P-392).
fn lease_names(component: &str, queue: &str, shared: &config::LeaderElection) -> Vec<String> {
    let prefix = format!("{component}.{queue}");
    let prefix = shared.lease_prefixes.get(&prefix).unwrap_or(&prefix);
    (0..shared.buckets)
        .map(|n| format!("{prefix}.{n:02}-of-{:02}", shared.buckets).to_lowercase())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> Name {
        Name::new("ns", "any")
    }

    /// P-392, P-393
    #[test]
    fn leases_are_named_after_component_and_reconciler_in_lower_case() {
        let mut shared = config::LeaderElection::default();
        for kind in Kind::ALL {
            let names = lease_names(COMPONENT, kind.queue(), &shared);
            let [name] = &names[..] else {
                panic!("{names:?}")
            };
            assert!(
                name.starts_with("tekton-pipelines-controller.") && name.ends_with(".00-of-01"),
                "{name}"
            );
            assert_eq!(*name, name.to_lowercase());
        }
        shared.buckets = 3;
        shared.lease_prefixes.insert(
            "tekton-pipelines-controller.github.com.tektoncd.pipeline.pkg.reconciler.taskrun.Reconciler".into(),
            "Mine".into(),
        );
        let names = lease_names(COMPONENT, Kind::TaskRun.queue(), &shared);
        assert_eq!(names, ["mine.00-of-03", "mine.01-of-03", "mine.02-of-03"]);
    }

    #[test]
    fn without_an_election_a_process_leads_and_with_one_it_does_not_before_it_is_elected() {
        assert!(Leadership::default().leads(Kind::TaskRun, &any()));
        let leadership = Leadership::none();
        assert!(!leadership.leads(Kind::TaskRun, &any()));
        let seat = Seat {
            kind: Kind::TaskRun,
            bucket: 0,
        };
        assert!(leadership.set(seat, true));
        assert!(leadership.leads(Kind::TaskRun, &any()));
        assert!(!leadership.leads(Kind::PipelineRun, &any()));
        assert!(!leadership.set(seat, true));
    }

    /// P-394
    #[test]
    fn of_several_buckets_a_process_acts_on_the_keys_of_those_it_leads() {
        let shared = config::LeaderElection {
            buckets: 4,
            ..config::LeaderElection::default()
        };
        let of =
            || Leadership::of(|kind| Buckets::new(lease_names(COMPONENT, kind.queue(), &shared)));
        let (one, other) = (of(), of());
        let seat = |bucket| Seat {
            kind: Kind::TaskRun,
            bucket,
        };
        for bucket in [0, 2] {
            one.set(seat(bucket), true);
        }
        for bucket in [1, 3] {
            other.set(seat(bucket), true);
        }
        let mut led = [0, 0];
        for n in 0..200 {
            let name = Name::new("ns", n.to_string());
            let leads = [&one, &other].map(|one| one.leads(Kind::TaskRun, &name));
            assert_ne!(leads[0], leads[1], "exactly one acts on {name}");
            led[usize::from(leads[1])] += 1;
        }
        assert!(led.iter().all(|count| *count > 50), "{led:?}");
    }
}
