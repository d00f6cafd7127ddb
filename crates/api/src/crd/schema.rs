//! Structural schemas from the shapes, as upstream's generator makes them from the Go types.

use serde_json::{Map, Value, json};

use crate::shape::{Field, Shape, Struct, Type, shapes};

/// What the pattern of a quantity is, in Kubernetes' own schemas.
const QUANTITY: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

/// The schema of a kind: the struct `root` of the table, whose `metadata` the API server knows itself.
pub(super) fn of_kind(root: &str, describe: &dyn Fn(&str, &str) -> Option<&'static str>) -> Value {
    let writer = Writer { describe };
    let Some(Shape::Struct(of)) = shapes().id(root).map(|id| shapes().get(id)) else {
        return Value::Null;
    };
    let mut schema = writer.object(of);
    schema["properties"]["metadata"] = json!({"type": "object"});
    if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| name != "metadata");
    }
    schema
}

struct Writer<'a> {
    describe: &'a dyn Fn(&str, &str) -> Option<&'static str>,
}

impl Writer<'_> {
    fn object(&self, of: &Struct) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        self.fields(of, &mut properties, &mut required);
        let mut schema = json!({"type": "object"});
        if !properties.is_empty() {
            schema["properties"] = properties.into();
        }
        if !required.is_empty() {
            required.sort_unstable();
            schema["required"] = required.into();
        }
        for embedded in of.fields.iter().filter(|f| f.embedded) {
            if let Some(inner) = shapes().as_struct(&embedded.type_) {
                annotate(&inner.flags, &mut schema);
            }
        }
        annotate(&of.flags, &mut schema);
        schema
    }

    fn fields(
        &self,
        of: &Struct,
        properties: &mut Map<String, Value>,
        required: &mut Vec<&'static str>,
    ) {
        for field in &of.fields {
            if field.embedded {
                if let Some(inner) = shapes().as_struct(&field.type_) {
                    self.fields(inner, properties, required);
                }
                continue;
            }
            let mut schema = self.field(field);
            if let Some(text) = (self.describe)(of.id, field.name) {
                schema["description"] = text.into();
            }
            properties.insert(field.name.to_owned(), schema);
            if field.flags.contains(&"req") {
                required.push(field.name);
            }
        }
    }

    fn field(&self, field: &Field) -> Value {
        let mut schema = if field.flags.contains(&"schemaless") {
            json!({})
        } else {
            self.schema(&field.type_)
        };
        annotate(&field.flags, &mut schema);
        schema
    }

    fn schema(&self, type_: &Type) -> Value {
        match type_ {
            Type::String | Type::Duration => json!({"type": "string"}),
            Type::Int("int") => json!({"type": "integer"}),
            Type::Int(width) => json!({"type": "integer", "format": width}),
            Type::Bool => json!({"type": "boolean"}),
            Type::Time => json!({"type": "string", "format": "date-time"}),
            Type::Quantity => json!({
                "anyOf": [{"type": "integer"}, {"type": "string"}], "pattern": QUANTITY, "x-kubernetes-int-or-string": true
            }),
            Type::IntOrString => json!({
                "anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": true
            }),
            Type::Raw | Type::Param(_) => json!({"type": "object"}),
            Type::Pointer(of) => self.schema(of),
            Type::List(of) => json!({"type": "array", "items": self.schema(of)}),
            Type::Map(_, of) => json!({"type": "object", "additionalProperties": self.schema(of)}),
            Type::Ref(id) => match shapes().get(*id) {
                Shape::Struct(of) => self.object(of),
                Shape::Named(named) => {
                    let mut schema = self.schema(&named.of);
                    annotate(&named.flags, &mut schema);
                    schema
                }
            },
        }
    }
}

fn annotate(flags: &[&'static str], schema: &mut Value) {
    for flag in flags {
        match flag.split_once('=') {
            None if *flag == "unformatted" => {
                if let Some(object) = schema.as_object_mut() {
                    object.remove("format");
                }
            }
            None if *flag == "open" => schema["x-kubernetes-preserve-unknown-fields"] = true.into(),
            Some(("list", kind)) => schema["x-kubernetes-list-type"] = kind.into(),
            Some(("mapt", kind)) => schema["x-kubernetes-map-type"] = kind.into(),
            Some(("keys", keys)) => {
                schema["x-kubernetes-list-map-keys"] = keys.split(',').map(Value::from).collect();
            }
            Some(("default", text)) => {
                if let Ok(value) = serde_json::from_str::<Value>(text) {
                    schema["default"] = value;
                }
            }
            _ => {}
        }
    }
}
