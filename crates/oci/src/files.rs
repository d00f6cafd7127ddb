//! Crash-safe files and locks between processes: write beside, sync, rename; `flock` on what is in use.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};

use crate::Error;
use crate::error::Doing;

/// Opens a directory for locking or synchronising.
pub(crate) fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// A lock that ends when dropped or when the process dies.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held for its lock")] File);

impl Lock {
    pub(crate) fn shared(path: &Path) -> Result<Lock, Error> {
        Lock::take(path, FlockOperation::LockShared)
    }

    pub(crate) fn exclusive(path: &Path) -> Result<Lock, Error> {
        Lock::take(path, FlockOperation::LockExclusive)
    }

    fn take(path: &Path, operation: FlockOperation) -> Result<Lock, Error> {
        let what = || format!("locking {}", path.display());
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .doing(what)?;
        rustix::io::retry_on_intr(|| flock(&file, operation)).doing(what)?;
        Ok(Lock(file))
    }
}

/// A private directory for work in progress; removed when dropped, or by the next opener if this process died.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    _lock: OwnedFd,
}

impl Scratch {
    pub(crate) fn new(parent: &Path) -> Result<Scratch, Error> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        loop {
            let name = format!(
                "{}-{}",
                std::process::id(),
                COUNTER.fetch_add(1, Ordering::Relaxed)
            );
            let path = parent.join(name);
            match fs::create_dir(&path) {
                Ok(()) => {}
                // Another process with this id once died here.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error).doing(|| format!("creating {}", path.display())),
            }
            let what = || format!("locking {}", path.display());
            let lock = match open_dir(&path) {
                Ok(lock) => lock,
                // A sweep found it before it was locked.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).doing(what),
            };
            flock(&lock, FlockOperation::NonBlockingLockExclusive).doing(what)?;
            if path.exists() {
                return Ok(Scratch { path, _lock: lock });
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what processes that died left in `parent`.
    pub(crate) fn sweep(parent: &Path) {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let path = entry.path();
            let free = open_dir(&path)
                .is_ok_and(|dir| flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok());
            if free {
                remove_tree(&path);
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove_tree(&self.path);
    }
}

/// Removes a tree as far as possible: what cannot be removed now is garbage for the next sweep.
pub(crate) fn remove_tree(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(path = %path.display(), %error, "left behind");
    }
}

/// Replaces `path` by `bytes`: readers see the old or the new content, never a part.
pub(crate) fn write_atomically(
    path: &Path,
    bytes: &[u8],
    scratch: &Scratch,
    durable: bool,
) -> Result<(), Error> {
    let what = || format!("writing {}", path.display());
    let beside = scratch.path().join("record");
    let mut file = File::create(&beside).doing(what)?;
    file.write_all(bytes).doing(what)?;
    if durable {
        file.sync_all().doing(what)?;
    }
    fs::rename(&beside, path).doing(what)?;
    sync_parent(path, durable)
}

/// Makes a rename into or a removal from the parent directory durable.
pub(crate) fn sync_parent(path: &Path, durable: bool) -> Result<(), Error> {
    match path.parent() {
        Some(parent) if durable => {
            let what = || format!("synchronising {}", parent.display());
            rustix::fs::fsync(open_dir(parent).doing(what)?).doing(what)
        }
        _ => Ok(()),
    }
}
