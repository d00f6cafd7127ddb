//! Conditions in status, as Knative shapes them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use crate::unset;

/// One condition; runs carry exactly one, of type `Succeeded`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Condition {
    /// Which condition.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// `Error`, `Warning`, `Info` or empty.
    #[serde(skip_serializing_if = "unset")]
    pub severity: String,
    /// When `status` last changed.
    #[serde(skip_serializing_if = "unset")]
    pub last_transition_time: Option<Time>,
    /// For programs.
    #[serde(skip_serializing_if = "unset")]
    pub reason: String,
    /// For people.
    #[serde(skip_serializing_if = "unset")]
    pub message: String,
}

impl Condition {
    /// The type that says whether a run succeeded.
    pub const SUCCEEDED: &'static str = "Succeeded";

    /// The `Succeeded` condition among `conditions`.
    pub fn succeeded(conditions: &[Condition]) -> Option<&Condition> {
        conditions.iter().find(|c| c.type_ == Self::SUCCEEDED)
    }

    /// Whether it is decided, for good or ill.
    pub fn is_done(&self) -> bool {
        self.status == "True" || self.status == "False"
    }
}
