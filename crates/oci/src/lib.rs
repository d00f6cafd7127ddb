//! Images: content store, registry client and server, layers.
//!
//! An [`ImageStore`] is a directory that several processes may use at once. Images come into it from archives
//! ([`ImageStore::load`]), registries ([`ImageStore::pull`]) or memory ([`ImageStore::add_built_in`]) and come out as
//! [`Image`]s whose layers are plain directories, ready to be lower directories of an overlay mount. What an image runs can
//! be [looked up](Lookups) in its registry without any of that.
#![forbid(unsafe_code)]

mod archive;
mod built_in;
mod credentials;
mod digest;
mod error;
mod files;
mod image;
mod index;
mod layers;
mod lookup;
mod manifest;
mod mapping;
mod recent;
mod reference;
mod refusal;
mod registry;
mod repository;
mod store;
mod transport;
mod unpack;

pub use built_in::{BuiltInContent, BuiltInFile};
pub use credentials::Credentials;
pub use error::{Error, with_causes};
pub use image::{HOST, Image, ImageConfig, ImageSummary};
pub use lookup::{ImageCommand, LookupError, Lookups, PlatformCommands};
pub use mapping::NameMapping;
pub use reference::Reference;
pub use registry::PullPolicy;
pub use repository::{Fetched, Get, RawManifest, ReadError, Repository, Transport};
pub use store::{ImageStore, StoreOptions};
