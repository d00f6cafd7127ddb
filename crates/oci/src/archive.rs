//! Images from files: docker-archive and OCI layouts, in a tar (also compressed) or a directory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use serde::Deserialize;

use crate::digest::Digest;
use crate::error::Doing;
use crate::files::{Scratch, open_dir};
use crate::image::ImageSummary;
use crate::index::{ManifestRecord, NameRecord, Places};
use crate::layers::{Stack, decompressed};
use crate::manifest::{
    Configuration, DOCKER_MANIFEST, Descriptor, Document, Manifest, Platform, choose,
};
use crate::store::{record, summary};
use crate::{Error, Reference};

/// Manifests, indexes and configurations larger than this are refused, as registries do.
pub(crate) const MAX_DOCUMENT: u64 = 4 << 20;

pub(crate) fn load(
    places: &Places,
    path: &Path,
    scratch: &Scratch,
) -> Result<Vec<ImageSummary>, Error> {
    let loader = Loader {
        places,
        scratch,
        source: Source::open(path, scratch)?,
        stem: stem(path),
    };
    let mut loaded = Vec::new();
    if let Some(index) = loader.document("index.json")? {
        loaded = loader.oci(&index)?;
    }
    // Docker writes both forms, at times with names in the older one only.
    if loaded.is_empty()
        && let Some(list) = loader.document("manifest.json")?
    {
        loaded = loader.docker(&list)?;
    }
    Ok(loaded)
}

struct Loader<'a> {
    places: &'a Places,
    scratch: &'a Scratch,
    source: Source,
    /// The archive's file name without extensions, for images that bring a tag only.
    stem: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl Loader<'_> {
    fn document(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(file) = self.source.open_file(name)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(MAX_DOCUMENT + 1)
            .read_to_end(&mut bytes)
            .doing(|| format!("reading {name}"))?;
        match bytes.len() as u64 {
            0..=MAX_DOCUMENT => Ok(Some(bytes)),
            _ => Err(Error::malformed(name, "larger than 4 MiB")),
        }
    }

    fn blob(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let name = blob_name(digest);
        let bytes = self
            .document(&name)?
            .ok_or_else(|| Error::malformed(&name, "is missing"))?;
        let actual = Digest::of(&bytes);
        if actual != *digest {
            return Err(Error::DigestMismatch {
                what: name,
                expected: digest.to_string(),
                actual: actual.to_string(),
            });
        }
        Ok(bytes)
    }

    fn oci(&self, index: &[u8]) -> Result<Vec<ImageSummary>, Error> {
        let Document::Index(entries) = Document::parse(index)? else {
            return Err(Error::malformed("index.json", "is not an index"));
        };
        let mut loaded = Vec::new();
        // Entries without any name are loaded only if the archive holds a single image.
        let images = entries.iter().filter(|entry| is_for_here(entry)).count();
        for entry in entries.iter().filter(|entry| is_for_here(entry)) {
            let Some(reference) = self.name(entry, images == 1)? else {
                continue;
            };
            let mut digest = entry.digest.clone();
            let mut index = None;
            let manifest = loop {
                match Document::parse(&self.blob(&digest)?)? {
                    Document::Manifest(manifest) => break manifest,
                    Document::Index(inner) if index.is_none() => {
                        index = Some(digest);
                        let chosen = choose(&inner, &Platform::current()).ok_or_else(|| {
                            Error::malformed(
                                reference.to_string(),
                                "has no image for this platform",
                            )
                        })?;
                        digest = chosen.digest.clone();
                    }
                    Document::Index(_) => {
                        return Err(Error::malformed(reference.to_string(), "nests indexes"));
                    }
                }
            };
            let configuration = Configuration::parse(&self.blob(&manifest.config.digest)?)?;
            let record = self.stack(&manifest, configuration)?;
            loaded.push(self.keep(reference, digest, index, &record)?);
        }
        Ok(loaded)
    }

    /// The name in an OCI entry's annotations: a full one, or a tag for the archive's own name.
    fn name(&self, entry: &Descriptor, only: bool) -> Result<Option<Reference>, Error> {
        let annotation = |key: &str| {
            entry
                .annotations
                .get(key)
                .map(String::as_str)
                .filter(|name| !name.is_empty())
        };
        let name = annotation("io.containerd.image.name")
            .or_else(|| annotation("org.opencontainers.image.ref.name"));
        match name {
            Some(full) if full.contains(['/', ':', '@']) => full.parse().map(Some),
            Some(tag) => format!("{}:{tag}", self.stem).parse().map(Some),
            None if only => self.stem.parse().map(Some),
            None => Ok(None),
        }
    }

    fn docker(&self, list: &[u8]) -> Result<Vec<ImageSummary>, Error> {
        let entries: Vec<DockerEntry> = serde_json::from_slice(list)
            .map_err(|error| Error::malformed("manifest.json", error.to_string()))?;
        let mut loaded = Vec::new();
        for entry in entries {
            let bytes = self
                .document(&entry.config)?
                .ok_or_else(|| Error::malformed(&entry.config, "is missing"))?;
            let configuration = Configuration::parse(&bytes)?;
            let layers = entry.layers.unwrap_or_default();
            if layers.len() != configuration.diff_ids.len() {
                return Err(Error::malformed(
                    &entry.config,
                    "has another number of layers than manifest.json",
                ));
            }
            let mut stack = Stack::new(self.places);
            for (layer, diff_id) in layers.iter().zip(&configuration.diff_ids) {
                stack.push(diff_id, self.scratch, || self.layer(layer))?;
            }
            // The format has no manifest; this one names the same content by the same digest, each time it is loaded.
            let manifest = serde_json::json!({
                "schemaVersion": 2,
                "mediaType": DOCKER_MANIFEST,
                "config": {"digest": Digest::of(&bytes), "size": bytes.len()},
                "layers": configuration.diff_ids.iter().map(|id| serde_json::json!({"digest": id})).collect::<Vec<_>>(),
            });
            let digest = Digest::of(manifest.to_string().as_bytes());
            let record = manifest_record(stack, configuration);
            let names = entry.repo_tags.unwrap_or_default();
            let names = if names.is_empty() {
                vec![self.stem.clone()]
            } else {
                names
            };
            for name in names {
                loaded.push(self.keep(name.parse()?, digest.clone(), None, &record)?);
            }
        }
        Ok(loaded)
    }

    fn stack(
        &self,
        manifest: &Manifest,
        configuration: Configuration,
    ) -> Result<ManifestRecord, Error> {
        if manifest.layers.len() != configuration.diff_ids.len() {
            return Err(Error::malformed(
                "image configuration",
                "has another number of layers than the manifest",
            ));
        }
        let mut stack = Stack::new(self.places);
        for (layer, diff_id) in manifest.layers.iter().zip(&configuration.diff_ids) {
            stack.push(diff_id, self.scratch, || {
                self.layer(&blob_name(&layer.digest))
            })?;
        }
        Ok(manifest_record(stack, configuration))
    }

    fn layer(&self, name: &str) -> Result<Box<dyn Read>, Error> {
        self.source
            .open_file(name)?
            .ok_or_else(|| Error::malformed(name, "is missing"))
    }

    fn keep(
        &self,
        reference: Reference,
        manifest: Digest,
        index: Option<Digest>,
        content: &ManifestRecord,
    ) -> Result<ImageSummary, Error> {
        let names = names(&reference, &manifest, index);
        record(self.places, self.scratch, &names, &manifest, content)?;
        // The invariant of `names`: the first is the image's own.
        Ok(summary(names[0].clone(), content.size))
    }
}

/// The records under which an image can be found: its own name first, then its index's digest.
pub(crate) fn names(
    reference: &Reference,
    manifest: &Digest,
    index: Option<Digest>,
) -> Vec<NameRecord> {
    let own = NameRecord {
        reference: reference.to_string(),
        manifest: manifest.clone(),
        index: index.clone(),
        built_in: false,
        alias: false,
    };
    let alias = index
        .map(|index| reference.at(&index).to_string())
        .filter(|name| *name != own.reference);
    let alias = alias.map(|reference| NameRecord {
        reference,
        alias: true,
        ..own.clone()
    });
    std::iter::once(own).chain(alias).collect()
}

pub(crate) fn manifest_record(stack: Stack<'_>, configuration: Configuration) -> ManifestRecord {
    let (layers, size) = stack.finish();
    let Platform {
        os,
        architecture,
        variant,
        ..
    } = configuration.platform;
    ManifestRecord {
        config: configuration.config,
        os,
        architecture,
        variant,
        layers,
        size,
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn is_for_here(entry: &Descriptor) -> bool {
    let here = Platform::current();
    entry
        .platform
        .as_ref()
        .is_none_or(|it| it.os == here.os && it.architecture == here.architecture)
}

/// A repository name from a file name.
fn stem(path: &Path) -> String {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    let name = [".tar.gz", ".tgz", ".tar"]
        .iter()
        .find_map(|end| name.strip_suffix(end))
        .unwrap_or(&name);
    let words: Vec<&str> = name
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    if words.is_empty() {
        "image".to_owned()
    } else {
        words.join("-")
    }
}

/// Where an archive's files are read from.
enum Source {
    Dir(OwnedFd),
    Tar {
        path: PathBuf,
        files: HashMap<PathBuf, Place>,
    },
}

enum Place {
    At { offset: u64, size: u64 },
    Link(PathBuf),
}

impl Source {
    fn open(path: &Path, scratch: &Scratch) -> Result<Source, Error> {
        let what = || format!("opening {}", path.display());
        if path.is_dir() {
            return Ok(Source::Dir(open_dir(path).doing(what)?));
        }
        let mut file = File::open(path).doing(what)?;
        let mut start = Vec::new();
        file.by_ref().take(4).read_to_end(&mut start).doing(what)?;
        file.seek(SeekFrom::Start(0)).doing(what)?;
        let plain =
            if start.starts_with(&[0x1f, 0x8b]) || start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
                let plain = scratch.path().join("archive.tar");
                let mut to = File::create(&plain).doing(what)?;
                io::copy(&mut decompressed(file)?, &mut to)
                    .doing(|| format!("decompressing {}", path.display()))?;
                plain
            } else {
                path.to_owned()
            };
        let files = contents(&plain).map_err(|error| {
            Error::malformed(
                path.display().to_string(),
                format!("is no tar archive: {error}"),
            )
        })?;
        Ok(Source::Tar { path: plain, files })
    }

    fn open_file(&self, name: &str) -> Result<Option<Box<dyn Read>>, Error> {
        let what = || format!("opening {name}");
        match self {
            Source::Dir(dir) => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                match openat2(
                    dir,
                    name,
                    flags,
                    Mode::empty(),
                    ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
                ) {
                    Ok(file) => Ok(Some(Box::new(File::from(file)))),
                    Err(rustix::io::Errno::NOENT) => Ok(None),
                    Err(rustix::io::Errno::XDEV) => Err(Error::HostileArchive {
                        entry: name.to_owned(),
                        reason: "it leads outside the layout",
                    }),
                    Err(error) => Err(error).doing(what),
                }
            }
            Source::Tar { path, files } => {
                let mut at = clean(Path::new(name));
                // Old versions of Docker link equal layers to one another.
                for _ in 0..8 {
                    match files.get(&at) {
                        None => return Ok(None),
                        Some(Place::Link(to)) => at = to.clone(),
                        Some(Place::At { offset, size }) => {
                            let mut file = File::open(path).doing(what)?;
                            file.seek(SeekFrom::Start(*offset)).doing(what)?;
                            return Ok(Some(Box::new(file.take(*size))));
                        }
                    }
                }
                Err(Error::malformed(name, "too many links"))
            }
        }
    }
}

fn contents(tar: &Path) -> io::Result<HashMap<PathBuf, Place>> {
    let mut files = HashMap::new();
    let mut archive = tar::Archive::new(File::open(tar)?);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let path = clean(&entry.path()?);
        let kind = entry.header().entry_type();
        if kind.is_file() {
            files.insert(
                path,
                Place::At {
                    offset: entry.raw_file_position(),
                    size: entry.size(),
                },
            );
        } else if let Some(to) = entry.link_name()? {
            let to = match kind {
                tar::EntryType::Link => clean(&to),
                _ => clean(&path.parent().unwrap_or(Path::new("")).join(to)),
            };
            files.insert(path, Place::Link(to));
        }
    }
    Ok(files)
}

/// The path without `.` and `..`, all of it within the archive.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean
}
