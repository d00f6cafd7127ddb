//! Tables: how `kubectl get` shows objects (section 8).

mod cells;
mod custom;
mod duration;
mod kinds;
mod pods;

use serde_json::{Value, json};

use crate::registry::Resource;

/// A column: name, type, format, priority.
pub(crate) struct Column {
    pub name: String,
    pub kind: String,
    pub format: String,
    pub description: String,
    pub priority: i64,
}

impl Column {
    fn new(name: &str, kind: &str, priority: i64) -> Self {
        let format = if name == "Name" { "name" } else { "" };
        Self {
            name: name.into(),
            kind: kind.into(),
            format: format.into(),
            description: String::new(),
            priority,
        }
    }
}

/// A row's cells, and its conditions.
#[derive(Default)]
pub(crate) struct Row {
    pub cells: Vec<Value>,
    pub completed: Option<&'static str>,
}

/// The table of some objects in the request's version (K-145).
pub(crate) fn render(
    resource: &Resource,
    objects: &[Value],
    metadata: Value,
    include: &str,
    columns: bool,
) -> Value {
    let now = jiff::Timestamp::now();
    let (definitions, rows): (Vec<Column>, Vec<Row>) = match resource.custom() {
        Some((_, version)) => custom::table(version, objects, now),
        None => kinds::table(resource, objects, now),
    };
    let definitions: Vec<Value> = definitions
        .iter()
        .filter(|_| columns)
        .map(|column| {
            json!({
                "name": column.name, "type": column.kind, "format": column.format,
                "description": column.description, "priority": column.priority,
            })
        })
        .collect();
    let rows: Vec<Value> = rows
        .into_iter()
        .zip(objects)
        .map(|(row, object)| {
            let mut out = json!({"cells": row.cells});
            match include {
                "None" => {}
                "Object" => out["object"] = object.clone(),
                _ => out["object"] = crate::handler::partial(object),
            }
            if let Some(phase) = row.completed {
                out["conditions"] = json!([{
                    "type": "Completed", "status": "True", "reason": phase,
                    "message": "The pod has completed successfully.",
                }]);
            }
            out
        })
        .collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": definitions, "rows": rows,
    })
}

/// A text member, empty if absent.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The age of an object.
pub(crate) fn age(value: &Value, pointer: &str, now: jiff::Timestamp) -> Value {
    duration::since(text(value, pointer), now).into()
}
