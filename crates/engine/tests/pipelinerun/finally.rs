//! Finally tasks and what they see.

use serde_json::{Value, json};

use crate::world::{World, giving};

fn step() -> Value {
    json!({"steps": [{"name": "s", "image": "i"}]})
}

fn seeing(values: &[(&str, &str)]) -> Value {
    let params: Vec<Value> = values
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    let declared: Vec<Value> = values
        .iter()
        .map(|(name, _)| json!({"name": name}))
        .collect();
    json!({"name": "f", "params": params, "taskSpec": {"params": declared, "steps": []}})
}

#[test]
fn finally_starts_with_the_states_of_all_tasks_once_they_are_done() {
    // P-175, P-176, P-177, P-178, P-179, P-181
    let mut world = World::of_pipeline(json!({
        "tasks": [
            {"name": "good", "taskSpec": step()},
            {"name": "bad", "onError": "continue", "taskSpec": step()},
            {"name": "not", "taskSpec": step(), "when": [{"input": "a", "operator": "in", "values": ["b"]}]}
        ],
        "finally": [seeing(&[
            ("good", "$(tasks.good.status) $(tasks.good.reason)"), ("bad", "$(tasks.bad.status) $(tasks.bad.reason)"),
            ("not", "$(tasks.not.status)$(tasks.not.reason)"), ("all", "$(tasks.status)")])]
    }));
    world.reconcile().succeed("run-good", json!({}));
    assert!(world.run.status.finally_start_time.is_none());
    world.after(7).fail("run-bad");
    assert_eq!(
        world.params("run-f"),
        json!({"good": "Succeeded Succeeded", "bad": "Failed Failed", "not": "None", "all": "Failed"})
    );
    assert_eq!(
        world.run.status.finally_start_time.as_ref().unwrap().0,
        world.now
    );
    assert_eq!(
        world.task_runs["run-f"].metadata.labels.as_ref().unwrap()["tekton.dev/memberOf"],
        "finally"
    );
    world.assert_outcome(
        "Unknown",
        "Running",
        "Tasks Completed: 2 (Failed: 0, Cancelled 0), Incomplete: 1, Skipped: 1",
    );
    world.succeed("run-f", json!({}));
    // P-284
    world.assert_outcome(
        "True",
        "Completed",
        "Tasks Completed: 3 (Failed: 1 (Ignored: 1), Cancelled 0), Skipped: 1",
    );
}

#[test]
fn finally_runs_after_a_failure_and_its_own_failure_fails_the_run() {
    // P-175, P-182, P-283
    let pipeline = json!({"tasks": [{"name": "a", "taskSpec": step()}], "finally": [{"name": "f", "taskSpec": step()}]});
    let mut world = World::of_pipeline(pipeline.clone());
    world.reconcile().fail("run-a");
    assert_eq!(world.made(), ["run-a", "run-f"]);
    assert_eq!(world.outcome().1, "Running");
    world.succeed("run-f", json!({}));
    world.assert_outcome(
        "False",
        "Failed",
        "Tasks Completed: 2 (Failed: 1, Cancelled 0), Skipped: 0",
    );
    let mut world = World::of_pipeline(pipeline);
    world.reconcile().succeed("run-a", json!({})).fail("run-f");
    world.assert_outcome(
        "False",
        "Failed",
        "Tasks Completed: 2 (Failed: 1, Cancelled 0), Skipped: 0",
    );
}

#[test]
fn a_finally_task_is_skipped_for_missing_results_before_its_when_is_looked_at() {
    // P-169, P-180, P-181
    let mut world = World::of_pipeline(json!({
        "tasks": [{"name": "a", "taskSpec": giving(&["r"])}],
        "finally": [{"name": "f", "taskSpec": {"params": [{"name": "x"}], "steps": []},
            "params": [{"name": "x", "value": "$(tasks.a.results.r)"}],
            "when": [{"input": "$(tasks.a.status)", "operator": "in", "values": ["None"]}]}]
    }));
    world.reconcile().succeed("run-a", json!({}));
    assert_eq!(world.skipped(), [("f", "Results were missing")]);
    assert!(
        world.run.status.skipped_tasks[0]
            .when_expressions
            .is_empty()
    );
    assert!(world.run.status.finally_start_time.is_none());
    world.assert_outcome(
        "True",
        "Completed",
        "Tasks Completed: 1 (Failed: 0, Cancelled 0), Skipped: 1",
    );
}

#[test]
fn a_finally_task_skipped_by_when_shows_the_states_it_saw_and_starts_the_finally_clock() {
    // P-166, P-181
    let mut world = World::of_pipeline(json!({
        "tasks": [{"name": "a", "taskSpec": step()}],
        "finally": [{"name": "f", "taskSpec": step(),
            "when": [{"input": "$(tasks.a.status)", "operator": "in", "values": ["Failed"]}]}]
    }));
    world.reconcile().succeed("run-a", json!({}));
    assert_eq!(
        world.skipped(),
        [("f", "When Expressions evaluated to false")]
    );
    assert_eq!(
        world.run.status.skipped_tasks[0].when_expressions[0].input,
        "Succeeded"
    );
    assert!(world.run.status.finally_start_time.is_some());
    assert_eq!(world.outcome().1, "Completed");
}

#[test]
fn status_variables_in_a_started_finally_task_end_up_literal_in_its_reference() {
    // P-166, P-298
    let mut world = World::of_pipeline(json!({
        "tasks": [{"name": "a", "taskSpec": step()}],
        "finally": [{"name": "f", "taskSpec": step(),
            "when": [{"input": "$(tasks.a.status)", "operator": "in", "values": ["Succeeded"]}]}]
    }));
    world.reconcile().succeed("run-a", json!({}));
    assert_eq!(
        world.run.status.child_references[1].when_expressions[0].input,
        "Succeeded"
    );
    world.succeed("run-f", json!({}));
    assert_eq!(
        world.run.status.child_references[1].when_expressions[0].input,
        "$(tasks.a.status)"
    );
}

#[test]
fn results_of_tasks_reach_finally_tasks_and_those_of_finally_tasks_the_pipeline() {
    // P-116, P-155
    let mut world = World::of_pipeline(json!({
        "tasks": [{"name": "a", "taskSpec": giving(&["r"])}],
        "finally": [
            {"name": "f", "taskSpec": {"params": [{"name": "x"}], "results": [{"name": "out"}], "steps": []},
                "params": [{"name": "x", "value": "$(tasks.a.results.r)"}]},
            {"name": "g", "taskSpec": step()}
        ],
        "results": [{"name": "last", "value": "$(finally.f.results.out)"}]
    }));
    world.reconcile().succeed("run-a", json!({"r": "R"}));
    assert_eq!(world.made(), ["run-a", "run-f", "run-g"]);
    assert_eq!(world.params("run-f"), json!({"x": "R"}));
    world
        .succeed("run-f", json!({"out": "done"}))
        .succeed("run-g", json!({}));
    let results = serde_json::to_value(&world.run.status.results).unwrap();
    assert_eq!(results, json!([{"name": "last", "value": "done"}]));
}
