//! CustomRuns: work that other controllers do for a pipeline.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

use crate::{
    Duration,
    kind::kind,
    names, unset,
    v1::{Condition, Param, PipelineTaskMetadata, TaskRef, WorkspaceBinding},
};

kind!(
    /// One run of a custom task.
    CustomRun, names::GROUP, "v1beta1", "customruns", spec: CustomRunSpec, status: CustomRunStatus
);

impl CustomRun {
    /// The `Succeeded` condition.
    pub fn succeeded(&self) -> Option<&Condition> {
        Condition::succeeded(&self.status.conditions)
    }

    /// Whether it has ended.
    pub fn is_done(&self) -> bool {
        self.succeeded().is_some_and(Condition::is_done)
    }
}

impl CustomRunSpec {
    /// `status` that asks to cancel the run.
    pub const CANCELLED: &'static str = "RunCancelled";
}

/// What to run and with what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CustomRunSpec {
    /// Custom task to run.
    #[serde(skip_serializing_if = "unset")]
    pub custom_ref: Option<TaskRef>,
    /// Custom task to run, given inline.
    #[serde(skip_serializing_if = "unset")]
    pub custom_spec: Option<EmbeddedCustomRunSpec>,
    /// Params of the custom task.
    #[serde(skip_serializing_if = "unset")]
    pub params: Vec<Param>,
    /// [`CustomRunSpec::CANCELLED`] or empty.
    #[serde(skip_serializing_if = "unset")]
    pub status: String,
    /// Why, for people.
    #[serde(skip_serializing_if = "unset")]
    pub status_message: String,
    /// How often to try again; up to the custom task's controller.
    #[serde(skip_serializing_if = "unset")]
    pub retries: i64,
    /// Account to use; on the wire even when empty.
    pub service_account_name: String,
    /// How long it may take.
    #[serde(skip_serializing_if = "unset")]
    pub timeout: Option<Duration>,
    /// What stands behind its workspaces.
    #[serde(skip_serializing_if = "unset")]
    pub workspaces: Vec<WorkspaceBinding>,
}

/// A custom task given inline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EmbeddedCustomRunSpec {
    /// Its API version.
    #[serde(skip_serializing_if = "unset")]
    pub api_version: String,
    /// Its kind.
    #[serde(skip_serializing_if = "unset")]
    pub kind: String,
    /// Labels and annotations; always on the wire.
    pub metadata: PipelineTaskMetadata,
    /// Its spec, for its own controller; on the wire as `null` when there is none.
    pub spec: Value,
}

/// Status of a CustomRun, written by the custom task's controller.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CustomRunStatus {
    /// Generation of the spec that this speaks of.
    #[serde(skip_serializing_if = "unset")]
    pub observed_generation: i64,
    /// The `Succeeded` condition.
    #[serde(skip_serializing_if = "unset")]
    pub conditions: Vec<Condition>,
    /// Further facts.
    #[serde(skip_serializing_if = "unset")]
    pub annotations: BTreeMap<String, String>,
    /// When it began.
    #[serde(skip_serializing_if = "unset")]
    pub start_time: Option<Time>,
    /// When it ended.
    #[serde(skip_serializing_if = "unset")]
    pub completion_time: Option<Time>,
    /// Its results.
    #[serde(skip_serializing_if = "unset")]
    pub results: Vec<CustomRunResult>,
    /// Attempts before this one.
    #[serde(skip_serializing_if = "unset")]
    pub retries_status: Vec<CustomRunStatus>,
    /// Whatever its controller wants to keep; on the wire as `null` when there is nothing.
    pub extra_fields: Value,
}

/// A result of a custom task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CustomRunResult {
    /// Its name.
    pub name: String,
    /// What was produced.
    pub value: String,
}
