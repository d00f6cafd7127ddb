//! The built-in controllers: what makes an API and a node a cluster. Watches drive them; nothing polls.

use std::path::PathBuf;

use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::directories::Directories;

mod claims;
mod collector;
mod feed;
mod graph;
mod namespaces;
mod stateful_sets;

/// Starts all of them; each ends with `stop`. When this returns, claims find their default class.
///
/// `volumes` is the directory that claims are provisioned in.
pub async fn start(
    client: kube::Client,
    volumes: PathBuf,
    directories: Directories,
    stop: &CancellationToken,
) -> Vec<JoinHandle<()>> {
    if let Err(error) = claims::storage_class(&client).await {
        tracing::error!(%error, "cannot create the default storage class");
    }
    let (seen, events) = mpsc::unbounded_channel();
    let work: [BoxFuture<'static, ()>; 4] = [
        Box::pin(claims::run(client.clone(), volumes, directories)),
        Box::pin(feed::run(client.clone(), seen)),
        Box::pin(collector::run(client.clone(), events)),
        Box::pin(stateful_sets::run(client)),
    ];
    let spawn = |work: BoxFuture<'static, ()>| {
        let stop = stop.clone();
        tokio::spawn(async move {
            tokio::select! { () = work => {}, () = stop.cancelled() => {} }
        })
    };
    work.into_iter().map(spawn).collect()
}

/// Whether the API answered with this code.
fn is(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

/// Tells of a failure that the next event will make good; what is gone or changed meanwhile is none.
fn tell(what: &str, result: Result<(), kube::Error>) {
    match result {
        Err(error) if !is(&error, 404) && !is(&error, 409) => tracing::warn!(%error, "{what}"),
        _ => {}
    }
}
