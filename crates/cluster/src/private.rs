//! The directory of a cluster that leaves nothing behind, however its process ends.
//!
//! Three things see to it: [`PrivateDirectory`] removes it when dropped; the node's launcher, which outlives a killed
//! process and may remove what belongs to other ids of its user namespace; and the next cluster, which finds those
//! whose lock nobody holds (both processes were killed at once, or the first before it had a launcher).

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

const PREFIX: &str = "tektite-run-";

/// A directory of this process alone, gone when dropped.
#[derive(Debug)]
pub struct PrivateDirectory {
    path: PathBuf,
    /// Held as long as somebody uses the directory.
    _lock: File,
}

impl PrivateDirectory {
    /// Makes one among the system's temporary files.
    ///
    /// # Errors
    /// If no directory can be made there.
    pub fn make() -> io::Result<Self> {
        Self::make_in(&std::env::temp_dir())
    }

    fn make_in(parent: &Path) -> io::Result<Self> {
        loop {
            let path = parent.join(format!("{PREFIX}{}", uuid::Uuid::new_v4().simple()));
            DirBuilder::new().mode(0o700).create(&path)?;
            let lock = File::open(&path)?;
            // Another process may have taken it for abandoned before it was locked.
            if lock.try_lock().is_ok() && path.exists() {
                let path = path.canonicalize()?;
                return Ok(Self { path, _lock: lock });
            }
        }
    }

    /// Where it is, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Directories beside this one that belong to nobody any more.
    pub fn abandoned(&self) -> Vec<PathBuf> {
        let (Some(parent), Ok(own)) = (self.path.parent(), fs::metadata(&self.path)) else {
            return Vec::new();
        };
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX))
            .filter(|entry| {
                entry
                    .metadata()
                    .is_ok_and(|found| found.is_dir() && found.uid() == own.uid())
            })
            .map(|entry| entry.path())
            .filter(|path| File::open(path).is_ok_and(|file| file.try_lock().is_ok()))
            .collect()
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_whose_owner_is_gone_count_as_abandoned() {
        let parent = tempfile::tempdir().expect("a directory");
        let own = PrivateDirectory::make_in(parent.path()).expect("made");
        let other = PrivateDirectory::make_in(parent.path()).expect("made");
        let left = parent.path().join(format!("{PREFIX}left"));
        fs::create_dir(&left).expect("made");
        fs::create_dir(parent.path().join("tektite-other")).expect("made");
        assert_eq!(own.abandoned(), [left]);
        let path = other.path().to_owned();
        drop(other);
        assert!(!path.exists());
        assert!(own.path().exists());
    }
}
