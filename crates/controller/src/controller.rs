//! The running controller: first lists, watches, and the loop that hands keys to reconciles.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{ConfigMap, LimitRange, Pod, ServiceAccount};
use tektite_api::resolution::ResolutionRequest;
use tektite_api::v1::{PipelineRun, TaskRun};
use tektite_api::v1beta1::CustomRun;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cloud_events;
use crate::config::read_config;
use crate::events::recorder;
use crate::leader::{self, Leadership};
use crate::metrics;
use crate::options::{Acting, ControllerOptions};
use crate::resolution_request;
use crate::run::{self, Outcome, ReconcileError};
use crate::spans;
use crate::store::Change;
use crate::watch::{self, WatchError, Watched};
use crate::world::{Cached, Key, Kind, World};

/// Keeps runs going. See [`Controller::run`].
#[derive(Debug)]
pub struct Controller;

/// Keeps a configuration current until it is dropped.
#[derive(Debug)]
pub struct Following {
    _tasks: JoinSet<()>,
}

/// Why a controller cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The API does not know Tekton's kinds.
    #[error("the cluster does not serve {0}: install the CRDs first")]
    NotInstalled(String),
    /// The API does not let this client see what a controller must see.
    #[error("cannot list {resource}: {message}")]
    Forbidden {
        /// Plural of the kind.
        resource: String,
        /// What the API said.
        message: String,
    },
    /// There are fewer buckets than pods that share the work.
    #[error(
        "ordinal {ordinal} is out of range [0, {buckets}): raise `buckets` in ConfigMap {config_map}"
    )]
    NoBucket {
        /// The pod's place.
        ordinal: u32,
        /// How many buckets there are.
        buckets: u32,
        /// Where that is said.
        config_map: String,
    },
}

impl Controller {
    /// Works until `shutdown`; errors of single runs and of the connection are retried, not returned.
    ///
    /// Takes over where an earlier process stopped: all it knows is in the API.
    //
    // Boxed, so that it is compiled here and not by whoever awaits it.
    pub fn run(
        client: kube::Client,
        options: ControllerOptions,
        shutdown: CancellationToken,
    ) -> BoxFuture<'static, Result<(), RunError>> {
        Box::pin(Self::work(client, options, shutdown))
    }

    /// Reads the configuration and keeps `options.config` current from then on, as long as the [`Following`] is kept: for a
    /// process that answers webhooks and does nothing else.
    //
    // Boxed as [`Controller::run`] is.
    pub fn follow_configuration(
        client: kube::Client,
        options: ControllerOptions,
        shutdown: CancellationToken,
    ) -> BoxFuture<'static, Result<Following, RunError>> {
        Box::pin(async move {
            let (recorder, _) = recorder();
            let world = Arc::new(World::new(client, options, recorder, shutdown.clone()));
            let mut tasks = JoinSet::new();
            let system = Some(world.options.system_namespace.clone());
            tokio::select! {
                followed = follow::<ConfigMap>(&world, &mut tasks, &shutdown, system, "", reload) => followed?,
                () = shutdown.cancelled() => {}
            }
            Ok(Following { _tasks: tasks })
        })
    }

    async fn work(
        client: kube::Client,
        options: ControllerOptions,
        shutdown: CancellationToken,
    ) -> Result<(), RunError> {
        let stop = shutdown.child_token();
        let (recorder, writer) = recorder();
        let world = Arc::new(World::new(client, options, recorder, stop.clone()));
        let mut tasks = JoinSet::new();
        let mut writers = JoinSet::new();
        let told = CancellationToken::new();
        writers.spawn(writer.run(world.rest.clone(), told.clone()));
        world.options.metrics.observe(&world);

        // The configuration first: nothing is decided without it.
        let system = Some(world.options.system_namespace.clone());
        let everywhere = || world.options.namespace.clone();
        tokio::select! {
            followed = follow::<ConfigMap>(&world, &mut tasks, &stop, system, "", reload) => followed?,
            () = shutdown.cancelled() => return Ok(()),
        }
        if let Some(address) = world.options.metrics_address.clone() {
            let (world, stop) = (Arc::clone(&world), stop.clone());
            tasks.spawn(async move { metrics::serve(world, address, stop).await });
        }
        // Then all kinds at once; decisions wait for all of them.
        let lists = futures::future::try_join(
            async {
                let mut tasks = JoinSet::new();
                follow::<LimitRange>(&world, &mut tasks, &stop, everywhere(), "", ignore).await?;
                follow::<ServiceAccount>(&world, &mut tasks, &stop, everywhere(), "", ignore)
                    .await?;
                follow::<Pod>(
                    &world,
                    &mut tasks,
                    &stop,
                    everywhere(),
                    MANAGED,
                    trigger::<Pod>,
                )
                .await?;
                Ok(tasks)
            },
            async {
                let mut tasks = JoinSet::new();
                follow::<ResolutionRequest>(
                    &world,
                    &mut tasks,
                    &stop,
                    everywhere(),
                    "",
                    trigger::<ResolutionRequest>,
                )
                .await?;
                follow::<CustomRun>(
                    &world,
                    &mut tasks,
                    &stop,
                    everywhere(),
                    "",
                    trigger::<CustomRun>,
                )
                .await?;
                follow::<TaskRun>(
                    &world,
                    &mut tasks,
                    &stop,
                    everywhere(),
                    "",
                    trigger::<TaskRun>,
                )
                .await?;
                follow::<PipelineRun>(
                    &world,
                    &mut tasks,
                    &stop,
                    everywhere(),
                    "",
                    trigger::<PipelineRun>,
                )
                .await?;
                Ok(tasks)
            },
        );
        let (_first, _second) = tokio::select! {
            lists = lists => lists?,
            () = shutdown.cancelled() => return Ok(()),
        };
        let mut elections = JoinSet::new();
        let withdraw = CancellationToken::new();
        let leadership = match &world.options.acting {
            Acting::Always => Leadership::default(),
            Acting::Elected(election) => leader::elect(&world, election, &mut elections, &withdraw),
            Acting::Assigned(set) => {
                leader::assigned(&world, set).map_err(|buckets| RunError::NoBucket {
                    ordinal: set.ordinal,
                    buckets,
                    config_map: set.config_map.clone(),
                })?
            }
            Acting::Never => Leadership::none(),
        };
        tasks.spawn(resync(Arc::clone(&world)));
        let mut notifiers = JoinSet::new();
        notifiers.spawn(cloud_events::run(
            Arc::clone(&world),
            leadership.clone(),
            stop.clone(),
        ));
        notifiers.spawn(spans::run(Arc::clone(&world), stop.clone()));
        dispatch(&world, &leadership, &shutdown).await;
        // Only now, as nothing acts any more, may another take over.
        withdraw.cancel();
        let _ = tokio::time::timeout(LAST_EVENTS, elections.join_all()).await;
        let _ = tokio::time::timeout(LAST_EVENTS, notifiers.join_all()).await;
        told.cancel();
        // What happened last is told too, unless the API has gone away.
        let _ = tokio::time::timeout(LAST_EVENTS, writers.join_all()).await;
        Ok(())
    }
}

/// Looks at every run now and then, whether or not anything was heard of it.
async fn resync(world: Arc<World>) {
    let period = world.options.resync_period;
    if period.is_zero() {
        return;
    }
    loop {
        tokio::time::sleep(period).await;
        for kind in Kind::ALL {
            world.queue_all(kind);
        }
    }
}

/// How long the events still waiting may take to be written at the end.
const LAST_EVENTS: std::time::Duration = std::time::Duration::from_secs(1);

/// Pods that some controller made (T-146).
const MANAGED: &str = "app.kubernetes.io%2Fmanaged-by";

type Hear = fn(&World, Change);

fn trigger<K: Cached>(world: &World, change: Change) {
    world.changed::<K>(&change, None);
}

fn ignore(_: &World, _: Change) {}

fn reload(world: &World, _: Change) {
    read_config(world);
}

/// Lists a kind, retrying while the API cannot be reached, and keeps following it in the background.
async fn follow<K: Cached>(
    world: &Arc<World>,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
    namespace: Option<String>,
    selector: &'static str,
    hear: Hear,
) -> Result<(), RunError> {
    let watched = Watched {
        resource: K::RESOURCE,
        namespace,
        selector,
    };
    let world = Arc::clone(world);
    let stop = stop.clone();
    let version = loop {
        let error = match watch::list(&world.rest, &watched, K::store(&world), &|change| {
            hear(&world, change)
        })
        .await
        {
            Ok(version) => break version,
            Err(error) => error,
        };
        match &error {
            WatchError::Call(call) if call.is_not_found() => {
                return Err(RunError::NotInstalled(K::RESOURCE.plural.into()));
            }
            WatchError::Call(call) if matches!(call.code(), Some(401 | 403)) => {
                return Err(RunError::Forbidden {
                    resource: K::RESOURCE.plural.into(),
                    message: call.to_string(),
                });
            }
            _ => tracing::warn!(resource = K::RESOURCE.plural, %error, "cannot list; trying again"),
        }
        tokio::time::sleep(LIST_RETRY).await;
    };
    tasks.spawn(async move {
        let changed = |change| hear(&world, change);
        watch::follow(
            &world.rest,
            &watched,
            K::store(&world),
            &changed,
            version,
            &stop,
        )
        .await;
    });
    Ok(())
}

/// How long to wait before a first list is tried again.
const LIST_RETRY: std::time::Duration = std::time::Duration::from_millis(500);

/// Hands keys to reconciles, at most `parallelism` at once, until `shutdown`; then waits for those under way.
async fn dispatch(world: &Arc<World>, leadership: &Leadership, shutdown: &CancellationToken) {
    let slots = Arc::new(Semaphore::new(world.options.parallelism.max(1)));
    let mut under_way = JoinSet::new();
    loop {
        while under_way.try_join_next().is_some() {}
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, world.queue.next().await)
        };
        let (slot, key) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            next = next => next,
        };
        if !leadership.leads(key.kind, &key.name) {
            // Whoever leads looks at it; should that become this process, everything is queued again (P-394).
            world.queue.done(&key);
            continue;
        }
        let world = Arc::clone(world);
        under_way.spawn(async move {
            work(&world, &key).await;
            world.queue.done(&key);
            drop(slot);
        });
    }
    while under_way.join_next().await.is_some() {}
}

async fn work(world: &World, key: &Key) {
    // A fault in deciding about one run must neither end the process nor lose the key.
    let reconciled = AssertUnwindSafe(reconcile(world, key)).catch_unwind().await;
    match reconciled {
        Ok(Ok(outcome)) => {
            if outcome.again {
                world.queue.again(key.clone());
            } else {
                world.queue.settled(key, outcome.wake);
            }
        }
        Ok(Err(error)) => {
            if error.is_conflict() {
                tracing::debug!(kind = ?key.kind, run = %key.name, "changed meanwhile; looking again");
            } else {
                tracing::warn!(kind = ?key.kind, run = %key.name, %error, "reconcile failed; trying again");
            }
            world.queue.retry(key.clone());
        }
        Err(_) => {
            tracing::error!(kind = ?key.kind, run = %key.name, "reconcile panicked; trying again later");
            world.queue.retry(key.clone());
        }
    }
}

async fn reconcile(world: &World, key: &Key) -> Result<Outcome, ReconcileError> {
    match key.kind {
        Kind::TaskRun => run::reconcile::<TaskRun>(world, key).await,
        Kind::PipelineRun => run::reconcile::<PipelineRun>(world, key).await,
        Kind::ResolutionRequest => resolution_request::reconcile(world, key).await,
    }
}
