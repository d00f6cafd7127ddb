//! `kill -9` of `tektite up` at any moment loses nothing that was acknowledged and leaves nothing behind.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use kube::api::{Api, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::json;
use support::{BINARY, Up, eventually, text};

fn task_runs(client: kube::Client) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("tekton.dev", "v1", "TaskRun"),
        "taskruns",
    );
    Api::namespaced_with(client, "default", &kind)
}

async fn client(up: &Up) -> kube::Client {
    let kubeconfig = kube::config::Kubeconfig::read_from(up.kubeconfig()).expect("a kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default())
        .await
        .expect("a config");
    kube::Client::try_from(config).expect("a client")
}

fn run(name: &str, script: &str) -> DynamicObject {
    let run = json!({"apiVersion": "tekton.dev/v1", "kind": "TaskRun", "metadata": {"name": name},
        "spec": {"taskSpec": {"steps": [{"name": "s", "image": "host", "script": script}]}}});
    serde_json::from_value(run).expect("an object")
}

/// Status and reason of the `Succeeded` condition, once it is decided.
fn ended(object: &DynamicObject) -> Option<(String, String)> {
    let condition = object.data["status"]["conditions"]
        .as_array()?
        .first()?
        .clone();
    let status = condition["status"].as_str()?.to_owned();
    (status != "Unknown").then(|| {
        (
            status,
            condition["reason"].as_str().unwrap_or_default().to_owned(),
        )
    })
}

#[tokio::test]
async fn acknowledged_objects_survive_and_interrupted_runs_end() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut acknowledged = Vec::new();
    for round in 0..4u64 {
        let mut up = Up::start_in(directory.path(), &[]);
        let api = task_runs(client(&up).await);
        for i in 0..5 {
            let name = format!("run-{round}-{i}");
            let script = if i == 0 {
                "#!/bin/sh\nsleep 1\necho late"
            } else {
                "#!/bin/sh\necho early"
            };
            api.create(&PostParams::default(), &run(&name, script))
                .await
                .expect("created");
            acknowledged.push(name);
            tokio::time::sleep(Duration::from_millis(17 * round)).await;
        }
        up.kill();
        std::mem::forget(up);
    }
    let up = Up::start_in(directory.path(), &[]);
    let api = task_runs(client(&up).await);
    for name in &acknowledged {
        let mut outcome = None;
        for _ in 0..1200 {
            let run = api
                .get(name)
                .await
                .unwrap_or_else(|error| panic!("{name} was acknowledged, but: {error}"));
            outcome = ended(&run);
            if outcome.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (status, reason) = outcome.unwrap_or_else(|| panic!("{name} never ended"));
        // Containers outlive the process, so nothing excuses a failure.
        assert_eq!((&*status, &*reason), ("True", "Succeeded"), "{name}");
    }
    end(up);
}

/// Brings the cluster down; nothing may be left of it.
fn end(up: Up) {
    let path = up.directory.display().to_string();
    drop(up);
    assert_eq!(
        support::processes_naming(&path),
        Vec::<u32>::new(),
        "processes are left"
    );
    assert_eq!(
        support::mounts_naming(&path),
        Vec::<String>::new(),
        "mounts are left"
    );
}

/// Two tasks that share a provisioned claim, the second with a sidecar that ignores being asked to stop.
const PIPELINE_RUN: &str = r#"
apiVersion: tekton.dev/v1
kind: PipelineRun
metadata: {name: NAME}
spec:
  pipelineSpec:
    workspaces: [{name: w}]
    tasks:
    - name: a
      workspaces: [{name: w}]
      taskSpec:
        workspaces: [{name: w}]
        steps:
        - {name: s, image: host, computeResources: {limits: {memory: 64Mi}}, script: "echo x > $(workspaces.w.path)/f; sleep SECONDS"}
    - name: b
      runAfter: [a]
      workspaces: [{name: w}]
      taskSpec:
        workspaces: [{name: w}]
        sidecars: [{name: side, image: host, script: "sleep 1000"}]
        steps: [{name: s, image: host, script: "cat $(workspaces.w.path)/f; sleep SECONDS"}]
  workspaces:
  - name: w
    volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}}
"#;

/// Names of what a directory holds.
fn entries(directory: &std::path::Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Kills strike while pods start, claims are provisioned and runs are deleted.
#[test]
fn pods_claims_and_deletions_come_through_kills_and_nothing_of_them_is_left() {
    const TEST: &str = "pods_claims_and_deletions_come_through_kills_and_nothing_of_them_is_left";
    if !support::has("kubectl") {
        return support::skip(
            TEST,
            "no kubectl on this machine (Debian: kubernetes-client)",
        );
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut kept = BTreeSet::new();
    let mut deleted = BTreeSet::new();
    for round in 0..4u64 {
        let mut up = Up::start_in(directory.path(), &[]);
        for i in 0..3u64 {
            let name = format!("run-{round}-{i}");
            let seconds = ["0", "0.2", "1"][(i % 3) as usize];
            let manifest = PIPELINE_RUN
                .replace("NAME", &name)
                .replace("SECONDS", seconds);
            up.kubectl_with(&["create", "-f", "-"], &manifest);
            kept.insert(name);
            std::thread::sleep(Duration::from_millis(37 * round));
        }
        let victim = format!("run-{round}-{}", round % 3);
        up.kubectl(&["delete", "pr", &victim, "--wait=false"]);
        kept.remove(&victim);
        deleted.insert(victim);
        up.kill();
        std::mem::forget(up);
    }
    let up = Up::start_in(directory.path(), &[]);
    let names = |what: &str| -> BTreeSet<String> {
        let list = up.kubectl(&["get", what, "-o", "jsonpath={.items[*].metadata.name}"]);
        list.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(names("pr"), kept);
    let outcome = "jsonpath={.status.conditions[0].status} {.status.conditions[0].reason}";
    for name in &kept {
        let mut seen = String::new();
        let start = std::time::Instant::now();
        while !(seen.starts_with("True ") || seen.starts_with("False ")) {
            if start.elapsed() > Duration::from_secs(60) {
                let runs = up.kubectl(&["get", "pr,tr,pods,pvc", "-o", "wide"]);
                panic!("{name} never ended ({seen}):\n{runs}");
            }
            std::thread::sleep(Duration::from_millis(100));
            seen = up.kubectl(&["get", "pr", name, "-o", outcome]);
        }
        // Containers outlive the process, so nothing excuses a failure.
        assert_eq!(seen, "True Succeeded", "{name}");
    }
    up.kubectl(&["delete", "pr", "--all"]);
    let limit = Duration::from_secs(60);
    eventually("what the runs owned is gone", limit, || {
        names("taskruns,pods,pvc,pv,statefulsets")
            .is_empty()
            .then_some(())
    });
    for files in ["volumes", "node/pods"] {
        let files = directory.path().join(files);
        eventually("the files of pods and volumes are gone", limit, || {
            entries(&files).is_empty().then_some(())
        });
    }
    end(up);
}

/// The machine loses power, as far as processes go: `up` and the launcher die, and then their containers.
#[tokio::test]
async fn runs_whose_containers_died_too_say_so_and_others_go_on() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().display().to_string();
    let mut up = Up::start_in(directory.path(), &[]);
    let api = task_runs(client(&up).await);
    let steps = ["sleep 1000", "true"];
    for (name, script) in ["running", "ended"].iter().zip(steps) {
        let run = run(name, &format!("#!/bin/sh\n{script}"));
        api.create(&PostParams::default(), &run)
            .await
            .expect("created");
    }
    let begun = |run: &DynamicObject| !run.data["status"]["steps"][0]["running"].is_null();
    loop {
        let running = api.get("running").await.expect("it exists");
        let other = api.get("ended").await.expect("it exists");
        if begun(&running) && ended(&other).is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for pid in support::processes_naming(&path) {
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
    }
    up.kill();
    std::mem::forget(up);
    let up = Up::start_in(directory.path(), &[]);
    let api = task_runs(client(&up).await);
    let expected = [
        ("running", "False", "StepFailed"),
        ("ended", "True", "Succeeded"),
    ];
    for (name, status, reason) in expected {
        let outcome = loop {
            let run = api.get(name).await.expect("it exists");
            if let Some(outcome) = ended(&run) {
                break outcome;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!((&*outcome.0, &*outcome.1), (status, reason), "{name}");
    }
    let run = api.get("running").await.expect("it exists");
    let step = &run.data["status"]["steps"][0]["terminated"];
    assert_eq!(step["reason"], "ContainerStatusUnknown", "{step}");
    assert_eq!(step["exitCode"], 137, "{step}");
    end(up);
}

#[test]
fn a_second_up_on_the_same_directory_refuses() {
    let up = Up::start(&[]);
    let second = Command::new(BINARY)
        .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(&up.directory)
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    assert!(!second.status.success());
    let said = text(&second);
    assert!(
        said.contains(&up.directory.display().to_string()),
        "it does not say which directory: {said}"
    );
    let process = format!("process {}", up.child.id());
    assert!(said.contains(&process), "it does not say who: {said}");
    assert!(
        fs::metadata(up.kubeconfig()).is_ok(),
        "the first one goes on"
    );
}
