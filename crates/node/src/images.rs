//! What the node asks of an image store: a reference in, a root file system and a configuration out.

use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;

/// Where images come from. The local store of `tektite-oci` is one; tests bring their own.
pub trait Images: Send + Sync + 'static {
    /// Finds an image, pulling it if the policy says so. Called for every container, so a present image must be cheap.
    fn resolve(&self, request: ImageRequest) -> BoxFuture<'_, Result<ResolvedImage, ImageError>>;
}

/// Which image, and how to get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRequest {
    /// As written in the pod.
    pub reference: String,
    /// When to ask the registry.
    pub policy: PullPolicy,
    /// Contents of the pod's pull secrets (`.dockerconfigjson` or `.dockercfg`), to be tried in turn (K-324).
    pub pull_secrets: Vec<Vec<u8>>,
}

/// `imagePullPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// Ask the registry each time.
    Always,
    /// Only if the store does not have it.
    IfNotPresent,
    /// Never ask.
    Never,
}

/// An image that is present.
#[derive(Clone)]
pub struct ResolvedImage {
    /// `imageID`: repository and manifest digest.
    pub id: String,
    /// Its files.
    pub root: RootFilesystem,
    /// How to run it.
    pub config: ImageConfig,
    /// Whatever keeps its files from being removed while it is in use.
    pub hold: Option<Arc<dyn std::any::Any + Send + Sync>>,
}

/// The files of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootFilesystem {
    /// The machine's own root, read-only below a private writable layer.
    Host,
    /// Unpacked layers, bottom first.
    Layers(Vec<PathBuf>),
}

/// The part of an OCI image configuration that decides how a container starts (K-300).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// ENTRYPOINT.
    pub entrypoint: Vec<String>,
    /// CMD.
    pub cmd: Vec<String>,
    /// ENV, as `NAME=value`.
    pub env: Vec<String>,
    /// USER: `user[:group]`, by name or number; empty for root.
    pub user: String,
    /// WORKDIR; empty for `/`.
    pub working_dir: String,
    /// STOPSIGNAL, by name or number; empty for SIGTERM.
    pub stop_signal: String,
}

/// Why there is no image. Each becomes one waiting reason (K-272, K-273).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// `InvalidImageName`.
    #[error("{0}")]
    InvalidName(String),
    /// `ErrImageNeverPull`.
    #[error("{0}")]
    NeverPull(String),
    /// `ErrImagePull`, then `ImagePullBackOff`.
    #[error("{0}")]
    Pull(String),
}
