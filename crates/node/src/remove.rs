//! Removing directory trees quickly.
//!
//! Some file systems take milliseconds of waiting for each directory they remove (ext4 that discards what it frees), and a
//! pod has dozens of tiny ones. Directories of one depth do not depend on each other, so they go side by side.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

/// Threads that remove directories of one depth.
const SIDE_BY_SIDE: usize = 8;
/// As many directories are removed one after the other as it takes to be worth a thread.
const WORTH_A_THREAD: usize = 2;

/// Removes `path` and, if it is a directory, all in it; links are removed, not followed. Nobody may write to it meanwhile
/// who is not trusted with the rest of the machine.
///
/// # Errors
/// The first of them; what could be removed is gone none the less. That nothing is there is an error too.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return fs::remove_file(path);
    }
    let mut first = Ok(());
    let mut depths = vec![vec![path.to_path_buf()]];
    loop {
        let mut below = Vec::new();
        for directory in depths.last().into_iter().flatten() {
            first = first.and(remove_files(directory, &mut below));
        }
        if below.is_empty() {
            break;
        }
        depths.push(below);
    }
    for depth in depths.iter().rev() {
        first = first.and(remove_directories(depth));
    }
    first
}

/// Removes all in `directory` but its directories, which are added to `directories`.
fn remove_files(directory: &Path, directories: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut first = Ok(());
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            directories.push(entry.path());
        } else {
            first = first.and(fs::remove_file(entry.path()));
        }
    }
    first
}

fn remove_directories(directories: &[PathBuf]) -> io::Result<()> {
    let one_by_one = |some: &[PathBuf]| {
        let mut first = Ok(());
        for directory in some {
            first = first.and(fs::remove_dir(directory));
        }
        first
    };
    let each = directories.len().div_ceil(SIDE_BY_SIDE).max(WORTH_A_THREAD);
    if directories.len() <= each {
        return one_by_one(directories);
    }
    thread::scope(|scope| {
        let spawn = |some| {
            // Where no thread can be had, this one does it.
            thread::Builder::new()
                .spawn_scoped(scope, move || one_by_one(some))
                .map_err(|_| one_by_one(some))
        };
        let under_way: Vec<_> = directories.chunks(each).map(spawn).collect();
        let mut first = Ok(());
        for thread in under_way {
            first = first.and(match thread {
                Ok(thread) => thread
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("a thread panicked"))),
                Err(done) => done,
            });
        }
        first
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_goes_with_all_in_it_and_links_lead_nowhere() {
        let parent = tempfile::tempdir().unwrap();
        let kept = parent.path().join("kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "content").unwrap();
        let root = parent.path().join("root");
        for wide in 0..20 {
            let deep = root.join(format!("{wide}/a/b"));
            fs::create_dir_all(&deep).unwrap();
            fs::write(deep.join("file"), "content").unwrap();
            std::os::unix::fs::symlink(&kept, deep.join("link")).unwrap();
        }
        remove_tree(&root).unwrap();
        assert!(!root.exists());
        assert!(kept.join("file").exists());
        let link = parent.path().join("link");
        std::os::unix::fs::symlink(&kept, &link).unwrap();
        remove_tree(&link).unwrap();
        assert!(fs::symlink_metadata(&link).is_err());
        assert!(kept.join("file").exists());
        let missing = remove_tree(&root).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
