//! Tasks and TaskRuns.

use serde_json::Value;

use super::{ConvertError, Way, annotation, deprecation, inner, items, lose, name_of, renamed};

pub(super) fn task(way: Way, object: &mut Value) -> Result<(), ConvertError> {
    let name = name_of(object);
    let mut metadata = object["metadata"].take();
    let spec = &mut object["spec"];
    resources(way, &mut metadata, spec)?;
    task_spec(way, &mut metadata, spec, &name)?;
    object["metadata"] = metadata;
    Ok(())
}

/// v1beta1's PipelineResources, which live in an annotation of v1.
pub(super) fn resources(
    way: Way,
    metadata: &mut Value,
    spec: &mut Value,
) -> Result<(), ConvertError> {
    moved(way, metadata, spec, "resources", annotation::RESOURCES)
}

/// A field of v1beta1 that lives in an annotation of v1.
fn moved(
    way: Way,
    metadata: &mut Value,
    of: &mut Value,
    field: &str,
    key: &str,
) -> Result<(), ConvertError> {
    match way {
        Way::Up => annotation::save(
            metadata,
            key,
            of.as_object_mut().and_then(|fields| fields.remove(field)),
        ),
        Way::Down => {
            if let Some(value) = annotation::take(metadata, key)?
                && (value.as_array().is_some_and(|list| !list.is_empty())
                    || value.get("inputs").is_some()
                    || value.get("outputs").is_some())
            {
                of[field] = value;
            }
        }
    }
    Ok(())
}

/// A task's spec wherever it stands; `name` is what its deprecated fields are kept under.
pub(super) fn task_spec(
    way: Way,
    metadata: &mut Value,
    spec: &mut Value,
    name: &str,
) -> Result<(), ConvertError> {
    if way == Way::Up {
        deprecation::save(metadata, spec, name)?;
        lose(spec, &["resources"]);
    }
    for list in ["steps", "sidecars"] {
        for container in items(spec, list) {
            renamed(way, container, "resources", "computeResources");
        }
    }
    if let Some(template) = inner(spec, "stepTemplate") {
        renamed(way, template, "resources", "computeResources");
    }
    if way == Way::Down {
        deprecation::restore(metadata, spec, name)?;
    }
    param_types(spec);
    Ok(())
}

/// A declared param without a type is a string (T-101).
pub(super) fn param_types(spec: &mut Value) {
    for param in items(spec, "params").filter(|param| param.get("type").is_none()) {
        param["type"] = "string".into();
    }
}

pub(super) fn task_run(way: Way, object: &mut Value) -> Result<(), ConvertError> {
    let name = name_of(object);
    let mut metadata = object["metadata"].take();
    resources(way, &mut metadata, &mut object["spec"])?;
    if let Some(status) = inner(object, "status") {
        moved(
            way,
            &mut metadata,
            status,
            "cloudEvents",
            annotation::CLOUD_EVENTS,
        )?;
        moved(
            way,
            &mut metadata,
            status,
            "resourcesResult",
            annotation::RESOURCES_RESULT,
        )?;
        let key = annotation::RESOURCES_STATUS;
        if way == Way::Up
            && let Some(task) = inner(status, "taskSpec")
        {
            moved(way, &mut metadata, task, "resources", key)?;
        }
        run_status(way, &mut metadata, status, &name)?;
        if way == Way::Down
            && let Some(task) = inner(status, "taskSpec")
        {
            moved(way, &mut metadata, task, "resources", key)?;
        }
    }
    let spec = &mut object["spec"];
    lose(spec, &["managedBy"]);
    overrides(way, spec);
    if let Some(task) = inner(spec, "taskSpec") {
        task_spec(way, &mut metadata, task, &name)?;
    }
    object["metadata"] = metadata;
    Ok(())
}

/// Resources by step and sidecar, of a TaskRun or of a pipeline task's runs.
pub(super) fn overrides(way: Way, of: &mut Value) {
    for (beta, v1) in [
        ("stepOverrides", "stepSpecs"),
        ("sidecarOverrides", "sidecarSpecs"),
    ] {
        renamed(way, of, beta, v1);
        for list in [beta, v1] {
            for one in items(of, list) {
                renamed(way, one, "resources", "computeResources");
            }
        }
    }
}

fn run_status(
    way: Way,
    metadata: &mut Value,
    status: &mut Value,
    name: &str,
) -> Result<(), ConvertError> {
    lose(status, &["artifacts", "spanContext"]);
    renamed(way, status, "taskResults", "results");
    for step in items(status, "steps") {
        for list in ["inputs", "outputs"] {
            for artifact in items(step, list) {
                lose(artifact, &["buildOutput"]);
            }
        }
        if way == Way::Up
            && let Some(reason) = step.pointer("/terminated/reason").cloned()
        {
            step["terminationReason"] = reason;
        }
    }
    for before in items(status, "retriesStatus") {
        run_status(way, metadata, before, name)?;
    }
    match inner(status, "taskSpec") {
        Some(task) => task_spec(way, metadata, task, name),
        None => Ok(()),
    }
}
