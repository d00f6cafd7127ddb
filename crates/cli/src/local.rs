//! A cluster inside this process: the API, a node, and Tekton's controllers and webhooks on top.

use std::net::SocketAddr;
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

/// A cluster that outlives the process.
#[derive(Debug, Clone)]
pub struct DurableOptions {
    /// Where it lives.
    pub data_dir: PathBuf,
    /// Where to serve; `None` for the last address, or any free port.
    pub listen: Option<SocketAddr>,
    /// Whether to run pods.
    pub node: bool,
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

    /// Starts or restarts the cluster of a data directory.
    pub async fn durable(options: DurableOptions) -> Result<Self, Failure> {
        let _ = options;
        Err(Failure::new(
            Exit::CannotRun,
            "the local cluster is not built yet",
        ))
    }

    /// Where it serves.
    pub fn server(&self) -> &str {
        ""
    }

    /// How to talk to it.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Stops everything; no container is left.
    pub async fn stop(self) {}
}
