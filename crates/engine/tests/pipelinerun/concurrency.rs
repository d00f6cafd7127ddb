//! How many runs of a key run at once, and who goes first.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use tektite_api::v1::PipelineRun;
use tektite_engine::decision::Effect;
use tektite_engine::pipelinerun::concurrency::{Place, Policy, Terms, place, terms};

use crate::world::{World, epoch, giving};

/// A run made `age` seconds after the first, that runs (`>`), waits (`?`), has ended (`.`) or is held back (`-`).
fn run(name: &str, age: i64, state: char, priority: i64) -> PipelineRun {
    let status = match state {
        '>' => json!({"startTime": "2026-01-01T00:00:00Z"}),
        '.' => {
            json!({"startTime": "2026-01-01T00:00:00Z", "conditions": [{"type": "Succeeded", "status": "True"}]})
        }
        _ => json!({}),
    };
    let held_back = if state == '-' {
        "PipelineRunPending"
    } else {
        ""
    };
    let mut run: PipelineRun = serde_json::from_value(json!({
        "metadata": {"name": name, "uid": name, "namespace": "ns", "labels": {"team": "a"}, "annotations": {
            "tektite.dev/concurrency-key": "k", "tektite.dev/concurrency-priority": priority.to_string()}},
        "spec": {"status": held_back, "params": [{"name": "env", "value": "prod"}], "pipelineRef": {"name": "ship"}},
        "status": status
    }))
    .expect("a run");
    let made = epoch() + jiff::SignedDuration::from_secs(age);
    run.metadata.creation_timestamp = Some(Time(made));
    run
}

fn own(limit: usize, policy: Policy, priority: i64) -> Terms {
    Terms {
        key: "k".to_owned(),
        limit,
        policy,
        priority,
    }
}

#[test]
fn a_place_is_free_or_taken_by_policy_and_order() {
    let names = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    use Policy::{CancelNew, CancelPrevious, Queue};
    // Me: made at 5, priority 0, waiting.
    let cases = [
        (Queue, 1, vec![], Place::Free),
        (Queue, 1, vec![("a", 0, '>', 0)], Place::Waits),
        (Queue, 2, vec![("a", 0, '>', 0)], Place::Free),
        (
            Queue,
            1,
            vec![("a", 0, '.', 0), ("b", 1, '-', 0)],
            Place::Free,
        ),
        // Whoever waits longer goes first, unless less is due to it.
        (Queue, 1, vec![("a", 0, '?', 0)], Place::Waits),
        (Queue, 1, vec![("z", 9, '?', 0)], Place::Free),
        (Queue, 1, vec![("a", 0, '?', -1)], Place::Free),
        (Queue, 1, vec![("z", 9, '?', 1)], Place::Waits),
        (
            Queue,
            3,
            vec![("a", 0, '>', 0), ("b", 1, '?', 0), ("z", 9, '?', 0)],
            Place::Free,
        ),
        // Of one second the name decides.
        (Queue, 1, vec![("a", 5, '?', 0)], Place::Waits),
        (Queue, 1, vec![("z", 5, '?', 0)], Place::Free),
        (
            CancelNew,
            1,
            vec![("a", 0, '>', 0)],
            Place::Yields(names(&["a"])),
        ),
        (
            CancelNew,
            1,
            vec![("a", 0, '?', 0)],
            Place::Yields(names(&["a"])),
        ),
        (CancelNew, 1, vec![("z", 9, '?', 0)], Place::Free),
        (CancelNew, 2, vec![("a", 0, '>', 0)], Place::Free),
        (
            CancelPrevious,
            1,
            vec![("a", 0, '>', 0), ("b", 1, '?', 0)],
            Place::After(names(&["b", "a"])),
        ),
        (
            CancelPrevious,
            2,
            vec![("a", 0, '>', 0), ("b", 1, '>', 0)],
            Place::After(names(&["a"])),
        ),
        (CancelPrevious, 2, vec![("a", 0, '>', 0)], Place::Free),
        (
            CancelPrevious,
            1,
            vec![("z", 9, '?', 0)],
            Place::Yields(names(&["z"])),
        ),
        (CancelPrevious, 1, vec![], Place::Free),
    ];
    for (policy, limit, others, expected) in cases {
        let me = run("me", 5, '?', 0);
        let rivals: Vec<PipelineRun> = others
            .iter()
            .map(|&(name, age, state, priority)| run(name, age, state, priority))
            .collect();
        let found = place(&me, &own(limit, policy, 0), rivals.iter().chain([&me]));
        assert_eq!(found, expected, "{policy:?} {limit} {others:?}");
    }
}

#[test]
fn two_that_wait_never_take_the_same_place() {
    let (a, b) = (run("a", 0, '?', 0), run("b", 0, '?', 3));
    for limit in [1, 2] {
        let free = [(&a, 0), (&b, 3)].map(|(me, priority)| {
            place(me, &own(limit, Policy::Queue, priority), [&a, &b]) == Place::Free
        });
        assert_eq!(free.iter().filter(|it| **it).count(), limit);
    }
}

#[test]
fn a_key_is_filled_in_from_the_run() {
    let with = |annotations: Value| {
        let mut run = run("me", 0, '?', 0);
        run.metadata.annotations = serde_json::from_value(annotations).expect("annotations");
        terms(&run)
    };
    let key = "tektite.dev/concurrency-key";
    for (text, expected) in [
        ("$(params.env)", Ok("prod")),
        ("$(context.pipeline.name)/$(labels.team)", Ok("ship/a")),
        (
            "$(context.pipelineRun.namespace)-$(labels['team'])",
            Ok("ns-a"),
        ),
        (
            "$(params.gone)!",
            Err(
                "annotation tektite.dev/concurrency-key: the run gives no value for $(params.gone)",
            ),
        ),
    ] {
        let found = with(json!({ key: text })).expect("a key");
        assert_eq!(
            found.map(|it| it.key),
            expected.map(str::to_owned).map_err(str::to_owned),
            "{text}"
        );
    }
    assert_eq!(with(json!({})), None);
    for (name, value, expected) in [
        (
            "limit",
            "0",
            "annotation tektite.dev/concurrency-limit is \"0\", not a whole number from 1 on",
        ),
        (
            "policy",
            "drop",
            "annotation tektite.dev/concurrency-policy is \"drop\", not queue, cancel-previous or cancel-new",
        ),
    ] {
        let found = with(json!({key: "k", format!("tektite.dev/concurrency-{name}"): value}));
        assert_eq!(found, Some(Err(expected.to_owned())));
    }
    let found = with(
        json!({key: "k", "tektite.dev/concurrency-limit": "3", "tektite.dev/concurrency-policy": "cancel-new"}),
    );
    assert_eq!(found, Some(Ok(own(3, Policy::CancelNew, 0))));
}

fn world(annotations: Value) -> World {
    let mut world = World::of_pipeline(json!({"tasks": [{"name": "a", "taskSpec": giving(&[])}]}));
    world.run.metadata.annotations = serde_json::from_value(annotations).expect("annotations");
    world
}

#[test]
fn a_run_waits_without_having_begun_and_begins_when_its_place_is_free() {
    let mut world = world(json!({"tektite.dev/concurrency-key": "k"}));
    let other = run("other", -5, '>', 0);
    world.rivals = vec![Arc::new(other)];
    world.reconcile().reconcile();
    assert_eq!(world.run.status.start_time, None);
    assert!(world.wake.is_some());
    world.assert_outcome(
        "Unknown",
        "Queued",
        r#"PipelineRun "run" waits for its turn: no more than 1 may run with the concurrency key "k""#,
    );
    world.rivals.clear();
    world.after(100).reconcile();
    assert_eq!(world.made(), ["run-a"]);
    assert_eq!(world.run.status.start_time, Some(Time(world.now)));
    assert_eq!(world.event_reasons(), ["Queued", "Started", "Running"]);
}

#[test]
fn a_run_that_waits_can_be_cancelled() {
    let mut world = world(json!({"tektite.dev/concurrency-key": "k"}));
    world.rivals = vec![Arc::new(run("other", -5, '>', 0))];
    world.reconcile();
    world.run.spec.status = "Cancelled".into();
    world.reconcile();
    assert_eq!(world.outcome().1, "Cancelled");
    assert!(world.made().is_empty());
}

#[test]
fn a_new_run_cancels_the_previous_and_waits_for_its_end() {
    let mut world = world(
        json!({"tektite.dev/concurrency-key": "k", "tektite.dev/concurrency-policy": "cancel-previous"}),
    );
    let mut other = run("other", -5, '>', 0);
    world.rivals = vec![Arc::new(other.clone())];
    world.reconcile();
    assert!(
        matches!(&world.log[..], [Effect::PatchPipelineRun { name, .. }] if name == "other"),
        "{:?}",
        world.log
    );
    assert_eq!(world.outcome().1, "Queued");
    // It is told once.
    other.spec.status = "Cancelled".into();
    world.rivals = vec![Arc::new(other)];
    world.reconcile();
    assert_eq!(world.log.len(), 1);
    world.rivals.clear();
    world.reconcile();
    assert_eq!(world.made(), ["run-a"]);
}

#[test]
fn a_new_run_yields_to_one_that_runs() {
    let mut world = world(
        json!({"tektite.dev/concurrency-key": "k", "tektite.dev/concurrency-policy": "cancel-new"}),
    );
    world.rivals = vec![Arc::new(run("other", -5, '>', 0))];
    world.reconcile();
    world.assert_outcome(
        "False",
        "Cancelled",
        r#"PipelineRun "run" was cancelled: no more than 1 may run with the concurrency key "k", and there is other"#,
    );
    assert!(world.made().is_empty());
}

#[test]
fn no_more_tasks_run_at_once_than_a_run_allows() {
    let tasks: Vec<Value> = (0..4)
        .map(|at| json!({"name": format!("t{at}"), "taskSpec": giving(&[])}))
        .collect();
    let mut world = World::of_pipeline(json!({"tasks": tasks}));
    world.run.metadata.annotations =
        serde_json::from_value(json!({"tektite.dev/max-parallel-tasks": "2"}))
            .expect("annotations");
    world.reconcile();
    assert_eq!(world.made(), ["run-t0", "run-t1"]);
    world.reconcile();
    assert_eq!(world.made(), ["run-t0", "run-t1"]);
    world.succeed("run-t1", json!({}));
    assert_eq!(world.made(), ["run-t0", "run-t1", "run-t2"]);
    world
        .succeed("run-t0", json!({}))
        .succeed("run-t2", json!({}))
        .succeed("run-t3", json!({}));
    assert_eq!(world.outcome().0, "True");
    let mut world = World::of_pipeline(json!({"tasks": [{"name": "a", "taskSpec": giving(&[])}]}));
    world.run.metadata.annotations =
        serde_json::from_value(json!({"tektite.dev/max-parallel-tasks": "many"}))
            .expect("annotations");
    world.reconcile();
    world.assert_outcome(
        "False",
        "InvalidConcurrency",
        r#"PipelineRun "run" cannot start tasks: annotation tektite.dev/max-parallel-tasks is "many", not a whole number from 1 on"#,
    );
}
