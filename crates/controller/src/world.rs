//! What this process knows of the cluster, and which run to look at when something in it changes.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use k8s_openapi::api::core::v1::{ConfigMap, LimitRange, Pod, ServiceAccount};
use serde::de::DeserializeOwned;
use tektite_api::names::label;
use tektite_api::resolution::ResolutionRequest;
use tektite_api::v1::{PipelineRun, TaskRun};
use tektite_api::v1beta1::CustomRun;
use tektite_engine::taskrun::pod::PodOptions;
use tokio_util::sync::CancellationToken;

use crate::cloud_events::{self, Backlog};
use crate::definitions::Definitions;
use crate::events::Recorder;
use crate::options::ControllerOptions;
use crate::queue::{Lane, Queue};
use crate::rest::{CallError, Resource, Rest};
use crate::spans::Outbox;
use crate::store::{Change, Head, Name, Slot, Store, trim_metadata};

/// What a reconcile is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) kind: Kind,
    pub(crate) name: Name,
}

/// The kinds that are reconciled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    TaskRun,
    PipelineRun,
    ResolutionRequest,
}

impl Kind {
    pub(crate) const ALL: [Kind; 3] = [Kind::TaskRun, Kind::PipelineRun, Kind::ResolutionRequest];

    /// Its queue, as upstream names it.
    pub(crate) fn queue(self) -> &'static str {
        match self {
            Kind::TaskRun => "github.com.tektoncd.pipeline.pkg.reconciler.taskrun.Reconciler",
            Kind::PipelineRun => {
                "github.com.tektoncd.pipeline.pkg.reconciler.pipelinerun.Reconciler"
            }
            Kind::ResolutionRequest => {
                "github.com.tektoncd.pipeline.pkg.reconciler.resolutionrequest.Reconciler"
            }
        }
    }

    fn of_owner(kind: &str) -> Option<Self> {
        match kind {
            "TaskRun" => Some(Kind::TaskRun),
            "PipelineRun" => Some(Kind::PipelineRun),
            _ => None,
        }
    }
}

impl Lane for Key {
    const LANES: usize = Kind::ALL.len();

    fn lane(&self) -> usize {
        self.kind as usize
    }
}

/// A kind of which the world keeps a cache.
pub(crate) trait Cached: DeserializeOwned + Send + Sync + Sized + 'static {
    /// Where it is served.
    const RESOURCE: Resource;
    /// The kind to reconcile when such an object changes, if it is reconciled itself.
    const RECONCILED: Option<Kind> = None;

    /// Its cache.
    fn store(world: &World) -> &Store<Self>;
}

macro_rules! cached {
    ($($kind:ty, $resource:ident, $store:ident $(, $reconciled:ident)?;)*) => {$(
        impl Cached for $kind {
            const RESOURCE: Resource = Resource::$resource;
            $(const RECONCILED: Option<Kind> = Some(Kind::$reconciled);)?
            fn store(world: &World) -> &Store<Self> {
                &world.$store
            }
        }
    )*};
}

cached! {
    TaskRun, TASK_RUNS, task_runs, TaskRun;
    PipelineRun, PIPELINE_RUNS, pipeline_runs, PipelineRun;
    CustomRun, CUSTOM_RUNS, custom_runs;
    Pod, PODS, pods;
    ResolutionRequest, RESOLUTION_REQUESTS, resolution_requests, ResolutionRequest;
    ConfigMap, CONFIG_MAPS, config_maps;
    LimitRange, LIMIT_RANGES, limit_ranges;
    ServiceAccount, SERVICE_ACCOUNTS, service_accounts;
}

/// What this process knows, and how it acts on it.
pub(crate) struct World {
    pub(crate) rest: Rest,
    pub(crate) options: ControllerOptions,
    pub(crate) pod_options: Arc<PodOptions>,
    pub(crate) queue: Queue<Key>,
    pub(crate) events: Recorder,
    /// The end of this process' work is wanted: nothing should wait for long.
    pub(crate) stop: CancellationToken,
    /// What CloudEvents are to be sent of.
    pub(crate) backlog: Backlog,
    /// What is to be sent of traces.
    pub(crate) spans: Outbox,
    pub(crate) task_runs: Store<TaskRun>,
    pub(crate) pipeline_runs: Store<PipelineRun>,
    pub(crate) custom_runs: Store<CustomRun>,
    pub(crate) pods: Store<Pod>,
    pub(crate) resolution_requests: Store<ResolutionRequest>,
    pub(crate) config_maps: Store<ConfigMap>,
    pub(crate) limit_ranges: Store<LimitRange>,
    pub(crate) service_accounts: Store<ServiceAccount>,
    /// Runs that wait for a ResolutionRequest they do not own.
    waiting: Mutex<HashMap<Name, HashSet<Key>>>,
    /// PipelineRuns that wait for others to end; what they wait for is in the API.
    queued: Mutex<HashSet<Key>>,
    /// Held by whoever decides whether a PipelineRun may begin beside others.
    pub(crate) places: tokio::sync::Mutex<()>,
    /// Tasks and the like that PipelineRuns under way refer to.
    pub(crate) definitions: Definitions,
}

impl World {
    pub(crate) fn new(
        client: kube::Client,
        options: ControllerOptions,
        events: Recorder,
        stop: CancellationToken,
    ) -> Self {
        Self {
            rest: Rest::new(client),
            pod_options: Arc::new(options.pod_options.clone()),
            options,
            queue: Queue::default(),
            events,
            stop,
            backlog: Backlog::default(),
            spans: Outbox::default(),
            task_runs: Store::trimmed(label::PIPELINE_RUN, |run: &mut TaskRun| {
                trim_metadata(&mut run.metadata);
            }),
            pipeline_runs: Store::trimmed(label::PIPELINE_RUN, |run: &mut PipelineRun| {
                trim_metadata(&mut run.metadata);
            }),
            custom_runs: Store::new(label::PIPELINE_RUN),
            pods: Store::trimmed(label::TASK_RUN, |pod: &mut Pod| {
                trim_metadata(&mut pod.metadata);
            }),
            resolution_requests: Store::new(""),
            config_maps: Store::new(""),
            limit_ranges: Store::new(""),
            service_accounts: Store::new(""),
            waiting: Mutex::default(),
            queued: Mutex::default(),
            places: tokio::sync::Mutex::default(),
            definitions: Definitions::default(),
        }
    }

    /// Queues whatever an observed change concerns, except the run that made it.
    pub(crate) fn changed<K: Cached>(&self, change: &Change, by: Option<&Key>) {
        let head = match change {
            Change::Newer(head, body) => {
                if let Some(subject) = cloud_events::subject_of(K::RESOURCE)
                    && cloud_events::wanted(self)
                {
                    self.backlog
                        .add(subject, head.name.clone(), Some(body.clone()));
                }
                head
            }
            Change::Gone(head) => head,
            Change::Stale => return,
        };
        let add = |key: Key| {
            if by != Some(&key) {
                self.queue.add(key);
            }
        };
        if K::RECONCILED == Some(Kind::PipelineRun) && matches!(change, Change::Gone(_)) {
            self.place_is_free();
        }
        if let Some(kind) = K::RECONCILED {
            add(Key {
                kind,
                name: head.name.clone(),
            });
            if kind == Kind::ResolutionRequest {
                self.take_waiting(&head.name).into_iter().for_each(add);
            }
        }
        if let Some(key) = owner_key(head) {
            add(key);
        }
    }

    /// Takes the state of an object that `by` has just written into the cache; says whether that changed it.
    pub(crate) fn written<K: Cached>(&self, object: Bytes, by: &Key) -> Result<bool, CallError> {
        let change = K::store(self).observe(object).map_err(|error| {
            CallError::Unreachable(format!("the answer cannot be read: {error}"))
        })?;
        self.changed::<K>(&change, Some(by));
        Ok(change != Change::Stale)
    }

    /// As [`World::written`], for an object whose own waiters are to be told too.
    pub(crate) fn heard<K: Cached>(&self, object: Bytes, by: &Key) -> Result<bool, CallError> {
        self.take_waiting(&by.name)
            .into_iter()
            .for_each(|key| self.queue.add(key));
        self.written::<K>(object, by)
    }

    /// The object of that name; one that sleeps is read again.
    pub(crate) async fn load<K: Cached>(&self, name: &Name) -> Result<Option<Arc<K>>, CallError> {
        match K::store(self).get(name) {
            Slot::Here(object) => Ok(Some(object)),
            Slot::Absent => Ok(None),
            Slot::Asleep => self.look_up(name).await,
        }
    }

    /// The object of that name as the API has it, which the cache takes over.
    pub(crate) async fn look_up<K: Cached>(
        &self,
        name: &Name,
    ) -> Result<Option<Arc<K>>, CallError> {
        let path = K::RESOURCE.object(&name.namespace, &name.name);
        match self.rest.get(&path).await {
            Ok(body) => {
                K::store(self)
                    .awaken(body)
                    .map_err(|error| CallError::Unreachable(error.to_string()))?;
                match K::store(self).get(name) {
                    Slot::Here(object) => Ok(Some(object)),
                    _ => Ok(None),
                }
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Queues every known object of `kind`.
    pub(crate) fn queue_all(&self, kind: Kind) {
        let names = match kind {
            Kind::TaskRun => self.task_runs.names(),
            Kind::PipelineRun => self.pipeline_runs.names(),
            Kind::ResolutionRequest => self.resolution_requests.names(),
        };
        for name in names {
            self.queue.add(Key { kind, name });
        }
    }

    /// Wakes `key` when the ResolutionRequest `request` changes.
    pub(crate) fn wait_for(&self, request: Name, key: Key) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.entry(request).or_default().insert(key);
    }

    /// Wakes `key` when a PipelineRun has ended.
    pub(crate) fn wait_for_place(&self, key: Key) {
        self.queued
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key);
    }

    /// A PipelineRun has ended or is gone: whoever waits for that is to look.
    pub(crate) fn place_is_free(&self) {
        let mut queued = self.queued.lock().unwrap_or_else(PoisonError::into_inner);
        queued.drain().for_each(|key| self.queue.add(key));
    }

    fn take_waiting(&self, request: &Name) -> HashSet<Key> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.remove(request).unwrap_or_default()
    }
}

/// The run that controls an object.
fn owner_key(head: &Head) -> Option<Key> {
    let owner = head.owner.as_ref()?;
    Some(Key {
        kind: Kind::of_owner(&owner.kind)?,
        name: Name::new(Arc::clone(&head.name.namespace), Arc::clone(&owner.name)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// P-110
    #[test]
    fn whatever_a_run_controls_wakes_it() {
        let woken = |kind: &str, controller: bool| {
            let owner = json!({"kind": kind, "name": "r", "uid": "u", "controller": controller});
            let object =
                json!({"metadata": {"namespace": "ns", "name": "x", "ownerReferences": [owner]}});
            owner_key(&Head::read(object.to_string().as_bytes(), "").expect("a head"))
        };
        let key = |kind| {
            let name = Name::new("ns", "r");
            Some(Key { kind, name })
        };
        assert_eq!(woken("PipelineRun", true), key(Kind::PipelineRun));
        assert_eq!(woken("TaskRun", true), key(Kind::TaskRun));
        assert_eq!(woken("PipelineRun", false), None);
        assert_eq!(woken("Deployment", true), None);
    }
}
