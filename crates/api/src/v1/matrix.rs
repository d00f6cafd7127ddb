//! Matrix: one pipeline task run once per combination of params.

use serde::{Deserialize, Serialize};

use super::Param;
use crate::unset;

/// Params to combine, and combinations to add.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Matrix {
    /// Arrays of which every combination is run.
    #[serde(skip_serializing_if = "unset")]
    pub params: Vec<Param>,
    /// Combinations to add or to extend.
    #[serde(skip_serializing_if = "unset")]
    pub include: Vec<IncludeParams>,
}

/// One combination to add, or params to add to the combinations it matches.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IncludeParams {
    /// For people.
    #[serde(skip_serializing_if = "unset")]
    pub name: String,
    /// Its params.
    #[serde(skip_serializing_if = "unset")]
    pub params: Vec<Param>,
}
