//! The metadata the server owns: uid, times, generated names (K-047 to K-063).

use rand::Rng as _;
use serde_json::{Map, Value};

use crate::builtin::conform::format_seconds;
use crate::error::{ApiError, Cause};
use crate::registry::Resource;

const SUFFIX: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const MAX_PREFIX: usize = 58;

/// The current time as `metav1.Time`.
pub(crate) fn now() -> String {
    format_seconds(jiff::Timestamp::now())
}

/// A name from a prefix (K-050).
pub(crate) fn generate_name(prefix: &str) -> String {
    let mut end = prefix.len().min(MAX_PREFIX);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let mut rng = rand::rng();
    let suffix: String = (0..5)
        .map(|_| char::from(SUFFIX[rng.random_range(0..SUFFIX.len())]))
        .collect();
    format!("{}{suffix}", &prefix[..end])
}

/// `metadata` of an object, made if absent.
pub(crate) fn metadata(object: &mut Value) -> Result<&mut Map<String, Value>, ApiError> {
    let map = object
        .as_object_mut()
        .ok_or_else(|| ApiError::bad_request("the object provided is unrecognized"))?;
    let metadata = map
        .entry("metadata")
        .or_insert_with(|| Value::Object(Map::new()));
    if metadata.is_null() {
        *metadata = Value::Object(Map::new());
    }
    metadata
        .as_object_mut()
        .ok_or_else(|| ApiError::bad_request("metadata is not an object"))
}

/// A text member of `metadata`.
pub(crate) fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object
        .get("metadata")
        .and_then(|metadata| metadata.get(key))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The namespace of the URL, checked against the body's (K-053).
pub(crate) fn place(
    object: &mut Value,
    resource: &Resource,
    namespace: &str,
) -> Result<(), ApiError> {
    let metadata = metadata(object)?;
    let own = metadata
        .get("namespace")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if !resource.namespaced {
        metadata.remove("namespace");
    } else if own.is_empty() {
        metadata.insert("namespace".into(), namespace.into());
    } else if own != namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// What the server sets on a new object, and what it drops (K-047, K-049, K-051).
pub(crate) fn initialise(object: &mut Value, resource: &Resource) -> Result<(), ApiError> {
    let metadata = metadata(object)?;
    let set = |key: &str| {
        metadata
            .get(key)
            .and_then(Value::as_str)
            .is_some_and(|text| !text.is_empty())
    };
    if set("resourceVersion") {
        let mut error = ApiError::internal("");
        error.message = "resourceVersion should not be set on objects to be created".into();
        error.details = None;
        return Err(error);
    }
    if !set("name") {
        let Some(prefix) = metadata
            .get("generateName")
            .and_then(Value::as_str)
            .filter(|prefix| !prefix.is_empty())
        else {
            let cause = Cause::required("metadata.name", "name or generateName is required");
            return Err(ApiError::invalid(
                &resource.group,
                &resource.kind,
                "",
                vec![cause],
            ));
        };
        let name = generate_name(prefix);
        metadata.insert("name".into(), name.into());
    }
    for key in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "resourceVersion",
        "generation",
    ] {
        metadata.remove(key);
    }
    metadata.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
    metadata.insert("creationTimestamp".into(), now().into());
    drop_empty(metadata);
    Ok(())
}

/// Empty maps and lists that Go would not print.
fn drop_empty(metadata: &mut Map<String, Value>) {
    for key in [
        "labels",
        "annotations",
        "finalizers",
        "ownerReferences",
        "managedFields",
    ] {
        let empty = match metadata.get(key) {
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::Array(list)) => list.is_empty(),
            Some(Value::Null) => true,
            _ => false,
        };
        if empty {
            metadata.remove(key);
        }
    }
    for key in ["name", "namespace", "generateName", "selfLink", "uid"] {
        if metadata.get(key).and_then(Value::as_str) == Some("") {
            metadata.remove(key);
        }
    }
}

/// Brings back what an update may not touch (K-063), and merges duplicate owners (K-073).
pub(crate) fn preserve(new: &mut Value, old: &Value) -> Result<(), ApiError> {
    let before = old.get("metadata").and_then(Value::as_object);
    let before = |key: &str| before.and_then(|before| before.get(key));
    let metadata = metadata(new)?;
    for key in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
        "selfLink",
        "generateName",
        "name",
        "namespace",
    ] {
        match before(key) {
            // Mostly it is the same already: comparing costs less than copying.
            Some(value) if metadata.get(key) == Some(value) => {}
            Some(value) => drop(metadata.insert(key.into(), value.clone())),
            None => drop(metadata.remove(key)),
        }
    }
    match metadata.get("managedFields") {
        None => {
            if let Some(fields) = before("managedFields") {
                metadata.insert("managedFields".into(), fields.clone());
            }
        }
        // An explicit empty list, or one with an empty entry, clears ownership (K-117).
        Some(Value::Array(list))
            if list
                .iter()
                .all(|entry| entry.as_object().is_none_or(Map::is_empty)) =>
        {
            metadata.remove("managedFields");
        }
        Some(_) => {}
    }
    drop_empty(metadata);
    Ok(())
}

/// Merges ownerReferences with the same UID; says whether there were any.
pub(crate) fn merge_owners(object: &mut Value) -> bool {
    let Some(owners) = object
        .pointer_mut("/metadata/ownerReferences")
        .and_then(Value::as_array_mut)
    else {
        return false;
    };
    let before = owners.len();
    let mut seen: Vec<Value> = Vec::new();
    owners.retain(|owner| {
        let uid = owner.get("uid").cloned().unwrap_or_default();
        let fresh = !seen.contains(&uid);
        if fresh {
            seen.push(uid);
        }
        fresh
    });
    owners.len() != before
}

/// The finalizers of an object.
pub(crate) fn finalizers(object: &Value) -> &[Value] {
    object
        .pointer("/metadata/finalizers")
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_are_a_cut_prefix_and_five_safe_characters() {
        // K-050
        let name = generate_name(&"x".repeat(70));
        assert_eq!(name.len(), 63);
        assert!(name[58..].bytes().all(|byte| SUFFIX.contains(&byte)));
        assert_ne!(generate_name("a-"), generate_name("a-"));
    }
}
