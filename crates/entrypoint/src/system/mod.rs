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

/// Two ends for much output: holds `size` bytes if the kernel allows it, and reading from it does not wait.
pub(crate) fn wide_pipe(size: usize) -> Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe()?;
    let _ = rustix::pipe::fcntl_setpipe_size(&read, size);
    rustix::fs::fcntl_setfl(&read, rustix::fs::OFlags::NONBLOCK)?;
    Ok((read, write))
}

/// Another descriptor of the same open file, not passed on to other programs.
pub(crate) fn duplicate(fd: &OwnedFd) -> Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3)?)
}

/// Whether a read or write failed because it would have had to wait.
pub(crate) fn is_would_block(error: &Error) -> bool {
    *error == Error::System(rustix::io::Errno::AGAIN)
}

/// Writes what can be written without waiting; returns how much that was. Regular files take everything.
pub(crate) fn write_some(to: BorrowedFd<'_>, bytes: &[u8], regular: bool) -> Result<usize> {
    /// A pipe that has room at all has room for this.
    const SURE: usize = 4096;
    if !regular && !wait_ready(&[], &[to], Some(core::time::Duration::ZERO))? {
        return Ok(0);
    }
    let bytes = if regular {
        bytes
    } else {
        &bytes[..bytes.len().min(SURE)]
    };
    match rustix::io::retry_on_intr(|| rustix::io::write(to, bytes)) {
        Err(rustix::io::Errno::AGAIN) => Ok(0),
        written => Ok(written?),
    }
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
    wait_ready(fds, &[], timeout)
}

/// Blocks until one of the first can be read or one of the second written to, or for so long; says whether one can be.
pub(crate) fn wait_ready(
    to_read: &[BorrowedFd<'_>],
    to_write: &[BorrowedFd<'_>],
    timeout: Option<core::time::Duration>,
) -> Result<bool> {
    let reading = to_read.iter().map(|fd| PollFd::new(fd, PollFlags::IN));
    let writing = to_write.iter().map(|fd| PollFd::new(fd, PollFlags::OUT));
    let mut fds: alloc::vec::Vec<_> = reading.chain(writing).collect();
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
