//! The mutating webhook: decodes an object and fills in what its author left out.

use serde_json::{Map, Value, json};

use super::{Operation, Refusal, Request, pod_template, shape_of};
use crate::{
    config::Config,
    names::label,
    shape::{self, Decoded},
};

/// The object with its defaults, in the form that Go would write it (T-086 …, T-017).
///
/// # Errors
/// It cannot be decoded, in upstream's words.
pub fn default(request: &Request<'_>, config: &Config) -> Result<Value, Refusal> {
    let Some(shape) = shape_of(request) else {
        let gvk = format!(
            "{}/{}, Kind={}",
            request.group, request.version, request.kind
        );
        return Err(Refusal::bad_request(format!(
            "mutation failed: unhandled kind: {gvk}"
        )));
    };
    let decoded = decode_object(shape, request.object).map_err(|message| {
        Refusal::bad_request(format!(
            "mutation failed: cannot decode incoming new object: {message}"
        ))
    })?;
    if let Some((type_, _)) = decoded.missing {
        return Err(Refusal::bad_request(format!(
            "mutation failed: cannot create patch for round tripped newBytes: cannot marshal interface: json: error \
             calling MarshalJSON for type {type_}: impossible ParamValues.Type: \"\""
        )));
    }
    let mut object = decoded.value;
    restore_metadata(request.object, &mut object);
    set_defaults(request, config, &mut object);
    // Once more, for what decoding kept only because defaulting looks at it.
    let mut written = shape::decode(shape, &object, false)
        .map_err(Refusal::bad_request)?
        .value;
    restore_metadata(&object, &mut written);
    Ok(written)
}

/// Decodes all but the metadata strictly; that is the API server's to check.
pub(super) fn decode_object(shape: &str, object: &Value) -> Result<Decoded, String> {
    if !object.is_object() {
        return shape::decode(shape, object, true);
    }
    let mut stripped = object.clone();
    if let Some(fields) = stripped.as_object_mut() {
        fields.remove("metadata");
    }
    let decoded = shape::decode_keeping_empty(shape, &stripped)?;
    shape::decode("meta.ObjectMeta", &object["metadata"], false)?;
    Ok(decoded)
}

fn restore_metadata(from: &Value, to: &mut Value) {
    to["metadata"] = match &from["metadata"] {
        Value::Null => json!({}),
        metadata => metadata.clone(),
    };
}

pub(crate) fn set_defaults(request: &Request<'_>, config: &Config, object: &mut Value) {
    let v1 = request.version == "v1";
    match request.kind {
        "Task" => task_spec(&mut object["spec"], config, v1),
        "StepAction" => declared(&mut object["spec"]),
        "Pipeline" => pipeline_spec(&mut object["spec"], config, v1),
        "TaskRun" => {
            task_run_spec(&mut object["spec"], config, v1);
            drop_reserved_annotations(request, object);
            let labels = &mut object["metadata"]["labels"];
            if labels.get(label::MANAGED_BY).is_none() {
                labels[label::MANAGED_BY] = config.defaults.managed_by_label_value.as_str().into();
            }
        }
        "PipelineRun" => {
            pipeline_run_spec(&mut object["spec"], config, v1);
            drop_reserved_annotations(request, object);
        }
        "CustomRun" => service_account(&mut object["spec"], config),
        "ResolutionRequest" => {
            for (key, value) in [
                ("kind", "ResolutionRequest"),
                ("apiVersion", "resolution.tekton.dev/v1beta1"),
            ] {
                if object[key].as_str().unwrap_or_default().is_empty() {
                    object[key] = value.into();
                }
            }
        }
        _ => {}
    }
}

/// A run does not take over what Chains wrote about another.
fn drop_reserved_annotations(request: &Request<'_>, object: &mut Value) {
    if request.operation == Operation::Create
        && let Some(annotations) = object["metadata"]
            .get_mut("annotations")
            .and_then(Value::as_object_mut)
    {
        annotations.retain(|key, _| !key.contains("chains.tekton.dev/"));
    }
}

fn is_unset(object: &Value, field: &str) -> bool {
    object
        .get(field)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .is_empty()
}

fn service_account(spec: &mut Value, config: &Config) {
    if is_unset(spec, "serviceAccountName") {
        spec["serviceAccountName"] = config.defaults.service_account.as_str().into();
    }
}

/// T-088
fn task_ref(of: &mut Value, config: &Config) {
    let Some(reference) = of.get_mut("taskRef").filter(|r| r.is_object()) else {
        return;
    };
    default_resolver(reference, config);
    if is_unset(reference, "kind") && is_unset(reference, "resolver") {
        reference["kind"] = "Task".into();
    }
}

fn default_resolver(reference: &mut Value, config: &Config) {
    if is_unset(reference, "name") && is_unset(reference, "resolver") {
        reference["resolver"] = config.defaults.resolver_type.as_str().into();
    }
}

fn task_run_spec(spec: &mut Value, config: &Config, v1: bool) {
    task_ref(spec, config);
    if spec.get("timeout").is_none() {
        spec["timeout"] = config.defaults.timeout().to_string().into();
    }
    service_account(spec, config);
    if let Some(fields) = spec.as_object_mut() {
        pod_template::merge_into(fields, config.defaults.pod_template.as_ref());
    }
    if let Some(task) = spec.get_mut("taskSpec") {
        task_spec(task, config, v1);
    }
}

fn pipeline_run_spec(spec: &mut Value, config: &Config, v1: bool) {
    if let Some(reference) = spec.get_mut("pipelineRef").filter(|r| r.is_object()) {
        default_resolver(reference, config);
    }
    let timeout = Value::from(config.defaults.timeout().to_string());
    if v1 && spec.get("timeouts").is_none() {
        spec["timeouts"] = json!({});
    } else if spec.get("timeouts").is_none() && spec.get("timeout").is_none() {
        spec["timeout"] = timeout.clone();
    }
    if let Some(Value::Object(timeouts)) = spec.get_mut("timeouts") {
        timeouts.entry("pipeline").or_insert(timeout);
    }
    let account = if v1 {
        &mut spec["taskRunTemplate"]
    } else {
        &mut *spec
    };
    service_account(account, config);
    if let Some(fields) = account.as_object_mut() {
        pod_template::merge_into(fields, config.defaults.pod_template.as_ref());
    }
    if let Some(pipeline) = spec.get_mut("pipelineSpec") {
        pipeline_spec(pipeline, config, v1);
    }
}

fn pipeline_spec(spec: &mut Value, config: &Config, v1: bool) {
    for param in items(spec, "params") {
        param_spec(param);
    }
    for list in ["tasks", "finally"] {
        for task in items(spec, list) {
            task_ref(task, config);
            if let Some(spec) = task.get_mut("taskSpec") {
                task_spec(spec, config, v1);
            }
        }
    }
}

fn task_spec(spec: &mut Value, config: &Config, v1: bool) {
    if v1 {
        // T-089: v1beta1 leaves step references alone.
        for step in items(spec, "steps") {
            if let Some(reference) = step.get_mut("ref").filter(|r| r.is_object()) {
                default_resolver(reference, config);
            }
        }
    }
    declared(spec);
}

/// Types of declared params and results (T-086, T-087).
fn declared(spec: &mut Value) {
    for param in items(spec, "params") {
        param_spec(param);
    }
    for result in items(spec, "results") {
        if is_unset(result, "type") {
            result["type"] = if result.get("properties").is_some() {
                "object"
            } else {
                "string"
            }
            .into();
        }
        property_types(result);
    }
}

fn param_spec(param: &mut Value) {
    if !is_unset(param, "type") {
        property_types(param);
        return;
    }
    let type_ = match param.get("default") {
        _ if param.get("properties").is_some() => "object",
        Some(Value::Array(_)) => "array",
        Some(Value::Object(_)) => "object",
        _ => "string",
    };
    if param.get("properties").is_some() {
        property_types(param);
    }
    param["type"] = type_.into();
}

fn property_types(of: &mut Value) {
    for property in of
        .get_mut("properties")
        .and_then(Value::as_object_mut)
        .into_iter()
        .flat_map(Map::values_mut)
    {
        if is_unset(property, "type") {
            property["type"] = "string".into();
        }
    }
}

fn items<'a>(of: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    of.get_mut(list)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}
