//! v1beta1 objects seen as v1, and the findings that only v1beta1 has.

use serde_json::{Map, Value};

use crate::admission::{FieldError, FieldErrors};

/// Renames the fields of a v1beta1 object's spec to v1's, for validation only: nothing is lost that it looks at.
pub(super) fn as_v1(kind: &str, object: &mut Value) {
    let spec = &mut object["spec"];
    match kind {
        "Task" => task(spec),
        "TaskRun" => {
            rename(spec, "stepOverrides", "stepSpecs");
            rename(spec, "sidecarOverrides", "sidecarSpecs");
            run_resources(spec);
            within(spec, "taskSpec", task);
        }
        "Pipeline" => pipeline(spec),
        "PipelineRun" => {
            let mut template = Map::new();
            for field in ["podTemplate", "serviceAccountName"] {
                if let Some(value) = spec.as_object_mut().and_then(|s| s.remove(field)) {
                    template.insert(field.to_owned(), value);
                }
            }
            spec["taskRunTemplate"] = template.into();
            for run in items(spec, "taskRunSpecs") {
                rename(run, "taskPodTemplate", "podTemplate");
                rename(run, "taskServiceAccountName", "serviceAccountName");
                rename(run, "stepOverrides", "stepSpecs");
                rename(run, "sidecarOverrides", "sidecarSpecs");
                run_resources(run);
            }
            within(spec, "pipelineSpec", pipeline);
        }
        _ => {}
    }
}

fn pipeline(spec: &mut Value) {
    for list in ["tasks", "finally"] {
        for of in items(spec, list) {
            within(of, "taskSpec", task);
        }
    }
}

fn task(spec: &mut Value) {
    for list in ["steps", "sidecars"] {
        for container in items(spec, list) {
            rename(container, "resources", "computeResources");
        }
    }
    within(spec, "stepTemplate", |template| {
        rename(template, "resources", "computeResources")
    });
    // What is left under the name is v1beta1's own, and of another type than v1 knows under any name.
    if let Some(fields) = spec.as_object_mut() {
        fields.remove("resources");
    }
}

fn run_resources(of: &mut Value) {
    for list in ["stepSpecs", "sidecarSpecs"] {
        for one in items(of, list) {
            rename(one, "resources", "computeResources");
        }
    }
}

fn rename(of: &mut Value, from: &str, to: &str) {
    if let Some(fields) = of.as_object_mut()
        && let Some(value) = fields.remove(from)
    {
        fields.insert(to.to_owned(), value);
    }
}

fn within(of: &mut Value, field: &str, change: impl Fn(&mut Value)) {
    if let Some(value) = of.get_mut(field).filter(|v| v.is_object()) {
        change(value);
    }
}

fn items<'a>(of: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    of.get_mut(list)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

/// Fields that v1beta1 still knows but refuses: PipelineResources and, on creation, bundles.
pub(super) fn disallowed(kind: &str, object: &Value, create: bool) -> FieldErrors {
    let spec = &object["spec"];
    let finder = Finder { create };
    let mut errors = finder.resources(spec);
    match kind {
        "TaskRun" => {
            errors.add(finder.bundle(spec, "taskRef"));
            errors.add(finder.resources(&spec["taskSpec"]).via("taskSpec"));
        }
        "Pipeline" => errors.add(finder.pipeline_tasks(spec)),
        "PipelineRun" => {
            errors.add(finder.bundle(spec, "pipelineRef"));
            errors.add(finder.resources(&spec["pipelineSpec"]).via("pipelineSpec"));
            errors.add(
                finder
                    .pipeline_tasks(&spec["pipelineSpec"])
                    .via("pipelineSpec"),
            );
        }
        "Task" => {}
        _ => return FieldErrors::new(),
    }
    errors.via("spec")
}

struct Finder {
    create: bool,
}

impl Finder {
    fn resources(&self, of: &Value) -> FieldErrors {
        of.get("resources")
            .is_some()
            .then(|| FieldError::disallowed("resources"))
            .into()
    }

    fn bundle(&self, of: &Value, reference: &str) -> FieldErrors {
        let set = self.create
            && of[reference]["bundle"]
                .as_str()
                .is_some_and(|b| !b.is_empty());
        FieldErrors::from(set.then(|| FieldError::disallowed("bundle"))).via(reference)
    }

    fn pipeline_tasks(&self, spec: &Value) -> FieldErrors {
        let mut errors = FieldErrors::new();
        for list in ["tasks", "finally"] {
            for (index, task) in spec[list].as_array().into_iter().flatten().enumerate() {
                let mut found = self.resources(task);
                found.add(self.bundle(task, "taskRef"));
                found.add(self.resources(&task["taskSpec"]).via("taskSpec"));
                errors.add(found.via_field_index(list, index));
            }
        }
        errors
    }
}
