//! Lines of the entrypoint's own among the step's output, with Go's time stamp.

use alloc::format;

use crate::clock;
use crate::system::{stderr, write_all};

/// Writes one line to standard error.
pub(crate) fn log(message: &str) {
    line(&format!("{} {message}", clock::log_stamp()));
}

/// Writes one line without a stamp.
pub(crate) fn line(message: &str) {
    // Where nobody listens there is nothing else to do.
    let _ = write_all(stderr(), format!("{message}\n").as_bytes());
}
