//! A TaskRun whose outcome follows from what is in its workspaces: its pod tells that before the first step.

mod world;

use std::sync::Arc;

use serde_json::{Value, json};
use tektite_api::v1::TaskRun;
use tektite_engine::decision::{Answer, Effect, Found, Patch, Query};
use world::*;

/// A run that its PipelineRun told what to look at.
fn told(contents: &str) -> World {
    let mut run = run(json!({
        "taskSpec": {
            "workspaces": [{"name": "source"}, {"name": "tools", "mountPath": "/tools", "optional": true}],
            "results": [{"name": "r"}],
            "steps": [{"name": "s", "image": "i", "command": ["c"], "securityContext": {"runAsUser": 7}}]
        },
        "workspaces": [{"name": "source", "subPath": "sub", "persistentVolumeClaim": {"claimName": "claim"}}],
    }));
    run.metadata.annotations = Some(
        [
            ("tektite.dev/cache-basis", "basis"),
            ("tektite.dev/cache-workspaces", contents),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into(),
    );
    let mut world = World::new(run);
    // Else every first step waits.
    let flags = &mut world.config.feature_flags;
    flags.running_in_env_with_injected_sidecars = false;
    world
}

/// The pod has looked, and left this message.
fn looked(world: &mut World, message: &str) {
    let mut init = ended(0, "Completed");
    init["terminated"]["message"] = message.into();
    world.pod_status(json!({
        "phase": "Running",
        "initContainerStatuses": [container("cache-inputs", init)],
        "containerStatuses": [container("step-s", running())],
    }));
}

/// Says which TaskRun has `key`, or that none has.
fn earlier(world: &mut World, key: &str, run: Option<Value>) {
    let query = Query::Cached {
        namespace: "ns".into(),
        key: key.into(),
    };
    let answer = match run {
        Some(run) => {
            let run: TaskRun = serde_json::from_value(run).expect("a TaskRun");
            Answer::Found(Found::TaskRun(Arc::new(run)))
        }
        None => Answer::Missing {
            message: "none".into(),
        },
    };
    world.answers.insert(query, answer);
}

/// The key of a run whose files have this digest.
fn key_of(digest: &str) -> String {
    tektite_engine::child_name::sha256_hex(&format!("basis {digest}"), 40)
}

fn ready() -> Effect {
    let patch = json!({"op": "replace", "path": "/metadata/annotations/tekton.dev~1ready", "value": "READY"});
    Effect::PatchPod {
        name: "tr-pod".into(),
        patch: Patch::Json(vec![patch]),
    }
}

#[test]
fn the_pod_looks_as_its_first_step_does_and_the_step_waits() {
    let pod = told("source/go.sum source/src tools").pod();
    let init = &pod["spec"]["initContainers"][0];
    assert_eq!(init["name"], "cache-inputs");
    assert_eq!(init["image"], "i");
    assert_eq!(init["securityContext"], json!({"runAsUser": 7}));
    assert_eq!(init["terminationMessagePath"], "/tekton/termination");
    assert_eq!(
        init["command"],
        json!([
            "/tekton/bin/entrypoint",
            "-termination_path",
            "/tekton/termination",
            "contents",
            "/workspace/source/go.sum",
            "/workspace/source/src",
            "/tools"
        ])
    );
    let mounts = init["volumeMounts"].as_array().expect("mounts");
    assert_eq!(
        mounts.len(),
        2,
        "one claim once, what is not bound not at all: {mounts:?}"
    );
    assert_eq!(mounts[0]["mountPath"], "/workspace/source");
    assert_eq!(mounts[0]["subPath"], "sub");
    assert_eq!(mounts[0]["readOnly"], true);
    let step = &pod["spec"]["containers"][0]["args"];
    assert_eq!(step[1], "/tekton/downward/ready");
    assert_eq!(pod["metadata"]["annotations"].get("tekton.dev/ready"), None);

    let mut plain = told("source");
    plain.run.metadata.annotations = None;
    let pod = plain.pod();
    assert_eq!(pod["spec"].get("initContainers"), None);
    assert_eq!(pod["metadata"]["annotations"]["tekton.dev/ready"], "READY");
}

#[test]
fn nothing_runs_if_an_earlier_run_had_the_same_files() {
    let mut world = told("source");
    world.pass();
    looked(&mut world, "sha256:abc");
    let key = key_of("abc");
    earlier(
        &mut world,
        &key,
        Some(json!({
            "metadata": {"name": "before", "labels": {"tektite.dev/cache-key": key}},
            "status": {
                "podName": "before-pod",
                "conditions": [{"type": "Succeeded", "status": "True", "reason": "Succeeded"}],
                "results": [{"name": "r", "type": "string", "value": "v"}],
                "steps": [{"name": "s", "container": "step-s", "terminated": {"exitCode": 0}}],
                "artifacts": {"outputs": [{"name": "o"}]},
            }
        })),
    );
    let decision = world.pass();
    assert_eq!(
        decision.effects,
        [Effect::DeletePod {
            name: "tr-pod".into()
        }]
    );
    let status = &decision.status;
    assert_eq!(
        condition(status),
        (
            "True",
            "Succeeded",
            "Nothing ran: TaskRun \"before\" succeeded with the same inputs"
        )
    );
    assert_eq!(status.annotations["tektite.dev/cached-from"], "before");
    assert_eq!(status.results[0].value.as_str(), Some("v"));
    assert_eq!(status.pod_name, "before-pod");
    assert_eq!(status.steps.len(), 1);
    assert!(status.artifacts.is_some() && status.completion_time.is_some());
    // It stands for no other: the earlier one does.
    let labels = world.run.metadata.labels.clone().expect("labels");
    assert!(!labels.contains_key("tektite.dev/cache-key"));
    assert!(world.pass().effects.is_empty(), "a finished run");
}

#[test]
fn the_steps_run_and_the_run_is_found_later_if_none_had_the_same_files() {
    let key = key_of("abc");
    let labelled = |labels: Value, status: &str| {
        json!({"metadata": {"name": "before", "labels": labels},
            "status": {"conditions": [{"type": "Succeeded", "status": status}]}})
    };
    for (what, found) in [
        ("none", None),
        (
            "failed",
            Some(labelled(json!({"tektite.dev/cache-key": key}), "False")),
        ),
        ("of another key", Some(labelled(json!({}), "True"))),
    ] {
        let mut world = told("source");
        world.pass();
        looked(&mut world, "sha256:abc");
        earlier(&mut world, &key, found);
        let decision = world.pass();
        assert_eq!(decision.effects, [ready()], "{what}");
        assert_eq!(decision.labels["tektite.dev/cache-key"], key, "{what}");
        // Should the pod not be told in time, nobody is asked again.
        world.answers.clear();
        assert_eq!(world.pass().effects, [ready()], "{what}");
    }
}

#[test]
fn before_the_pod_has_looked_nothing_is_asked_and_nothing_released() {
    let mut world = told("source");
    world.pass();
    world.pod_status(json!({
        "phase": "Pending",
        "initContainerStatuses": [container("cache-inputs", running())],
    }));
    let decision = world.pass();
    assert!(decision.effects.is_empty() && decision.labels.is_empty());
}

#[test]
fn files_that_cannot_be_read_are_told_and_the_steps_run() {
    for (message, why) in [
        (
            "error: /workspace/source/x: Permission denied",
            "/workspace/source/x: Permission denied",
        ),
        ("", "the container left no word"),
    ] {
        let mut world = told("source");
        world.pass();
        looked(&mut world, message);
        let decision = world.pass();
        assert_eq!(decision.effects, [ready()]);
        assert!(!decision.labels.contains_key("tektite.dev/cache-key"));
        let told = events(&decision).join("\n");
        assert!(
            told.contains("CacheInputsUnknown") && told.contains(why),
            "{told}"
        );
    }
}
