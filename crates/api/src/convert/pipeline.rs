//! Pipelines and PipelineRuns.

use serde_json::{Map, Value, json};

use super::{ConvertError, Way, inner, items, lose, renamed, task};

pub(super) fn pipeline(way: Way, object: &mut Value) -> Result<(), ConvertError> {
    let mut metadata = object["metadata"].take();
    let spec = &mut object["spec"];
    task::resources(way, &mut metadata, spec)?;
    pipeline_spec(way, &mut metadata, spec)?;
    object["metadata"] = metadata;
    Ok(())
}

fn pipeline_spec(way: Way, metadata: &mut Value, spec: &mut Value) -> Result<(), ConvertError> {
    for list in ["tasks", "finally"] {
        for one in items(spec, list) {
            // Upstream does not carry these over (P-086).
            lose(one, &["pipelineRef", "pipelineSpec", "resources"]);
            if inner(one, "matrix")
                .is_some_and(|m| m.get("params").is_none() && m.get("include").is_none())
            {
                lose(one, &["matrix"]);
            }
            let name = one["name"].as_str().unwrap_or_default().to_owned();
            if let Some(inline) = inner(one, "taskSpec") {
                task::task_spec(way, metadata, inline, &name)?;
            }
        }
    }
    task::param_types(spec);
    Ok(())
}

pub(super) fn pipeline_run(way: Way, object: &mut Value) -> Result<(), ConvertError> {
    let mut metadata = object["metadata"].take();
    task::resources(way, &mut metadata, &mut object["spec"])?;
    if let Some(status) = inner(object, "status") {
        lose(status, &["taskRuns", "runs", "spanContext"]);
        renamed(way, status, "pipelineResults", "results");
        if let Some(inline) = inner(status, "pipelineSpec") {
            pipeline_spec(way, &mut metadata, inline)?;
        }
    }
    let spec = &mut object["spec"];
    lose(spec, &["managedBy"]);
    if let Some(inline) = inner(spec, "pipelineSpec") {
        pipeline_spec(way, &mut metadata, inline)?;
    }
    for run in items(spec, "taskRunSpecs") {
        renamed(way, run, "taskPodTemplate", "podTemplate");
        renamed(way, run, "taskServiceAccountName", "serviceAccountName");
        task::overrides(way, run);
        if way == Way::Down
            && let Some(of) = inner(run, "metadata")
        {
            labels_twice(of);
        }
    }
    match way {
        Way::Up => template_up(spec),
        Way::Down => template_down(spec),
    }
    object["metadata"] = metadata;
    Ok(())
}

/// Upstream writes the labels over the annotations (P-087).
fn labels_twice(metadata: &mut Value) {
    lose(metadata, &["annotations"]);
    if let Some(labels) = metadata.get("labels").cloned() {
        metadata["annotations"] = labels;
    }
}

/// P-083
fn template_up(spec: &mut Value) {
    let Some(fields) = spec.as_object_mut() else {
        return;
    };
    let mut template = Map::new();
    for field in ["serviceAccountName", "podTemplate"] {
        if let Some(value) = fields.remove(field) {
            template.insert(field.to_owned(), value);
        }
    }
    fields.insert("taskRunTemplate".to_owned(), template.into());
    if let Some(timeout) = fields.remove("timeout") {
        fields.insert("timeouts".to_owned(), json!({"pipeline": timeout}));
    }
}

/// P-084
fn template_down(spec: &mut Value) {
    for field in ["serviceAccountName", "podTemplate"] {
        if let Some(value) = spec["taskRunTemplate"]
            .as_object_mut()
            .and_then(|template| template.remove(field))
        {
            spec[field] = value;
        }
    }
    lose(spec, &["taskRunTemplate"]);
}
