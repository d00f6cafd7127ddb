//! Looking up what an image runs by itself: the seam to registries and local stores (T-257 to T-263).

use futures::future::BoxFuture;
use tektite_engine::decision::ImageCommands;

/// Where the configurations of images come from. The caller caches what is pinned by digest (T-262); an implementation
/// may always look.
pub trait ImageConfigs: Send + Sync {
    /// The commands of `image` for each platform it offers, and its pinned form.
    ///
    /// `logins` is asked only if the registry wants credentials, as reading them costs API requests.
    fn look_up<'a>(
        &'a self,
        image: &'a str,
        logins: &'a dyn Keychain,
    ) -> BoxFuture<'a, Result<ImageCommands, ImageError>>;
}

/// Credentials for registries, read from the secrets of one run.
pub trait Keychain: Send + Sync {
    /// The logins to try at `registry` (host and port, as in image references; `index.docker.io` for Docker Hub), the
    /// most specific first. None means anonymous.
    fn logins<'a>(&'a self, registry: &'a str) -> BoxFuture<'a, Vec<RegistryLogin>>;
}

/// A user and what proves it.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryLogin {
    /// The user's name.
    pub username: String,
    /// The password or token.
    pub password: String,
}

impl std::fmt::Debug for RegistryLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryLogin")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
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
        image: &'a str,
        _: &'a dyn Keychain,
    ) -> BoxFuture<'a, Result<ImageCommands, ImageError>> {
        Box::pin(async move {
            Err(ImageError(format!(
                "no registry is configured to look up image {image:?}"
            )))
        })
    }
}
