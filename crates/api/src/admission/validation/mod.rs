//! The validating webhook.

mod metadata;

use serde_json::Value;

use super::{
    FieldErrors, Operation, Refusal, Request, Warning, defaulting::decode_object, shape_of,
};
use crate::config::Config;

/// Whether the object may be stored, and what its author should know nevertheless.
///
/// # Errors
/// Why it may not, in upstream's words.
pub fn validate(request: &Request<'_>, config: &Config) -> Result<Vec<Warning>, Refusal> {
    if request.operation == Operation::Delete {
        return Ok(vec![]);
    }
    let Some(shape) = shape_of(request) else {
        let gvk = format!(
            "{}/{}, Kind={}",
            request.group, request.version, request.kind
        );
        return Err(Refusal::bad_request(format!(
            "decoding request failed: unhandled kind: {gvk}"
        )));
    };
    let object = decode_object(shape, request.object)
        .map_err(|m| {
            Refusal::bad_request(format!(
                "decoding request failed: cannot decode incoming new object: {m}"
            ))
        })?
        .value;
    let errors = findings(request, &object, config);
    if errors.is_empty() {
        return Ok(vec![]);
    }
    Err(Refusal {
        code: 400,
        message: format!("validation failed: {errors}"),
        errors: errors.merged(),
    })
}

fn findings(request: &Request<'_>, _object: &Value, _config: &Config) -> FieldErrors {
    let mut errors = FieldErrors::new();
    errors.add(metadata::validate(&request.object["metadata"]).via("metadata"));
    errors
}
