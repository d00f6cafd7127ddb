//! What holds for every TaskRun, whatever its pod goes through.

mod world;

use proptest::prelude::*;
use serde_json::{Value, json};
use tektite_engine::decision::Effect;
use world::*;

fn state() -> impl Strategy<Value = Value> {
    let reasons = [
        "ImagePullBackOff",
        "ErrImagePull",
        "CreateContainerConfigError",
        "CreateContainerError",
        "PodInitializing",
    ];
    let messages = [
        "",
        "oops",
        r#"[{"key":"r","value":"v","type":1}]"#,
        r#"[{"key":"Reason","value":"Skipped","type":3}]"#,
        r#"[{"key":"ExitCode","value":"x","type":3},{"key":"StartedAt","value":"never","type":3}]"#,
        r#"[{"key":"r","value":"[\"a\"]","type":1},{"key":"ExitCode","value":"3","type":3}]"#,
        "tknz:AAAA",
    ];
    prop_oneof![
        Just(running()),
        Just(json!({})),
        prop::sample::select(reasons.to_vec()).prop_map(|r| waiting(r, "w")),
        (0..3_i32, prop::sample::select(vec!["Completed", "Error", "OOMKilled"]), prop::sample::select(messages.to_vec())).prop_map(
            |(code, reason, message)| json!({"terminated": {"exitCode": code, "reason": reason, "message": message}})
        ),
    ]
}

fn pod_status() -> impl Strategy<Value = Value> {
    let phases = prop::sample::select(vec![
        "",
        "Pending",
        "Running",
        "Succeeded",
        "Failed",
        "Unknown",
    ]);
    (phases, state(), state(), state(), any::<bool>()).prop_map(|(phase, first, second, sidecar, ready)| {
        let mut sidecar = container("sidecar-c", sidecar);
        sidecar["ready"] = ready.into();
        json!({"phase": phase, "containerStatuses": [sidecar, container("step-b", second), container("step-a", first)]})
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Level-triggered: a decision that has come true asks for nothing more; and the end is the end.
    #[test]
    fn decisions_settle_and_ends_are_final(
        statuses in prop::collection::vec((pod_status(), 0..2_000_i64), 1..6),
        retries in 0..3_i64,
        cancel in prop::option::of(0..6_usize),
    ) {
        let step = |name: &str| json!({"name": name, "image": "i", "command": ["c"]});
        let spec = json!({"steps": [step("a"), step("b")], "sidecars": [{"name": "c", "image": "i"}], "results": [{"name": "r", "type": "string"}]});
        let mut world = World::new(run(json!({"taskSpec": spec, "retries": retries})));
        let mut done = false;
        for (i, (status, wait)) in statuses.into_iter().enumerate() {
            if cancel == Some(i) {
                world.run.spec.status = "TaskRunCancelled".into();
            }
            if !world.seen.pods.is_empty() {
                world.pod_status(status);
            }
            world.now = at(world.now.as_second() - at(0).as_second() + wait);
            let before = world.run.status.clone();
            let mut rounds = 0;
            loop {
                let decision = world.pass();
                let creates = decision.effects.iter().any(|e| matches!(e, Effect::CreatePod(_)));
                prop_assert!(!(done && creates), "a finished run gets no pod");
                if world.decide().status == world.run.status {
                    break;
                }
                rounds += 1;
                prop_assert!(rounds < 10, "the status never settles");
            }
            if done {
                prop_assert_eq!(&before.conditions, &world.run.status.conditions);
                prop_assert_eq!(&before.completion_time, &world.run.status.completion_time);
            }
            done = world.run.is_done();
            prop_assert!(i64::try_from(world.run.status.retries_status.len()).unwrap() <= retries);
            if done && world.run.status.pod_name.is_empty() {
                prop_assert!(world.run.is_cancelled(), "{:?}", world.run.status.conditions);
            }
        }
    }
}
