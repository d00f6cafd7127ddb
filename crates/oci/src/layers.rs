//! Layers in the store: unpacked once, named by what they hold, shared between images.

use std::fs;
use std::io::{self, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use flate2::bufread::MultiGzDecoder;
use rustix::fs::{FlockOperation, flock};

use crate::Error;
use crate::digest::{Digest, Hashing};
use crate::error::Doing;
use crate::files::{Scratch, open_dir, remove_tree, sync_parent};
use crate::index::Places;
use crate::unpack::unpack;

/// The layers of one image, bottom first, as they become present.
#[derive(Debug)]
pub(crate) struct Stack<'a> {
    places: &'a Places,
    names: Vec<String>,
    chain: Option<Digest>,
    size: u64,
}

impl<'a> Stack<'a> {
    pub(crate) fn new(places: &'a Places) -> Self {
        Stack {
            places,
            names: Vec::new(),
            chain: None,
            size: 0,
        }
    }

    /// Directory names, bottom first, and the size of all.
    pub(crate) fn finish(self) -> (Vec<String>, u64) {
        (self.names, self.size)
    }

    /// Puts the layer whose uncompressed tar has this digest on top; `open` is called only if it is not there yet.
    pub(crate) fn push<R: Read>(
        &mut self,
        diff_id: &Digest,
        scratch: &Scratch,
        open: impl FnOnce() -> Result<R, Error>,
    ) -> Result<(), Error> {
        let chain = match &self.chain {
            None => diff_id.clone(),
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
        };
        let own = diff_id.hex().to_owned();
        let bound = format!("chain-{}", chain.hex());
        let present = [&own, &bound]
            .into_iter()
            .find(|name| self.places.layers().join(name).is_dir());
        let name = match present {
            Some(name) => name.clone(),
            None => self.unpack(diff_id, own, bound, scratch, open()?)?,
        };
        self.size += read_size(self.places, &name);
        self.names.push(name);
        self.chain = Some(chain);
        Ok(())
    }

    fn unpack(
        &self,
        diff_id: &Digest,
        own: String,
        bound: String,
        scratch: &Scratch,
        from: impl Read,
    ) -> Result<String, Error> {
        let dir = scratch.path().join(format!("layer-{}", self.names.len()));
        fs::create_dir(&dir).doing(|| format!("creating {}", dir.display()))?;
        let lower: Vec<PathBuf> = self
            .names
            .iter()
            .map(|name| self.places.layers().join(name))
            .collect();
        let mut tar = Hashing::new(decompressed(from)?);
        let unpacked = unpack(&mut tar, &dir, &lower)?;
        // The padding after the last entry belongs to the digest.
        io::copy(&mut tar, &mut io::sink()).doing(|| format!("reading layer {diff_id}"))?;
        let (actual, _) = tar.finish();
        if actual != *diff_id {
            return Err(Error::DigestMismatch {
                what: "layer".into(),
                expected: diff_id.to_string(),
                actual: actual.to_string(),
            });
        }
        let name = if unpacked.bound_to_lower { bound } else { own };
        let target = self.places.layers().join(&name);
        let what = || format!("storing layer {diff_id}");
        if self.places.durable {
            // One call for the many files of a layer.
            rustix::fs::syncfs(open_dir(&dir).doing(what)?).doing(what)?;
        }
        fs::write(size_file(self.places, &name), unpacked.size.to_string()).doing(what)?;
        match fs::rename(&dir, &target) {
            Ok(()) => sync_parent(&target, self.places.durable)?,
            // Another process was faster.
            Err(_) if target.is_dir() => remove_tree(&dir),
            Err(error) => return Err(error).doing(what),
        }
        Ok(name)
    }
}

/// Beside `layers/`, so that everything in there is a layer.
fn size_file(places: &Places, name: &str) -> PathBuf {
    places.root.join("sizes").join(name)
}

fn read_size(places: &Places, name: &str) -> u64 {
    fs::read_to_string(size_file(places, name))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

/// Undoes gzip, known by its first bytes whatever a media type says.
pub(crate) fn decompressed<'r>(from: impl Read + 'r) -> Result<Box<dyn Read + 'r>, Error> {
    let mut from = BufReader::with_capacity(64 * 1024, from);
    let start = io::BufRead::fill_buf(&mut from).doing(|| "reading layer".into())?;
    match start {
        [0x1f, 0x8b, ..] => Ok(Box::new(MultiGzDecoder::new(from))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(from)
                .map_err(|error| Error::malformed("layer", format!("zstd: {error}")))?;
            Ok(Box::new(decoder))
        }
        _ => Ok(Box::new(from)),
    }
}

/// Locks layers against removal; none if one of them is gone.
pub(crate) fn pin(places: &Places, names: &[String]) -> Result<Option<Vec<OwnedFd>>, Error> {
    let mut pins = Vec::with_capacity(names.len());
    for name in names {
        let path = places.layers().join(name);
        let what = || format!("opening {}", path.display());
        let dir = match open_dir(&path) {
            Ok(dir) => dir,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).doing(what),
        };
        flock(&dir, FlockOperation::NonBlockingLockShared).doing(what)?;
        pins.push(dir);
    }
    Ok(Some(pins))
}

/// Removes layers that no manifest needs and nothing has pinned. The caller holds the store's exclusive lock.
pub(crate) fn collect(places: &Places, needed: impl Fn(&str) -> bool) -> Result<(), Error> {
    for path in places.all_layers()? {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if needed(&name) {
            continue;
        }
        let what = || format!("removing layer {name}");
        let dir = open_dir(&path).doing(what)?;
        if flock(&dir, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue; // In use; a later collection finds it.
        }
        let scratch = Scratch::new(&places.scratch())?;
        fs::rename(&path, scratch.path().join("layer")).doing(what)?;
        sync_parent(&path, places.durable)?;
        let _ = fs::remove_file(size_file(places, &name));
    }
    Ok(())
}
