//! Pods as real containers of this machine's own root file system, against a fake API.

#[allow(dead_code, reason = "each test file uses its part")]
mod support;

use serde_json::json;
use support::{World, possible, possible_as_root, sh, state};

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
    // K-295: waiting if the start took long, running and ended, or some of them at once.
    assert!(
        world.api.writes("pods/fine/status") <= 3,
        "{}",
        world.api.writes("pods/fine/status")
    );
    world.end().await;
}

// K-276, K-274, K-272
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_started_says_why() {
    if !possible("what_cannot_be_started_says_why") {
        return;
    }
    let world = World::start().await;
    let absent = world.pod(
        "absent",
        json!({"containers": [{"name": "c", "image": "host", "command": ["/none/such"]}]}),
    );
    let config = world.pod(
        "config",
        json!({"containers": [{"name": "c", "image": "host", "command": ["true"],
        "env": [{"name": "E", "valueFrom": {"configMapKeyRef": {"name": "x", "key": "k"}}}]}]}),
    );
    let image = world.pod(
        "image",
        json!({"containers": [{"name": "c", "image": "absent:1", "command": ["true"]}]}),
    );
    let pod = world.phase(&absent, "Failed").await;
    let ended = &state(&pod, "c")["terminated"];
    assert_eq!(
        (ended["reason"].as_str(), ended["exitCode"].as_i64()),
        (Some("StartError"), Some(128)),
        "{ended}"
    );
    let message = ended["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("unable to start container process")
            && message.contains("stat /none/such: no such file or directory"),
        "{message}"
    );
    let waiting = |reason: &'static str| {
        move |pod: Option<&serde_json::Value>| {
            pod.is_some_and(|pod| state(pod, "c")["waiting"]["reason"] == reason)
        }
    };
    let pod = world
        .api
        .until(&config, waiting("CreateContainerConfigError"))
        .await
        .expect("a pod");
    assert_eq!(
        state(&pod, "c")["waiting"]["message"],
        "configmap \"x\" not found"
    );
    assert_eq!(pod["status"]["phase"], "Pending");
    let pod = world
        .api
        .until(&image, waiting("ErrImagePull"))
        .await
        .expect("a pod");
    assert_eq!(state(&pod, "c")["waiting"]["message"], "no such image");
    let pod = world
        .api
        .until(&image, waiting("ImagePullBackOff"))
        .await
        .expect("a pod");
    assert_eq!(
        state(&pod, "c")["waiting"]["message"],
        "Back-off pulling image \"absent:1\": ErrImagePull: no such image"
    );
    world.end().await;
}

// K-279, K-280, K-302, K-303, K-308, K-313
#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_shared_by_the_containers_of_a_pod_and_stay_within_their_bounds() {
    if !possible("volumes_are_shared_by_the_containers_of_a_pod_and_stay_within_their_bounds") {
        return;
    }
    let world = World::start().await;
    let claim = world.directory.path().join("claim");
    std::fs::create_dir_all(claim.join("inner")).expect("made");
    std::os::unix::fs::symlink("/etc", claim.join("escape")).expect("linked");
    world.api.put(
        "/api/v1/namespaces/n/configmaps/m",
        json!({"metadata": {"name": "m"}, "data": {"k": "v"}}),
    );
    world.api.put(
        "/api/v1/namespaces/n/secrets/s",
        json!({"metadata": {"name": "s"}, "data": {"p": "c2VjcmV0"}}),
    );
    world.api.put(
        "/api/v1/namespaces/n/persistentvolumeclaims/claim",
        json!({
        "metadata": {"name": "claim"}, "spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}}),
    );
    world.api.put(
        "/api/v1/persistentvolumes/pv",
        json!({"metadata": {"name": "pv"}, "spec": {"hostPath": {"path": claim}}}),
    );
    let volumes = json!([
        {"name": "e", "emptyDir": {}},
        {"name": "t", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "m", "configMap": {"name": "m"}},
        {"name": "s", "secret": {"secretName": "s", "defaultMode": 256}},
        {"name": "c", "persistentVolumeClaim": {"claimName": "claim"}}]);
    let mounts = json!([
        {"name": "e", "mountPath": "/e"}, {"name": "t", "mountPath": "/t"}, {"name": "m", "mountPath": "/m"},
        {"name": "s", "mountPath": "/s"}, {"name": "c", "mountPath": "/c"},
        {"name": "c", "mountPath": "/sub", "subPath": "made/here"},
        {"name": "c", "mountPath": "/ro", "subPath": "inner", "readOnly": true},
        {"name": "c", "mountPath": "/e/nested"}]);
    let mut first = sh(
        "i",
        "echo init > /e/x; stat -c %a /e /t; stat -f -c %T /t; cat /m/k; cat /s/p; stat -L -c %a /s/p; echo; pwd",
    );
    first["workingDir"] = json!("/e/work/dir");
    let mut second = sh(
        "a",
        "cat /e/x; echo a > /sub/f; touch /ro/x 2>&1; touch /m/x 2>&1; ls /e/nested",
    );
    for container in [&mut first, &mut second] {
        container["volumeMounts"] = mounts.clone();
    }
    let path = world.pod(
        "v",
        json!({"initContainers": [first], "containers": [second], "volumes": volumes.clone()}),
    );
    let mut escape = sh("c", "ls /x");
    escape["volumeMounts"] = json!([{"name": "c", "mountPath": "/x", "subPath": "escape"}]);
    let escaping = world.pod("x", json!({"containers": [escape], "volumes": volumes}));
    world.phase(&path, "Succeeded").await;
    assert_eq!(
        world.log("v", "i").await,
        "777\n1777\ntmpfs\nvsecret400\n\n/e/work/dir\n"
    );
    let log = world.log("v", "a").await;
    assert!(log.starts_with("init\n"), "{log}");
    assert_eq!(log.matches("Read-only file system").count(), 2, "{log}");
    assert!(log.contains("made"), "{log}");
    assert_eq!(
        std::fs::read_to_string(claim.join("made/here/f")).expect("a file"),
        "a\n"
    );
    // The link leads to /etc of the volume, not of the machine, and that does not exist.
    let pod = world
        .api
        .until(&escaping, |pod| {
            pod.is_some_and(|pod| {
                matches!(
                    pod["status"]["phase"].as_str(),
                    Some("Succeeded" | "Failed")
                ) || state(pod, "c")["waiting"]["reason"] == "CreateContainerConfigError"
            })
        })
        .await
        .expect("a pod");
    if pod["status"]["phase"] == "Succeeded" {
        assert_eq!(
            world.log("x", "c").await,
            "",
            "nothing of the machine's /etc is seen"
        );
    }
    world.end().await;
}

// K-304
#[tokio::test(flavor = "multi_thread")]
async fn an_annotation_reaches_a_waiting_container() {
    if !possible("an_annotation_reaches_a_waiting_container") {
        return;
    }
    let world = World::start().await;
    let mut container = sh(
        "c",
        "until [ -s /d/ready ]; do sleep 0.01; done; cat /d/ready",
    );
    container["volumeMounts"] = json!([{"name": "d", "mountPath": "/d"}]);
    let path = world.pod(
        "p",
        json!({"containers": [container], "volumes": [{"name": "d", "downwardAPI": {"items": [
        {"path": "ready", "fieldRef": {"fieldPath": "metadata.annotations['ready']"}}]}}]}),
    );
    world.phase(&path, "Running").await;
    world.api.change(&path, |pod| {
        pod["metadata"]["annotations"] = json!({"ready": "READY"})
    });
    world.phase(&path, "Succeeded").await;
    assert_eq!(world.log("p", "c").await, "READY");
    world.end().await;
}

// K-304
#[tokio::test(flavor = "multi_thread")]
async fn an_annotation_that_comes_while_volumes_are_written_is_not_lost() {
    if !possible("an_annotation_that_comes_while_volumes_are_written_is_not_lost") {
        return;
    }
    let world = World::start().await;
    let config_map = "/api/v1/namespaces/n/configmaps/late";
    world.api.put(
        config_map,
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "late"}}),
    );
    let hold = world.api.hold(config_map);
    let mut container = sh("c", "until grep -q yes /down/go; do sleep 0.01; done");
    container["volumeMounts"] =
        json!([{"name": "d", "mountPath": "/down"}, {"name": "m", "mountPath": "/map"}]);
    let items = json!([{"path": "go", "fieldRef": {"fieldPath": "metadata.annotations['go']"}}]);
    let path = world.pod(
        "p",
        json!({"containers": [container], "volumes": [
            {"name": "d", "downwardAPI": {"items": items}}, {"name": "m", "configMap": {"name": "late"}}]}),
    );
    world
        .api
        .until(&path, |pod| {
            pod.is_some_and(|pod| pod["spec"]["nodeName"] == "here")
        })
        .await;
    world.api.change(&path, |pod| {
        pod["metadata"]["annotations"] = json!({"go": "yes"})
    });
    // What the node hears last of the pod before its volumes are written.
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    drop(hold);
    world.phase(&path, "Succeeded").await;
    world.end().await;
}

// K-295: an answer that waits for the disk holds up neither containers nor what is told of them.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_status_does_not_wait_for_the_answer_to_the_last() {
    if !possible("the_next_status_does_not_wait_for_the_answer_to_the_last") {
        return;
    }
    let world = World::start().await;
    let hold = world.api.hold("pods/p/status");
    let mut container = sh("c", "sleep 0.2");
    container["volumeMounts"] = json!([{"name": "e", "mountPath": "/e"}]);
    let path = world.pod(
        "p",
        json!({"containers": [container], "volumes": [{"name": "e", "emptyDir": {}}]}),
    );
    world.phase(&path, "Running").await;
    world.phase(&path, "Succeeded").await;
    let files = world.directory.path().join("node/pods/uid-p/volumes");
    assert!(
        files.exists(),
        "what is not acknowledged may be needed again"
    );
    drop(hold);
    while files.exists() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    world.end().await;
}

// K-281, K-282
#[tokio::test(flavor = "multi_thread")]
async fn a_native_sidecar_starts_first_and_is_stopped_last() {
    if !possible("a_native_sidecar_starts_first_and_is_stopped_last") {
        return;
    }
    let world = World::start().await;
    let mut sidecar = sh(
        "s",
        "trap 'echo bye; exit 7' TERM; echo up; touch /e/up; while :; do sleep 0.01; done",
    );
    let mut regular = sh("c", "until [ -e /e/up ]; do sleep 0.01; done");
    for container in [&mut sidecar, &mut regular] {
        container["volumeMounts"] = json!([{"name": "e", "mountPath": "/e"}]);
    }
    sidecar["restartPolicy"] = json!("Always");
    let path = world.pod("p", json!({"initContainers": [sidecar], "containers": [regular], "volumes": [{"name": "e", "emptyDir": {}}]}));
    let pod = world.phase(&path, "Succeeded").await;
    assert_eq!(state(&pod, "s")["terminated"]["exitCode"], 7);
    assert_eq!(world.log("p", "s").await, "up\nbye\n");
    world.end().await;
}

// K-277
#[tokio::test(flavor = "multi_thread")]
async fn a_running_container_whose_image_changes_is_started_anew() {
    if !possible("a_running_container_whose_image_changes_is_started_anew") {
        return;
    }
    let world = World::start().await;
    let path = world.pod("p", json!({"containers": [sh("c", "trap 'exit 0' TERM; echo up; while :; do sleep 0.01; done")]}));
    world.phase(&path, "Running").await;
    let follow = tektite_node::LogOptions {
        follow: true,
        limit_bytes: Some(3),
        ..Default::default()
    };
    assert_eq!(world.log_with("p", "c", follow).await, "up\n");
    world.api.change(&path, |pod| {
        pod["spec"]["containers"][0]["image"] = json!("layers:/none:/such");
    });
    let pod = world
        .api
        .until(&path, |pod| {
            pod.is_some_and(|pod| {
                pod["status"]["containerStatuses"][0]["restartCount"] == 1
                    && !state(pod, "c")["running"].is_object()
            })
        })
        .await
        .expect("a pod");
    assert_eq!(
        pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 0,
        "{pod:#}"
    );
    world.end().await;
}

// K-286, K-289, K-275
#[tokio::test(flavor = "multi_thread")]
async fn deleted_and_overdue_pods_are_stopped() {
    if !possible("deleted_and_overdue_pods_are_stopped") {
        return;
    }
    let world = World::start().await;
    let polite = world.pod("polite", json!({"containers": [sh("c", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done")]}));
    let late = world.pod(
        "late",
        json!({"activeDeadlineSeconds": 1, "terminationGracePeriodSeconds": 2,
        "containers": [sh("c", "trap '' TERM; while :; do sleep 0.05; done")]}),
    );
    world.phase(&polite, "Running").await;
    // Before it has set its trap, the first process of a container ignores the signal.
    let follow = tektite_node::LogOptions {
        follow: true,
        limit_bytes: Some(3),
        ..Default::default()
    };
    assert_eq!(world.log_with("polite", "c", follow).await, "up\n");
    world.api.change(&polite, |pod| {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(30);
    });
    world.api.until(&polite, |pod| pod.is_none()).await;
    let pod = world.phase(&late, "Failed").await;
    assert_eq!(pod["status"]["reason"], "DeadlineExceeded");
    assert_eq!(state(&pod, "c")["terminated"]["exitCode"], 137);
    world.end().await;
}

// K-320, K-275
#[tokio::test(flavor = "multi_thread")]
async fn a_container_over_its_memory_limit_is_oom_killed() {
    if !possible_as_root("a_container_over_its_memory_limit_is_oom_killed") {
        return;
    }
    let world = World::start().await;
    let mut container = sh(
        "c",
        "x=$(head -c 100000000 /dev/zero | tr '\\0' x); echo ${#x}",
    );
    container["resources"] = json!({"limits": {"memory": "20Mi"}});
    let path = world.pod("p", json!({"containers": [container]}));
    let pod = world.phase(&path, "Failed").await;
    assert_eq!(state(&pod, "c")["terminated"]["reason"], "OOMKilled");
    world.end().await;
}

// K-300, K-315
#[tokio::test(flavor = "multi_thread")]
async fn security_contexts_hold() {
    if !possible_as_root("security_contexts_hold") {
        return;
    }
    let world = World::start().await;
    let mut container = sh(
        "c",
        "id -u; id -g; touch /x 2>&1; grep -c '^NoNewPrivs:.1' /proc/self/status; grep CapBnd /proc/self/status; hostname",
    );
    container["securityContext"] = json!({"runAsUser": 1234, "runAsGroup": 5678, "readOnlyRootFilesystem": true,
        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    let path = world.pod("p", json!({"containers": [container]}));
    world.phase(&path, "Succeeded").await;
    let log = world.log("p", "c").await;
    assert!(log.starts_with("1234\n5678\n"), "{log}");
    assert!(log.contains("Read-only file system"), "{log}");
    assert!(
        log.ends_with("\n1\nCapBnd:\t0000000000000000\np\n"),
        "{log}"
    );
    world.end().await;
}

// The machine's own files are seen, but never written, and neither is the node's data directory.
#[tokio::test(flavor = "multi_thread")]
async fn the_host_image_shows_the_machine_and_protects_it() {
    if !possible("the_host_image_shows_the_machine_and_protects_it") {
        return;
    }
    let world = World::start().await;
    let data = world.directory.path().join("node");
    let script = format!(
        "test -x /bin/sh && echo shell; echo x > /etc/tektite-test; cat /etc/tektite-test; ls {} 2>/dev/null; ls /tmp; ls /proc | grep -c '^[0-9]*$'",
        data.display()
    );
    let path = world.pod("p", json!({"containers": [sh("c", &script)]}));
    world.phase(&path, "Succeeded").await;
    let log = world.log("p", "c").await;
    assert!(log.starts_with("shell\nx\n"), "{log}");
    assert!(!log.contains("pods"), "{log}");
    assert!(!std::path::Path::new("/etc/tektite-test").exists());
    world.end().await;
}

// K-293, K-295
#[tokio::test(flavor = "multi_thread")]
async fn a_container_with_probes_is_ready_once_they_succeed_and_restarted_once_they_fail() {
    if !possible("a_container_with_probes_is_ready_once_they_succeed_and_restarted_once_they_fail")
    {
        return;
    }
    let world = World::start().await;
    let exec = |file: &str| json!({"exec": {"command": ["test", "-e", file]}, "periodSeconds": 1, "failureThreshold": 1});
    let mut ready = sh(
        "c",
        "touch /started; until [ -s /d/go ]; do sleep 0.01; done; touch /ready; sleep 1000",
    );
    ready["startupProbe"] = json!({"exec": {"command": ["test", "-e", "/started"]}, "periodSeconds": 1, "failureThreshold": 30});
    ready["readinessProbe"] = exec("/ready");
    ready["volumeMounts"] = json!([{"name": "d", "mountPath": "/d"}]);
    let path = world.pod(
        "r",
        json!({"containers": [ready], "volumes": [{"name": "d", "downwardAPI": {"items": [
        {"path": "go", "fieldRef": {"fieldPath": "metadata.annotations['go']"}}]}}]}),
    );
    let mut dying = sh("c", "sleep 1000");
    dying["livenessProbe"] = exec("/none");
    let dead = world.pod(
        "d",
        json!({"containers": [dying], "terminationGracePeriodSeconds": 0}),
    );
    let is = |field: &'static str| {
        move |pod: Option<&serde_json::Value>| {
            pod.is_some_and(|pod| pod["status"]["containerStatuses"][0][field] == true)
        }
    };
    let pod = world.api.until(&path, is("started")).await.expect("a pod");
    assert_eq!(pod["status"]["containerStatuses"][0]["ready"], false);
    world.api.change(&path, |pod| {
        pod["metadata"]["annotations"] = json!({"go": "x"})
    });
    world.api.until(&path, is("ready")).await;
    let pod = world.phase(&dead, "Failed").await;
    assert_eq!(state(&pod, "c")["terminated"]["exitCode"], 137);
    assert!(world.api.writes("pods/r/status") <= 5);
    world.end().await;
}

// K-323, K-267
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_has_a_network_of_its_own_and_reaches_the_machine() {
    if !possible("a_pod_has_a_network_of_its_own_and_reaches_the_machine") {
        return;
    }
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0")
        .await
        .expect("a socket");
    let port = listener.local_addr().expect("an address").port();
    let world = World::start_bridged().await;
    let server = tokio::spawn(async move {
        let (mut stream, from) = listener.accept().await.expect("a connection");
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"hello\n")
            .await
            .expect("written");
        from.ip().to_string()
    });
    let script = format!(
        "grep -c : /proc/net/dev; exec 3<>/dev/tcp/${{IP%.*}}.1/{port}; cat <&3; grep $IP /etc/hosts"
    );
    let path = world.pod(
        "p",
        json!({"containers": [{"name": "c", "image": "host", "command": ["bash", "-c", script],
        "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]}]}),
    );
    let pod = world
        .api
        .until(&path, |pod| {
            pod.is_some_and(|pod| {
                matches!(
                    pod["status"]["phase"].as_str(),
                    Some("Succeeded" | "Failed")
                )
            })
        })
        .await
        .expect("a pod");
    let address = pod["status"]["podIP"]
        .as_str()
        .unwrap_or_default()
        .to_string();
    let log = world.log("p", "c").await;
    if world.node.shares_network() {
        eprintln!("skipped: this machine cannot make networks for pods");
    } else {
        assert_eq!(
            log,
            format!("2\nhello\n{address}\tp\n"),
            "lo and eth0 and the machine's answer"
        );
        assert_eq!(server.await.expect("served"), address);
    }
    world.end().await;
}

// An ordinary user gets containers too, in a user namespace.
#[test]
fn pods_run_for_a_user_other_than_root() {
    use std::os::unix::process::CommandExt;
    let name = "pods_run_for_a_user_other_than_root";
    if !possible_as_root(name) {
        return;
    }
    let temporary = tempfile::tempdir().expect("a directory");
    std::os::unix::fs::chown(temporary.path(), Some(65_534), Some(65_534)).expect("given away");
    let run = |filter: &str| {
        let mut command = std::process::Command::new(std::env::current_exe().expect("a path"));
        command
            .args([filter, "--exact", "--nocapture"])
            .env("TMPDIR", temporary.path())
            .uid(65_534)
            .gid(65_534);
        command.output()
    };
    let launcher = std::process::Command::new(env!("CARGO_BIN_EXE_tektite-launcher"))
        .uid(65_534)
        .gid(65_534)
        .output();
    if launcher.is_err() || run("none").is_err() {
        eprintln!("skipped {name}: another user may not read the test's programs");
        return;
    }
    for test in [
        "a_pod_runs_to_success_or_failure_and_leaves_its_log",
        "the_host_image_shows_the_machine_and_protects_it",
    ] {
        let output = run(test).expect("started");
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        if text.contains("skipped") {
            eprintln!("skipped {name}: {text}");
            return;
        }
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{text}"
        );
    }
}
