//! Admission: what happens between decoding a write and storing it (section 10).

mod limits;
mod plugins;
mod quota;
mod webhooks;

use serde_json::Value;

use crate::identity::Identity;
use crate::registry::Resource;

pub(crate) use webhooks::Hooks;

/// The verb as admission sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
}

impl Operation {
    /// Its name in reviews and rules.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

/// A write under review.
pub(crate) struct Review<'a> {
    pub operation: Operation,
    pub resource: &'a Resource,
    pub subresource: &'a str,
    pub namespace: &'a str,
    /// The stored object in the request's version.
    pub old: Option<&'a Value>,
    pub dry_run: bool,
    pub identity: &'a Identity,
    /// `CreateOptions` and the like.
    pub options: Value,
}
