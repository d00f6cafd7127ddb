//! HTTPS with certificates that change while it is served.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
pub use tokio_rustls::rustls::ServerConfig;
use tower::{BoxError, Service};

/// How long a client may take to agree on TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long to wait when no connection can be had: out of file descriptors, most likely.
const PAUSE: Duration = Duration::from_millis(50);

/// Answers every connection with `service`, by the TLS that `security` has when it comes. Does not end.
pub async fn serve<S, B>(
    listener: TcpListener,
    security: watch::Receiver<Arc<ServerConfig>>,
    service: S,
) where
    S: Service<Request<hyper::body::Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let acceptor = TlsAcceptor::from(Arc::clone(&security.borrow()));
        let service = service.clone();
        tokio::spawn(async move {
            if let Err(error) = connection(stream, acceptor, service).await {
                tracing::debug!(%error, "a connection ended");
            }
        });
    }
}

async fn connection<S, B>(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    service: S,
) -> Result<(), BoxError>
where
    S: Service<Request<hyper::body::Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    stream.set_nodelay(true)?;
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await??;
    auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
        .await
}
