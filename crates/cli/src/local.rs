//! A cluster inside this process: the API, a node, and Tekton's controllers and webhooks on top.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tektite_cluster::{Cluster, ClusterOptions, PrivateDirectory, StartError};
use tektite_controller::{
    Acting, ConfigHandle, Controller, ControllerOptions, InstallOptions, LeaderElection,
    WEBHOOK_SERVICE,
};
use tektite_engine::taskrun::pod::PodOptions;
use tektite_node::Degraded;
use tektite_oci::{BuiltInContent, BuiltInFile, ImageStore, StoreOptions};
use tektite_resolvers::AddressPolicy;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::connect::Connection;
use crate::data_dir::{self, IMAGE_MAP, IMAGES};
use crate::docker_config;
use crate::exit::{Exit, Failure};
use crate::image_configs::{RegistryConfigs, StoreConfigs};
use crate::resolving::{answer_requests, resolver_options};
use crate::warnings::{self, Warnings};

/// The program that orders the steps of every pod.
const ENTRYPOINT: &[u8] = include_bytes!(env!("TEKTITE_ENTRYPOINT"));
/// The image that carries it into pods.
const ENTRYPOINT_IMAGE: &str = "tektite/entrypoint";

/// The controllers of a durable cluster among the candidates for the lead.
const CANDIDATE: &str = "tektite-up";
/// The one program under the names of the several that Tekton's images hold (T-225, T-314, T-328).
const PROGRAMS: [&str; 3] = [
    "/ko-app/entrypoint",
    "/ko-app/nop",
    "/ko-app/sidecarlogresults",
];

/// A private cluster.
#[derive(Debug, Clone, Default)]
pub struct PrivateOptions {
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
    /// Whether to see to runs.
    pub controller: bool,
}

/// What a cluster is put together from.
struct Parts {
    cluster: ClusterOptions,
    /// Whether to run pods.
    node: bool,
    images: ImageStore,
    acting: Acting,
    /// What the machine is known to lack, which has been said.
    known: Vec<Degraded>,
}

/// A running cluster; it ends with [`Local::stop`].
pub struct Local {
    connection: Connection,
    cluster: Cluster,
    stop: CancellationToken,
    controllers: Vec<JoinHandle<()>>,
    warnings: Option<Warnings>,
}

impl Local {
    /// Starts a private cluster that leaves nothing behind.
    pub async fn private(options: PrivateOptions) -> Result<Self, Failure> {
        let known = preflight()?;
        let scratch = PrivateDirectory::make().map_err(|error| failed(&error))?;
        let mapping = mapping(&options.image_maps, scratch.path())?;
        // Images loaded for the local cluster are there for private ones too.
        let shared = data_dir::default_dir().join(IMAGES);
        let directory = if shared.is_dir() {
            shared
        } else {
            scratch.path().join(IMAGES)
        };
        let store = StoreOptions {
            mapping_file: Some(mapping),
            durable: false,
            logins: docker_config::places(),
            ..StoreOptions::default()
        };
        let images = ImageStore::open_with(directory, store).map_err(|error| failed(&error))?;
        let parts = Parts {
            cluster: ClusterOptions::default(),
            node: true,
            images,
            acting: Acting::Always,
            known,
        };
        Self::start(parts, options.namespace, Some(scratch)).await
    }

    /// Starts or restarts the cluster of a data directory.
    pub async fn durable(options: DurableOptions) -> Result<Self, Failure> {
        let known = match options.node {
            true => preflight()?,
            false => Vec::new(),
        };
        let store = StoreOptions {
            mapping_file: Some(options.data_dir.join(IMAGE_MAP)),
            logins: docker_config::places(),
            ..StoreOptions::default()
        };
        let images = ImageStore::open_with(options.data_dir.join(IMAGES), store)
            .map_err(|error| failed(&error))?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listen = options
            .listen
            .or_else(|| last_address(&options.data_dir))
            .unwrap_or(any);
        // Others may come in from outside. After a crash this is the same candidate, which need not wait for itself: the
        // directory's lock sees to it that there is only one.
        let acting = if options.controller {
            Acting::Elected(LeaderElection::new(CANDIDATE))
        } else {
            Acting::Never
        };
        let parts = Parts {
            cluster: ClusterOptions {
                data_dir: Some(options.data_dir),
                listen: Some(listen),
            },
            node: options.node,
            images,
            acting,
            known,
        };
        Self::start(parts, "default".to_owned(), None).await
    }

    async fn start(
        parts: Parts,
        namespace: String,
        scratch: Option<PrivateDirectory>,
    ) -> Result<Self, Failure> {
        let Parts {
            cluster: mut options,
            node,
            images,
            acting,
            known,
        } = parts;
        let (hears, warnings) = Warnings::channel(&known);
        // Nobody outside may look before Tekton's kinds are there.
        let listen = options.listen.take();
        add_entrypoint(&images).map_err(|error| failed(&error))?;
        let started = match scratch {
            Some(scratch) => Cluster::start_in(scratch, options).await,
            None => Cluster::start(options).await,
        };
        let mut cluster = started.map_err(refused)?;
        let client = cluster.client();
        let config = ConfigHandle::default();
        let (service_namespace, service) = WEBHOOK_SERVICE;
        let webhooks = tektite_controller::webhook_router(config.clone());
        cluster
            .api_server()
            .register_service(service_namespace, service, webhooks);
        // The node mostly waits for processes it starts, the installation computes.
        let begin = async {
            match node {
                true => cluster.start_node(images.clone(), Some(hears)).await,
                false => Ok(()),
            }
        };
        let kinds = InstallOptions::default();
        let (begun, installed) = tokio::join!(begin, tektite_controller::install(&client, &kinds));
        let ready = begun
            .map_err(refused)
            .and_then(|()| installed.map_err(|error| failed(&error)));
        if let Err(failure) = ready {
            cluster.shutdown().await;
            return Err(failure);
        }
        let stop = CancellationToken::new();
        let pod_options = PodOptions {
            masks_secrets: true,
            ..PodOptions::default()
        };
        let mut controllers = Vec::new();
        if acting != Acting::Never {
            let options = resolver_options(AddressPolicy::local(), None);
            let election = match &acting {
                Acting::Elected(election) => Some(election.clone()),
                _ => None,
            };
            let running = answer_requests(client.clone(), options, election, stop.clone());
            controllers.push(tokio::spawn(running));
        }
        let registries = RegistryConfigs::new(docker_config::places());
        let options = ControllerOptions {
            pod_options,
            image_configs: Arc::new(StoreConfigs::new(images, registries)),
            config,
            acting,
            ..ControllerOptions::default()
        };
        let running = Controller::run(client.clone(), options, stop.clone());
        controllers.push(tokio::spawn(async move {
            if let Err(error) = running.await {
                tracing::error!(%error, "the controller ended");
            }
        }));
        let served = match listen {
            Some(address) => cluster.serve(address).await,
            None => Ok(()),
        };
        let local = Self {
            connection: Connection { client, namespace },
            cluster,
            stop,
            controllers,
            warnings: Some(warnings),
        };
        match served {
            Ok(()) => Ok(local),
            Err(error) => {
                local.stop().await;
                Err(refused(error))
            }
        }
    }

    /// Where it serves, if it does.
    pub fn server(&self) -> String {
        self.cluster
            .address()
            .map(|address| format!("https://{address}"))
            .unwrap_or_default()
    }

    /// How to talk to it.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// What the node finds to be lacking, for the one who tells the user.
    pub fn take_warnings(&mut self) -> Option<Warnings> {
        self.warnings.take()
    }

    /// Stops everything; no container is left.
    pub async fn stop(self) {
        self.stop.cancel();
        for controller in self.controllers {
            if let Err(error) = controller.await {
                tracing::error!(%error, "a controller panicked");
            }
        }
        self.cluster.shutdown().await;
    }
}

/// Whoever runs the image without naming a program gets the one that does nothing: stopped sidecars, affinity assistants.
fn add_entrypoint(images: &ImageStore) -> Result<(), tektite_oci::Error> {
    let program = BuiltInFile {
        path: "/entrypoint",
        mode: 0o755,
        content: BuiltInContent::Bytes(ENTRYPOINT),
    };
    let link = |path| BuiltInFile {
        path,
        mode: 0o777,
        content: BuiltInContent::LinkTo("../entrypoint"),
    };
    let [entrypoint, nop, results] = PROGRAMS.map(link);
    let config = tektite_oci::ImageConfig {
        entrypoint: vec![PROGRAMS[1].to_owned()],
        ..tektite_oci::ImageConfig::default()
    };
    images
        .add_built_in(
            ENTRYPOINT_IMAGE,
            &[program, entrypoint, nop, results],
            config,
        )
        .map(drop)
}

fn failed(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, format!("cannot start the cluster: {error}"))
}

fn refused(error: StartError) -> Failure {
    let message = error.to_string();
    match error {
        StartError::InUse { .. } => Failure::new(Exit::Refused, message)
            .hint("use that cluster, stop it with `tektite down`, or give another --data-dir"),
        StartError::Listen { .. } => Failure::new(Exit::Refused, message)
            .hint("give a free address with --listen, or leave it out"),
        StartError::Node(_) => Failure::new(Exit::CannotRun, message),
        _ => Failure::new(Exit::Failed, message),
    }
}

/// Exit 3 with everything that is missing, or one warning for what will not work as usual.
fn preflight() -> Result<Vec<Degraded>, Failure> {
    match tektite_node::preflight() {
        Ok(capabilities) => {
            warnings::say(&capabilities.degraded);
            Ok(capabilities.degraded)
        }
        Err(missing) => Err(Failure::new(Exit::CannotRun, missing.to_string())
            .hint("`tektite run --kubeconfig FILE` runs the same manifests on a cluster")),
    }
}

/// One file of image names out of all that apply; the first to name an image wins.
fn mapping(files: &[PathBuf], scratch: &Path) -> Result<PathBuf, Failure> {
    let fallback = data_dir::default_dir().join(IMAGE_MAP);
    match files {
        [] => Ok(fallback),
        [one] => Ok(one.clone()),
        several => {
            let mut merged = serde_json::Map::new();
            for file in several {
                let unreadable = |error: &dyn std::fmt::Display| {
                    Failure::new(Exit::Refused, format!("{}: {error}", file.display()))
                        .hint("an image map is a YAML object: one `name: other` a line")
                };
                let text = std::fs::read_to_string(file).map_err(|error| unreadable(&error))?;
                let value =
                    crate::manifest::parse_value(&text).map_err(|error| unreadable(&error))?;
                for (name, other) in value.as_object().cloned().unwrap_or_default() {
                    merged.entry(name).or_insert(other);
                }
            }
            let path = scratch.join(IMAGE_MAP);
            std::fs::write(&path, serde_json::Value::Object(merged).to_string())
                .map_err(|error| failed(&error))?;
            Ok(path)
        }
    }
}

/// The address of the last `up` on this directory, if it is free.
fn last_address(data_dir: &Path) -> Option<SocketAddr> {
    let text = std::fs::read_to_string(data_dir.join("kubeconfig")).ok()?;
    let server = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("server: https://"))?;
    let address: SocketAddr = server.trim_matches('"').parse().ok()?;
    std::net::TcpListener::bind(address)
        .is_ok()
        .then_some(address)
}
