//! Pulling images from registries that speak the distribution API.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, RegistryOperation};
use tokio::io::AsyncWriteExt;

use crate::archive::{MAX_DOCUMENT, manifest_record, names};
use crate::digest::{Digest, Hashing};
use crate::error::with_causes;
use crate::files::{Lock, Scratch};
use crate::image::{HOST, Image};
use crate::layers::Stack;
use crate::manifest::{
    Configuration, DOCKER_LIST, DOCKER_MANIFEST, Descriptor, Document, OCI_INDEX, OCI_MANIFEST,
    Platform, choose,
};
use crate::store::{Shared, StoreOptions, record};
use crate::{Credentials, Error, ImageStore, Reference};

/// When to ask the registry, as `imagePullPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// Always; what is present already is not fetched again.
    Always,
    /// Only if the store has no such image.
    IfNotPresent,
    /// Never.
    Never,
}

/// Layers fetched at a time.
const CONCURRENT_LAYERS: usize = 3;

impl ImageStore {
    /// The image of that name, from the store or the registry as the policy says. Built-in images, images put in place
    /// by `images.yaml` that are present, and [`HOST`] are never pulled.
    ///
    /// Credentials that fit are tried in turn, then the store's [own](StoreOptions::logins), then anonymous access (K-324).
    pub async fn pull(
        &self,
        reference: &str,
        credentials: &Credentials,
        policy: PullPolicy,
    ) -> Result<Image, Error> {
        let name = self.resolve_name(reference)?;
        let present = self.find(&name)?;
        let local = self.is_local(reference)?;
        match (present, policy) {
            (Some(image), _) if local => return Ok(image),
            (Some(image), PullPolicy::IfNotPresent | PullPolicy::Never) => return Ok(image),
            (None, PullPolicy::Never) => return Err(Error::NeverPull { reference: name }),
            (_, PullPolicy::Always) | (None, PullPolicy::IfNotPresent) => {}
        }
        let reference: Reference = name.parse()?;
        let store = self.clone();
        let lock_file = store.shared.places.lock();
        let lock = blocking(move || Lock::shared(&lock_file)).await?;
        let own = Credentials::of_first_file(&store.shared.options.logins);
        let mut attempts: Vec<RegistryAuth> = credentials
            .clone()
            .before(own)
            .fitting(&reference)
            .into_iter()
            .map(|(user, password)| RegistryAuth::Basic(user, password))
            .collect();
        attempts.push(RegistryAuth::Anonymous);
        let mut first_refusal = None;
        for auth in attempts {
            match Pull::new(&store.shared, &reference)?.run(auth).await {
                Ok(()) => {
                    let found = store.find(&name)?;
                    drop(lock);
                    return found.ok_or(Error::NotFound {
                        reference: name,
                        reason: "it was removed at once".into(),
                    });
                }
                Err(error @ Error::Unauthorized { .. }) => {
                    first_refusal = first_refusal.or(Some(error))
                }
                Err(error) => return Err(first_refusal.unwrap_or(error)),
            }
        }
        // The invariant of the loop: it was left without a return only by refusals.
        Err(first_refusal.unwrap_or(Error::NotFound {
            reference: name,
            reason: "no attempt was made".into(),
        }))
    }

    /// Whether no registry is to be asked for an image that is present: it is the machine itself or the program's own, or
    /// somebody mapped another name to it.
    ///
    /// Fails on names that are none, and on a store or mapping that cannot be read.
    pub fn is_local(&self, reference: &str) -> Result<bool, Error> {
        let name = self.resolve_name(reference)?;
        let mapped = reference
            .parse::<Reference>()
            .is_ok_and(|asked| asked.to_string() != name);
        if name == HOST || mapped {
            return Ok(true);
        }
        let record = self.shared.places.read_name(&name)?;
        Ok(record.is_some_and(|record| record.built_in))
    }
}

/// One attempt with one set of credentials.
struct Pull<'a> {
    shared: &'a Arc<Shared>,
    reference: &'a Reference,
    client: Client,
    image: oci_client::Reference,
}

impl<'a> Pull<'a> {
    fn new(shared: &'a Arc<Shared>, reference: &'a Reference) -> Result<Self, Error> {
        let image = oci_reference(reference, reference.digest());
        Ok(Pull {
            shared,
            reference,
            client: client(&shared.options, reference),
            image,
        })
    }

    async fn run(&self, auth: RegistryAuth) -> Result<(), Error> {
        self.client
            .auth(&self.image, &auth, RegistryOperation::Pull)
            .await
            .map_err(|error| self.error(error))?;
        let (bytes, mut digest) = self.manifest(&auth, self.reference.digest()).await?;
        let mut document = Document::parse(&bytes)?;
        let mut index = None;
        if let Document::Index(entries) = &document {
            let here = Platform::current();
            let chosen = choose(entries, &here).ok_or_else(|| Error::NotFound {
                reference: self.reference.to_string(),
                reason: format!("no image for platform {}/{}", here.os, here.architecture),
            })?;
            let chosen = chosen.digest.clone();
            let (bytes, actual) = self.manifest(&auth, Some(chosen.as_str())).await?;
            document = Document::parse(&bytes)?;
            index = Some(std::mem::replace(&mut digest, actual));
        }
        let Document::Manifest(manifest) = document else {
            return Err(Error::malformed(
                self.reference.to_string(),
                "nests indexes",
            ));
        };
        let places = &self.shared.places;
        let scratch = Arc::new(Scratch::new(&places.scratch())?);
        let configuration = self.configuration(&manifest.config, &scratch).await?;
        if configuration.diff_ids.len() != manifest.layers.len() {
            return Err(Error::malformed(
                "image configuration",
                "has another number of layers than the manifest",
            ));
        }
        let layers: Vec<(Descriptor, Digest)> = manifest
            .layers
            .iter()
            .cloned()
            .zip(configuration.diff_ids.iter().cloned())
            .collect();
        // Collected first: a lazy iterator here would make the future of `pull` not provably `Send`.
        let mut fetches = Vec::new();
        for (layer, diff_id) in &layers {
            if !places.layers().join(diff_id.hex()).is_dir() {
                fetches.push(self.fetch(layer, &scratch));
            }
        }
        futures::stream::iter(fetches)
            .buffer_unordered(CONCURRENT_LAYERS)
            .try_collect::<Vec<_>>()
            .await?;
        let shared = self.shared.clone();
        let names = names(self.reference, &digest, index);
        blocking(move || {
            let mut stack = Stack::new(&shared.places);
            for (layer, diff_id) in &layers {
                let path = blob_path(&scratch, &layer.digest);
                stack.push(diff_id, &scratch, || {
                    std::fs::File::open(&path).map_err(|source| Error::Io {
                        what: format!("opening {}", path.display()),
                        source,
                    })
                })?;
            }
            record(
                &shared.places,
                &scratch,
                &names,
                &digest,
                &manifest_record(stack, configuration),
            )
        })
        .await
    }

    async fn manifest(
        &self,
        auth: &RegistryAuth,
        digest: Option<&str>,
    ) -> Result<(bytes::Bytes, Digest), Error> {
        let image = oci_reference(self.reference, digest);
        let accepted = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];
        let (bytes, _) = self
            .client
            .pull_manifest_raw(&image, auth, &accepted)
            .await
            .map_err(|error| self.error(error))?;
        let actual = Digest::of(&bytes);
        match digest {
            Some(expected) if expected != actual.as_str() => Err(Error::DigestMismatch {
                what: format!("manifest of {}", self.reference),
                expected: expected.to_owned(),
                actual: actual.to_string(),
            }),
            _ => Ok((bytes, actual)),
        }
    }

    async fn configuration(
        &self,
        blob: &Descriptor,
        scratch: &Scratch,
    ) -> Result<Configuration, Error> {
        if blob.size > MAX_DOCUMENT {
            return Err(Error::malformed("image configuration", "larger than 4 MiB"));
        }
        let path = self.fetch(blob, scratch).await?;
        let bytes = tokio::fs::read(&path).await.map_err(|source| Error::Io {
            what: format!("reading {}", path.display()),
            source,
        })?;
        Configuration::parse(&bytes)
    }

    /// Downloads a blob into the scratch directory and checks its digest.
    async fn fetch(&self, blob: &Descriptor, scratch: &Scratch) -> Result<PathBuf, Error> {
        let path = blob_path(scratch, &blob.digest);
        let io = |source| Error::Io {
            what: format!("writing {}", path.display()),
            source,
        };
        let descriptor = oci_client::manifest::OciDescriptor {
            media_type: blob.media_type.clone(),
            digest: blob.digest.to_string(),
            size: i64::try_from(blob.size).unwrap_or(i64::MAX),
            ..Default::default()
        };
        let mut stream = self
            .client
            .pull_blob_stream(&self.image, &descriptor)
            .await
            .map_err(|error| self.error(error))?;
        let mut file = tokio::fs::File::create(&path).await.map_err(io)?;
        let mut hash = Hashing::new(std::io::sink());
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| self.registry(error.to_string()))?;
            std::io::Write::write_all(&mut hash, &chunk).map_err(io)?;
            file.write_all(&chunk).await.map_err(io)?;
        }
        file.flush().await.map_err(io)?;
        let (actual, _) = hash.finish();
        if actual != blob.digest {
            return Err(Error::DigestMismatch {
                what: format!("blob of {}", self.reference),
                expected: blob.digest.to_string(),
                actual: actual.to_string(),
            });
        }
        Ok(path)
    }

    fn registry(&self, message: String) -> Error {
        Error::Registry {
            reference: self.reference.to_string(),
            message,
        }
    }

    fn error(&self, error: OciDistributionError) -> Error {
        let reference = self.reference.to_string();
        let message = error.to_string();
        match &error {
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_) => {
                Error::Unauthorized { reference, message }
            }
            OciDistributionError::ServerError {
                code: 401 | 403, ..
            } => Error::Unauthorized { reference, message },
            OciDistributionError::ImageManifestNotFoundError(_) => Error::NotFound {
                reference,
                reason: message,
            },
            OciDistributionError::ServerError { code: 404, .. } => Error::NotFound {
                reference,
                reason: message,
            },
            OciDistributionError::RegistryError { envelope, .. } => {
                let says = |codes: &[OciErrorCode]| {
                    envelope
                        .errors
                        .iter()
                        .any(|error| codes.contains(&error.code))
                };
                if says(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) {
                    Error::Unauthorized { reference, message }
                } else if says(&[
                    OciErrorCode::ManifestUnknown,
                    OciErrorCode::NameUnknown,
                    OciErrorCode::NotFound,
                ]) {
                    Error::NotFound {
                        reference,
                        reason: message,
                    }
                } else {
                    Error::Registry { reference, message }
                }
            }
            _ => Error::Registry {
                reference,
                message: with_causes(&error),
            },
        }
    }
}

fn blob_path(scratch: &Scratch, digest: &Digest) -> PathBuf {
    scratch.path().join(format!("blob-{}", digest.hex()))
}

fn oci_reference(reference: &Reference, digest: Option<&str>) -> oci_client::Reference {
    let (registry, repository) = (
        reference.registry().to_owned(),
        reference.repository().to_owned(),
    );
    match (digest, reference.tag()) {
        (Some(digest), _) => {
            oci_client::Reference::with_digest(registry, repository, digest.to_owned())
        }
        (None, tag) => oci_client::Reference::with_tag(
            registry,
            repository,
            tag.unwrap_or("latest").to_owned(),
        ),
    }
}

fn client(options: &StoreOptions, reference: &Reference) -> Client {
    // Another part of the program may have chosen a provider; either will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let registry = reference.registry();
    let plain = is_loopback(registry)
        || options
            .insecure_registries
            .iter()
            .any(|insecure| insecure == registry);
    let certificate = |pem: &Vec<u8>| Certificate {
        encoding: CertificateEncoding::Pem,
        data: pem.clone(),
    };
    Client::new(ClientConfig {
        protocol: if plain {
            ClientProtocol::Http
        } else {
            ClientProtocol::Https
        },
        extra_root_certificates: options.authorities.iter().map(certificate).collect(),
        platform_resolver: None,
        connect_timeout: Some(Duration::from_secs(30)),
        read_timeout: Some(Duration::from_secs(60)),
        ..ClientConfig::default()
    })
}

fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => registry.split(':').next().unwrap_or(registry),
    };
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(stopped) => Err(Error::Io {
            what: "unpacking an image".into(),
            source: std::io::Error::other(stopped.to_string()),
        }),
    }
}
