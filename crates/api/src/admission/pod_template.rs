//! Merges the installation's pod template into a run's.

use serde_json::{Map, Value};

use crate::{shape, v1::PodTemplate};

/// Fills what `given` leaves unset from `default`; `env` and `volumes` merge by name, the run's own winning.
pub(super) fn merge(given: Option<Value>, default: Option<&PodTemplate>) -> Option<Value> {
    let Some(default) = default else { return given };
    // Through the table, so that it has the form the webhook would write.
    let default = serde_json::to_value(default).unwrap_or_default();
    let default = shape::decode("pod.Template", &default, false)
        .map(|d| d.value)
        .unwrap_or_default();
    let Some(Value::Object(mut given)) = given else {
        return Some(default);
    };
    let Value::Object(default) = default else {
        return Some(given.into());
    };
    for (key, value) in default {
        match key.as_str() {
            "env" | "volumes" => {
                let own = given.remove(&key);
                given.insert(key, merge_by_name(value, own));
            }
            _ => {
                given.entry(key).or_insert(value);
            }
        }
    }
    Some(given.into())
}

fn merge_by_name(base: Value, overrides: Option<Value>) -> Value {
    let (Value::Array(base), Some(Value::Array(overrides))) = (&base, &overrides) else {
        return base;
    };
    let name = |item: &Value| item["name"].clone();
    let overridden = |item: &&Value| !overrides.iter().any(|own| name(own) == name(item));
    overrides
        .iter()
        .chain(base.iter().filter(overridden))
        .cloned()
        .collect()
}

/// The run's own template with the default merged in, put back into `spec`.
pub(super) fn merge_into(spec: &mut Map<String, Value>, default: Option<&PodTemplate>) {
    let given = spec.remove("podTemplate");
    if let Some(merged) = merge(given, default) {
        spec.insert("podTemplate".to_owned(), merged);
    }
}
