//! Matrixed tasks.

use serde_json::{Value, json};

use crate::world::{World, giving};

fn taking(names: &[&str]) -> Value {
    let params: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
    json!({"params": params, "results": [{"name": "r"}], "steps": [{"name": "s", "image": "i"}]})
}

fn matrixed(name: &str, values: Value) -> Value {
    json!({"name": name, "taskSpec": taking(&["x"]), "matrix": {"params": [{"name": "x", "value": values}]}})
}

#[test]
fn each_combination_has_a_child_with_its_params_before_the_plain_ones() {
    // P-203, P-204, P-262, P-198
    let mut world = World::of_pipeline(json!({"tasks": [{
        "name": "m", "retries": 2, "taskSpec": taking(&["b", "a", "plain"]), "params": [{"name": "plain", "value": "p"}],
        "matrix": {"params": [{"name": "b", "value": ["1", "2"]}, {"name": "a", "value": ["x", "y"]}]}
    }]}));
    world.reconcile();
    assert_eq!(world.made(), ["run-m-0", "run-m-1", "run-m-2", "run-m-3"]);
    let order: Vec<String> = world.task_runs["run-m-1"]
        .spec
        .params
        .iter()
        .map(|it| it.name.clone())
        .collect();
    assert_eq!(order, ["a", "b", "plain"]);
    assert_eq!(
        world.params("run-m-1"),
        json!({"a": "x", "b": "2", "plain": "p"})
    );
    // P-211
    assert!(world.task_runs.values().all(|run| run.spec.retries == 2));
    assert_eq!(world.run.status.child_references.len(), 4);
}

#[test]
fn a_matrixed_task_ends_when_all_its_children_have() {
    // P-211, P-117, P-119
    let after = |name: &str| json!({"name": name, "runAfter": ["m"], "taskSpec": taking(&[])});
    let mut world =
        World::of_pipeline(json!({"tasks": [matrixed("m", json!(["1", "2"])), after("n")]}));
    world.reconcile().fail("run-m-0");
    assert_eq!(world.outcome().1, "Running");
    world.succeed("run-m-1", json!({}));
    assert_eq!(world.skipped(), [("n", "PipelineRun was stopping")]);
    world.assert_outcome(
        "False",
        "Failed",
        "Tasks Completed: 1 (Failed: 1, Cancelled 0), Skipped: 1",
    );
    let mut world = World::of_pipeline(json!({"tasks": [matrixed("m", json!(["1", "2"]))]}));
    world
        .reconcile()
        .end_badly("run-m-0", "TaskRunCancelled", json!({}))
        .fail("run-m-1");
    world.assert_outcome(
        "False",
        "Cancelled",
        "Tasks Completed: 1 (Failed: 0, Cancelled 1), Skipped: 0",
    );
}

#[test]
fn results_of_all_children_are_one_array_in_the_order_of_their_names() {
    // P-209, P-160
    let values: Vec<String> = (0..11).map(|i| i.to_string()).collect();
    let consumer = json!({"name": "c", "taskSpec": {"params": [{"name": "l", "type": "array"}], "steps": []},
        "params": [{"name": "l", "value": "$(tasks.m.results.r[*])"}]});
    let results = json!([{"name": "all", "value": "$(tasks.m.results.r[*])"}]);
    let mut world = World::of_pipeline(
        json!({"tasks": [matrixed("m", json!(values)), consumer], "results": results}),
    );
    world.reconcile();
    for i in 0..11 {
        let given = if i == 3 {
            json!({})
        } else {
            json!({"r": format!("r{i}")})
        };
        world.succeed(&format!("run-m-{i}"), given);
    }
    let expected = json!(["r0", "r1", "r10", "r2", "r4", "r5", "r6", "r7", "r8", "r9"]);
    assert_eq!(world.params("run-c"), json!({"l": expected}));
    world.succeed("run-c", json!({}));
    assert_eq!(
        serde_json::to_value(&world.run.status.results).unwrap(),
        json!([{"name": "all", "value": expected}])
    );
    // Nobody consumed them: the pipeline's result cannot be had.
    let mut world =
        World::of_pipeline(json!({"tasks": [matrixed("m", json!(["1"]))], "results": results}));
    world.reconcile().succeed("run-m", json!({"r": "x"}));
    assert_eq!(world.outcome().1, "CouldntGetPipelineResult");
}

#[test]
fn a_matrix_may_be_fed_by_results_and_an_empty_one_is_skipped() {
    // P-172, P-173, P-202
    let pipeline = json!({"tasks": [
        {"name": "p", "taskSpec": giving(&["l[]"])}, matrixed("m", json!("$(tasks.p.results.l[*])"))]});
    let mut world = World::of_pipeline(pipeline.clone());
    world.reconcile().succeed("run-p", json!({"l": ["a", "b"]}));
    assert_eq!(world.made(), ["run-p", "run-m-0", "run-m-1"]);
    assert_eq!(world.params("run-m-1"), json!({"x": "b"}));
    let mut world = World::of_pipeline(pipeline);
    world.reconcile().succeed("run-p", json!({"l": []}));
    assert_eq!(
        world.skipped(),
        [("m", "Matrix Parameters have an empty array")]
    );
    let mut world = World::of_run(json!({
        "params": [{"name": "text", "value": "x"}],
        "pipelineSpec": {"params": [{"name": "text"}], "tasks": [matrixed("m", json!("$(params.text)"))]}
    }));
    world.reconcile();
    world.assert_outcome(
        "False",
        "InvalidMatrixParameterTypes",
        "[User error] Failed to validate matrix \"parameters of type array only are allowed, but param \\\"x\\\" has type \
         \\\"string\\\" in pipelineTask \\\"m\\\"\" with error %!v(MISSING)",
    );
}

#[test]
fn lengths_of_matrices_are_filled_in_when_a_child_is_made() {
    // P-208
    let mut world = World::of_pipeline(json!({
        "tasks": [matrixed("m", json!(["1", "2", "3"])), {"name": "plain", "taskSpec": taking(&[])}],
        "finally": [{"name": "f", "taskSpec": taking(&["n", "r", "p", "u"]), "params": [
            {"name": "n", "value": "$(tasks.m.matrix.length)"}, {"name": "r", "value": "$(tasks.m.matrix.r.length)"},
            {"name": "p", "value": "$(tasks.plain.matrix.length)"}, {"name": "u", "value": "$(tasks.no.matrix.length)"}]}]
    }));
    world
        .reconcile()
        .succeed("run-m-0", json!({"r": "x"}))
        .succeed("run-m-1", json!({"r": "y"}));
    world
        .succeed("run-m-2", json!({}))
        .succeed("run-plain", json!({}));
    assert_eq!(
        world.params("run-f"),
        json!({"n": "3", "r": "2", "p": "0", "u": "$(tasks.no.matrix.length)"})
    );
}

#[test]
fn display_names_take_the_childs_params_and_names_of_includes_take_precedence() {
    // P-212
    let mut world = World::of_pipeline(json!({"tasks": [{
        "name": "m", "displayName": "on $(params.x)", "taskSpec": taking(&["x", "flag"]),
        "params": [],
        "matrix": {"params": [{"name": "x", "value": ["1", "2"]}], "include": [
            {"name": "special $(params.x)", "params": [{"name": "x", "value": "2"}, {"name": "flag", "value": "f"}]},
            {"params": [{"name": "flag", "value": "g"}]}]}
    }]}));
    world.reconcile();
    let names: Vec<&str> = world
        .run
        .status
        .child_references
        .iter()
        .map(|it| it.display_name.as_str())
        .collect();
    assert_eq!(names, ["on 1", "special 2"]);
}

#[test]
fn a_fan_out_of_which_part_is_gone_is_not_completed_again() {
    // P-121, P-264, P-399
    let mut world = World::of_pipeline(json!({"tasks": [matrixed("m", json!(["1", "2"]))]}));
    world.reconcile();
    world.task_runs.remove("run-m-1");
    world.reconcile();
    assert_eq!(world.made(), ["run-m-0", "run-m-1"]);
    world.succeed("run-m-0", json!({}));
    assert_eq!(world.outcome().1, "Succeeded");
}

#[test]
fn a_fan_out_that_was_interrupted_before_it_was_written_down_is_completed() {
    // Unlike P-121.
    let mut world = World::of_pipeline(json!({"tasks": [matrixed("m", json!(["1", "2", "3"]))]}));
    world
        .refuse
        .push(("\"run-m-1\"".into(), 500, "away".into()));
    world.reconcile();
    assert_eq!(world.made(), ["run-m-0"]);
    world.refuse.clear();
    world.succeed("run-m-0", json!({}));
    assert_eq!(world.made(), ["run-m-0", "run-m-1", "run-m-2"]);
    assert_eq!(world.params("run-m-2"), json!({"x": "3"}));
    assert_eq!(world.outcome().1, "Running");
    assert_eq!(world.run.status.child_references.len(), 3);
}

#[test]
fn a_matrix_beyond_all_measure_is_refused() {
    // P-200
    let params: Vec<Value> = (0..16)
        .map(|i| json!({"name": format!("p{i}"), "value": vec!["x"; 20]}))
        .collect();
    let names: Vec<String> = (0..16).map(|i| format!("p{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut world = World::of_pipeline(
        json!({"tasks": [{"name": "m", "taskSpec": taking(&names), "matrix": {"params": params}}]}),
    );
    world.reconcile();
    assert_eq!(world.outcome().1, "PipelineValidationFailed");
}

#[test]
fn custom_tasks_fan_out_too() {
    // P-224, P-225, P-226
    let mut world = World::of_run(json!({
        "taskRunTemplate": {"serviceAccountName": "robot", "podTemplate": {"schedulerName": "s"}},
        "taskRunSpecs": [{"pipelineTaskName": "c", "metadata": {"labels": {"not": "merged"}}}],
        "pipelineSpec": {"tasks": [{
            "name": "c", "retries": 1, "timeout": "5m", "params": [{"name": "p", "value": "plain"}],
            "matrix": {"params": [{"name": "x", "value": ["1", "2"]}]},
            "taskSpec": {"apiVersion": "example.dev/v1", "kind": "Custom", "metadata": {"labels": {"in": "spec"}},
                "spec": {"any": ["thing"]}}
        }]}
    }));
    world.reconcile();
    assert_eq!(world.made(), ["run-c-0", "run-c-1"]);
    let child = &world.custom_runs["run-c-1"];
    let spec = serde_json::to_value(&child.spec).unwrap();
    assert_eq!(
        spec,
        json!({
            "customSpec": {"apiVersion": "example.dev/v1", "kind": "Custom", "metadata": {"labels": {"in": "spec"}},
                "spec": {"any": ["thing"]}},
            "params": [{"name": "x", "value": "2"}, {"name": "p", "value": "plain"}],
            "retries": 1, "timeout": "5m0s", "serviceAccountName": "robot"
        })
    );
    let labels = child.metadata.labels.as_ref().unwrap();
    assert!(!labels.contains_key("not") && !labels.contains_key("in"));
    assert_eq!(labels["tekton.dev/pipelineTask"], "c");
}
