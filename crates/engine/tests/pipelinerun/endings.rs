//! Timeouts, cancellation, graceful stops.

use jiff::SignedDuration;
use serde_json::{Value, json};
use tektite_engine::decision::Effect;

use crate::world::{World, epoch, giving};

const CANCELLED: &str = "TaskRun cancelled as the PipelineRun it belongs to has been cancelled.";
const TIMED_OUT: &str = "TaskRun cancelled as the PipelineRun it belongs to has timed out.";

fn step() -> Value {
    json!({"steps": [{"name": "s", "image": "i"}]})
}

fn two_and_finally(extra: Value) -> World {
    let mut spec = json!({"pipelineSpec": {
        "tasks": [{"name": "a", "taskSpec": step()}, {"name": "b", "runAfter": ["a"], "taskSpec": step()}],
        "finally": [{"name": "f", "taskSpec": step()}]
    }});
    spec.as_object_mut()
        .unwrap()
        .extend(extra.as_object().unwrap().clone());
    World::of_run(spec)
}

fn message_of(world: &World, task_run: &str) -> String {
    let spec = &world.task_runs[task_run].spec;
    assert_eq!(spec.status, "TaskRunCancelled");
    spec.status_message.clone()
}

#[test]
fn a_run_that_takes_longer_than_its_timeout_ends_at_once() {
    // P-188, P-190, P-191, P-197
    let mut world = two_and_finally(json!({"timeouts": {"pipeline": "1h"}}));
    world.reconcile();
    assert_eq!(
        world.wake,
        Some(epoch() + SignedDuration::from_secs(3600) + SignedDuration::from_nanos(1))
    );
    world.after(3600).reconcile();
    assert_eq!(world.outcome().0, "Unknown");
    world.after(1).reconcile();
    world.assert_outcome(
        "False",
        "PipelineRunTimeout",
        "PipelineRun \"run\" failed to finish within \"1h0m0s\"",
    );
    assert_eq!(message_of(&world, "run-a"), TIMED_OUT);
    assert_eq!(
        world.run.status.completion_time.as_ref().unwrap().0,
        world.now
    );
    // P-174: b's parent was still running.
    assert!(world.skipped().is_empty());
    assert_eq!(world.made(), ["run-a"]);
}

#[test]
fn a_timeout_of_zero_is_none_and_without_one_the_default_counts() {
    // P-188, P-105, P-370
    let mut world = two_and_finally(json!({"timeouts": {"pipeline": "0"}}));
    world.reconcile();
    assert_eq!(world.wake, None);
    world.after(10_000_000).reconcile();
    assert_eq!(world.outcome().0, "Unknown");
    let mut world = two_and_finally(json!({}));
    world.reconcile().after(3601).reconcile();
    assert_eq!(world.outcome().1, "PipelineRunTimeout");
}

#[test]
fn a_tasks_timeout_ends_tasks_and_then_finally_runs() {
    // P-193, P-194, P-174, P-283
    let mut world = two_and_finally(json!({"timeouts": {"pipeline": "1h", "tasks": "10m"}}));
    world.reconcile().after(601).reconcile();
    assert_eq!(message_of(&world, "run-a"), TIMED_OUT);
    world.assert_outcome(
        "Unknown",
        "PipelineRunTimeoutRunningFinally",
        "Tasks Completed: 0 (Failed: 0, Cancelled 0), Incomplete: 3, Skipped: 0",
    );
    world.obey();
    assert_eq!(world.made(), ["run-a", "run-f"]);
    assert_eq!(world.skipped(), [("b", "PipelineRun was stopping")]);
    // P-197
    world.assert_outcome(
        "Unknown",
        "PipelineRunTimeoutRunningFinally",
        "Tasks Completed: 1 (Failed: 1, Cancelled 0), Incomplete: 1, Skipped: 1",
    );
    world.succeed("run-f", json!({}));
    world.assert_outcome(
        "False",
        "PipelineRunTimeout",
        "PipelineRun \"run\" failed due to tasks failed to finish within \"10m0s\"",
    );
}

#[test]
fn without_finally_a_tasks_timeout_ends_the_run_before_its_children_have_ended() {
    // P-193, P-194
    let mut world = World::of_run(json!({
        "timeouts": {"tasks": "10m"}, "pipelineSpec": {"tasks": [{"name": "a", "taskSpec": step()}]}
    }));
    world.reconcile().after(601).reconcile();
    assert_eq!(message_of(&world, "run-a"), TIMED_OUT);
    assert_eq!(world.outcome().1, "PipelineRunTimeout");
}

#[test]
fn the_time_of_tasks_runs_on_while_finally_runs() {
    // P-195
    let mut world = two_and_finally(json!({"timeouts": {"pipeline": "1h", "tasks": "10m"}}));
    world
        .reconcile()
        .succeed("run-a", json!({}))
        .succeed("run-b", json!({}));
    world.after(601).succeed("run-f", json!({}));
    assert_eq!(world.outcome().1, "PipelineRunTimeout");
}

#[test]
fn finally_has_its_own_time_since_it_began() {
    // P-196, P-105
    let mut world = two_and_finally(json!({"timeouts": {"pipeline": "1h", "finally": "5m"}}));
    world
        .reconcile()
        .after(100)
        .succeed("run-a", json!({}))
        .succeed("run-b", json!({}));
    let begun = world.now;
    assert_eq!(
        world.wake,
        Some(begun + SignedDuration::from_secs(300) + SignedDuration::from_nanos(1))
    );
    world.after(301).reconcile();
    assert_eq!(message_of(&world, "run-f"), TIMED_OUT);
    assert_eq!(world.outcome().0, "Unknown");
    world.obey();
    world.assert_outcome(
        "False",
        "Failed",
        "Tasks Completed: 3 (Failed: 1, Cancelled 0), Skipped: 0",
    );
}

#[test]
fn tasks_not_started_in_time_are_skipped_and_make_the_run_fail() {
    // P-174: a retry of the controller finds the time over.
    let mut world = World::of_run(json!({
        "timeouts": {"pipeline": "1h", "tasks": "10m"},
        "pipelineSpec": {
            "tasks": [{"name": "a", "taskSpec": step()}, {"name": "b", "runAfter": ["a"], "taskSpec": step()},
                {"name": "c", "runAfter": ["b"], "taskSpec": step()}],
            "finally": [{"name": "f", "taskSpec": step(), "when": [{"input": "a", "operator": "in", "values": ["b"]}]}]
        }
    }));
    world.reconcile().after(601).succeed("run-a", json!({}));
    assert_eq!(
        world.skipped(),
        [
            ("b", "PipelineRun Tasks timeout has been reached"),
            ("c", "Parent Tasks were skipped"),
            ("f", "When Expressions evaluated to false")
        ]
    );
    // P-194: a skipped finally task never counts as ended, so the counts decide.
    world.assert_outcome(
        "False",
        "Failed",
        "Tasks Completed: 1 (Failed: 0, Cancelled 0), Skipped: 3",
    );
}

#[test]
fn a_run_overdue_by_twice_its_time_is_ended_whatever_its_state() {
    // P-100
    let mut world = two_and_finally(json!({"timeouts": {"pipeline": "1h"}}));
    world.reconcile();
    world.run.spec.pipeline_spec.as_mut().unwrap().tasks[0].run_after = vec!["b".into()];
    world.after(7200).reconcile();
    assert_eq!(world.outcome().1, "PipelineRunTimeout");
    assert_eq!(
        world.events.last().unwrap().message,
        "PipelineRun has timed out for a long time"
    );
}

#[test]
fn children_inherit_only_wide_limits_of_tasks_or_finally() {
    // P-198
    let timeout = |timeouts: Value, task: Value, specs: Value| {
        let mut spec = json!({"name": "a", "taskSpec": step()});
        spec.as_object_mut()
            .unwrap()
            .extend(task.as_object().unwrap().clone());
        let mut world = World::of_run(
            json!({"timeouts": timeouts, "taskRunSpecs": specs, "pipelineSpec": {"tasks": [spec]}}),
        );
        world.reconcile();
        world.task_runs["run-a"]
            .spec
            .timeout
            .map(|timeout| timeout.to_string())
    };
    let none = json!([]);
    let of_run = json!([{"pipelineTaskName": "a", "timeout": "1m"}]);
    for (timeouts, task, specs, expected) in [
        (json!({"pipeline": "5h"}), json!({}), &none, None),
        (
            json!({"pipeline": "5h", "tasks": "20m"}),
            json!({}),
            &none,
            None,
        ),
        (
            json!({"pipeline": "5h", "tasks": "2h"}),
            json!({}),
            &none,
            Some("2h0m0s"),
        ),
        (
            json!({"pipeline": "0", "tasks": "0"}),
            json!({}),
            &none,
            Some("0s"),
        ),
        (
            json!({"pipeline": "5h", "finally": "1h"}),
            json!({}),
            &none,
            Some("4h0m0s"),
        ),
        (
            json!({"pipeline": "5h", "tasks": "2h"}),
            json!({"timeout": "3m"}),
            &none,
            Some("3m0s"),
        ),
        (
            json!({"pipeline": "5h"}),
            json!({"timeout": "3m"}),
            &of_run,
            Some("1m0s"),
        ),
    ] {
        assert_eq!(
            timeout(timeouts.clone(), task, specs.clone()).as_deref(),
            expected,
            "{timeouts}"
        );
    }
}

#[test]
fn a_cancelled_run_ends_at_once_and_tells_its_children() {
    // P-272, P-273
    let mut world = two_and_finally(json!({}));
    world.reconcile();
    world.run.spec.status = "Cancelled".into();
    world.after(3).reconcile();
    assert_eq!(message_of(&world, "run-a"), CANCELLED);
    world.assert_outcome("False", "Cancelled", "PipelineRun \"run\" was cancelled");
    assert_eq!(
        world.run.status.completion_time.as_ref().unwrap().0,
        world.now
    );
    assert_eq!(world.made(), ["run-a"]);
    assert!(world.skipped().is_empty());
    let Some(Effect::PatchTaskRun { patch, .. }) = world
        .log
        .iter()
        .find(|effect| matches!(effect, Effect::PatchTaskRun { .. }))
    else {
        panic!("the child is patched")
    };
    let operations = json!([
        {"op": "add", "path": "/spec/status", "value": "TaskRunCancelled"},
        {"op": "add", "path": "/spec/statusMessage", "value": CANCELLED}
    ]);
    assert_eq!(
        format!("{patch:?}"),
        format!("Json({:?})", operations.as_array().unwrap())
    );
    // Nothing needs to have started.
    let mut world = two_and_finally(json!({"status": "Cancelled"}));
    world.reconcile();
    assert_eq!(world.outcome().1, "Cancelled");
    assert!(world.made.is_empty());
}

#[test]
fn children_that_were_made_but_not_written_down_are_told_as_well() {
    // P-275, P-100: the run is cancelled, or its time is over, between the creates and the write of the status.
    for (status, seconds, reason) in [
        ("Cancelled", 0, "Cancelled"),
        ("", 3601, "PipelineRunTimeout"),
        ("", 7200, "PipelineRunTimeout"),
    ] {
        let mut world = World::of_pipeline(json!({"tasks": [{"name": "a", "taskSpec": step()},
            {"name": "c", "taskRef": {"apiVersion": "example.dev/v1", "kind": "Wait"}}]}));
        world.reconcile();
        world.run.status.child_references.clear();
        world.run.spec.status = status.into();
        world.after(seconds).reconcile();
        assert_eq!(world.outcome().1, reason);
        assert!(world.task_runs["run-a"].is_cancelled(), "{reason}");
        assert_eq!(world.custom_runs["run-c"].spec.status, "RunCancelled");
        assert_eq!(world.run.status.child_references.len(), 2);
        assert_eq!(world.made(), ["run-a", "run-c"]);
    }
}

#[test]
fn a_cancel_that_the_api_refuses_is_tried_again_unless_the_child_has_ended() {
    // P-274, P-273, P-192
    let mut world = two_and_finally(json!({}));
    world.reconcile();
    world.run.spec.status = "Cancelled".into();
    world
        .refuse
        .push(("PatchTaskRun".into(), 500, "etcd is away".into()));
    world.reconcile();
    world.assert_outcome(
        "Unknown",
        "PipelineRunCouldntCancel",
        "PipelineRun \"run\" was cancelled but had errors trying to cancel TaskRuns and/or Runs: failed to patch TaskRun \
         `run-a` with cancellation: etcd is away",
    );
    assert!(world.wake.is_some());
    world.refuse[0] = (
        "PatchTaskRun".into(),
        400,
        "validation failed: no updates are allowed".into(),
    );
    world.reconcile();
    assert_eq!(world.outcome().1, "Cancelled");
}

#[test]
fn a_graceful_cancel_ends_tasks_and_runs_finally() {
    // P-276, P-278, P-283
    let mut world = two_and_finally(json!({}));
    world.reconcile();
    world.run.spec.status = "CancelledRunFinally".into();
    world.reconcile();
    assert_eq!(message_of(&world, "run-a"), CANCELLED);
    assert_eq!(world.outcome().1, "CancelledRunningFinally");
    assert_eq!(
        world.skipped(),
        [("b", "PipelineRun was gracefully cancelled")]
    );
    world.obey();
    assert_eq!(world.made(), ["run-a", "run-f"]);
    assert_eq!(world.skipped(), [("b", "PipelineRun was stopping")]);
    let patches = world
        .log
        .iter()
        .filter(|effect| matches!(effect, Effect::PatchTaskRun { .. }))
        .count();
    world.reconcile().succeed("run-f", json!({}));
    assert_eq!(
        world
            .log
            .iter()
            .filter(|effect| matches!(effect, Effect::PatchTaskRun { .. }))
            .count(),
        patches
    );
    world.assert_outcome("False", "Cancelled", "PipelineRun \"run\" was cancelled");
}

#[test]
fn a_graceful_stop_lets_tasks_end_and_runs_finally() {
    // P-277, P-278, P-184
    let mut world = two_and_finally(json!({}));
    world.reconcile();
    world.run.spec.status = "StoppedRunFinally".into();
    world.reconcile();
    assert!(!world.task_runs["run-a"].is_cancelled());
    world.succeed("run-a", json!({}));
    assert_eq!(world.outcome().1, "StoppedRunningFinally");
    assert_eq!(
        world.skipped(),
        [("b", "PipelineRun was gracefully stopped")]
    );
    world.succeed("run-f", json!({}));
    world.assert_outcome("False", "Cancelled", "PipelineRun \"run\" was cancelled");
    // A failure weighs more.
    let mut world = two_and_finally(json!({"status": "StoppedRunFinally"}));
    world.run.spec.status.clear();
    world.reconcile();
    world.run.spec.status = "StoppedRunFinally".into();
    world.fail("run-a").succeed("run-f", json!({}));
    world.assert_outcome(
        "False",
        "Failed",
        "Tasks Completed: 2 (Failed: 1, Cancelled 0), Skipped: 1",
    );
}

#[test]
fn a_child_cancelled_by_somebody_counts_as_cancelled() {
    // P-279, P-285
    let mut world = two_and_finally(json!({}));
    world
        .reconcile()
        .end_badly("run-a", "TaskRunCancelled", json!({}));
    assert_eq!(world.outcome().1, "PipelineRunStopping");
    assert_eq!(world.made(), ["run-a", "run-f"]);
    world.succeed("run-f", json!({}));
    world.assert_outcome(
        "False",
        "Cancelled",
        "Tasks Completed: 2 (Failed: 0, Cancelled 1), Skipped: 1",
    );
}

#[test]
fn custom_runs_are_told_to_end_in_their_own_words() {
    // P-228, P-191
    for (status, message) in [
        (
            "Cancelled",
            "CustomRun cancelled as the PipelineRun it belongs to has been cancelled.",
        ),
        (
            "",
            "CustomRun cancelled as the PipelineRun it belongs to has timed out.",
        ),
    ] {
        let mut world = World::of_pipeline(json!({"tasks": [
            {"name": "a", "taskRef": {"apiVersion": "example.dev/v1", "kind": "Custom"}}]}));
        world.reconcile();
        world.run.spec.status = status.into();
        world
            .after(if status.is_empty() { 3601 } else { 0 })
            .reconcile();
        let spec = &world.custom_runs["run-a"].spec;
        assert_eq!(
            (spec.status.as_str(), spec.status_message.as_str()),
            ("RunCancelled", message)
        );
    }
}

#[test]
fn the_timeout_of_a_custom_run_is_for_its_own_controller_to_keep() {
    // P-230
    let mut world = World::of_pipeline(json!({"tasks": [
        {"name": "a", "timeout": "1m", "taskRef": {"apiVersion": "example.dev/v1", "kind": "Custom"}}]}));
    world.reconcile().after(600).reconcile();
    let spec = &world.custom_runs["run-a"].spec;
    assert_eq!(
        spec.timeout.map(|it| it.to_string()).as_deref(),
        Some("1m0s")
    );
    assert_eq!(spec.status, "");
    assert_eq!(world.outcome().1, "Running");
}

#[test]
fn child_pipelines_cannot_be_told_so_the_parent_keeps_trying() {
    // P-220, P-221
    let mut world = World::of_pipeline(json!({"tasks": [
        {"name": "a", "taskSpec": step()},
        {"name": "p", "pipelineSpec": {"tasks": [{"name": "x", "taskSpec": step()}]}}
    ]}));
    world.reconcile();
    world.run.spec.status = "Cancelled".into();
    world.reconcile();
    world.assert_outcome(
        "Unknown",
        "PipelineRunCouldntCancel",
        "PipelineRun \"run\" was cancelled but had errors trying to cancel TaskRuns and/or Runs: found child objects of \
         unknown kinds: map[run-p:PipelineRun]",
    );
    assert!(world.task_runs["run-a"].is_cancelled());
    // A child pipeline alone does not count as started: it is listed as skipped while it runs.
    world.run.spec.status.clear();
    world.fail("run-a");
    assert_eq!(world.skipped(), [("p", "PipelineRun was stopping")]);
    assert_eq!(world.outcome().1, "Failed");
}

#[test]
fn a_hard_cancel_gives_no_results() {
    // P-154
    let mut world = World::of_pipeline(json!({
        "tasks": [{"name": "a", "taskSpec": giving(&["r"])}, {"name": "b", "taskSpec": step()}],
        "results": [{"name": "r", "value": "$(tasks.a.results.r)"}]
    }));
    world.reconcile().succeed("run-a", json!({"r": "R"}));
    world.run.spec.status = "Cancelled".into();
    world.reconcile();
    assert!(world.run.is_done() && world.run.status.results.is_empty());
}
