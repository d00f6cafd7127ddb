//! CustomRuns, VerificationPolicies and ResolutionRequests.

use serde_json::Value;

use super::{param, workspace};
use crate::{
    admission::{FieldError, FieldErrors},
    names::label,
    v1alpha1::{KeyRef, VerificationPolicySpec},
    v1beta1::CustomRunSpec,
};

/// A CustomRun; upstream stops at the first finding.
pub(super) fn custom_run(spec: &CustomRunSpec) -> FieldErrors {
    let missing = |path: &str| FieldErrors::from(FieldError::missing(path));
    let (of, inline) = (&spec.custom_ref, &spec.custom_spec);
    if *spec == CustomRunSpec::default() {
        return missing("spec");
    }
    let paths = ["spec.customRef", "spec.customSpec"];
    match (of, inline) {
        (Some(_), Some(_)) => return FieldError::multiple_one_of(&paths).into(),
        (None, None) => return FieldError::missing_one_of(&paths).into(),
        (Some(of), None) if of.api_version.is_empty() => {
            return missing("spec.customRef.apiVersion");
        }
        (Some(of), None) if of.kind.is_empty() => return missing("spec.customRef.kind"),
        (None, Some(inline)) if inline.api_version.is_empty() => {
            return missing("spec.customSpec.apiVersion");
        }
        (None, Some(inline)) if inline.kind.is_empty() => return missing("spec.customSpec.kind"),
        _ => {}
    }
    if spec.status.is_empty() && !spec.status_message.is_empty() {
        let message = format!(
            "statusMessage should not be set if status is not set, but it is currently set to {}",
            spec.status_message
        );
        return FieldError::invalid_value(message, "statusMessage").into();
    }
    let params = param::passed_once(&spec.params).via("spec.params");
    if !params.is_empty() {
        return params;
    }
    workspace::bindings(&spec.workspaces).via("spec.workspaces")
}

pub(super) fn verification_policy(spec: &VerificationPolicySpec) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if spec.resources.is_empty() {
        errors.add(FieldError::missing("resources"));
    }
    for resource in &spec.resources {
        if let Err(cause) = regex::Regex::new(&resource.pattern) {
            // Go's own account of the error is not ours to reproduce.
            let why = cause
                .to_string()
                .lines()
                .last()
                .unwrap_or_default()
                .to_owned();
            let details =
                format!("resourcePattern cannot be compiled by regex: error parsing regexp: {why}");
            errors.add(
                FieldError::invalid_value(&resource.pattern, "ResourcePattern").details(details),
            );
        }
    }
    if spec.authorities.is_empty() {
        errors.add(FieldError::missing("authorities"));
    }
    for (index, authority) in spec.authorities.iter().enumerate() {
        if let Some(of) = &authority.key {
            errors.add(key(of).via_field_index("key", index));
        }
    }
    if !matches!(spec.mode.as_str(), "" | "enforce" | "warn") {
        let message = format!(
            "available values are: enforce, warn, but got: {}",
            spec.mode
        );
        errors.add(FieldError::invalid_value(message, "mode"));
    }
    errors
}

fn key(of: &KeyRef) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let paths = ["data", "kms", "secretref"];
    match [
        !of.data.is_empty(),
        of.secret_ref.is_some(),
        !of.kms.is_empty(),
    ]
    .into_iter()
    .filter(|set| *set)
    .count()
    {
        0 => errors.add(FieldError::missing_one_of(&paths)),
        1 => {}
        _ => errors.add(FieldError::multiple_one_of(&paths)),
    }
    if !matches!(
        of.hash_algorithm.to_lowercase().as_str(),
        "" | "sha224" | "sha256" | "sha384" | "sha512"
    ) {
        errors.add(FieldError::invalid_value(
            &of.hash_algorithm,
            "HashAlgorithm",
        ));
    }
    errors
}

/// A ResolutionRequest must say which resolver it is for.
pub(super) fn resolution_request(object: &Value) -> FieldErrors {
    let resolver = object["metadata"]["labels"][label::RESOLVER_TYPE]
        .as_str()
        .unwrap_or_default();
    let missing = resolver
        .is_empty()
        .then(|| FieldError::missing(label::RESOLVER_TYPE));
    FieldErrors::from(missing).via("labels").via("meta")
}
