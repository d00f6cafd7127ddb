//! The store's records on disk: which name is which manifest, and what a manifest needs to run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::digest::Digest;
use crate::error::Doing;
use crate::files::{Scratch, sync_parent, write_atomically};
use crate::{Error, ImageConfig};

/// `names/<sha256 of the name>`: one name of an image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NameRecord {
    pub(crate) reference: String,
    pub(crate) manifest: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<Digest>,
    #[serde(default)]
    pub(crate) built_in: bool,
    /// A digest under which the image was found beside its proper name: not listed, and removed with the last name.
    #[serde(default)]
    pub(crate) alias: bool,
}

/// `manifests/<digest>`: what a manifest says, in the form the node needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ManifestRecord {
    pub(crate) config: ImageConfig,
    pub(crate) os: String,
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) variant: String,
    /// Names of directories under `layers/`, bottom first.
    pub(crate) layers: Vec<String>,
    pub(crate) size: u64,
}

/// The places under a store's directory.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) root: PathBuf,
    pub(crate) durable: bool,
}

impl Places {
    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(crate) fn scratch(&self) -> PathBuf {
        self.root.join("tmp")
    }

    fn names(&self) -> PathBuf {
        self.root.join("names")
    }

    fn manifests(&self) -> PathBuf {
        self.root.join("manifests")
    }

    fn name(&self, reference: &str) -> PathBuf {
        self.names().join(Digest::of(reference.as_bytes()).hex())
    }

    fn manifest(&self, digest: &Digest) -> PathBuf {
        self.manifests().join(digest.hex())
    }

    pub(crate) fn create(&self) -> Result<(), Error> {
        for dir in [
            self.layers(),
            self.scratch(),
            self.names(),
            self.manifests(),
            self.root.join("sizes"),
        ] {
            fs::create_dir_all(&dir).doing(|| format!("creating {}", dir.display()))?;
        }
        Ok(())
    }

    pub(crate) fn read_name(&self, reference: &str) -> Result<Option<NameRecord>, Error> {
        read(&self.name(reference))
    }

    pub(crate) fn read_manifest(&self, digest: &Digest) -> Result<Option<ManifestRecord>, Error> {
        read(&self.manifest(digest))
    }

    pub(crate) fn write_name(&self, record: &NameRecord, scratch: &Scratch) -> Result<(), Error> {
        write_atomically(
            &self.name(&record.reference),
            &to_json(record)?,
            scratch,
            self.durable,
        )
    }

    pub(crate) fn write_manifest(
        &self,
        digest: &Digest,
        record: &ManifestRecord,
        scratch: &Scratch,
    ) -> Result<(), Error> {
        write_atomically(
            &self.manifest(digest),
            &to_json(record)?,
            scratch,
            self.durable,
        )
    }

    pub(crate) fn all_names(&self) -> Result<Vec<NameRecord>, Error> {
        let mut names = Vec::new();
        for path in entries(&self.names())? {
            names.extend(read::<NameRecord>(&path)?);
        }
        names.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(names)
    }

    pub(crate) fn all_manifests(&self) -> Result<Vec<Digest>, Error> {
        let paths = entries(&self.manifests())?;
        Ok(paths
            .iter()
            .filter_map(|path| Digest::parse(&format!("sha256:{}", path.file_name()?.to_str()?)))
            .collect())
    }

    pub(crate) fn all_layers(&self) -> Result<Vec<PathBuf>, Error> {
        entries(&self.layers())
    }

    pub(crate) fn remove_name(&self, reference: &str) -> Result<(), Error> {
        remove(&self.name(reference), self.durable)
    }

    pub(crate) fn remove_manifest(&self, digest: &Digest) -> Result<(), Error> {
        remove(&self.manifest(digest), self.durable)
    }
}

fn to_json<T: Serialize>(record: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(record).map_err(|error| Error::malformed("record", error.to_string()))
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).doing(|| format!("reading {}", path.display())),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| Error::malformed(path.display().to_string(), error.to_string()))
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let what = || format!("reading {}", dir.display());
    fs::read_dir(dir)
        .doing(what)?
        .map(|entry| Ok(entry.doing(what)?.path()))
        .collect()
}

fn remove(path: &Path, durable: bool) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).doing(|| format!("removing {}", path.display()))
        }
        _ => sync_parent(path, durable),
    }
}
