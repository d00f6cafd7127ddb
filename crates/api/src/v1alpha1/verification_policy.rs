//! VerificationPolicies: which remote definitions must be signed, and by whom.

use k8s_openapi::api::core::v1::SecretReference;
use serde::{Deserialize, Serialize};

use crate::{kind::kind, names, null_as_default, unset};

kind!(
    /// Which remote definitions must be signed, and by whom.
    VerificationPolicy, names::GROUP, "v1alpha1", "verificationpolicies", spec: VerificationPolicySpec
);

/// What is verified and against which keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VerificationPolicySpec {
    /// Sources it covers.
    #[serde(deserialize_with = "null_as_default")]
    pub resources: Vec<ResourcePattern>,
    /// Keys that are trusted.
    #[serde(deserialize_with = "null_as_default")]
    pub authorities: Vec<Authority>,
    /// `warn` or `enforce`; empty means enforce.
    #[serde(skip_serializing_if = "unset")]
    pub mode: String,
}

/// Sources, by pattern.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourcePattern {
    /// Regular expression on the source's URI.
    pub pattern: String,
}

/// A trusted key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Authority {
    /// Its name.
    pub name: String,
    /// Where the key is.
    #[serde(skip_serializing_if = "unset")]
    pub key: Option<KeyRef>,
}

/// Where a key is: exactly one of secret, data and kms.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct KeyRef {
    /// Secret that holds it.
    #[serde(skip_serializing_if = "unset")]
    pub secret_ref: Option<SecretReference>,
    /// The key itself.
    #[serde(skip_serializing_if = "unset")]
    pub data: String,
    /// Key management service that holds it.
    #[serde(skip_serializing_if = "unset")]
    pub kms: String,
    /// `sha224`, `sha256`, `sha384` or `sha512`; empty means sha256.
    #[serde(skip_serializing_if = "unset")]
    pub hash_algorithm: String,
}
