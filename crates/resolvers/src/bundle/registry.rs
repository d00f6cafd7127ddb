//! Reading a manifest and a blob from a registry, over the resolvers' guarded client: the registry, where it sends us and
//! where it says that tokens are to be had are all named by others.

use reqwest::Method;
use serde_json::Value;
use tektite_oci::{Credentials, Fetched, Get, RawManifest, ReadError, Reference, Transport};

use crate::fetch::{FetchError, Fetcher};
use crate::framework::ResolveError;

/// The longest layer as it is sent.
const LAYER: u64 = 8 * 1024 * 1024;

const ACCEPTED: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

impl Transport for Fetcher {
    type Error = FetchError;

    async fn get(&self, wanted: Get) -> Result<Fetched, FetchError> {
        let call = wanted.with_headers(self.request(Method::GET, &wanted.url)?);
        self.send(call, wanted.limit).await
    }
}

/// Why the registry did not give what was wanted.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) error: ResolveError,
    /// Whether another try may help.
    pub(super) passing: bool,
}

impl From<ReadError<FetchError>> for Refusal {
    fn from(error: ReadError<FetchError>) -> Self {
        let passing = error.is_passing();
        match error {
            ReadError::Transport(error) => Self {
                passing: matches!(error, FetchError::TimedOut(_) | FetchError::Failed(_)),
                error: error.into(),
            },
            ReadError::Refused { text, .. } | ReadError::Invalid(text) => Self {
                error: ResolveError::Failed(text),
                passing,
            },
        }
    }
}

impl Refusal {
    fn last(text: impl Into<String>) -> Self {
        Self {
            error: ResolveError::Failed(text.into()),
            passing: false,
        }
    }
}

/// One repository of a registry, and how we are known there.
pub(super) struct Repository<'a> {
    reference: &'a Reference,
    inner: tektite_oci::Repository<'a, Fetcher>,
}

/// A manifest with its digest.
pub(super) struct Manifest {
    pub(super) digest: String,
    pub(super) content: Value,
}

impl<'a> Repository<'a> {
    pub(super) async fn open(
        fetcher: &'a Fetcher,
        reference: &'a Reference,
        credentials: &Credentials,
    ) -> Result<Self, Refusal> {
        let inner = tektite_oci::Repository::open(fetcher, reference, credentials).await?;
        Ok(Self { reference, inner })
    }

    /// The image's manifest; of an index that for Linux on amd64, as upstream's resolver takes it.
    pub(super) async fn manifest(&self) -> Result<Manifest, Refusal> {
        let wanted = self.reference.digest().or(self.reference.tag());
        let manifest = self.manifest_at(wanted.unwrap_or("latest")).await?;
        let Some(children) = manifest.content["manifests"].as_array() else {
            return Ok(manifest);
        };
        let fits = |child: &&Value| {
            child["platform"]["os"] == "linux" && child["platform"]["architecture"] == "amd64"
        };
        let child = children
            .iter()
            .find(fits)
            .and_then(|child| child["digest"].as_str())
            .ok_or_else(|| {
                Refusal::last("no child with platform linux/amd64 in index".to_owned())
            })?;
        self.manifest_at(child).await
    }

    async fn manifest_at(&self, reference: &str) -> Result<Manifest, Refusal> {
        let RawManifest {
            digest, content, ..
        } = self.inner.manifest(reference, &ACCEPTED).await?;
        let content = serde_json::from_slice(&content)
            .map_err(|error| Refusal::last(format!("could not parse image manifest: {error}")))?;
        Ok(Manifest { digest, content })
    }

    /// A layer's bytes as they are stored.
    pub(super) async fn blob(&self, digest: &str) -> Result<bytes::Bytes, Refusal> {
        Ok(self.inner.blob(digest, LAYER).await?)
    }
}
