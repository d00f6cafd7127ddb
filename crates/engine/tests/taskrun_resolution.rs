//! What happens to a TaskRun before it has a pod: its task is found, checked, and its pod asked for.

mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use tektite_api::v1::{RefSource, Task};
use tektite_engine::decision::{
    Answer, Effect, Failure, FailureKind, Found, Query, Remote, RemoteObject, Verification,
};
use world::*;

#[test]
fn a_task_is_found_by_name_and_its_metadata_goes_to_the_run_and_its_pod() {
    // T-014, T-094, T-163, T-213, T-214
    let mut referring = run(json!({"taskRef": {"name": "t"}}));
    referring.metadata.labels = Some(BTreeMap::from([("own".into(), "run".into())]));
    let mut world = World::new(referring).with(task(json!({"steps": step()})));
    let decision = world.decide();
    assert_eq!(
        json!(decision.labels),
        json!({"l": "task", "tekton.dev/task": "t", "app.kubernetes.io/managed-by": "tekton-pipelines"})
    );
    assert_eq!(
        json!(decision.annotations),
        json!({"a": "task", "pipeline.tekton.dev/release": "unknown"})
    );
    let pod = world.pod();
    assert_eq!(
        pod["metadata"]["labels"],
        json!({"l": "task", "own": "run", "tekton.dev/task": "t", "app.kubernetes.io/managed-by": "tekton-pipelines",
               "tekton.dev/taskRun": "tr", "tekton.dev/taskRunUID": "u"})
    );
    assert_eq!(
        pod["metadata"]["annotations"],
        json!({"a": "task", "pipeline.tekton.dev/release": "unknown"})
    );
}

#[test]
fn a_stored_spec_is_never_fetched_again() {
    // T-155
    let mut world =
        World::new(run(json!({"taskRef": {"name": "t"}}))).with(task(json!({"steps": step()})));
    world.pass();
    let mut without = World::new(world.run.clone());
    without.seen.pods = world.seen.pods.clone();
    assert_eq!(condition(&without.decide().status).0, "Unknown");
}

#[test]
fn a_missing_task_fails_the_run_for_good() {
    // T-157, T-400
    let mut world = World::new(run(json!({"taskRef": {"name": "t"}})));
    let decision = world.decide();
    let message = "error when listing tasks for taskRun tr: task \"t\" not found";
    assert_eq!(
        condition(&decision.status),
        ("False", "TaskRunResolutionFailed", message)
    );
    assert!(decision.status.completion_time.is_some());
    assert_eq!(
        events(&decision),
        [
            "Started: ".to_owned(),
            format!("! InternalError: {message}"),
            format!("! Failed: {message}")
        ]
    );
    let mut world = World::new(run(json!({})));
    assert_eq!(
        condition(&world.decide().status).2,
        "taskRun tr not providing TaskRef or TaskSpec"
    );
}

fn remote_world(answer: impl Fn() -> Answer) -> World {
    let spec = json!({"taskRef": {"resolver": "git", "params": [{"name": "p", "value": "$(params.x)-$(context.taskRun.name)"}]},
                      "params": [{"name": "x", "value": "X"}]});
    let mut world = World::new(run(spec));
    let decision =
        tektite_engine::taskrun::reconcile(&world.run, &world.seen, &world.config, world.now);
    let query = decision
        .needs
        .into_iter()
        .find(|q| matches!(q, Query::Remote(_)))
        .expect("a remote request");
    // T-159
    let Query::Remote(remote) = &query else {
        unreachable!()
    };
    assert_eq!(
        json!(remote.params),
        json!([{"name": "p", "value": "X-tr"}])
    );
    world.answers.insert(query, answer());
    world
}

#[test]
fn a_remote_task_is_awaited() {
    // T-158, T-359
    let decision = remote_world(|| Answer::Pending).decide();
    assert_eq!(
        condition(&decision.status),
        (
            "Unknown",
            "ResolvingTaskRef",
            "TaskRun ns/tr awaiting remote resource"
        )
    );
    assert!(decision.wake.is_some() && decision.effects.is_empty());
}

#[test]
fn a_remote_task_that_cannot_be_had_fails_the_run() {
    // T-161, T-162, T-382, T-396
    for (kind, reason) in [
        (FailureKind::Resolution, "TaskRunResolutionFailed"),
        (FailureKind::Validation, "TaskValidationFailed"),
        (FailureKind::Verification, "ResourceVerificationFailed"),
    ] {
        let decision = remote_world(|| {
            Answer::Failed(Failure {
                kind,
                message: "m".into(),
            })
        })
        .decide();
        assert_eq!(condition(&decision.status), ("False", reason, "m"));
        let verified = decision
            .status
            .conditions
            .iter()
            .find(|c| c.type_ == "TrustedResourcesVerified");
        assert_eq!(
            verified.map(|c| c.status.as_str()),
            (kind == FailureKind::Verification).then_some("False")
        );
    }
}

#[test]
fn a_remote_task_leaves_its_source_in_the_provenance() {
    // T-391, T-392, T-396
    let found = || {
        let task: Task = serde_json::from_value(task(json!({"steps": step()}))).unwrap();
        let source = RefSource {
            uri: "git+x".into(),
            ..RefSource::default()
        };
        Answer::Found(Found::Remote(Arc::new(Remote {
            object: RemoteObject::Task(Box::new(task)),
            source: Some(source),
            verification: Verification::Warned("w".into()),
        })))
    };
    let mut world = remote_world(found);
    let status = world.pass().status;
    let provenance = json!(status.provenance);
    assert_eq!(provenance["refSource"], json!({"uri": "git+x"}));
    assert_eq!(provenance["featureFlags"]["enableAPIFields"], "beta");
    assert_eq!(status.conditions[1].message, "w");
    world.config.feature_flags.enable_provenance_in_status = false;
    world.run.status = Default::default();
    world.seen.pods.clear();
    assert_eq!(world.decide().status.provenance, None);
}

#[test]
fn a_step_action_takes_the_place_of_its_reference() {
    // T-165, T-173, T-348
    let spec = json!({"steps": [{"name": "s", "ref": {"name": "a"}, "params": [{"name": "p", "value": "v"}]}, {"image": "i", "command": ["c"]}]});
    let action = json!({"kind": "StepAction", "metadata": {"name": "a"}, "spec": {"image": "i", "command": ["$(params.p)"], "params": [{"name": "p"}]}});
    let mut world = World::new(run(json!({"taskSpec": spec}))).with(action);
    let status = world.decide().status;
    assert_eq!(
        json!(status.task_spec)["steps"],
        json!([{"name": "s", "image": "i", "command": ["v"], "computeResources": {}},
               {"name": "", "image": "i", "command": ["c"], "computeResources": {}}])
    );
    assert_eq!(
        json!(status.steps),
        json!([{"name": "s", "provenance": {}}, {"name": "unnamed-1", "provenance": {}}])
    );
}

#[test]
fn a_step_action_that_cannot_be_had_fails_the_run() {
    // T-164, T-168
    let spec = json!({"steps": [{"name": "s", "image": "i", "command": ["c"]}, {"name": "r", "ref": {"name": "a"}, "params": [{"name": "p", "value": "v"}]}]});
    let mut world = World::new(run(json!({"taskSpec": spec})));
    let message = "failed to resolve step ref for step \"r\" (index 1): stepaction \"a\" not found";
    assert_eq!(
        condition(&world.decide().status),
        ("False", "TaskRunResolutionFailed", message)
    );
    let mut world = world
        .with(json!({"kind": "StepAction", "metadata": {"name": "a"}, "spec": {"image": "i"}}));
    let message = "failed to resolve step ref for step \"r\" (index 1): extra params passed by Step to StepAction: [p]";
    assert_eq!(
        condition(&world.decide().status),
        ("False", "TaskRunResolutionFailed", message)
    );
}

#[test]
fn a_refused_pod_means_waiting_or_failing() {
    // T-355, T-358, T-379, T-380, T-381
    for (code, reason, message, kind, expected) in [
        (
            409,
            "Conflict",
            "busy",
            "resourcequotas",
            (
                "Unknown",
                "Pending",
                "tried to create pod, but it failed with ResourceQuotaConflictError",
            ),
        ),
        (
            409,
            "AlreadyExists",
            "exists",
            "pods",
            (
                "Unknown",
                "Pending",
                "tried to create pod, but it already exists",
            ),
        ),
        (
            403,
            "Forbidden",
            "exceeded quota: q",
            "pods",
            (
                "Unknown",
                "ExceededResourceQuota",
                "TaskRun Pod exceeded available resources: exceeded quota: q",
            ),
        ),
        (
            403,
            "Forbidden",
            "violates PodSecurity \"restricted\"",
            "pods",
            (
                "False",
                "PodAdmissionFailed",
                "violates PodSecurity \"restricted\"",
            ),
        ),
        (
            422,
            "Invalid",
            "TaskRun validation failed: x",
            "pods",
            (
                "False",
                "TaskRunValidationFailed",
                "TaskRun validation failed: x",
            ),
        ),
        (
            422,
            "Invalid",
            "bad",
            "pods",
            (
                "False",
                "PodCreationFailed",
                "failed to create task run pod \"tr\": bad. Maybe invalid TaskSpec",
            ),
        ),
    ] {
        let mut world = World::new(one_step());
        world.refuse(
            |e| matches!(e, Effect::CreatePod(_)),
            code,
            reason,
            message,
            kind,
        );
        let decision = world.decide();
        assert_eq!(condition(&decision.status), expected);
        assert!(decision.effects.is_empty());
        assert_eq!(decision.wake.is_some(), expected.0 == "Unknown");
        // The clock does not run for a pod that the quota keeps out.
        assert_eq!(
            decision.status.start_time.is_none(),
            matches!(expected.1, "ExceededResourceQuota") || kind == "resourcequotas"
        );
    }
    let mut world = checked(json!({}), json!({}));
    world.refuse(
        |e| matches!(e, Effect::CreatePod(_)),
        422,
        "Invalid",
        "bad",
        "pods",
    );
    assert!(
        condition(&world.decide().status)
            .2
            .ends_with("Maybe missing or invalid Task ns/t")
    );
}

#[test]
fn a_claim_is_created_before_the_pod() {
    // T-185, T-208, T-209, T-382
    let spec = json!({"taskSpec": {"steps": [{"name": "s", "image": "i", "command": ["$(workspaces.w.claim)"]}]},
                      "workspaces": [{"name": "w", "volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"]}}}]});
    let mut world = World::new(run(spec));
    let decision = world.decide();
    let [Effect::CreatePvc(claim), Effect::CreatePod(pod)] = decision.effects.as_slice() else {
        panic!("{:?}", decision.effects)
    };
    let name = claim.metadata.name.clone().unwrap();
    assert!(name.starts_with("pvc-") && name.len() == 14);
    assert_eq!(
        claim.metadata.owner_references.as_ref().unwrap()[0].uid,
        "u"
    );
    let volume = pod
        .spec
        .as_ref()
        .unwrap()
        .volumes
        .as_ref()
        .unwrap()
        .last()
        .unwrap();
    assert_eq!(
        volume.persistent_volume_claim.as_ref().unwrap().claim_name,
        name
    );
    assert_eq!(
        json!(decision.status.task_spec)["steps"][0]["command"],
        json!([name])
    );

    world.refuse(
        |e| matches!(e, Effect::CreatePvc(_)),
        403,
        "Forbidden",
        "no",
        "",
    );
    let decision = world.decide();
    assert_eq!(
        condition(&decision.status),
        ("False", "CouldntCreateWorkspacePVC",
         format!("failed to create PVC for TaskRun ns/tr workspaces correctly: PVC creation error for {name}: no").as_str())
    );
}

#[test]
fn a_missing_service_account_fails_pod_building() {
    // T-263, T-266, T-379
    let mut world = World::new(run(
        json!({"serviceAccountName": "gone", "taskSpec": {"steps": step()}}),
    ));
    assert_eq!(
        condition(&world.decide().status),
        (
            "False",
            "PodCreationFailed",
            "failed to create task run pod \"tr\": translating TaskSpec to Pod: serviceaccount \"gone\" not found. Maybe invalid TaskSpec"
        )
    );
    world.config.feature_flags.disable_creds_init = true;
    assert_eq!(condition(&world.decide().status).0, "Unknown");
}

#[test]
fn params_contexts_and_paths_are_substituted_in_order() {
    // T-179, T-180, T-181, T-182
    let script = "$(params.p) $(context.taskRun.name) $(context.task.name) $(context.taskRun.uid) $(context.task.retry-count) \
                  $(results.r.path) $(step.results.q.path) $(steps.step-s.exitCode.path) $(steps.step-unnamed-1.exitCode.path) $(credentials.path)";
    let spec = json!({"params": [{"name": "p"}], "results": [{"name": "r"}],
                      "steps": [{"name": "s", "image": "i", "script": script, "results": [{"name": "q"}]}, {"image": "i", "command": ["c"]}]});
    let mut world = checked(
        json!({"params": [{"name": "p", "value": "$(context.taskRun.name)"}]}),
        spec,
    );
    let status = world.decide().status;
    assert_eq!(
        json!(status.task_spec)["steps"][0]["script"],
        "tr tr t u 0 /tekton/results/r /tekton/steps/step-s/results/q /tekton/steps/step-s/exitCode /tekton/steps/step-unnamed-1/exitCode $(credentials.path)"
    );
}

#[test]
fn a_run_of_another_controller_is_not_ours() {
    // T-146
    let ours = |managed_by: Option<&str>| {
        let mut run = one_step();
        run.spec.managed_by = managed_by.map(str::to_owned);
        tektite_engine::taskrun::is_ours(&run)
    };
    assert!(ours(None) && ours(Some("tekton.dev/pipeline")));
    assert!(!ours(Some("example.com/other")) && !ours(Some("")));
}

#[test]
fn a_remote_step_action_is_asked_for_with_substituted_params_and_awaited() {
    // T-166, T-172
    let spec = json!({"params": [{"name": "d", "default": "D"}],
        "steps": [{"name": "s", "ref": {"resolver": "git", "params": [{"name": "p", "value": "$(params.d)-$(params.x)"}]}}]});
    let mut world = World::new(run(
        json!({"taskSpec": spec, "params": [{"name": "x", "value": "X"}]}),
    ));
    let decision =
        tektite_engine::taskrun::reconcile(&world.run, &world.seen, &world.config, world.now);
    let query = decision
        .needs
        .into_iter()
        .find(|q| matches!(q, Query::Remote(_)))
        .expect("a remote request");
    let Query::Remote(remote) = &query else {
        unreachable!()
    };
    assert_eq!(json!(remote.params), json!([{"name": "p", "value": "D-X"}]));
    world.answers.insert(query, Answer::Pending);
    let status = world.decide().status;
    assert_eq!(
        condition(&status),
        (
            "Unknown",
            "ResolvingStepActionRef",
            "TaskRun ns/tr awaiting remote StepAction"
        )
    );
}

#[test]
fn variables_of_a_referenced_task_are_fixed_at_the_first_attempt_and_those_of_an_inline_one_are_not()
 {
    // T-156
    let spec =
        json!({"steps": [{"name": "s", "image": "i", "command": ["$(context.task.retry-count)"]}]});
    for (run_spec, second) in [
        (json!({"taskRef": {"name": "t"}}), "0"),
        (json!({"taskSpec": spec}), "1"),
    ] {
        let mut world = World::new(run(run_spec)).with(task(spec.clone()));
        world.run.spec.retries = 1;
        world.pass();
        world.pod_status(json!({"phase": "Failed", "containerStatuses": [container("step-s", ended(1, "Error"))]}));
        world.pass();
        let pod = world.pod();
        let args = pod["spec"]["containers"][0]["args"].as_array().unwrap();
        assert!(args.contains(&second.into()), "{args:?}");
    }
}

#[test]
fn a_url_for_a_name_reaches_the_resolver() {
    // P-308
    let url = "https://git.example/task.yaml";
    let world = World::new(run(json!({"taskRef": {"resolver": "git", "name": url}})));
    let decision =
        tektite_engine::taskrun::reconcile(&world.run, &world.seen, &world.config, world.now);
    let asked = decision.needs.iter().find_map(|query| match query {
        Query::Remote(remote) => Some(remote.url.as_str()),
        _ => None,
    });
    assert_eq!(asked, Some(url));
}

#[test]
fn a_task_that_admission_never_saw_gets_its_defaults() {
    // T-094
    let spec = json!({"params": [{"name": "words", "default": ["a", "b"]}],
        "steps": [{"name": "s", "image": "i", "command": ["c"], "args": ["$(params.words[*])"]}]});
    let mut world = World::new(run(json!({"taskRef": {"name": "t"}}))).with(task(spec));
    let args = world.pod()["spec"]["containers"][0]["args"].clone();
    let args: Vec<_> = args
        .as_array()
        .expect("arguments")
        .iter()
        .rev()
        .take(2)
        .collect();
    assert_eq!(args, ["b", "a"]);
}
