//! The one door to the kernel: everything this program reads, writes, starts or waits for goes through here.
//!
//! No libc and no `std` lie behind it, so that the program stays small and starts at once; the same code runs in the
//! tests, where `std` is there but not used.

pub(crate) mod clock;
mod error;
pub(crate) mod fs;
pub(crate) mod process;
pub(crate) mod signals;
#[allow(unsafe_code)] // the instruction itself
mod syscall;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub(crate) use error::{Error, Result};
pub(crate) use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

/// The container's streams; open for as long as the program runs.
#[allow(unsafe_code)]
pub(crate) fn stdout() -> BorrowedFd<'static> {
    // SAFETY: nothing here closes the streams that the program was started with.
    unsafe { BorrowedFd::borrow_raw(1) }
}

#[allow(unsafe_code)]
pub(crate) fn stderr() -> BorrowedFd<'static> {
    // SAFETY: as above.
    unsafe { BorrowedFd::borrow_raw(2) }
}

/// Writes all of it.
pub(crate) fn write_all(to: impl AsFd, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&to, bytes))?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// The ends to read from and to write to; neither is passed on to other programs.
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

/// What is there, into the buffer; 0 at the end.
pub(crate) fn read(from: impl AsFd, buffer: &mut [u8]) -> Result<usize> {
    Ok(rustix::io::retry_on_intr(|| {
        rustix::io::read(&from, &mut *buffer)
    })?)
}

/// Blocks until one of them can be read, or for so long; says whether one can be.
pub(crate) fn readable(
    fds: &[BorrowedFd<'_>],
    timeout: Option<core::time::Duration>,
) -> Result<bool> {
    let mut fds: alloc::vec::Vec<_> = fds
        .iter()
        .map(|fd| PollFd::new(fd, PollFlags::IN))
        .collect();
    let timeout = timeout.map(|timeout| Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    });
    match poll(&mut fds, timeout.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
