//! Answering those who ask whether a component lives (T-421).

use tektite_controller::{listen, probes_router, serve};
use tokio_util::sync::CancellationToken;

use crate::arguments::Probes;
use crate::exit::{Exit, Failure};

/// Upstream's port.
const PORT: u16 = 8080;

/// Answers probes until `shutdown`. Only a port that was asked for must be free: nobody may be asking.
pub async fn answer(probes: &Probes, shutdown: &CancellationToken) -> Result<(), Failure> {
    let port = probes.probes_port.unwrap_or(PORT);
    let listener = match (listen("", port).await, probes.probes_port) {
        (Ok(listener), _) => listener,
        (Err(error), Some(_)) => {
            return Err(Failure::new(
                Exit::Refused,
                format!("cannot answer probes on port {port}: {error}"),
            )
            .hint("--probes-port or PROBES_PORT names another; 0 takes any that is free"));
        }
        (Err(error), None) => {
            tracing::warn!(port, %error, "probes are not answered");
            return Ok(());
        }
    };
    if let Ok(address) = listener.local_addr() {
        tracing::info!(port = address.port(), "answering probes");
    }
    let serving = serve(listener, probes_router(), shutdown.clone());
    tokio::spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "probes are no longer answered");
        }
    });
    Ok(())
}
