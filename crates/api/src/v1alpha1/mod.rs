//! `tekton.dev/v1alpha1`: the kinds whose stored version it is.

mod verification_policy;

pub use verification_policy::{
    Authority, KeyRef, ResourcePattern, VerificationPolicy, VerificationPolicySpec,
};
