//! What the API server itself does to an object by its schema: drop unknown fields and nulls, fill in defaults (T-017).

use serde_json::Value;

/// Drops what the schema does not know and fills in its defaults; says what was dropped.
pub(super) fn apply(object: &mut Value, schema: &Value) -> Vec<String> {
    let mut dropped = Vec::new();
    prune(object, schema, "", &mut dropped);
    fill(object, schema);
    dropped
}

/// Fills in the schema's defaults.
pub(super) fn fill(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(fields) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            for (name, below) in properties.into_iter().flatten() {
                let missing = fields.get(name).is_none_or(Value::is_null);
                if let (true, Some(default)) = (missing, below.get("default")) {
                    fields.insert(name.clone(), default.clone());
                }
                if let Some(value) = fields.get_mut(name) {
                    fill(value, below);
                }
            }
            if let Some(below) = schema.get("additionalProperties").filter(|b| b.is_object()) {
                fields.values_mut().for_each(|value| fill(value, below));
            }
        }
        Value::Array(items) => {
            if let Some(below) = schema.get("items") {
                items.iter_mut().for_each(|item| fill(item, below));
            }
        }
        _ => {}
    }
}

fn prune(value: &mut Value, schema: &Value, path: &str, dropped: &mut Vec<String>) {
    let open = schema.get("x-kubernetes-preserve-unknown-fields").is_some();
    match value {
        Value::Object(fields) => {
            if path == "metadata" {
                return;
            }
            let properties = schema.get("properties");
            let additional = schema.get("additionalProperties");
            fields.retain(|name, below| {
                let at = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                match properties.and_then(|p| p.get(name)).or(additional) {
                    // None of our fields may be null.
                    Some(_) if below.is_null() => return false,
                    Some(schema) => prune(below, schema, &at, dropped),
                    None if open => {}
                    None => {
                        dropped.push(at);
                        return false;
                    }
                }
                true
            });
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for (index, item) in items.iter_mut().enumerate() {
                    prune(item, schema, &format!("{path}[{index}]"), dropped);
                }
            }
        }
        _ => {}
    }
}
