//! What comes of verifying what resolvers bring.

use std::sync::Arc;

use serde_json::{Value, json};
use tektite_engine::decision::{
    Answer, FailureKind, Found, Query, Remote, RemoteKind, RemoteObject, Verification,
};
use tektite_engine::pipelinerun::reconcile;

use crate::world::{World, failed};

fn step() -> Value {
    json!({"steps": [{"name": "s", "image": "i"}]})
}

fn remote(object: RemoteObject, verification: Verification) -> Answer {
    Answer::Found(Found::Remote(Arc::new(Remote {
        object,
        source: None,
        verification,
    })))
}

fn pipeline(name: &str, task: Value) -> RemoteObject {
    let pipeline =
        json!({"metadata": {"name": name, "labels": {"from": name}}, "spec": {"tasks": [task]}});
    RemoteObject::Pipeline(serde_json::from_value(pipeline).expect("a Pipeline"))
}

fn task() -> RemoteObject {
    let task = json!({"metadata": {"name": "t"}, "spec": step()});
    RemoteObject::Task(serde_json::from_value(task).expect("a Task"))
}

/// A run of a pipeline from resolver `p` whose task comes from resolver `t`, each with what its verification gave.
fn run(of_pipeline: Answer, of_task: Option<Answer>) -> World {
    let mut world = World::of_run(json!({"pipelineRef": {"resolver": "p", "name": ""}}));
    world.answers.insert("p".into(), of_pipeline);
    if let Some(of_task) = of_task {
        world.answers.insert("t".into(), of_task);
    }
    world.reconcile();
    world
}

/// Status, reason and message of the condition `TrustedResourcesVerified`.
fn verified(world: &World) -> Option<(&str, &str, &str)> {
    let mut conditions = world.run.status.conditions.iter();
    let found = conditions.find(|it| it.type_ == "TrustedResourcesVerified")?;
    Some((&found.status, &found.reason, &found.message))
}

#[test]
fn verification_leaves_a_condition_and_the_last_object_has_the_last_word() {
    // P-368
    use Verification::{Passed, Skipped, Warned};
    let inline = json!({"name": "a", "taskSpec": step()});
    let referring = json!({"name": "a", "taskRef": {"resolver": "t"}});
    for (of_pipeline, of_task, expected) in [
        (Skipped, None, None),
        (Passed, None, Some(("True", "", ""))),
        (Warned("w".into()), None, Some(("False", "", "w"))),
        (Warned("w".into()), Some(Skipped), Some(("False", "", "w"))),
        (Warned("w".into()), Some(Passed), Some(("True", "", ""))),
        (Passed, Some(Warned("v".into())), Some(("False", "", "v"))),
    ] {
        let first = if of_task.is_some() {
            &referring
        } else {
            &inline
        };
        let world = run(
            remote(pipeline("p", first.clone()), of_pipeline),
            of_task.map(|it| remote(task(), it)),
        );
        assert_eq!(verified(&world), expected);
        assert_eq!(world.outcome().1, "Running");
        assert_eq!(world.made(), ["run-a"]);
    }
}

#[test]
fn what_fails_verification_ends_the_run() {
    // P-368
    let referring = json!({"name": "a", "taskRef": {"resolver": "t"}});
    let bad = || failed(FailureKind::Verification, "bad key");
    let message = |of: &str| {
        format!("pipelineRun ns/run referred resource {of} failed signature verification: bad key")
    };
    let mut world = run(bad(), None);
    assert_eq!(verified(&world), Some(("False", "", &*message(""))));
    world.assert_outcome("False", "ResourceVerificationFailed", &message(""));
    // Nothing that is not trusted is taken over.
    assert!(world.run.status.pipeline_spec.is_none());
    world = run(
        remote(pipeline("p", referring), Verification::Passed),
        Some(bad()),
    );
    assert_eq!(verified(&world), Some(("False", "", &*message("a"))));
    world.assert_outcome("False", "ResourceVerificationFailed", &message("a"));
    assert!(world.run.status.pipeline_spec.is_some());
    assert!(world.made.is_empty());
}

#[test]
fn a_pipeline_is_verified_once_and_a_task_until_a_task_run_has_it() {
    // P-369
    let referring = json!({"name": "a", "taskRef": {"resolver": "t"}});
    let mut world = run(
        remote(pipeline("p", referring), Verification::Passed),
        Some(remote(task(), Verification::Passed)),
    );
    let asked = |world: &World| -> Vec<RemoteKind> {
        let decision = reconcile(&world.run, &world.observed(), &world.config, world.now);
        let remote = decision.needs.iter().filter_map(|query| match query {
            Query::Remote(remote) => Some(remote.kind),
            _ => None,
        });
        remote.collect()
    };
    assert_eq!(asked(&world), [RemoteKind::Task]);
    let child = world.task_runs.get_mut("run-a").expect("is made");
    child.status.task_spec = Some(serde_json::from_value(step()).expect("a spec"));
    assert_eq!(asked(&world), []);
    // A child pipeline is asked for each time.
    let nested = json!({"name": "a", "pipelineRef": {"resolver": "t"}});
    let inner = pipeline("inner", json!({"name": "b", "taskSpec": step()}));
    let world = run(
        remote(pipeline("p", nested), Verification::Passed),
        Some(remote(inner, Verification::Passed)),
    );
    assert_eq!(world.made(), ["run-a"]);
    assert_eq!(asked(&world), [RemoteKind::Pipeline]);
}
