//! The life of a TaskRun whose pod is there: what its status says, and how it ends.

mod world;

use serde_json::{Value, json};
use tektite_engine::decision::{Answer, Effect, Found, Query};
use world::*;

#[test]
fn a_run_starts_and_waits_for_its_pod() {
    // T-148, T-149, T-212, T-352, T-353, T-398, T-399
    let mut world = World::new(one_step());
    let decision = world.pass();
    assert_eq!(
        condition(&decision.status),
        ("Unknown", "Pending", "Pending")
    );
    assert_eq!(decision.status.pod_name, "tr-pod");
    assert_eq!(
        json!(decision.status.start_time),
        json!("2026-01-01T00:00:01Z")
    );
    assert_eq!(events(&decision), ["Started: ", "Pending: Pending"]);
    assert_eq!(
        decision.annotations["pipeline.tekton.dev/release"],
        "unknown"
    );
    assert_eq!(decision.effects.len(), 1);
    let again = world.pass();
    assert!(
        again.effects.is_empty() && again.events.is_empty() && again.annotations.is_empty(),
        "{again:?}"
    );
}

#[test]
fn a_trace_given_by_annotation_is_adopted_once() {
    // T-424
    let mut world = World::new(one_step());
    let mut adopted = |given: &str| {
        let annotation = ("tekton.dev/taskrunSpanContext".to_owned(), given.to_owned());
        world.run.metadata.annotations = Some([annotation].into());
        json!(world.pass().status.span_context)
    };
    assert_eq!(adopted("no JSON"), json!({}));
    let context = json!({"traceparent": "00-aa-bb-01"});
    assert_eq!(adopted(&context.to_string()), context);
    assert_eq!(adopted(r#"{"traceparent": "00-cc-dd-01"}"#), context);
}

#[test]
fn a_start_before_the_creation_counts_as_the_creation() {
    // T-149
    let mut world = World::new(one_step());
    world.now = at(-5);
    assert_eq!(
        json!(world.pass().status.start_time),
        json!("2026-01-01T00:00:00Z")
    );
}

#[test]
fn the_run_is_looked_at_again_when_its_time_is_up() {
    // T-153
    let mut world = World::new(one_step());
    world.run.spec.timeout = Some("10s".parse().unwrap());
    let wake = world.pass().wake.unwrap();
    assert!(wake > at(11) && wake < at(12), "{wake}");
    world.run.spec.timeout = Some("0s".parse().unwrap());
    assert_eq!(world.pass().wake, None);
}

#[test]
fn a_waiting_pod_says_why_it_waits() {
    // T-352, T-353, T-354, T-356, T-357, T-360, T-375
    let unschedulable = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "Insufficient cpu"}]);
    let initializing = json!([{"type": "Initialized", "status": "False", "message": "m"}]);
    let sub_path = "failed to create subPath directory for volumeMount";
    for (pod, expected) in [
        (
            json!({"phase": "Running", "containerStatuses": [container("step-s", running())]}),
            (
                "Unknown",
                "Running",
                "Not all Steps in the Task have finished executing",
            ),
        ),
        (
            json!({"phase": "Pending"}),
            ("Unknown", "Pending", "Pending"),
        ),
        (
            json!({"phase": "Pending", "message": "pod says"}),
            ("Unknown", "Pending", "pod says"),
        ),
        (
            json!({"phase": "Pending", "message": "pod says", "conditions": initializing}),
            (
                "Unknown",
                "Pending",
                "pod status \"Initialized\":\"False\"; message: \"m\"",
            ),
        ),
        (
            json!({"phase": "Pending", "conditions": initializing, "containerStatuses": [container("step-s", waiting("X", "w"))]}),
            (
                "Unknown",
                "Pending",
                "build step \"step-s\" is pending with reason \"w\"",
            ),
        ),
        (
            json!({"phase": "Pending", "conditions": unschedulable, "containerStatuses": [container("step-s", waiting("ErrImagePull", "w"))]}),
            (
                "Unknown",
                "ExceededNodeResources",
                "TaskRun Pod exceeded available resources",
            ),
        ),
        (
            json!({"phase": "Pending", "containerStatuses": [container("step-s", waiting("CreateContainerConfigError", sub_path))]}),
            (
                "Unknown",
                "Pending",
                "Waiting for subPath directory creation to complete",
            ),
        ),
        (
            json!({"phase": "Pending", "containerStatuses": [container("step-s", waiting("CreateContainerConfigError", "secret"))]}),
            (
                "False",
                "CreateContainerConfigError",
                "Failed to create pod due to config error",
            ),
        ),
        (
            json!({"phase": "Pending", "containerStatuses": [container("step-s", waiting("ErrImagePull", "w"))]}),
            (
                "Unknown",
                "PullImageFailed",
                "build step \"step-s\" is pending with reason \"w\"",
            ),
        ),
        (
            json!({"phase": "Pending", "initContainerStatuses": [container("prepare", waiting("ImagePullBackOff", "w"))]}),
            ("Unknown", "PullImageFailed", "Pending"),
        ),
    ] {
        let world = status_of(pod.clone());
        assert_eq!(condition(&world.run.status), expected, "{pod}");
        // T-351: a config error does not complete the run.
        assert_eq!(world.run.status.completion_time, None);
    }
}

#[test]
fn an_ended_pod_ends_the_run_for_the_right_reason() {
    // T-349, T-350, T-361, T-362, T-363, T-364, T-365, T-366, T-367, T-368
    let step = |state: Value| container("step-s", state);
    let sidecar = |state: Value| container("sidecar-c", state);
    let timed_out = json!({"terminated": {"exitCode": 1, "reason": "Error",
        "message": r#"[{"key":"Reason","value":"TimeoutExceeded","type":3}]"#}});
    let pod = |phase: &str, containers: &[Value]| json!({"phase": phase, "containerStatuses": containers});
    let with_init = |name: &str, state: Value| json!({"phase": "Failed", "initContainerStatuses": [container(name, state)], "containerStatuses": [step(waiting("PodInitializing", ""))]});
    for (pod, expected) in [
        (
            pod("Succeeded", &[step(ended(0, "Completed"))]),
            ("True", "Succeeded", "All Steps have completed executing"),
        ),
        (
            pod(
                "Running",
                &[step(ended(0, "Completed")), sidecar(running())],
            ),
            ("True", "Succeeded", "All Steps have completed executing"),
        ),
        (
            pod("Running", &[step(ended(3, "Error")), sidecar(running())]),
            (
                "False",
                "StepFailed",
                "\"step-s\" exited with code 3: Error",
            ),
        ),
        (
            pod("Failed", &[step(ended(3, ""))]),
            ("False", "StepFailed", "\"step-s\" exited with code 3"),
        ),
        (
            pod("Failed", &[step(timed_out)]),
            (
                "False",
                "StepFailed",
                "\"step-s\" exited because the step exceeded the specified timeout limit",
            ),
        ),
        (
            pod("Failed", &[step(ended(137, "OOMKilled"))]),
            (
                "False",
                "StepOOM",
                "\"step-s\" exited with code 137: OOMKilled",
            ),
        ),
        (
            pod("Running", &[step(ended(0, "OOMKilled"))]),
            ("False", "StepOOM", "OOMKilled"),
        ),
        (
            pod(
                "Failed",
                &[step(ended(3, "Error")), sidecar(ended(4, "Error"))],
            ),
            (
                "False",
                "SidecarFailed",
                "\"sidecar-c\" exited with code 4: Error",
            ),
        ),
        (
            pod(
                "Failed",
                &[
                    step(ended(137, "OOMKilled")),
                    sidecar(ended(137, "OOMKilled")),
                ],
            ),
            (
                "False",
                "SidecarOOM",
                "\"sidecar-c\" exited with code 137: OOMKilled",
            ),
        ),
        (
            pod(
                "Failed",
                &[step(ended(137, "OOMKilled")), sidecar(ended(1, "Error"))],
            ),
            (
                "False",
                "StepOOM",
                "\"step-s\" exited with code 137: OOMKilled",
            ),
        ),
        (
            pod(
                "Succeeded",
                &[step(ended(0, "Completed")), sidecar(ended(4, "Error"))],
            ),
            ("True", "Succeeded", "All Steps have completed executing"),
        ),
        (
            with_init("prepare", ended(2, "Error")),
            (
                "False",
                "InitContainerFailed",
                "init container failed, \"prepare\" exited with code 2: Error",
            ),
        ),
        (
            with_init("prepare", ended(137, "OOMKilled")),
            (
                "False",
                "InitContainerOOM",
                "init container failed, \"prepare\" exited with code 137: OOMKilled",
            ),
        ),
        (
            with_init("sidecar-c", ended(2, "Error")),
            (
                "False",
                "SidecarFailed",
                "init container failed, \"sidecar-c\" exited with code 2: Error",
            ),
        ),
        (
            json!({"phase": "Failed", "reason": "Evicted", "message": "no disk", "containerStatuses": [step(ended(3, "Error"))]}),
            ("False", "PodEvicted", "no disk"),
        ),
        (
            json!({"phase": "Failed", "message": "node gone"}),
            ("False", "Failed", "node gone"),
        ),
        (
            json!({"phase": "Failed"}),
            ("False", "Failed", "build failed for unspecified reasons."),
        ),
    ] {
        let world = status_of(pod.clone());
        assert_eq!(condition(&world.run.status), expected, "{pod}");
        assert_eq!(
            json!(world.run.status.completion_time),
            json!("2026-01-01T00:00:01Z"),
            "{pod}"
        );
        assert!(world.run.status.artifacts.is_some(), "T-300");
    }
}

#[test]
fn a_failure_that_the_pipeline_ignores_keeps_its_message() {
    // T-369
    let mut world = started();
    let annotations = world.run.metadata.annotations.as_mut().unwrap();
    annotations.insert(
        "pipeline.tekton.dev/pipeline-task-on-error".into(),
        "continue".into(),
    );
    world.pod_status(
        json!({"phase": "Failed", "containerStatuses": [container("step-s", ended(3, "Error"))]}),
    );
    world.pass();
    assert_eq!(
        condition(&world.run.status),
        (
            "False",
            "FailureIgnored",
            "\"step-s\" exited with code 3: Error"
        )
    );
}

#[test]
fn steps_say_how_they_ended() {
    // T-313, T-347
    let message = |notes: Value| notes.to_string();
    for (message, reason, code, shown) in [
        (message(json!([])), "Completed", 0, None),
        (String::new(), "", 0, None),
        (
            message(json!([{"key": "ExitCode", "value": "7", "type": 3}])),
            "Continued",
            7,
            None,
        ),
        (
            message(json!([{"key": "Reason", "value": "Skipped", "type": 3}])),
            "Skipped",
            0,
            None,
        ),
        (
            message(
                json!([{"key": "StartedAt", "value": "2026-01-01T00:00:03.250Z", "type": 3}, {"key": "r", "value": "v", "type": 1}]),
            ),
            "Completed",
            0,
            Some(r#"[{"key":"r","value":"v","type":1}]"#),
        ),
    ] {
        let state = json!({"terminated": {"exitCode": 0, "reason": "Completed", "message": message, "startedAt": "2026-01-01T00:00:02Z"}});
        let world = status_of(
            json!({"phase": "Succeeded", "containerStatuses": [container("step-s", state)]}),
        );
        let step = &world.run.status.steps[0];
        assert_eq!(step.termination_reason, reason, "{message}");
        let ended = step.terminated.as_ref().unwrap();
        assert_eq!(
            (
                ended.exit_code,
                ended.message.as_deref().filter(|m| !m.is_empty())
            ),
            (code, shown),
            "{message}"
        );
        let started = if message.contains("StartedAt") {
            "2026-01-01T00:00:03Z"
        } else {
            "2026-01-01T00:00:02Z"
        };
        assert_eq!(json!(ended.started_at), started, "{message}");
    }
}

#[test]
fn a_result_of_the_wrong_type_fails_a_run_whose_steps_succeeded() {
    // T-311, T-400
    let spec = json!({"results": [{"name": "r", "type": "array"}], "steps": [{"name": "s", "image": "i", "command": ["c"]}]});
    let mut world = World::new(run(json!({"taskSpec": spec})));
    world.pass();
    let state = json!({"terminated": {"exitCode": 0, "message": r#"[{"key":"r","value":"text","type":1}]"#}});
    world.pod_status(
        json!({"phase": "Succeeded", "containerStatuses": [container("step-s", state)]}),
    );
    let decision = world.pass();
    let (status, reason, message) = condition(&decision.status);
    assert_eq!((status, reason), ("False", "TaskRunValidationFailed"));
    assert!(
        message.starts_with("[User error] Provided results don't match declared results"),
        "{message}"
    );
    assert!(decision.status.results.is_empty());
    assert_eq!(
        events(&decision),
        [
            format!("! InternalError: {message}"),
            format!("! Failed: {message}")
        ]
    );
}

#[test]
fn a_pod_that_the_status_does_not_name_is_adopted_if_it_is_this_attempts() {
    // T-154
    let created = started();
    let pods = created.seen.pods.clone();
    let adopts = |change: &dyn Fn(&mut World)| {
        let mut world = World::new(one_step());
        world.seen.pods = pods.clone();
        change(&mut world);
        !world
            .decide()
            .effects
            .iter()
            .any(|e| matches!(e, Effect::CreatePod(_)))
    };
    assert!(adopts(&|_| {}));
    assert!(!adopts(&|w| w.run.metadata.uid = Some("other".into())));
    assert!(!adopts(&|w| w.pod_status(json!({"phase": "Failed"}))));
    let archived = |w: &mut World| {
        let attempt = serde_json::from_value(json!({"podName": "tr-pod"})).unwrap();
        w.run.status.retries_status = vec![attempt];
    };
    assert!(!adopts(&archived));
}

#[test]
fn a_pod_that_is_gone_is_created_again() {
    // T-154
    let mut world = started();
    world.seen.pods.clear();
    let decision = world.pass();
    assert!(
        matches!(&decision.effects[..], [Effect::CreatePod(pod)] if pod.metadata.name.as_deref() == Some("tr-pod"))
    );
}

/// A run whose results come through the log of a sidecar that has said `log`.
fn logging(log: &str, sidecar: Value) -> World {
    let spec = json!({"results": [{"name": "r", "type": "string"}], "steps": [{"name": "s", "image": "i", "command": ["c"], "results": [{"name": "q", "type": "string"}]}]});
    let mut world = World::new(run(json!({"taskSpec": spec})));
    world.config.feature_flags.result_extraction_method = "sidecar-logs".into();
    world.pass();
    let query = Query::Log {
        namespace: "ns".into(),
        pod: "tr-pod".into(),
        container: "sidecar-tekton-log-results".into(),
    };
    world
        .answers
        .insert(query, Answer::Found(Found::Log(log.into())));
    world.pod_status(json!({"phase": "Running", "containerStatuses": [
        container("step-s", ended(0, "Completed")), container("sidecar-tekton-log-results", sidecar)]}));
    world
}

const LOG: &str = "{\"name\":\"r\",\"value\":\"v\",\"type\":\"task\"}\n{\"name\":\"step-s.q\",\"value\":\"w\",\"type\":\"step\"}\n";

#[test]
fn results_are_read_from_the_log_of_the_results_sidecar_once_it_has_ended() {
    // T-317, T-318, T-320
    let mut world = logging(LOG, running());
    let decision = world.decide();
    assert_eq!(condition(&decision.status).0, "Unknown");
    assert!(decision.status.results.is_empty());
    let status = logging(LOG, ended(0, "Completed")).decide().status;
    assert_eq!(condition(&status).0, "True");
    assert_eq!(
        json!(status.results),
        json!([{"name": "r", "type": "string", "value": "v"}])
    );
    assert_eq!(
        json!(status.steps[0].results),
        json!([{"name": "q", "type": "string", "value": "w"}])
    );
}

#[test]
fn a_result_longer_than_allowed_fails_the_run_and_deletes_its_pod() {
    // T-319, T-382
    let mut world = logging(LOG, ended(0, "Completed"));
    world.config.feature_flags.max_result_size = 20;
    let decision = world.decide();
    assert_eq!(
        condition(&decision.status),
        (
            "False",
            "TaskRunResultLargerThanAllowedLimit",
            "[User error]  TaskRun \"\"tr\"\" failed: 38 bytes results size exceeds configured limit of 20 bytes"
        )
    );
    assert_eq!(
        decision.effects,
        [Effect::DeletePod {
            name: "tr-pod".into()
        }]
    );
}
