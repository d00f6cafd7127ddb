//! A structural schema, compiled once per CRD version.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use regex::Regex;
use serde_json::{Map, Value};

/// A JSON schema in the subset that CustomResourceDefinitions allow.
#[derive(Debug, Default)]
pub struct Schema {
    pub kind: Option<Kind>,
    pub nullable: bool,
    /// Boxed, for a map has room for eleven values even if it holds one.
    pub properties: BTreeMap<String, Box<Schema>>,
    pub additional: Option<Box<Schema>>,
    pub items: Option<Box<Schema>>,
    pub required: Vec<String>,
    pub allowed: Vec<Value>,
    pub pattern: Option<Arc<Regex>>,
    pub format: Option<String>,
    pub minimum: Option<(f64, bool)>,
    pub maximum: Option<(f64, bool)>,
    pub multiple_of: Option<f64>,
    pub min_length: Option<u64>,
    pub max_length: Option<u64>,
    pub min_items: Option<u64>,
    pub max_items: Option<u64>,
    pub unique_items: bool,
    pub min_properties: Option<u64>,
    pub max_properties: Option<u64>,
    pub default: Option<Value>,
    /// Some schema below has a default.
    pub has_defaults: bool,
    pub preserve_unknown: bool,
    pub embedded: bool,
    pub int_or_string: bool,
    pub list_type: ListType,
    pub atomic_map: bool,
    pub all_of: Vec<Schema>,
    pub any_of: Vec<Schema>,
    pub one_of: Vec<Schema>,
    pub not: Option<Box<Schema>>,
}

/// `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    Map(Vec<String>),
}

impl Kind {
    /// Its name in schemas and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

impl Schema {
    /// Compiles `openAPIV3Schema`; the error names the path and what is wrong there.
    pub fn compile(source: &Value) -> Result<Self, String> {
        compile(source, &mut Patterns::default()).map_err(|error| format!("openAPIV3Schema{error}"))
    }

    /// The schema that everything fits and nothing is pruned by.
    pub fn anything() -> Self {
        Self {
            preserve_unknown: true,
            ..Self::default()
        }
    }

    /// The schema of a property, declared or additional.
    pub fn below(&self, key: &str) -> Option<&Schema> {
        let declared = self.properties.get(key).map(Box::as_ref);
        declared.or(self.additional.as_deref())
    }
}

/// The patterns of one schema: the same few stand in it by the dozen, and each takes long to compile and much memory.
type Patterns = HashMap<String, Arc<Regex>>;

/// Errors begin with the path below `source`.
fn compile(source: &Value, patterns: &mut Patterns) -> Result<Schema, String> {
    let empty = Map::new();
    let map = source.as_object().unwrap_or(&empty);
    let flag = |key: &str| map.get(key).and_then(Value::as_bool).unwrap_or(false);
    let count = |key: &str| map.get(key).and_then(Value::as_u64);
    let number = |key: &str| map.get(key).and_then(Value::as_f64);
    let mut several = |key: &str| -> Result<Vec<Schema>, String> {
        let list = map.get(key).and_then(Value::as_array);
        list.into_iter()
            .flatten()
            .enumerate()
            .map(|(at, item)| {
                compile(item, patterns).map_err(|error| format!(".{key}[{at}]{error}"))
            })
            .collect()
    };
    let (all_of, any_of, one_of) = (several("allOf")?, several("anyOf")?, several("oneOf")?);
    let mut boxed = |key: &str| -> Result<Option<Box<Schema>>, String> {
        match map.get(key) {
            Some(value @ Value::Object(_)) => compile(value, patterns)
                .map(|schema| Some(Box::new(schema)))
                .map_err(|error| format!(".{key}{error}")),
            _ => Ok(None),
        }
    };
    let (additional, items, not) = (
        boxed("additionalProperties")?,
        boxed("items")?,
        boxed("not")?,
    );
    let mut properties = BTreeMap::new();
    for (name, schema) in map
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let schema =
            compile(schema, patterns).map_err(|error| format!(".properties[{name}]{error}"))?;
        properties.insert(name.clone(), Box::new(schema));
    }
    let kind = match map.get("type").and_then(Value::as_str) {
        None | Some("") => None,
        Some("object") => Some(Kind::Object),
        Some("array") => Some(Kind::Array),
        Some("string") => Some(Kind::String),
        Some("integer") => Some(Kind::Integer),
        Some("number") => Some(Kind::Number),
        Some("boolean") => Some(Kind::Boolean),
        Some(other) => return Err(format!(".type: Unsupported value: \"{other}\"")),
    };
    let pattern = match map.get("pattern").and_then(Value::as_str) {
        Some(text) => Some(match patterns.get(text) {
            Some(known) => Arc::clone(known),
            None => {
                let compiled = Regex::new(text)
                    .map_err(|error| format!(".pattern: Invalid value: {text:?}: {error}"))?;
                let compiled = Arc::new(compiled);
                patterns.insert(text.to_owned(), Arc::clone(&compiled));
                compiled
            }
        }),
        None => None,
    };
    let list_type = match map.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => ListType::Set,
        Some("map") => ListType::Map(strings(map.get("x-kubernetes-list-map-keys"))),
        _ => ListType::Atomic,
    };
    let default = map.get("default").cloned();
    let has_defaults = default.is_some()
        || properties.values().any(|schema| schema.has_defaults)
        || additional
            .as_ref()
            .is_some_and(|schema| schema.has_defaults)
        || items.as_ref().is_some_and(|schema| schema.has_defaults);
    Ok(Schema {
        kind,
        nullable: flag("nullable"),
        // `additionalProperties: true` keeps whatever is there.
        preserve_unknown: flag("x-kubernetes-preserve-unknown-fields")
            || flag("additionalProperties"),
        embedded: flag("x-kubernetes-embedded-resource"),
        int_or_string: flag("x-kubernetes-int-or-string"),
        atomic_map: map.get("x-kubernetes-map-type").and_then(Value::as_str) == Some("atomic"),
        list_type,
        properties,
        additional,
        items,
        required: strings(map.get("required")),
        allowed: map
            .get("enum")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default(),
        pattern,
        format: map.get("format").and_then(Value::as_str).map(str::to_owned),
        minimum: number("minimum").map(|bound| (bound, flag("exclusiveMinimum"))),
        maximum: number("maximum").map(|bound| (bound, flag("exclusiveMaximum"))),
        multiple_of: number("multipleOf"),
        min_length: count("minLength"),
        max_length: count("maxLength"),
        min_items: count("minItems"),
        max_items: count("maxItems"),
        unique_items: flag("uniqueItems"),
        min_properties: count("minProperties"),
        max_properties: count("maxProperties"),
        default,
        has_defaults,
        all_of,
        any_of,
        one_of,
        not,
    })
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|item| item.as_str().map(str::to_owned))
        .collect()
}
