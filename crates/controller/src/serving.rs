//! Plain HTTP for those who look after the process: probes and metrics.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use axum::Router;
use axum::routing::get;
use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// `/`, `/health` and `/readiness`, which answer 200 as long as the process lives (T-421).
pub fn probes_router() -> Router {
    let ok = || async {};
    Router::new()
        .route("/", get(ok))
        .route("/health", get(ok))
        .route("/readiness", get(ok))
}

/// Listens on `port` of `host`, or of all addresses of both families if that is empty; port 0 is any free one.
pub fn listen(host: &str, port: u16) -> BoxFuture<'_, io::Result<TcpListener>> {
    Box::pin(async move {
        if !host.is_empty() {
            return TcpListener::bind((host, port)).await;
        }
        match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
            // Taken is taken; anything else means that there is no IPv6.
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
            }
            bound => bound,
        }
    })
}

/// Serves until `shutdown`, and finishes the requests under way.
//
// Boxed, so that it is compiled here and not by whoever awaits it.
pub fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
) -> BoxFuture<'static, io::Result<()>> {
    Box::pin(async move {
        axum::serve(listener, router)
            .with_graceful_shutdown(shutdown.cancelled_owned())
            .await
    })
}
