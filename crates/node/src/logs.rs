//! Logs of containers, as `pods/log` wants them.

use std::io;

use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;

/// Bytes of a log as they come.
pub type LogStream = BoxStream<'static, io::Result<Bytes>>;

/// Which part of a log (K-329).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Stream until the container ends.
    pub follow: bool,
    /// The last ended instance instead of the current one.
    pub previous: bool,
    /// Prefix each line with its RFC 3339 time (nine decimals) and a space.
    pub timestamps: bool,
    /// Only this many lines from the end.
    pub tail_lines: Option<u64>,
    /// Only lines of the last so many seconds.
    pub since_seconds: Option<u64>,
    /// Only lines from this time on.
    pub since_time: Option<Timestamp>,
    /// Stop after this many bytes.
    pub limit_bytes: Option<u64>,
}

/// Why a log cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The container has not started (K-327).
    #[error("container \"{container}\" in pod \"{pod}\" is waiting to start: {reason}")]
    Waiting {
        /// The pod's name.
        pod: String,
        /// The container's name.
        container: String,
        /// Such as `ContainerCreating`.
        reason: String,
    },
    /// `previous` was asked for, and there is no earlier instance.
    #[error("previous terminated container \"{container}\" in pod \"{pod}\" not found")]
    NoPrevious {
        /// The pod's name.
        pod: String,
        /// The container's name.
        container: String,
    },
    /// The node does not know the pod or container (any more).
    #[error("{0}")]
    NotFound(String),
    /// The file cannot be read.
    #[error("{0}")]
    Failed(String),
}
