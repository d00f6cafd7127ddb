//! The server as a whole: starting it, talking to it in process, serving it on a socket.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, RwLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use tower::{BoxError, Service, ServiceExt};

use crate::error::ApiError;
use crate::identity::Identity;
use crate::kubelet::Kubelet;

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
}

/// A running API server; clones share it.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use tektite_apiserver::{ApiServer, Identity, Options};
/// let server = ApiServer::start(Options::default()).await?;
/// let service = server.client_service(Identity::admin());
/// // let client = kube::Client::new(service, "default");
/// # drop(service); Ok(()) }
/// ```
#[derive(Clone)]
pub struct ApiServer {
    inner: Arc<Inner>,
}

type WebhookService = Arc<
    dyn Fn(Request<Full<Bytes>>) -> BoxFuture<'static, Result<Response<Bytes>, BoxError>>
        + Send
        + Sync,
>;

struct Inner {
    kubelet: OnceLock<Arc<dyn Kubelet>>,
    services: RwLock<HashMap<(String, String), WebhookService>>,
}

impl ApiServer {
    /// Opens the store and makes the objects that always exist.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let _ = options;
        Ok(Self {
            inner: Arc::new(Inner {
                kubelet: OnceLock::new(),
                services: RwLock::default(),
            }),
        })
    }

    /// A service for in-process clients: `kube::Client::new(server.client_service(Identity::admin()), "default")`.
    pub fn client_service(&self, identity: Identity) -> ClientService {
        ClientService {
            server: self.clone(),
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
        let call: WebhookService = Arc::new(move |request| {
            let service = service.clone();
            Box::pin(async move {
                let response = service.oneshot(request).await.map_err(Into::into)?;
                let (head, body) = response.into_parts();
                let body = body.collect().await.map_err(Into::into)?.to_bytes();
                Ok(Response::from_parts(head, body))
            })
        });
        let mut services = self
            .inner
            .services
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        services.insert((namespace.into(), name.into()), call);
    }

    /// Serves HTTPS (HTTP/1.1 and h2) until `shutdown` resolves. Client certificates that `tls` accepted authenticate,
    /// as do bearer tokens (K-001, K-209).
    pub async fn serve(
        &self,
        listener: tokio::net::TcpListener,
        tls: Arc<rustls::ServerConfig>,
        shutdown: impl Future<Output = ()> + Send,
    ) -> io::Result<()> {
        let _ = (listener, tls);
        shutdown.await;
        Ok(())
    }

    /// Waits until everything written is durable, then closes the store.
    pub async fn shutdown(&self) {}

    async fn handle(&self, identity: Arc<Identity>, request: Request<Bytes>) -> Response<Body> {
        let _ = (identity, request);
        let error = ApiError::no_such_resource();
        let body =
            Full::new(Bytes::from(error.to_status().to_string())).map_err(|never| match never {});
        let mut response = Response::new(body.boxed_unsync());
        *response.status_mut() = error.code;
        response
    }
}

/// The server as one identity sees it; see [`ApiServer::client_service`].
#[derive(Clone)]
pub struct ClientService {
    server: ApiServer,
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
        let (server, identity) = (self.server.clone(), Arc::clone(&self.identity));
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(_) => Bytes::new(),
            };
            Ok(server
                .handle(identity, Request::from_parts(head, body))
                .await)
        })
    }
}
