//! Tasks that have succeeded before with the same inputs.

use std::sync::Arc;

use serde_json::{Value, json};
use tektite_api::v1::TaskRun;
use tektite_engine::decision::{Answer, Found, ImageCommands};

use crate::world::World;

fn pipeline(script: &str, image: &str, extra: Value) -> Value {
    let mut metadata = json!({"annotations": {"tektite.dev/cache": "true"}});
    for (key, value) in extra.as_object().into_iter().flatten() {
        metadata["annotations"][key] = value.clone();
    }
    json!({
        "workspaces": [{"name": "w", "optional": true}],
        "tasks": [
            {"name": "a", "params": [{"name": "x", "value": "$(params.x)"}], "taskSpec": {
                "metadata": metadata, "params": [{"name": "x"}], "results": [{"name": "r", "type": "string"}],
                "steps": [{"image": image, "script": script}]}},
            {"name": "b", "params": [{"name": "y", "value": "$(tasks.a.results.r)"}],
             "taskSpec": {"params": [{"name": "y"}], "steps": [{"image": "host", "script": "x"}]}}
        ],
        "params": [{"name": "x", "default": "1"}]
    })
}

/// The key under which a run of this pipeline would be found later, if it may be.
fn key(spec: Value) -> Option<String> {
    let mut world = World::of_run(spec);
    world.digest = Some("registry/i@sha256:1".to_owned());
    world.reconcile();
    let labels = world.task_runs["run-a"]
        .metadata
        .labels
        .clone()
        .expect("labels");
    labels.get("tektite.dev/cache-key").cloned()
}

#[test]
fn a_task_that_did_the_same_before_does_not_run_and_gives_its_results() {
    let spec = json!({"pipelineSpec": pipeline("x", "host", json!({}))});
    let key = key(spec.clone()).expect("a key");
    assert_eq!(key.len(), 40);
    let mut world = World::of_run(spec);
    let earlier: TaskRun = serde_json::from_value(json!({
        "metadata": {"name": "earlier", "namespace": "ns", "labels": {"tektite.dev/cache-key": key, "tekton.dev/pipelineTask": "other"}},
        "status": {"conditions": [{"type": "Succeeded", "status": "True", "reason": "Succeeded"}],
            "results": [{"name": "r", "type": "string", "value": "v"}]}
    }))
    .expect("a TaskRun");
    world.task_runs.insert("earlier".to_owned(), earlier);
    world.reconcile().reconcile();
    assert_eq!(world.made(), ["run-b"]);
    assert_eq!(world.params("run-b"), json!({"y": "v"}));
    assert_eq!(world.run.status.annotations["tektite.dev/cached"], "a");
    world.succeed("run-b", json!({}));
    world.assert_outcome(
        "True",
        "Succeeded",
        "Tasks Completed: 2 (Failed: 0, Cancelled 0), Skipped: 0",
    );
    let names: Vec<&str> = world
        .run
        .status
        .child_references
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(names, ["earlier", "run-b"]);
}

#[test]
fn whatever_the_outcome_follows_from_is_part_of_the_key() {
    let with = |script: &str, image: &str, x: &str, inputs: &str| {
        key(json!({
            "params": [{"name": "x", "value": x}],
            "pipelineSpec": pipeline(script, image, json!({"tektite.dev/cache-inputs": inputs}))
        }))
        .expect("a key")
    };
    let base = with("s", "host", "1", "c");
    assert_eq!(base, with("s", "host", "1", "c"));
    for (what, other) in [
        ("definition", with("t", "host", "1", "c")),
        ("image", with("s", "i:latest", "1", "c")),
        ("param", with("s", "host", "2", "c")),
        ("inputs", with("s", "host", "1", "$(params.x)")),
    ] {
        assert_ne!(base, other, "{what}");
    }
}

#[test]
fn what_is_not_known_to_follow_from_its_inputs_is_not_cached() {
    let plain = pipeline("x", "host", json!({}));
    let declared = pipeline(
        "x",
        "host",
        json!({"tektite.dev/cache-inputs": "$(params.x)"}),
    );
    let bound = |mut pipeline: Value| {
        pipeline["tasks"][0]["workspaces"] = json!([{"name": "w"}]);
        json!({"pipelineSpec": pipeline, "workspaces": [{"name": "w", "emptyDir": {}}]})
    };
    assert_eq!(
        key(bound(plain.clone())),
        None,
        "files that nothing is said about"
    );
    assert!(key(bound(declared)).is_some());
    let unasked = pipeline("x", "host", json!({"tektite.dev/cache": "false"}));
    assert_eq!(key(json!({"pipelineSpec": unasked})), None);
    let mut world = World::of_run(json!({"pipelineSpec": pipeline("x", "i", json!({}))}));
    world.digest = Some("i".to_owned());
    world.reconcile();
    let labels = world.task_runs["run-a"]
        .metadata
        .labels
        .clone()
        .expect("labels");
    assert!(
        !labels.contains_key("tektite.dev/cache-key"),
        "an image without digest"
    );
}

/// A run whose first task is cached by these contents of its workspace.
fn by_contents(contents: &str) -> World {
    let mut pipeline = pipeline(
        "x",
        "host",
        json!({"tektite.dev/cache-workspaces": contents}),
    );
    pipeline["tasks"][0]["workspaces"] = json!([{"name": "w"}]);
    pipeline["tasks"][0]["taskSpec"]["workspaces"] = json!([{"name": "w"}]);
    let mut world = World::of_run(
        json!({"pipelineSpec": pipeline, "workspaces": [{"name": "w", "emptyDir": {}}]}),
    );
    world.reconcile();
    world
}

#[test]
fn where_files_count_the_task_run_is_told_to_look() {
    let world = by_contents("w/$(params.x).txt");
    let metadata = &world.task_runs["run-a"].metadata;
    let annotations = metadata.annotations.clone().expect("annotations");
    assert_eq!(annotations["tektite.dev/cache-workspaces"], "w/1.txt");
    let basis = &annotations["tektite.dev/cache-basis"];
    assert_eq!(basis.len(), 40);
    let labels = metadata.labels.clone().expect("labels");
    assert!(
        !labels.contains_key("tektite.dev/cache-key"),
        "not yet known"
    );
    let other = by_contents("w/other");
    let other = other.task_runs["run-a"].metadata.annotations.clone();
    assert_ne!(
        &other.expect("annotations")["tektite.dev/cache-basis"],
        basis
    );
}

#[test]
fn a_task_run_that_took_over_an_earlier_ones_outcome_is_shown_as_cached_and_stays_the_runs_own() {
    let mut world = by_contents("w");
    world.succeed("run-a", json!({"r": "v"}));
    let restored = world.task_runs.get_mut("run-a").expect("run-a");
    let annotations = &mut restored.status.annotations;
    annotations.insert("tektite.dev/cached-from".to_owned(), "before".to_owned());
    for _ in 0..2 {
        world.reconcile();
        assert_eq!(world.run.status.annotations["tektite.dev/cached"], "a");
        assert_eq!(world.made(), ["run-a", "run-b"]);
        assert_eq!(world.params("run-b"), json!({"y": "v"}));
    }
}

#[test]
fn contents_that_are_not_in_the_tasks_workspaces_are_told() {
    for (contents, error) in [
        ("nope/x", "the task declares no workspace \"nope\""),
        ("w/../x", "\"w/../x\" is no workspace nor a path in one"),
    ] {
        let world = by_contents(contents);
        let annotations = world.task_runs["run-a"].metadata.annotations.clone();
        assert!(
            !annotations
                .expect("annotations")
                .contains_key("tektite.dev/cache-basis")
        );
        let told = world
            .events
            .iter()
            .find(|event| event.reason == "InvalidCache")
            .expect("an event");
        assert!(
            told.message.contains("pipeline task \"a\" is not cached")
                && told.message.contains(error),
            "{}",
            told.message
        );
    }
}

/// What is known of an image.
pub fn image(pinned: &str) -> Answer {
    Answer::Found(Found::Image(Arc::new(ImageCommands {
        pinned: pinned.to_owned(),
        ..ImageCommands::default()
    })))
}
