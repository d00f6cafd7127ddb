//! Hermetic steps: the child starts without a network, in namespaces of its own (T-291).

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::pipe::{PipeFlags, pipe_with};

use crate::supervise::Signals;

/// An absent argument of a system call.
const NONE: libc::c_long = 0;

/// Whether the environment asks for it.
pub(crate) fn wanted(environment: &[(OsString, OsString)]) -> bool {
    let get = |name: &str| {
        environment
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    };
    get("TEKTON_HERMETIC").is_some_and(|value| value == "1")
        && get("TEKTON_RESOURCE_NAME").is_none_or(|value| value.is_empty())
}

/// Starts the command in new mount, process, network and user namespaces in which every user and group is itself.
/// `_signals` shows that signals are blocked; the child unblocks them.
pub(crate) fn spawn(command: &mut Command, _signals: &Signals) -> io::Result<u32> {
    let (go_read, go_write) = pipe_with(PipeFlags::CLOEXEC)?;
    let (failed_read, failed_write) = pipe_with(PipeFlags::CLOEXEC)?;
    let flags = libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWUSER
        | libc::SIGCHLD;
    // SAFETY: without CLONE_VM and with no stack given this is a fork; this process has one thread, so the child may
    // go on with ordinary code.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone,
            libc::c_long::from(flags),
            NONE,
            NONE,
            NONE,
            NONE,
        )
    };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if pid == 0 {
        drop(go_write);
        let error = child(command, fs::File::from(go_read));
        let code = error.raw_os_error().unwrap_or(libc::EIO);
        // The parent may be gone; then nobody asks.
        let _ = fs::File::from(failed_write).write_all(&code.to_ne_bytes());
        // SAFETY: ends the forked child without running what the parent registered.
        unsafe { libc::_exit(127) };
    }
    drop((go_read, failed_write));
    let mapped = map(pid).and_then(|()| fs::File::from(go_write).write_all(b"g"));
    let mut code = [0u8; 4];
    // Ends without a byte when the program was started.
    let failure = match fs::File::from(failed_read).read_exact(&mut code) {
        Ok(()) => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(code))),
        Err(_) => Ok(()),
    };
    mapped.and(failure).map(|()| pid as u32)
}

fn map(pid: libc::c_long) -> io::Result<()> {
    fs::write(format!("/proc/{pid}/setgroups"), "allow")?;
    for kind in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{pid}/{kind}"), format!("0 0 {}\n", u32::MAX))?;
    }
    Ok(())
}

/// Runs in the child; returns only if the program cannot be started.
fn child(command: &mut Command, mut go: fs::File) -> io::Error {
    let mut byte = [0u8; 1];
    match go.read(&mut byte) {
        Ok(1) => {}
        // The parent could not map identifiers and closed its end.
        _ => return io::Error::from_raw_os_error(libc::EPERM),
    }
    command.exec()
}
