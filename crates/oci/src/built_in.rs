//! Images made from bytes the program carries, such as the entrypoint's.

use std::io::Cursor;

use crate::archive::{manifest_record, names};
use crate::digest::Digest;
use crate::files::Lock;
use crate::image::Image;
use crate::layers::Stack;
use crate::manifest::{Configuration, Platform};
use crate::store::record;
use crate::{Error, ImageConfig, ImageStore, Reference};

/// One file of a built-in image, owned by root.
#[derive(Clone, Copy, Debug)]
pub struct BuiltInFile<'a> {
    /// Absolute path in the image.
    pub path: &'a str,
    /// Permission bits.
    pub mode: u32,
    /// What it holds.
    pub content: BuiltInContent<'a>,
}

/// What is at a path of a built-in image.
#[derive(Clone, Copy, Debug)]
pub enum BuiltInContent<'a> {
    /// A regular file.
    Bytes(&'a [u8]),
    /// A symbolic link to this path.
    LinkTo(&'a str),
}

impl ImageStore {
    /// Makes an image of one layer from files in memory. Adding the same again costs one hash of the files.
    pub fn add_built_in(
        &self,
        reference: &str,
        files: &[BuiltInFile<'_>],
        config: ImageConfig,
    ) -> Result<Image, Error> {
        let reference: Reference = reference.parse()?;
        let name = reference.to_string();
        let digest = content_digest(files, &config)?;
        let places = &self.shared.places;
        if places
            .read_name(&name)?
            .is_some_and(|known| known.manifest == digest)
            && let Some(image) = self.find(&name)?
        {
            return Ok(image);
        }
        {
            let _lock = Lock::shared(&places.lock())?;
            let scratch = self.scratch()?;
            let tar = tar_of(files)?;
            let mut stack = Stack::new(places);
            stack.push(&Digest::of(&tar), &scratch, || Ok(Cursor::new(&tar)))?;
            let configuration = Configuration {
                config,
                platform: Platform::current(),
                diff_ids: Vec::new(),
            };
            let mut names = names(&reference, &digest, None);
            names.iter_mut().for_each(|name| name.built_in = true);
            record(
                places,
                &scratch,
                &names,
                &digest,
                &manifest_record(stack, configuration),
            )?;
        }
        self.find(&name)?.ok_or_else(|| Error::NotFound {
            reference: name,
            reason: "it was removed at once".into(),
        })
    }
}

/// Stands for the manifest's digest: equal content has equal digests.
fn content_digest(files: &[BuiltInFile<'_>], config: &ImageConfig) -> Result<Digest, Error> {
    let description: Vec<_> = files
        .iter()
        .map(|file| {
            let digest = match file.content {
                BuiltInContent::Bytes(bytes) => Digest::of(bytes),
                BuiltInContent::LinkTo(target) => {
                    Digest::of(format!("link to {target}").as_bytes())
                }
            };
            (file.path, file.mode, digest)
        })
        .collect();
    let description = serde_json::to_vec(&(description, config))
        .map_err(|error| Error::malformed("built-in", error.to_string()))?;
    Ok(Digest::of(&description))
}

fn tar_of(files: &[BuiltInFile<'_>]) -> Result<Vec<u8>, Error> {
    let mut tar = tar::Builder::new(Vec::new());
    for file in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(file.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        let path = file.path.trim_start_matches('/');
        let appended = match file.content {
            BuiltInContent::Bytes(bytes) => {
                header.set_size(bytes.len() as u64);
                tar.append_data(&mut header, path, bytes)
            }
            BuiltInContent::LinkTo(target) => {
                header.set_size(0);
                header.set_entry_type(tar::EntryType::Symlink);
                tar.append_link(&mut header, path, target)
            }
        };
        appended.map_err(|error| Error::malformed(file.path, error.to_string()))?;
    }
    tar.into_inner()
        .map_err(|error| Error::malformed("built-in", error.to_string()))
}
