//! The bytes whose digest stands for a definition: what is signed, and what the cluster resolver records (P-360, P-366).

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::shape::{Shape, Struct, Type, decode, go_number, shapes};

/// Annotations that say nothing about the definition.
const LEFT_OUT: [&str; 3] = [
    "tekton.dev/signature",
    "kubectl-client-side-apply",
    "kubectl.kubernetes.io/last-applied-configuration",
];
/// What counts of the metadata.
const METADATA: [&str; 5] = ["name", "generateName", "namespace", "labels", "annotations"];

/// The object as Go would write the part of it that is signed: kind, version, the author's metadata and the spec, byte
/// for byte (T-394, P-366). The SHA-256 of these bytes is the message of a signature.
///
/// # Errors
/// If the object is no Task, Pipeline or StepAction of a served version, or does not have the form of one.
pub fn signed_form(object: &Value) -> Result<Vec<u8>, String> {
    let (version, kind) = (text(object, "apiVersion"), text(object, "kind"));
    let shape = match (version, kind) {
        ("tekton.dev/v1", "Task") => "v1.Task",
        ("tekton.dev/v1", "Pipeline") => "v1.Pipeline",
        ("tekton.dev/v1beta1", "Task") => "v1beta1.Task",
        ("tekton.dev/v1beta1", "Pipeline") => "v1beta1.Pipeline",
        ("tekton.dev/v1beta1", "StepAction") => "v1beta1.StepAction",
        _ => return Err(format!("resource type not supported: {version} {kind}")),
    };
    let mut metadata = Map::new();
    for field in METADATA {
        if let Some(value) = object["metadata"].get(field) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
        annotations.retain(|name, _| !LEFT_OUT.contains(&name.as_str()));
    }
    let signed = serde_json::json!({
        "kind": kind,
        "apiVersion": version,
        "metadata": metadata,
        "spec": object["spec"],
    });
    let value = decode(shape, &signed, false)?.value;
    let id = shapes()
        .id(shape)
        .ok_or_else(|| format!("no shape named {shape}"))?;
    let mut out = String::new();
    write(&Type::Ref(id), &value, &mut out);
    Ok(out.into_bytes())
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_default()
}

/// Writes `value`, which has been through the decoder of `type_`.
fn write(type_: &Type, value: &Value, out: &mut String) {
    let shapes = shapes();
    match (shapes.underlying(type_), value) {
        (Type::Pointer(of), value) if !value.is_null() => write(of, value, out),
        (Type::List(of), Value::Array(items)) => {
            sequence(out, '[', items.iter(), |item, out| write(of, item, out));
        }
        (Type::Map(_, of), Value::Object(entries)) => {
            sequence(out, '{', sorted(entries), |(key, item), out| {
                pair(key, out);
                write(of, item, out);
            });
        }
        (Type::Ref(id), Value::Object(entries)) => match shapes.get(*id) {
            Shape::Struct(of) => {
                let mut fields = Vec::new();
                in_order(of, entries, &mut fields);
                sequence(out, '{', fields.into_iter(), |(key, type_, item), out| {
                    pair(key, out);
                    write(type_, item, out);
                });
            }
            Shape::Named(_) => untyped(value, out),
        },
        _ => untyped(value, out),
    }
}

/// The fields that are there, in the order of the struct; those of an embedded struct stand in its place.
fn in_order<'a>(
    of: &'a Struct,
    entries: &'a Map<String, Value>,
    found: &mut Vec<(&'a str, &'a Type, &'a Value)>,
) {
    for field in &of.fields {
        if field.embedded {
            if let Some(inner) = shapes().as_struct(&field.type_) {
                in_order(inner, entries, found);
            }
        } else if let Some(value) = entries.get(field.name) {
            found.push((field.name, &field.type_, value));
        }
    }
}

/// What the table says nothing about: params, raw JSON, scalars.
fn untyped(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => {
            let _ = write!(out, "{value}");
        }
        Value::Number(number) => out.push_str(&go_number(number)),
        Value::String(text) => string(text, out),
        Value::Array(items) => sequence(out, '[', items.iter(), untyped),
        Value::Object(entries) => sequence(out, '{', sorted(entries), |(key, item), out| {
            pair(key, out);
            untyped(item, out);
        }),
    }
}

fn sorted(entries: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    let mut entries: Vec<_> = entries.iter().collect();
    entries.sort_by_key(|(key, _)| key.as_str());
    entries.into_iter()
}

fn sequence<T>(
    out: &mut String,
    open: char,
    items: impl Iterator<Item = T>,
    mut each: impl FnMut(T, &mut String),
) {
    out.push(open);
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(',');
        }
        each(item, out);
    }
    out.push(if open == '[' { ']' } else { '}' });
}

fn pair(key: &str, out: &mut String) {
    string(key, out);
    out.push(':');
}

/// A string as Go's encoder writes it, which also hides from HTML what it could take for its own.
fn string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// T-394, P-366
    #[test]
    fn the_signed_form_is_what_go_writes_of_kind_metadata_and_spec() {
        let object = json!({
            "apiVersion": "tekton.dev/v1", "kind": "Task",
            "metadata": {
                "name": "t", "namespace": "ns", "uid": "u", "resourceVersion": "7", "generation": 2,
                "labels": {"b": "2", "a": "1"},
                "annotations": {
                    "tekton.dev/signature": "x", "kubectl-client-side-apply": "y",
                    "kubectl.kubernetes.io/last-applied-configuration": "z", "keep": "<a & b>",
                },
                "ownerReferences": [{"apiVersion": "v1", "kind": "x", "name": "y", "uid": "z"}],
            },
            "spec": {
                "steps": [{
                    "name": "s", "image": "i", "script": "a\tb\n\u{2028}\u{1}",
                    "computeResources": {"requests": {"cpu": "100m"}},
                    "env": [{"value": "v", "name": "E"}],
                }],
                "description": "d",
                "params": [{"default": ["x"], "type": "array", "name": "p"}, {"name": "o", "default": {"k": "v"}}],
            },
        });
        let written = String::from_utf8(signed_form(&object).unwrap()).unwrap();
        assert_eq!(
            written,
            concat!(
                r#"{"kind":"Task","apiVersion":"tekton.dev/v1","metadata":{"name":"t","namespace":"ns","#,
                r#""labels":{"a":"1","b":"2"},"annotations":{"keep":"\u003ca \u0026 b\u003e"}},"#,
                r#""spec":{"params":[{"name":"p","type":"array","default":["x"]},{"name":"o","default":{"k":"v"}}],"#,
                r#""description":"d","steps":[{"name":"s","image":"i","env":[{"name":"E","value":"v"}],"#,
                r#""computeResources":{"requests":{"cpu":"100m"}},"script":"a\tb\n\u2028\u0001"}]}}"#,
            )
        );
    }

    /// T-394, P-366: checksums that Tekton itself computes.
    #[test]
    fn digests_are_those_of_tekton() {
        use sha2::{Digest as _, Sha256};
        for (kind, spec, digest) in [
            (
                "Pipeline",
                json!({}),
                "7d9d19354c07856290f2c249254148eb15e658c5d8835efc7f65e52283148d78",
            ),
            (
                "Task",
                json!({"steps": [{"image": "ubuntu", "name": "echo"}]}),
                "64834bae53428435fe0a63876fb1627201fb953eaa11a54f6263593c16157aeb",
            ),
        ] {
            let name = kind.to_lowercase();
            let object = json!({
                "apiVersion": "tekton.dev/v1", "kind": kind, "spec": spec,
                "metadata": {
                    "name": name, "namespace": format!("{name}-ns"), "uid": "abc",
                    "labels": {"label": "foo"},
                    "annotations": {
                        "foo": "bar", "kubectl-client-side-apply": "client",
                        "kubectl.kubernetes.io/last-applied-configuration": "config",
                    },
                },
            });
            let actual: String = Sha256::digest(signed_form(&object).unwrap())
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            assert_eq!(actual, digest, "{kind}");
        }
    }

    #[test]
    fn other_kinds_have_no_signed_form() {
        let error = signed_form(&json!({"apiVersion": "v1", "kind": "Secret"})).unwrap_err();
        assert_eq!(error, "resource type not supported: v1 Secret");
    }
}
