//! What children look like: names, metadata, specs; and what is stored of the pipeline.

use serde_json::{Value, json};
use tektite_engine::decision::{Query, RemoteKind, RemoteRef};

use crate::world::World;

fn step() -> Value {
    json!({"steps": [{"name": "s", "image": "i"}]})
}

#[test]
fn labels_and_annotations_reach_children_by_precedence() {
    // T-014, P-268, P-269, P-270, P-398
    let mut world = World::of_run(json!({
        "taskRunSpecs": [{"pipelineTaskName": "a", "metadata": {
            "labels": {"run": "specs", "tekton.dev/pipelineTask": "mine"},
            "annotations": {"chains.tekton.dev/x": "kept"}}}],
        "pipelineSpec": {"tasks": [{"name": "a", "taskSpec": {
            "metadata": {"labels": {"run": "task", "task": "task"}, "annotations": {"note": "task", "t": "t"}},
            "steps": [{"name": "s", "image": "i"}]}}]}
    }));
    world.run.metadata.labels = Some([("run".to_owned(), "run".to_owned())].into());
    world.run.metadata.annotations = Some(
        [
            ("note", "run"),
            ("chains.tekton.dev/signed", "true"),
            ("kubectl.kubernetes.io/last-applied-configuration", "{}"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into(),
    );
    world.reconcile();
    let metadata = serde_json::to_value(&world.task_runs["run-a"].metadata).unwrap();
    assert_eq!(
        metadata["labels"],
        json!({
            "run": "specs", "task": "task", "tekton.dev/pipelineTask": "mine", "tekton.dev/memberOf": "tasks",
            "tekton.dev/pipeline": "run", "tekton.dev/pipelineRun": "run", "tekton.dev/pipelineRunUID": "uid"
        })
    );
    assert_eq!(
        metadata["annotations"],
        json!({"note": "run", "t": "t", "chains.tekton.dev/x": "kept"})
    );
    assert_eq!(
        metadata["ownerReferences"],
        json!([{"apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "name": "run", "uid": "uid", "controller": true,
            "blockOwnerDeletion": true}])
    );
}

#[test]
fn the_pipeline_label_says_where_the_pipeline_came_from() {
    // P-266, P-267
    let label =
        |world: &World| world.run.metadata.labels.as_ref().unwrap()["tekton.dev/pipeline"].clone();
    let inline = || World::of_pipeline(json!({"tasks": [{"name": "a", "taskSpec": step()}]}));
    let mut world = inline();
    world.reconcile();
    assert_eq!(label(&world), "run");
    let mut world = inline();
    world.run.metadata.labels =
        Some([("tekton.dev/pipeline".to_owned(), "mine".to_owned())].into());
    world.reconcile();
    assert_eq!(label(&world), "run");
    let mut world = inline();
    world.run.metadata.generate_name = Some("build-".into());
    world.reconcile();
    assert_eq!(label(&world), "build");
    let mut world = World::of_run(json!({"pipelineRef": {"name": "p"}}))
        .pipeline("p", json!({"tasks": [{"name": "a", "taskSpec": step()}]}));
    let metadata = &mut world.pipelines.get_mut("p").unwrap().metadata;
    metadata.labels = Some(
        [
            ("team".to_owned(), "x".to_owned()),
            ("own".to_owned(), "pipeline".to_owned()),
        ]
        .into(),
    );
    metadata.annotations = Some([("a".to_owned(), "b".to_owned())].into());
    world.run.metadata.labels = Some([("own".to_owned(), "run".to_owned())].into());
    world.reconcile();
    assert_eq!(label(&world), "p");
    let labels = world.run.metadata.labels.as_ref().unwrap();
    assert_eq!(
        (labels["team"].as_str(), labels["own"].as_str()),
        ("x", "run")
    );
    assert_eq!(world.run.metadata.annotations.as_ref().unwrap()["a"], "b");
    for (params, expected) in [
        (
            json!([{"name": "kind", "value": "pipeline"}, {"name": "name", "value": "remote"}]),
            "remote",
        ),
        (
            json!([{"name": "kind", "value": "task"}, {"name": "name", "value": "remote"}]),
            "run",
        ),
    ] {
        let mut world =
            World::of_run(json!({"pipelineRef": {"resolver": "cluster", "params": params}}));
        world.reconcile();
        assert_eq!(label(&world), expected);
    }
}

#[test]
fn a_pipeline_is_fetched_once_and_then_read_from_the_status() {
    // P-296, P-297
    let mut world = World::of_run(json!({"pipelineRef": {"name": "p"}, "params": [{"name": "x", "value": "v"}]})).pipeline(
        "p",
        json!({"params": [{"name": "x"}], "tasks": [
            {"name": "a", "taskSpec": {"params": [{"name": "x"}], "steps": []}, "params": [{"name": "x", "value": "$(params.x)"}]},
            {"name": "b", "runAfter": ["a"], "taskSpec": step()}]}),
    );
    world.reconcile();
    let stored = world.run.status.pipeline_spec.clone().unwrap();
    assert_eq!(stored.tasks[0].params[0].value.as_str(), Some("v"));
    world.pipelines.clear();
    world.succeed("run-a", json!({}));
    assert_eq!(world.made(), ["run-a", "run-b"]);
    assert_eq!(world.run.status.pipeline_spec, Some(stored));
    // P-300
    let flags = serde_json::to_value(world.run.status.provenance.as_ref().unwrap()).unwrap();
    assert_eq!(flags["featureFlags"]["coschedule"], "workspaces");
}

#[test]
fn provenance_is_stored_only_while_the_flag_is_on() {
    // P-300
    let mut world = World::of_pipeline(json!({"tasks": [{"name": "a", "taskSpec": step()}]}));
    world.config.feature_flags.enable_provenance_in_status = false;
    world.reconcile();
    assert!(world.run.status.provenance.is_none());
}

#[test]
fn a_trace_given_by_annotation_is_adopted_and_passed_on() {
    // P-301
    let adopted = |given: &str| {
        let mut world = World::of_pipeline(json!({"tasks": [{"name": "a", "taskSpec": step()}]}));
        let annotations = [(
            "tekton.dev/pipelinerunSpanContext".to_owned(),
            given.to_owned(),
        )];
        world.run.metadata.annotations = Some(annotations.into());
        world.reconcile();
        let annotations = world.task_runs["run-a"]
            .metadata
            .annotations
            .clone()
            .unwrap();
        let passed_on = annotations.get("tekton.dev/taskrunSpanContext").cloned();
        (json!(world.run.status.span_context), passed_on)
    };
    let context = json!({"traceparent": "00-aa-bb-01"});
    assert_eq!(
        adopted(&context.to_string()),
        (context.clone(), Some(context.to_string()))
    );
    assert_eq!(adopted("no JSON"), (json!({}), None));
    let long = json!({"traceparent": "x".repeat(1100)});
    assert_eq!(adopted(&long.to_string()), (long, None));
}

#[test]
fn a_referenced_task_is_passed_on_by_reference_and_an_inline_one_by_value() {
    // P-260, P-183, P-257
    let mut world = World::of_run(json!({
        "taskRunTemplate": {"serviceAccountName": "robot", "podTemplate": {"nodeSelector": {"a": "b"}}},
        "taskRunSpecs": [
            {"pipelineTaskName": "a", "serviceAccountName": "first", "podTemplate": {"schedulerName": "s"},
                "computeResources": {"requests": {"cpu": "1"}}},
            {"pipelineTaskName": "a", "timeout": "3m"}
        ],
        "pipelineSpec": {"tasks": [
            {"name": "a", "retries": 4, "taskRef": {"name": "t"}, "timeout": "9m"}, {"name": "b", "taskSpec": step()}]}
    }))
    .task("t", step());
    world.reconcile();
    let a = serde_json::to_value(&world.task_runs["run-a"].spec).unwrap();
    assert_eq!(
        a,
        json!({
            "retries": 4, "taskRef": {"kind": "Task", "name": "t"}, "timeout": "3m0s", "serviceAccountName": "first",
            "podTemplate": {"schedulerName": "s", "nodeSelector": {"a": "b"}}
        })
    );
    let b = &world.task_runs["run-b"].spec;
    assert!(b.task_ref.is_none() && b.task_spec.as_ref().unwrap().steps.len() == 1);
    assert_eq!(b.service_account_name, "robot");
}

#[test]
fn the_stored_task_of_a_child_is_used_instead_of_looking_it_up() {
    // P-312
    let mut world = World::of_pipeline(json!({"tasks": [{"name": "a", "taskRef": {"name": "t"}}]}))
        .task("t", step());
    world.reconcile();
    world.task_runs.get_mut("run-a").unwrap().status.task_spec =
        Some(serde_json::from_value(step()).unwrap());
    world.tasks.clear();
    world.succeed("run-a", json!({}));
    assert_eq!(world.outcome().1, "Succeeded");
}

/// The one request to a resolver that the run's next reconcile begins with.
#[track_caller]
fn asked_remotely(world: &World) -> RemoteRef {
    let decision = tektite_engine::pipelinerun::reconcile(
        &world.run,
        &world.observed(),
        &world.config,
        world.now,
    );
    match &decision.needs[..] {
        [Query::Remote(remote)] => remote.clone(),
        needs => panic!("{needs:?}"),
    }
}

#[test]
fn a_remote_task_is_asked_for_under_the_name_of_the_task_run_to_be() {
    // P-305, P-307
    let mut world = World::of_run(json!({
        "params": [{"name": "rev", "value": "main"}],
        "pipelineSpec": {"params": [{"name": "rev"}], "tasks": [{"name": "a", "taskRef": {
            "resolver": "git", "params": [{"name": "revision", "value": "$(params.rev)"}]}}]}
    }));
    let remote = asked_remotely(&world);
    assert_eq!(
        (remote.kind, remote.run.as_str(), remote.resolver.as_str()),
        (RemoteKind::Task, "run-a", "git")
    );
    assert_eq!(remote.params[0].value.as_str(), Some("main"));
    world.run.spec.pipeline_spec = None;
    world.run.spec.pipeline_ref = serde_json::from_value(json!({
        "resolver": "git",
        "params": [{"name": "revision", "value": "$(params.rev) $(context.pipelineRun.name)"}]
    }))
    .unwrap();
    let remote = asked_remotely(&world);
    assert_eq!(
        (remote.kind, remote.run.as_str()),
        (RemoteKind::Pipeline, "run")
    );
    assert_eq!(remote.params[0].value.as_str(), Some("main run"));
}

#[test]
fn all_that_tasks_refer_to_is_asked_for_at_once() {
    // P-292
    let world = World::of_pipeline(json!({"tasks": [
        {"name": "a", "taskRef": {"name": "t"}}, {"name": "b", "taskRef": {"name": "u"}},
        {"name": "c", "taskRef": {"name": "t"}}, {"name": "d", "pipelineRef": {"name": "p"}}]}));
    let decision = tektite_engine::pipelinerun::reconcile(
        &world.run,
        &world.observed(),
        &world.config,
        world.now,
    );
    assert_eq!(decision.needs.len(), 3);
    assert!(decision.effects.is_empty() && decision.status == world.run.status);
}

#[test]
fn a_pipeline_in_a_pipeline_becomes_a_child_run() {
    // P-213, P-214, P-215, P-218, P-219
    let inner = json!({"tasks": [{"name": "x", "taskSpec": step()}]});
    let mut world = World::of_run(json!({
        "timeouts": {"pipeline": "1h"}, "taskRunTemplate": {"serviceAccountName": "robot"},
        "workspaces": [{"name": "w", "volumeClaimTemplate": {"spec": {}}}],
        "pipelineSpec": {
            "tasks": [
                {"name": "ref", "pipelineRef": {"name": "inner"}, "retries": 3, "timeout": "1m",
                    "params": [{"name": "p", "value": "v"}],
                    "workspaces": [{"name": "in", "workspace": "w"}, {"name": "absent"}]},
                {"name": "inline", "pipelineSpec": inner}
            ],
            "finally": [{"name": "f", "taskSpec": {"params": [{"name": "s"}], "steps": []},
                "params": [{"name": "s", "value": "$(tasks.ref.status) $(tasks.ref.reason) $(tasks.status)"}]}]
        }
    }))
    .pipeline("inner", inner.clone());
    world.reconcile();
    let child = &world.pipeline_runs["run-ref"];
    let spec = serde_json::to_value(&child.spec).unwrap();
    assert_eq!(spec["pipelineRef"], json!({"name": "inner"}));
    assert_eq!(spec["params"], json!([{"name": "p", "value": "v"}]));
    assert_eq!(
        spec["taskRunTemplate"],
        json!({"serviceAccountName": "robot"})
    );
    let workspaces = spec["workspaces"].as_array().unwrap();
    assert_eq!(
        (workspaces.len(), &workspaces[0]["name"]),
        (1, &json!("in"))
    );
    assert!(
        workspaces[0]["persistentVolumeClaim"]["claimName"]
            .as_str()
            .unwrap()
            .starts_with("pvc-")
    );
    assert!(spec.get("timeouts").is_none());
    assert_eq!(
        child.metadata.labels.as_ref().unwrap()["tekton.dev/pipeline"],
        "inner"
    );
    let inline = &world.pipeline_runs["run-inline"];
    assert_eq!(
        inline.metadata.labels.as_ref().unwrap()["tekton.dev/pipeline"],
        "run"
    );
    assert!(inline.spec.pipeline_spec.is_some());
    assert_eq!(world.run.status.child_references[0].kind, "PipelineRun");
    world.fail("run-ref").succeed("run-inline", json!({}));
    assert_eq!(world.params("run-f"), json!({"s": "Failed Failed Failed"}));
}

#[test]
fn a_pipeline_does_not_run_within_itself() {
    // P-216
    let mut world = World::of_run(json!({"pipelineRef": {"name": "p"}}))
        .pipeline(
            "p",
            json!({"tasks": [{"name": "a", "pipelineRef": {"name": "q"}}]}),
        )
        .pipeline("q", json!({"tasks": []}));
    let mut parent = World::of_pipeline(json!({})).run;
    parent.metadata.name = Some("parent".into());
    parent.metadata.labels = Some([("tekton.dev/pipeline".to_owned(), "q".to_owned())].into());
    world.pipeline_runs.insert("parent".into(), parent);
    world.run.metadata.owner_references = serde_json::from_value(json!([{
        "apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "name": "parent", "uid": "p", "controller": true}]))
    .unwrap();
    world.reconcile();
    world.assert_outcome(
        "False",
        "CreateRunFailed",
        "detected cycle in pipeline-in-pipeline: pipeline \"q\" is already running in ancestor chain [p]",
    );
}

#[test]
fn long_names_are_hashed_the_same_way_every_time() {
    // P-261, P-263
    let mut world = World::of_pipeline(json!({"tasks": [
        {"name": "t".repeat(40), "taskSpec": {"params": [{"name": "x"}], "steps": []},
            "matrix": {"params": [{"name": "x", "value": ["1", "2"]}]}}]}));
    world.run.metadata.name = Some("r".repeat(40));
    world.reconcile();
    let made = world.made.clone();
    assert!(made.iter().all(|name| name.len() <= 63));
    assert!(made[0].ends_with("-0") && made[1].ends_with("-1"));
    world.task_runs.clear();
    world.run.status.child_references.clear();
    world.reconcile();
    assert_eq!(world.made[2..], made[..]);
}

#[test]
fn a_url_for_a_name_reaches_the_resolver_of_a_pipeline_but_not_of_its_tasks() {
    // P-308
    let url = "https://git.example/remote.yaml";
    for (spec, asked) in [
        (
            json!({"pipelineRef": {"resolver": "git", "name": url}}),
            url,
        ),
        (
            json!({"pipelineSpec": {"tasks": [{"name": "a", "taskRef": {"resolver": "git", "name": url}}]}}),
            "",
        ),
    ] {
        let world = World::of_run(spec);
        let remote = asked_remotely(&world);
        assert_eq!(remote.url, asked);
    }
}
