//! Results: what tasks and steps declare, and what they produced.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ParamType, ParamValue, PropertySpec};
use crate::unset;

/// A result that a task declares.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskResult {
    /// Name; also the name of its file.
    pub name: String,
    /// Its type; defaulting fills it in (T-087).
    #[serde(rename = "type", skip_serializing_if = "unset")]
    pub type_: Option<ParamType>,
    /// Keys of an object result.
    #[serde(skip_serializing_if = "unset")]
    pub properties: BTreeMap<String, PropertySpec>,
    /// For people.
    #[serde(skip_serializing_if = "unset")]
    pub description: String,
    /// Reference to the step result it is taken from, if it is not written by a step itself.
    #[serde(skip_serializing_if = "unset")]
    pub value: Option<ParamValue>,
}

/// A result that a step declares.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepResult {
    /// Name; also the name of its file.
    pub name: String,
    /// Its type; string when unset.
    #[serde(rename = "type", skip_serializing_if = "unset")]
    pub type_: Option<ParamType>,
    /// Keys of an object result.
    #[serde(skip_serializing_if = "unset")]
    pub properties: BTreeMap<String, PropertySpec>,
    /// For people.
    #[serde(skip_serializing_if = "unset")]
    pub description: String,
}

/// A result that a task or a step produced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskRunResult {
    /// Name it was declared under.
    pub name: String,
    /// Type of the value.
    #[serde(rename = "type", skip_serializing_if = "unset")]
    pub type_: Option<ParamType>,
    /// What was produced.
    pub value: ParamValue,
}
