//! What starts when, and what is skipped.

use serde_json::{Value, json};

use crate::world::{World, giving};

fn step() -> Value {
    json!({"steps": [{"name": "s", "image": "i"}]})
}

fn task(name: &str, after: &[&str]) -> Value {
    json!({"name": name, "runAfter": after, "taskSpec": step()})
}

#[test]
fn the_first_reconcile_starts_the_run_and_every_task_without_parents() {
    // P-097, P-117
    let mut world = World::of_pipeline(
        json!({"tasks": [task("a", &[]), task("b", &[]), task("c", &["a", "b"])]}),
    );
    world.after(5).reconcile();
    assert_eq!(world.made(), ["run-a", "run-b"]);
    assert_eq!(world.run.status.start_time.as_ref().unwrap().0, world.now);
    world.assert_outcome(
        "Unknown",
        "Running",
        "Tasks Completed: 0 (Failed: 0, Cancelled 0), Incomplete: 3, Skipped: 0",
    );
    assert_eq!(world.event_reasons(), ["Started", "Running"]);
    assert_eq!(world.events[0].message, "");
    world.succeed("run-a", json!({}));
    assert_eq!(world.made(), ["run-a", "run-b"]);
    world.succeed("run-b", json!({}));
    assert_eq!(world.made(), ["run-a", "run-b", "run-c"]);
    world.succeed("run-c", json!({}));
    // P-282, P-284, P-280
    world.assert_outcome(
        "True",
        "Succeeded",
        "Tasks Completed: 3 (Failed: 0, Cancelled 0), Skipped: 0",
    );
    assert_eq!(
        world.run.status.completion_time.as_ref().unwrap().0,
        world.now
    );
    assert_eq!(world.event_reasons().last(), Some(&"Succeeded"));
}

#[test]
fn a_start_before_the_creation_is_moved_to_the_creation_and_never_after_a_child() {
    // P-097
    let mut world = World::of_pipeline(json!({"tasks": [task("a", &[])]}));
    world.after(-30).reconcile();
    assert_eq!(
        world.run.status.start_time.as_ref().unwrap().0,
        crate::world::epoch()
    );
    // P-106: only the children know when it began.
    world.after(90);
    world.run.status.start_time.as_mut().unwrap().0 = world.now;
    world.reconcile();
    let created = world.task_runs["run-a"]
        .metadata
        .creation_timestamp
        .as_ref()
        .unwrap()
        .0;
    assert_eq!(world.run.status.start_time.as_ref().unwrap().0, created);
}

#[test]
fn a_pending_run_waits_with_its_label_and_starts_when_released() {
    // P-103, P-266
    let mut world = World::of_run(json!({
        "status": "PipelineRunPending", "pipelineRef": {"name": "p"}
    }))
    .pipeline("p", json!({"tasks": [task("a", &[])]}));
    world.reconcile();
    assert!(world.run.status.start_time.is_none() && world.made.is_empty());
    assert_eq!(
        world.run.metadata.labels.as_ref().unwrap()["tekton.dev/pipeline"],
        "p"
    );
    world.assert_outcome(
        "Unknown",
        "PipelineRunPending",
        "PipelineRun \"run\" is pending",
    );
    world.run.spec.status.clear();
    world.reconcile();
    assert_eq!(world.made(), ["run-a"]);
}

#[test]
fn a_failed_task_stops_the_rest_but_lets_running_ones_end() {
    // P-119, P-283, P-284
    let mut world =
        World::of_pipeline(json!({"tasks": [task("a", &[]), task("b", &[]), task("c", &["b"])]}));
    world.reconcile().fail("run-a");
    // P-118: c counts as skipped although b has not ended, so nothing is written down before it does.
    world.assert_outcome(
        "Unknown",
        "Running",
        "Tasks Completed: 0 (Failed: 0, Cancelled 0), Incomplete: 3, Skipped: 0",
    );
    assert_eq!(world.event_reasons().last(), Some(&"InternalError"));
    assert_eq!(
        world.events.last().unwrap().message,
        "invalid list of done tasks; some tasks were indicated completed without ancestors being done: [c]"
    );
    world.succeed("run-b", json!({}));
    world.assert_outcome(
        "False",
        "Failed",
        "Tasks Completed: 2 (Failed: 1, Cancelled 0), Skipped: 1",
    );
    assert_eq!(world.skipped(), [("c", "PipelineRun was stopping")]);
}

#[test]
fn while_a_failed_run_waits_for_others_it_says_that_it_is_stopping() {
    // P-283: without finally.
    let mut world = World::of_pipeline(json!({"tasks": [task("a", &[]), task("b", &[])]}));
    world.reconcile().fail("run-a");
    world.assert_outcome(
        "Unknown",
        "PipelineRunStopping",
        "Tasks Completed: 1 (Failed: 1, Cancelled 0), Incomplete: 1, Skipped: 0",
    );
}

#[test]
fn an_ignored_failure_neither_stops_nor_fails_the_run() {
    // P-185, P-187, P-282
    let mut world = World::of_run(json!({
        "params": [{"name": "mode", "value": "continue"}],
        "pipelineSpec": {
            "params": [{"name": "mode", "type": "string"}],
            "tasks": [
                {"name": "a", "onError": "$(params.mode)", "taskSpec": step()},
                task("b", &["a"])
            ]
        }
    }));
    world.reconcile();
    let annotations = world.task_runs["run-a"]
        .metadata
        .annotations
        .clone()
        .unwrap();
    assert_eq!(
        annotations["pipeline.tekton.dev/pipeline-task-on-error"],
        "continue"
    );
    world.fail("run-a");
    assert_eq!(world.made(), ["run-a", "run-b"]);
    world.succeed("run-b", json!({}));
    world.assert_outcome(
        "True",
        "Succeeded",
        "Tasks Completed: 2 (Failed: 1 (Ignored: 1), Cancelled 0), Skipped: 0",
    );
}

#[test]
fn on_error_does_not_cover_cancellation_but_the_graph_goes_on() {
    // P-186, P-279
    let mut world = World::of_pipeline(json!({"tasks": [
        {"name": "a", "onError": "continue", "taskSpec": step()}, task("b", &["a"])
    ]}));
    world
        .reconcile()
        .end_badly("run-a", "TaskRunCancelled", json!({}));
    assert_eq!(world.made(), ["run-a", "run-b"]);
    world.assert_outcome(
        "Unknown",
        "PipelineRunStopping",
        "Tasks Completed: 1 (Failed: 0, Cancelled 1), Incomplete: 1, Skipped: 0",
    );
    world.succeed("run-b", json!({}));
    world.assert_outcome(
        "False",
        "Cancelled",
        "Tasks Completed: 2 (Failed: 0, Cancelled 1), Skipped: 0",
    );
}

#[test]
fn when_expressions_skip_a_task_but_not_what_only_waits_for_it() {
    // P-161, P-166, P-170
    let mut world = World::of_pipeline(json!({"tasks": [
        {"name": "a", "taskSpec": giving(&["r"])},
        {"name": "b", "taskSpec": step(), "when": [
            {"input": "$(tasks.a.results.r)", "operator": "in", "values": ["yes"]}]},
        task("c", &["b"]),
        {"name": "d", "taskSpec": step(), "when": [
            {"input": "$(tasks.a.results.r)", "operator": "notin", "values": ["yes"]}]}
    ]}));
    world.reconcile().succeed("run-a", json!({"r": "no"}));
    assert_eq!(world.made(), ["run-a", "run-c", "run-d"]);
    assert_eq!(
        world.skipped(),
        [("b", "When Expressions evaluated to false")]
    );
    assert_eq!(
        world.run.status.skipped_tasks[0].when_expressions[0].input,
        "no"
    );
    let d = world
        .run
        .status
        .child_references
        .iter()
        .find(|it| it.name == "run-d")
        .unwrap();
    assert_eq!(d.when_expressions[0].input, "no");
    world
        .succeed("run-c", json!({}))
        .succeed("run-d", json!({}));
    world.assert_outcome(
        "True",
        "Completed",
        "Tasks Completed: 3 (Failed: 0, Cancelled 0), Skipped: 1",
    );
}

#[test]
fn a_parent_skipped_for_another_reason_takes_its_dependents_along() {
    // P-170, P-173
    let mut world = World::of_run(json!({
        "params": [{"name": "none", "value": []}],
        "pipelineSpec": {
            "params": [{"name": "none", "type": "array"}],
            "tasks": [
                {"name": "a", "taskSpec": {"params": [{"name": "x"}], "steps": []},
                    "matrix": {"params": [{"name": "x", "value": "$(params.none[*])"}]}},
                task("b", &["a"]),
                task("c", &["b"])
            ]
        }
    }));
    world.reconcile();
    assert_eq!(
        world.skipped(),
        [
            ("a", "Matrix Parameters have an empty array"),
            ("b", "Parent Tasks were skipped"),
            ("c", "Parent Tasks were skipped")
        ]
    );
    world.assert_outcome(
        "True",
        "Completed",
        "Tasks Completed: 0 (Failed: 0, Cancelled 0), Skipped: 3",
    );
}

#[test]
fn the_reason_of_a_skip_changes_when_another_task_fails() {
    // P-168
    let mut world = World::of_pipeline(json!({"tasks": [
        task("a", &[]),
        {"name": "b", "taskSpec": step(), "when": [{"input": "x", "operator": "in", "values": ["y"]}]}
    ]}));
    world.reconcile();
    assert_eq!(
        world.skipped(),
        [("b", "When Expressions evaluated to false")]
    );
    world.fail("run-a");
    assert_eq!(world.skipped(), [("b", "PipelineRun was stopping")]);
}

#[test]
fn cel_is_evaluated_for_every_task_and_a_bad_one_fails_the_run_at_once() {
    // P-163, P-164
    let pipeline = |cel: &str| {
        json!({"tasks": [
            {"name": "a", "taskSpec": giving(&["r"])},
            {"name": "b", "taskSpec": step(), "when": [{"cel": cel}]}
        ]})
    };
    let mut world = World::of_pipeline(pipeline("'$(tasks.a.results.r)' == 'yes'"));
    world.reconcile().succeed("run-a", json!({"r": "yes"}));
    assert_eq!(world.made(), ["run-a", "run-b"]);
    let mut world = World::of_pipeline(pipeline("'a' + 'b'"));
    world.reconcile();
    world.assert_outcome(
        "False",
        "CELEvaluationFailed",
        "[User error] Error evaluating CEL run: The CEL expression 'a' + 'b' is not evaluated to a boolean",
    );
    assert!(world.made.is_empty());
    let mut world = World::of_pipeline(pipeline("$(tasks.a.results.r) == 'yes'"));
    world.reconcile();
    assert_eq!(world.outcome().1, "CELEvaluationFailed");
}

#[test]
fn a_child_deleted_while_its_run_goes_on_is_made_again_under_its_name() {
    // P-120, P-399, P-264
    let mut world = World::of_pipeline(json!({"tasks": [task("a", &[]), task("b", &["a"])]}));
    world.reconcile();
    world.task_runs.remove("run-a");
    world.reconcile();
    assert_eq!(world.made(), ["run-a", "run-a"]);
    world.succeed("run-a", json!({}));
    world.task_runs.remove("run-a");
    world.reconcile();
    // A dependent that has started keeps its parent from being made again only when it is done.
    assert_eq!(world.made(), ["run-a", "run-a", "run-b", "run-a"]);
    world.task_runs.remove("run-a");
    world.succeed("run-b", json!({}));
    assert_eq!(world.outcome().0, "Unknown");
    assert!(
        world
            .events
            .last()
            .unwrap()
            .message
            .starts_with("invalid list of done tasks")
    );
}

#[test]
fn a_finished_run_asks_for_nothing_and_has_no_effect() {
    // P-098
    let mut world = World::of_pipeline(json!({"tasks": [task("a", &[])]}));
    world.reconcile().succeed("run-a", json!({}));
    let (status, log, events) = (
        world.run.status.clone(),
        world.log.len(),
        world.events.len(),
    );
    world.task_runs.clear();
    world.after(100_000).reconcile();
    assert_eq!(
        (
            world.run.status.clone(),
            world.log.len(),
            world.events.len()
        ),
        (status, log, events)
    );
    assert_eq!(world.wake, None);
}

#[test]
fn children_lost_from_the_status_are_found_by_label_and_owner() {
    // P-271, P-299
    let mut world = World::of_pipeline(json!({"tasks": [task("b", &[]), task("a", &[])]}));
    world.reconcile();
    world.run.status.child_references.clear();
    let mut foreign = world.task_runs["run-a"].clone();
    foreign.metadata.name = Some("foreign".into());
    foreign.metadata.owner_references.as_mut().unwrap()[0].uid = "other".into();
    world.task_runs.insert("foreign".into(), foreign);
    world.reconcile();
    let names: Vec<&str> = world
        .run
        .status
        .child_references
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(names, ["run-b", "run-a"]);
    assert_eq!(world.made(), ["run-b", "run-a"]);
}

#[test]
fn an_object_that_has_a_childs_name_already_is_taken_for_the_child() {
    // P-265
    let mut world = World::of_pipeline(json!({"tasks": [task("a", &[])]}));
    let mut foreign = World::of_pipeline(json!({"tasks": [task("a", &[])]}));
    foreign.reconcile();
    let mut other = foreign.task_runs["run-a"].clone();
    other.metadata.owner_references = None;
    other.metadata.labels = None;
    world.task_runs.insert("run-a".into(), other);
    world.reconcile();
    assert!(world.made.is_empty());
    world.succeed("run-a", json!({}));
    assert_eq!(world.outcome().1, "Succeeded");
    assert_eq!(world.run.status.child_references[0].name, "run-a");
}
