//! What the store hands out: an image with its configuration and its layers as directories.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Reference;

/// The reference of the special image that is the machine's own root file system.
///
/// It has no layers; the node uses `/` as its only lower directory. `images.yaml` may map other names to it.
pub const HOST: &str = "host";

/// An image that is present. While a value (or a clone) lives, no process removes its layers.
#[derive(Clone, Debug)]
pub struct Image {
    /// The normalised name it was found under, or [`HOST`].
    pub reference: String,
    /// The digest of its manifest, `sha256:…`.
    pub digest: String,
    /// The digest of the image index it was chosen from, if it came from one.
    pub index_digest: Option<String>,
    /// How to run it.
    pub config: ImageConfig,
    /// Unpacked layers, bottom first: lower directories for overlayfs. Whiteouts are character devices 0/0; opaque
    /// directories carry `user.overlay.opaque` and, when written by root, `trusted.overlay.opaque` too, so they hold for
    /// mounts with `userxattr` and, when root does both, for those without. Empty for [`HOST`].
    pub layers: Vec<PathBuf>,
    /// Unpacked size in bytes.
    pub size: u64,
    /// Shared locks on the layers' directories.
    #[expect(dead_code, reason = "held for the locks")]
    pub(crate) pins: Arc<Vec<OwnedFd>>,
}

impl Image {
    /// Whether this is the machine's own root file system.
    pub fn is_host(&self) -> bool {
        self.reference == HOST
    }

    /// `imageID` as Kubernetes reports it: the repository at the manifest's digest (K-325).
    pub fn id(&self) -> String {
        match self.reference.parse::<Reference>() {
            Ok(reference) if !self.is_host() => format!("{}@{}", reference.name(), self.digest),
            _ => format!("{}@{}", self.reference, self.digest),
        }
    }
}

/// How an image wants to be run: the `config` of an OCI image configuration, and its platform.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    /// The program, before the arguments.
    #[serde(deserialize_with = "or_default")]
    pub entrypoint: Vec<String>,
    /// Arguments, or the program if there is no entrypoint.
    #[serde(deserialize_with = "or_default")]
    pub cmd: Vec<String>,
    /// `NAME=value` entries.
    #[serde(deserialize_with = "or_default")]
    pub env: Vec<String>,
    /// `user[:group]`, by name or number; empty for root.
    #[serde(deserialize_with = "or_default")]
    pub user: String,
    /// Empty for `/`.
    #[serde(deserialize_with = "or_default")]
    pub working_dir: String,
    /// Ports as `80/tcp`.
    #[serde(deserialize_with = "keys", serialize_with = "as_keys")]
    pub exposed_ports: Vec<String>,
    /// The signal that asks it to stop, by name or number; empty for SIGTERM.
    #[serde(deserialize_with = "or_default")]
    pub stop_signal: String,
    /// Operating system, as in Go (`linux`).
    #[serde(skip)]
    pub os: String,
    /// Architecture, as in Go (`amd64`).
    #[serde(skip)]
    pub architecture: String,
    /// Variant of the architecture (`v8`), often empty.
    #[serde(skip)]
    pub variant: String,
}

fn or_default<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

fn keys<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let map = Option::<serde_json::Map<String, serde_json::Value>>::deserialize(from)?
        .unwrap_or_default();
    Ok(map.into_iter().map(|(key, _)| key).collect())
}

fn as_keys<S: serde::Serializer>(keys: &[String], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(keys.iter().map(|key| (key, serde_json::Map::new())))
}

/// One line of `image list`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSummary {
    /// The normalised name.
    pub reference: String,
    /// The manifest's digest.
    pub digest: String,
    /// Unpacked size of its layers in bytes; shared layers count for each image.
    pub size: u64,
    /// Whether the program added it itself.
    pub built_in: bool,
}
