//! What happens to a CustomResourceDefinition itself when it is written: checks, names, conditions (K-161 to K-165).

use serde_json::{Value, json};

use super::schema::Schema;
use crate::error::Cause;

const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// The checks of K-161 and K-179.
pub fn validate(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let name = text("/metadata/name");
    let expected = format!("{}.{}", text("/spec/names/plural"), text("/spec/group"));
    if name != expected {
        causes.push(Cause::invalid(
            "metadata.name",
            &name.into(),
            "must be spec.names.plural+\".\"+spec.group",
        ));
    }
    for field in [
        "/spec/group",
        "/spec/names/plural",
        "/spec/names/kind",
        "/spec/scope",
    ] {
        if text(field).is_empty() {
            causes.push(Cause::required(field[1..].replace('/', "."), ""));
        }
    }
    if object.pointer("/spec/preserveUnknownFields") == Some(&Value::Bool(true)) {
        let text = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        causes.push(Cause::invalid(
            "spec.preserveUnknownFields",
            &true.into(),
            text,
        ));
    }
    let versions = object
        .pointer("/spec/versions")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    if versions.is_empty() {
        causes.push(Cause::required(
            "spec.versions",
            "must have at least one version",
        ));
    } else if versions
        .iter()
        .filter(|version| version["storage"] == true)
        .count()
        != 1
    {
        let list = object.pointer("/spec/versions").unwrap_or(&Value::Null);
        causes.push(Cause::invalid(
            "spec.versions",
            list,
            "must have exactly one version marked as storage version",
        ));
    }
    for (index, version) in versions.iter().enumerate() {
        let path = format!("spec.versions[{index}].schema.openAPIV3Schema");
        match version.pointer("/schema/openAPIV3Schema") {
            None => causes.push(Cause::required(path, "schemas are required")),
            Some(schema) => {
                if let Err(error) = Schema::compile(schema) {
                    causes.push(Cause::invalid(path, &Value::Null, &error));
                }
            }
        }
    }
    let stored = old
        .and_then(|old| old.pointer("/status/storedVersions"))
        .and_then(Value::as_array);
    for version in stored.into_iter().flatten() {
        if !versions
            .iter()
            .any(|candidate| candidate["name"] == *version)
        {
            let text = "missing from spec.versions; must remain in spec.versions until removed from status.storedVersions";
            causes.push(Cause::invalid("status.storedVersions[0]", version, text));
        }
    }
}

/// Sets status and cleanup finalizer; `clash` is the reason another definition already has one of the names.
pub fn establish(object: &mut Value, clash: Option<&'static str>, now: &str) {
    let names = object.pointer("/spec/names").cloned().unwrap_or_default();
    let storage = object
        .pointer("/spec/versions")
        .and_then(Value::as_array)
        .and_then(|versions| {
            versions
                .iter()
                .find(|version| version["storage"] == true)
                .map(|version| version["name"].clone())
        });
    let old = object.pointer("/status").cloned().unwrap_or_default();
    let mut stored = old
        .get("storedVersions")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    if let Some(storage) = storage.filter(|storage| !stored.contains(storage)) {
        stored.push(storage);
    }
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        let previous = old
            .get("conditions")
            .and_then(Value::as_array)
            .and_then(|conditions| {
                conditions
                    .iter()
                    .find(|condition| condition["type"] == kind && condition["status"] == status)
            });
        let since = previous.map_or_else(
            || Value::from(now),
            |condition| condition["lastTransitionTime"].clone(),
        );
        json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since})
    };
    let mut conditions = match clash {
        None => vec![
            condition("NamesAccepted", "True", "NoConflicts", "no conflicts found"),
            condition(
                "Established",
                "True",
                "InitialNamesAccepted",
                "the initial names have been accepted",
            ),
        ],
        Some(reason) => vec![
            condition(
                "NamesAccepted",
                "False",
                reason,
                "the name is already in use",
            ),
            condition(
                "Established",
                "False",
                "NotAccepted",
                "not all names are accepted",
            ),
        ],
    };
    let others = old
        .get("conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    conditions.extend(
        others
            .filter(|condition| {
                condition["type"] != "NamesAccepted" && condition["type"] != "Established"
            })
            .cloned(),
    );
    object["status"] =
        json!({"acceptedNames": names, "conditions": conditions, "storedVersions": stored});
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
        && !metadata.contains_key("deletionTimestamp")
    {
        let finalizers = metadata.entry("finalizers").or_insert_with(|| json!([]));
        if let Some(list) = finalizers
            .as_array_mut()
            .filter(|list| !list.iter().any(|item| item == CLEANUP))
        {
            list.push(CLEANUP.into());
        }
    }
}

/// Marks a definition whose instances are being deleted (K-181).
pub fn terminate(object: &mut Value, now: &str) {
    let condition = json!({
        "type": "Terminating", "status": "True", "reason": "InstanceDeletionInProgress",
        "message": "CustomResource deletion is in progress", "lastTransitionTime": now,
    });
    if let Some(list) = object
        .pointer_mut("/status/conditions")
        .and_then(Value::as_array_mut)
    {
        list.retain(|condition| condition["type"] != "Terminating");
        list.push(condition);
    }
}

/// Takes the cleanup finalizer away; says whether it was there.
pub fn finish_cleanup(object: &mut Value) -> bool {
    let Some(list) = object
        .pointer_mut("/metadata/finalizers")
        .and_then(Value::as_array_mut)
    else {
        return false;
    };
    let before = list.len();
    list.retain(|item| item != CLEANUP);
    list.len() != before
}
