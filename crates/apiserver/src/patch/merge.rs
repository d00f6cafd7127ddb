//! JSON merge patch, RFC 7386 (K-102).

use serde_json::{Map, Value};

/// Merges `patch` into `target`: null deletes, lists are replaced, objects merge.
pub fn apply(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(map) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            map.remove(&key);
        } else {
            apply(map.entry(key).or_insert(Value::Null), value);
        }
    }
}
