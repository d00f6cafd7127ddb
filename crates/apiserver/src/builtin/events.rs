//! Events are stored as core/v1; events.k8s.io/v1 is another view of the same objects (K-232).

use serde_json::{Map, Value};

/// Field names: core/v1, events.k8s.io/v1.
const NAMES: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("count", "deprecatedCount"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("reportingComponent", "reportingController"),
];

/// The core/v1 form of an events.k8s.io/v1 object.
pub fn to_core(value: &mut Value) {
    rename(value, "v1", |(core, view)| (view, core));
}

/// The events.k8s.io/v1 form of a core/v1 object.
pub fn from_core(value: &mut Value) {
    rename(value, "events.k8s.io/v1", |pair| pair);
}

fn rename(
    value: &mut Value,
    version: &str,
    direction: fn((&'static str, &'static str)) -> (&'static str, &'static str),
) {
    let Value::Object(map) = value else { return };
    let mut renamed = Map::new();
    for (key, member) in std::mem::take(map) {
        let new = NAMES
            .iter()
            .map(|pair| direction(*pair))
            .find(|(from, _)| *from == key);
        renamed.insert(new.map_or(key, |(_, to)| to.to_owned()), member);
    }
    renamed.insert("apiVersion".into(), version.into());
    renamed.insert("kind".into(), "Event".into());
    *map = renamed;
}

/// The core/v1 field of an events.k8s.io/v1 field selector.
pub fn core_field(field: &str) -> Option<&'static str> {
    Some(match field {
        "regarding.kind" => "involvedObject.kind",
        "regarding.namespace" => "involvedObject.namespace",
        "regarding.name" => "involvedObject.name",
        "regarding.uid" => "involvedObject.uid",
        "regarding.apiVersion" => "involvedObject.apiVersion",
        "regarding.resourceVersion" => "involvedObject.resourceVersion",
        "regarding.fieldPath" => "involvedObject.fieldPath",
        "reportingController" => "reportingComponent",
        _ => return None,
    })
}
