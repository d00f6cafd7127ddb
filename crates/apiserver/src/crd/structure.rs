//! Pruning and defaulting by schema (K-172 to K-174).

use serde_json::{Map, Value};

use super::schema::Schema;
use crate::builtin::conform::conform;
use crate::builtin::shape::definition;

/// Removes what the schema does not know; `unknown` receives the paths. The top level keeps `apiVersion`, `kind` and
/// `metadata`.
pub fn prune(object: &mut Value, schema: &Schema, unknown: &mut Vec<String>) {
    prune_at(object, schema, "", true, unknown);
}

/// Drops unknown members of `metadata` and checks the types of the known ones.
pub fn conform_metadata(object: &mut Value, unknown: &mut Vec<String>) -> Result<(), String> {
    let Some(metadata) = object.get_mut("metadata") else {
        return Ok(());
    };
    let Some(shape) = definition("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta") else {
        return Ok(());
    };
    let before = unknown.len();
    conform(metadata, shape, unknown)?;
    for path in &mut unknown[before..] {
        *path = format!("metadata.{path}");
    }
    Ok(())
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn prune_at(
    value: &mut Value,
    schema: &Schema,
    path: &str,
    resource: bool,
    unknown: &mut Vec<String>,
) {
    match value {
        Value::Object(map) => {
            let mut surplus = Vec::new();
            for (key, member) in map.iter_mut() {
                if resource && matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
                    continue;
                }
                if let Some(below) = schema.properties.get(key) {
                    if member.is_object() || member.is_array() {
                        prune_at(member, below, &join(path, key), below.embedded, unknown);
                    }
                } else if let Some(below) = &schema.additional {
                    if member.is_object() || member.is_array() {
                        prune_at(member, below, &join(path, key), below.embedded, unknown);
                    }
                } else if !schema.preserve_unknown {
                    unknown.push(join(path, key));
                    surplus.push(key.clone());
                }
            }
            for key in surplus {
                map.remove(&key);
            }
        }
        Value::Array(items) => {
            if let Some(below) = &schema.items {
                for (index, item) in items.iter_mut().enumerate() {
                    if item.is_object() || item.is_array() {
                        prune_at(
                            item,
                            below,
                            &format!("{path}[{index}]"),
                            below.embedded,
                            unknown,
                        );
                    }
                }
            }
        }
        _ => {}
    }
}

/// Fills in defaults; a null that its field may not be gives way to the default (K-174).
pub fn default(value: &mut Value, schema: &Schema) {
    if !schema.has_defaults {
        return;
    }
    match value {
        Value::Object(map) => {
            for (key, below) in &schema.properties {
                if !below.has_defaults {
                    continue;
                }
                fill(map, key, below);
                if let Some(member) = map.get_mut(key) {
                    default(member, below);
                }
            }
            if let Some(below) = schema
                .additional
                .as_deref()
                .filter(|below| below.has_defaults)
            {
                for (key, member) in map.iter_mut() {
                    if !schema.properties.contains_key(key) {
                        default(member, below);
                    }
                }
            }
        }
        Value::Array(items) => {
            if let Some(below) = schema.items.as_deref().filter(|below| below.has_defaults) {
                for item in items {
                    default(item, below);
                }
            }
        }
        _ => {}
    }
}

fn fill(map: &mut Map<String, Value>, key: &str, schema: &Schema) {
    let Some(default) = &schema.default else {
        return;
    };
    match map.get(key) {
        Some(Value::Null) if !schema.nullable => {
            map.insert(key.to_owned(), default.clone());
        }
        None => {
            map.insert(key.to_owned(), default.clone());
        }
        Some(_) => {}
    }
}

/// Removes nulls that neither a default replaces nor the schema allows, as Kubernetes does for optional fields.
pub fn drop_nulls(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(map) => {
            map.retain(|key, member| {
                let below = schema.below(key);
                match below {
                    Some(below) if member.is_null() => below.nullable || below.default.is_none(),
                    _ => true,
                }
            });
            for (key, member) in map.iter_mut() {
                if let Some(below) = schema.below(key) {
                    drop_nulls(member, below);
                }
            }
        }
        Value::Array(items) => {
            if let Some(below) = &schema.items {
                items.iter_mut().for_each(|item| drop_nulls(item, below));
            }
        }
        _ => {}
    }
}
