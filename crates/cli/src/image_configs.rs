//! What images run by themselves, answered from the local store and, through it, from registries.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use tektite_controller::{ImageConfigs, ImageError, Keychain};
use tektite_engine::decision::{ImageCommand, ImageCommands};
use tektite_oci::{Credentials, Image, ImageStore, PullPolicy, Reference};

/// The controller's view of an image store.
pub struct StoreConfigs(pub ImageStore);

impl ImageConfigs for StoreConfigs {
    fn look_up<'a>(
        &'a self,
        image: &'a str,
        logins: &'a dyn Keychain,
    ) -> BoxFuture<'a, Result<ImageCommands, ImageError>> {
        Box::pin(async move {
            if let Some(found) = self.0.get(image).map_err(failed)? {
                return Ok(commands(image.to_owned(), &found));
            }
            let name = self.0.resolve_name(image).map_err(failed)?;
            let reference: Reference = name.parse().map_err(failed)?;
            let mut credentials = Credentials::none();
            for login in logins.logins(reference.registry()).await {
                credentials.add_basic(reference.registry(), &login.username, &login.password);
            }
            let found = pull(self.0.clone(), image.to_owned(), credentials)
                .await
                .map_err(failed)?;
            let digest = found.index_digest.as_deref().unwrap_or(&found.digest);
            Ok(commands(format!("{}@{digest}", reference.name()), &found))
        })
    }
}

fn pull(
    store: ImageStore,
    image: String,
    credentials: Credentials,
) -> BoxFuture<'static, Result<Image, tektite_oci::Error>> {
    Box::pin(async move {
        store
            .pull(&image, &credentials, PullPolicy::IfNotPresent)
            .await
    })
}

fn failed(error: tektite_oci::Error) -> ImageError {
    ImageError(error.to_string())
}

fn commands(pinned: String, image: &Image) -> ImageCommands {
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
