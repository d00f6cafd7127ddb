//! The types hold whatever Go's types hold: nothing is lost or renamed on the way through them.

use std::{collections::BTreeMap, fs, path::Path};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tektite_api::{
    admission::unknown_fields,
    v1::{Pipeline, PipelineRun, Task, TaskRun},
    v1beta1::{CustomRun, StepAction},
};

/// Through the type and back.
fn through<T: Serialize + DeserializeOwned>(object: &Value) -> Value {
    serde_json::to_value(serde_json::from_value::<T>(object.clone()).unwrap()).unwrap()
}

/// Spec and status as recorded. Our own writing leaves an empty status out; recordings lack parts of the metadata.
fn compared(object: &Value) -> [Value; 2] {
    let status = object["status"].clone();
    let empty = status
        .as_object()
        .is_some_and(|s| s.iter().all(|(k, v)| k == "podName" && v == ""));
    [
        object["spec"].clone(),
        if empty { Value::Null } else { status },
    ]
}

/// T-004 to T-011, T-013: every recorded object of Tekton's survives its type.
#[test]
fn recorded_objects_survive_their_types() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden");
    if !folder.exists() {
        eprintln!(
            "SKIPPED recorded_objects_survive_their_types: no recordings at {}",
            folder.display()
        );
        return;
    }
    let mut files = Vec::new();
    collect(&folder, &mut files);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(&file)
            .unwrap()
            .replace("<TIME>", "2026-01-02T03:04:05Z");
        let recorded: Value = serde_json::from_str(&text).unwrap();
        for object in recorded["objects"].as_array().into_iter().flatten() {
            let kind = object["kind"].as_str().unwrap_or_default();
            let back = match (object["apiVersion"].as_str().unwrap_or_default(), kind) {
                ("tekton.dev/v1", "TaskRun") => through::<TaskRun>(object),
                ("tekton.dev/v1", "PipelineRun") => through::<PipelineRun>(object),
                ("tekton.dev/v1", "Task") => through::<Task>(object),
                ("tekton.dev/v1", "Pipeline") => through::<Pipeline>(object),
                ("tekton.dev/v1beta1", "CustomRun") => through::<CustomRun>(object),
                ("tekton.dev/v1beta1", "StepAction") => through::<StepAction>(object),
                _ => continue,
            };
            assert_eq!(compared(&back), compared(object), "{}", file.display());
            *seen.entry(kind.to_owned()).or_default() += 1;
        }
    }
    println!("{seen:?}");
    assert!(seen["TaskRun"] > 0 && seen["PipelineRun"] > 0);
}

/// P-007, P-008, P-295: every field has its place in the schema and in the type, and no other has.
#[test]
fn pipelines_and_their_runs_have_upstreams_fields() {
    let task = json!({"name": "a", "displayName": "A", "description": "d", "taskRef": {"name": "t"},
        "taskSpec": {"apiVersion": "example.dev/v1", "kind": "Wait", "spec": {"any": [1, {"thing": null}]},
            "metadata": {"labels": {"l": "1"}, "annotations": {"n": "2"}}, "steps": [{"name": "s", "image": "i", "computeResources": {}}]},
        "when": [{"input": "a", "operator": "in", "values": ["a"]}], "retries": 2, "runAfter": ["b"],
        "params": [{"name": "p", "value": "v"}], "matrix": {"params": [{"name": "m", "value": ["x"]}]},
        "workspaces": [{"name": "w", "workspace": "v", "subPath": "s"}], "timeout": "1m0s", "pipelineRef": {"name": "p"},
        "pipelineSpec": {"tasks": [{"name": "c"}]}, "onError": "continue"});
    let pipeline = json!({"apiVersion": "tekton.dev/v1", "kind": "Pipeline", "metadata": {"name": "p"}, "spec": {"tasks": [task]}});
    let run = json!({"apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "metadata": {"name": "r"},
        "spec": {"pipelineRef": {"name": "p"}, "pipelineSpec": {"tasks": [{"name": "a"}]}, "params": [{"name": "p", "value": ["v"]}],
            "status": "Cancelled", "timeouts": {"pipeline": "3m0s", "tasks": "2m0s", "finally": "1m0s"},
            "taskRunTemplate": {"podTemplate": {"hostNetwork": true}, "serviceAccountName": "s"},
            "workspaces": [{"name": "w", "emptyDir": {}}], "taskRunSpecs": [{"pipelineTaskName": "a"}], "managedBy": "m"},
        "status": {"startTime": "2026-01-02T03:04:05Z", "completionTime": "2026-01-02T03:04:06Z",
            "results": [{"name": "r", "value": "v"}], "pipelineSpec": {"tasks": [{"name": "a"}]},
            "skippedTasks": [{"name": "b", "reason": "None", "whenExpressions": [{"cel": "false"}]}],
            "childReferences": [{"apiVersion": "tekton.dev/v1", "kind": "TaskRun", "name": "r-a", "displayName": "A",
                "pipelineTaskName": "a", "whenExpressions": [{"cel": "true"}]}],
            "finallyStartTime": "2026-01-02T03:04:05Z", "provenance": {"refSource": {"uri": "u"}}, "spanContext": {"t": "1"},
            "conditions": [{"type": "Succeeded", "status": "True", "lastTransitionTime": "2026-01-02T03:04:06Z"}],
            "observedGeneration": 1, "annotations": {"a": "b"}}});
    for (object, back, places) in [
        (
            &pipeline,
            through::<Pipeline>(&pipeline),
            &["/spec/tasks/0"][..],
        ),
        (
            &run,
            through::<PipelineRun>(&run),
            &[
                "/spec",
                "/spec/timeouts",
                "/spec/taskRunTemplate",
                "/status",
            ],
        ),
    ] {
        assert_eq!(unknown_fields(object), Vec::<String>::new());
        assert_eq!(compared(&back), compared(object));
        for place in places {
            let mut more = object.clone();
            more.pointer_mut(place).unwrap()["surprise"] = json!(1);
            let unknown = unknown_fields(&more);
            assert_eq!(unknown.len(), 1, "{place}: {unknown:?}");
        }
    }
}

fn collect(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "json") {
            files.push(path);
        }
    }
}
