//! The order in which one pass looks at a TaskRun: where several things hold, the first decides.

mod world;

use serde_json::{Value, json};
use tektite_engine::decision::Effect;
use world::*;

/// A run over its time limit, whose image cannot be pulled, and whose Task has gone.
fn in_every_trouble() -> World {
    let mut world = checked(json!({"timeout": "1m"}), json!({}));
    world.pass();
    let status = container("step-s", waiting("ImagePullBackOff", "no such image"));
    world.pod_status(json!({"phase": "Pending", "containerStatuses": [status]}));
    // Seen in one pass, it counts in the next.
    world.pass();
    let spec = serde_json::to_value(&world.run.spec).unwrap();
    let mut gone = World::new(run(spec));
    gone.run.status = world.run.status.clone();
    // Read again, the task would not be found.
    gone.run.status.task_spec = None;
    gone.seen.pods = world.seen.pods.clone();
    gone.now = at(3600);
    gone
}

fn reason(world: &mut World) -> String {
    let decision = world.decide();
    condition(&decision.status).1.to_owned()
}

#[test]
fn where_several_things_hold_the_first_in_upstreams_order_decides() {
    // T-147
    let mut world = in_every_trouble();
    world.run.spec.status = "TaskRunCancelled".into();
    assert_eq!(reason(&mut world), "TaskRunCancelled");

    // Done before cancelled.
    let ended = world.pass();
    assert_eq!(condition(&ended.status).1, "TaskRunCancelled");
    world.run.spec.status = String::new();
    let again = world.decide();
    assert_eq!(again.status, ended.status);

    let mut world = in_every_trouble();
    world.run.spec.status = "TaskRunPending".into();
    assert_eq!(reason(&mut world), "TaskRunPending");

    let mut world = in_every_trouble();
    assert_eq!(reason(&mut world), "TaskRunTimeout");

    let mut world = in_every_trouble();
    world.now = at(2);
    assert_eq!(reason(&mut world), "TaskRunImagePullFailed");

    let mut world = in_every_trouble();
    world.now = at(2);
    world.run.status.steps.clear();
    assert_eq!(reason(&mut world), "TaskRunResolutionFailed");
}

#[test]
fn a_pass_begins_with_release_and_start_and_ends_with_the_timeout() {
    // T-147: also where the run fails on the way.
    for steps in [step(), Value::Null] {
        let mut world = World::new(run(match steps {
            Value::Null => json!({"taskRef": {"name": "gone"}}),
            steps => json!({"taskSpec": {"steps": steps}}),
        }));
        let decision = world.decide();
        assert!(
            decision
                .annotations
                .contains_key("pipeline.tekton.dev/release")
        );
        assert!(decision.status.start_time.is_some());
        let created = decision
            .effects
            .iter()
            .any(|e| matches!(e, Effect::CreatePod(_)));
        // One that is over is not looked at again.
        assert_eq!(decision.wake.is_some(), created);
        assert_eq!(condition(&decision.status).0 == "False", !created);
    }
}
