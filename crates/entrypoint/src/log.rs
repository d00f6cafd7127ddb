//! Lines of the entrypoint's own among the step's output, with Go's time stamp.

use crate::clock;

/// Writes one line to standard error.
pub(crate) fn log(message: &str) {
    use std::io::Write as _;
    // Where nobody listens there is nothing else to do.
    let _ = writeln!(std::io::stderr(), "{} {message}", clock::log_stamp());
}
