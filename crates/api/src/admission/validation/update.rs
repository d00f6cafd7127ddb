//! What may change about a run once it is there (T-074, T-077 to T-079).

use serde_json::Value;

use crate::{
    admission::{FieldError, FieldErrors, Request, defaulting},
    config::Config,
    shape,
};

/// Findings about a changed run; `object` is decoded already.
pub(super) fn validate(
    request: &Request<'_>,
    shape: &str,
    object: &Value,
    config: &Config,
) -> FieldErrors {
    let Some(old) = request
        .old_object
        .and_then(|old| shape::decode(shape, old, false).ok())
    else {
        return FieldErrors::new();
    };
    let (old, new) = (&old.value, &object["spec"]);
    let mut errors = FieldErrors::new();
    if old["spec"].get("managedBy") != new.get("managedBy") {
        errors.add(FieldError::invalid_value(
            "managedBy is immutable",
            "spec.managedBy",
        ));
    }
    let kind = request.kind;
    if is_done(old) {
        let mut defaulted = old.clone();
        defaulting::set_defaults(request, config, &mut defaulted);
        let defaulted = shape::decode(shape, &defaulted, false)
            .map(|d| d.value)
            .unwrap_or_default();
        if old["spec"] == *new || defaulted["spec"] == *new {
            return FieldErrors::new();
        }
        let message = format!("Once the {kind} is complete, no updates are allowed");
        errors.add(FieldError::invalid_value(message, ""));
        return errors.via("spec");
    }
    let (free, named): (&[&str], &str) = match kind {
        "TaskRun" => (
            &["status", "statusMessage", "managedBy"],
            "status and statusMessage",
        ),
        _ => (&["status", "managedBy"], "status"),
    };
    let without = |spec: &Value| {
        let mut spec = spec.clone();
        if let Some(fields) = spec.as_object_mut() {
            fields.retain(|name, _| !free.contains(&name.as_str()));
        }
        spec
    };
    if without(&old["spec"]) != without(new) {
        let message = format!("Once the {kind} has started, only {named} updates are allowed");
        errors.add(FieldError::invalid_value(message, ""));
    }
    errors.via("spec")
}

fn is_done(run: &Value) -> bool {
    let conditions = run["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|c| c["type"] == "Succeeded" && (c["status"] == "True" || c["status"] == "False"))
}

/// A run that has begun cannot be held back.
pub(super) fn pending(request: &Request<'_>, object: &Value) -> Option<FieldError> {
    let wish = match request.kind {
        "TaskRun" => "TaskRunPending",
        _ => "PipelineRunPending",
    };
    let held = object["spec"]["status"] == wish && object["status"]["startTime"].is_string();
    let message = format!("{} cannot be Pending after it is started", request.kind);
    held.then(|| FieldError::invalid_value(message, "spec.status"))
}
