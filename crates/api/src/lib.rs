//! Every kind: types, defaulting, validation, conversion, CRD schemas. Pure.
//!
//! - [`v1`], [`v1beta1`], [`v1alpha1`], [`resolution`]: the kinds as stored and served, serialised as Tekton does.
//! - [`admission`]: the defaults an object gets and the reasons it is refused for, in Tekton's words.
//! - [`mod@convert`]: from one served version to another.
//! - [`crd`]: the CustomResourceDefinitions.
//! - [`cel`]: the compiler of CEL expressions.
//! - [`config`]: what the ConfigMaps of the installation say.
//! - [`names`]: labels, annotations and reasons that tools read.
//!
//! What Go's types look like on the wire stands in one table, `shape/shapes.txt`; decoding in Go's words, writing back
//! as Go does and the CRD schemas all read it.
#![forbid(unsafe_code)]

pub mod admission;
pub mod cel;
pub mod config;
pub mod convert;
pub mod crd;
mod duration;
mod kind;
pub mod names;
mod names_of_objects;
#[cfg(test)]
mod properties;
pub mod resolution;
mod shape;
mod signed_form;
pub mod v1;
pub mod v1alpha1;
pub mod v1beta1;

pub use duration::{Duration, ParseDurationError};
pub use signed_form::signed_form;

/// Whether a field is at its zero value and therefore left out (Go's `omitempty`).
pub(crate) fn unset<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Reads `null` as the zero value, where Go may have written one.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + serde::Deserialize<'de>,
{
    Ok(<Option<T> as serde::Deserialize>::deserialize(deserializer)?.unwrap_or_default())
}
