//! The built-in controllers: what makes an API and a node a cluster.

use std::path::PathBuf;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

mod claims;
mod garbage;

/// Starts all of them; each ends with `stop`.
///
/// `volumes` is the directory that claims are provisioned in.
pub fn start(
    client: kube::Client,
    volumes: PathBuf,
    stop: &CancellationToken,
) -> Vec<JoinHandle<()>> {
    let claims = claims::run(client.clone(), volumes);
    let garbage = garbage::run(client);
    let spawn = |work: futures::future::BoxFuture<'static, ()>| {
        let stop = stop.clone();
        tokio::spawn(async move {
            tokio::select! { () = work => {}, () = stop.cancelled() => {} }
        })
    };
    vec![spawn(Box::pin(claims)), spawn(Box::pin(garbage))]
}
