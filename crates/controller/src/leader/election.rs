//! The same election for queues that are not the controllers' own: the resolvers'.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::ConfigMap;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::buckets::Buckets;
use super::candidate::Candidate;
use super::{Led, lease_names, read, with_periods};
use crate::options::LeaderElection;
use crate::rest::{CallError, Resource, Rest};

/// How long to wait before the ConfigMap is asked for again.
const RETRY: Duration = Duration::from_millis(500);

/// What this process leads of some queues, by Leases, one for each queue and bucket (P-392).
#[derive(Debug)]
pub struct Election {
    led: Arc<[(String, Led)]>,
    changes: watch::Receiver<u64>,
    candidates: JoinSet<()>,
}

impl Election {
    /// Stands for the queues of `component` until `stop`; Leases and ConfigMap are in `namespace`.
    //
    // Boxed, so that it is compiled here and not by whoever awaits it.
    pub fn stand<'a>(
        client: kube::Client,
        component: &'a str,
        queues: &'a [String],
        namespace: &'a str,
        election: &'a LeaderElection,
        stop: &'a CancellationToken,
    ) -> BoxFuture<'a, Self> {
        Box::pin(async move {
            let rest = Rest::new(client);
            let data = config_map(&rest, namespace, &election.config_map).await;
            let shared = read(&election.config_map, &data);
            let election = with_periods(election, &shared);
            let led: Arc<[(String, Led)]> = queues
                .iter()
                .map(|queue| {
                    let buckets = Buckets::new(lease_names(component, queue, &shared));
                    (queue.clone(), Led::none_of(buckets))
                })
                .collect();
            let (begun, changes) = watch::channel(0);
            let mut candidates = JoinSet::new();
            for (place, (_, of_queue)) in led.iter().enumerate() {
                for (bucket, lease) in of_queue.buckets.names().iter().enumerate() {
                    let candidate = Candidate::new(
                        rest.clone(),
                        namespace.to_owned(),
                        lease.clone(),
                        election.clone(),
                    );
                    let (led, begun, stop) = (Arc::clone(&led), begun.clone(), stop.clone());
                    candidates.spawn(async move {
                        let set = |leading| led[place].1.set(bucket, leading);
                        let begins = || begun.send_modify(|count| *count += 1);
                        candidate.run(set, begins, &stop).await;
                    });
                }
            }
            Self {
                led,
                changes,
                candidates,
            }
        })
    }

    /// Whether this process acts on `key` (`namespace/name`) of `queue`, as of the moment of each call.
    pub fn leads(&self) -> impl Fn(&str, &str) -> bool + Send + Sync + 'static {
        let led = Arc::clone(&self.led);
        move |queue, key| {
            let of_queue = led.iter().find(|(name, _)| name == queue);
            of_queue.is_some_and(|(_, led)| led.leads(|| key.to_owned()))
        }
    }

    /// Changes whenever this process has begun to lead something.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// Resolves when all is given up, after `stop`.
    pub async fn given_up(mut self) {
        while self.candidates.join_next().await.is_some() {}
    }
}

/// The data of a ConfigMap; nothing if there is none.
async fn config_map(rest: &Rest, namespace: &str, name: &str) -> BTreeMap<String, String> {
    let path = Resource::CONFIG_MAPS.object(namespace, name);
    loop {
        let error = match rest.get(&path).await {
            Ok(body) => match serde_json::from_slice::<ConfigMap>(&body) {
                Ok(map) => return map.data.unwrap_or_default(),
                Err(error) => CallError::Unreachable(error.to_string()),
            },
            Err(error) if error.is_not_found() => return BTreeMap::new(),
            Err(error) => error,
        };
        tracing::warn!(config_map = name, %error, "cannot be read; trying again");
        tokio::time::sleep(RETRY).await;
    }
}
