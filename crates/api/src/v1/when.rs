//! `when` expressions: conditions on which a step or a pipeline task depends.

use serde::{Deserialize, Serialize};

use crate::unset;

/// One condition; all of a list must hold. Either `cel` or the other three are set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WhenExpression {
    /// Text to look for.
    #[serde(skip_serializing_if = "unset")]
    pub input: String,
    /// `in` or `notin`.
    #[serde(skip_serializing_if = "unset")]
    pub operator: String,
    /// Texts to look among.
    #[serde(skip_serializing_if = "unset")]
    pub values: Vec<String>,
    /// Expression in the Common Expression Language.
    #[serde(skip_serializing_if = "unset")]
    pub cel: String,
}
