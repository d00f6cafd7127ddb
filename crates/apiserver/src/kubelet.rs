//! What the server asks of whoever runs the pods: the `pods/log` subresource and, later, exec and attach.

use std::io;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

/// The node's side of `pods/log`. Install one with [`crate::ApiServer::set_kubelet`].
pub trait Kubelet: Send + Sync {
    /// The log of one container of a pod that is bound to this kubelet's node.
    ///
    /// With `follow` the stream ends when that container instance ends (K-328).
    fn logs<'a>(
        &'a self,
        namespace: &'a str,
        pod: &'a str,
        pod_uid: &'a str,
        container: &'a str,
        options: LogOptions,
    ) -> BoxFuture<'a, Result<BoxStream<'static, io::Result<Bytes>>, LogError>>;
}

/// The checked query parameters of a log request (K-329).
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
    pub since_time: Option<jiff::Timestamp>,
    /// Stop after this many bytes.
    pub limit_bytes: Option<u64>,
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The container has not started; `reason` is its waiting reason, such as `ContainerCreating` (K-327).
    #[error("container \"{container}\" in pod \"{pod}\" is waiting to start: {reason}")]
    Waiting {
        /// The pod's name.
        pod: String,
        /// The container's name.
        container: String,
        /// The waiting reason.
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
    /// Anything else: answered as an internal error.
    #[error("{0}")]
    Failed(String),
}
