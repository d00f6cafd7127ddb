//! Rows of the compatibility contract that need no more than one or two reconciles each.

use serde_json::{Value, json};
use tektite_engine::decision::{Effect, Query, RemoteKind};
use tektite_engine::pipelinerun::{Observed, is_ours, reconcile};

use crate::world::{World, giving};

fn step() -> Value {
    json!({"steps": [{"name": "s", "image": "i", "script": "x"}]})
}

#[test]
fn a_task_is_custom_exactly_if_it_names_both_a_version_and_a_kind() {
    // P-009
    for (reference, custom) in [
        (
            json!({"apiVersion": "tekton.dev/v1beta1", "kind": "Task", "name": "t"}),
            true,
        ),
        (
            json!({"apiVersion": "example.dev/v1", "kind": "Wait"}),
            true,
        ),
        (json!({"kind": "Task", "name": "t"}), false),
    ] {
        let mut world = World::of_pipeline(json!({"tasks": [{"name": "a", "taskRef": reference}]}))
            .task("t", step());
        world.reconcile();
        assert_eq!(
            (world.custom_runs.len(), world.task_runs.len()),
            if custom { (1, 0) } else { (0, 1) },
            "{reference}"
        );
    }
}

#[test]
fn defaults_are_filled_in_again_but_not_written_into_the_spec() {
    // P-027
    let mut world = World::of_pipeline(
        json!({"params": [{"name": "p", "default": ["x"]}], "tasks": [
        {"name": "a", "taskRef": {"name": "t"}}]}),
    )
    .task("t", step());
    world.reconcile();
    let spec = world.run.spec.clone();
    assert_eq!(spec.timeouts, None);
    let stored = serde_json::to_value(world.run.status.pipeline_spec.as_ref().unwrap()).unwrap();
    assert_eq!(stored["params"][0]["type"], "array");
    assert_eq!(stored["tasks"][0]["taskRef"]["kind"], "Task");
    assert_eq!(
        serde_json::to_value(spec.pipeline_spec).unwrap()["tasks"][0]["taskRef"]["kind"],
        Value::Null
    );
}

#[test]
fn retries_and_timeouts_go_to_the_child_whatever_they_are() {
    // P-065
    let mut world = World::of_pipeline(
        json!({"tasks": [{"name": "a", "taskSpec": step(), "retries": -3, "timeout": "-1m0s"}]}),
    );
    world.reconcile();
    let child = serde_json::to_value(&world.task_runs["run-a"].spec).unwrap();
    assert_eq!(
        (&child["retries"], &child["timeout"]),
        (&json!(-3), &json!("-1m0s"))
    );
}

#[test]
fn tasks_that_have_children_come_first_in_the_status() {
    // P-102
    let task = |name: &str, after: &[&str]| json!({"name": name, "taskSpec": giving(&[]), "runAfter": after});
    let mut world =
        World::of_pipeline(json!({"tasks": [task("z", &["m"]), task("m", &[]), task("a", &[])]}));
    world.reconcile();
    world.succeed("run-m", json!({}));
    let order = |world: &World| -> Vec<String> {
        world
            .run
            .status
            .child_references
            .iter()
            .map(|it| it.pipeline_task_name.clone())
            .collect()
    };
    assert_eq!(order(&world), ["m", "a", "z"]);
    world.reconcile();
    assert_eq!(order(&world), ["z", "m", "a"]);
}

#[test]
fn every_spelling_of_a_param_is_filled_in_where_a_pipeline_takes_params() {
    // P-129, P-132, P-135
    let mut world = World::of_run(json!({
        "params": [{"name": "s", "value": "S"}, {"name": "l", "value": ["x", "y"]}, {"name": "o", "value": {"k": "run"}}],
        "pipelineSpec": {
            "params": [{"name": "s"}, {"name": "l", "type": "array"},
                {"name": "o", "type": "object", "properties": {"k": {}, "other": {}}, "default": {"k": "d", "other": "d"}}],
            "tasks": [{
                "name": "a", "displayName": "$(params.s) $(params[\"s\"]) $(params['s']) $(params.l[1]) $(params['l'][0]) $(params.o.k)",
                "params": [{"name": "p", "value": "$(params.l[*])"}, {"name": "gone", "value": "$(params.o.other)"}],
                "when": [{"input": "$(params.s)", "operator": "in", "values": ["$(params.l[*])", "S"]}],
                "taskSpec": {"params": [{"name": "p", "type": "array"}, {"name": "gone"}], "steps": [{"image": "i"}]}}]
        }
    }));
    world.reconcile();
    assert_eq!(
        world.run.status.child_references[0].display_name,
        "S S S y x run"
    );
    assert_eq!(
        world.params("run-a"),
        json!({"p": ["x", "y"], "gone": "$(params.o.other)"})
    );
    // P-162
    let when =
        serde_json::to_value(&world.run.status.child_references[0].when_expressions).unwrap();
    assert_eq!(
        when,
        json!([{"input": "S", "operator": "in", "values": ["x", "y", "S"]}])
    );
}

#[test]
fn an_array_of_results_expands_in_values_and_becomes_json_as_input() {
    // P-162
    let mut world = World::of_pipeline(json!({"tasks": [
        {"name": "a", "taskSpec": giving(&["l[]"])},
        {"name": "b", "taskSpec": step(), "when": [
            {"input": "$(tasks.a.results.l[*])", "operator": "in", "values": ["$(tasks.a.results.l[*])", "[\"x\",\"y\"]"]}]}]}));
    world.reconcile();
    world.succeed("run-a", json!({"l": ["x", "y"]}));
    let child = world
        .run
        .status
        .child_references
        .iter()
        .find(|it| it.name == "run-b")
        .expect("b runs");
    assert_eq!(
        serde_json::to_value(&child.when_expressions).unwrap(),
        json!([{"input": "[\"x\",\"y\"]", "operator": "in", "values": ["x", "y", "[\"x\",\"y\"]"]}])
    );
}

#[test]
fn artifacts_of_finished_tasks_are_filled_into_inline_tasks() {
    // P-153
    let mut world = World::of_pipeline(json!({"tasks": [
        {"name": "a", "taskSpec": step()},
        {"name": "b", "runAfter": ["a"], "taskSpec": {"steps": [{"image": "i",
            "script": "$(tasks.a.outputs) $(tasks.a.outputs.img) $(tasks.a.inputs.src)"}]}}]}));
    world.reconcile();
    let run = world.task_runs.get_mut("run-a").unwrap();
    run.status.artifacts = serde_json::from_value(json!({
        "inputs": [{"name": "src", "values": [{"uri": "git:x"}]}],
        "outputs": [{"name": "img", "values": [{"uri": "reg/i"}]}]
    }))
    .unwrap();
    world.succeed("run-a", json!({}));
    let script = &world.task_runs["run-b"]
        .spec
        .task_spec
        .as_ref()
        .unwrap()
        .steps[0]
        .script;
    assert_eq!(
        script,
        r#"[{"uri":"reg/i"}] [{"uri":"reg/i"}] [{"uri":"git:x"}]"#
    );
}

#[test]
fn variables_in_pod_templates_are_left_to_the_task_run() {
    // P-259
    let mut world = World::of_run(json!({
        "params": [{"name": "disk", "value": "ssd"}],
        "taskRunSpecs": [{"pipelineTaskName": "a", "podTemplate": {"nodeSelector": {"disk": "$(params.disk)"}}}],
        "pipelineSpec": {"params": [{"name": "disk"}], "tasks": [{"name": "a", "taskSpec": step()}]}
    }));
    world.reconcile();
    let template = serde_json::to_value(&world.task_runs["run-a"].spec.pod_template).unwrap();
    assert_eq!(template["nodeSelector"], json!({"disk": "$(params.disk)"}));
}

#[test]
fn a_child_pipeline_by_resolver_is_asked_for_with_the_runs_values() {
    // P-223
    let mut world = World::of_run(json!({
        "params": [{"name": "rev", "value": "v1"}],
        "pipelineSpec": {"params": [{"name": "rev"}], "tasks": [{"name": "a", "pipelineRef": {"resolver": "git", "params": [
            {"name": "revision", "value": "$(params.rev)"}, {"name": "by", "value": "$(context.pipelineRun.name)"}]}}]}
    }));
    world.now = world
        .now
        .checked_add(jiff::SignedDuration::from_secs(1))
        .unwrap();
    let needs = reconcile(&world.run, &Observed::default(), &world.config, world.now).needs;
    let [Query::Remote(remote)] = &needs[..] else {
        panic!("{needs:?}")
    };
    assert_eq!(
        (remote.kind, remote.resolver.as_str()),
        (RemoteKind::Pipeline, "git")
    );
    let params: Vec<_> = remote
        .params
        .iter()
        .filter_map(|it| it.value.as_str())
        .collect();
    assert_eq!(params, ["v1", "run"]);
}

#[test]
fn a_matrix_makes_several_children_of_a_child_pipeline_with_the_same_params() {
    // P-222
    let mut world = World::of_pipeline(
        json!({"tasks": [{"name": "a", "params": [{"name": "p", "value": "1"}],
        "matrix": {"params": [{"name": "m", "value": ["x", "y"]}]},
        "pipelineSpec": {"params": [{"name": "p"}], "tasks": [{"name": "b", "taskSpec": step()}]}}]}),
    );
    world.reconcile();
    assert_eq!(world.made(), ["run-a-0", "run-a-1"]);
    for child in world.pipeline_runs.values() {
        assert_eq!(
            serde_json::to_value(&child.spec.params).unwrap(),
            json!([{"name": "p", "value": "1"}])
        );
    }
}

#[test]
fn a_run_of_another_manager_is_not_ours() {
    // P-396
    for (manager, ours) in [
        (None, true),
        (Some("tekton.dev/pipeline"), true),
        (Some("kueue"), false),
        (Some(""), false),
    ] {
        let mut run = World::of_pipeline(json!({"tasks": []})).run;
        run.spec.managed_by = manager.map(str::to_owned);
        assert_eq!(is_ours(&run), ours, "{manager:?}");
    }
}

#[test]
fn events_follow_the_condition_and_errors_are_told() {
    // P-380, P-381
    let mut world = World::of_pipeline(json!({"tasks": [{"name": "a", "taskSpec": step()}]}));
    world.reconcile().reconcile();
    assert_eq!(world.event_reasons(), ["Started", "Running"]);
    world.events.clear();
    world.fail("run-a").reconcile();
    assert_eq!(world.event_reasons(), ["Failed"]);
    assert_eq!(world.events[0].message, world.outcome().2);
    let mut world = World::of_pipeline(
        json!({"tasks": [{"name": "a", "runAfter": ["a"], "taskSpec": step()}]}),
    );
    world.reconcile();
    assert_eq!(
        world.event_reasons(),
        ["Started", "Failed", "InternalError"]
    );
    assert!(
        !world
            .log
            .iter()
            .any(|effect| matches!(effect, Effect::CreateTaskRun(_)))
    );
}
