//! Tables of custom resources: printer columns by JSONPath (K-160).

use jiff::Timestamp;
use serde_json::Value;

use super::{Column, Row, age, duration, text};
use crate::crd::Version;
use crate::jsonpath::JsonPath;

/// Columns and rows of a version.
pub(super) fn table(
    version: &Version,
    objects: &[Value],
    now: Timestamp,
) -> (Vec<Column>, Vec<Row>) {
    let mut columns = vec![Column::new("Name", "string", 0)];
    let mut paths = Vec::new();
    for column in &version.columns {
        columns.push(Column {
            name: column.name.clone(),
            kind: column.kind.clone(),
            format: column.format.clone(),
            description: column.description.clone(),
            priority: column.priority,
        });
        paths.push((JsonPath::parse(&column.path), column.kind.as_str()));
    }
    if version.columns.is_empty() {
        columns.push(Column::new("Age", "date", 0));
    }
    let rows = objects.iter().map(|object| {
        let mut cells = vec![Value::from(text(object, "/metadata/name"))];
        for (path, kind) in &paths {
            let found = path.as_ref().and_then(|path| path.first(object));
            cells.push(found.map_or(Value::Null, |value| cell(value, kind, now)));
        }
        if version.columns.is_empty() {
            cells.push(age(object, "/metadata/creationTimestamp", now));
        }
        Row {
            cells,
            completed: None,
        }
    });
    let rows = rows.collect();
    (columns, rows)
}

fn cell(value: &Value, kind: &str, now: Timestamp) -> Value {
    match kind {
        "date" => value
            .as_str()
            .map_or(Value::Null, |time| duration::since(time, now).into()),
        "integer" if value.is_i64() || value.is_u64() => value.clone(),
        "integer" => value
            .as_f64()
            .map_or(Value::Null, |number| Value::from(number as i64)),
        "number" if value.is_number() => value.clone(),
        "boolean" if value.is_boolean() => value.clone(),
        "string" => match value {
            Value::String(text) => text.as_str().into(),
            other => other.to_string().into(),
        },
        _ => Value::Null,
    }
}
