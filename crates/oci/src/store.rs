//! The image store: a directory of names, manifests and unpacked layers, open to several processes at once.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::digest::Digest;
use crate::files::{Lock, Scratch};
use crate::image::{HOST, Image, ImageSummary};
use crate::index::{ManifestRecord, NameRecord, Places};
use crate::layers;
use crate::manifest::Platform;
use crate::{Error, ImageConfig, NameMapping, Reference, archive};

/// How to open a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The file of other names; read again when it changes. By default `images.yaml` in the store's directory.
    pub mapping_file: Option<PathBuf>,
    /// Synchronise to disk, so that a power cut loses nothing acknowledged. Off for stores that die with the process.
    pub durable: bool,
    /// How containers of the image [`HOST`] run; the platform is filled in.
    pub host: ImageConfig,
    /// Registries, as `host[:port]`, spoken to without TLS; those on this machine's loopback always are.
    pub insecure_registries: Vec<String>,
    /// Where a Docker configuration may be: of the first that exists the logins are tried after those that are given.
    pub logins: Vec<PathBuf>,
    /// More certificate authorities to trust for registries, in PEM.
    pub authorities: Vec<Vec<u8>>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            mapping_file: None,
            durable: true,
            host: ImageConfig {
                cmd: vec!["/bin/sh".into()],
                env: vec![
                    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
                ],
                ..ImageConfig::default()
            },
            insecure_registries: Vec::new(),
            logins: Vec::new(),
            authorities: Vec::new(),
        }
    }
}

/// Images on this machine. Cloning is cheap; clones and other processes share the directory safely.
#[derive(Clone, Debug)]
pub struct ImageStore {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) places: Places,
    pub(crate) options: StoreOptions,
    mapping_file: PathBuf,
    mapping: Mutex<(Option<Version>, Arc<NameMapping>)>,
}

/// Tells one content of the mapping's file from another without reading it.
type Version = (SystemTime, u64);

impl ImageStore {
    /// Opens the store in `dir`, creating it if need be.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_with(dir, StoreOptions::default())
    }

    /// Opens with options.
    pub fn open_with(dir: impl AsRef<Path>, options: StoreOptions) -> Result<Self, Error> {
        let places = Places {
            root: dir.as_ref().to_owned(),
            durable: options.durable,
        };
        places.create()?;
        Scratch::sweep(&places.scratch());
        let mapping_file = options
            .mapping_file
            .clone()
            .unwrap_or_else(|| places.root.join("images.yaml"));
        let mapping = Mutex::new((None, Arc::new(NameMapping::default())));
        Ok(ImageStore {
            shared: Arc::new(Shared {
                places,
                options,
                mapping_file,
                mapping,
            }),
        })
    }

    /// The image of that name, if it is present; the mapping of names is applied first. A digest wins over a tag, and
    /// any image with that manifest is found by it (K-325).
    ///
    /// Fails on names that are none, and on a store or mapping that cannot be read.
    pub fn get(&self, reference: &str) -> Result<Option<Image>, Error> {
        let name = self.resolve_name(reference)?;
        self.find(&name)
    }

    /// The name that `images.yaml` puts in place of this one, normalised; [`HOST`] for the machine itself. Built-in
    /// images keep their names: a rule for all images is not meant for the program's own.
    pub fn resolve_name(&self, reference: &str) -> Result<String, Error> {
        if let Ok(name) = reference.parse::<Reference>() {
            let name = name.to_string();
            let record = self.shared.places.read_name(&name)?;
            if record.is_some_and(|record| record.built_in) {
                return Ok(name);
            }
        }
        self.mapping()?.apply(reference)
    }

    /// Loads every image of a docker-archive (tar, also compressed) or an OCI layout (tar or directory).
    pub fn load(&self, path: impl AsRef<Path>) -> Result<Vec<ImageSummary>, Error> {
        let path = path.as_ref();
        let _lock = Lock::shared(&self.shared.places.lock())?;
        let scratch = self.scratch()?;
        let loaded = archive::load(&self.shared.places, path, &scratch)?;
        if loaded.is_empty() {
            return Err(Error::malformed(
                path.display().to_string(),
                "holds no image for this platform",
            ));
        }
        Ok(loaded)
    }

    /// All images by name.
    pub fn list(&self) -> Result<Vec<ImageSummary>, Error> {
        let _lock = Lock::shared(&self.shared.places.lock())?;
        let mut images = Vec::new();
        for name in self
            .shared
            .places
            .all_names()?
            .into_iter()
            .filter(|name| !name.alias)
        {
            if let Some(manifest) = self.shared.places.read_manifest(&name.manifest)? {
                images.push(summary(name, manifest.size));
            }
        }
        Ok(images)
    }

    /// Forgets a name and removes what no other name needs; layers in use go when a later call finds them free.
    /// Returns whether there was such a name. `images.yaml` is not consulted.
    pub fn remove(&self, reference: &str) -> Result<bool, Error> {
        let reference: Reference = reference.parse()?;
        let _lock = Lock::exclusive(&self.shared.places.lock())?;
        let found = self.shared.places.read_name(&reference.to_string())?;
        if found.is_some() {
            self.shared.places.remove_name(&reference.to_string())?;
        }
        self.collect()?;
        Ok(found.is_some())
    }

    /// Removes manifests without names and layers without manifests. The caller holds the exclusive lock.
    fn collect(&self) -> Result<(), Error> {
        let places = &self.shared.places;
        let (aliases, names): (Vec<_>, Vec<_>) =
            places.all_names()?.into_iter().partition(|name| name.alias);
        let named: HashSet<Digest> = names.into_iter().map(|name| name.manifest).collect();
        for alias in aliases
            .iter()
            .filter(|alias| !named.contains(&alias.manifest))
        {
            places.remove_name(&alias.reference)?;
        }
        let mut needed = HashSet::new();
        for digest in places.all_manifests()? {
            if named.contains(&digest) {
                needed.extend(
                    places
                        .read_manifest(&digest)?
                        .map(|record| record.layers)
                        .unwrap_or_default(),
                );
            } else {
                places.remove_manifest(&digest)?;
            }
        }
        layers::collect(places, |name| needed.contains(name))
    }

    pub(crate) fn scratch(&self) -> Result<Scratch, Error> {
        Scratch::new(&self.shared.places.scratch())
    }

    /// Looks a mapped name up.
    pub(crate) fn find(&self, name: &str) -> Result<Option<Image>, Error> {
        if name == HOST {
            return Ok(Some(self.host()));
        }
        let reference: Reference = name.parse()?;
        let places = &self.shared.places;
        let _lock = Lock::shared(&places.lock())?;
        let (manifest, index) = match reference.digest().and_then(Digest::parse) {
            Some(digest) if digest == host_digest() => return Ok(Some(self.host())),
            Some(digest) => match places.read_name(&reference.at(&digest).to_string())? {
                Some(record) => (record.manifest, record.index),
                None => (digest, None),
            },
            None => match places.read_name(name)? {
                Some(record) => (record.manifest, record.index),
                None => return Ok(None),
            },
        };
        let Some(record) = places.read_manifest(&manifest)? else {
            return Ok(None);
        };
        let Some(pins) = layers::pin(places, &record.layers)? else {
            tracing::warn!(
                image = name,
                "a layer is missing; the image must be loaded or pulled again"
            );
            return Ok(None);
        };
        Ok(Some(Image {
            reference: name.to_owned(),
            digest: manifest.to_string(),
            index_digest: index.map(String::from),
            config: ImageConfig {
                os: record.os,
                architecture: record.architecture,
                variant: record.variant,
                ..record.config
            },
            layers: record
                .layers
                .iter()
                .map(|layer| places.layers().join(layer))
                .collect(),
            size: record.size,
            pins: Arc::new(pins),
        }))
    }

    fn host(&self) -> Image {
        let Platform {
            os,
            architecture,
            variant,
            ..
        } = Platform::current();
        Image {
            reference: HOST.to_owned(),
            digest: host_digest().to_string(),
            index_digest: None,
            config: ImageConfig {
                os,
                architecture,
                variant,
                ..self.shared.options.host.clone()
            },
            layers: Vec::new(),
            size: 0,
            pins: Arc::default(),
        }
    }

    pub(crate) fn mapping(&self) -> Result<Arc<NameMapping>, Error> {
        let file = &self.shared.mapping_file;
        let written = std::fs::metadata(file)
            .and_then(|meta| Ok((meta.modified()?, meta.len())))
            .ok();
        let mut cached = self
            .shared
            .mapping
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if cached.0 != written {
            *cached = (written, Arc::new(NameMapping::read(file)?));
        }
        Ok(cached.1.clone())
    }
}

/// The host image has no manifest; a digest of its own lets `repository@digest` lead back to it.
fn host_digest() -> Digest {
    Digest::of(b"tektite host image")
}

pub(crate) fn summary(name: NameRecord, size: u64) -> ImageSummary {
    ImageSummary {
        reference: name.reference,
        digest: name.manifest.to_string(),
        size,
        built_in: name.built_in,
    }
}

/// Writes an image whose layers are present: the manifest first, so that no name ever leads nowhere.
pub(crate) fn record(
    places: &Places,
    scratch: &Scratch,
    names: &[NameRecord],
    manifest: &Digest,
    record: &ManifestRecord,
) -> Result<(), Error> {
    places.write_manifest(manifest, record, scratch)?;
    names
        .iter()
        .try_for_each(|name| places.write_name(name, scratch))
}
