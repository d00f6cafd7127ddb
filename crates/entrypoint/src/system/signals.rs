//! Signals as readable events instead of interruptions.
#![allow(unsafe_code)] // masks and descriptors; each use states its invariant

use core::ptr;

use linux_raw_sys::general::{
    __NR_kill, __NR_rt_sigaction, __NR_rt_sigprocmask, __NR_signalfd4, SIG_SETMASK,
};
use rustix::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::process::{Pid, Signal};

use super::Result;
use super::syscall::call;

/// The kernel's set: bit n for signal n + 1.
type Mask = u64;

/// Signals as readable events. Dropping it lets them interrupt again.
#[derive(Debug)]
pub(crate) struct Signals {
    fd: OwnedFd,
    before: Mask,
}

impl Signals {
    pub(crate) fn block() -> Result<Signals> {
        // Faults of this program itself must still end it.
        let mask = [
            Signal::SEGV,
            Signal::BUS,
            Signal::FPE,
            Signal::ILL,
            Signal::ABORT,
        ]
        .into_iter()
        .fold(Mask::MAX, |mask, signal| {
            mask & !(1 << (signal.as_raw() - 1))
        });
        let before = set_mask(mask)?;
        let flags = OFlags::CLOEXEC | OFlags::NONBLOCK;
        // SAFETY: the kernel reads the mask, which outlives the call.
        let fd = unsafe {
            call(
                __NR_signalfd4,
                [
                    usize::MAX,
                    &raw const mask as usize,
                    size_of::<Mask>(),
                    flags.bits() as usize,
                    0,
                ],
            )
        };
        let fd = match fd {
            // SAFETY: the descriptor was just made and belongs to nobody else.
            Ok(fd) => unsafe { OwnedFd::from_raw_fd(fd as i32) },
            Err(error) => {
                set_mask(before)?;
                return Err(error.into());
            }
        };
        Ok(Signals { fd, before })
    }

    /// The next signal that has arrived, if any.
    pub(crate) fn next(&self) -> Option<i32> {
        // The kernel's structure has this size, and the number comes first.
        let mut info = [0u8; 128];
        let read = rustix::io::read(&self.fd, &mut info).ok()?;
        let number = info[..read].first_chunk::<4>()?;
        i32::try_from(u32::from_ne_bytes(*number)).ok()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // Setting a mask that was in force cannot fail.
        let _ = set_mask(self.before);
    }
}

fn set_mask(mask: Mask) -> Result<Mask> {
    let mut before: Mask = 0;
    // SAFETY: the kernel reads one mask and writes the other; both outlive the call.
    unsafe {
        call(
            __NR_rt_sigprocmask,
            [
                SIG_SETMASK as usize,
                &raw const mask as usize,
                &raw mut before as usize,
                size_of::<Mask>(),
                0,
            ],
        )?;
    }
    Ok(before)
}

/// Nothing is blocked: for a program about to be started.
pub(super) fn block_none() -> Result<()> {
    set_mask(0).map(drop)
}

/// A closed pipe shall be an error of the write, here, but end other programs as usual.
pub(crate) fn ignore_broken_pipes(ignore: bool) -> Result<()> {
    /// The kernel's structure, the same on every platform that we know but for fields that are zero here.
    #[repr(C)]
    struct Action {
        handler: usize,
        flags: usize,
        restorer: usize,
        mask: Mask,
    }
    let action = Action {
        handler: usize::from(ignore),
        flags: 0,
        restorer: 0,
        mask: 0,
    };
    // SAFETY: the kernel reads the action, which outlives the call; ignoring (1) and the default (0) run no code.
    unsafe {
        call(
            __NR_rt_sigaction,
            [
                Signal::PIPE.as_raw() as usize,
                &raw const action as usize,
                ptr::null::<Action>() as usize,
                size_of::<Mask>(),
                0,
            ],
        )?;
    }
    Ok(())
}

/// Sends any signal, with a name or without, to a process group.
pub(crate) fn send_to_group(group: Pid, signal: i32) -> Result<()> {
    let group = -(group.as_raw_nonzero().get() as isize);
    // SAFETY: kill takes numbers only.
    unsafe { call(__NR_kill, [group as usize, signal as usize, 0, 0, 0])? };
    Ok(())
}
