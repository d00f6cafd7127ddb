//! Removing directories that containers have written to.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tektite_node::Node;

/// Removes directories through the node once there is one: without root, files may belong to subordinate ids of the user,
/// which only the node's launcher may act for.
#[derive(Clone)]
pub struct Directories {
    remover: Arc<Mutex<Remover>>,
}

enum Remover {
    /// No node so far, and what could not be removed without one.
    Alone(Vec<PathBuf>),
    Node(Node),
}

impl Default for Directories {
    fn default() -> Self {
        Self {
            remover: Arc::new(Mutex::new(Remover::Alone(Vec::new()))),
        }
    }
}

impl Directories {
    /// From now on the node removes them, beginning with those that were waiting for it.
    pub async fn entrust(&self, node: Node) {
        let before = std::mem::replace(&mut *self.lock(), Remover::Node(node.clone()));
        if let Remover::Alone(waiting) = before
            && !waiting.is_empty()
            && let Err(error) = node.remove(waiting).await
        {
            tracing::warn!(%error, "directories of deleted volumes stay");
        }
    }

    /// Removes a directory and all in it; none is as good. What takes a node to remove goes when there is one.
    ///
    /// # Errors
    /// What stays, and why.
    pub async fn remove(&self, directory: PathBuf) -> Result<(), String> {
        if let Some(node) = self.node() {
            return removed_by(&node, directory).await;
        }
        let path = directory.clone();
        let removed = tokio::task::spawn_blocking(move || fs::remove_dir_all(path)).await;
        match removed {
            Ok(Err(error)) if error.kind() == ErrorKind::PermissionDenied => {
                // The node may have come meanwhile.
                let node = match &mut *self.lock() {
                    Remover::Node(node) => node.clone(),
                    Remover::Alone(waiting) => {
                        waiting.push(directory);
                        return Ok(());
                    }
                };
                removed_by(&node, directory).await
            }
            Ok(Err(error)) if error.kind() != ErrorKind::NotFound => Err(format!(
                "cannot remove {} without a node: {error}",
                directory.display()
            )),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn node(&self) -> Option<Node> {
        match &*self.lock() {
            Remover::Node(node) => Some(node.clone()),
            Remover::Alone(_) => None,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Remover> {
        self.remover.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn removed_by(node: &Node, directory: PathBuf) -> Result<(), String> {
    let removed = node.remove(vec![directory]).await;
    removed.map_err(|error| error.to_string())
}
