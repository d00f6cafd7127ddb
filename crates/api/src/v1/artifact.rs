//! Artifacts: what steps and tasks say they consumed and built.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::unset;

/// Artifacts of a task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Artifacts {
    /// What it consumed.
    #[serde(skip_serializing_if = "unset")]
    pub inputs: Vec<Artifact>,
    /// What it built.
    #[serde(skip_serializing_if = "unset")]
    pub outputs: Vec<Artifact>,
}

/// A named artifact.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Artifact {
    /// Its name.
    #[serde(skip_serializing_if = "unset")]
    pub name: String,
    /// Where it is and what it hashes to.
    #[serde(skip_serializing_if = "unset")]
    pub values: Vec<ArtifactValue>,
    /// Whether it is what the task is for, rather than a by-product.
    #[serde(skip_serializing_if = "unset")]
    pub build_output: bool,
}

/// One location of an artifact.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ArtifactValue {
    /// Digests by algorithm.
    #[serde(skip_serializing_if = "unset")]
    pub digest: BTreeMap<String, String>,
    /// Where it can be fetched.
    #[serde(skip_serializing_if = "unset")]
    pub uri: String,
}
