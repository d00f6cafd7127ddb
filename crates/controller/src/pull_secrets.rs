//! The registry credentials of one run: the pod template's pull secrets, then those of its service account (T-257).

use futures::future::BoxFuture;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use serde::de::DeserializeOwned;
use tektite_engine::decision::ImageRef;

use crate::images::{DockerConfig, Keychain};
use crate::rest::Resource;
use crate::world::World;

/// Reads the secrets when it is asked.
pub(crate) struct PullSecrets<'a> {
    pub(crate) world: &'a World,
    pub(crate) image: &'a ImageRef,
}

impl Keychain for PullSecrets<'_> {
    fn docker_configs(&self) -> BoxFuture<'_, Vec<DockerConfig>> {
        Box::pin(async move {
            let mut configs = Vec::new();
            for name in self.names().await {
                let secret: Option<Secret> = self.read(Resource::SECRETS, &name).await;
                configs.extend(secret.and_then(docker_config));
            }
            configs
        })
    }
}

impl PullSecrets<'_> {
    async fn names(&self) -> Vec<String> {
        let account = &self.image.service_account;
        let account: Option<ServiceAccount> = self.read(Resource::SERVICE_ACCOUNTS, account).await;
        let of_account = account
            .and_then(|account| account.image_pull_secrets)
            .into_iter()
            .flatten()
            .map(|secret| secret.name);
        let of_template = self.image.pull_secrets.iter().cloned();
        of_template.chain(of_account).collect()
    }

    /// What is missing or cannot be read is left out, as the kubelet does.
    async fn read<T: DeserializeOwned>(&self, resource: Resource, name: &str) -> Option<T> {
        let namespace = &self.image.namespace;
        let body = self.world.rest.get(&resource.object(namespace, name)).await;
        let read = body
            .map_err(|error| error.to_string())
            .and_then(|body| serde_json::from_slice(&body).map_err(|error| error.to_string()));
        read.inspect_err(|error| {
            tracing::info!(
                namespace,
                name,
                error,
                kind = resource.plural,
                "looking up an image without it"
            );
        })
        .ok()
    }
}

fn docker_config(secret: Secret) -> Option<DockerConfig> {
    let mut data = secret.data.unwrap_or_default();
    let mut take = |key: &str| data.remove(key).map(|ByteString(bytes)| bytes);
    match secret.type_.as_deref() {
        Some("kubernetes.io/dockerconfigjson") => {
            take(".dockerconfigjson").map(DockerConfig::Whole)
        }
        Some("kubernetes.io/dockercfg") => take(".dockercfg").map(DockerConfig::Auths),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_kinds_of_pull_secret_count_and_no_other() {
        // T-257
        for (kind, key, counts) in [
            ("kubernetes.io/dockerconfigjson", ".dockerconfigjson", true),
            ("kubernetes.io/dockercfg", ".dockercfg", true),
            ("kubernetes.io/dockercfg", ".dockerconfigjson", false),
            ("Opaque", ".dockerconfigjson", false),
        ] {
            // "{}" in base64.
            let secret = json!({"type": kind, "data": {key: "e30="}});
            let found = docker_config(serde_json::from_value(secret).unwrap());
            let content = found.map(|found| match found {
                DockerConfig::Whole(json) | DockerConfig::Auths(json) => json,
            });
            assert_eq!(content, counts.then(|| b"{}".to_vec()), "{kind} {key}");
        }
    }
}
