//! Merge patches of what differs between two states (RFC 7386).

use serde_json::{Map, Value};

/// The merge patch that turns `old` into `new`; none if they are equal. Arrays are replaced as a whole.
pub(crate) fn merge_patch(old: &Value, new: &Value) -> Option<Value> {
    if old == new {
        return None;
    }
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return Some(new.clone());
    };
    let mut patch = Map::new();
    for key in old.keys() {
        if !new.contains_key(key) {
            patch.insert(key.clone(), Value::Null);
        }
    }
    for (key, value) in new {
        match old.get(key) {
            Some(before) => {
                if let Some(change) = merge_patch(before, value) {
                    patch.insert(key.clone(), change);
                }
            }
            None => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    Some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_holds_exactly_what_differs_and_applied_gives_the_new_state() {
        for (old, new, patch) in [
            (
                json!({"a": 1, "b": {"c": 1, "d": 2}}),
                json!({"a": 1, "b": {"c": 1, "d": 3}}),
                json!({"b": {"d": 3}}),
            ),
            (
                json!({"a": 1, "gone": 2}),
                json!({"a": 1}),
                json!({"gone": null}),
            ),
            (
                json!({"list": [1, 2]}),
                json!({"list": [1]}),
                json!({"list": [1]}),
            ),
            (
                json!({}),
                json!({"new": {"x": []}}),
                json!({"new": {"x": []}}),
            ),
            (json!({"a": {"b": 1}}), json!({"a": 5}), json!({"a": 5})),
        ] {
            assert_eq!(merge_patch(&old, &new).as_ref(), Some(&patch));
            let mut applied = old.clone();
            json_patch::merge(&mut applied, &patch);
            assert_eq!(applied, new);
            assert_eq!(merge_patch(&new, &new), None);
        }
    }
}
