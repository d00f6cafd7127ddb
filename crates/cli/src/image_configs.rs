//! What images run by themselves, answered from registries and, on one machine, from the local store.

use std::collections::BTreeMap;
use std::path::PathBuf;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tektite_controller::{DockerConfig, ImageConfigs, ImageError, Keychain};
use tektite_engine::decision::{ImageCommand, ImageCommands, ImageRef};
use tektite_oci::{
    Credentials, Image, ImageStore, Lookups, PlatformCommands, PullPolicy, Reference,
};

/// A cluster's controller: registries are asked for manifests and configurations, and nothing is kept but the answers.
pub struct RegistryConfigs {
    lookups: Lookups,
    /// Where this process' own logins may be.
    logins: Vec<PathBuf>,
}

impl RegistryConfigs {
    /// `logins` are the places of Docker configurations, of which the first that exists counts after those of a run.
    pub fn new(logins: Vec<PathBuf>) -> Self {
        Self {
            lookups: Lookups::default(),
            logins,
        }
    }

    /// The run's own logins come before those of this process (T-257).
    async fn ask(
        &self,
        reference: &Reference,
        of_run: Credentials,
    ) -> Result<ImageCommands, ImageError> {
        let credentials = of_run.before(Credentials::of_first_file(&self.logins));
        let found = self.lookups.look_up(reference, &credentials).await;
        let found = found.map_err(|error| ImageError(error.to_string()))?;
        Ok(pinned(reference, &found))
    }
}

async fn credentials(logins: &dyn Keychain) -> Credentials {
    let mut of_run = Credentials::none();
    for config in logins.docker_configs().await {
        let added = match config {
            DockerConfig::Whole(json) => of_run.add_docker_config_json(&json),
            DockerConfig::Auths(json) => of_run.add_docker_cfg(&json),
        };
        if let Err(error) = added {
            tracing::warn!(%error, "a pull secret is no Docker configuration and is left out");
        }
    }
    of_run
}

impl ImageConfigs for RegistryConfigs {
    fn look_up<'a>(
        &'a self,
        image: &'a ImageRef,
        logins: &'a dyn Keychain,
    ) -> BoxFuture<'a, Result<ImageCommands, ImageError>> {
        Box::pin(async move {
            let reference: Reference = image.image.parse().map_err(failed)?;
            if let Some(known) = self.lookups.known(&reference) {
                return Ok(pinned(&reference, &known));
            }
            self.ask(&reference, credentials(logins).await).await
        })
    }
}

/// One machine: a stored image answers, if it is what the pod would run; else the registry is asked, and the image is
/// pulled meanwhile, as it is going to be needed.
pub struct StoreConfigs {
    store: ImageStore,
    registries: RegistryConfigs,
}

impl StoreConfigs {
    /// Over a store, and the registries behind it.
    pub fn new(store: ImageStore, registries: RegistryConfigs) -> Self {
        Self { store, registries }
    }

    /// What the registry says, and how pulling meanwhile went.
    async fn ask_and_pull(
        &self,
        image: &ImageRef,
        reference: &Reference,
        logins: &dyn Keychain,
        policy: PullPolicy,
    ) -> Result<(ImageCommands, Result<(), ImageError>), ImageError> {
        let of_run = credentials(logins).await;
        let pull = pull(
            self.store.clone(),
            image.image.clone(),
            of_run.clone(),
            policy,
        );
        let ask = self.registries.ask(reference, of_run);
        // Whoever cannot be asked will not be pulled from, either.
        futures::future::try_join(ask, pull.map(Ok)).await
    }
}

impl ImageConfigs for StoreConfigs {
    fn look_up<'a>(
        &'a self,
        image: &'a ImageRef,
        logins: &'a dyn Keychain,
    ) -> BoxFuture<'a, Result<ImageCommands, ImageError>> {
        Box::pin(async move {
            let stored = self.store.get(&image.image).map_err(failed)?;
            let asked = &image.image;
            if let Some(found) = &stored
                && self.store.is_local(asked).map_err(failed)?
            {
                return Ok(stored_commands(asked.clone(), found));
            }
            let name = self.store.resolve_name(asked).map_err(failed)?;
            let reference: Reference = name.parse().map_err(failed)?;
            let Some(stored) = stored else {
                let policy = match image.pull_policy.as_str() {
                    "Never" => PullPolicy::Never,
                    _ => PullPolicy::IfNotPresent,
                };
                let asked = self.ask_and_pull(image, &reference, logins, policy);
                let (found, pulled) = asked.await?;
                // The node tries again, and says so of the pod.
                if let Err(error) = pulled {
                    tracing::info!(image = image.image, %error, "not pulled before its pod is there");
                }
                return Ok(found);
            };
            if may_have_moved(&reference, &image.pull_policy) {
                let fresh = self.ask_and_pull(image, &reference, logins, PullPolicy::Always);
                let fresh = fresh.await;
                match fresh.and_then(|(found, pulled)| pulled.map(|()| found)) {
                    Ok(found) => return Ok(found),
                    // Loaded by hand it may be in no registry, and a machine may be offline.
                    Err(error) => {
                        tracing::info!(image = asked, %error, "the stored image is used");
                    }
                }
            }
            let digest = stored.index_digest.as_deref().unwrap_or(&stored.digest);
            let pinned = format!("{}@{digest}", reference.upstream_name());
            Ok(stored_commands(pinned, &stored))
        })
    }
}

/// Whether a pod with that policy would ask the registry though the image is stored.
fn may_have_moved(reference: &Reference, policy: &str) -> bool {
    let always = match policy {
        "" => reference.tag() == Some("latest"),
        policy => policy == "Always",
    };
    always && reference.digest().is_none()
}

fn pull(
    store: ImageStore,
    image: String,
    credentials: Credentials,
    policy: PullPolicy,
) -> BoxFuture<'static, Result<(), ImageError>> {
    Box::pin(async move {
        let pulled = store.pull(&image, &credentials, policy).await;
        pulled.map(drop).map_err(failed)
    })
}

fn failed(error: tektite_oci::Error) -> ImageError {
    ImageError(error.to_string())
}

fn pinned(reference: &Reference, found: &PlatformCommands) -> ImageCommands {
    let commands = found.commands.iter().map(|(platform, command)| {
        let command = ImageCommand {
            entrypoint: command.entrypoint.clone(),
            cmd: command.cmd.clone(),
        };
        (platform.clone(), command)
    });
    ImageCommands {
        pinned: format!("{}@{}", reference.upstream_name(), found.digest),
        platforms: commands.collect(),
    }
}

fn stored_commands(pinned: String, image: &Image) -> ImageCommands {
    let config = &image.config;
    let or = |text: &str, default: &str| {
        if text.is_empty() {
            default.to_owned()
        } else {
            text.to_owned()
        }
    };
    let platform = format!(
        "{}/{}",
        or(&config.os, "linux"),
        or(&config.architecture, go_architecture())
    );
    let command = ImageCommand {
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
    };
    ImageCommands {
        pinned,
        platforms: BTreeMap::from([(platform, command)]),
    }
}

/// This machine's architecture by Go's name, which platforms are written in.
fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_image_will_do_where_its_pod_would_take_it() {
        let digest = format!("r.example/a@sha256:{}", "0".repeat(64));
        for (name, policy, asks) in [
            ("a:1", "", false),
            ("a", "", true),
            ("a:latest", "", true),
            ("a:latest", "IfNotPresent", false),
            ("a:latest", "Never", false),
            ("a:1", "Always", true),
            (&digest, "Always", false),
        ] {
            let reference = name.parse().unwrap();
            assert_eq!(may_have_moved(&reference, policy), asks, "{name} {policy}");
        }
    }
}
