//! The cluster as a whole: what is started in which order, and how it stops.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::BoxFuture;
use tektite_apiserver::{ApiServer, Identity, Options, Store};
use tektite_node::{Degraded, Disposition, Lifetime, Node, NodeOptions};
use tektite_oci::ImageStore;
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::authority::{Authority, AuthorityError, write_private};
use crate::controllers;
use crate::directories::Directories;
use crate::images::StoreImages;
use crate::kubeconfig::{dialable, kubeconfig};
use crate::lock::{DirectoryLock, LockError};
use crate::logs::NodeLogs;
use crate::private::PrivateDirectory;

/// How to start a cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    /// Where it lives; `None` for one in memory that leaves nothing behind.
    pub data_dir: Option<PathBuf>,
    /// Where to serve HTTPS; `None` for no socket at all.
    pub listen: Option<SocketAddr>,
}

/// Why a cluster does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another cluster has the directory.
    #[error("{path} is in use by another cluster{holder}", path = path.display(), holder = holder.map(|pid| format!(", process {pid}")).unwrap_or_default())]
    InUse {
        /// The data directory.
        path: PathBuf,
        /// Its process, if known.
        holder: Option<u32>,
    },
    /// The data directory cannot be used.
    #[error("cannot use {path}: {source}", path = path.display())]
    DataDir {
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// Certificates cannot be made or read.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The API server does not start.
    #[error(transparent)]
    ApiServer(#[from] tektite_apiserver::StartError),
    /// The node does not start.
    #[error(transparent)]
    Node(#[from] tektite_node::StartError),
}

/// A running cluster. Dropping it does not stop it: call [`Cluster::shutdown`].
pub struct Cluster {
    server: ApiServer,
    authority: Authority,
    node: Option<Node>,
    directories: Directories,
    address: Option<SocketAddr>,
    kubeconfig: Option<PathBuf>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    place: Place,
}

/// The directory of a cluster, and who cleans it up.
enum Place {
    Durable {
        directory: PathBuf,
        _lock: DirectoryLock,
    },
    Private(PrivateDirectory),
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Place::Durable { directory, .. } => directory,
            Place::Private(private) => private.path(),
        }
    }
}

impl Cluster {
    /// Starts everything but the node; the kubeconfig is complete when this returns.
    ///
    /// # Errors
    /// If the directory is in use or cannot be used, or the address is taken.
    //
    // Boxed, so that it is compiled here and not by whoever awaits it.
    pub fn start(options: ClusterOptions) -> BoxFuture<'static, Result<Self, StartError>> {
        Box::pin(async move {
            let place = place(options.data_dir.as_deref())?;
            Self::start_at(place, options).await
        })
    }

    /// Starts a cluster in memory, with its files in a directory that the caller has already put some in.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn start_in(
        directory: PrivateDirectory,
        options: ClusterOptions,
    ) -> BoxFuture<'static, Result<Self, StartError>> {
        Box::pin(Self::start_at(Place::Private(directory), options))
    }

    async fn start_at(place: Place, options: ClusterOptions) -> Result<Self, StartError> {
        let (authority, store) = match &place {
            Place::Private(_) => (Authority::in_memory()?, Store::Memory),
            Place::Durable { directory, .. } => {
                let pki = make(directory.join("pki"))?;
                (
                    Authority::in_directory(&pki)?,
                    Store::Durable(make(directory.join("store"))?),
                )
            }
        };
        let admin = Identity::user("tektite-admin", ["system:masters"]);
        let server = ApiServer::start(Options {
            store,
            root_ca: Some(authority.certificate.clone()),
            tokens: vec![(authority.token.clone(), admin)],
        })
        .await?;
        let stop = CancellationToken::new();
        let mut cluster = Self {
            server,
            authority,
            node: None,
            directories: Directories::default(),
            address: None,
            kubeconfig: None,
            stop,
            tasks: Vec::new(),
            place,
        };
        if let Some(address) = options.listen {
            cluster.serve(address).await?;
        }
        let volumes = cluster.place.path().join("volumes");
        let directories = cluster.directories.clone();
        let tasks = controllers::start(cluster.client(), volumes, directories, &cluster.stop).await;
        cluster.tasks.extend(tasks);
        Ok(cluster)
    }

    /// Serves HTTPS and writes the kubeconfig: for those who have something to install before anybody may look.
    ///
    /// # Errors
    /// If the address is taken or the kubeconfig cannot be written.
    pub async fn serve(&mut self, address: SocketAddr) -> Result<(), StartError> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| StartError::Listen { address, source })?;
        let bound = listener
            .local_addr()
            .map_err(|source| StartError::Listen { address, source })?;
        let tls = self.authority.server_config(bound)?;
        let (server, stop) = (self.server.clone(), self.stop.clone());
        self.tasks.push(tokio::spawn(async move {
            if let Err(error) = server.serve(listener, tls, stop.cancelled_owned()).await {
                tracing::error!(%error, "serving the API ended");
            }
        }));
        let address = dialable(bound);
        self.address = Some(address);
        let path = self.place.path().join("kubeconfig");
        write_private(&path, &kubeconfig(address, &self.authority)).map_err(|source| {
            StartError::DataDir {
                path: path.clone(),
                source,
            }
        })?;
        self.kubeconfig = Some(path);
        Ok(())
    }

    /// Begins to run pods, with images from `images`; without it they are left to somebody else. `hears` is told, once
    /// each, what the node finds this machine to lack; the log if nobody is to hear.
    ///
    /// # Errors
    /// If containers cannot be run.
    pub fn start_node(
        &mut self,
        images: ImageStore,
        hears: Option<UnboundedSender<Degraded>>,
    ) -> BoxFuture<'_, Result<(), StartError>> {
        Box::pin(self.run_node(images, hears))
    }

    async fn run_node(
        &mut self,
        images: ImageStore,
        hears: Option<UnboundedSender<Degraded>>,
    ) -> Result<(), StartError> {
        let directory = make(self.place.path().join("node"))?;
        let name = node_name();
        let mut options = NodeOptions::new(
            name,
            self.client(),
            directory,
            Arc::new(StoreImages(images)),
        );
        options.hears = hears;
        match &self.place {
            Place::Durable { directory, .. } => {
                options.lifetime = Lifetime::Durable;
                options.hidden.push(directory.clone());
            }
            Place::Private(private) => {
                options.hidden.push(private.path().to_owned());
                options.scrap.push(private.path().to_owned());
                options.scrap.extend(private.abandoned());
            }
        }
        let node = Node::start(options).await?;
        self.server.set_kubelet(Arc::new(NodeLogs(node.clone())));
        self.node = Some(node.clone());
        self.directories.entrust(node).await;
        Ok(())
    }

    /// A client with all rights, in process.
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.server.client_service(Identity::admin()), "default")
    }

    /// The API server, to register in-process services with.
    pub fn api_server(&self) -> &ApiServer {
        &self.server
    }

    /// Where it serves HTTPS, if it does.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The kubeconfig file, if it serves.
    pub fn kubeconfig(&self) -> Option<&Path> {
        self.kubeconfig.as_deref()
    }

    /// Stops everything: no container is left, all that was acknowledged is on disk, a private directory is gone.
    pub async fn shutdown(self) {
        if let Some(node) = &self.node {
            node.shutdown(Disposition::KillAll).await;
        }
        self.stop.cancel();
        self.server.shutdown().await;
        for task in self.tasks {
            task.abort();
            let _ = task.await;
        }
        // What the launcher has not removed of a private directory.
        let place = self.place;
        let _ = tokio::task::spawn_blocking(move || drop(place)).await;
    }
}

fn place(data_dir: Option<&Path>) -> Result<Place, StartError> {
    let Some(directory) = data_dir else {
        return PrivateDirectory::make()
            .map(Place::Private)
            .map_err(|source| StartError::DataDir {
                path: std::env::temp_dir(),
                source,
            });
    };
    let directory = make(directory.to_owned())?;
    match DirectoryLock::take(&directory) {
        Ok(lock) => Ok(Place::Durable {
            directory,
            _lock: lock,
        }),
        Err(LockError::Held(holder)) => Err(StartError::InUse {
            path: directory,
            holder,
        }),
        Err(LockError::Io(source)) => Err(StartError::DataDir {
            path: directory,
            source,
        }),
    }
}

/// Makes a directory for its owner alone, and gives its absolute path.
fn make(path: PathBuf) -> Result<PathBuf, StartError> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&path);
    made.and_then(|()| path.canonicalize())
        .map_err(|source| StartError::DataDir { path, source })
}

/// The machine's name as an object's name.
fn node_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name
        .trim()
        .to_lowercase()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        })
        .collect();
    let name = name.trim_matches(['-', '.']);
    if name.is_empty() {
        "local".to_owned()
    } else {
        name.to_owned()
    }
}
