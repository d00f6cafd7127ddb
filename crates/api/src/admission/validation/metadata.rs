//! Names of Tekton's objects (T-023).

use serde_json::Value;

use crate::{
    admission::{FieldError, FieldErrors, field_error::quote},
    names_of_objects::subdomain_errors,
};

/// Longer names would not fit into labels.
const MAX_LENGTH: usize = 63;

pub(super) fn validate(metadata: &Value) -> FieldErrors {
    let name = metadata["name"].as_str().unwrap_or_default();
    if !subdomain_errors(name).is_empty() {
        return FieldError::generic(
            format!(
                "invalid resource name {}: must be a valid DNS label",
                quote(name)
            ),
            ["name"],
        )
        .into();
    }
    if name.len() > MAX_LENGTH {
        return FieldError::generic(
            "Invalid resource name: length must be no more than 63 characters",
            ["name"],
        )
        .into();
    }
    FieldErrors::new()
}
