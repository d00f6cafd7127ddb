//! Files and directories.

use alloc::vec::Vec;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Dir, FileType, Mode, OFlags, Stat};

use super::{Error, Result, read as read_some};
use crate::path::Path;

pub(crate) use rustix::fs::inotify;

/// An open file.
#[derive(Debug)]
pub(crate) struct File(OwnedFd);

impl File {
    pub(crate) fn open(path: &Path) -> Result<File> {
        open(path, OFlags::RDONLY, 0)
    }

    /// For writing; made with this mode if it does not exist, emptied if it does.
    pub(crate) fn create(path: &Path, mode: u32) -> Result<File> {
        open(path, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC, mode)
    }

    /// For writing at its end; made with this mode if it does not exist.
    pub(crate) fn append(path: &Path, mode: u32) -> Result<File> {
        open(path, OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND, mode)
    }

    pub(crate) fn write_all(&self, bytes: &[u8]) -> Result<()> {
        super::write_all(&self.0, bytes)
    }

    pub(crate) fn sync(&self) -> Result<()> {
        Ok(rustix::fs::fsync(&self.0)?)
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn open(path: &Path, flags: OFlags, mode: u32) -> Result<File> {
    let open = || {
        rustix::fs::open(
            path.as_bytes(),
            flags | OFlags::CLOEXEC,
            Mode::from_raw_mode(mode),
        )
    };
    Ok(File(rustix::io::retry_on_intr(open)?))
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    let mut buffer = [0u8; 4096];
    loop {
        match read_some(&file, &mut buffer)? {
            0 => return Ok(bytes),
            length => bytes.extend_from_slice(&buffer[..length]),
        }
    }
}

pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    File::create(path, 0o666)?.write_all(content.as_ref())
}

/// Puts the content of one file into another.
pub(crate) fn copy(from: &File, to: &File) -> Result<()> {
    let mut buffer = [0u8; 16 * 1024];
    loop {
        match read_some(from, &mut buffer)? {
            0 => return Ok(()),
            length => to.write_all(&buffer[..length])?,
        }
    }
}

pub(crate) fn remove_file(path: &Path) -> Result<()> {
    Ok(rustix::fs::unlink(path.as_bytes())?)
}

/// Makes `link` point to `target`.
pub(crate) fn symlink(target: &Path, link: &Path) -> Result<()> {
    Ok(rustix::fs::symlink(target.as_bytes(), link.as_bytes())?)
}

/// Where a symbolic link leads.
pub(crate) fn read_link(link: &Path) -> Result<Vec<u8>> {
    Ok(rustix::fs::readlink(link.as_bytes(), Vec::new())?.into_bytes())
}

pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<()> {
    Ok(rustix::fs::chmod(
        path.as_bytes(),
        Mode::from_raw_mode(mode),
    )?)
}

pub(crate) fn create_dir_all(path: &Path) -> Result<()> {
    create_dir_all_with_mode(path, 0o777)
}

pub(crate) fn create_dir_all_with_mode(path: &Path, mode: u32) -> Result<()> {
    if path.is_empty() {
        return Ok(());
    }
    let make = || -> Result<()> {
        Ok(rustix::fs::mkdir(
            path.as_bytes(),
            Mode::from_raw_mode(mode),
        )?)
    };
    let made = match make() {
        Err(error) if error.is_not_found() => match path.parent() {
            Some(parent) => {
                create_dir_all_with_mode(&parent, mode)?;
                make()
            }
            None => Err(error),
        },
        made => made,
    };
    match made {
        // Whatever the reason, what is wanted is there.
        Err(_) if is_dir(path) => Ok(()),
        made => made,
    }
}

/// What is known about a file without opening it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metadata {
    pub(crate) is_dir: bool,
    pub(crate) is_file: bool,
    /// Only where links are not followed.
    pub(crate) is_link: bool,
    pub(crate) length: u64,
    /// Permissions only.
    pub(crate) mode: u32,
}

impl From<Stat> for Metadata {
    fn from(stat: Stat) -> Metadata {
        let kind = FileType::from_raw_mode(stat.st_mode);
        Metadata {
            is_dir: kind == FileType::Directory,
            is_file: kind == FileType::RegularFile,
            is_link: kind == FileType::Symlink,
            length: u64::try_from(stat.st_size).unwrap_or_default(),
            mode: stat.st_mode & 0o777,
        }
    }
}

pub(crate) fn metadata(path: &Path) -> Result<Metadata> {
    Ok(rustix::fs::stat(path.as_bytes())?.into())
}

/// Of a symbolic link itself.
pub(crate) fn symlink_metadata(path: &Path) -> Result<Metadata> {
    Ok(rustix::fs::lstat(path.as_bytes())?.into())
}

/// Whether both are one and the same open or opened file.
pub(crate) fn is_same(a: impl AsFd, b: impl AsFd) -> bool {
    match (rustix::fs::fstat(a), rustix::fs::fstat(b)) {
        (Ok(a), Ok(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
        _ => false,
    }
}

/// Whether it is a file on a disk, not a pipe or a terminal.
pub(crate) fn is_regular(file: impl AsFd) -> bool {
    rustix::fs::fstat(file)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
}

pub(crate) fn is_dir(path: &Path) -> bool {
    metadata(path).is_ok_and(|meta| meta.is_dir)
}

pub(crate) fn is_file(path: &Path) -> bool {
    metadata(path).is_ok_and(|meta| meta.is_file)
}

pub(crate) fn exists(path: &Path) -> bool {
    metadata(path).is_ok()
}

pub(crate) fn is_executable(path: &Path) -> bool {
    is_file(path) && rustix::fs::access(path.as_bytes(), rustix::fs::Access::EXEC_OK).is_ok()
}

/// The names of what is in a directory.
pub(crate) fn read_dir(path: &Path) -> Result<Vec<Vec<u8>>> {
    let dir = open(path, OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
    let mut names = Vec::new();
    for entry in Dir::new(dir.0)? {
        let name = entry.map_err(Error::from)?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}
