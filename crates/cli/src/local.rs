//! A cluster inside this process: the API, a node, and Tekton's controllers and webhooks on top.

use std::path::PathBuf;

use crate::connect::Connection;
use crate::exit::{Exit, Failure};

/// What kind of cluster.
#[derive(Debug, Clone, Default)]
pub struct LocalOptions {
    /// The namespace to work in.
    pub namespace: String,
    /// Files that map image names to others.
    pub image_maps: Vec<PathBuf>,
}

/// A running cluster; it ends with [`Local::stop`].
pub struct Local {
    connection: Connection,
}

impl Local {
    /// Starts a private cluster that leaves nothing behind.
    pub async fn private(options: LocalOptions) -> Result<Self, Failure> {
        let _ = options;
        Err(Failure::new(
            Exit::CannotRun,
            "the private cluster is not built yet",
        ))
    }

    /// How to talk to it.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Stops everything; no container is left.
    pub async fn stop(self) {}
}
