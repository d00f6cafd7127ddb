//! How the resolvers are started: what the environment says about getting out.

use tektite_resolvers::{AddressPolicy, Proxies, ResolverOptions};

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

fn read(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
