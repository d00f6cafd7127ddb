//! The launcher's private mount namespace and the tmpfs in it: bundles, libcontainer's state, and what hides parts of the
//! machine from `host` containers.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::reactor::Purpose;

/// Directories of the machine that a `host` container sees empty, with the mode they get.
const COVERED: &[(&str, u32)] = &[
    ("/dev", 0o755),
    ("/proc", 0o555),
    ("/run", 0o755),
    ("/sys", 0o555),
    ("/tmp", 0o1777),
    ("/var/tmp", 0o1777),
];

/// Kinds of file systems whose mounts a `host` container does not get to see.
const UNSEEN: &[&str] = &[
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "pstore",
    "ramfs",
    "securityfs",
    "sysfs",
    "tmpfs",
    "tracefs",
];

/// A tmpfs nobody else sees, gone with the launcher's mount namespace.
pub(super) struct Scratch {
    root: PathBuf,
    pub rootless: bool,
    /// Whether containers die with the launcher.
    pub bound: bool,
    /// Mounts of the machine that a `host` container shows read-only, outermost first.
    pub host_mounts: Vec<PathBuf>,
}

impl Scratch {
    /// Enters a new mount namespace and mounts the tmpfs at `root`.
    pub fn enter(root: &Path, purpose: &Purpose, rootless: bool) -> io::Result<Self> {
        let hidden = &purpose.hidden;
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_SLAVE,
            None::<&str>,
        )?;
        fs::create_dir_all(root)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), root, Some("tmpfs"), flags, Some("mode=0700"))?;
        hide_cgroups(flags)?;
        let scratch = Self {
            root: root.to_path_buf(),
            rootless,
            bound: purpose.bound,
            host_mounts: host_mounts(&fs::read_to_string("/proc/self/mountinfo")?, hidden),
        };
        fs::create_dir(scratch.states())?;
        scratch.cover(hidden)?;
        Ok(scratch)
    }

    /// Directory of libcontainer's states.
    pub fn states(&self) -> PathBuf {
        self.root.join("state")
    }

    /// Directory of one container.
    pub fn bundle(&self, container: &str) -> PathBuf {
        self.root.join("bundle").join(container)
    }

    /// Mount point of one image volume of one container.
    pub fn image_volume(&self, name: &str) -> PathBuf {
        self.root.join("image").join(name)
    }

    /// Forgets a container.
    pub fn forget(&self, container: &str) {
        for directory in [self.bundle(container), self.states().join(container)] {
            let _ = fs::remove_dir_all(directory);
        }
    }

    /// The mode of a directory that `host` containers see empty, if it is one.
    pub fn covered(&self, path: &Path) -> Option<u32> {
        COVERED
            .iter()
            .find(|(covered, _)| Path::new(covered) == path)
            .map(|(_, mode)| *mode)
    }

    /// The layer above `/` of `host` containers.
    pub fn host_cover(&self) -> PathBuf {
        self.root.join("cover")
    }

    /// Builds the layer that makes directories of the machine appear empty: opaque directories, as overlayfs has it.
    fn cover(&self, hidden: &[PathBuf]) -> io::Result<()> {
        let cover = self.host_cover();
        fs::create_dir(&cover)?;
        copy_mode(Path::new("/"), &cover)?;
        let all = COVERED
            .iter()
            .map(|(path, mode)| (Path::new(*path), *mode))
            .chain(hidden.iter().map(|path| (path.as_path(), 0o700)));
        for (path, mode) in all {
            if !fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
                continue;
            }
            // Directories above it keep the machine's modes, since the topmost layer's count.
            let mut below = PathBuf::from("/");
            for component in path.components().skip(1) {
                below.push(component);
                let made = cover.join(below.strip_prefix("/").unwrap_or(&below));
                if !made.exists() {
                    fs::create_dir(&made)?;
                    copy_mode(&below, &made)?;
                }
            }
            let made = cover.join(path.strip_prefix("/").unwrap_or(path));
            fs::set_permissions(&made, fs::Permissions::from_mode(mode))?;
            let name = if self.rootless {
                c"user.overlay.opaque"
            } else {
                c"trusted.overlay.opaque"
            };
            set_attribute(&made, name, b"y")?;
        }
        Ok(())
    }
}

/// Name of the one cgroup libcontainer is told to use where its cgroups cannot be hidden.
pub(super) const NO_CGROUP: &str = "none";

/// libcontainer would put every container into a cgroup of every controller it finds mounted; ours are made by need (see
/// `cgroup`). In a user namespace the mounts cannot be undone, so there plain files stand in for a cgroup.
fn hide_cgroups(flags: MsFlags) -> io::Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    if !root.exists() {
        return Ok(());
    }
    let undone = umount2(root, MntFlags::MNT_DETACH).is_ok();
    let controllers: Vec<_> = fs::read_dir(root)?
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    mount(Some("tmpfs"), root, Some("tmpfs"), flags, Some("mode=0755"))?;
    if undone {
        return Ok(());
    }
    for controller in controllers {
        let directory = root.join(controller);
        let own = directory.join(NO_CGROUP);
        fs::create_dir_all(&own)?;
        for place in [&directory, &own] {
            for (file, text) in [
                ("cgroup.procs", ""),
                ("cpuset.cpus", "0"),
                ("cpuset.mems", "0"),
            ] {
                fs::write(place.join(file), text)?;
            }
        }
    }
    Ok(())
}

fn copy_mode(from: &Path, to: &Path) -> io::Result<()> {
    let mode = fs::metadata(from)?.permissions().mode();
    fs::set_permissions(to, fs::Permissions::from_mode(mode & 0o7777))
}

fn set_attribute(path: &Path, name: &std::ffi::CStr, value: &[u8]) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
    // SAFETY: path and name are NUL-terminated and value is valid for its length during the call.
    let result = unsafe {
        nix::libc::setxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Mount points of real file systems below `/`, from the text of `mountinfo`.
fn host_mounts(mountinfo: &str, hidden: &[PathBuf]) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let Some(point) = left.split(' ').nth(4) else {
            continue;
        };
        let kind = right.split(' ').next().unwrap_or_default();
        let point = PathBuf::from(unescape(point));
        let covered = COVERED.iter().any(|(path, _)| point.starts_with(path));
        let about_hidden = hidden
            .iter()
            .any(|hidden| point.starts_with(hidden) || hidden.starts_with(&point));
        if point != Path::new("/")
            && !UNSEEN.contains(&kind)
            && !covered
            && !about_hidden
            && !found.contains(&point)
        {
            found.push(point);
        }
    }
    found.sort();
    found
}

/// Undoes `mountinfo`'s octal escapes.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_containers_see_real_file_systems_only_and_never_the_data_directory() {
        let mountinfo = "\
20 1 254:0 / / rw - ext4 /dev/vda rw
21 20 0:5 / /proc rw - proc proc rw
22 20 8:1 / /usr\\040local ro - ext4 /dev/sda rw
23 20 8:2 / /home rw - xfs /dev/sdb rw
24 20 0:9 / /srv/mem rw - tmpfs tmpfs rw
25 20 8:3 / /data rw - ext4 /dev/sdc rw
26 20 8:3 /x /data/tektite/y rw - ext4 /dev/sdc rw
27 20 8:4 / /tmp/scratch rw - ext4 /dev/sdd rw";
        let shown = host_mounts(mountinfo, &[PathBuf::from("/data/tektite")]);
        assert_eq!(shown, [PathBuf::from("/home"), PathBuf::from("/usr local")]);
    }
}
