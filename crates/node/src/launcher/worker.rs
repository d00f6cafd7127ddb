//! What a forked worker of the launcher does for one container: root file system, libcontainer, start.
//!
//! A worker lives in a mount namespace of its own. What it mounts is copied into the container's and is gone with it, so
//! nothing has to be unmounted, whoever dies first.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::container::{Container, ContainerStatus};
use libcontainer::notify_socket::{NOTIFY_FILE, NotifySocket};
use libcontainer::syscall::syscall::SyscallType;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, mkdirat};
use serde_json::Value;

use super::cgroup::Group;
use super::executor::Program;
use super::mount_points;
use super::protocol::{ExecRequest, Failure, Root, RunRequest, SubPath};
use super::scratch::{NO_CGROUP, Scratch};
use crate::degraded::{Degraded, Lack};

/// The options of a mount have one page. Beyond this length of an image's layers there may be no room for one more.
const LONGEST_IMAGE: usize = 3000;

/// What a worker tells the launcher.
pub(super) struct Started {
    pub pid: i32,
    pub warnings: Vec<Degraded>,
}

/// Creates and starts a container; runs in a forked process.
pub(super) fn run(
    mut request: RunRequest,
    scratch: &Scratch,
    group: Option<&Group>,
) -> Result<Started, Failure> {
    let mut warnings = Vec::new();
    unshare(CloneFlags::CLONE_NEWNS)
        .map_err(|error| failed("unshare the mount namespace", error))?;
    let bundle = scratch.bundle(&request.container);
    let rootfs = bundle.join("rootfs");
    fs::create_dir_all(&rootfs).map_err(|error| failed("make the bundle", error))?;
    for (name, lowers) in &request.root.images {
        let at = scratch.image_volume(name);
        fs::create_dir_all(&at).map_err(|error| failed("make a mount point", error))?;
        mount_read_only(lowers, scratch, &at)?;
    }
    for sub_path in &request.sub_paths {
        let at = scratch.image_volume(&format!("{}-sub-{}", request.container, sub_path.mount));
        bind_sub_path(sub_path, &at)?;
        if let Some(source) = request
            .spec
            .pointer_mut(&format!("/mounts/{}/source", sub_path.mount))
        {
            *source = Value::from(at.to_string_lossy());
        }
    }
    let points = mount_points(&request, scratch, &bundle);
    if let Some(warning) = mount_root(&request.root, points, scratch, &bundle, &rootfs)? {
        warnings.push(Degraded::new(Lack::Layers, warning));
    }
    make_working_directory(&request.spec, &rootfs);
    if let Some(path) = request.spec.pointer_mut("/root/path") {
        *path = Value::from(rootfs.to_string_lossy());
    }
    if let Some(Value::Object(linux)) = request.spec.get_mut("linux") {
        linux.insert(
            "cgroupsPath".to_string(),
            Value::from(format!("/{NO_CGROUP}")),
        );
    }
    let config = serde_json::to_vec(&request.spec)
        .map_err(|error| failed("write the specification", error))?;
    fs::write(bundle.join("config.json"), config)
        .map_err(|error| failed("write the specification", error))?;
    let log = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(&request.log)
        .map_err(|error| failed("open the log", error))?;
    let errors = log
        .try_clone()
        .map_err(|error| failed("open the log", error))?;
    let input = fs::File::open("/dev/null").map_err(|error| failed("open /dev/null", error))?;
    let state = scratch.states();
    let container = ContainerBuilder::new(request.container.clone(), SyscallType::default())
        .with_executor(Program {
            bound: scratch.bound,
        })
        .with_root_path(&state)
        .map_err(|error| Failure::new(chain(&error)))?
        .with_stdin(OwnedFd::from(input))
        .with_stdout(OwnedFd::from(log))
        .with_stderr(OwnedFd::from(errors))
        .as_init(&bundle)
        .with_systemd(false)
        .with_detach(true)
        // The process becomes the launcher's child, which waits for it after this worker is gone.
        .as_sibling(true)
        .build()
        .map_err(|error| Failure::new(chain(&error)))?;
    let pid = container
        .pid()
        .ok_or_else(|| Failure::new("the container has no process"))?
        .as_raw();
    let started = (|| {
        if let Some(group) = group {
            group
                .join(pid)
                .map_err(|error| failed("enter the cgroup", error))?;
        }
        // Before the start, so that whoever finds the directory after a crash can tell what to kill.
        fs::write(&request.pid_file, super::identity(pid))
            .map_err(|error| failed("write the pid file", error))?;
        NotifySocket::new(state.join(&request.container).join(NOTIFY_FILE))
            .notify_container_start()
            .map_err(|error| failed("start the container", error))
    })();
    if let Err(failure) = started {
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGKILL,
        );
        return Err(failure);
    }
    Ok(Started { pid, warnings })
}

/// Starts a process in a running container; runs in a forked process.
pub(super) fn exec(request: &ExecRequest, scratch: &Scratch) -> Result<i32, Failure> {
    let output = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(&request.output)
        .map_err(|error| failed("open the output", error))?;
    let errors = output
        .try_clone()
        .map_err(|error| failed("open the output", error))?;
    let input = fs::File::open("/dev/null").map_err(|error| failed("open /dev/null", error))?;
    // The start went past libcontainer's own bookkeeping, which the process has no use for until now.
    Container::load(scratch.states().join(&request.container))
        .and_then(|mut container| container.set_status(ContainerStatus::Running).save())
        .map_err(|error| Failure::new(chain(&error)))?;
    ContainerBuilder::new(request.container.clone(), SyscallType::default())
        .with_executor(Program { bound: false })
        .with_root_path(scratch.states())
        .map_err(|error| Failure::new(chain(&error)))?
        .with_stdin(OwnedFd::from(input))
        .with_stdout(OwnedFd::from(output))
        .with_stderr(OwnedFd::from(errors))
        .as_tenant()
        .with_container_args(request.command.clone())
        .with_detach(true)
        .as_sibling(true)
        .build()
        .map(|pid| pid.as_raw())
        .map_err(|error| Failure::new(chain(&error)))
}

fn failed(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::new(format!("cannot {what}: {error}"))
}

/// What libcontainer's nested errors have to say.
fn chain(error: &dyn std::error::Error) -> String {
    let text = tektite_oci::with_causes(error);
    // The program's own complaint is what a person needs; libcontainer wraps it several times.
    match text.find("unable to start container process: ") {
        Some(start) => text[start..]
            .lines()
            .next()
            .unwrap_or_default()
            .trim_end_matches('"')
            .to_string(),
        None => text,
    }
}

fn overlay_path(path: &Path) -> Result<String, Failure> {
    let text = path
        .to_str()
        .ok_or_else(|| Failure::new(format!("path is not UTF-8: {}", path.display())))?;
    Ok(text
        .replace('\\', "\\\\")
        .replace(':', "\\:")
        .replace(',', "\\,"))
}

fn lower_option(lowers: &[PathBuf], scratch: &Scratch) -> Result<String, Failure> {
    let host = [PathBuf::from("/"), scratch.host_cover()];
    let lowers = if lowers.is_empty() { &host[..] } else { lowers };
    let topmost_first: Vec<String> = lowers
        .iter()
        .rev()
        .map(|path| overlay_path(path))
        .collect::<Result<_, _>>()?;
    Ok(topmost_first.join(":"))
}

fn mount_overlay(options: &str, flags: MsFlags, at: &Path, scratch: &Scratch) -> nix::Result<()> {
    let options = if scratch.rootless {
        format!("{options},userxattr")
    } else {
        options.to_string()
    };
    mount(
        Some("overlay"),
        at,
        Some("overlay"),
        flags,
        Some(options.as_str()),
    )
}

fn mount_read_only(lowers: &[PathBuf], scratch: &Scratch, at: &Path) -> Result<(), Failure> {
    if let [one] = lowers {
        // overlayfs without a writable layer wants two lower directories; one needs no overlay at all.
        return mount(Some(one), at, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(|error| failed("mount an image volume", error));
    }
    let lower = lower_option(lowers, scratch)?;
    mount_overlay(
        &format!("lowerdir={lower}"),
        MsFlags::MS_RDONLY,
        at,
        scratch,
    )
    .map_err(|error| failed("mount an image volume", error))
}

/// The layer of mount points for a container; none where it would not fit, which only takes longer.
fn mount_points(request: &RunRequest, scratch: &Scratch, bundle: &Path) -> Option<PathBuf> {
    let lowers = &request.root.lowers;
    if lowers.is_empty() && scratch.rootless {
        return None;
    }
    let layer = bundle.join("points");
    let made = match lowers.as_slice() {
        [image] => mount_points::make(&request.spec, image, &layer),
        several => {
            let whole = bundle.join("image");
            fs::create_dir(&whole)
                .map_err(|error| failed("make a mount point", error))
                .and_then(|()| mount_read_only(several, scratch, &whole))
                .map_err(|failure| io::Error::other(failure.message))
                .and_then(|()| mount_points::make(&request.spec, &whole, &layer))
        }
    };
    made.ok().map(|()| layer)
}

/// Mounts a container's root file system, with the layer `points` above its image. Answers with a warning if its writable
/// layer had to go to memory.
fn mount_root(
    root: &Root,
    points: Option<PathBuf>,
    scratch: &Scratch,
    bundle: &Path,
    at: &Path,
) -> Result<Option<String>, Failure> {
    if root.lowers.is_empty() && scratch.rootless {
        return mount_host_by_parts(root, scratch, at).map(|()| None);
    }
    let image = lower_option(&root.lowers, scratch)?;
    let lower = match points {
        Some(points) if image.len() < LONGEST_IMAGE => {
            format!("{}:{image}", overlay_path(&points)?)
        }
        _ => image,
    };
    let layer = |directory: &Path| -> Result<String, Failure> {
        let (upper, work) = (directory.join("upper"), directory.join("work"));
        for made in [&upper, &work] {
            fs::create_dir_all(made).map_err(|error| failed("make the writable layer", error))?;
        }
        Ok(format!(
            "lowerdir={lower},upperdir={},workdir={}",
            overlay_path(&upper)?,
            overlay_path(&work)?
        ))
    };
    let on_disk = mount_overlay(&layer(&root.writable)?, MsFlags::empty(), at, scratch);
    let warning = match on_disk {
        Ok(()) => None,
        Err(disk) => {
            mount_overlay(&layer(bundle)?, MsFlags::empty(), at, scratch).map_err(|memory| {
                Failure::new(format!(
                    "cannot mount the root file system: {disk}; in memory: {memory}"
                ))
            })?;
            Some(format!(
                "containers' writable layers are kept in memory: the data directory's file system does not permit them ({disk})"
            ))
        }
    };
    if root.lowers.is_empty() {
        for path in &scratch.host_mounts {
            let target = at.join(path.strip_prefix("/").unwrap_or(path));
            if fs::symlink_metadata(&target).is_ok_and(|found| found.is_dir()) {
                // A mounted file system of the machine that is not shown is a smaller evil than no container.
                let _ = mount(
                    Some(path),
                    &target,
                    None::<&str>,
                    MsFlags::MS_BIND,
                    None::<&str>,
                )
                .and_then(|()| {
                    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
                    mount(None::<&str>, &target, None::<&str>, flags, None::<&str>)
                });
            }
        }
    }
    Ok(warning)
}

/// In a user namespace `/` cannot be a lower directory, because mounts below it are locked; its directories can.
fn mount_host_by_parts(root: &Root, scratch: &Scratch, at: &Path) -> Result<(), Failure> {
    let top = root.writable.join("top");
    fs::create_dir_all(&top).map_err(|error| failed("make the writable layer", error))?;
    mount(Some(&top), at, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(|error| failed("mount the root file system", error))?;
    let entries = fs::read_dir("/").map_err(|error| failed("list the machine's root", error))?;
    let mut shown = 0;
    for entry in entries.flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let target = at.join(&name);
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_symlink() {
            let _ = fs::read_link(&path).and_then(|link| std::os::unix::fs::symlink(link, &target));
            continue;
        }
        if !kind.is_dir() || fs::create_dir(&target).is_err() {
            continue;
        }
        if path == Path::new("/root") {
            // The machine's is closed to this user, and steps need a home.
            let _ = fs::set_permissions(&target, fs::Permissions::from_mode(0o700));
            continue;
        }
        if let Some(mode) = scratch.covered(&path) {
            let _ = fs::set_permissions(&target, fs::Permissions::from_mode(mode));
            continue;
        }
        let part = root.writable.join("parts").join(&name);
        let (upper, work, cover) = (
            part.join("upper"),
            part.join("work"),
            scratch.host_cover().join(&name),
        );
        for made in [&upper, &work] {
            fs::create_dir_all(made).map_err(|error| failed("make the writable layer", error))?;
        }
        let own = overlay_path(&path)?;
        let lower = if cover.exists() {
            format!("{}:{own}", overlay_path(&cover)?)
        } else {
            own
        };
        let options = format!(
            "lowerdir={lower},upperdir={},workdir={}",
            overlay_path(&upper)?,
            overlay_path(&work)?
        );
        let mounted = mount_overlay(&options, MsFlags::empty(), &target, scratch);
        shown += usize::from(mounted.is_ok());
        if mounted.is_err() && !cover.exists() {
            // With locked mounts inside it can at least be shown; read-only, as the machine's files always are.
            let bound = mount(
                Some(&path),
                &target,
                None::<&str>,
                MsFlags::MS_BIND | MsFlags::MS_REC,
                None::<&str>,
            );
            let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            if bound.is_ok()
                && mount(None::<&str>, &target, None::<&str>, flags, None::<&str>).is_err()
            {
                let _ = nix::mount::umount2(&target, nix::mount::MntFlags::MNT_DETACH);
            }
        }
    }
    if shown == 0 {
        return Err(Failure::new(
            "cannot mount the root file system: this kernel gives ordinary users no overlayfs",
        ));
    }
    Ok(())
}

/// Makes a missing working directory in the root file system or in the volume it falls into (K-300). If that fails, the
/// start fails with a message of its own.
fn make_working_directory(spec: &Value, rootfs: &Path) {
    let Some(cwd) = spec
        .pointer("/process/cwd")
        .and_then(Value::as_str)
        .map(Path::new)
    else {
        return;
    };
    let mut root = rootfs.to_path_buf();
    let mut rest = cwd.to_path_buf();
    let mut longest = 0;
    for mounted in spec
        .get("mounts")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let text = |key: &str| mounted.get(key).and_then(Value::as_str);
        let (Some("bind"), Some(source), Some(destination)) =
            (text("type"), text("source"), text("destination"))
        else {
            continue;
        };
        if let Ok(below) = cwd.strip_prefix(destination) {
            let depth = Path::new(destination).components().count();
            if depth > longest {
                (longest, root, rest) = (depth, PathBuf::from(source), below.to_path_buf());
            }
        }
    }
    let _ = make_directories(&root, &rest, None);
}

/// Binds what a subPath names to `at`, so that no later change of the volume leads the mount elsewhere.
fn bind_sub_path(sub_path: &SubPath, at: &Path) -> Result<(), Failure> {
    let number = sub_path.number;
    let prepare = |error: &dyn std::fmt::Display| {
        Failure::new(format!(
            "failed to prepare subPath for volumeMount {number}: {error}"
        ))
    };
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let volume = nix::fcntl::open(
        &sub_path.volume,
        OFlag::O_PATH | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(|error| prepare(&error))?;
    let found = match openat2(&volume, &sub_path.path, how) {
        Ok(found) => found,
        // As the kubelet does: whoever may write to the volume may write to what is made in it.
        Err(nix::errno::Errno::ENOENT) => nix::sys::stat::fstat(&volume)
            .map_err(io::Error::from)
            .and_then(|status| {
                let mode = Mode::from_bits_truncate(status.st_mode);
                make_directories(&sub_path.volume, &sub_path.path, Some(mode))
            })
            .map_err(|error| {
                Failure::new(format!(
                    "failed to create subPath directory for volumeMount {number}: {error}"
                ))
            })?,
        Err(error) => return Err(prepare(&error)),
    };
    let directory = nix::sys::stat::fstat(&found)
        .map(|status| status.st_mode & nix::libc::S_IFMT == nix::libc::S_IFDIR)
        .map_err(|error| prepare(&error))?;
    let made = match directory {
        true => fs::create_dir_all(at),
        false => at
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(at, "")),
    };
    made.map_err(|error| prepare(&error))?;
    let source = PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd()));
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(&source), at, None::<&str>, flags, None::<&str>).map_err(|error| prepare(&error))
}

/// Makes `path` below `root`, every component resolved inside `root`, with exactly `mode` or the usual one.
pub(super) fn make_directories(
    root: &Path,
    path: &Path,
    mode: Option<Mode>,
) -> io::Result<OwnedFd> {
    let how = |flags| {
        OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS)
    };
    let directory = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let top = nix::fcntl::open(root, directory | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut made = PathBuf::from(".");
    let mut last = openat2(&top, &made, how(directory))?;
    for component in path.components() {
        match component {
            Component::Normal(name) => {
                made.push(name);
                last = match openat2(&top, &made, how(directory)) {
                    Ok(found) => found,
                    Err(nix::errno::Errno::ENOENT) => {
                        let made_here = match mkdirat(&last, name, Mode::from_bits_truncate(0o755))
                        {
                            Ok(()) => true,
                            Err(nix::errno::Errno::EEXIST) => false,
                            Err(error) => return Err(error.into()),
                        };
                        let found = openat2(&top, &made, how(directory))?;
                        if let Some(mode) = mode.filter(|_| made_here) {
                            // By descriptor: a container may have put a link in its place meanwhile.
                            let at = format!("/proc/self/fd/{}", found.as_raw_fd());
                            fs::set_permissions(at, fs::Permissions::from_mode(mode.bits()))?;
                        }
                        found
                    }
                    Err(error) => return Err(error.into()),
                };
            }
            Component::ParentDir => return Err(io::ErrorKind::InvalidInput.into()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_sub_path_makes_is_open_to_whom_the_volume_is() {
        let volume = tempfile::tempdir().unwrap();
        fs::set_permissions(volume.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let mode = |path: &str| {
            fs::metadata(volume.path().join(path))
                .unwrap()
                .permissions()
                .mode()
                & 0o7777
        };
        make_directories(
            volume.path(),
            Path::new("a/b"),
            Some(Mode::from_bits_truncate(0o777)),
        )
        .unwrap();
        assert_eq!((mode("a"), mode("a/b")), (0o777, 0o777));
        fs::set_permissions(volume.path().join("a"), fs::Permissions::from_mode(0o700)).unwrap();
        make_directories(
            volume.path(),
            Path::new("a/c"),
            Some(Mode::from_bits_truncate(0o770)),
        )
        .unwrap();
        assert_eq!((mode("a"), mode("a/c")), (0o700, 0o770));
    }
}
