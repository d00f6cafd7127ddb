//! Reruns take over what need not run again.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use tektite_api::v1::PipelineRun;

use crate::world::{World, giving};

/// a → b → d, a → c; of which b fails.
fn pipeline() -> Value {
    json!({
        "params": [{"name": "p", "default": "1"}],
        "tasks": [
            {"name": "a", "taskSpec": giving(&["r"]), "params": []},
            {"name": "b", "taskSpec": {"params": [{"name": "x"}], "steps": [{"image": "i", "script": "b"}]},
             "params": [{"name": "x", "value": "$(tasks.a.results.r) $(context.pipelineRun.name)"}]},
            {"name": "c", "taskSpec": giving(&[]), "runAfter": ["a"]},
            {"name": "d", "taskSpec": giving(&[]), "runAfter": ["b"]}
        ],
        "finally": [{"name": "f", "taskSpec": giving(&[])}],
        "results": [{"name": "out", "value": "$(tasks.a.results.r)"}]
    })
}

/// The world after a run `run` of `spec` in which `b` failed.
fn failed(spec: &Value) -> World {
    let mut world = World::of_run(spec.clone());
    world.reconcile().succeed("run-a", json!({"r": "v"}));
    world
        .fail("run-b")
        .succeed("run-c", json!({}))
        .succeed("run-f", json!({}));
    assert_eq!(world.outcome().0, "False");
    world
}

/// The world in which a rerun of that run, with another spec perhaps, has been created.
fn rerun(mut world: World, spec: &Value, from: &str) -> World {
    let earlier = std::mem::take(&mut world.run);
    let mut run: PipelineRun = serde_json::from_value(json!({"spec": spec})).expect("a run");
    run.metadata.name = Some("again".to_owned());
    run.metadata.namespace = Some("ns".to_owned());
    run.metadata.uid = Some("uid2".to_owned());
    world.after(1000);
    run.metadata.creation_timestamp = Some(Time(world.now));
    let annotations = json!({"tektite.dev/rerun-of": "run", "tektite.dev/rerun-of-uid": "uid", "tektite.dev/rerun-from": from});
    run.metadata.annotations = serde_json::from_value(annotations).expect("annotations");
    world
        .earlier_runs
        .insert("run".to_owned(), Arc::new(earlier));
    world.run = run;
    world.made.clear();
    world
}

#[test]
fn a_rerun_takes_over_what_succeeded_and_runs_the_rest() {
    let spec = json!({"pipelineSpec": pipeline()});
    let mut world = rerun(failed(&spec), &spec, "");
    world.reconcile();
    assert_eq!(world.made(), ["again-b"]);
    assert_eq!(world.params("again-b"), json!({"x": "v again"}));
    assert_eq!(world.run.status.annotations["tektite.dev/inherited"], "a,c");
    // It began when it began, not when what it took over was made.
    assert_eq!(world.run.status.start_time, Some(Time(world.now)));
    world
        .succeed("again-b", json!({}))
        .succeed("again-d", json!({}));
    world.succeed("again-f", json!({}));
    assert_eq!(world.made(), ["again-b", "again-d", "again-f"]);
    world.assert_outcome(
        "True",
        "Succeeded",
        "Tasks Completed: 5 (Failed: 0, Cancelled 0), Skipped: 0",
    );
    let mut names: Vec<&str> = world
        .run
        .status
        .child_references
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["again-b", "again-d", "again-f", "run-a", "run-c"]);
    assert_eq!(
        json!(world.run.status.results),
        json!([{"name": "out", "value": "v"}])
    );
}

#[test]
fn what_is_named_runs_again_with_all_that_depends_on_it() {
    let spec = json!({"pipelineSpec": pipeline()});
    let mut world = rerun(failed(&spec), &spec, "c");
    world.reconcile();
    assert_eq!(world.made(), ["again-b", "again-c"]);
    let mut world = rerun(failed(&spec), &spec, " a ");
    world.reconcile();
    assert_eq!(world.made(), ["again-a"]);
    assert!(world.run.status.annotations.is_empty());
}

#[test]
fn what_was_taken_over_and_is_deleted_is_made_again() {
    // P-399
    let spec = json!({"pipelineSpec": pipeline()});
    let mut world = rerun(failed(&spec), &spec, "");
    world.reconcile();
    world.task_runs.remove("run-c");
    world.reconcile();
    assert_eq!(world.made(), ["again-b", "again-c"]);
    assert_eq!(world.run.status.annotations["tektite.dev/inherited"], "a");
}

#[test]
fn a_task_that_is_to_be_repaired_may_change() {
    let spec = json!({"pipelineSpec": pipeline()});
    let mut repaired = spec.clone();
    repaired["pipelineSpec"]["tasks"][1]["taskSpec"]["steps"][0]["script"] = json!("better");
    repaired["pipelineSpec"]["tasks"][0]["retries"] = json!(2);
    let mut world = rerun(failed(&spec), &repaired, "");
    world.reconcile();
    assert_eq!(world.made(), ["again-b"]);
}

#[test]
fn a_rerun_that_cannot_take_over_is_refused_with_the_reason() {
    let spec = json!({"pipelineSpec": pipeline()});
    let changed = |at: &str, value: Value| {
        let mut changed = spec.clone();
        *changed.pointer_mut(at).expect("a place") = value;
        changed
    };
    let claims = {
        let mut with = spec.clone();
        with["workspaces"] = json!([{"name": "w", "volumeClaimTemplate": {"spec": {}}}]);
        with["pipelineSpec"]["workspaces"] = json!([{"name": "w"}]);
        for task in [0, 1] {
            with["pipelineSpec"]["tasks"][task]["workspaces"] = json!([{"name": "w"}]);
        }
        with
    };
    for (before, now, from, expected) in [
        (
            &spec,
            changed(
                "/pipelineSpec/tasks/0/taskSpec/steps/0/script",
                json!("new"),
            ),
            "",
            r#"task "a" has changed since PipelineRun "run" ran it: name it with --from, or start a new run"#,
        ),
        (
            &spec,
            spec.clone(),
            "b,gone",
            r#"the pipeline has no task "gone" to start from"#,
        ),
        (
            &claims,
            claims.clone(),
            "",
            r#"workspace "w" would be a new, empty volume, without the files of the tasks that are taken over: bind it to the earlier run's claim"#,
        ),
    ] {
        let mut world = rerun(failed(before), &now, from);
        world.reconcile();
        let message = format!("PipelineRun \"again\" cannot go on from another: {expected}");
        world.assert_outcome("False", "RerunRefused", &message);
        assert!(world.made().is_empty());
    }
    let mut world = rerun(failed(&spec), &spec, "");
    world.earlier_runs.clear();
    world.reconcile();
    world.assert_outcome(
        "False",
        "RerunRefused",
        r#"PipelineRun "again" cannot go on from another: there is no PipelineRun "run""#,
    );
}

#[test]
fn a_rerun_of_what_succeeded_or_still_runs_is_refused() {
    let spec = json!({"pipelineSpec": {"tasks": [{"name": "a", "taskSpec": giving(&[])}]}});
    let mut running = World::of_run(spec.clone());
    running.reconcile();
    let mut succeeded = World::of_run(spec.clone());
    succeeded.reconcile().succeed("run-a", json!({}));
    for (world, expected) in [
        (
            running,
            r#"PipelineRun "run" has not ended: wait for it or cancel it"#,
        ),
        (
            succeeded,
            r#"PipelineRun "run" has nothing that failed: say with --from where to start"#,
        ),
    ] {
        let mut world = rerun(world, &spec, "");
        world.reconcile();
        let (_, reason, message) = world.outcome();
        assert_eq!(reason, "RerunRefused");
        assert!(message.ends_with(expected), "{message}");
    }
}
