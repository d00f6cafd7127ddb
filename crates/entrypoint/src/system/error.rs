//! What went wrong with a system call, in Go's words: users know these messages from Tekton.

use alloc::string::String;
use core::fmt;

use rustix::io::Errno;

pub(crate) type Result<T> = core::result::Result<T, Error>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    System(Errno),
    Other(String),
}

impl Error {
    pub(crate) fn other(message: impl Into<String>) -> Error {
        Error::Other(message.into())
    }

    pub(crate) fn is_not_found(&self) -> bool {
        *self == Error::System(Errno::NOENT)
    }

    pub(crate) fn is_already_there(&self) -> bool {
        *self == Error::System(Errno::EXIST)
    }
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Error {
        Error::System(errno)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Other(message) => f.write_str(message),
            Error::System(errno) => match text(*errno) {
                Some(text) => f.write_str(text),
                None => write!(f, "errno {}", errno.raw_os_error()),
            },
        }
    }
}

/// The errors that files, pipes and processes meet.
fn text(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::PERM => "operation not permitted",
        Errno::NOENT => "no such file or directory",
        Errno::SRCH => "no such process",
        Errno::INTR => "interrupted system call",
        Errno::IO => "input/output error",
        Errno::NXIO => "no such device or address",
        Errno::TOOBIG => "argument list too long",
        Errno::NOEXEC => "exec format error",
        Errno::BADF => "bad file descriptor",
        Errno::CHILD => "no child processes",
        Errno::AGAIN => "resource temporarily unavailable",
        Errno::NOMEM => "cannot allocate memory",
        Errno::ACCESS => "permission denied",
        Errno::FAULT => "bad address",
        Errno::BUSY => "device or resource busy",
        Errno::EXIST => "file exists",
        Errno::XDEV => "invalid cross-device link",
        Errno::NODEV => "no such device",
        Errno::NOTDIR => "not a directory",
        Errno::ISDIR => "is a directory",
        Errno::INVAL => "invalid argument",
        Errno::NFILE => "too many open files in system",
        Errno::MFILE => "too many open files",
        Errno::TXTBSY => "text file busy",
        Errno::FBIG => "file too large",
        Errno::NOSPC => "no space left on device",
        Errno::ROFS => "read-only file system",
        Errno::MLINK => "too many links",
        Errno::PIPE => "broken pipe",
        Errno::NAMETOOLONG => "file name too long",
        Errno::NOSYS => "function not implemented",
        Errno::LOOP => "too many levels of symbolic links",
        Errno::OVERFLOW => "value too large for defined data type",
        Errno::USERS => "too many users",
        Errno::OPNOTSUPP => "operation not supported",
        Errno::DQUOT => "disk quota exceeded",
        Errno::STALE => "stale file handle",
        Errno::LIBBAD => "accessing a corrupted shared library",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn errors_speak_as_go_does() {
        assert_eq!(
            Error::from(Errno::NOENT).to_string(),
            "no such file or directory"
        );
        assert_eq!(Error::from(Errno::NOEXEC).to_string(), "exec format error");
        assert_eq!(Error::from(Errno::XFULL).to_string(), "errno 54");
        assert_eq!(Error::other("x").to_string(), "x");
    }
}
