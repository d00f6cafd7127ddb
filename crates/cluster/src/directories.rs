//! Removing directories that containers have written to.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use tektite_node::Node;

/// Removes directories through the node once there is one: without root, files may belong to subordinate ids of the user,
/// which only the node's launcher may act for.
#[derive(Clone, Default)]
pub struct Directories {
    node: Arc<OnceLock<Node>>,
}

impl Directories {
    /// From now on the node removes them.
    pub fn entrust(&self, node: Node) {
        // There is one node per cluster, started once.
        let _ = self.node.set(node);
    }

    /// Removes a directory and all in it; none is as good.
    ///
    /// # Errors
    /// What stays, and why.
    pub async fn remove(&self, directory: PathBuf) -> Result<(), String> {
        if let Some(node) = self.node.get() {
            let removed = node.remove(vec![directory]).await;
            return removed.map_err(|error| error.to_string());
        }
        let path = directory.clone();
        let removed = tokio::task::spawn_blocking(move || fs::remove_dir_all(path)).await;
        match removed {
            Ok(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => Err(format!(
                "cannot remove {} without a node: {error}",
                directory.display()
            )),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}
