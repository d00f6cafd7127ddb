//! `kill -9` of `tektite up` at any moment loses nothing that was acknowledged and leaves nothing behind.

mod support;

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
        assert!(
            status == "True" || !reason.is_empty(),
            "{name} failed with no reason"
        );
    }
    let path = directory.path().display().to_string();
    drop(up);
    eventually("no process is left", Duration::from_secs(20), || {
        support::processes_naming(&path).is_empty().then_some(())
    });
    assert_eq!(
        support::mounts_naming(&path),
        Vec::<String>::new(),
        "mounts are left"
    );
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
    assert!(
        fs::metadata(up.kubeconfig()).is_ok(),
        "the first one goes on"
    );
}
