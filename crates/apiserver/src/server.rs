//! The server as a whole: starting it, talking to it in process, serving it on a socket.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tokio::sync::watch;
use tower::{BoxError, Service};

use crate::admission::Hooks;
use crate::builtin::kinds::CRDS;
use crate::crd::CustomKind;
use crate::identity::Identity;
use crate::kubelet::Kubelet;
use crate::registry::Registry;
use crate::storage::Storage;
use crate::tokens::Signer;
use crate::webhook::Webhooks;

/// The body of every response.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// How to start a server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where objects live.
    pub store: Store,
    /// The PEM certificate authority published as ConfigMap `kube-root-ca.crt` and given to pods.
    pub root_ca: Option<String>,
    /// Bearer tokens that stand for fixed identities, such as the bootstrap administrator's.
    pub tokens: Vec<(String, Identity)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            store: Store::Memory,
            root_ca: None,
            tokens: Vec::new(),
        }
    }
}

/// Where objects live.
#[derive(Clone, Debug)]
pub enum Store {
    /// Gone with the server.
    Memory,
    /// In a database in this directory; an acknowledged write survives a crash.
    Durable(PathBuf),
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database cannot be opened or read.
    #[error("cannot open the object store: {0}")]
    Store(String),
    /// The key that signs service account tokens cannot be made or read.
    #[error("cannot prepare the service account key: {0}")]
    Key(String),
}

/// A running API server; clones share it.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use tektite_apiserver::{ApiServer, Identity, Options};
/// let server = ApiServer::start(Options::default()).await?;
/// let client = kube::Client::new(server.client_service(Identity::admin()), "default");
/// # drop(client); Ok(()) }
/// ```
#[derive(Clone)]
pub struct ApiServer {
    inner: Arc<Inner>,
}

/// How often history past its age is forgotten.
const SWEEP: Duration = Duration::from_secs(15);
/// How long events are kept (K-234).
const EVENT_AGE: Duration = Duration::from_secs(3600);

/// Everything the handlers share.
pub(crate) struct Inner {
    pub storage: Arc<Storage>,
    pub webhooks: Webhooks,
    pub hooks: Hooks,
    pub signer: Signer,
    pub tokens: Vec<(String, Identity)>,
    pub root_ca: Option<String>,
    registry: RwLock<Arc<Registry>>,
    kubelet: OnceLock<Arc<dyn Kubelet>>,
    closed: watch::Sender<bool>,
}

impl Inner {
    pub(crate) fn registry(&self) -> Arc<Registry> {
        Arc::clone(
            &self
                .registry
                .read()
                .unwrap_or_else(|poisoned| poisoned.into_inner()),
        )
    }

    pub(crate) fn kubelet(&self) -> Option<&Arc<dyn Kubelet>> {
        self.kubelet.get()
    }

    /// Resolves when the server shuts down.
    pub(crate) async fn closing(&self) {
        let mut closed = self.closed.subscribe();
        // The sender lives as long as `self`.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    /// Reads the stored definitions that changed and serves them (K-012, K-180).
    pub(crate) fn reload_definitions(&self) {
        let (objects, _) = self
            .storage
            .list(&format!("{CRDS}.apiextensions.k8s.io"), None);
        let mut slot = self
            .registry
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut kinds: BTreeMap<String, Arc<CustomKind>> = BTreeMap::new();
        for object in objects {
            let name = object.name.to_string();
            if let Some(kind) = slot
                .custom()
                .get(&name)
                .filter(|kind| kind.revision == object.revision)
            {
                kinds.insert(name, Arc::clone(kind));
                continue;
            }
            match CustomKind::read(object) {
                Ok(Some(kind)) => drop(kinds.insert(name, Arc::new(kind))),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(definition = %name, %error, "a stored definition cannot be served")
                }
            }
        }
        *slot = Arc::new(Registry::new(kinds));
    }

    /// Which name of a definition another one already has (K-164).
    pub(crate) fn clash(&self, object: &Value) -> Option<&'static str> {
        let text = |pointer: &str| {
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let own = text("/metadata/name");
        let registry = self.registry();
        let short = object
            .pointer("/spec/names/shortNames")
            .and_then(Value::as_array);
        registry
            .custom()
            .values()
            .filter(|kind| kind.name != own && kind.group == text("/spec/group"))
            .find_map(|kind| {
                if kind.plural == text("/spec/names/plural") {
                    Some("PluralConflict")
                } else if kind.kind == text("/spec/names/kind") {
                    Some("KindConflict")
                } else if kind.list_kind == text("/spec/names/listKind") {
                    Some("ListKindConflict")
                } else if kind.singular == text("/spec/names/singular") {
                    Some("SingularConflict")
                } else if short
                    .into_iter()
                    .flatten()
                    .any(|name| kind.short_names.iter().any(|own| name == own))
                {
                    Some("ShortNamesConflict")
                } else {
                    None
                }
            })
    }

    /// Removes events past their age.
    fn expire_events(&self) {
        let oldest = jiff::Timestamp::now() - EVENT_AGE;
        let collection: Arc<str> = "events".into();
        let (events, _) = self.storage.list(&collection, None);
        for event in events {
            let value = event.value();
            let times = [
                "/lastTimestamp",
                "/eventTime",
                "/series/lastObservedTime",
                "/metadata/creationTimestamp",
            ];
            let last = times
                .iter()
                .filter_map(|pointer| {
                    value
                        .pointer(pointer)?
                        .as_str()?
                        .parse::<jiff::Timestamp>()
                        .ok()
                })
                .max();
            if last.is_some_and(|last| last < oldest) {
                let _ =
                    self.storage
                        .delete(&collection, &event.namespace, &event.name, event.revision);
            }
        }
    }
}

impl ApiServer {
    /// Opens the store and makes the objects that always exist.
    //
    // Boxed like all that other crates await here: else each of them would compile the whole server again.
    pub fn start(options: Options) -> BoxFuture<'static, Result<Self, StartError>> {
        Box::pin(Self::open(options))
    }

    async fn open(options: Options) -> Result<Self, StartError> {
        let (storage, key) = match options.store {
            Store::Memory => (
                Storage::in_memory(),
                Signer::generate().map_err(StartError::Key)?,
            ),
            Store::Durable(directory) => {
                let opened = tokio::task::spawn_blocking(move || {
                    let storage = Storage::open(&directory).map_err(StartError::Store)?;
                    let key = signing_key(&directory)?;
                    Ok::<_, StartError>((storage, key))
                });
                opened
                    .await
                    .map_err(|error| StartError::Store(error.to_string()))??
            }
        };
        let storage = Arc::new(storage);
        let inner = Arc::new(Inner {
            webhooks: Webhooks::new(Arc::clone(&storage)),
            storage,
            hooks: Hooks::default(),
            signer: Signer::new(&key).map_err(StartError::Key)?,
            tokens: options.tokens,
            root_ca: options.root_ca,
            registry: RwLock::new(Arc::new(Registry::new(BTreeMap::new()))),
            kubelet: OnceLock::new(),
            closed: watch::Sender::new(false),
        });
        inner.bootstrap();
        inner.reload_definitions();
        for kind in inner
            .registry()
            .custom()
            .values()
            .filter(|kind| kind.terminating)
        {
            tokio::spawn(Arc::clone(&inner).clean_up_definition(kind.name.clone()));
        }
        inner
            .storage
            .durable(inner.storage.revision())
            .await
            .map_err(StartError::Store)?;
        tokio::spawn(keep_house(Arc::downgrade(&inner)));
        Ok(Self { inner })
    }

    /// A service for in-process clients: `kube::Client::new(server.client_service(Identity::admin()), "default")`.
    pub fn client_service(&self, identity: Identity) -> ClientService {
        ClientService {
            inner: Arc::clone(&self.inner),
            identity: Arc::new(identity),
        }
    }

    /// Who answers `pods/log`. The first call counts; before it such requests are 503.
    pub fn set_kubelet(&self, kubelet: Arc<dyn Kubelet>) {
        let _ = self.inner.kubelet.set(kubelet);
    }

    /// Lets webhooks whose `clientConfig.service` is `namespace/name` reach `service` without a socket.
    ///
    /// It receives ordinary AdmissionReview and ConversionReview requests (`POST <path>?timeout=10s`).
    pub fn register_service<S, B>(&self, namespace: &str, name: &str, service: S)
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<BoxError>,
    {
        self.inner.webhooks.register(namespace, name, service);
    }

    /// Serves HTTPS (HTTP/1.1 and h2) until `shutdown` resolves. Client certificates that `tls` accepted authenticate,
    /// as do bearer tokens (K-001, K-209).
    pub async fn serve(
        &self,
        listener: tokio::net::TcpListener,
        tls: Arc<rustls::ServerConfig>,
        shutdown: impl Future<Output = ()> + Send,
    ) -> io::Result<()> {
        crate::listen::serve(&self.inner, listener, tls, Box::pin(shutdown)).await
    }

    /// Ends watches, waits until everything written is durable, then closes the store.
    pub async fn shutdown(&self) {
        self.inner.closed.send_replace(true);
        self.inner.storage.close().await;
    }
}

/// The key that signs tokens; made on first use and kept beside the store.
fn signing_key(directory: &std::path::Path) -> Result<Vec<u8>, StartError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = directory.join("service-account.key");
    match std::fs::read(&path) {
        Ok(key) if !key.is_empty() => Ok(key),
        _ => {
            let key = Signer::generate().map_err(StartError::Key)?;
            let fail = |error: io::Error| StartError::Key(format!("{}: {error}", path.display()));
            let temporary = directory.join("service-account.key.new");
            let _ = std::fs::remove_file(&temporary);
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&temporary)
                .map_err(fail)?;
            io::Write::write_all(&mut file, &key)
                .and_then(|()| file.sync_all())
                .map_err(fail)?;
            std::fs::rename(&temporary, &path).map_err(fail)?;
            Ok(key)
        }
    }
}

/// Now and then: history, old events.
async fn keep_house(inner: std::sync::Weak<Inner>) {
    let (mut rounds, mut settled) = (0u32, 0);
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(inner) = inner.upgrade() else { return };
        inner.storage.sweep();
        let storage = Arc::clone(&inner.storage);
        let last = std::mem::replace(&mut settled, storage.revision());
        let _ = tokio::task::spawn_blocking(move || storage.pack(last)).await;
        rounds += 1;
        if rounds.is_multiple_of(8) {
            inner.expire_events();
        }
    }
}

/// The server as one identity sees it; see [`ApiServer::client_service`].
#[derive(Clone)]
pub struct ClientService {
    inner: Arc<Inner>,
    identity: Arc<Identity>,
}

impl<B> Service<Request<B>> for ClientService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (inner, identity) = (Arc::clone(&self.inner), Arc::clone(&self.identity));
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(_) => Bytes::new(),
            };
            Ok(inner
                .respond(identity, Request::from_parts(head, body))
                .await)
        })
    }
}
