//! From a layer's tar stream to a directory that overlayfs can use, never touching anything outside it.
//!
//! Every path is resolved by the kernel with the layer's directory as root (`openat2`), so neither `..` nor a symbolic
//! link that the archive made can lead out. Whiteouts become character devices 0/0, which any user may make; opaque
//! directories get overlay's extended attributes.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
    chownat, fchmod, fchown, fsetxattr, futimens, linkat, mkdirat, mknodat, openat, openat2,
    statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use tar::EntryType;

use crate::Error;
use crate::error::Doing;

/// What unpacking made.
#[derive(Debug, Default)]
pub(crate) struct Unpacked {
    /// Bytes of regular files.
    pub(crate) size: u64,
    /// The file system has no attribute for opaque directories, so whiteouts for the names in the given lower layers
    /// stand in for it; the result is right only above those.
    pub(crate) bound_to_lower: bool,
}

/// Unpacks `tar` into the empty directory `root`; `lower` are the layers below, bottom first.
pub(crate) fn unpack(tar: impl Read, root: &Path, lower: &[PathBuf]) -> Result<Unpacked, Error> {
    let mut layer = Layer {
        root: crate::files::open_dir(root).doing(|| format!("opening {}", root.display()))?,
        privileged: rustix::process::geteuid().is_root(),
        directories: Vec::new(),
        parent: None,
        lower,
        done: Unpacked::default(),
    };
    let mut archive = tar::Archive::new(tar);
    archive.set_ignore_zeros(false);
    for entry in archive.entries().doing(|| "reading layer".into())? {
        layer.add(entry.doing(|| "reading layer".into())?)?;
    }
    layer.finish()
}

struct Layer<'a> {
    root: OwnedFd,
    privileged: bool,
    /// Mode and time of directories, set last: filling a directory changes its time, and may need more rights.
    directories: Vec<(PathBuf, Mode, i64)>,
    /// The directory used last; entries come in runs.
    parent: Option<(PathBuf, OwnedFd)>,
    lower: &'a [PathBuf],
    done: Unpacked,
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

impl Layer<'_> {
    fn add<R: Read>(&mut self, mut entry: tar::Entry<'_, R>) -> Result<(), Error> {
        let raw = entry.path_bytes().into_owned();
        let shown = String::from_utf8_lossy(&raw).into_owned();
        let path =
            inside(&raw).ok_or_else(|| hostile(&shown, "the path leads outside the layer"))?;
        let Some(name) = path.file_name().map(OsStr::to_owned) else {
            return self.describe_root(&entry);
        };
        let parent_path = path.parent().unwrap_or(Path::new("")).to_owned();
        self.enter(&parent_path, &shown)?;
        let Some((_, parent)) = &self.parent else {
            unreachable!("entered above")
        };
        let parent = parent
            .try_clone()
            .doing(|| format!("opening the directory of {shown}"))?;

        if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
            return self.whiteout(&parent, &parent_path, hidden, &shown);
        }
        let kind = entry.header().entry_type();
        let mode = Mode::from_raw_mode(entry.header().mode().unwrap_or(0o644) & 0o7777);
        let mtime = entry
            .header()
            .mtime()
            .ok()
            .and_then(|at| i64::try_from(at).ok())
            .unwrap_or(0);
        let what = || format!("unpacking {shown}");
        match kind {
            EntryType::Directory => {
                let fd = self.directory(&parent, &name, &path).doing(what)?;
                self.own_file(&fd, &entry).doing(what)?;
                attributes(&fd, &mut entry);
                self.directories.push((path, mode, mtime));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.make_room(&parent, &name).doing(what)?;
                let flags = OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::WRONLY
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let fd = openat(&parent, &*name, flags, Mode::RUSR | Mode::WUSR).doing(what)?;
                let mut file = File::from(fd);
                self.done.size += io::copy(&mut entry, &mut file).doing(what)?;
                self.own_file(&file, &entry).doing(what)?;
                fchmod(&file, mode).doing(what)?;
                attributes(&file, &mut entry);
                futimens(&file, &times(mtime)).doing(what)?;
            }
            EntryType::Symlink => {
                let target = entry
                    .link_name_bytes()
                    .map(|bytes| bytes.into_owned())
                    .unwrap_or_default();
                self.make_room(&parent, &name).doing(what)?;
                symlinkat(OsStr::from_bytes(&target), &parent, &*name).doing(what)?;
                self.own_at(&parent, &name, &entry).doing(what)?;
                utimensat(&parent, &*name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW).doing(what)?;
            }
            EntryType::Link => {
                let target = entry
                    .link_name_bytes()
                    .map(|bytes| bytes.into_owned())
                    .unwrap_or_default();
                let target = inside(&target)
                    .ok_or_else(|| hostile(&shown, "the hard link leads outside the layer"))?;
                let (Some(source_dir), Some(source)) = (target.parent(), target.file_name()) else {
                    return Err(Error::malformed(shown, "a hard link to the layer's root"));
                };
                if target == path {
                    return Ok(());
                }
                let source_dir = self.resolve(source_dir).doing(what)?;
                self.make_room(&parent, &name).doing(what)?;
                linkat(&source_dir, source, &parent, &*name, AtFlags::empty()).doing(what)?;
            }
            EntryType::Fifo => {
                self.make_room(&parent, &name).doing(what)?;
                mknodat(&parent, &*name, FileType::Fifo, mode, 0).doing(what)?;
                self.own_at(&parent, &name, &entry).doing(what)?;
            }
            // The node makes the devices a container may have; those of an image are never used.
            EntryType::Char | EntryType::Block => {
                tracing::debug!(path = shown, "device in a layer left out")
            }
            _ => {}
        }
        Ok(())
    }

    fn describe_root<R: Read>(&mut self, entry: &tar::Entry<'_, R>) -> Result<(), Error> {
        let mode = Mode::from_raw_mode(entry.header().mode().unwrap_or(0o755) & 0o7777);
        self.own_file(&self.root, entry)
            .doing(|| "unpacking the root directory".into())?;
        self.directories.push((
            PathBuf::new(),
            mode,
            entry.header().mtime().unwrap_or(0) as i64,
        ));
        Ok(())
    }

    /// Opens a directory below the root, following links as if the root were `/`.
    fn resolve(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::io::retry_on_intr(|| openat2(&self.root, path, DIRECTORY, Mode::empty(), resolve))
    }

    /// Makes `path` the current directory, creating what the archive did not list.
    fn enter(&mut self, path: &Path, shown: &str) -> Result<(), Error> {
        if self
            .parent
            .as_ref()
            .is_some_and(|(current, _)| current == path)
        {
            return Ok(());
        }
        let fd = match self.resolve(path) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => {
                let mut fd = self
                    .resolve(Path::new(""))
                    .doing(|| format!("unpacking {shown}"))?;
                let mut at = PathBuf::new();
                for name in path.iter() {
                    at.push(name);
                    fd = match self.resolve(&at) {
                        Ok(fd) => fd,
                        Err(Errno::NOENT | Errno::NOTDIR) => {
                            let link =
                                statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
                                    FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
                                });
                            if link {
                                return Err(hostile(
                                    shown,
                                    "a symbolic link without a target stands in its way",
                                ));
                            }
                            self.directory(&fd, name, &at)
                                .doing(|| format!("unpacking {shown}"))?
                        }
                        Err(error) => return Err(error).doing(|| format!("unpacking {shown}")),
                    };
                }
                fd
            }
            Err(error) => return Err(error).doing(|| format!("unpacking {shown}")),
        };
        self.parent = Some((path.to_owned(), fd));
        Ok(())
    }

    /// A directory of that name: the one that is there, or a new one in place of anything else.
    fn directory(&mut self, parent: &OwnedFd, name: &OsStr, path: &Path) -> io::Result<OwnedFd> {
        let mut hides_lower = false;
        match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                return Ok(openat(
                    parent,
                    name,
                    DIRECTORY | OFlags::NOFOLLOW,
                    Mode::empty(),
                )?);
            }
            Ok(stat) => {
                hides_lower = is_whiteout(&stat);
                self.make_room(parent, name)?;
            }
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
        let fd = openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
        if hides_lower {
            self.opaque(&fd, path)?;
        }
        Ok(fd)
    }

    /// Removes what an earlier entry of the same name made.
    fn make_room(&mut self, parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
        match unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {
                self.parent = None;
                // A path through the open directory, so that no link is followed on the way.
                std::fs::remove_dir_all(
                    Path::new(&format!("/proc/self/fd/{}", parent.as_raw_fd())).join(name),
                )
            }
            Err(error) => Err(error.into()),
        }
    }

    fn whiteout(
        &mut self,
        parent: &OwnedFd,
        parent_path: &Path,
        hidden: &[u8],
        shown: &str,
    ) -> Result<(), Error> {
        let what = || format!("unpacking {shown}");
        if hidden == b".wh..opq" {
            return self.opaque(parent, parent_path).doing(what);
        }
        if hidden.starts_with(b".wh.") {
            return Ok(()); // Bookkeeping of the old aufs driver.
        }
        let hidden = OsStr::from_bytes(hidden);
        if hidden.is_empty() || hidden == "." || hidden == ".." {
            return Err(hostile(shown, "a whiteout of no name"));
        }
        match statat(parent, hidden, AtFlags::SYMLINK_NOFOLLOW) {
            // A whiteout hides the layers below only: what this layer itself has stays.
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                let fd = openat(parent, hidden, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
                    .doing(what)?;
                self.opaque(&fd, &parent_path.join(hidden)).doing(what)
            }
            Ok(_) => Ok(()),
            Err(_) => {
                mknodat(parent, hidden, FileType::CharacterDevice, Mode::empty(), 0).doing(what)
            }
        }
    }

    /// Hides what the layers below have in this directory.
    fn opaque(&mut self, dir: &OwnedFd, path: &Path) -> io::Result<()> {
        let user = fsetxattr(dir, c"user.overlay.opaque", b"y", XattrFlags::empty());
        if self.privileged {
            let trusted = fsetxattr(dir, c"trusted.overlay.opaque", b"y", XattrFlags::empty());
            if trusted.is_ok() {
                return Ok(());
            }
        }
        match user {
            Ok(()) => Ok(()),
            Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS) => {
                self.done.bound_to_lower = true;
                self.hide_each(dir, path)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The stand-in for an opaque directory: a whiteout for each name that some lower layer has there.
    fn hide_each(&self, dir: &OwnedFd, path: &Path) -> io::Result<()> {
        for lower in self.lower {
            let Ok(entries) = std::fs::read_dir(lower.join(path)) else {
                continue;
            };
            for entry in entries {
                match mknodat(
                    dir,
                    entry?.file_name(),
                    FileType::CharacterDevice,
                    Mode::empty(),
                    0,
                ) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    fn own_file<R: Read>(&self, fd: impl AsFd, entry: &tar::Entry<'_, R>) -> io::Result<()> {
        let Some((uid, gid)) = self.owner(entry) else {
            return Ok(());
        };
        tolerate(fchown(fd, Some(uid), Some(gid)))
    }

    fn own_at<R: Read>(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        entry: &tar::Entry<'_, R>,
    ) -> io::Result<()> {
        let Some((uid, gid)) = self.owner(entry) else {
            return Ok(());
        };
        tolerate(chownat(
            parent,
            name,
            Some(uid),
            Some(gid),
            AtFlags::SYMLINK_NOFOLLOW,
        ))
    }

    /// Only root can give files away; without it everything belongs to the user, whom the node maps to root.
    fn owner<R: Read>(&self, entry: &tar::Entry<'_, R>) -> Option<(Uid, Gid)> {
        let id = |id: io::Result<u64>| {
            id.ok()
                .and_then(|id| u32::try_from(id).ok())
                .filter(|&id| id != u32::MAX)
        };
        let (uid, gid) = (id(entry.header().uid())?, id(entry.header().gid())?);
        self.privileged
            .then(|| (Uid::from_raw(uid), Gid::from_raw(gid)))
    }

    fn finish(self) -> Result<Unpacked, Error> {
        // Children before parents, since a parent's mode may lock this process out.
        for (path, mode, mtime) in self.directories.iter().rev() {
            let what = || format!("unpacking {}", path.display());
            let fd = match self.resolve(path) {
                Ok(fd) => fd,
                // A later entry replaced it.
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                Err(error) => return Err(error).doing(what),
            };
            // The owner must be able to remove the layer one day.
            let mode = if self.privileged {
                *mode
            } else {
                *mode | Mode::RWXU
            };
            fchmod(&fd, mode).doing(what)?;
            futimens(&fd, &times(*mtime)).doing(what)?;
        }
        Ok(self.done)
    }
}

/// The path below the root, or none if it leads above.
fn inside(raw: &[u8]) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for component in PathBuf::from(OsString::from_vec(raw.to_vec())).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Some(path)
}

/// Extended attributes that may travel with an image: user attributes and file capabilities. Overlay's own would let
/// an archive redirect lookups, so they are dropped.
fn attributes<R: Read>(fd: impl AsFd, entry: &mut tar::Entry<'_, R>) {
    let Ok(Some(extensions)) = entry.pax_extensions() else {
        return;
    };
    for extension in extensions.flatten() {
        let Some(name) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") else {
            continue;
        };
        let allowed = name == b"security.capability"
            || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."));
        if allowed
            && let Err(error) = fsetxattr(&fd, name, extension.value_bytes(), XattrFlags::empty())
        {
            tracing::debug!(name = %String::from_utf8_lossy(name), %error, "attribute left out");
        }
    }
}

fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn times(mtime: i64) -> Timestamps {
    let at = Timespec {
        tv_sec: mtime,
        tv_nsec: 0,
    };
    Timestamps {
        last_access: at,
        last_modification: at,
    }
}

/// Inside a user namespace root may lack the identifier; the file then stays its own.
fn tolerate(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) | Err(Errno::PERM | Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn hostile(entry: &str, reason: &'static str) -> Error {
    Error::HostileArchive {
        entry: entry.to_owned(),
        reason,
    }
}
