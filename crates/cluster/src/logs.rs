//! The node as the API server asks it for logs.

use std::io;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tektite_apiserver::{Kubelet, LogError, LogOptions};
use tektite_node::Node;

/// Answers `pods/log` from the files of the node in this process.
pub struct NodeLogs(pub Node);

impl Kubelet for NodeLogs {
    fn logs<'a>(
        &'a self,
        _namespace: &'a str,
        _pod: &'a str,
        pod_uid: &'a str,
        container: &'a str,
        options: LogOptions,
    ) -> BoxFuture<'a, Result<BoxStream<'static, io::Result<Bytes>>, LogError>> {
        Box::pin(async move {
            let options = tektite_node::LogOptions {
                follow: options.follow,
                previous: options.previous,
                timestamps: options.timestamps,
                tail_lines: options.tail_lines,
                since_seconds: options.since_seconds,
                since_time: options.since_time,
                limit_bytes: options.limit_bytes,
            };
            match self.0.logs(pod_uid, container, options).await {
                Ok(stream) => Ok(stream.boxed()),
                Err(error) => Err(translate(error)),
            }
        })
    }
}

fn translate(error: tektite_node::LogError) -> LogError {
    use tektite_node::LogError as Node;
    match error {
        Node::Waiting {
            pod,
            container,
            reason,
        } => LogError::Waiting {
            pod,
            container,
            reason,
        },
        Node::NoPrevious { pod, container } => LogError::NoPrevious { pod, container },
        Node::NotFound(message) => LogError::NotFound(message),
        Node::Failed(message) => LogError::Failed(message),
    }
}
