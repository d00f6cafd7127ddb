//! Keeps what one version does not know as JSON in annotations of the other.

use serde_json::Value;

use super::ConvertError;
use crate::shape::go_json;

pub(super) const RESOURCES: &str = "tekton.dev/v1beta1Resources";
pub(super) const CLOUD_EVENTS: &str = "tekton.dev/v1beta1CloudEvents";
pub(super) const RESOURCES_RESULT: &str = "tekton.dev/v1beta1ResourcesResult";
pub(super) const RESOURCES_STATUS: &str = "tekton.dev/v1beta1ResourcesStatus";

/// Puts the value away, if there is one.
pub(super) fn save(metadata: &mut Value, key: &str, value: Option<Value>) {
    if let Some(value) = value.filter(|v| !v.is_null()) {
        metadata["annotations"][key] = go_json(&value).into();
    }
}

/// Takes the value out again.
pub(super) fn take(metadata: &mut Value, key: &str) -> Result<Option<Value>, ConvertError> {
    let Some(Value::String(text)) = read(metadata, key) else {
        return Ok(None);
    };
    let value = serde_json::from_str(&text).map_err(|cause| {
        ConvertError(format!(
            "error deserializing key {key} from metadata: {cause}"
        ))
    })?;
    remove(metadata, key);
    Ok(Some(value))
}

pub(super) fn read(metadata: &Value, key: &str) -> Option<Value> {
    metadata.get("annotations")?.get(key).cloned()
}

/// Removes an annotation; without any left there is no map of them either.
pub(super) fn remove(metadata: &mut Value, key: &str) {
    let Some(fields) = metadata.as_object_mut() else {
        return;
    };
    let Some(annotations) = fields.get_mut("annotations").and_then(Value::as_object_mut) else {
        return;
    };
    annotations.remove(key);
    if annotations.is_empty() {
        fields.remove("annotations");
    }
}
