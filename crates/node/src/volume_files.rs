//! Volumes on this machine's file systems: making directories, and swapping the files of an object volume atomically.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::remove::remove_tree;
use crate::volumes::{Files, HostPathType};

/// Makes a directory with exactly this mode, and its parents.
pub(crate) fn directory(path: &Path, mode: u32, group: Option<u32>) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(parent)?;
    }
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if let Some(group) = group {
        std::os::unix::fs::chown(path, None, Some(group))?;
    }
    fs::set_permissions(
        path,
        Permissions::from_mode(mode | if group.is_some() { 0o2070 } else { 0 }),
    )
}

/// Removes a directory and all in it, also while the last of a killed container's files still appear. Answers whether it
/// is gone.
pub(crate) fn remove_all(path: &Path) -> bool {
    for _ in 0..100 {
        match remove_tree(path) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                break;
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            _ if path.exists() => {}
            _ => return true,
        }
    }
    false
}

/// Replaces the visible files of an object volume by `files`, all at once: readers see the old set or the new one
/// (K-303). Nothing is done if nothing changed.
pub(crate) fn swap(root: &Path, files: &Files, group: Option<u32>) -> io::Result<bool> {
    directory(root, 0o755, None)?;
    let current = fs::read_link(root.join("..data")).ok();
    if let Some(current) = &current
        && unchanged(&root.join(current), files)
    {
        // Whoever swapped them may have died before it showed them all.
        publish(root, files)?;
        return Ok(false);
    }
    let stamp = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos());
    let fresh = PathBuf::from(format!("..{stamp}"));
    let made = root.join(&fresh);
    fs::DirBuilder::new().mode(0o755).create(&made)?;
    for (path, file) in files {
        let at = made.join(path);
        if let Some(parent) = at.parent() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(parent)?;
        }
        let mut options = fs::OpenOptions::new();
        let mut written = options.write(true).create_new(true).mode(0o600).open(&at)?;
        io::Write::write_all(&mut written, &file.bytes)?;
        if let Some(group) = group {
            std::os::unix::fs::fchown(&written, None, Some(group))?;
        }
        let readable = if group.is_some() { 0o040 } else { 0 };
        written.set_permissions(Permissions::from_mode(file.mode | readable))?;
    }
    let link = root.join("..data_tmp");
    let _ = fs::remove_file(&link);
    symlink(&fresh, &link)?;
    fs::rename(&link, root.join("..data"))?;
    publish(root, files)?;
    if let Some(current) = current {
        let _ = fs::remove_dir_all(root.join(current));
    }
    Ok(true)
}

fn unchanged(current: &Path, files: &Files) -> bool {
    let same = files
        .iter()
        .all(|(path, file)| fs::read(current.join(path)).is_ok_and(|bytes| bytes == file.bytes));
    same && count(current) == files.len()
}

fn count(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                count(&entry.path())
            } else {
                1
            }
        })
        .sum()
}

/// Links from the names users see into `..data`; those without a file behind them go.
fn publish(root: &Path, files: &Files) -> io::Result<()> {
    let first = |path: &Path| {
        path.components()
            .next()
            .map(|part| part.as_os_str().to_owned())
    };
    let names: std::collections::BTreeSet<_> =
        files.keys().filter_map(|path| first(path)).collect();
    for name in &names {
        match symlink(Path::new("..data").join(name), root.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    for entry in fs::read_dir(root)?.flatten() {
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with("..") && !names.contains(&name) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Checks a `hostPath`, or makes it where its type says so (K-309).
///
/// # Errors
/// The reason of a `FailedMount`.
pub(crate) fn check_host_path(path: &Path, check: HostPathType) -> Result<(), String> {
    let found = fs::metadata(path).ok().map(|found| found.file_type());
    let is = |wanted: fn(&fs::FileType) -> bool| found.as_ref().is_some_and(wanted);
    let failed = |what: &str| {
        Err(format!(
            "hostPath type check failed: {} is not a {what}",
            path.display()
        ))
    };
    match check {
        // Bound as it is; what is absent is made a directory, as container engines do.
        HostPathType::Unchecked | HostPathType::DirectoryOrCreate if found.is_none() => {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(path)
                .map_err(|error| error.to_string())
        }
        HostPathType::FileOrCreate if found.is_none() => {
            let mut options = fs::OpenOptions::new();
            options
                .write(true)
                .create_new(true)
                .mode(0o644)
                .open(path)
                .map(drop)
                .map_err(|error| error.to_string())
        }
        HostPathType::Unchecked => Ok(()),
        HostPathType::Directory | HostPathType::DirectoryOrCreate => {
            if is(fs::FileType::is_dir) {
                Ok(())
            } else {
                failed("directory")
            }
        }
        HostPathType::File | HostPathType::FileOrCreate => {
            if is(fs::FileType::is_file) {
                Ok(())
            } else {
                failed("file")
            }
        }
        HostPathType::Socket => {
            if is(|kind| kind.is_socket()) {
                Ok(())
            } else {
                failed("socket file")
            }
        }
        HostPathType::CharDevice => {
            if is(|kind| kind.is_char_device()) {
                Ok(())
            } else {
                failed("character device")
            }
        }
        HostPathType::BlockDevice => {
            if is(|kind| kind.is_block_device()) {
                Ok(())
            } else {
                failed("block device")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volumes::VolumeFile;

    fn files(list: &[(&str, &str)]) -> Files {
        list.iter()
            .map(|(path, text)| {
                (
                    PathBuf::from(path),
                    VolumeFile {
                        bytes: text.as_bytes().to_vec(),
                        mode: 0o640,
                    },
                )
            })
            .collect()
    }

    // K-303, K-304
    #[test]
    fn files_change_behind_one_link_and_stale_names_go() {
        let scratch = tempfile::tempdir().expect("a directory");
        let root = scratch.path().join("v");
        assert!(swap(&root, &files(&[("a", "1"), ("d/b", "2")]), None).expect("swapped"));
        assert_eq!(
            fs::read_link(root.join("a")).expect("a link"),
            Path::new("..data/a")
        );
        assert_eq!(fs::read_to_string(root.join("d/b")).expect("a file"), "2");
        assert_eq!(
            fs::metadata(root.join("a"))
                .expect("a file")
                .permissions()
                .mode()
                & 0o7777,
            0o640
        );
        let before = fs::read_link(root.join("..data")).expect("a link");
        fs::remove_file(root.join("a")).expect("as if the swap had been cut short");
        assert!(!swap(&root, &files(&[("a", "1"), ("d/b", "2")]), None).expect("unchanged"));
        assert_eq!(fs::read_link(root.join("..data")).expect("a link"), before);
        assert_eq!(fs::read_to_string(root.join("a")).expect("a file"), "1");
        assert!(swap(&root, &files(&[("a", "3")]), None).expect("swapped"));
        assert_eq!(fs::read_to_string(root.join("a")).expect("a file"), "3");
        assert!(!root.join("d").exists() && !root.join(before).exists());
    }

    // K-309
    #[test]
    fn host_paths_are_checked_or_made() {
        let scratch = tempfile::tempdir().expect("a directory");
        let at = |name: &str| scratch.path().join(name);
        assert!(check_host_path(&at("d"), HostPathType::Directory).is_err());
        assert_eq!(
            check_host_path(&at("d"), HostPathType::DirectoryOrCreate),
            Ok(())
        );
        assert_eq!(check_host_path(&at("d"), HostPathType::Directory), Ok(()));
        assert_eq!(
            check_host_path(&at("f"), HostPathType::FileOrCreate),
            Ok(())
        );
        assert_eq!(
            check_host_path(&at("f"), HostPathType::Socket),
            Err(format!(
                "hostPath type check failed: {} is not a socket file",
                at("f").display()
            ))
        );
        assert_eq!(
            check_host_path(Path::new("/dev/null"), HostPathType::CharDevice),
            Ok(())
        );
    }
}
