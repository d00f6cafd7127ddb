//! What all pod workers of a node share, and where things are on disk.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::mpsc::UnboundedSender;

use crate::degraded::{Degraded, Lack};
use crate::environment::Facts;
use crate::images::Images;
use crate::launcher::Launcher;
use crate::log_files::LogWatch;
use crate::network::Network;
use crate::volume_files::remove_all;

/// The node's parts.
pub(crate) struct Shared {
    pub name: String,
    pub client: kube::Client,
    pub images: Arc<dyn Images>,
    pub launcher: RwLock<Launcher>,
    pub layout: Layout,
    pub facts: Facts,
    /// Capabilities containers may be given.
    pub permitted: u64,
    /// Networks of their own for pods; `None` for the host's.
    pub network: Option<Network>,
    pub logs: LogWatch,
    warned: Mutex<HashSet<Lack>>,
    hears: Option<UnboundedSender<Degraded>>,
}

/// What [`Shared::new`] needs.
pub(crate) struct Parts {
    pub name: String,
    pub client: kube::Client,
    pub images: Arc<dyn Images>,
    pub launcher: Launcher,
    pub layout: Layout,
    pub facts: Facts,
    pub network: Option<Network>,
    pub logs: LogWatch,
    /// Who hears of what this machine lacks; the log if nobody.
    pub hears: Option<UnboundedSender<Degraded>>,
}

impl Shared {
    pub fn new(parts: Parts) -> Self {
        let permitted =
            permitted(&std::fs::read_to_string("/proc/self/status").unwrap_or_default());
        let rootless = parts.launcher.greeting().rootless;
        Self {
            name: parts.name,
            client: parts.client,
            images: parts.images,
            launcher: RwLock::new(parts.launcher),
            layout: parts.layout,
            facts: parts.facts,
            // In a user namespace of its own the launcher has them all.
            permitted: if rootless { u64::MAX } else { permitted },
            network: parts.network,
            logs: parts.logs,
            warned: Mutex::default(),
            hears: parts.hears,
        }
    }

    pub fn launcher(&self) -> Launcher {
        self.launcher
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Another launcher takes the place of one that died.
    pub fn replace_launcher(&self, launcher: Launcher) {
        *self
            .launcher
            .write()
            .unwrap_or_else(PoisonError::into_inner) = launcher;
    }

    /// Drops what the containers of a pod shared.
    pub async fn remove_sandbox(&self, uid: &str) {
        if let Err(error) = self.launcher().remove_sandbox(uid).await {
            tracing::warn!(%error, pod = %uid, "cannot remove a pod's sandbox");
        }
        if let Some(network) = &self.network {
            network.release(uid);
        }
    }

    /// Removes what an ended pod leaves; what stays is only worth a line in the log.
    pub async fn clear_away(&self, paths: Vec<PathBuf>) {
        if let Err(error) = self.remove(paths).await {
            tracing::warn!(%error, "cannot remove an ended pod's files");
        }
    }

    /// Removes directories of ended pods.
    ///
    /// # Errors
    /// What stays, or why nobody could be asked.
    pub async fn remove(&self, paths: Vec<PathBuf>) -> Result<(), String> {
        let launcher = self.launcher();
        if launcher.greeting().rootless {
            // Steps may have made files of other ids, or directories nobody may enter.
            return launcher
                .remove(paths)
                .await
                .map_err(|failure| failure.message);
        }
        let removed = tokio::task::spawn_blocking(move || {
            let left: Vec<_> = paths.iter().filter(|path| !remove_all(path)).collect();
            match left.first() {
                None => Ok(()),
                Some(path) => Err(format!("cannot remove {}", path.display())),
            }
        });
        removed.await.map_err(|error| error.to_string())?
    }

    /// Says once what this machine lacks.
    pub fn warn_once(&self, degraded: &Degraded) {
        let news = self
            .warned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(degraded.lack);
        if !news {
            return;
        }
        match &self.hears {
            // Who does not listen any more does not want to know.
            Some(hears) => drop(hears.send(degraded.clone())),
            None => tracing::warn!("{}", degraded.text),
        }
    }
}

/// The permitted capabilities in the text of `/proc/self/status`.
fn permitted(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

/// Directories and files of a node.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
    memory: PathBuf,
}

impl Layout {
    /// `memory` is a directory in memory, if the machine has one.
    pub fn new(root: PathBuf, memory: Option<PathBuf>) -> Self {
        let memory = memory.unwrap_or_else(|| root.join("memory"));
        Self { root, memory }
    }

    pub fn launcher(&self) -> PathBuf {
        self.root.join("launcher")
    }

    pub fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    pub fn memory_root(&self) -> &Path {
        &self.memory
    }

    pub fn pod(&self, uid: &str) -> PathBuf {
        self.pods().join(uid)
    }

    pub fn pod_memory(&self, uid: &str) -> PathBuf {
        self.memory.join(uid)
    }

    /// What an ended pod has no use for; its logs stay until its object is deleted.
    pub fn left_at_end(&self, uid: &str) -> Vec<PathBuf> {
        vec![self.pod_memory(uid), self.pod(uid).join("volumes")]
    }

    /// The directory of a pod's `hosts`, `hostname` and `resolv.conf`.
    pub fn etc(&self, uid: &str) -> PathBuf {
        self.pod_memory(uid).join("etc")
    }

    pub fn instance(&self, uid: &str, container: &str, attempt: u32) -> Instance {
        Instance {
            root: self.pod(uid).join(format!("{container}.{attempt}")),
        }
    }

    /// Number of the newest instance of a container.
    pub fn newest(&self, uid: &str, container: &str) -> Option<u32> {
        self.newest_of_all(uid).remove(container)
    }

    /// Number of the newest instance of each container.
    pub fn newest_of_all(&self, uid: &str) -> BTreeMap<String, u32> {
        let mut newest: BTreeMap<String, u32> = BTreeMap::new();
        let entries = std::fs::read_dir(self.pod(uid)).into_iter().flatten();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let instance = name.to_str().and_then(|name| name.rsplit_once('.'));
            if let Some((container, attempt)) = instance
                && let Ok(attempt) = attempt.parse::<u32>()
            {
                let known = newest.entry(container.to_owned()).or_insert(attempt);
                *known = attempt.max(*known);
            }
        }
        newest
    }
}

/// Files of one instance of a container.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    root: PathBuf,
}

impl Instance {
    pub fn root(&self) -> &Path {
        &self.root
    }
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }
    pub fn exit(&self) -> PathBuf {
        self.root.join("exit")
    }
    pub fn pid(&self) -> PathBuf {
        self.root.join("pid")
    }
    pub fn message(&self) -> PathBuf {
        self.root.join("message")
    }
    /// How it was started; see `pod::record`.
    pub fn record(&self) -> PathBuf {
        self.root.join("record")
    }
    pub fn writable(&self) -> PathBuf {
        self.root.join("writable")
    }
}

/// A container's name at the launcher.
pub(crate) fn container_id(uid: &str, container: &str, attempt: u32) -> String {
    format!("{uid}.{container}.{attempt}")
}

/// Its parts.
pub(crate) fn parse_container_id(id: &str) -> Option<(&str, &str, u32)> {
    let (rest, attempt) = id.rsplit_once('.')?;
    let (uid, container) = rest.split_once('.')?;
    Some((uid, container, attempt.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_id_leads_back_to_its_parts() {
        assert_eq!(
            parse_container_id(&container_id("u-1", "step-a", 2)),
            Some(("u-1", "step-a", 2))
        );
        assert_eq!(parse_container_id("x"), None);
    }

    #[test]
    fn permitted_capabilities_are_read_from_the_status() {
        assert_eq!(
            permitted("Name:\tx\nCapPrm:\t000001fffeffffff\n"),
            0x1ff_feff_ffff
        );
        assert_eq!(permitted(""), 0);
    }
}
