//! What survives the end of a node's process, and what must not.

#[allow(dead_code, reason = "each test file uses its part")]
mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use support::{World, mentions, possible, sh, state};
use tektite_node::{Disposition, Lifetime};

// K-292, K-328
#[tokio::test(flavor = "multi_thread")]
async fn the_next_node_takes_over_running_containers_and_learns_how_others_ended() {
    if !possible("the_next_node_takes_over_running_containers_and_learns_how_others_ended") {
        return;
    }
    let directory = Arc::new(tempfile::tempdir().expect("a directory"));
    let first = World::start_on(
        support::api::Api::new(),
        directory.clone(),
        Lifetime::Durable,
    )
    .await;
    let gate = directory.path().join("gate");
    std::fs::create_dir(&gate).expect("made");
    let waiting = |name: &str, code: u32| {
        let mut container = sh(
            "c",
            &format!(
                "echo up; until [ -e /gate/{name} ]; do sleep 0.01; done; echo more; exit {code}"
            ),
        );
        container["volumeMounts"] = json!([{"name": "g", "mountPath": "/gate"}]);
        json!({"containers": [container], "volumes": [{"name": "g", "hostPath": {"path": gate}}]})
    };
    let meanwhile = first.pod("meanwhile", waiting("a", 4));
    let later = first.pod("later", waiting("b", 0));
    let gone = first.pod("gone", waiting("never", 0));
    for pod in [&meanwhile, &later, &gone] {
        first.phase(pod, "Running").await;
    }
    first.node.shutdown(Disposition::LeaveRunning).await;
    let api = first.api.clone();
    drop(first);
    std::fs::write(gate.join("a"), "").expect("written");
    api.remove(&gone);
    let exit = directory.path().join("node/pods/uid-meanwhile/c.0/exit");
    for _ in 0..1000 {
        if exit.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let second = World::start_on(api, directory.clone(), Lifetime::Durable).await;
    let pod = second.phase(&meanwhile, "Failed").await;
    assert_eq!(state(&pod, "c")["terminated"]["exitCode"], 4);
    assert_eq!(second.log("meanwhile", "c").await, "up\nmore\n");
    std::fs::write(gate.join("b"), "").expect("written");
    let pod = second.phase(&later, "Succeeded").await;
    assert_eq!(
        pod["status"]["containerStatuses"][0]["restartCount"], 0,
        "it was not run again"
    );
    let directory_of_gone = directory.path().join("node/pods/uid-gone");
    for _ in 0..1000 {
        if !directory_of_gone.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(
        !directory_of_gone.exists(),
        "the pod that was deleted meanwhile is reaped"
    );
    second.end().await;
}

/// A container `c` of the machine's own image that runs a script with the directory `gate` at `/gate`.
fn gated(gate: &Path, script: &str) -> serde_json::Value {
    let mut container = sh("c", script);
    container["volumeMounts"] = json!([{"name": "g", "mountPath": "/gate"}]);
    json!({"containers": [container], "volumes": [{"name": "g", "hostPath": {"path": gate}}]})
}

/// Waits for a file to come or to go.
async fn until(path: &Path, exists: bool) {
    for _ in 0..3000 {
        if path.exists() == exists {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("exists: {}: {}", !exists, path.display());
}

// K-292: between the launcher's greeting and the first look at the pods.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_ends_while_the_next_node_starts_is_not_waited_for_in_vain() {
    if !possible("a_container_that_ends_while_the_next_node_starts_is_not_waited_for_in_vain") {
        return;
    }
    let directory = Arc::new(tempfile::tempdir().expect("a directory"));
    let api = support::api::Api::new();
    let first = World::start_on(api.clone(), directory.clone(), Lifetime::Durable).await;
    let gate = directory.path().join("gate");
    std::fs::create_dir(&gate).expect("made");
    let script = "until [ -e /gate/a ]; do sleep 0.01; done; exit 4";
    let path = first.pod("p", gated(&gate, script));
    first.phase(&path, "Running").await;
    first.node.shutdown(Disposition::LeaveRunning).await;
    drop(first);
    let hold = api.hold("GET /api/v1/pods");
    let second = World::start_on(api, directory.clone(), Lifetime::Durable).await;
    std::fs::write(gate.join("a"), "").expect("written");
    let instance = directory.path().join("node/pods/uid-p/c.0");
    until(&instance.join("exit"), true).await;
    drop(hold);
    let pod = second.phase(&path, "Failed").await;
    assert_eq!(state(&pod, "c")["terminated"]["exitCode"], 4);
    second.end().await;
}

// K-281, K-292
#[tokio::test(flavor = "multi_thread")]
async fn a_native_sidecar_that_ended_without_a_node_is_started_again() {
    if !possible("a_native_sidecar_that_ended_without_a_node_is_started_again") {
        return;
    }
    let directory = Arc::new(tempfile::tempdir().expect("a directory"));
    let api = support::api::Api::new();
    let first = World::start_on(api.clone(), directory.clone(), Lifetime::Durable).await;
    let gate = directory.path().join("gate");
    std::fs::create_dir(&gate).expect("made");
    let mut spec = gated(&gate, "until [ -e /gate/b ]; do sleep 0.01; done");
    let mut sidecar = sh(
        "s",
        "trap 'exit 0' TERM; until [ -e /gate/a ]; do sleep 0.01; done; rm /gate/a",
    );
    sidecar["restartPolicy"] = json!("Always");
    sidecar["volumeMounts"] = spec["containers"][0]["volumeMounts"].clone();
    spec["initContainers"] = json!([sidecar]);
    let path = first.pod("p", spec);
    first.phase(&path, "Running").await;
    first.node.shutdown(Disposition::LeaveRunning).await;
    drop(first);
    std::fs::write(gate.join("a"), "").expect("written");
    let instance = directory.path().join("node/pods/uid-p/s.0");
    until(&instance.join("exit"), true).await;
    let second = World::start_on(api.clone(), directory.clone(), Lifetime::Durable).await;
    let restarted = |pod: Option<&serde_json::Value>| {
        pod.is_some_and(|pod| {
            pod["status"]["initContainerStatuses"][0]["restartCount"] == 1
                && !state(pod, "s")["running"].is_null()
        })
    };
    api.until(&path, restarted).await;
    std::fs::write(gate.join("b"), "").expect("written");
    second.phase(&path, "Succeeded").await;
    second.end().await;
}

// K-286: however the end of a pod, its object's and the node's own falls together.
#[tokio::test(flavor = "multi_thread")]
async fn no_files_of_removed_pods_stay() {
    if !possible("no_files_of_removed_pods_stay") {
        return;
    }
    let directory = Arc::new(tempfile::tempdir().expect("a directory"));
    let api = support::api::Api::new();
    let first = World::start_on(api.clone(), directory.clone(), Lifetime::Durable).await;
    let pods = directory.path().join("node/pods");
    let running = first.pod("running", json!({"containers": [sh("c", "sleep 1000")]}));
    let stray = first.pod("stray", json!({"containers": [sh("c", "sleep 1000")]}));
    first.phase(&running, "Running").await;
    first.phase(&stray, "Running").await;
    api.remove(&running);
    until(&pods.join("uid-running"), false).await;
    for number in 0..20 {
        let ended = first.pod(
            &format!("ended-{number}"),
            json!({"containers": [sh("c", "true")]}),
        );
        first.phase(&ended, "Succeeded").await;
        api.remove(&ended);
        until(&pods.join(format!("uid-ended-{number}")), false).await;
    }
    first.node.shutdown(Disposition::LeaveRunning).await;
    drop(first);
    api.remove(&stray);
    let second = World::start_on(api, directory.clone(), Lifetime::Durable).await;
    until(&pods.join("uid-stray"), false).await;
    second.end().await;
}

// K-292
#[tokio::test(flavor = "multi_thread")]
async fn containers_of_a_dead_launcher_are_reported_lost_and_new_ones_run() {
    if !possible("containers_of_a_dead_launcher_are_reported_lost_and_new_ones_run") {
        return;
    }
    let world = World::start().await;
    let path = world.pod("p", json!({"containers": [sh("c", "sleep 1000")]}));
    world.phase(&path, "Running").await;
    let directory = world.directory.path().to_string_lossy().into_owned();
    let launcher = std::fs::read_dir("/proc")
        .expect("listed")
        .flatten()
        .find(|entry| {
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&command).contains(&directory)
        })
        .and_then(|entry| entry.file_name().into_string().ok())
        .expect("the launcher runs");
    let killed = Command::new("kill")
        .args(["-9", &launcher])
        .status()
        .expect("run");
    assert!(killed.success());
    let pod = world.phase(&path, "Failed").await;
    assert_eq!(
        state(&pod, "c")["terminated"]["reason"],
        "ContainerStatusUnknown"
    );
    assert_eq!(state(&pod, "c")["terminated"]["exitCode"], 137);
    let next = world.pod("next", json!({"containers": [sh("c", "echo fine")]}));
    world.phase(&next, "Succeeded").await;
    assert_eq!(world.log("next", "c").await, "fine\n");
    world.end().await;
}

/// Not a test: the process that the next test kills.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by a_killed_private_node_takes_everything_with_it"]
async fn victim() {
    let world = World::start().await;
    let path = world.pod(
        "p",
        json!({"containers": [sh("c", "trap '' TERM; sleep 1000")]}),
    );
    world.phase(&path, "Running").await;
    println!("victim {}", world.directory.path().display());
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_private_node_takes_everything_with_it() {
    if !possible("a_killed_private_node_takes_everything_with_it") {
        return;
    }
    let mut child = Command::new(std::env::current_exe().expect("a path"))
        .args([
            "--exact",
            "victim",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let output = child.stdout.take().expect("piped");
    let directory = std::io::BufRead::lines(std::io::BufReader::new(output))
        .map_while(Result::ok)
        .find_map(|line| {
            line.split_once("victim /")
                .map(|(_, rest)| format!("/{rest}"))
        })
        .expect("the victim says where it is");
    let directory = std::path::PathBuf::from(directory);
    assert!(!mentions(&directory).is_empty(), "the launcher runs");
    child.kill().expect("killed");
    child.wait().expect("reaped");
    for _ in 0..1000 {
        if mentions(&directory).is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(mentions(&directory), Vec::<String>::new());
    std::fs::remove_dir_all(directory).expect("removed");
}
