//! Server-side apply, and who owns which field (section 6).
//!
//! Ownership is tracked from an object's first apply on; before it, nobody but the writers of the time could tell
//! the difference (K-118).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::ownership::{
    Form, SYSTEM, disown, fields_of, leaves, lookup, merge_into, own, owned, remove,
};
use crate::builtin::conform::format_seconds;
use crate::error::{ApiError, Cause};
use crate::handler::WriteOptions;
use crate::registry::Resource;

/// The manager that owns what was there before the first apply.
const BEFORE: &str = "before-first-apply";

fn entry(
    manager: &str,
    operation: &str,
    resource: &Resource,
    subresource: &str,
    fields: Value,
) -> Value {
    let mut entry = json!({
        "manager": manager,
        "operation": operation,
        "apiVersion": resource.api_version(),
        "time": format_seconds(jiff::Timestamp::now()),
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    });
    if !subresource.is_empty() {
        entry["subresource"] = subresource.into();
    }
    entry
}

fn is_entry(entry: &Value, manager: &str, operation: &str, subresource: &str) -> bool {
    entry["manager"] == manager
        && entry["operation"] == operation
        && entry
            .get("subresource")
            .and_then(Value::as_str)
            .unwrap_or_default()
            == subresource
}

/// Records that `manager` owns all of a newly applied object.
pub(crate) fn own_all(object: &mut Value, applied: &Value, resource: &Resource, manager: &str) {
    let fields = fields_of(applied, Form::of(resource), true);
    object["metadata"]["managedFields"] = json!([entry(manager, "Apply", resource, "", fields)]);
}

/// A path as conflicts name it: `.spec.ports[port=80].name`.
fn render(path: &[String]) -> String {
    let mut out = String::new();
    for key in path {
        if let Some(field) = key.strip_prefix("f:") {
            out.push('.');
            out.push_str(field);
        } else if let Some(item) = key.strip_prefix("k:") {
            let map: BTreeMap<String, Value> = serde_json::from_str(item).unwrap_or_default();
            let parts: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            out.push_str(&format!("[{}]", parts.join(",")));
        } else if let Some(item) = key.strip_prefix("v:") {
            out.push_str(&format!("[={item}]"));
        }
    }
    out
}

/// The live object after an apply; 409 if somebody else owns a value it would change (K-114, K-115).
pub(crate) fn merge(
    live: &Value,
    applied: &Value,
    resource: &Resource,
    options: &WriteOptions,
    subresource: &str,
) -> Result<Value, ApiError> {
    let form = Form::of(resource);
    let mut managers = live
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    if managers.is_empty() {
        managers.push(entry(
            BEFORE,
            "Update",
            resource,
            "",
            fields_of(live, form, true),
        ));
    }
    let mut wanted = applied.clone();
    if let Some(metadata) = wanted.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| {
            !SYSTEM.contains(&key.as_str()) || key == "resourceVersion" || key == "uid"
        });
    }
    let fields = fields_of(&wanted, form, true);
    let mut paths = Vec::new();
    leaves(&fields, &mut Vec::new(), &mut paths);
    let changes: Vec<&Vec<String>> = paths
        .iter()
        .filter(|path| path.last().is_none_or(|last| last != "."))
        .filter(|path| lookup(live, path).is_some() && lookup(live, path) != lookup(&wanted, path))
        .collect();
    let mut conflicts = Vec::new();
    for other in managers.iter_mut() {
        if is_entry(other, &options.manager, "Apply", subresource) {
            continue;
        }
        for path in &changes {
            if !owned(&other["fieldsV1"], path) {
                continue;
            }
            if options.force {
                disown(&mut other["fieldsV1"], path);
            } else {
                conflicts.push((other.clone(), render(path)));
            }
        }
    }
    if !conflicts.is_empty() {
        return Err(conflict(&conflicts));
    }
    let mut new = live.clone();
    let before = managers
        .iter()
        .find(|entry| is_entry(entry, &options.manager, "Apply", subresource))
        .cloned();
    // K-114: what this manager no longer applies and nobody else owns goes.
    if let Some(before) = &before {
        let mut old_paths = Vec::new();
        leaves(&before["fieldsV1"], &mut Vec::new(), &mut old_paths);
        for path in old_paths.iter().filter(|path| !owned(&fields, path)) {
            let shared = managers.iter().any(|other| {
                !is_entry(other, &options.manager, "Apply", subresource)
                    && owned(&other["fieldsV1"], path)
            });
            if !shared {
                remove(&mut new, path);
            }
        }
    }
    merge_into(&mut new, &wanted, form, true);
    managers.retain(|entry| !is_entry(entry, &options.manager, "Apply", subresource));
    managers.retain(|entry| {
        entry["fieldsV1"]
            .as_object()
            .is_some_and(|map| !map.is_empty())
    });
    let mut mine = entry(&options.manager, "Apply", resource, subresource, fields);
    if let Some(before) = before.filter(|before| before["fieldsV1"] == mine["fieldsV1"]) {
        mine["time"] = before["time"].clone();
    }
    managers.insert(0, mine);
    new["metadata"]["managedFields"] = Value::Array(managers);
    Ok(new)
}

fn conflict(conflicts: &[(Value, String)]) -> ApiError {
    let name = |entry: &Value| {
        let manager = entry["manager"].as_str().unwrap_or_default();
        if entry["operation"] == "Update" {
            format!(
                "conflict with \"{manager}\" using {}",
                entry["apiVersion"].as_str().unwrap_or_default()
            )
        } else {
            format!("conflict with \"{manager}\"")
        }
    };
    let causes: Vec<Cause> = conflicts
        .iter()
        .map(|(entry, path)| Cause {
            reason: "FieldManagerConflict",
            message: name(entry),
            field: path.clone(),
        })
        .collect();
    let message = match conflicts {
        [(entry, path)] => format!("Apply failed with 1 conflict: {}: {path}", name(entry)),
        many => {
            let mut by_manager: BTreeMap<String, Vec<&str>> = BTreeMap::new();
            for (entry, path) in many {
                by_manager.entry(name(entry)).or_default().push(path);
            }
            let lines: Vec<String> = by_manager
                .iter()
                .map(|(manager, paths)| match paths.as_slice() {
                    [one] => format!("{manager}: {one}"),
                    several => format!("{manager}:\n- {}", several.join("\n- ")),
                })
                .collect();
            format!(
                "Apply failed with {} conflicts: {}",
                many.len(),
                lines.join("\n")
            )
        }
    };
    ApiError::apply_conflict(message, causes)
}

/// After an ordinary update of an object whose ownership is tracked: changed fields pass to the updater (K-111).
pub(crate) fn track_update(
    new: &mut Value,
    old: &Value,
    resource: &Resource,
    options: &WriteOptions,
    subresource: &str,
) {
    let managers = new
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let unchanged = old
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array)
        .is_some_and(|old| *old == managers);
    // An apply has just written them itself.
    if managers.is_empty() || !unchanged || options.manager.is_empty() {
        return;
    }
    let form = Form::of(resource);
    let (now, before) = (fields_of(new, form, true), fields_of(old, form, true));
    let collect = |fields: &Value| {
        let mut paths = Vec::new();
        leaves(fields, &mut Vec::new(), &mut paths);
        paths
    };
    let changed: Vec<Vec<String>> = collect(&now)
        .into_iter()
        .filter(|path| lookup(new, path) != lookup(old, path))
        .collect();
    let gone: Vec<Vec<String>> = collect(&before)
        .into_iter()
        .filter(|path| lookup(new, path).is_none())
        .collect();
    if changed.is_empty() && gone.is_empty() {
        return;
    }
    let mut managers = managers;
    for other in &mut managers {
        for path in changed.iter().chain(&gone) {
            disown(&mut other["fieldsV1"], path);
        }
    }
    let position = managers
        .iter()
        .position(|entry| is_entry(entry, &options.manager, "Update", subresource));
    let mut mine = match position {
        Some(index) => managers.remove(index),
        None => entry(&options.manager, "Update", resource, subresource, json!({})),
    };
    for path in &changed {
        own(&mut mine["fieldsV1"], path);
    }
    mine["time"] = format_seconds(jiff::Timestamp::now()).into();
    managers.push(mine);
    managers.retain(|entry| {
        entry["fieldsV1"]
            .as_object()
            .is_some_and(|map| !map.is_empty())
    });
    new["metadata"]["managedFields"] = Value::Array(managers);
}
