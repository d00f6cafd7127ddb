//! The layer of a container's mount points, in memory, between its image and its writable layer.
//!
//! Whoever mounts something where the image has nothing makes a directory first. On a disk that is a dozen directories to
//! make for each container and to remove after it, which costs some file systems more than the container does.

use std::ffi::CString;
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;
use serde_json::Value;

/// A place that has to exist.
#[derive(Debug, PartialEq, Eq)]
struct Point {
    path: PathBuf,
    /// Whether a file is mounted on it.
    file: bool,
}

/// Where the existing part of a path really is, below a root, and what is missing behind it.
#[derive(Debug, PartialEq, Eq)]
struct Missing {
    existing: PathBuf,
    rest: PathBuf,
}

/// Makes in the directory `layer` what the mounts and the working directory of `spec` need and `root`, the files of the
/// image, lacks. What it must not make (behind a dangling link, say) is left to who mounts.
///
/// # Errors
/// If the layer cannot be made as the image needs it; then it must not be used.
pub(super) fn make(spec: &Value, root: &Path, layer: &Path) -> io::Result<()> {
    let root = root.canonicalize()?;
    fs::create_dir(layer)?;
    for point in points(spec) {
        if let Some(missing) = missing(&root, &point.path)? {
            add(&missing, point.file, &root, layer)?;
        }
    }
    Ok(())
}

/// What the image has to have, without what lies inside something mounted.
fn points(spec: &Value) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::new();
    let mut add = |path: &Path, file: bool| {
        if !points.iter().any(|outer| path.starts_with(&outer.path)) {
            points.push(Point {
                path: path.to_owned(),
                file,
            });
        }
    };
    let mounts = spec.get("mounts").and_then(Value::as_array);
    for mounted in mounts.into_iter().flatten() {
        let text = |key: &str| mounted.get(key).and_then(Value::as_str);
        let file = text("type") == Some("bind")
            && text("source").is_some_and(|source| !Path::new(source).is_dir());
        if let Some(destination) = text("destination") {
            add(Path::new(destination), file);
        }
    }
    if let Some(cwd) = spec.pointer("/process/cwd").and_then(Value::as_str) {
        add(Path::new(cwd), false);
    }
    points
}

/// What of `path` is not in `root`, with links as a process sees them whose root it is.
fn missing(root: &Path, path: &Path) -> io::Result<Option<Missing>> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let top = nix::fcntl::open(root, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut existing = PathBuf::new();
    let mut components = path.components();
    loop {
        let before = components.as_path().to_owned();
        let name = match components.next() {
            None => return Ok(None),
            Some(Component::Normal(name)) => name,
            Some(Component::RootDir | Component::CurDir) => continue,
            Some(_) => return Ok(None),
        };
        match openat2(&top, &existing.join(name), how) {
            Ok(found) => match place(&found)?.strip_prefix(root) {
                Ok(place) => existing = place.to_owned(),
                // It has been moved away.
                Err(_) => return Ok(None),
            },
            Err(Errno::ENOENT) => {
                let dangling = fs::symlink_metadata(root.join(&existing).join(name)).is_ok();
                return Ok((!dangling).then_some(Missing {
                    existing,
                    rest: before,
                }));
            }
            Err(_) => return Ok(None),
        }
    }
}

fn place(file: &OwnedFd) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Makes what is missing, in the layer.
fn add(missing: &Missing, file: bool, root: &Path, layer: &Path) -> io::Result<()> {
    // Of a directory in several layers the topmost counts: ours has to look as the image's does.
    let mut made = layer.to_owned();
    let mut there = root.to_owned();
    for name in &missing.existing {
        made.push(name);
        there.push(name);
        if has_attributes(&there)? {
            return Ok(());
        }
        if !made.exists() {
            fs::create_dir(&made)?;
            let look = fs::metadata(&there)?;
            chown(&made, Some(look.uid()), Some(look.gid()))?;
            fs::set_permissions(&made, Permissions::from_mode(look.mode() & 0o7777))?;
        }
    }
    made.push(&missing.rest);
    if !file {
        return fs::create_dir_all(made);
    }
    made.parent().map_or(Ok(()), fs::create_dir_all)?;
    fs::write(made, "")
}

/// Whether a file has extended attributes.
fn has_attributes(path: &Path) -> io::Result<bool> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
    // With room, since overlayfs only then leaves out its own.
    let mut names = [0_u8; 4096];
    // SAFETY: the path is NUL-terminated, and `names` is valid for its length.
    let length =
        unsafe { nix::libc::llistxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    match Errno::result(length) {
        Ok(length) => Ok(length > 0),
        Err(Errno::EOPNOTSUPP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::os::unix::fs::symlink;

    fn tree(root: &Path) -> Vec<String> {
        let mut found = Vec::new();
        let mut directories = vec![root.to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap().flatten() {
                let about = entry.metadata().unwrap();
                let path = entry.path();
                let name = path.strip_prefix(root).unwrap().to_string_lossy();
                let kind = if about.is_dir() { "/" } else { "" };
                found.push(format!("{name}{kind} {:o}", about.mode() & 0o7777));
                if about.is_dir() {
                    directories.push(path);
                }
            }
        }
        found.sort();
        found
    }

    #[test]
    fn what_the_image_lacks_is_made_where_its_links_lead_and_looks_as_the_image_does() {
        let directory = tempfile::tempdir().unwrap();
        let (root, layer) = (
            directory.path().join("root"),
            directory.path().join("layer"),
        );
        for made in ["data/private", "usr", "proc"] {
            fs::create_dir_all(root.join(made)).unwrap();
        }
        fs::set_permissions(root.join("data"), Permissions::from_mode(0o1777)).unwrap();
        fs::set_permissions(root.join("data/private"), Permissions::from_mode(0o700)).unwrap();
        fs::write(root.join("usr/file"), "").unwrap();
        symlink("/data/private", root.join("link")).unwrap();
        symlink("../../../usr", root.join("data/out")).unwrap();
        symlink("/nowhere", root.join("dangling")).unwrap();
        let file = root.join("usr/file");
        let bind = |to: &str| json!({"destination": to, "type": "bind", "source": file});
        let volume = |to: &str| json!({"destination": to, "type": "bind", "source": root});
        let spec = json!({
            "process": {"cwd": "/work/here"},
            "mounts": [
                {"destination": "/proc", "type": "proc"}, {"destination": "/dev", "type": "tmpfs"},
                {"destination": "/dev/pts", "type": "devpts"}, bind("/dev/log"), bind("/usr/file"), bind("/link/f"),
                volume("/link/a/b"), volume("/data/out/c"), volume("/dangling/x"), volume("/usr/file/no"), volume("/v"),
                volume("/v/w"),
            ],
        });
        make(&spec, &root, &layer).unwrap();
        let expected = [
            "data/ 1777",
            "data/private/ 700",
            "data/private/a/ 755",
            "data/private/a/b/ 755",
            "data/private/f 644",
            "dev/ 755",
            "usr/ 755",
            "usr/c/ 755",
            "v/ 755",
            "work/ 755",
            "work/here/ 755",
        ];
        assert_eq!(tree(&layer), expected);
    }
}
