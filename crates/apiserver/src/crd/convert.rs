//! Custom resources between versions, by relabelling or by webhook (K-175 to K-178).

use std::time::Duration;

use serde_json::{Value, json};

use super::CustomKind;
use crate::error::ApiError;
use crate::webhook::Webhooks;

const TIMEOUT: Duration = Duration::from_secs(30);
const KNOWN_REVIEWS: [&str; 2] = ["v1", "v1beta1"];

/// Converts objects to `version`; one call for all that need it.
pub async fn convert(
    webhooks: &Webhooks,
    kind: &CustomKind,
    mut objects: Vec<Value>,
    version: &str,
) -> Result<Vec<Value>, ApiError> {
    let desired = format!("{}/{version}", kind.group);
    let differs =
        |object: &Value| object.get("apiVersion").and_then(Value::as_str) != Some(desired.as_str());
    let Some(webhook) = &kind.conversion else {
        for object in &mut objects {
            object["apiVersion"] = Value::from(desired.as_str());
        }
        return Ok(objects);
    };
    let places: Vec<usize> = (0..objects.len())
        .filter(|index| differs(&objects[*index]))
        .collect();
    if places.is_empty() {
        return Ok(objects);
    }
    let from = objects[places[0]]
        .get("apiVersion")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let fail = |why: &str| {
        let (group, version) = from.split_once('/').unwrap_or(("", &from));
        let mut error = ApiError::internal(format!(
            "conversion webhook for {group}/{version}, Kind={} failed: {why}",
            kind.kind
        ));
        error.message = format!(
            "conversion webhook for {group}/{version}, Kind={} failed: {why}",
            kind.kind
        );
        error
    };
    let offered = webhook
        .get("conversionReviewVersions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let review = offered
        .filter_map(Value::as_str)
        .find(|version| KNOWN_REVIEWS.contains(version))
        .unwrap_or("v1");
    let uid = uuid::Uuid::new_v4().to_string();
    let sent: Vec<&Value> = places.iter().map(|index| &objects[*index]).collect();
    let request = json!({
        "apiVersion": format!("apiextensions.k8s.io/{review}"),
        "kind": "ConversionReview",
        "request": {"uid": uid, "desiredAPIVersion": desired, "objects": sent},
    });
    let config = webhook.get("clientConfig").unwrap_or(&Value::Null);
    let mut answer = webhooks
        .post(config, &request, TIMEOUT)
        .await
        .map_err(|why| fail(&why))?;
    let mut response = answer
        .get_mut("response")
        .map(Value::take)
        .unwrap_or_default();
    if response.get("uid").and_then(Value::as_str) != Some(uid.as_str()) {
        return Err(fail("invalid response: response.uid does not match"));
    }
    if response.pointer("/result/status").and_then(Value::as_str) != Some("Success") {
        let message = response
            .pointer("/result/message")
            .and_then(Value::as_str)
            .unwrap_or("")
            .to_owned();
        return Err(fail(&message));
    }
    let converted = match response.get_mut("convertedObjects").map(Value::take) {
        Some(Value::Array(list)) if list.len() == places.len() => list,
        other => {
            let count = other.as_ref().and_then(Value::as_array).map_or(0, Vec::len);
            return Err(fail(&format!(
                "webhook returned {count} objects, expected {}",
                places.len()
            )));
        }
    };
    for (index, mut new) in places.into_iter().zip(converted) {
        restore(&objects[index], &mut new, &desired).map_err(|why| fail(&why))?;
        objects[index] = new;
    }
    Ok(objects)
}

/// A conversion may change labels and annotations, and no other metadata (K-177).
fn restore(old: &Value, new: &mut Value, desired: &str) -> Result<(), String> {
    if new.get("apiVersion").and_then(Value::as_str) != Some(desired) {
        return Err(format!(
            "invalid converted object: apiVersion is not {desired}"
        ));
    }
    if new.get("kind") != old.get("kind") {
        return Err("invalid converted object: kind changed".into());
    }
    for field in ["name", "namespace", "uid"] {
        let pointer = format!("/metadata/{field}");
        if new.pointer(&pointer) != old.pointer(&pointer) {
            return Err(format!(
                "invalid converted object: metadata.{field} changed"
            ));
        }
    }
    let mut metadata = old.get("metadata").cloned().unwrap_or_default();
    if let Some(map) = metadata.as_object_mut() {
        for field in ["labels", "annotations"] {
            match new.pointer(&format!("/metadata/{field}")) {
                Some(value) => map.insert(field.into(), value.clone()),
                None => map.remove(field),
            };
        }
    }
    new["metadata"] = metadata;
    Ok(())
}
