//! Looking up what an image runs by itself: the seam to registries and local stores (T-257 to T-263).

use futures::future::BoxFuture;
use tektite_engine::decision::{ImageCommands, ImageRef};

/// Where the configurations of images come from. Whoever implements it remembers what it knows of digests (T-262).
pub trait ImageConfigs: Send + Sync {
    /// The commands of `image` for each platform it offers, and its pinned form.
    ///
    /// `logins` is asked only if a registry is: reading secrets costs API requests.
    fn look_up<'a>(
        &'a self,
        image: &'a ImageRef,
        logins: &'a dyn Keychain,
    ) -> BoxFuture<'a, Result<ImageCommands, ImageError>>;
}

/// Credentials for registries, read from the secrets of one run.
pub trait Keychain: Send + Sync {
    /// The contents of the pull secrets that can be read, in the order in which they count.
    fn docker_configs(&self) -> BoxFuture<'_, Vec<DockerConfig>>;
}

/// What a pull secret holds, as JSON in its two forms.
#[derive(Clone, PartialEq, Eq)]
pub enum DockerConfig {
    /// `.dockerconfigjson`: a whole configuration, with `auths`.
    Whole(Vec<u8>),
    /// `.dockercfg`: the content of `auths` alone.
    Auths(Vec<u8>),
}

/// Why an image's configuration cannot be had; becomes part of the run's message (T-263).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ImageError(pub String);

/// Knows no image: every lookup fails. For controllers whose steps all name a command.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NoImages;

impl ImageConfigs for NoImages {
    fn look_up<'a>(
        &'a self,
        image: &'a ImageRef,
        _: &'a dyn Keychain,
    ) -> BoxFuture<'a, Result<ImageCommands, ImageError>> {
        Box::pin(async move {
            Err(ImageError(format!(
                "no registry is configured to look up image {:?}",
                image.image
            )))
        })
    }
}
