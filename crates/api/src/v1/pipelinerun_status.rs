//! What a PipelineRun has come to.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use super::{Condition, ParamValue, PipelineSpec, Provenance, WhenExpression};
use crate::unset;

/// Status of a PipelineRun.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PipelineRunStatus {
    /// Generation of the spec that this speaks of.
    #[serde(skip_serializing_if = "unset")]
    pub observed_generation: i64,
    /// The `Succeeded` condition.
    #[serde(skip_serializing_if = "unset")]
    pub conditions: Vec<Condition>,
    /// Further facts.
    #[serde(skip_serializing_if = "unset")]
    pub annotations: BTreeMap<String, String>,
    /// When the controller began.
    #[serde(skip_serializing_if = "unset")]
    pub start_time: Option<Time>,
    /// When it ended.
    #[serde(skip_serializing_if = "unset")]
    pub completion_time: Option<Time>,
    /// Results of the pipeline.
    #[serde(skip_serializing_if = "unset")]
    pub results: Vec<PipelineRunResult>,
    /// The pipeline as it runs: the source of truth once set (P-296).
    #[serde(skip_serializing_if = "unset")]
    pub pipeline_spec: Option<PipelineSpec>,
    /// Tasks that will not run, and why.
    #[serde(skip_serializing_if = "unset")]
    pub skipped_tasks: Vec<SkippedTask>,
    /// The runs it has created.
    #[serde(skip_serializing_if = "unset")]
    pub child_references: Vec<ChildStatusReference>,
    /// When the `finally` tasks began.
    #[serde(skip_serializing_if = "unset")]
    pub finally_start_time: Option<Time>,
    /// Where the pipeline came from.
    #[serde(skip_serializing_if = "unset")]
    pub provenance: Option<Provenance>,
    /// Trace it belongs to.
    #[serde(skip_serializing_if = "unset")]
    pub span_context: BTreeMap<String, String>,
}

/// A run that the PipelineRun has created.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ChildStatusReference {
    /// API version of the run.
    #[serde(skip_serializing_if = "unset")]
    pub api_version: String,
    /// `TaskRun`, `CustomRun` or `PipelineRun`.
    #[serde(skip_serializing_if = "unset")]
    pub kind: String,
    /// Name of the run.
    #[serde(skip_serializing_if = "unset")]
    pub name: String,
    /// Name for people.
    #[serde(skip_serializing_if = "unset")]
    pub display_name: String,
    /// Pipeline task it belongs to.
    #[serde(skip_serializing_if = "unset")]
    pub pipeline_task_name: String,
    /// Conditions it was run on.
    #[serde(skip_serializing_if = "unset")]
    pub when_expressions: Vec<WhenExpression>,
}

/// A pipeline task that will not run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SkippedTask {
    /// The pipeline task.
    pub name: String,
    /// Why; see [`names::skip`](crate::names::skip).
    pub reason: String,
    /// Conditions that did not hold.
    #[serde(skip_serializing_if = "unset")]
    pub when_expressions: Vec<WhenExpression>,
}

/// A result that a pipeline produced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PipelineRunResult {
    /// Its name.
    pub name: String,
    /// What was produced.
    pub value: ParamValue,
}
