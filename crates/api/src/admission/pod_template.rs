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
    let mut default = default;
    for list in ["env", "volumes"] {
        let merged = merge_by_name(default.remove(list), given.remove(list));
        given.insert(list.to_owned(), merged);
    }
    for (key, value) in default {
        given.entry(key).or_insert(value);
    }
    Some(given.into())
}

/// The run's items first, without those that have no name (T-091).
fn merge_by_name(base: Option<Value>, own: Option<Value>) -> Value {
    let list = |value: Option<Value>| match value {
        Some(Value::Array(items)) => items,
        _ => vec![],
    };
    let (base, own) = (list(base), list(own));
    if own.is_empty() {
        return base.into();
    }
    let name = |item: &Value| item["name"].as_str().unwrap_or_default().to_owned();
    let names: Vec<String> = own.iter().map(name).collect();
    let base = base.into_iter().filter(|item| !names.contains(&name(item)));
    own.iter()
        .cloned()
        .chain(base)
        .filter(|item| !name(item).is_empty())
        .collect()
}

/// The run's own template with the default merged in, put back into `spec`.
pub(super) fn merge_into(spec: &mut Map<String, Value>, default: Option<&PodTemplate>) {
    let given = spec.remove("podTemplate");
    if let Some(merged) = merge(given, default) {
        spec.insert("podTemplate".to_owned(), merged);
    }
}
