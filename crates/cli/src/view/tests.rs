//! How runs look at every stage: objects in, text out.

use std::time::Duration;

use serde_json::json;

use super::{Board, Root, RootKind};
use crate::terminal::style::Style;
use crate::terminal::summary::{self, LastLines};
use crate::terminal::tree;

fn pipeline_run(status: serde_json::Value) -> tektite_api::v1::PipelineRun {
    serde_json::from_value(json!({
        "apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "metadata": {"name": "ship-x7"},
        "spec": {"pipelineRef": {"name": "ship"}}, "status": status,
    }))
    .expect("a PipelineRun")
}

fn spec() -> serde_json::Value {
    json!({
        "tasks": [
            {"name": "build", "taskRef": {"name": "build"}},
            {"name": "test", "taskRef": {"name": "test"}, "matrix": {"params": [{"name": "os", "value": ["a", "b"]}]}},
            {"name": "deploy", "taskRef": {"name": "deploy"}, "runAfter": ["test"]},
        ],
        "finally": [{"name": "report", "taskRef": {"name": "report"}}],
    })
}

fn children(names: &[(&str, &str)]) -> serde_json::Value {
    names
        .iter()
        .map(|(name, task)| json!({"apiVersion": "tekton.dev/v1", "kind": "TaskRun", "name": name, "pipelineTaskName": task}))
        .collect()
}

fn task_run(name: &str, task: &str, status: serde_json::Value) -> tektite_api::v1::TaskRun {
    serde_json::from_value(json!({
        "apiVersion": "tekton.dev/v1", "kind": "TaskRun",
        "metadata": {"name": name, "labels": {"tekton.dev/pipelineTask": task, "tekton.dev/pipelineRun": "ship-x7"}},
        "spec": {}, "status": status,
    }))
    .expect("a TaskRun")
}

fn condition(status: &str, reason: &str, message: &str) -> serde_json::Value {
    json!([{"type": "Succeeded", "status": status, "reason": reason, "message": message}])
}

/// A run in which `build` has ended, one of two `test`s has failed and the other runs.
fn midway() -> Board {
    let mut board = Board::new(vec![Root {
        kind: RootKind::PipelineRun,
        name: "ship-x7".to_owned(),
    }]);
    let at = Duration::from_millis;
    let start = "2026-01-01T00:00:00Z";
    board.see_pipeline_run(pipeline_run(json!({})), at(0));
    let running = json!({"startTime": start, "conditions": condition("Unknown", "Running", ""), "pipelineSpec": spec(),
        "childReferences": children(&[("ship-x7-build", "build"), ("ship-x7-test-0", "test"), ("ship-x7-test-1", "test")])});
    board.see_pipeline_run(pipeline_run(running), at(10));
    for (name, task) in [
        ("ship-x7-build", "build"),
        ("ship-x7-test-0", "test"),
        ("ship-x7-test-1", "test"),
    ] {
        board.see_task_run(task_run(name, task, json!({})), at(15));
        let step = json!([{"name": "go", "container": "step-go", "running": {"startedAt": start}}]);
        let status = json!({"startTime": start, "conditions": condition("Unknown", "Running", ""), "steps": step});
        board.see_task_run(task_run(name, task, status), at(20));
    }
    let ended = |code: i32| json!([{"name": "go", "container": "step-go", "terminated": {"exitCode": code, "reason": "Error"}}]);
    let done = json!({"startTime": start, "completionTime": start, "steps": ended(0),
        "conditions": condition("True", "Succeeded", "All Steps have completed executing")});
    board.see_task_run(task_run("ship-x7-build", "build", done), at(420));
    let failed = json!({"startTime": start, "completionTime": start, "steps": ended(127),
        "conditions": condition("False", "Failed", "\"step-go\" exited with code 127: Error")});
    board.see_task_run(task_run("ship-x7-test-0", "test", failed), at(900));
    board
}

/// The same run when all is over.
fn ended() -> Board {
    let mut board = midway();
    let start = "2026-01-01T00:00:00Z";
    let done = json!({"startTime": start, "completionTime": start, "steps": [],
        "conditions": condition("False", "TaskRunCancelled", "cancelled")});
    board.see_task_run(
        task_run("ship-x7-test-1", "test", done),
        Duration::from_millis(950),
    );
    let status = json!({"startTime": start, "completionTime": start, "pipelineSpec": spec(),
        "conditions": condition("False", "Failed", "Tasks Completed: 3 (Failed: 1, Cancelled 1), Skipped: 2"),
        "childReferences": children(&[("ship-x7-build", "build"), ("ship-x7-test-0", "test"), ("ship-x7-test-1", "test")]),
        "skippedTasks": [{"name": "deploy", "reason": "PipelineRun was stopping"}],
        "results": [{"name": "commit", "value": "abc"}, {"name": "list", "value": ["a", "b"]}]});
    board.see_pipeline_run(pipeline_run(status), Duration::from_millis(1000));
    board
}

fn logs() -> LastLines {
    let lines = vec!["running".to_owned(), "go: not found".to_owned()];
    LastLines::from([(("test-0".to_owned(), "go".to_owned()), lines)])
}

#[test]
fn the_tree_shows_every_task_with_its_state_and_time() {
    let views = midway().views(Duration::from_millis(1500));
    insta::assert_snapshot!(
        "tree_plain",
        tree::lines(&views, Style { fancy: false }, 80, 20, 0).join("\n")
    );
    insta::assert_snapshot!(
        "tree_fancy",
        tree::lines(&views, Style { fancy: true }, 80, 20, 3)
            .join("\n")
            .replace('\x1b', "␛")
    );
}

#[test]
fn a_small_terminal_shows_what_is_under_way() {
    let views = midway().views(Duration::from_millis(1500));
    insta::assert_snapshot!(
        "tree_small",
        tree::lines(&views, Style { fancy: false }, 40, 4, 0).join("\n")
    );
}

#[test]
fn the_summary_names_step_exit_code_log_and_advice_of_a_failure() {
    let views = ended().views(Duration::from_secs(9));
    insta::assert_snapshot!(
        "summary_plain",
        summary::render(&views, &logs(), Style { fancy: false })
    );
    insta::assert_snapshot!(
        "summary_fancy",
        summary::render(&views, &logs(), Style { fancy: true }).replace('\x1b', "␛")
    );
}

#[test]
fn a_single_task_run_is_called_after_its_task() {
    let mut board = Board::new(vec![Root {
        kind: RootKind::TaskRun,
        name: "hello-run".to_owned(),
    }]);
    let run = json!({"metadata": {"name": "hello-run"}, "spec": {"taskRef": {"name": "hello"}}, "status": {}});
    board.see_task_run(
        serde_json::from_value(run).expect("a TaskRun"),
        Duration::ZERO,
    );
    assert_eq!(board.label("hello-run"), "hello");
    assert!(!board.is_done());
}

#[test]
fn a_run_is_done_when_its_condition_is_decided() {
    assert!(!midway().is_done());
    assert!(ended().is_done());
}

#[test]
fn what_another_run_did_is_said_and_a_run_that_waits_is_waiting() {
    let mut board = Board::new(vec![Root {
        kind: RootKind::PipelineRun,
        name: "ship-x7".to_owned(),
    }]);
    let status = json!({
        "conditions": condition("True", "Succeeded", ""), "pipelineSpec": {"tasks": [{"name": "a"}, {"name": "b"}]},
        "annotations": {"tektite.dev/inherited": "a", "tektite.dev/cached": "b"},
        "childReferences": children(&[("other-a", "a"), ("other-b", "b")])
    });
    board.see_pipeline_run(pipeline_run(status), Duration::ZERO);
    // Their TaskRuns belong to other runs and are not waited for.
    assert!(board.is_settled());
    let views = board.views(Duration::ZERO);
    let printed = summary::render(&views, &LastLines::new(), Style { fancy: false });
    for (task, how) in [("a", "inherited"), ("b", "cached")] {
        let line = printed
            .lines()
            .find(|line| line.trim_start().starts_with(&format!("{task} ")));
        assert!(
            line.is_some_and(|line| line.contains("succeeded") && line.contains(how)),
            "{printed}"
        );
    }
    let waits = json!({"conditions": condition("Unknown", "Queued", "waits")});
    board.see_pipeline_run(pipeline_run(waits), Duration::ZERO);
    assert_eq!(board.views(Duration::ZERO)[0].state.word(), "waiting");
}
