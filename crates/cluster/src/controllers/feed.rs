//! One metadata watch for each kind of object, custom ones included, merged into one stream.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{ApiResource, DynamicObject};
use kube::core::{ObjectMeta, PartialObjectMeta};
use kube::discovery::{Discovery, Scope, verbs};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

/// What the watches tell.
#[derive(Debug)]
pub(super) enum Seen {
    /// A kind will be told of from now on.
    Kind(Arc<Kind>),
    /// An object was made or changed, or exists.
    Present(Arc<Kind>, Box<ObjectMeta>),
    /// An object is gone.
    Gone(Box<ObjectMeta>),
    /// Everything that exists of a kind has been told: nothing else of it is there.
    Complete(Arc<Kind>, Vec<String>),
    /// A kind is not served any more.
    Unserved(String),
}

/// A kind and whether its objects live in namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) resource: ApiResource,
    pub(super) namespaced: bool,
}

impl Kind {
    /// Group and plural: the same for all versions.
    pub(super) fn id(&self) -> String {
        format!("{}.{}", self.resource.plural, self.resource.group)
    }
}

/// Objects that neither own nor are owned, and come in masses.
const IGNORED: [&str; 5] = [
    "events.",
    "events.events.k8s.io",
    "leases.coordination.k8s.io",
    "endpoints.",
    "componentstatuses.",
];

/// Definitions are mostly written several at a time.
const SETTLED: Duration = Duration::from_millis(50);

const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";

/// Watches what is served, and starts and stops watches as definitions come and go.
pub(super) async fn run(client: Client, seen: UnboundedSender<Seen>) {
    let mut watches: HashMap<String, tokio::task::AbortHandle> = HashMap::new();
    let mut tasks = JoinSet::new();
    let (changed, mut changes) = unbounded_channel();
    loop {
        match discover(&client).await {
            Ok(kinds) => {
                watches.retain(|id, handle| {
                    let served = kinds.iter().any(|kind| kind.id() == *id);
                    if !served {
                        handle.abort();
                        // The receiver ends with the cluster.
                        let _ = seen.send(Seen::Unserved(id.clone()));
                    }
                    served
                });
                for kind in kinds {
                    if !watches.contains_key(&kind.id()) {
                        let kind = Arc::new(kind);
                        let _ = seen.send(Seen::Kind(Arc::clone(&kind)));
                        let definitions = (kind.id() == DEFINITIONS).then(|| changed.clone());
                        let id = kind.id();
                        let task =
                            tasks.spawn(watch(client.clone(), kind, seen.clone(), definitions));
                        watches.insert(id, task);
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "asking what is served");
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            }
        }
        if !settled(&mut changes).await {
            return;
        }
    }
}

/// Waits for a change of definitions; several soon after one another count as one.
async fn settled(changes: &mut UnboundedReceiver<()>) -> bool {
    let more = changes.recv().await.is_some();
    tokio::time::sleep(SETTLED).await;
    while changes.try_recv().is_ok() {}
    more
}

async fn discover(client: &Client) -> Result<Vec<Kind>, kube::Error> {
    let discovery = Discovery::new(client.clone()).run_aggregated().await?;
    let mut kinds = Vec::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            let kind = Kind {
                resource,
                namespaced: capabilities.scope == Scope::Namespaced,
            };
            let wanted = [verbs::WATCH, verbs::LIST, verbs::DELETE]
                .iter()
                .all(|verb| capabilities.supports_operation(verb));
            if wanted && !IGNORED.contains(&kind.id().as_str()) {
                kinds.push(kind);
            }
        }
    }
    Ok(kinds)
}

async fn watch(
    client: Client,
    kind: Arc<Kind>,
    seen: UnboundedSender<Seen>,
    definitions: Option<UnboundedSender<()>>,
) {
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &kind.resource);
    let mut stream = std::pin::pin!(watcher(api, watcher::Config::default()));
    let mut listed = Vec::new();
    while let Some(event) = stream.next().await {
        let message = match event {
            Ok(Event::Init) => {
                listed.clear();
                continue;
            }
            Ok(Event::InitApply(object)) => {
                listed.extend(object.metadata.uid.clone());
                Seen::Present(Arc::clone(&kind), Box::new(object.metadata))
            }
            Ok(Event::InitDone) => Seen::Complete(Arc::clone(&kind), std::mem::take(&mut listed)),
            Ok(Event::Apply(object)) => Seen::Present(Arc::clone(&kind), Box::new(object.metadata)),
            Ok(Event::Delete(object)) => Seen::Gone(Box::new(object.metadata)),
            Err(error) => {
                tracing::debug!(%error, kind = kind.id(), "watching");
                // The watcher starts again by itself, at once.
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        if let Some(definitions) = &definitions {
            let _ = definitions.send(());
        }
        if seen.send(message).is_err() {
            return;
        }
    }
}
