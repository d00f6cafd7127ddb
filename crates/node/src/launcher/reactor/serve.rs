//! From a fresh process to the loop, and what is undone after it.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::{fs, io};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::jobs::unmount;
use super::{Purpose, Reactor, SOCKET};
use crate::launcher::cgroup::Hierarchies;
use crate::launcher::hierarchy;
use crate::launcher::scratch::Scratch;
use crate::launcher::user_namespace::{self, Users};
use crate::volume_files::remove_all;

/// Runs the launcher in `directory`, with the node that started it at the other end of stdin, until it is told to end.
pub(in crate::launcher) fn serve(directory: &Path, purpose: Purpose) -> io::Result<()> {
    let _ = nix::unistd::setsid();
    // SAFETY: ignoring a signal installs no handler that could run.
    unsafe {
        signal(Signal::SIGINT, SigHandler::SigIgn)?;
        signal(Signal::SIGHUP, SigHandler::SigIgn)?;
        // A service manager sends it to all processes at once; the node decides what becomes of containers.
        signal(Signal::SIGTERM, SigHandler::SigIgn)?;
    }
    let first = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    nix::unistd::dup2_stdin(fs::File::open("/dev/null")?)?;
    let directory = directory.canonicalize()?;
    std::env::set_current_dir(&directory)?;
    let _alone = alone()?;
    let _ = fs::remove_file(SOCKET);
    let listener = UnixListener::bind(SOCKET)?;
    let rootless = !nix::unistd::geteuid().is_root();
    let name = directory.to_string_lossy();
    let parent = format!(
        "tektite-{:x}",
        name.bytes()
            .fold(0xcbf2_9ce4u64, |hash, byte| (hash ^ u64::from(byte))
                .wrapping_mul(0x100_0000_01b3))
    );
    let hierarchies = Hierarchies::open(hierarchy::find(!rootless), parent);
    let users = match rootless {
        true => user_namespace::enter()?,
        false => Users::Many,
    };
    let run = directory.join("run");
    let scratch = Scratch::enter(&run, &purpose, rootless)?;
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    listener.set_nonblocking(true)?;
    let mut reactor = Reactor {
        scratch,
        hierarchies,
        rootless,
        users,
        connections: Vec::new(),
        next_connection: 0,
        greetings: Vec::new(),
        workers: HashMap::new(),
        containers: HashMap::new(),
        execs: HashMap::new(),
        sandboxes: HashMap::new(),
        unclaimed: HashMap::new(),
        busy_groups: Vec::new(),
        ending: false,
        bridge: None,
    };
    reactor.accept(first, purpose.bound)?;
    reactor.run(&listener, &signals)?;
    reactor.hierarchies.remove();
    let _ = fs::remove_file(directory.join(SOCKET));
    if purpose.bound {
        // Mount points cannot be removed where they are mounted.
        for sandbox in reactor.sandboxes.values() {
            unmount(&sandbox.tmpfs);
        }
        unmount(&[run]);
        std::env::set_current_dir("/")?;
        for path in &purpose.scrap {
            remove_all(path);
        }
    }
    // The kernel closes them once the process has nothing else left: their end tells the node that the launcher is gone.
    std::mem::forget(reactor.connections);
    Ok(())
}

/// Waits until no other launcher has the working directory: one that is ending would take the next one's socket with it.
/// Workers and containers do not inherit this kind of lock, so that it never outlives the launcher.
fn alone() -> io::Result<fs::File> {
    let file = fs::File::create("launcher.lock")?;
    let whole = nix::libc::flock {
        l_type: nix::libc::F_WRLCK as _,
        l_whence: nix::libc::SEEK_SET as _,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    loop {
        match fcntl(&file, FcntlArg::F_SETLKW(&whole)) {
            Ok(_) => return Ok(file),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
