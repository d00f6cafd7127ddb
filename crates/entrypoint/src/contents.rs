//! What is in files that a task's outcome follows from, as one digest: for the task cache, before the first step.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use sha2::{Digest as _, Sha256};

use crate::path::Path;
use crate::system::fs::{self, File, Metadata};
use crate::system::{self, Result};

/// Git's own files tell when they were written, not only what was.
const GIT: &[u8] = b".git";
/// Kubernetes' own links in volumes of ConfigMaps and Secrets, named after a time, begin so.
const KUBERNETES: &[u8] = b"..";

/// Writes `sha256:<hex>` of what is at `paths` to `into`, or `error: ` and why it cannot be told.
pub(crate) fn tell(paths: &[Vec<u8>], into: &Path) -> Result<()> {
    let said = match digest(paths) {
        Ok(digest) => format!("sha256:{digest}"),
        Err(error) => format!("error: {error}"),
    };
    fs::write(into, said)
}

/// The same for the same names, contents, links and leave to execute, whoever owns them and whenever they were written.
/// In the order of `paths`; one where there is nothing counts, too.
fn digest(paths: &[Vec<u8>]) -> core::result::Result<String, String> {
    let mut hash = Sha256::new();
    for root in paths {
        let root = Path::new(&root[..]);
        // What is declared may be a link; what is found below it is not followed, for fear of going round.
        let found = match fs::metadata(&root) {
            Err(error) if error.is_not_found() => {
                hash.update([Kind::Absent as u8]);
                continue;
            }
            found => found.map_err(|error| format!("{root}: {error}"))?,
        };
        hash.update([Kind::Root as u8]);
        let mut open: Vec<(Path, Path, Option<Metadata>)> =
            Vec::from([(root.clone(), Path::default(), Some(found))]);
        while let Some((path, below, known)) = open.pop() {
            let failed = |error: system::Error| format!("{path}: {error}");
            let found = known.map_or_else(|| fs::symlink_metadata(&path), Ok);
            let found = found.map_err(failed)?;
            named(&mut hash, Kind::of(&found), below.as_bytes());
            if found.is_dir {
                let mut names = fs::read_dir(&path).map_err(failed)?;
                names.retain(|name| name != GIT && !name.starts_with(KUBERNETES));
                names.sort_unstable();
                let inner = names.iter().rev();
                open.extend(inner.map(|name| (path.join(name), below.join(name), None)));
            } else if found.is_file {
                hash.update([u8::from(found.mode & 0o111 != 0)]);
                hash.update(content(&path).map_err(failed)?);
            } else if found.is_link {
                let target = fs::read_link(&path).map_err(failed)?;
                named(&mut hash, Kind::Link, &target);
                if fs::is_file(&path) {
                    hash.update(content(&path).map_err(failed)?);
                }
            }
        }
    }
    Ok(hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// What an entry is; begins what is hashed of it.
#[derive(Clone, Copy)]
enum Kind {
    Absent,
    Root,
    Directory,
    File,
    Link,
    Other,
}

impl Kind {
    fn of(found: &Metadata) -> Self {
        match found {
            _ if found.is_dir => Self::Directory,
            _ if found.is_file => Self::File,
            _ if found.is_link => Self::Link,
            _ => Self::Other,
        }
    }
}

/// With the length before the text, so that what follows cannot be taken for part of it.
fn named(hash: &mut Sha256, kind: Kind, text: &[u8]) {
    hash.update([kind as u8]);
    hash.update((text.len() as u64).to_le_bytes());
    hash.update(text);
}

fn content(path: &Path) -> Result<impl AsRef<[u8]>> {
    let file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = alloc::vec![0; 64 * 1024];
    loop {
        match system::read(&file, &mut buffer)? {
            0 => return Ok(hash.finalize()),
            length => hash.update(&buffer[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self as std_fs, Permissions};
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::Path as StdPath;

    use super::*;

    /// A tree, and what is said of `paths` in it.
    fn of(make: impl FnOnce(&StdPath), paths: &[&str]) -> String {
        let root = tempfile::tempdir().unwrap();
        std_fs::create_dir(root.path().join("src")).unwrap();
        std_fs::write(root.path().join("src/a"), "a").unwrap();
        std_fs::write(root.path().join("other"), "o").unwrap();
        make(root.path());
        let paths: Vec<Vec<u8>> = paths
            .iter()
            .map(|path| root.path().join(path).as_os_str().as_bytes().to_vec())
            .collect();
        digest(&paths).unwrap()
    }

    fn write(name: &'static str, text: &'static str) -> impl FnOnce(&StdPath) {
        move |root| {
            let path = root.join(name);
            std_fs::create_dir_all(path.parent().unwrap()).unwrap();
            std_fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn the_digest_is_of_names_contents_links_and_leave_to_execute_only() {
        let base = of(|_| {}, &["src"]);
        assert_eq!(base.len(), 64);
        let executable = |root: &StdPath| {
            std_fs::set_permissions(root.join("src/a"), Permissions::from_mode(0o755)).unwrap();
        };
        let renamed = |root: &StdPath| {
            std_fs::rename(root.join("src/a"), root.join("src/b")).unwrap();
        };
        let linked = |root: &StdPath| symlink("../other", root.join("src/l")).unwrap();
        let elsewhere = |root: &StdPath| {
            write("else", "e")(root);
            symlink("../else", root.join("src/l")).unwrap();
        };
        let relinked = |root: &StdPath| {
            write("other", "p")(root);
            symlink("../other", root.join("src/l")).unwrap();
        };
        let mut all: Vec<(&str, String)> = Vec::from([
            ("nothing", base.clone()),
            ("content", of(write("src/a", "b"), &["src"])),
            ("a file more", of(write("src/b", ""), &["src"])),
            ("a directory", of(write("src/b/c", ""), &["src"])),
            ("its name", of(renamed, &["src"])),
            ("leave to execute", of(executable, &["src"])),
            ("a link", of(linked, &["src"])),
            ("where a link leads", of(elsewhere, &["src"])),
            ("what a link leads to", of(relinked, &["src"])),
            ("a path more", of(|_| {}, &["src", "other"])),
            ("a path that is not there", of(|_| {}, &["src", "gone"])),
            ("one file alone", of(|_| {}, &["src/a"])),
        ]);
        all.sort_by(|a, b| a.1.cmp(&b.1));
        for pair in all.windows(2) {
            assert_ne!(pair[0].1, pair[1].1, "{} and {}", pair[0].0, pair[1].0);
        }
        for (what, same) in [
            ("another tree", of(|_| {}, &["src"])),
            ("what is not declared", of(write("other", "x"), &["src"])),
            ("Git's own", of(write("src/.git/index", "x"), &["src"])),
            ("Kubernetes' own", of(write("src/..data/a", "x"), &["src"])),
        ] {
            assert_eq!(base, same, "{what}");
        }
    }

    #[test]
    fn links_that_go_round_end_and_what_cannot_be_read_is_told() {
        let round = |root: &StdPath| {
            symlink(".", root.join("src/self")).unwrap();
            symlink("loop", root.join("src/loop")).unwrap();
        };
        assert_eq!(of(round, &["src"]).len(), 64);
        let into = tempfile::tempdir().unwrap();
        let message = into.path().join("message");
        let path = Path::new(message.as_os_str().as_bytes());
        tell(&[b"/proc/self/mem/x".to_vec()], &path).unwrap();
        let said = std_fs::read_to_string(&message).unwrap();
        assert!(said.starts_with("error: /proc/self/mem/x: "), "{said}");
        tell(&[b"/nowhere".to_vec()], &path).unwrap();
        assert!(
            std_fs::read_to_string(&message)
                .unwrap()
                .starts_with("sha256:")
        );
    }
}
