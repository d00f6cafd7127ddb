//! How a node is started and stopped.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use crate::degraded::Degraded;
use crate::images::Images;

/// How to start a node.
#[derive(Clone)]
pub struct NodeOptions {
    /// Name of the Node object and of the machine in `spec.nodeName`.
    pub name: String,
    /// The API it serves.
    pub client: kube::Client,
    /// Pods' volumes, logs and exit codes, and the launcher's socket. Made if missing.
    pub data_dir: PathBuf,
    /// Where images come from.
    pub images: Arc<dyn Images>,
    /// Whether containers outlive this process.
    pub lifetime: Lifetime,
    /// How pods reach the network.
    pub network: NetworkMode,
    /// Address of the API server for pods (`KUBERNETES_SERVICE_HOST` and `_PORT`, K-301), if they can reach it.
    pub api_address: Option<ServiceAddress>,
    /// The program to start as launcher with [`crate::LAUNCH_ARGUMENT`]; this very program if `None`.
    pub launcher: Option<PathBuf>,
    /// Directories that the launcher removes when it ends, also if this process dies without a shutdown (only with [`Lifetime::Private`]).
    pub scrap: Vec<PathBuf>,
    /// Directories besides `data_dir` that containers of the image `host` see empty, such as the store of the API.
    pub hidden: Vec<PathBuf>,
    /// Who hears, once each, of what the node finds this machine to lack; the log if nobody.
    pub hears: Option<UnboundedSender<Degraded>>,
}

impl NodeOptions {
    /// A node whose containers die with this process, with everything else at its default.
    pub fn new(
        name: impl Into<String>,
        client: kube::Client,
        data_dir: impl Into<PathBuf>,
        images: Arc<dyn Images>,
    ) -> Self {
        Self {
            name: name.into(),
            client,
            data_dir: data_dir.into(),
            images,
            lifetime: Lifetime::Private,
            network: NetworkMode::Auto,
            api_address: None,
            launcher: None,
            scrap: Vec::new(),
            hidden: Vec::new(),
            hears: None,
        }
    }
}

/// Whether containers outlive the process that holds the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// All containers are killed when this process ends, however it ends.
    Private,
    /// Containers go on; the next node on the same directory takes them over (K-292).
    Durable,
}

/// How pods reach the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkMode {
    /// A network of their own if the machine permits it, else the host's.
    Auto,
    /// The host's network.
    Host,
    /// One network namespace per pod on a bridge.
    Bridge,
}

/// Host and port under which pods find the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAddress {
    /// IP address or name.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// What becomes of running containers when the node stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Kill them and leave nothing behind.
    KillAll,
    /// Let them run for the next node on this data directory (only with [`Lifetime::Durable`]).
    LeaveRunning,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error("cannot use {path}: {source}", path = path.display())]
    DataDir {
        /// The directory or file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The launcher does not start or answer.
    #[error("cannot start the container launcher: {0}")]
    Launcher(String),
    /// The API refused the Node object.
    #[error("cannot register the node: {0}")]
    Register(#[source] kube::Error),
}

/// Why directories were not removed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RemoveError(pub(crate) String);
