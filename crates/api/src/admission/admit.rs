//! All of admission in one call, for those who have no API server.

use serde_json::Value;

use super::{Refusal, Request, Warning, default, object_name, schema_pass, shape_of, validate};
use crate::{config::Config, convert::convert, crd, shape};

/// What creating `object` would come to: the object as a client would read it back, with its defaults, or the refusal.
///
/// ```
/// use serde_json::json;
/// use tektite_api::{admission::admit, config::Config};
/// let task = json!({"apiVersion": "tekton.dev/v1", "kind": "Task", "metadata": {"name": "t"}, "spec": {}});
/// let refusal = admit(&task, &Config::default()).unwrap_err();
/// assert_eq!(refusal.message, "validation failed: missing field(s): spec.steps");
/// ```
///
/// # Errors
/// The first refusal, with the text that the webhook or the API server gives (without the API server's preface).
pub fn admit(object: &Value, config: &Config) -> Result<(Value, Vec<Warning>), Refusal> {
    let request = Request::create(object);
    let kind = request.kind;
    if !object.is_object() {
        return Err(Refusal::bad_request(
            "couldn't get version/kind: the object is no JSON object",
        ));
    }
    let metadata =
        shape::decode_exactly("meta.ObjectMeta", &object["metadata"]).map_err(|message| {
            let version = request.version;
            Refusal::bad_request(format!(
                "{kind} in version {version:?} cannot be handled as a {kind}: {message}"
            ))
        })?;
    let schema = shape_of(&request).map(crd::schema_of).unwrap_or_default();
    let mut seen = object.clone();
    seen["metadata"] = metadata.value;
    schema_pass::apply(&mut seen, &schema);
    if let Some(fields) = seen.as_object_mut()
        && matches!(
            kind,
            "TaskRun" | "PipelineRun" | "CustomRun" | "ResolutionRequest"
        )
    {
        fields.remove("status");
    }
    let mut defaulted = default(
        &Request {
            object: &seen,
            ..request
        },
        config,
    )?;
    schema_pass::fill(&mut defaulted, &schema);
    object_name::generate(&mut defaulted);
    object_name::check(&defaulted, &request)?;
    let warnings = validate(
        &Request {
            object: &defaulted,
            ..Request::create(&defaulted)
        },
        config,
    )?;
    let mut answer = through_storage(defaulted, &request, config)?;
    schema_pass::fill(&mut answer, &schema);
    if request.name.is_empty()
        && let Some(metadata) = answer["metadata"].as_object_mut()
    {
        metadata.remove("name");
    }
    Ok((answer, warnings))
}

/// The object as it comes back from storage, which is in another version than some it may be written in.
fn through_storage(
    object: Value,
    request: &Request<'_>,
    config: &Config,
) -> Result<Value, Refusal> {
    let stored = match (request.kind, request.version) {
        ("Task" | "TaskRun" | "Pipeline" | "PipelineRun", "v1beta1") => "tekton.dev/v1",
        ("StepAction", "v1alpha1") => "tekton.dev/v1beta1",
        ("ResolutionRequest", "v1alpha1") => "resolution.tekton.dev/v1beta1",
        _ => return Ok(object),
    };
    let back = format!("{}/{}", request.group, request.version);
    let refused = |cause: crate::convert::ConvertError| Refusal {
        code: 500,
        message: format!("conversion webhook failed: {cause}"),
        errors: vec![],
    };
    let stored = convert(object, stored, config).map_err(refused)?;
    convert(stored, &back, config).map_err(refused)
}

/// Paths of the fields that the API server would drop silently, such as misspelt ones.
pub fn unknown_fields(object: &Value) -> Vec<String> {
    let schema = shape_of(&Request::create(object)).map(crd::schema_of);
    schema
        .map(|schema| schema_pass::apply(&mut object.clone(), &schema))
        .unwrap_or_default()
}
