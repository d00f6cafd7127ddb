//! Sidecars: what the first step waits for, and what is stopped when the steps have ended.

mod world;

use serde_json::{Value, json};
use tektite_engine::decision::{Effect, Patch};
use world::*;

fn with_sidecar() -> World {
    let spec = json!({"steps": [{"name": "s", "image": "i", "command": ["c"]}], "sidecars": [{"name": "c", "image": "i"}]});
    let mut world = World::new(run(json!({"taskSpec": spec})));
    world.pass();
    world
}

fn ready(name: &str, is: bool) -> Value {
    let mut status = container(name, running());
    status["ready"] = is.into();
    status
}

#[test]
fn the_first_step_is_released_when_all_beside_it_is_ready() {
    // T-322, T-323
    let patch = json!({"op": "replace", "path": "/metadata/annotations/tekton.dev~1ready", "value": "READY"});
    let release = [Effect::PatchPod {
        name: "tr-pod".into(),
        patch: Patch::Json(vec![patch]),
    }];
    let step = || container("step-s", running());
    for (phase, containers, released) in [
        ("Running", json!([step(), ready("sidecar-c", true)]), true),
        ("Running", json!([step(), ready("sidecar-c", false)]), false),
        (
            "Running",
            json!([step(), ready("sidecar-c", true), ready("injected", false)]),
            false,
        ),
        (
            "Running",
            json!([step(), container("sidecar-c", ended(0, "Completed"))]),
            true,
        ),
        ("Pending", json!([step(), ready("sidecar-c", true)]), false),
    ] {
        let mut world = with_sidecar();
        world.pod_status(json!({"phase": phase, "containerStatuses": containers}));
        assert_eq!(
            world.decide().effects == release,
            released,
            "{phase} {containers}"
        );
    }
}

#[test]
fn sidecars_of_a_finished_run_are_switched_to_the_nop_image() {
    // T-323, T-324, T-325, T-327
    let mut world = with_sidecar();
    let pod = std::sync::Arc::make_mut(&mut world.seen.pods[0]);
    pod.metadata
        .annotations
        .as_mut()
        .unwrap()
        .insert("tekton.dev/ready".into(), "READY".into());
    let mut injected = pod.spec.as_ref().unwrap().containers[1].clone();
    injected.name = "injected".into();
    pod.spec.as_mut().unwrap().containers.push(injected);
    world.pod_status(json!({"phase": "Running", "containerStatuses": [
        container("step-s", ended(0, "Completed")), ready("sidecar-c", true), ready("injected", true)]}));
    let decision = world.pass();
    assert_eq!(condition(&decision.status).0, "True");
    let nop = |i: usize| json!({"op": "replace", "path": format!("/spec/containers/{i}/image"), "value": "tektite/entrypoint"});
    assert_eq!(
        decision.effects,
        [Effect::PatchPod {
            name: "tr-pod".into(),
            patch: Patch::Json(vec![nop(1), nop(2)])
        }]
    );
    assert_eq!(decision.status.sidecars.len(), 1);

    let mut stopped = container("sidecar-c", ended(0, "Completed"));
    stopped["lastState"] = json!({"terminated": {"exitCode": 143, "reason": "Error", "startedAt": "2026-01-01T00:00:02Z"}});
    world.pod_status(json!({"phase": "Succeeded", "containerStatuses": [container("step-s", ended(0, "Completed")), stopped]}));
    let decision = world.pass();
    assert!(decision.effects.is_empty());
    assert_eq!(
        json!(decision.status.sidecars),
        json!([{"name": "c", "container": "sidecar-c", "imageID": "id", "terminated": {"exitCode": 143, "reason": "Completed",
            "message": "Sidecar container successfully stopped by nop image", "startedAt": "2026-01-01T00:00:02Z"}}])
    );
}

#[test]
fn sidecars_that_cannot_be_stopped_fail_the_run_even_after_success() {
    // T-326, T-382
    for (code, expected) in [
        (422, "TaskRunStopSidecarFailed"),
        (409, "Succeeded"),
        (404, "Succeeded"),
    ] {
        let mut world = with_sidecar();
        world.pod_status(json!({"phase": "Running", "containerStatuses": [container("step-s", ended(0, "Completed")), ready("sidecar-c", true)]}));
        world.refuse(
            |e| matches!(e, Effect::PatchPod { .. }),
            code,
            "Invalid",
            "no",
            "",
        );
        let decision = world.decide();
        assert_eq!(condition(&decision.status).1, expected);
        assert_eq!(decision.wake.is_some(), code == 409);
    }
}
