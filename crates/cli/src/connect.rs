//! Finding an existing cluster: kubeconfig, context and namespace.

use std::path::PathBuf;

use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::arguments::{Access, Target};
use crate::exit::{Exit, Failure};
use crate::throttle::{Limits, Throttle};

/// A cluster and the namespace to work in.
#[derive(Clone)]
pub struct Connection {
    /// Speaks to its API.
    pub client: kube::Client,
    /// Where objects go that name no namespace.
    pub namespace: String,
}

/// Connects to the cluster that the arguments name, or else to the nearest one.
pub async fn connect(target: &Target) -> Result<Connection, Failure> {
    let (config, origin) = configuration(target, None).await?;
    let namespace = target
        .namespace
        .clone()
        .unwrap_or_else(|| config.default_namespace.clone());
    let client = kube::Client::try_from(config)
        .map_err(|error| Failure::new(Exit::Refused, format!("{origin}: {error}")))?;
    Ok(Connection { client, namespace })
}

/// Connects a component that may make `times` as many requests as `access` says; inside of a cluster to that one.
pub async fn connect_component(
    target: &Target,
    access: &Access,
    times: u32,
) -> Result<kube::Client, Failure> {
    let limits = Limits::of(access, times).map_err(|error| Failure::new(Exit::Refused, error))?;
    let outside = target.kubeconfig.is_some() || target.context.is_some();
    let (config, origin) = match kube::Config::incluster() {
        Ok(config) if !outside && !variable_is_set() => (config, "the pod's account".to_owned()),
        _ => configuration(target, Some(access)).await?,
    };
    let refused =
        |error: &dyn std::fmt::Display| Failure::new(Exit::Refused, format!("{origin}: {error}"));
    let client = kube::client::ClientBuilder::try_from(config).map_err(|error| refused(&error))?;
    Ok(client.with_layer(&Throttle::new(limits)).build())
}

/// What the kubeconfig says, and what to call it.
async fn configuration(
    target: &Target,
    access: Option<&Access>,
) -> Result<(kube::Config, String), Failure> {
    let options = KubeConfigOptions {
        context: target.context.clone(),
        cluster: access.and_then(|access| access.cluster.clone()),
        ..KubeConfigOptions::default()
    };
    let (kubeconfig, origin) = read(target)?;
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| {
            Failure::new(Exit::Refused, format!("{origin}: {error}"))
                .hint("check the file, and the names of context and cluster")
        })?;
    if let Some(server) = access.and_then(|access| access.server.as_deref()) {
        config.cluster_url = server.parse().map_err(|error| {
            Failure::new(Exit::Refused, format!("--server {server}: {error}"))
                .hint("it takes a URL, such as https://127.0.0.1:6443")
        })?;
    }
    Ok((config, origin))
}

fn variable_is_set() -> bool {
    std::env::var_os("KUBECONFIG").is_some_and(|value| !value.is_empty())
}

/// The kubeconfig and what to call it.
fn read(target: &Target) -> Result<(Kubeconfig, String), Failure> {
    if let Some(path) = &target.kubeconfig {
        return from_file(path.clone());
    }
    if variable_is_set() {
        return match Kubeconfig::from_env() {
            Ok(Some(kubeconfig)) => Ok((kubeconfig, "$KUBECONFIG".to_owned())),
            Ok(None) => Err(no_cluster()),
            Err(error) => Err(Failure::new(Exit::Refused, format!("$KUBECONFIG: {error}"))),
        };
    }
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config"));
    let local = crate::data_dir::default_dir().join("kubeconfig");
    let candidates = [Some(local), home];
    match candidates.into_iter().flatten().find(|path| path.is_file()) {
        Some(path) => from_file(path),
        None => Err(no_cluster()),
    }
}

fn from_file(path: PathBuf) -> Result<(Kubeconfig, String), Failure> {
    match Kubeconfig::read_from(&path) {
        Ok(kubeconfig) => Ok((kubeconfig, path.display().to_string())),
        Err(error) => Err(
            Failure::new(Exit::Refused, format!("{}: {error}", path.display()))
                .hint("--kubeconfig takes a file that `tektite up` or another cluster wrote"),
        ),
    }
}

fn no_cluster() -> Failure {
    Failure::new(Exit::Failed, "no cluster to talk to")
        .hint("start one with `tektite up`, or name one with --kubeconfig or $KUBECONFIG")
}

/// An API error as a failure.
pub fn api_failure(doing: &str, error: kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => {
            Failure::new(Exit::Failed, format!("{doing}: {}", status.message))
        }
        kube::Error::Service(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            Failure::new(Exit::Failed, format!("{doing}: {text}"))
                .hint("is the cluster running? `tektite status` tells about the local one")
        }
        other => Failure::new(Exit::Failed, format!("{doing}: {other}")),
    }
}
