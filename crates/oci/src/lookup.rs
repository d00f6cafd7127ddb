//! What images run by themselves, read from registries: manifests and configurations, never layers (T-257 to T-262).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};

use crate::archive::MAX_DOCUMENT;
use crate::digest::Digest;
use crate::manifest::{
    Configuration, DOCKER_LIST, DOCKER_MANIFEST, Descriptor, Document, OCI_INDEX, OCI_MANIFEST,
    Platform, choose,
};
use crate::recent::Recent;
use crate::repository::{RawManifest, ReadError, Repository};
use crate::transport::{Http, HttpError};
use crate::{Credentials, Error, Reference};

/// How many images' commands are kept (T-262).
const KEPT: usize = 1024;
/// Images of an index that are read at a time.
const AT_A_TIME: usize = 4;
/// How long to wait before each further try, if a registry says that it cannot answer now.
const WAITS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

/// Both generations of manifests, and the oldest one so that it is recognised and refused (T-261).
const ACCEPTED: [&str; 6] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    DOCKER_MANIFEST,
    OCI_MANIFEST,
    DOCKER_LIST,
    OCI_INDEX,
];

/// What an image runs by itself, wherever it can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformCommands {
    /// The digest of the image, or of the index if it is one (T-258).
    pub digest: String,
    /// By platform: `os/arch` for a single image, `os/arch[/variant][:os.version]` for those of an index (T-260).
    pub commands: BTreeMap<String, ImageCommand>,
}

/// What one image runs by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageCommand {
    /// `ENTRYPOINT`.
    pub entrypoint: Vec<String>,
    /// `CMD`.
    pub cmd: Vec<String>,
}

/// Why it cannot be said what an image runs. Texts are upstream's: they end in a run's message (T-263).
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The registry did not answer, or with a refusal.
    #[error("{0}")]
    Registry(String),
    /// An index leads to two images for one platform.
    #[error("duplicate unique image found for platform: {platform}: found {first} and {second}")]
    Duplicate {
        /// The platform's key.
        platform: String,
        /// The digest that came first.
        first: String,
        /// The other digest.
        second: String,
    },
    /// It is no image, and no index of images.
    #[error("unsupported media type for image reference")]
    MediaType,
    /// A document breaks its format.
    #[error(transparent)]
    Malformed(Error),
}

/// Why one try failed, and whether another may help.
struct Failed {
    error: LookupError,
    passing: bool,
}

impl From<ReadError<HttpError>> for Failed {
    fn from(error: ReadError<HttpError>) -> Self {
        Failed {
            passing: match &error {
                ReadError::Transport(error) => error.timed_out,
                other => other.is_passing(),
            },
            error: LookupError::Registry(error.to_string()),
        }
    }
}

impl From<LookupError> for Failed {
    fn from(error: LookupError) -> Self {
        Failed {
            error,
            passing: false,
        }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        LookupError::Malformed(error).into()
    }
}

/// Looks images up, and remembers the last thousand by digest. Nothing is written anywhere.
pub struct Lookups {
    http: Http,
    known: Mutex<Recent<Reference, Arc<PlatformCommands>>>,
}

impl Default for Lookups {
    fn default() -> Self {
        Self {
            http: Http::default(),
            known: Mutex::new(Recent::new(KEPT)),
        }
    }
}

impl Lookups {
    /// What is remembered of an image that is named by digest; a tag may have moved (T-262).
    pub fn known(&self, reference: &Reference) -> Option<Arc<PlatformCommands>> {
        let key = reference.at(&Digest::parse(reference.digest()?)?);
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
    }

    /// Asks the registry, unless the digest is known. Credentials that fit are tried in turn, then anonymous access.
    ///
    /// # Errors
    /// If the registry cannot be reached or does not show the image, or if what it shows is not to be used.
    pub async fn look_up(
        &self,
        reference: &Reference,
        credentials: &Credentials,
    ) -> Result<Arc<PlatformCommands>, LookupError> {
        let mut waits = WAITS.into_iter();
        loop {
            match (self.attempt(reference, credentials).await, waits.next()) {
                (Ok(found), _) => return Ok(found),
                (Err(failed), Some(wait)) if failed.passing => tokio::time::sleep(wait).await,
                (Err(failed), _) => return Err(failed.error),
            }
        }
    }

    async fn attempt(
        &self,
        reference: &Reference,
        credentials: &Credentials,
    ) -> Result<Arc<PlatformCommands>, Failed> {
        if let Some(known) = self.known(reference) {
            return Ok(known);
        }
        let repository = Repository::open(&self.http, reference, credentials).await?;
        let version = reference.digest().or(reference.tag()).unwrap_or("latest");
        let manifest = repository.manifest(version, &ACCEPTED).await?;
        let digest = Digest::of(&manifest.content);
        let key = reference.at(&digest);
        if let Some(known) = self.known(&key) {
            return Ok(known);
        }
        let found = Arc::new(PlatformCommands {
            digest: digest.to_string(),
            commands: commands(&repository, &manifest).await?,
        });
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(key, Arc::clone(&found));
        Ok(found)
    }
}

type Repo<'a> = Repository<'a, Http>;

async fn commands(
    repository: &Repo<'_>,
    manifest: &RawManifest,
) -> Result<BTreeMap<String, ImageCommand>, Failed> {
    match manifest.media_type.as_str() {
        OCI_MANIFEST | DOCKER_MANIFEST => {
            let configuration = configuration(repository, &manifest.content).await?;
            let platform = of_configuration(&configuration.platform);
            Ok(BTreeMap::from([(platform, command(configuration))]))
        }
        OCI_INDEX | DOCKER_LIST => {
            let Document::Index(entries) = Document::parse(&manifest.content)? else {
                return Err(LookupError::MediaType.into());
            };
            let found: Vec<_> = futures::stream::iter(images(entries)?)
                .map(|(platform, image)| one_of_index(repository, platform, image))
                .buffered(AT_A_TIME)
                .try_collect()
                .await?;
            Ok(found.into_iter().collect())
        }
        _ => Err(LookupError::MediaType.into()),
    }
}

/// The images of an index that count, each once, with their platforms' keys (T-260, T-261). What has no platform is taken
/// for the one that its configuration names.
fn images(entries: Vec<Descriptor>) -> Result<Vec<(Option<String>, Descriptor)>, LookupError> {
    let mut digests: BTreeMap<String, Digest> = BTreeMap::new();
    let mut images = Vec::new();
    for entry in entries {
        let Some(platform) = entry.platform.as_ref().map(Platform::to_string) else {
            images.push((None, entry));
            continue;
        };
        // Builders keep attestations there.
        if platform == "unknown/unknown" {
            continue;
        }
        match digests.entry(platform) {
            Entry::Vacant(vacant) => {
                images.push((Some(vacant.key().clone()), entry.clone()));
                vacant.insert(entry.digest);
            }
            Entry::Occupied(found) if *found.get() != entry.digest => {
                return Err(LookupError::Duplicate {
                    platform: found.key().clone(),
                    first: found.get().to_string(),
                    second: entry.digest.to_string(),
                });
            }
            Entry::Occupied(_) => {}
        }
    }
    Ok(images)
}

async fn one_of_index(
    repository: &Repo<'_>,
    platform: Option<String>,
    image: Descriptor,
) -> Result<(String, ImageCommand), Failed> {
    let manifest = read(repository, &image).await?;
    let configuration = match Document::parse(&manifest.content)? {
        Document::Manifest(_) => configuration(repository, &manifest.content).await?,
        // An index in an index stands for its image for Linux on amd64, whatever the platform, as upstream has it.
        Document::Index(entries) => {
            let wanted = Platform {
                os: "linux".into(),
                architecture: "amd64".into(),
                ..Platform::default()
            };
            let inner = choose(&entries, &wanted).ok_or_else(|| {
                Error::malformed("image index", "an index in it has no image for linux/amd64")
            })?;
            let manifest = read(repository, inner).await?;
            configuration(repository, &manifest.content).await?
        }
    };
    let platform = platform.unwrap_or_else(|| of_configuration(&configuration.platform));
    Ok((platform, command(configuration)))
}

async fn read(repository: &Repo<'_>, image: &Descriptor) -> Result<RawManifest, Failed> {
    let accept = match image.media_type.as_str() {
        "" => ACCEPTED.to_vec(),
        media_type => vec![media_type],
    };
    Ok(repository.manifest(image.digest.as_str(), &accept).await?)
}

async fn configuration(repository: &Repo<'_>, manifest: &[u8]) -> Result<Configuration, Failed> {
    let Document::Manifest(manifest) = Document::parse(manifest)? else {
        return Err(Error::malformed("image manifest", "nests indexes").into());
    };
    let blob = repository.blob(manifest.config.digest.as_str(), MAX_DOCUMENT);
    Ok(Configuration::parse(&blob.await?)?)
}

fn command(configuration: Configuration) -> ImageCommand {
    ImageCommand {
        entrypoint: configuration.config.entrypoint,
        cmd: configuration.config.cmd,
    }
}

/// The key of a single image: its variant is left out, as the one who asks may have another (T-260).
fn of_configuration(platform: &Platform) -> String {
    let Platform {
        os, architecture, ..
    } = platform;
    match (os.as_str(), architecture.as_str()) {
        ("", _) => "unknown".into(),
        (os, "") => os.into(),
        (os, architecture) => format!("{os}/{architecture}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(fill: char, platform: serde_json::Value) -> Descriptor {
        let digest = format!("sha256:{}", fill.to_string().repeat(64));
        let entry = serde_json::json!({"digest": digest, "size": 1, "platform": platform});
        serde_json::from_value(entry).unwrap()
    }

    #[test]
    fn platforms_are_written_as_upstream_writes_those_of_an_index() {
        // T-260
        for (platform, expected) in [
            (
                serde_json::json!({"os": "linux", "architecture": "amd64"}),
                "linux/amd64",
            ),
            (
                serde_json::json!({"os": "linux", "architecture": "arm", "variant": "v7", "os.features": ["x"]}),
                "linux/arm/v7",
            ),
            (
                serde_json::json!({"os": "windows", "architecture": "amd64", "os.version": "10.0.1"}),
                "windows/amd64:10.0.1",
            ),
            (serde_json::json!({"os": "linux"}), "linux"),
            (serde_json::json!({"architecture": "amd64"}), ""),
        ] {
            let images = images(vec![entry('a', platform)]).unwrap();
            assert_eq!(images[0].0.as_deref(), Some(expected));
        }
    }

    #[test]
    fn of_an_index_each_platform_counts_once_and_attestations_do_not() {
        // T-260, T-261
        let amd64 = serde_json::json!({"os": "linux", "architecture": "amd64"});
        let arm64 = serde_json::json!({"os": "linux", "architecture": "arm64", "variant": "v8"});
        let unknown = serde_json::json!({"os": "unknown", "architecture": "unknown"});
        let found = images(vec![
            entry('a', amd64.clone()),
            entry('b', unknown.clone()),
            entry('c', unknown),
            entry('d', arm64.clone()),
            entry('a', amd64.clone()),
            entry('e', serde_json::Value::Null),
        ])
        .unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|(platform, image)| (platform.as_deref(), &image.digest.as_str()[7..8]))
            .collect();
        assert_eq!(
            found,
            [
                (Some("linux/amd64"), "a"),
                (Some("linux/arm64/v8"), "d"),
                (None, "e")
            ]
        );
        let error = images(vec![
            entry('a', amd64.clone()),
            entry('d', arm64),
            entry('b', amd64),
        ]);
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        assert_eq!(
            error.unwrap_err().to_string(),
            format!(
                "duplicate unique image found for platform: linux/amd64: found sha256:{a} and sha256:{b}"
            )
        );
    }

    #[test]
    fn a_single_images_platform_has_no_variant() {
        // T-260
        for (os, architecture, expected) in [
            ("linux", "arm64", "linux/arm64"),
            ("linux", "", "linux"),
            ("", "amd64", "unknown"),
        ] {
            let platform = Platform {
                os: os.into(),
                architecture: architecture.into(),
                variant: "v8".into(),
                ..Platform::default()
            };
            assert_eq!(of_configuration(&platform), expected);
        }
    }
}
