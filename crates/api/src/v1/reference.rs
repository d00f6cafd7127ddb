//! References to tasks, pipelines and step actions, by name or through a resolver.

use serde::{Deserialize, Serialize};

use super::Param;
use crate::unset;

/// Reference to a Task, or to a custom task when `api_version` and `kind` say so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TaskRef {
    /// Name in the run's namespace.
    #[serde(skip_serializing_if = "unset")]
    pub name: String,
    /// `Task`, or the kind of a custom task.
    #[serde(skip_serializing_if = "unset")]
    pub kind: String,
    /// API version of a custom task.
    #[serde(skip_serializing_if = "unset")]
    pub api_version: String,
    /// Resolver that fetches it.
    #[serde(skip_serializing_if = "unset")]
    pub resolver: String,
    /// Params of the resolver.
    #[serde(skip_serializing_if = "unset")]
    pub params: Vec<Param>,
}

/// Reference to a Pipeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PipelineRef {
    /// Name in the run's namespace.
    #[serde(skip_serializing_if = "unset")]
    pub name: String,
    /// API version of the referent.
    #[serde(skip_serializing_if = "unset")]
    pub api_version: String,
    /// Resolver that fetches it.
    #[serde(skip_serializing_if = "unset")]
    pub resolver: String,
    /// Params of the resolver.
    #[serde(skip_serializing_if = "unset")]
    pub params: Vec<Param>,
}

/// A step's reference to a StepAction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ref {
    /// Name in the run's namespace.
    #[serde(skip_serializing_if = "unset")]
    pub name: String,
    /// Resolver that fetches it.
    #[serde(skip_serializing_if = "unset")]
    pub resolver: String,
    /// Params of the resolver.
    #[serde(skip_serializing_if = "unset")]
    pub params: Vec<Param>,
}
