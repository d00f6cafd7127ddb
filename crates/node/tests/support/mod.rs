//! A node on a fake API, with the machine itself as the only image.

pub mod api;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tektite_node::{
    Disposition, ImageConfig, ImageError, ImageRequest, Images, Lifetime, LogOptions, NetworkMode,
    Node, NodeOptions, ResolvedImage, RootFilesystem,
};

/// `host`, and directories as images of one or more layers: `layers:/a:/b`.
struct Machine;

impl Images for Machine {
    fn resolve(&self, request: ImageRequest) -> BoxFuture<'_, Result<ResolvedImage, ImageError>> {
        Box::pin(async move {
            let root = match request.reference.split_once(':') {
                Some(("layers", paths)) => {
                    RootFilesystem::Layers(paths.split(':').map(PathBuf::from).collect())
                }
                Some(("absent", _)) => return Err(ImageError::Pull("no such image".into())),
                _ => RootFilesystem::Host,
            };
            Ok(ResolvedImage {
                id: format!("{}@sha256:0", request.reference),
                root,
                config: ImageConfig::default(),
                hold: None,
            })
        })
    }
}

pub struct World {
    pub api: api::Api,
    pub node: Node,
    pub directory: Arc<tempfile::TempDir>,
}

impl World {
    /// A private node in a fresh directory.
    pub async fn start() -> Self {
        let directory = Arc::new(tempfile::tempdir().expect("a directory"));
        Self::start_on(api::Api::new(), directory, Lifetime::Private).await
    }

    /// A private node whose pods have networks of their own.
    pub async fn start_bridged() -> Self {
        let directory = Arc::new(tempfile::tempdir().expect("a directory"));
        Self::start_with(
            api::Api::new(),
            directory,
            Lifetime::Private,
            NetworkMode::Bridge,
        )
        .await
    }

    pub async fn start_on(
        api: api::Api,
        directory: Arc<tempfile::TempDir>,
        lifetime: Lifetime,
    ) -> Self {
        Self::start_with(api, directory, lifetime, NetworkMode::Host).await
    }

    async fn start_with(
        api: api::Api,
        directory: Arc<tempfile::TempDir>,
        lifetime: Lifetime,
        network: NetworkMode,
    ) -> Self {
        let mut options = NodeOptions::new(
            "here",
            api.client(),
            directory.path().join("node"),
            Arc::new(Machine),
        );
        options.launcher = Some(PathBuf::from(env!("CARGO_BIN_EXE_tektite-launcher")));
        options.lifetime = lifetime;
        options.network = network;
        let node = Node::start(options).await.expect("a node");
        Self {
            api,
            node,
            directory,
        }
    }

    /// Creates a pod; answers with its path.
    pub fn pod(&self, name: &str, spec: Value) -> String {
        let path = format!("/api/v1/namespaces/n/pods/{name}");
        let mut spec = spec;
        if spec["restartPolicy"].is_null() {
            spec["restartPolicy"] = json!("Never");
        }
        self.api.put(&path, json!({"metadata": {"name": name, "namespace": "n", "uid": format!("uid-{name}")}, "spec": spec}));
        path
    }

    /// Waits for a phase.
    pub async fn phase(&self, path: &str, phase: &str) -> Value {
        self.api
            .until(path, |pod| {
                pod.is_some_and(|pod| pod["status"]["phase"] == phase)
            })
            .await
            .expect("a pod")
    }

    pub async fn log(&self, name: &str, container: &str) -> String {
        self.log_with(name, container, LogOptions::default()).await
    }

    pub async fn log_with(&self, name: &str, container: &str, options: LogOptions) -> String {
        let stream = self
            .node
            .logs(&format!("uid-{name}"), container, options)
            .await
            .expect("a log");
        let parts: Vec<bytes::Bytes> = stream.try_collect().await.expect("read");
        String::from_utf8(parts.concat()).expect("text")
    }

    /// Ends the node and checks that nothing of it is left.
    pub async fn end(self) {
        self.node.shutdown(Disposition::KillAll).await;
        for _ in 0..1000 {
            if mentions(self.directory.path()).is_empty() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert_eq!(
            mentions(self.directory.path()),
            Vec::<String>::new(),
            "mounts or processes are left"
        );
    }
}

/// Mounts and processes of this machine that mention a directory.
pub fn mentions(directory: &Path) -> Vec<String> {
    let text = directory.to_string_lossy().into_owned();
    let mut found: Vec<String> = std::fs::read_to_string("/proc/self/mountinfo")
        .unwrap_or_default()
        .lines()
        .filter(|line| line.contains(&text))
        .map(str::to_string)
        .collect();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&command).contains(&text) {
            found.push(String::from_utf8_lossy(&command).replace('\0', " "));
        }
    }
    found
}

/// A container of the machine's own image that runs a shell script.
pub fn sh(name: &str, script: &str) -> Value {
    json!({"name": name, "image": "host", "command": ["sh", "-c", script]})
}

/// One container's state out of a pod's status.
pub fn state(pod: &Value, container: &str) -> Value {
    let status = &pod["status"];
    let all = status["containerStatuses"]
        .as_array()
        .into_iter()
        .chain(status["initContainerStatuses"].as_array())
        .flatten();
    all.into_iter()
        .find(|one| one["name"] == container)
        .map(|one| one["state"].clone())
        .unwrap_or_default()
}

/// Whether this machine can run containers; says why not.
pub fn possible(test: &str) -> bool {
    match tektite_node::preflight() {
        Ok(_) => true,
        Err(missing) => {
            eprintln!("skipped {test}: {missing}");
            false
        }
    }
}

/// Whether this machine can run containers and the test may do what only root may.
pub fn possible_as_root(test: &str) -> bool {
    let root = tektite_node::preflight().is_ok_and(|capabilities| capabilities.root);
    if !root {
        eprintln!("skipped {test}: it needs root");
    }
    root && possible(test)
}
