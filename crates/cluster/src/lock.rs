//! One cluster at a time on a data directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

/// Held while a cluster uses the directory; the system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct DirectoryLock(#[expect(dead_code, reason = "held for the lock")] File);

impl DirectoryLock {
    /// Takes the lock, or says which process has it.
    pub fn take(directory: &Path) -> Result<Self, LockError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(directory.join("lock"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Held(read_holder(&mut file))),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        file.set_len(0)?;
        file.rewind()?;
        write!(file, "{}", std::process::id())?;
        Ok(Self(file))
    }
}

/// Why the lock cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it: its id, if it wrote one.
    #[error("in use by another cluster")]
    Held(Option<u32>),
    /// The file cannot be opened.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// The process that runs a cluster on `directory`, if one does.
pub fn holder(directory: &Path) -> Option<u32> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(directory.join("lock"))
        .ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => read_holder(&mut file),
        _ => None,
    }
}

fn read_holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_cluster_on_a_directory_learns_who_has_it() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(holder(directory.path()), None);
        let held = DirectoryLock::take(directory.path()).expect("free");
        let second = DirectoryLock::take(directory.path());
        assert!(matches!(second, Err(LockError::Held(Some(pid))) if pid == std::process::id()));
        assert_eq!(holder(directory.path()), Some(std::process::id()));
        drop(held);
        DirectoryLock::take(directory.path()).expect("free again");
    }
}
