//! All of admission in one call, for those who have no API server.

use serde_json::Value;

use super::{Refusal, Request, Warning, default, object_name, shape_of, validate};
use crate::{config::Config, crd, shape};

/// What creating `object` would come to: the object as stored, with its defaults, or the refusal.
///
/// # Errors
/// The first refusal, with the text that the webhook or the API server gives (without the API server's preface).
pub fn admit(object: &Value, config: &Config) -> Result<(Value, Vec<Warning>), Refusal> {
    let request = Request::create(object);
    let kind = request.kind;
    if let Err(message) = shape::decode_exactly("meta.ObjectMeta", &object["metadata"]) {
        let version = request.version;
        let text =
            format!("{kind} in version {version:?} cannot be handled as a {kind}: {message}");
        return Err(Refusal::bad_request(text));
    }
    let pruned = prune(object, &request);
    let mut defaulted = default(
        &Request {
            object: &pruned,
            ..request
        },
        config,
    )?;
    object_name::generate(&mut defaulted);
    object_name::check(&defaulted, &request)?;
    let warnings = validate(
        &Request {
            object: &defaulted,
            ..Request::create(&defaulted)
        },
        config,
    )?;
    if request.name.is_empty()
        && let Some(metadata) = defaulted["metadata"].as_object_mut()
    {
        metadata.remove("name");
    }
    Ok((defaulted, warnings))
}

/// The object as the API server hands it on: without what its schema does not know, and without status.
fn prune(object: &Value, request: &Request<'_>) -> Value {
    let mut pruned = object.clone();
    let Some(schema) = shape_of(request).map(crd::schema_of) else {
        return pruned;
    };
    drop_unknown(&mut pruned, &schema, "", &mut vec![]);
    if let Some(fields) = pruned.as_object_mut()
        && matches!(
            request.kind,
            "TaskRun" | "PipelineRun" | "CustomRun" | "ResolutionRequest"
        )
    {
        fields.remove("status");
    }
    pruned
}

/// Paths of the fields that the API server would drop silently, such as misspelt ones.
pub fn unknown_fields(object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(shape) = shape_of(&Request::create(object)) {
        drop_unknown(&mut object.clone(), &crd::schema_of(shape), "", &mut found);
    }
    found
}

fn drop_unknown(value: &mut Value, schema: &Value, path: &str, found: &mut Vec<String>) {
    let open = schema.get("x-kubernetes-preserve-unknown-fields").is_some();
    match value {
        Value::Object(fields) => {
            if path == "metadata" {
                return;
            }
            let properties = schema.get("properties");
            let additional = schema.get("additionalProperties");
            fields.retain(|name, below| {
                let at = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                match properties.and_then(|p| p.get(name)).or(additional) {
                    Some(schema) => drop_unknown(below, schema, &at, found),
                    None if open => {}
                    None => {
                        found.push(at);
                        return false;
                    }
                }
                true
            });
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for (index, item) in items.iter_mut().enumerate() {
                    drop_unknown(item, schema, &format!("{path}[{index}]"), found);
                }
            }
        }
        _ => {}
    }
}
