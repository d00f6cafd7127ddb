//! The image store as the node asks for it.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tektite_node::{
    ImageConfig, ImageError, ImageRequest, Images, PullPolicy, ResolvedImage, RootFilesystem,
};
use tektite_oci::{Credentials, Error, Image, ImageStore};

/// The local store, pulling what it does not have.
pub struct StoreImages(pub ImageStore);

impl Images for StoreImages {
    fn resolve(&self, request: ImageRequest) -> BoxFuture<'_, Result<ResolvedImage, ImageError>> {
        async move {
            let mut credentials = Credentials::none();
            for secret in &request.pull_secrets {
                // A secret is of one form or the other; what is neither is as if it were missing (K-324).
                if credentials.add_docker_config_json(secret).is_err() {
                    let _ = credentials.add_docker_cfg(secret);
                }
            }
            let policy = match request.policy {
                PullPolicy::Always => tektite_oci::PullPolicy::Always,
                PullPolicy::IfNotPresent => tektite_oci::PullPolicy::IfNotPresent,
                PullPolicy::Never => tektite_oci::PullPolicy::Never,
            };
            let image = self.0.pull(&request.reference, &credentials, policy).await;
            image.map(resolved).map_err(refusal)
        }
        .boxed()
    }
}

fn resolved(image: Image) -> ResolvedImage {
    let config = image.config.clone();
    ResolvedImage {
        id: image.id(),
        root: if image.is_host() {
            RootFilesystem::Host
        } else {
            RootFilesystem::Layers(image.layers.clone())
        },
        config: ImageConfig {
            entrypoint: config.entrypoint,
            cmd: config.cmd,
            env: config.env,
            user: config.user,
            working_dir: config.working_dir,
            stop_signal: config.stop_signal,
        },
        hold: Some(std::sync::Arc::new(image)),
    }
}

fn refusal(error: Error) -> ImageError {
    match error {
        Error::NeverPull { .. } => ImageError::NeverPull(error.to_string()),
        Error::InvalidReference { .. } => ImageError::InvalidName(error.to_string()),
        other => ImageError::Pull(other.to_string()),
    }
}
