//! Provenance: where a definition came from and which features were on when it ran.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{config::FeatureFlags, unset};

/// Recorded in the status of runs and steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Provenance {
    /// Source of a remote definition.
    #[serde(skip_serializing_if = "unset")]
    pub ref_source: Option<RefSource>,
    /// Feature flags in force.
    #[serde(skip_serializing_if = "unset")]
    pub feature_flags: Option<FeatureFlags>,
}

/// Source of a remote definition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RefSource {
    /// Where from.
    #[serde(skip_serializing_if = "unset")]
    pub uri: String,
    /// Digests by algorithm.
    #[serde(skip_serializing_if = "unset")]
    pub digest: BTreeMap<String, String>,
    /// Path within the source.
    #[serde(skip_serializing_if = "unset")]
    pub entry_point: String,
}
