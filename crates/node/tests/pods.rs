//! Pods as real containers of this machine's own root file system, against a fake API.

mod support;

use serde_json::json;
use support::{World, possible, sh, state};

// K-265, K-275, K-326
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_runs_to_success_or_failure_and_leaves_its_log() {
    if !possible("a_pod_runs_to_success_or_failure_and_leaves_its_log") {
        return;
    }
    let world = World::start().await;
    let fine = world.pod("fine", json!({"containers": [sh("c", "echo out; echo err >&2; echo -n result > /dev/termination-log")]}));
    let bad = world.pod("bad", json!({"containers": [sh("c", "exit 3")]}));
    let pod = world.phase(&fine, "Succeeded").await;
    assert_eq!(world.log("fine", "c").await, "out\nerr\n");
    let ended = state(&pod, "c");
    assert_eq!(ended["terminated"]["exitCode"], 0);
    assert_eq!(ended["terminated"]["reason"], "Completed");
    assert_eq!(ended["terminated"]["message"], "result");
    assert_eq!(pod["spec"]["nodeName"], "here");
    let pod = world.phase(&bad, "Failed").await;
    assert_eq!(state(&pod, "c")["terminated"]["exitCode"], 3);
    assert_eq!(state(&pod, "c")["terminated"]["reason"], "Error");
    // K-295: running and ended, or both at once.
    assert!(
        world.api.writes("pods/fine/status") <= 2,
        "{}",
        world.api.writes("pods/fine/status")
    );
    world.end().await;
}
