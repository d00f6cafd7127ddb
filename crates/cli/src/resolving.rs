//! How the resolvers are started: what the environment says about getting out, and which requests are theirs.

use std::sync::Arc;

use tektite_api::names::RESOLVERS_NAMESPACE;
use tektite_controller::{Election, LeaderElection};
use tektite_resolvers::{AddressPolicy, Proxies, ResolverOptions, Resolvers, Share};
use tokio_util::sync::CancellationToken;

/// Options from the environment, in the variables that Tekton's resolvers and other programs read.
pub fn resolver_options(addresses: AddressPolicy, namespace: Option<String>) -> ResolverOptions {
    let mut options = ResolverOptions {
        namespace,
        proxies: Proxies {
            http: read("http_proxy").or_else(|| read("HTTP_PROXY")),
            https: read("https_proxy").or_else(|| read("HTTPS_PROXY")),
            except: read("no_proxy")
                .or_else(|| read("NO_PROXY"))
                .unwrap_or_default(),
        },
        ..ResolverOptions::new(addresses)
    };
    options.hubs.tekton = read("TEKTON_HUB_API");
    if let Some(hub) = read("ARTIFACT_HUB_API") {
        options.hubs.artifact = hub;
    }
    if let Some(map) = read("RESOLVER_CACHE_CONFIG_MAP_NAME") {
        options.cache_config_map = map;
    }
    options
}

/// The component that the resolvers' Leases are of (P-392), and the ConfigMap of their election.
const COMPONENT: &str = "controller";
const CONFIG_MAP: &str = "config-leader-election-resolvers";

/// Answers requests until `stop`: those that fall to this process in the election, or all, without one.
pub async fn answer_requests(
    client: kube::Client,
    mut options: ResolverOptions,
    election: Option<LeaderElection>,
    stop: CancellationToken,
) {
    let Some(election) = election else {
        return Resolvers::run(client, options, stop).await;
    };
    let election = LeaderElection {
        config_map: CONFIG_MAP.into(),
        ..election
    };
    let withdraw = CancellationToken::new();
    let queues = Resolvers::queues();
    let standing = Election::stand(
        client.clone(),
        COMPONENT,
        &queues,
        RESOLVERS_NAMESPACE,
        &election,
        &withdraw,
    );
    let elected = tokio::select! {
        () = stop.cancelled() => return,
        elected = standing => elected,
    };
    options.share = Some(Share {
        leads: Arc::new(elected.leads()),
        changes: elected.changes(),
    });
    Resolvers::run(client, options, stop).await;
    // Only now, as nothing is answered any more, may another take over.
    withdraw.cancel();
    elected.given_up().await;
}

fn read(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
