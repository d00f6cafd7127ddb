//! Other programs: started beside this one or in its place.
#![allow(unsafe_code)] // fork and exec; each use states its invariant

use alloc::collections::BTreeMap;
use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::c_char;
use core::ptr;

use linux_raw_sys::general::{
    __NR_clone, __NR_execve, __NR_exit_group, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID,
    CLONE_NEWUSER, SIGCHLD,
};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, setpgid, waitpid};

use super::syscall::call;
use super::{Error, Result, pipe, read, signals, write_all};
use crate::path::Path;

pub(crate) use rustix::process::Signal;

/// Variables and their values, in the order in which they came.
pub(crate) type Environment = Vec<(Vec<u8>, Vec<u8>)>;

/// The value of a variable.
pub(crate) fn variable<'a>(environment: &'a [(Vec<u8>, Vec<u8>)], name: &str) -> Option<&'a [u8]> {
    environment
        .iter()
        .find(|(key, _)| key == name.as_bytes())
        .map(|(_, value)| &value[..])
}

/// Ends this program.
pub(crate) fn exit(code: i32) -> ! {
    loop {
        // SAFETY: takes a number only; nothing runs after it.
        let _ = unsafe { call(__NR_exit_group, [code as usize, 0, 0, 0, 0]) };
    }
}

pub(crate) fn id() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// Mounts, processes, network and users of the program's own.
pub(crate) const ALL_NAMESPACES: u32 = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWUSER;

/// A program to run, ready for the kernel: after a fork nothing need be allocated.
#[derive(Debug)]
pub(crate) struct Command {
    program: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    /// Takes the place of the stream of this number.
    pub(crate) streams: Vec<(OwnedFd, i32)>,
}

impl Command {
    /// The first of `command` is what the program sees as its own name.
    pub(crate) fn new(
        program: &Path,
        command: &[Vec<u8>],
        environment: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<Command> {
        // A zero byte cannot be passed on.
        let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| Error::from(Errno::INVAL));
        // The last of several of a name counts.
        let unique: BTreeMap<&[u8], &[u8]> = environment
            .iter()
            .map(|(key, value)| (&key[..], &value[..]))
            .collect();
        Ok(Command {
            program: text(program.as_bytes())?,
            arguments: command
                .iter()
                .map(|argument| text(argument))
                .collect::<Result<_>>()?,
            environment: unique
                .into_iter()
                .map(|(key, value)| text(&[key, b"=", value].concat()))
                .collect::<Result<_>>()?,
            streams: Vec::new(),
        })
    }

    /// Becomes the program; returns only if that fails.
    pub(crate) fn replace_this(&self) -> Error {
        let pointers = |texts: &[CString]| -> Vec<*const c_char> {
            texts
                .iter()
                .map(|text| text.as_ptr())
                .chain([ptr::null()])
                .collect()
        };
        let (arguments, environment) = (pointers(&self.arguments), pointers(&self.environment));
        if let Err(error) = signals::ignore_broken_pipes(false) {
            return error;
        }
        // SAFETY: a terminated text and two terminated lists of such, all of which outlive the call.
        let result = unsafe {
            call(
                __NR_execve,
                [
                    self.program.as_ptr() as usize,
                    arguments.as_ptr() as usize,
                    environment.as_ptr() as usize,
                    0,
                    0,
                ],
            )
        };
        match result {
            Ok(_) => Error::other("the program was not started"),
            Err(error) => error.into(),
        }
    }

    /// Starts the program in a process group of its own, in new namespaces of the given kinds (0 for none). It waits
    /// until `prepare` is through, which is given its process.
    pub(crate) fn spawn(
        self,
        namespaces: u32,
        prepare: impl FnOnce(Pid) -> Result<()>,
    ) -> Result<Pid> {
        let (failed_read, failed_write) = pipe()?;
        // Only where there is something to wait for.
        let gate = match namespaces {
            0 => None,
            _ => Some(pipe()?),
        };
        // SAFETY: without CLONE_VM and with no stack given this is a fork; this process has one thread, so the child
        // may go on with ordinary code.
        let pid = unsafe { call(__NR_clone, [(namespaces | SIGCHLD) as usize, 0, 0, 0, 0])? };
        let Some(pid) = Pid::from_raw(pid as i32) else {
            let error = self.child(gate);
            let code = match error {
                Error::System(errno) => errno.raw_os_error(),
                Error::Other(_) => Errno::IO.raw_os_error(),
            };
            // The parent may be gone; then nobody asks.
            let _ = write_all(&failed_write, &code.to_ne_bytes());
            exit(127);
        };
        drop(failed_write);
        let prepared = match gate {
            None => prepare(pid),
            Some((go_read, go_write)) => {
                drop(go_read);
                prepare(pid).and_then(|()| write_all(&go_write, b"g"))
            }
        };
        let mut code = [0u8; 4];
        // Ends without a byte when the program was started.
        let failure = match read(&failed_read, &mut code)? {
            4 => Err(Errno::from_raw_os_error(i32::from_ne_bytes(code)).into()),
            _ => Ok(()),
        };
        if failure.is_err() {
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
        prepared.and(failure).map(|()| pid)
    }

    /// Runs in the child; returns only if the program cannot be started.
    fn child(&self, gate: Option<(OwnedFd, OwnedFd)>) -> Error {
        let begin = || -> Result<()> {
            if let Some((go_read, go_write)) = gate {
                drop(go_write);
                if read(&go_read, &mut [0u8; 1])? != 1 {
                    // The parent could not prepare and closed its end.
                    return Err(Errno::PERM.into());
                }
            }
            setpgid(None, None)?;
            for (fd, stream) in &self.streams {
                replace_stream(fd, *stream)?;
            }
            signals::block_none()
        };
        match begin() {
            Ok(()) => self.replace_this(),
            Err(error) => error,
        }
    }
}

fn replace_stream(fd: &OwnedFd, stream: i32) -> Result<()> {
    if fd.as_raw_fd() == stream {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
    } else if stream == 1 {
        rustix::stdio::dup2_stdout(fd)?;
    } else {
        rustix::stdio::dup2_stderr(fd)?;
    }
    Ok(())
}
