//! Validation of a custom resource against its schema (K-169).

use serde_json::Value;

use super::schema::{Kind, ListType, Schema};
use crate::error::Cause;

/// Appends a cause for everything in `value` that the schema forbids.
pub fn check(value: &Value, schema: &Schema, causes: &mut Vec<Cause>) {
    at(value, schema, "", causes);
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn invalid(path: &str, value: &Value, rest: &str) -> Cause {
    let field = if path.is_empty() { "<nil>" } else { path };
    Cause::invalid(field, value, &format!("{path} in body {rest}"))
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn fits(value: &Value, kind: Kind) -> bool {
    match kind {
        Kind::Object => value.is_object(),
        Kind::Array => value.is_array(),
        Kind::String => value.is_string(),
        Kind::Boolean => value.is_boolean(),
        Kind::Integer => {
            value.is_i64()
                || value.is_u64()
                || value.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
        Kind::Number => value.is_number(),
    }
}

fn at(value: &Value, schema: &Schema, path: &str, causes: &mut Vec<Cause>) {
    if value.is_null() && schema.nullable {
        return;
    }
    if schema.int_or_string {
        if !(value.is_i64() || value.is_u64() || value.is_string()) {
            causes.push(wrong_type(value, path, "integer,string"));
            return;
        }
    } else if let Some(kind) = schema.kind
        && !fits(value, kind)
    {
        causes.push(wrong_type(value, path, kind.name()));
        return;
    }
    if !schema.allowed.is_empty() && !schema.allowed.contains(value) {
        let allowed: Vec<String> = schema.allowed.iter().map(Value::to_string).collect();
        causes.push(Cause {
            reason: "FieldValueNotSupported",
            message: format!(
                "Unsupported value: {value}: supported values: {}",
                allowed.join(", ")
            ),
            field: path.to_owned(),
        });
    }
    match value {
        Value::String(text) => string(value, text, schema, path, causes),
        Value::Number(number) => numeric(
            value,
            number.as_f64().unwrap_or_default(),
            schema,
            path,
            causes,
        ),
        Value::Array(items) => array(value, items, schema, path, causes),
        Value::Object(map) => {
            if let Some(limit) = schema
                .max_properties
                .filter(|limit| map.len() as u64 > *limit)
            {
                causes.push(Cause {
                    reason: "FieldValueTooMany",
                    message: format!("Too many: {}: must have at most {limit} items", map.len()),
                    field: path.to_owned(),
                });
            }
            if let Some(limit) = schema
                .min_properties
                .filter(|limit| (map.len() as u64) < *limit)
            {
                causes.push(invalid(
                    path,
                    value,
                    &format!("should have at least {limit} properties"),
                ));
            }
            for name in schema
                .required
                .iter()
                .filter(|name| !map.contains_key(*name))
            {
                causes.push(Cause::required(join(path, name), ""));
            }
            if schema.embedded {
                for name in ["apiVersion", "kind"] {
                    if map
                        .get(name)
                        .and_then(Value::as_str)
                        .is_none_or(str::is_empty)
                    {
                        causes.push(Cause::required(join(path, name), "must not be empty"));
                    }
                }
            }
            for (key, member) in map {
                if let Some(below) = schema.properties.get(key) {
                    at(member, below, &join(path, key), causes);
                } else if let Some(below) = &schema.additional {
                    at(member, below, &join(path, key), causes);
                }
            }
        }
        _ => {}
    }
    combinations(value, schema, path, causes);
}

fn wrong_type(value: &Value, path: &str, wanted: &str) -> Cause {
    let found = type_name(value);
    let field = if path.is_empty() { "<nil>" } else { path };
    Cause {
        reason: "FieldValueTypeInvalid",
        message: format!(
            "Invalid value: \"{found}\": {path} in body must be of type {wanted}: \"{found}\""
        ),
        field: field.to_owned(),
    }
}

fn string(value: &Value, text: &str, schema: &Schema, path: &str, causes: &mut Vec<Cause>) {
    let length = text.chars().count() as u64;
    if let Some(limit) = schema.max_length.filter(|limit| length > *limit) {
        causes.push(Cause {
            reason: "FieldValueTooLong",
            message: format!("Too long: may not be more than {limit} bytes"),
            field: path.to_owned(),
        });
    }
    if let Some(limit) = schema.min_length.filter(|limit| length < *limit) {
        causes.push(invalid(
            path,
            value,
            &format!("should be at least {limit} chars long"),
        ));
    }
    if let Some(pattern) = schema
        .pattern
        .as_ref()
        .filter(|pattern| !pattern.is_match(text))
    {
        causes.push(invalid(
            path,
            value,
            &format!("should match '{}'", pattern.as_str()),
        ));
    }
    if let Some(format) = schema
        .format
        .as_deref()
        .filter(|format| !has_format(text, format))
    {
        causes.push(invalid(
            path,
            value,
            &format!("must be of type {format}: {value}"),
        ));
    }
}

fn has_format(text: &str, format: &str) -> bool {
    match format {
        "date-time" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.parse::<jiff::civil::Date>().is_ok(),
        "uuid" => uuid::Uuid::parse_str(text).is_ok(),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "byte" => {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD
                .decode(text)
                .is_ok()
        }
        _ => true,
    }
}

fn numeric(value: &Value, number: f64, schema: &Schema, path: &str, causes: &mut Vec<Cause>) {
    if let Some((bound, exclusive)) = schema.minimum
        && (number < bound || exclusive && number == bound)
    {
        let text = if exclusive {
            "greater than"
        } else {
            "greater than or equal to"
        };
        causes.push(invalid(path, value, &format!("should be {text} {bound}")));
    }
    if let Some((bound, exclusive)) = schema.maximum
        && (number > bound || exclusive && number == bound)
    {
        let text = if exclusive {
            "less than"
        } else {
            "less than or equal to"
        };
        causes.push(invalid(path, value, &format!("should be {text} {bound}")));
    }
    if let Some(factor) = schema
        .multiple_of
        .filter(|factor| (number / factor).fract() != 0.0)
    {
        causes.push(invalid(
            path,
            value,
            &format!("should be a multiple of {factor}"),
        ));
    }
}

fn array(value: &Value, items: &[Value], schema: &Schema, path: &str, causes: &mut Vec<Cause>) {
    let length = items.len() as u64;
    if let Some(limit) = schema.max_items.filter(|limit| length > *limit) {
        causes.push(Cause {
            reason: "FieldValueTooMany",
            message: format!("Too many: {length}: must have at most {limit} items"),
            field: path.to_owned(),
        });
    }
    if let Some(limit) = schema.min_items.filter(|limit| length < *limit) {
        causes.push(invalid(
            path,
            value,
            &format!("should have at least {limit} items"),
        ));
    }
    let duplicate = |same: &dyn Fn(&Value, &Value) -> bool| {
        (1..items.len()).find(|index| {
            items[..*index]
                .iter()
                .any(|earlier| same(earlier, &items[*index]))
        })
    };
    if schema.unique_items && duplicate(&|a, b| a == b).is_some() {
        causes.push(invalid(path, value, "shouldn't contain duplicates"));
    }
    let repeated = match &schema.list_type {
        ListType::Atomic => None,
        ListType::Set => duplicate(&|a, b| a == b).map(|index| (index, items[index].clone())),
        ListType::Map(keys) => duplicate(&|a, b| keys.iter().all(|key| a.get(key) == b.get(key)))
            .map(|index| {
                let id = keys
                    .iter()
                    .map(|key| {
                        (
                            key.clone(),
                            items[index].get(key).cloned().unwrap_or_default(),
                        )
                    })
                    .collect();
                (index, Value::Object(id))
            }),
    };
    if let Some((index, id)) = repeated {
        causes.push(Cause::duplicate(format!("{path}[{index}]"), &id));
    }
    if let Some(below) = &schema.items {
        for (index, item) in items.iter().enumerate() {
            at(item, below, &format!("{path}[{index}]"), causes);
        }
    }
}

fn passes(value: &Value, schema: &Schema, path: &str) -> bool {
    let mut causes = Vec::new();
    at(value, schema, path, &mut causes);
    causes.is_empty()
}

fn combinations(value: &Value, schema: &Schema, path: &str, causes: &mut Vec<Cause>) {
    let shown = || Value::from(type_name(value));
    for part in &schema.all_of {
        at(value, part, path, causes);
    }
    if !schema.any_of.is_empty() && !schema.any_of.iter().any(|part| passes(value, part, path)) {
        causes.push(Cause::invalid(
            path,
            &shown(),
            &format!("{path} in body must validate at least one schema (anyOf)"),
        ));
    }
    if !schema.one_of.is_empty()
        && schema
            .one_of
            .iter()
            .filter(|part| passes(value, part, path))
            .count()
            != 1
    {
        let text = format!("{path} in body must validate one and only one schema (oneOf)");
        causes.push(Cause::invalid(path, &shown(), &text));
    }
    if schema
        .not
        .as_ref()
        .is_some_and(|not| passes(value, not, path))
    {
        causes.push(Cause::invalid(
            path,
            &shown(),
            &format!("{path} in body must not validate the schema (not)"),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn violations_are_reported_in_the_words_of_kubernetes() {
        // K-169
        let schema = Schema::compile(&json!({
            "type": "object",
            "properties": {"spec": {
                "type": "object",
                "required": ["size"],
                "properties": {
                    "color": {"type": "string", "enum": ["red", "blue"]},
                    "list": {"type": "array", "items": {"type": "string", "pattern": "^a"}},
                    "size": {"type": "integer", "minimum": 1, "maximum": 5},
                    "port": {"x-kubernetes-int-or-string": true},
                    "maybe": {"type": "string", "nullable": true},
                },
            }},
        }))
        .unwrap();
        for (spec, expected) in [
            (json!({"size": 1, "port": "x", "maybe": null}), ""),
            (
                json!({"size": 1, "color": "green"}),
                "spec.color: Unsupported value: \"green\": supported values: \"red\", \"blue\"",
            ),
            (
                json!({"size": 1, "list": ["b"]}),
                "spec.list[0]: Invalid value: \"b\": spec.list[0] in body should match '^a'",
            ),
            (
                json!({"size": 9}),
                "spec.size: Invalid value: 9: spec.size in body should be less than or equal to 5",
            ),
            (json!({}), "spec.size: Required value"),
            (
                json!({"size": "x"}),
                "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\"",
            ),
            (
                json!({"size": 1, "port": true}),
                "spec.port: Invalid value: \"boolean\": spec.port in body must be of type integer,string: \"boolean\"",
            ),
        ] {
            let mut causes = Vec::new();
            check(&json!({"spec": spec}), &schema, &mut causes);
            let text: Vec<String> = causes
                .iter()
                .map(|cause| format!("{}: {}", cause.field, cause.message))
                .collect();
            assert_eq!(text.join("; "), expected);
        }
    }
}
