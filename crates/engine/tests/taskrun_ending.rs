//! How a TaskRun ends other than by its steps: cancel, timeout, containers that cannot start; and how it starts over.

mod world;

use serde_json::json;
use tektite_engine::decision::{Effect, Patch};
use world::*;

#[test]
fn cancelling_ends_the_run_and_its_pod() {
    // T-370, T-383, T-385
    let mut world = started();
    world.pod_status(
        json!({"phase": "Running", "containerStatuses": [container("step-s", running())]}),
    );
    world.pass();
    world.run.spec.status = "TaskRunCancelled".into();
    world.run.spec.status_message = "because".into();
    world.run.spec.retries = 3;
    world.now = at(9);
    let decision = world.pass();
    assert_eq!(
        condition(&decision.status),
        (
            "False",
            "TaskRunCancelled",
            "TaskRun \"tr\" was cancelled. because"
        )
    );
    assert_eq!(
        decision.effects,
        [Effect::DeletePod {
            name: "tr-pod".into()
        }]
    );
    assert_eq!(
        json!(decision.status.steps[0]),
        json!({"name": "s", "container": "step-s", "imageID": "id", "provenance": {}, "terminationReason": "TaskRunCancelled",
               "terminated": {"exitCode": 1, "reason": "TaskRunCancelled", "message": "Step s terminated as pod tr-pod is terminated",
                              "startedAt": "2026-01-01T00:00:02Z", "finishedAt": "2026-01-01T00:00:09Z"}})
    );
    assert_eq!(decision.status.artifacts, None);
    assert!(decision.status.retries_status.is_empty());
}

#[test]
fn a_run_cancelled_before_it_started_has_a_start_time_and_no_pod() {
    // T-149, T-383
    let mut world = World::new(one_step());
    world.run.spec.status = "TaskRunCancelled".into();
    let decision = world.pass();
    assert_eq!(condition(&decision.status).1, "TaskRunCancelled");
    assert!(decision.status.start_time.is_some());
    assert!(decision.effects.is_empty());
}

#[test]
fn with_keep_pod_on_cancel_the_pod_is_told_instead() {
    // T-386
    let mut world = started();
    world.config.feature_flags.enable_keep_pod_on_cancel = true;
    world.run.spec.status = "TaskRunCancelled".into();
    let patch = json!({"op": "replace", "path": "/metadata/annotations/tekton.dev~1cancel", "value": "CANCEL"});
    assert_eq!(
        world.pass().effects,
        [Effect::PatchPod {
            name: "tr-pod".into(),
            patch: Patch::Json(vec![patch])
        }]
    );
}

#[test]
fn a_run_times_out_strictly_after_its_time_and_says_what_it_was_doing() {
    // T-371, T-372, T-384
    let mut world = started();
    world.run.spec.timeout = Some("1m0s".parse().unwrap());
    world.pod_status(json!({"phase": "Pending", "containerStatuses": [container("step-s", waiting("ErrImagePull", "w"))]}));
    world.now = at(61);
    world.pass();
    assert_eq!(condition(&world.run.status).1, "PullImageFailed");
    world.now = at(62);
    let decision = world.pass();
    assert_eq!(
        condition(&decision.status),
        (
            "False",
            "TaskRunTimeout",
            "TaskRun \"tr\" failed to finish within \"1m0s\"\nPrevious status: [PullImageFailed] build step \"step-s\" is pending with reason \"w\""
        )
    );
    assert_eq!(
        decision.effects,
        [Effect::DeletePod {
            name: "tr-pod".into()
        }]
    );
    // T-385: a step that waited counts from the run's creation.
    let ended = decision.status.steps[0].terminated.as_ref().unwrap();
    assert_eq!(json!(ended.started_at), json!("2026-01-01T00:00:00Z"));
}

#[test]
fn no_timeout_means_no_end() {
    // T-129, T-384
    let mut world = started();
    world.run.spec.timeout = Some("0s".parse().unwrap());
    world.now = at(1_000_000);
    assert_eq!(condition(&world.pass().status).0, "Unknown");
}

#[test]
fn a_pending_run_has_neither_pod_nor_start() {
    // T-359, T-387
    let mut world = World::new(one_step());
    world.run.spec.status = "TaskRunPending".into();
    let decision = world.pass();
    assert_eq!(
        condition(&decision.status),
        ("Unknown", "TaskRunPending", "TaskRun \"tr\" is pending")
    );
    assert_eq!(decision.status.start_time, None);
    assert!(decision.effects.is_empty());
    world.run.spec.status.clear();
    world.now = at(50);
    let decision = world.pass();
    assert_eq!(
        json!(decision.status.start_time),
        json!("2026-01-01T00:00:50Z")
    );
    assert_eq!(decision.effects.len(), 1);
}

#[test]
fn a_container_that_cannot_start_fails_the_run_at_the_next_pass() {
    // T-373, T-376, T-377, T-378
    for (reason, class, message) in [
        (
            "ImagePullBackOff",
            "TaskRunImagePullFailed",
            "the step \"s\" in TaskRun \"tr\" failed to pull the image \"id\". The pod errored with the message: \"w.\"",
        ),
        (
            "InvalidImageName",
            "TaskRunImagePullFailed",
            "the step \"s\" in TaskRun \"tr\" failed to pull the image \"id\". The pod errored with the message: \"w.\"",
        ),
        (
            "CreateContainerError",
            "PodCreationFailed",
            "the step \"s\" in TaskRun \"tr\" failed to start. The pod errored with the message: \"w.\"",
        ),
    ] {
        let mut world = status_of(
            json!({"phase": "Pending", "containerStatuses": [container("step-s", waiting(reason, "w"))]}),
        );
        assert_eq!(condition(&world.run.status).0, "Unknown", "{reason}");
        let decision = world.pass();
        assert_eq!(condition(&decision.status), ("False", class, message));
        assert_eq!(
            decision.effects,
            [Effect::DeletePod {
                name: "tr-pod".into()
            }]
        );
        assert_eq!(decision.status.steps[0].termination_reason, class);
    }
    let mut world = status_of(
        json!({"phase": "Pending", "containerStatuses": [container("step-s", waiting("ErrImagePull", "w"))]}),
    );
    assert_eq!(condition(&world.pass().status).0, "Unknown");
}

#[test]
fn containers_get_the_grace_that_the_installation_allows() {
    // T-374, T-377
    let since = json!([{"type": "Initialized", "status": "True", "lastTransitionTime": "2026-01-01T00:00:10Z"}]);
    for (reason, message) in [
        ("ImagePullBackOff", "w"),
        ("CreateContainerError", "x context deadline exceeded"),
    ] {
        let mut world = status_of(
            json!({"phase": "Pending", "conditions": since, "containerStatuses": [container("step-s", waiting(reason, message))]}),
        );
        world.config.defaults.image_pull_back_off_timeout = "30s".parse().unwrap();
        world.config.defaults.create_container_error_timeout = "30s".parse().unwrap();
        world.now = at(39);
        assert_eq!(condition(&world.decide().status).0, "Unknown", "{reason}");
        world.now = at(40);
        assert_eq!(condition(&world.decide().status).0, "False", "{reason}");
    }
    let mut world = status_of(
        json!({"phase": "Pending", "containerStatuses": [container("step-s", waiting("ImagePullBackOff", "w"))]}),
    );
    world.config.defaults.image_pull_back_off_timeout = "30s".parse().unwrap();
    world.seen.pods.clear();
    assert!(
        condition(&world.decide().status)
            .2
            .ends_with("Failed to get pod with error: \"pod \"tr-pod\" not found.\"")
    );
}

#[test]
fn the_first_failed_step_is_to_blame_though_the_kubelet_sorts_by_name() {
    // T-368
    let mut world = started();
    let pod = std::sync::Arc::make_mut(&mut world.seen.pods[0]);
    let spec = pod.spec.as_mut().expect("a pod has a spec");
    let mut first = spec.containers[0].clone();
    first.name = "step-verify".to_owned();
    let mut second = first.clone();
    second.name = "step-exit".to_owned();
    spec.containers = vec![first, second];
    world.pod_status(json!({"phase": "Failed", "containerStatuses": [
        container("step-exit", ended(1, "Error")), container("step-verify", ended(4, "Error"))]}));
    assert_eq!(
        condition(&world.decide().status).2,
        "\"step-verify\" exited with code 4: Error"
    );
}

#[test]
fn a_failed_attempt_is_kept_and_the_run_starts_over() {
    // T-150, T-154, T-211, T-388, T-389, T-390
    let mut world = started();
    world.run.spec.retries = 1;
    world.pod_status(
        json!({"phase": "Failed", "containerStatuses": [container("step-s", ended(3, "Error"))]}),
    );
    let decision = world.pass();
    let message = "\"step-s\" exited with code 3: Error";
    assert_eq!(
        condition(&decision.status),
        ("Unknown", "ToBeRetried", message)
    );
    assert_eq!(events(&decision), [format!("ToBeRetried: {message}")]);
    assert_eq!(decision.wake, Some(world.now));
    let status = &decision.status;
    assert_eq!(
        (
            &status.start_time,
            &status.completion_time,
            status.pod_name.as_str()
        ),
        (&None, &None, "")
    );
    assert_eq!(status.retries_status.len(), 1);
    assert_eq!(
        condition(&status.retries_status[0]),
        ("False", "StepFailed", message)
    );
    assert_eq!(status.retries_status[0].pod_name, "tr-pod");
    assert_eq!(status.steps.len(), 1);
    let decision = world.pass();
    assert_eq!(decision.status.pod_name, "tr-pod-retry1");
    assert_eq!(events(&decision)[0], "Started: ");
    world.pod_status(
        json!({"phase": "Failed", "containerStatuses": [container("step-s", ended(4, "Error"))]}),
    );
    assert_eq!(
        condition(&world.pass().status),
        (
            "False",
            "StepFailed",
            "\"step-s\" exited with code 4: Error"
        )
    );
}

#[test]
fn starting_again_keeps_the_message_of_the_failed_attempt() {
    // T-150
    let mut world = started();
    world.run.spec.retries = 1;
    world.pod_status(
        json!({"phase": "Failed", "containerStatuses": [container("step-s", ended(3, "Error"))]}),
    );
    world.pass();
    world.run.spec.status = "TaskRunCancelled".into();
    let message = world.pass().status.conditions[0].message.clone();
    assert!(
        message.ends_with("\nPrevious status: [ToBeRetried] \"step-s\" exited with code 3: Error"),
        "{message}"
    );
}

#[test]
fn a_sidecar_that_could_not_start_does_not_fail_the_next_attempt() {
    // T-388, T-390
    let spec = json!({"steps": [{"name": "s", "image": "i", "command": ["c"]}], "sidecars": [{"name": "c", "image": "i"}]});
    let mut world = World::new(run(json!({"taskSpec": spec, "retries": 1})));
    world.pass();
    world.pod_status(json!({"phase": "Pending", "containerStatuses": [container("sidecar-c", waiting("InvalidImageName", "w"))]}));
    world.pass();
    assert_eq!(condition(&world.pass().status).1, "ToBeRetried");
    let decision = world.pass();
    assert_eq!(
        condition(&decision.status),
        ("Unknown", "Pending", "Pending")
    );
    assert_eq!(decision.status.pod_name, "tr-pod-retry1");
}
