//! Params: what a task declares, what a run passes, and the three types a value may have (T-012).

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::unset;

/// A declared param.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ParamSpec {
    /// Name it is referred to by.
    pub name: String,
    /// Its type; defaulting fills it in (T-086).
    #[serde(rename = "type", skip_serializing_if = "unset")]
    pub type_: Option<ParamType>,
    /// For people.
    #[serde(skip_serializing_if = "unset")]
    pub description: String,
    /// Keys of an object param.
    #[serde(skip_serializing_if = "unset")]
    pub properties: BTreeMap<String, PropertySpec>,
    /// Value when a run passes none.
    #[serde(skip_serializing_if = "unset")]
    pub default: Option<ParamValue>,
    /// Values it is limited to; none means any.
    #[serde(rename = "enum", skip_serializing_if = "unset")]
    pub enum_: Vec<String>,
}

/// One key of an object param or result.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PropertySpec {
    /// Only `string` is admitted.
    #[serde(rename = "type", skip_serializing_if = "unset")]
    pub type_: Option<ParamType>,
}

/// A param passed to a task, a pipeline or a resolver.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Param {
    /// Name of the declared param.
    pub name: String,
    /// What it is set to.
    pub value: ParamValue,
}

impl Param {
    /// A param of this name and value.
    pub fn new(name: impl Into<String>, value: impl Into<ParamValue>) -> Self {
        Param {
            name: name.into(),
            value: value.into(),
        }
    }
}

/// Type of a param or result. Anything else than the three is kept so that validation can name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ParamType {
    /// Text.
    String,
    /// List of text.
    Array,
    /// Text by key.
    Object,
    /// Not a type; refused by validation.
    Other(String),
}

impl ParamType {
    /// As written in YAML.
    pub fn as_str(&self) -> &str {
        match self {
            ParamType::String => "string",
            ParamType::Array => "array",
            ParamType::Object => "object",
            ParamType::Other(text) => text,
        }
    }
}

impl From<&str> for ParamType {
    fn from(text: &str) -> Self {
        match text {
            "string" => ParamType::String,
            "array" => ParamType::Array,
            "object" => ParamType::Object,
            _ => ParamType::Other(text.to_owned()),
        }
    }
}

impl std::fmt::Display for ParamType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ParamType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ParamType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(ParamType::from(String::deserialize(deserializer)?.as_str()))
    }
}

/// Value of a param or a result.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ParamValue {
    /// Text; also numbers, booleans and nested lists, which are kept as they were written.
    String(String),
    /// List of text.
    Array(Vec<String>),
    /// Text by key.
    Object(BTreeMap<String, String>),
}

impl Default for ParamValue {
    fn default() -> Self {
        ParamValue::String(String::new())
    }
}

impl ParamValue {
    /// The type it has by its form.
    pub fn type_(&self) -> ParamType {
        match self {
            ParamValue::String(_) => ParamType::String,
            ParamValue::Array(_) => ParamType::Array,
            ParamValue::Object(_) => ParamType::Object,
        }
    }

    /// The text, if it is text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            ParamValue::String(text) => Some(text),
            _ => None,
        }
    }

    /// The items, if it is an array.
    pub fn as_array(&self) -> Option<&[String]> {
        match self {
            ParamValue::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The keys and values, if it is an object.
    pub fn as_object(&self) -> Option<&BTreeMap<String, String>> {
        match self {
            ParamValue::Object(pairs) => Some(pairs),
            _ => None,
        }
    }

    /// Every text in it, in order.
    pub fn texts(&self) -> Vec<&str> {
        match self {
            ParamValue::String(text) => vec![text],
            ParamValue::Array(items) => items.iter().map(String::as_str).collect(),
            ParamValue::Object(pairs) => pairs.values().map(String::as_str).collect(),
        }
    }

    /// Reads text a step wrote or JSON from elsewhere. Byte 0 decides: leading white space makes it text (T-012).
    pub fn from_json_text(text: &str) -> Self {
        if text.starts_with('[') || text.starts_with('{') {
            let parsed = serde_json::from_str::<Value>(text).ok();
            if let Some(value) = parsed.as_ref().and_then(list_or_map) {
                return value;
            }
        }
        match serde_json::from_str::<Option<String>>(text) {
            Ok(decoded) => ParamValue::String(decoded.unwrap_or_default()),
            Err(_) => ParamValue::String(text.to_owned()),
        }
    }

    /// Takes a JSON value as a param value; what is neither text, list of text nor map of text becomes its JSON text.
    pub fn from_value(value: Value) -> Self {
        if let Some(found) = list_or_map(&value) {
            return found;
        }
        match value {
            Value::String(text) => ParamValue::String(text),
            Value::Null => ParamValue::default(),
            other => ParamValue::String(crate::shape::go_json(&other)),
        }
    }
}

/// An array or object, if every leaf is text (or null, which Go reads as empty text).
fn list_or_map(value: &Value) -> Option<ParamValue> {
    let leaf = |v: &Value| match v {
        Value::String(text) => Some(text.clone()),
        Value::Null => Some(String::new()),
        _ => None,
    };
    match value {
        Value::Array(items) => items
            .iter()
            .map(leaf)
            .collect::<Option<_>>()
            .map(ParamValue::Array),
        Value::Object(pairs) => pairs
            .iter()
            .map(|(k, v)| Some((k.clone(), leaf(v)?)))
            .collect::<Option<_>>()
            .map(ParamValue::Object),
        _ => None,
    }
}

impl From<&str> for ParamValue {
    fn from(text: &str) -> Self {
        ParamValue::String(text.to_owned())
    }
}

impl From<String> for ParamValue {
    fn from(text: String) -> Self {
        ParamValue::String(text)
    }
}

impl From<Vec<String>> for ParamValue {
    fn from(items: Vec<String>) -> Self {
        ParamValue::Array(items)
    }
}

impl From<BTreeMap<String, String>> for ParamValue {
    fn from(pairs: BTreeMap<String, String>) -> Self {
        ParamValue::Object(pairs)
    }
}

impl Serialize for ParamValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ParamValue::String(text) => text.serialize(serializer),
            ParamValue::Array(items) => items.serialize(serializer),
            ParamValue::Object(pairs) => pairs.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ParamValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(ParamValue::from_value)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(pairs: &[(&str, &str)]) -> ParamValue {
        ParamValue::Object(
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        )
    }

    /// T-012
    #[test]
    fn a_value_is_typed_by_its_form_and_odd_forms_become_text() {
        for (json, expected) in [
            (json!("a"), ParamValue::from("a")),
            (
                json!(["a", "b"]),
                ParamValue::Array(vec!["a".into(), "b".into()]),
            ),
            (json!([]), ParamValue::Array(vec![])),
            (json!({"k": "v"}), object(&[("k", "v")])),
            (json!(3), ParamValue::from("3")),
            (json!(true), ParamValue::from("true")),
            (json!([1, 2]), ParamValue::from("[1,2]")),
            (json!(["a", ["b"]]), ParamValue::from(r#"["a",["b"]]"#)),
            (json!({"k": 1}), ParamValue::from(r#"{"k":1}"#)),
            (Value::Null, ParamValue::from("")),
        ] {
            assert_eq!(
                serde_json::from_value::<ParamValue>(json.clone()).unwrap(),
                expected,
                "{json}"
            );
        }
    }

    /// T-012
    #[test]
    fn byte_zero_decides_the_type_of_text_that_a_step_wrote() {
        for (text, expected) in [
            (r#"["a"]"#, ParamValue::Array(vec!["a".into()])),
            (r#" ["a"]"#, ParamValue::from(r#" ["a"]"#)),
            (r#"{"k":"v"}"#, object(&[("k", "v")])),
            (r#"{"k":1}"#, ParamValue::from(r#"{"k":1}"#)),
            (r#"["a""#, ParamValue::from(r#"["a""#)),
            (r#""quoted""#, ParamValue::from("quoted")),
            ("plain\n", ParamValue::from("plain\n")),
            ("7", ParamValue::from("7")),
            ("", ParamValue::from("")),
        ] {
            assert_eq!(ParamValue::from_json_text(text), expected, "{text}");
        }
    }
}
