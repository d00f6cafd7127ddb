//! Hearing of requests and answering them: the answering side of the protocol (P-317 to P-321).

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use futures::{FutureExt as _, StreamExt as _};
use kube::api::{Patch, PatchParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use serde_json::json;
use tektite_api::names::label;
use tektite_api::resolution::ResolutionRequest;
use tektite_api::v1::Condition;
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::address::AddressPolicy;
use crate::bundle::Bundles;
use crate::cache::{self, Cache, Limits};
use crate::cluster::Cluster;
use crate::fetch::{Fetchers, Proxies};
use crate::framework::{Request, ResolveError, Resolved, Resolver, Surroundings, check_data};
use crate::git::Git;
use crate::http::Http;
use crate::hub::{Hub, HubUrls};
use crate::params::Params;
use crate::settings::{self, SettingsHandle};

/// The first and the longest wait before a request is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// How to answer requests.
#[derive(Clone, Debug)]
pub struct ResolverOptions {
    /// Only requests of this namespace, or of all.
    pub namespace: Option<String>,
    /// What may be connected to, unless ConfigMap `resolver-address-policy` says otherwise.
    pub addresses: AddressPolicy,
    /// How to get out.
    pub proxies: Proxies,
    /// Where hubs are.
    pub hubs: HubUrls,
    /// The ConfigMap with the cache's limits.
    pub cache_config_map: String,
    /// Which requests to answer, where other processes answer the rest; all, if none.
    pub share: Option<Share>,
}

/// Says of a queue and a request whether it is this process' to answer.
pub type Leads = dyn Fn(&str, &str) -> bool + Send + Sync;

/// This process' part of the requests, which may change (P-319).
#[derive(Clone)]
pub struct Share {
    /// Whether a request (`namespace/name`) of a queue, one of [`Resolvers::queues`], is to be answered here.
    pub leads: Arc<Leads>,
    /// Changes when more requests may have come into the share.
    pub changes: watch::Receiver<u64>,
}

impl std::fmt::Debug for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Share").finish_non_exhaustive()
    }
}

impl ResolverOptions {
    /// For all namespaces, with nothing out of the ordinary.
    pub fn new(addresses: AddressPolicy) -> Self {
        Self {
            namespace: None,
            addresses,
            proxies: Proxies::default(),
            hubs: HubUrls::default(),
            cache_config_map: "resolver-cache-config".into(),
            share: None,
        }
    }
}

/// Answers requests. See [`Resolvers::run`].
#[derive(Debug)]
pub struct Resolvers;

impl Resolvers {
    /// The queues of requests, one for each resolver, as upstream names them.
    pub fn queues() -> Vec<String> {
        let desks = desks(HubUrls::default());
        desks.values().map(|desk| desk.queue.clone()).collect()
    }

    /// Answers the requests to the built-in resolvers until `shutdown`, and reads their ConfigMaps as they change.
    ///
    /// Nothing is remembered that the API does not hold: what was under way is begun again by the next process. While the
    /// API cannot be reached it is tried again.
    pub async fn run(client: Client, options: ResolverOptions, shutdown: CancellationToken) {
        let settings = SettingsHandle::default();
        let (known, mut ready) = watch::channel(false);
        let mut background = JoinSet::new();
        background.spawn(settings::follow(
            client.clone(),
            settings.clone(),
            known,
            shutdown.clone(),
        ));
        // The configuration first: a resolver that is turned off must not answer.
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ready.wait_for(|known| *known) => {}
        }
        let office = Arc::new(Office {
            desks: desks(options.hubs),
            fetchers: Fetchers::new(options.proxies),
            addresses: options.addresses,
            client: client.clone(),
            settings,
            cache: Cache::default(),
            cache_config_map: options.cache_config_map,
            leads: options.share.as_ref().map(|share| Arc::clone(&share.leads)),
        });
        let mut changes = options.share.map(|share| share.changes);
        let api: Api<ResolutionRequest> = match &options.namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        let labels: Vec<&str> = office.desks.keys().copied().collect();
        let selector = format!("{} in ({})", label::RESOLVER_TYPE, labels.join(","));
        let follow = || {
            watcher(api.clone(), watcher::Config::default().labels(&selector))
                .default_backoff()
                .boxed()
        };
        let mut events = follow();
        let mut under_way = UnderWay::default();
        loop {
            let event = tokio::select! {
                () = shutdown.cancelled() => return,
                ended = under_way.tasks.join_next(), if !under_way.tasks.is_empty() => {
                    under_way.note_end(ended);
                    continue;
                }
                () = next_change(&mut changes) => {
                    // What was left to another may be waiting.
                    events = follow();
                    continue;
                }
                event = events.next() => event,
            };
            match event {
                Some(Ok(Event::Apply(request) | Event::InitApply(request))) => {
                    under_way.hear(&office, request);
                }
                Some(Ok(Event::Delete(request))) => under_way.stop(&key_of(&request)),
                Some(Ok(Event::Init | Event::InitDone)) => {}
                Some(Err(error)) => {
                    tracing::warn!(%error, "cannot follow ResolutionRequests; trying again");
                }
                None => return,
            }
        }
    }
}

/// Resolves when the share has changed; never, if there is none.
async fn next_change(changes: &mut Option<watch::Receiver<u64>>) {
    if let Some(receiver) = changes
        && receiver.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// One resolver and how much it may do at once.
struct Desk {
    resolver: Arc<dyn Resolver>,
    queue: String,
    slots: Semaphore,
}

fn desks(hubs: HubUrls) -> BTreeMap<&'static str, Desk> {
    let resolvers: [Arc<dyn Resolver>; 5] = [
        Arc::new(Bundles),
        Arc::new(Git),
        Arc::new(Http),
        Arc::new(Hub(hubs)),
        Arc::new(Cluster),
    ];
    resolvers
        .into_iter()
        .map(|resolver| {
            let desk = Desk {
                slots: Semaphore::new(resolver.parallel()),
                queue: format!("TektonResolverFramework.{}", resolver.identity().title),
                resolver,
            };
            (desk.resolver.identity().label, desk)
        })
        .collect()
}

/// What answering takes.
struct Office {
    desks: BTreeMap<&'static str, Desk>,
    fetchers: Fetchers,
    addresses: AddressPolicy,
    client: Client,
    settings: SettingsHandle,
    cache: Cache,
    cache_config_map: String,
    leads: Option<Arc<Leads>>,
}

impl Office {
    /// The desk that a request is for.
    fn desk(&self, request: &ResolutionRequest) -> Option<&Desk> {
        let labels = request.metadata.labels.as_ref()?;
        self.desks.get(labels.get(label::RESOLVER_TYPE)?.as_str())
    }

    /// Whether another process answers the request.
    fn leaves(&self, request: &ResolutionRequest, (namespace, name): &Key) -> bool {
        let Some((leads, desk)) = self.leads.as_ref().zip(self.desk(request)) else {
            return false;
        };
        !leads(&desk.queue, &format!("{namespace}/{name}"))
    }
}

/// Namespace and name.
type Key = (String, String);

fn key_of(request: &ResolutionRequest) -> Key {
    let metadata = &request.metadata;
    (
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

/// The requests that are being answered.
#[derive(Default)]
struct UnderWay {
    tasks: JoinSet<Key>,
    by_key: HashMap<Key, (Option<String>, AbortHandle)>,
}

impl UnderWay {
    fn hear(&mut self, office: &Arc<Office>, request: ResolutionRequest) {
        let key = key_of(&request);
        if is_answered(&request) || office.leaves(&request, &key) {
            return;
        }
        match self.by_key.get(&key) {
            Some((uid, task)) if *uid == request.metadata.uid && !task.is_finished() => return,
            Some(_) => self.stop(&key),
            None => {}
        }
        let uid = request.metadata.uid.clone();
        let office = Arc::clone(office);
        let name = key.clone();
        let task = self.tasks.spawn(async move {
            // A fault in one resolver must not end the others' work.
            if AssertUnwindSafe(answer(&office, request))
                .catch_unwind()
                .await
                .is_err()
            {
                tracing::error!(request = %format!("{}/{}", name.0, name.1), "the resolver panicked");
            }
            name
        });
        self.by_key.insert(key, (uid, task));
    }

    fn stop(&mut self, key: &Key) {
        if let Some((_, task)) = self.by_key.remove(key) {
            task.abort();
        }
    }

    fn note_end(&mut self, ended: Option<Result<Key, tokio::task::JoinError>>) {
        // One that was aborted is forgotten already, or another took its place.
        if let Some(Ok(key)) = ended
            && self
                .by_key
                .get(&key)
                .is_some_and(|(_, task)| task.is_finished())
        {
            self.by_key.remove(&key);
        }
    }
}

fn is_answered(request: &ResolutionRequest) -> bool {
    !request.status.data.is_empty()
        || Condition::succeeded(&request.status.conditions).is_some_and(Condition::is_done)
}

/// Works on the request until it is answered, by us or by its deadline.
async fn answer(office: &Office, mut request: ResolutionRequest) {
    let (namespace, name) = key_of(&request);
    let key = format!("{namespace}/{name}");
    let Some(desk) = office.desk(&request) else {
        return;
    };
    let api: Api<ResolutionRequest> = Api::namespaced(office.client.clone(), &namespace);
    let mut wait = RETRY.0;
    loop {
        let outcome = {
            // Never closed.
            let _slot = desk.slots.acquire().await;
            attempt(office, &desk.resolver, &request, &key).await
        };
        let trouble = match outcome {
            Ok(resolved) => match write_data(&api, &name, &resolved).await {
                Ok(()) => return,
                Err(error) => {
                    format!("error updating resource request {key:?} with data: {error}")
                }
            },
            Err(ResolveError::Failed(message)) => {
                match mark_failed(&api, &request, &message).await {
                    Ok(()) => return,
                    Err(error) => {
                        format!("error marking resolutionrequest {key:?} as failed: {error}")
                    }
                }
            }
            Err(ResolveError::Transient(message)) => message,
        };
        tracing::warn!(request = key, %trouble, "not answered yet; trying again");
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY.1);
        match api.get_opt(&name).await {
            Ok(Some(found))
                if found.metadata.uid != request.metadata.uid || is_answered(&found) =>
            {
                return;
            }
            Ok(Some(found)) => request = found,
            Ok(None) => return,
            // Then the write at the end will say so.
            Err(_) => {}
        }
    }
}

/// One try.
async fn attempt(
    office: &Office,
    resolver: &Arc<dyn Resolver>,
    request: &ResolutionRequest,
    key: &str,
) -> Result<Resolved, ResolveError> {
    let identity = resolver.identity();
    let given = &request.spec.params;
    let settings = office.settings.current();
    let invalid = |message: String| {
        ResolveError::Failed(format!("invalid resource request {key:?}: {message}"))
    };
    let request = Request {
        namespace: request.metadata.namespace.clone().unwrap_or_default(),
        params: Params::read(&request.spec.params),
        config: settings.map(identity.config_map),
    };
    if !settings.enabled(identity.flag) {
        return Err(invalid(format!(
            "cannot handle resolution request, {} feature flag not true",
            identity.flag
        )));
    }
    cache::check_mode(&request.params).map_err(invalid)?;
    let timeout = resolver.timeout(&request).map_err(invalid)?;
    resolver.validate(&request).map_err(invalid)?;
    let with = Surroundings {
        client: office.client.clone(),
        fetcher: office.fetchers.with(settings.addresses(&office.addresses)),
    };
    let what = format!("error getting {:?} {key:?}", identity.title);
    let caching = resolver.caching(&request.params);
    let used = cache::is_used(&request.params, &request.config, caching);
    let limits = Limits::read(&settings.map(&office.cache_config_map));
    let ttl = cache::ttl(&request.config).unwrap_or(limits.ttl);
    let wish = cache::key(identity.label, &request.namespace, given);
    let fetch = {
        let resolver = Arc::clone(resolver);
        async move { resolver.resolve(&request, &with).await }.boxed()
    };
    let fetched = if used {
        let kept = office
            .cache
            .get(wish, identity.label, limits, ttl, move || fetch);
        tokio::time::timeout(timeout, kept).await
    } else {
        tokio::time::timeout(timeout, fetch).await
    };
    let resolved = fetched
        .map_err(|_| ResolveError::Transient("context deadline exceeded".into()))?
        .map_err(|error| error.doing(&what))?;
    check_data(&resolved.data).map_err(|error| {
        ResolveError::Failed(format!(
            "{what}: resolved resource validation error: {error}"
        ))
    })?;
    Ok(resolved)
}

/// One merge patch, and no condition: that is the core controller's part (P-317).
async fn write_data(
    api: &Api<ResolutionRequest>,
    name: &str,
    resolved: &Resolved,
) -> Result<(), kube::Error> {
    let patch = json!({"status": {
        "annotations": resolved.annotations,
        "data": base64::engine::general_purpose::STANDARD.encode(&resolved.data),
        "refSource": resolved.source,
        "source": resolved.source,
    }});
    let written = api
        .patch_status(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await;
    gone_is_fine(written)
}

/// Ends a request that nobody else has ended (P-318).
async fn mark_failed(
    api: &Api<ResolutionRequest>,
    request: &ResolutionRequest,
    message: &str,
) -> Result<(), kube::Error> {
    let name = request.metadata.name.as_deref().unwrap_or_default();
    let Some(latest) = api.get_opt(name).await? else {
        return Ok(());
    };
    if is_answered(&latest) || latest.metadata.uid != request.metadata.uid {
        return Ok(());
    }
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    let patch = json!({
        // Only this version: whoever was faster is right.
        "metadata": {"resourceVersion": latest.metadata.resource_version},
        "status": {"conditions": [{
            "type": Condition::SUCCEEDED,
            "status": "False",
            "reason": "ResolutionFailed",
            "message": message,
            "lastTransitionTime": now.to_string(),
        }]},
    });
    let written = api
        .patch_status(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await;
    gone_is_fine(written)
}

fn gone_is_fine<T>(written: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match written {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}
