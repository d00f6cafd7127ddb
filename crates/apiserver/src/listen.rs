//! The HTTPS side: TLS, authentication, HTTP/1.1 and h2 (K-001, K-090, K-209).

use std::io;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::certificate;
use crate::error::ApiError;
use crate::handler::refuse;
use crate::identity::Identity;
use crate::server::{Body, Inner};

const MAX_BODY: usize = 3 << 20;

/// Accepts connections until `shutdown` resolves, then lets the open ones finish their requests.
pub(crate) fn serve<'a>(
    inner: &'a Arc<Inner>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    shutdown: BoxFuture<'a, ()>,
) -> BoxFuture<'a, io::Result<()>> {
    Box::pin(accept(inner, listener, tls, shutdown))
}

async fn accept(
    inner: &Arc<Inner>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    mut shutdown: BoxFuture<'_, ()>,
) -> io::Result<()> {
    let acceptor = TlsAcceptor::from(tls);
    let (stop, stopped) = watch::channel(false);
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: wait for some to be freed.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = &mut shutdown => break,
        };
        tokio::spawn(connection(
            Arc::clone(inner),
            acceptor.clone(),
            stream,
            stopped.clone(),
        ));
    }
    stop.send_replace(true);
    Ok(())
}

async fn connection(
    inner: Arc<Inner>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    mut stopped: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let (_, session) = stream.get_ref();
    let certified = session
        .peer_certificates()
        .and_then(|chain| certificate::identity(chain.first()?))
        .map(Arc::new);
    let service = service_fn(move |request: Request<Incoming>| {
        let (inner, certified) = (Arc::clone(&inner), certified.clone());
        async move { Ok::<_, std::convert::Infallible>(answer(inner, certified, request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(1000);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let stop = async { drop(stopped.wait_for(|stopped| *stopped).await) };
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended");
    }
}

async fn answer(
    inner: Arc<Inner>,
    certified: Option<Arc<Identity>>,
    request: Request<Incoming>,
) -> Response<Body> {
    let identity = match bearer(request.headers()) {
        Some(token) => match inner.authenticate(token, &[]) {
            Some((identity, _)) => Arc::new(identity),
            None => return refuse(&ApiError::unauthorized()),
        },
        None => certified.unwrap_or_else(|| Arc::new(Identity::anonymous())),
    };
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return refuse(&ApiError::too_large(format!(
                "Request entity too large: limit is {MAX_BODY}"
            )));
        }
        Err(_) => Bytes::new(),
    };
    inner
        .handle(identity, Request::from_parts(head, body))
        .await
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
