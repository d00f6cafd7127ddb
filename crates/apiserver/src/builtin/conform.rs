//! Decoding a built-in object: types checked, unknown fields dropped and named, times and quantities made canonical.

use serde_json::{Map, Value};

use super::shape::{Object, Shape};
use crate::quantity;

/// Brings `value` into the form of `object`.
///
/// Unknown fields are removed and their paths appended to `unknown` (K-076, K-077); `null` members vanish as they do
/// in a Go decoder. A wrong type is an error in the words of Go's decoder.
pub fn conform(
    value: &mut Value,
    object: &'static Object,
    unknown: &mut Vec<String>,
) -> Result<(), String> {
    let path = Path {
        parent: None,
        segment: Segment::Root,
    };
    conform_object(value, object, &path, unknown)
}

struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    segment: Segment<'a>,
}

enum Segment<'a> {
    Root,
    Field(&'a str),
    Index(usize),
}

impl Path<'_> {
    fn render(&self) -> String {
        let head = self.parent.map(Path::render).unwrap_or_default();
        match self.segment {
            Segment::Root => String::new(),
            Segment::Field(name) if head.is_empty() => name.to_owned(),
            Segment::Field(name) => format!("{head}.{name}"),
            Segment::Index(index) => format!("{head}[{index}]"),
        }
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn mismatch(value: &Value, path: &Path<'_>, go_type: &str) -> String {
    format!(
        "json: cannot unmarshal {} into Go struct field {} of type {go_type}",
        kind_of(value),
        path.render()
    )
}

fn conform_object(
    value: &mut Value,
    object: &'static Object,
    path: &Path<'_>,
    unknown: &mut Vec<String>,
) -> Result<(), String> {
    let Value::Object(map) = value else {
        let go_type = object.name.rsplitn(3, '.').take(2).collect::<Vec<_>>();
        return Err(mismatch(
            value,
            path,
            &format!("{}.{}", go_type.get(1).unwrap_or(&""), go_type[0]),
        ));
    };
    let mut surplus = Vec::new();
    for (key, member) in map.iter_mut() {
        let below = Path {
            parent: Some(path),
            segment: Segment::Field(key),
        };
        match object.field(key) {
            None => {
                unknown.push(below.render());
                surplus.push(key.clone());
            }
            Some(_) if member.is_null() => {
                // `eventTime` is the one time that is printed even when unset (K-081).
                if !(key == "eventTime" || key == "creationTimestamp") {
                    surplus.push(key.clone());
                }
            }
            Some(field) => conform_value(member, field.shape, &below, unknown)?,
        }
    }
    for key in surplus {
        map.remove(&key);
    }
    Ok(())
}

fn conform_value(
    value: &mut Value,
    shape: Shape,
    path: &Path<'_>,
    unknown: &mut Vec<String>,
) -> Result<(), String> {
    match shape {
        Shape::Any => Ok(()),
        Shape::String | Shape::Bytes if value.is_string() => Ok(()),
        Shape::String | Shape::Bytes => Err(mismatch(value, path, "string")),
        Shape::Bool if value.is_boolean() => Ok(()),
        Shape::Bool => Err(mismatch(value, path, "bool")),
        Shape::Int32 | Shape::Int64 => {
            let narrow = matches!(shape, Shape::Int32);
            match value.as_i64() {
                Some(number) if !narrow || i32::try_from(number).is_ok() => Ok(()),
                _ => Err(mismatch(
                    value,
                    path,
                    if narrow { "int32" } else { "int64" },
                )),
            }
        }
        Shape::Number if value.is_number() => Ok(()),
        Shape::Number => Err(mismatch(value, path, "float64")),
        Shape::Time | Shape::MicroTime => {
            conform_time(value, matches!(shape, Shape::MicroTime), path)
        }
        Shape::Quantity => conform_quantity(value, path),
        Shape::IntOrString if value.is_string() || value.is_i64() => Ok(()),
        Shape::IntOrString => Err(mismatch(value, path, "intstr.IntOrString")),
        Shape::Object(object) => conform_object(value, object, path, unknown),
        Shape::Map(of) => {
            let Value::Object(map) = value else {
                return Err(mismatch(value, path, "map"));
            };
            for (key, member) in map.iter_mut() {
                let below = Path {
                    parent: Some(path),
                    segment: Segment::Field(key),
                };
                if member.is_null() {
                    *member = zero(of.values);
                } else {
                    conform_value(member, of.values, &below, unknown)?;
                }
            }
            Ok(())
        }
        Shape::List(list) => {
            let Value::Array(items) = value else {
                return Err(mismatch(value, path, "slice"));
            };
            for (index, item) in items.iter_mut().enumerate() {
                let below = Path {
                    parent: Some(path),
                    segment: Segment::Index(index),
                };
                if item.is_null() {
                    *item = zero(list.items);
                } else {
                    conform_value(item, list.items, &below, unknown)?;
                }
            }
            Ok(())
        }
    }
}

/// What Go's decoder makes of `null` where a value is needed.
fn zero(shape: Shape) -> Value {
    match shape {
        Shape::String | Shape::Bytes => Value::from(""),
        Shape::Object(_) | Shape::Map(_) => Value::Object(Map::new()),
        Shape::Int32 | Shape::Int64 | Shape::Number => Value::from(0),
        Shape::Bool => Value::Bool(false),
        Shape::Quantity => Value::from("0"),
        _ => Value::Null,
    }
}

fn conform_time(value: &mut Value, micro: bool, path: &Path<'_>) -> Result<(), String> {
    let Value::String(text) = value else {
        return Err(mismatch(value, path, "string"));
    };
    let time: jiff::Timestamp = text.parse().map_err(|_| {
        format!("parsing time \"{text}\" as \"2006-01-02T15:04:05Z07:00\": cannot parse")
    })?;
    let canonical = if micro {
        format_micro(time)
    } else {
        format_seconds(time)
    };
    if *text != canonical {
        *text = canonical;
    }
    Ok(())
}

/// RFC 3339 in UTC, whole seconds.
pub fn format_seconds(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// RFC 3339 in UTC, exactly six decimals (K-081).
pub fn format_micro(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

fn conform_quantity(value: &mut Value, path: &Path<'_>) -> Result<(), String> {
    let text = match &*value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        other => return Err(mismatch(other, path, "resource.Quantity")),
    };
    let canonical = quantity::canonical(&text).ok_or_else(|| {
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'".to_owned()
    })?;
    *value = Value::String(canonical);
    Ok(())
}
