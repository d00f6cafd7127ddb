//! `resolution.tekton.dev/v1beta1`: requests to resolvers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    kind::kind,
    names, unset,
    v1::{Condition, Param, RefSource},
};

kind!(
    /// A request to fetch a definition from elsewhere.
    ResolutionRequest, names::RESOLUTION_GROUP, "v1beta1", "resolutionrequests",
    spec: ResolutionRequestSpec, status: ResolutionRequestStatus
);

/// What to fetch; the resolver is named by the label `resolution.tekton.dev/type`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResolutionRequestSpec {
    /// Params of the resolver.
    #[serde(skip_serializing_if = "unset")]
    pub params: Vec<Param>,
    /// Location, in the short form of references.
    #[serde(skip_serializing_if = "unset")]
    pub url: String,
}

/// What was fetched.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ResolutionRequestStatus {
    /// Generation of the spec that this speaks of.
    #[serde(skip_serializing_if = "unset")]
    pub observed_generation: i64,
    /// The `Succeeded` condition.
    #[serde(skip_serializing_if = "unset")]
    pub conditions: Vec<Condition>,
    /// Further facts.
    #[serde(skip_serializing_if = "unset")]
    pub annotations: BTreeMap<String, String>,
    /// The definition, base64.
    pub data: String,
    /// Deprecated form of `ref_source`; on the wire as `null` when unset.
    pub source: Option<RefSource>,
    /// Where it came from; on the wire as `null` when unset.
    pub ref_source: Option<RefSource>,
}
