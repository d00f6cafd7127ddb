//! Step fields of v1beta1 that v1 has no place for (T-096, T-097).

use serde_json::{Map, Value, json};

use super::{ConvertError, annotation};

const KEY: &str = "tekton.dev/v1beta1.task-deprecations";

const STEP: [&str; 10] = [
    "ports",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "stdin",
    "stdinOnce",
    "tty",
];

/// Those of `of` that are set.
fn deprecated(of: &Value, template: bool) -> Map<String, Value> {
    let names = STEP.into_iter().chain(template.then_some("name"));
    names
        .filter_map(|name| Some((name.to_owned(), of.get(name)?.clone())))
        .collect()
}

/// Puts the deprecated fields of a task away under the name of its object.
pub(super) fn save(metadata: &mut Value, spec: &Value, name: &str) -> Result<(), ConvertError> {
    let mut known = match annotation::read(metadata, KEY) {
        Some(Value::String(text)) => serde_json::from_str(&text).map_err(|cause| {
            ConvertError(format!(
                "error serializing key {KEY} from metadata: {cause}"
            ))
        })?,
        _ => json!({}),
    };
    let steps: Vec<_> = spec["steps"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|step| deprecated(step, false))
        .collect();
    let template = spec
        .get("stepTemplate")
        .map(|template| deprecated(template, true));
    if steps.iter().all(Map::is_empty) && template.as_ref().is_none_or(Map::is_empty) {
        return Ok(());
    }
    let whole = |mut fields: Map<String, Value>, step: bool| {
        if step {
            fields.insert("name".to_owned(), "".into());
        }
        fields.insert("resources".to_owned(), json!({}));
        Value::Object(fields)
    };
    let mut saved = json!({});
    if !steps.is_empty() {
        saved["deprecatedSteps"] = steps
            .into_iter()
            .map(|fields| whole(fields, true))
            .collect();
    }
    if let Some(fields) = template {
        saved["deprecatedStepTemplate"] = whole(fields, false);
    }
    known[name] = saved;
    annotation::save(metadata, KEY, Some(known));
    Ok(())
}

/// Gives a task its deprecated fields back.
pub(super) fn restore(
    metadata: &mut Value,
    spec: &mut Value,
    name: &str,
) -> Result<(), ConvertError> {
    let Some(Value::String(text)) = annotation::read(metadata, KEY) else {
        return Ok(());
    };
    let mut known: Map<String, Value> = serde_json::from_str(&text).map_err(|cause| {
        ConvertError(format!(
            "error deserializing key {KEY} from metadata: {cause}"
        ))
    })?;
    let Some(saved) = known.remove(name) else {
        return Ok(());
    };
    let none = Vec::new();
    let saved_steps = saved["deprecatedSteps"].as_array().unwrap_or(&none);
    let steps = spec.get_mut("steps").and_then(Value::as_array_mut);
    if steps.as_ref().map_or(0, |steps| steps.len()) != saved_steps.len() {
        return Err(ConvertError(
            "length of deserialized steps mismatch the length of target steps".to_owned(),
        ));
    }
    for (step, saved) in steps.into_iter().flatten().zip(saved_steps) {
        if let Some(step) = step.as_object_mut() {
            step.extend(deprecated(saved, false));
        }
    }
    if let Some(saved) = saved.get("deprecatedStepTemplate") {
        if !spec["stepTemplate"].is_object() {
            spec["stepTemplate"] = json!({});
        }
        if let Some(template) = spec["stepTemplate"].as_object_mut() {
            template.extend(deprecated(saved, true));
        }
    }
    annotation::remove(metadata, KEY);
    if !known.is_empty() {
        annotation::save(metadata, KEY, Some(known.into()));
    }
    Ok(())
}
