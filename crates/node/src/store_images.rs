//! The local image store as the node's source of images.

use std::sync::Arc;

use futures::future::BoxFuture;
use tektite_oci::{Credentials, Error, Image, ImageStore};

use crate::images::{
    ImageConfig, ImageError, ImageRequest, Images, PullPolicy, ResolvedImage, RootFilesystem,
};

impl Images for ImageStore {
    fn resolve(&self, request: ImageRequest) -> BoxFuture<'_, Result<ResolvedImage, ImageError>> {
        Box::pin(async move {
            let present = self.get(&request.reference).map_err(failure)?;
            match (present, request.policy) {
                (Some(image), PullPolicy::IfNotPresent | PullPolicy::Never) => {
                    return Ok(resolved(image));
                }
                // Nothing to ask a registry about: the machine itself.
                (Some(image), PullPolicy::Always) if image.is_host() => return Ok(resolved(image)),
                _ => {}
            }
            let mut credentials = Credentials::none();
            for secret in &request.pull_secrets {
                // Both formats are JSON objects; only one of them has `auths`. What cannot be read is ignored (K-324).
                let text = String::from_utf8_lossy(secret);
                let _ = if text.contains("\"auths\"") {
                    credentials.add_docker_config_json(secret)
                } else {
                    credentials.add_docker_cfg(secret)
                };
            }
            let policy = match request.policy {
                PullPolicy::Always => tektite_oci::PullPolicy::Always,
                PullPolicy::IfNotPresent => tektite_oci::PullPolicy::IfNotPresent,
                PullPolicy::Never => tektite_oci::PullPolicy::Never,
            };
            match self.pull(&request.reference, &credentials, policy).await {
                Ok(image) => Ok(resolved(image)),
                Err(error) => match self.get(&request.reference) {
                    // An image loaded by hand may be in no registry, and a machine may be offline.
                    Ok(Some(image)) => Ok(resolved(image)),
                    _ => Err(failure(error)),
                },
            }
        })
    }
}

fn resolved(image: Image) -> ResolvedImage {
    let config = &image.config;
    ResolvedImage {
        id: image.id(),
        root: if image.is_host() {
            RootFilesystem::Host
        } else {
            RootFilesystem::Layers(image.layers.clone())
        },
        config: ImageConfig {
            entrypoint: config.entrypoint.clone(),
            cmd: config.cmd.clone(),
            env: config.env.clone(),
            user: config.user.clone(),
            working_dir: config.working_dir.clone(),
            stop_signal: config.stop_signal.clone(),
        },
        hold: Some(Arc::new(image)),
    }
}

fn failure(error: Error) -> ImageError {
    match error {
        Error::InvalidReference { .. } => ImageError::InvalidName(error.to_string()),
        Error::NeverPull { .. } => ImageError::NeverPull(error.to_string()),
        other => ImageError::Pull(other.to_string()),
    }
}
