//! Where the local cluster lives unless the user says otherwise.

use std::path::{Path, PathBuf};

use crate::arguments::DataDir;

/// The directory that the arguments name, or the default one. Absolute: it goes into mounts and the kubeconfig's path.
pub fn of(arguments: &DataDir) -> PathBuf {
    arguments
        .data_dir
        .clone()
        .map_or_else(default_dir, absolute)
}

/// Only an empty path, or one in a directory that is gone, stays as it is; whoever opens it says what is wrong.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// `$TEKTITE_DATA_DIR`, else `/var/lib/tektite` for root, else `$XDG_DATA_HOME/tektite`.
pub fn default_dir() -> PathBuf {
    let from = |variable: &str| {
        std::env::var_os(variable)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(directory) = from("TEKTITE_DATA_DIR") {
        return absolute(directory);
    }
    if rustix::process::geteuid().is_root() {
        return Path::new("/var/lib/tektite").to_owned();
    }
    from("XDG_DATA_HOME")
        .or_else(|| from("HOME").map(|home| home.join(".local/share")))
        .unwrap_or_else(std::env::temp_dir)
        .join("tektite")
}

/// The image store within the directory.
pub const IMAGES: &str = "images";
/// The map of image names within the directory.
pub const IMAGE_MAP: &str = "images.yaml";
