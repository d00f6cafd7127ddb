//! A node's directory on the machine's tmpfs, for what should not reach a disk; gone soon after its data directory.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// A link to the data directory that the memory belongs to.
pub(crate) const OWNER: &str = "of";

/// The directory of `data_dir`, made if missing; `None` if this machine has no tmpfs for it. Those of data directories that
/// no longer exist are removed.
pub(crate) fn directory(data_dir: &Path, name: u64) -> Option<PathBuf> {
    let shm = Path::new("/dev/shm");
    let kind = nix::sys::statfs::statfs(shm).ok()?.filesystem_type();
    if kind != nix::sys::statfs::TMPFS_MAGIC {
        return None;
    }
    directory_in(shm, data_dir, name)
}

fn directory_in(shm: &Path, data_dir: &Path, name: u64) -> Option<PathBuf> {
    let prefix = format!("tektite-{}-", nix::unistd::geteuid());
    for abandoned in abandoned(shm, &prefix) {
        let _ = fs::remove_dir_all(abandoned);
    }
    let path = shm.join(format!("{prefix}{name:x}"));
    match fs::DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return None,
        _ => {}
    }
    // Somebody else may have made it first: only one that is ours alone will do.
    if !ours(&path) {
        return None;
    }
    match symlink(data_dir, path.join(OWNER)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => None,
        _ => Some(path),
    }
}

fn ours(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| {
        found.is_dir()
            && found.uid() == nix::unistd::geteuid().as_raw()
            && found.permissions().mode() & 0o077 == 0
    })
}

fn abandoned(shm: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(shm).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .filter(|path| {
            let owner = fs::read_link(path.join(OWNER));
            ours(path) && owner.is_ok_and(|owner| !owner.exists())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_a_data_directory_that_is_gone_goes_with_the_next_start() {
        let shm = tempfile::tempdir().expect("a directory");
        let (first, second) = (
            tempfile::tempdir().expect("a directory"),
            tempfile::tempdir().expect("a directory"),
        );
        let kept = directory_in(shm.path(), first.path(), 1).expect("made");
        let lost = directory_in(shm.path(), second.path(), 2).expect("made");
        assert_eq!(
            directory_in(shm.path(), first.path(), 1),
            Some(kept.clone())
        );
        assert!(lost.exists());
        drop(second);
        assert_eq!(
            directory_in(shm.path(), first.path(), 1),
            Some(kept.clone())
        );
        assert!(!lost.exists());
        fs::set_permissions(&kept, fs::Permissions::from_mode(0o755)).expect("permissions");
        assert_eq!(
            directory_in(shm.path(), first.path(), 1),
            None,
            "others may look into it"
        );
    }
}
