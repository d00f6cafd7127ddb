//! `up`, `down` and `status`: the flows of a local cluster around its runs.

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use support::{BINARY, Up, eventually, has, skip, text};

const SHARED_CLAIM: &str = r#"
apiVersion: tekton.dev/v1
kind: PipelineRun
metadata: {name: shared}
spec:
  pipelineSpec:
    workspaces: [{name: w}]
    tasks:
    - name: write
      workspaces: [{name: w}]
      taskSpec:
        workspaces: [{name: w}]
        steps: [{name: s, image: host, script: "echo from-write > $(workspaces.w.path)/f; sleep 2"}]
    - name: read
      runAfter: [write]
      workspaces: [{name: w}]
      taskSpec:
        workspaces: [{name: w}]
        steps: [{name: s, image: host, script: "cat $(workspaces.w.path)/f"}]
  workspaces:
  - name: w
    volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}
"#;

fn tektite(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(BINARY)
        .args(arguments)
        .current_dir(directory)
        .env_remove("TEKTITE_DATA_DIR")
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts")
}

fn said(output: &Output, code: i32, parts: &[&str]) {
    let text = text(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for part in parts {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

/// Also: a relative directory is as good as an absolute one.
#[test]
fn a_detached_cluster_is_told_about_used_and_stopped() {
    let place = tempfile::tempdir().expect("a directory");
    let run = |arguments: &[&str]| tektite(place.path(), arguments);
    said(&run(&["status", "--data-dir", "d"]), 1, &["not running"]);
    said(&run(&["down", "--data-dir", "d"]), 0, &["no cluster"]);
    let kubeconfig = place.path().join("d/kubeconfig").display().to_string();
    let up = run(&["up", "--detach", "--data-dir", "d"]);
    said(
        &up,
        0,
        &["tektite is ready at https://127.0.0.1:", &kubeconfig],
    );
    let record = fs::read_to_string(place.path().join("d/up.json")).expect("a record");
    let again = run(&["up", "--data-dir", "d"]);
    said(&again, 2, &["is in use by process", "tektite down"]);
    let pid = serde_json::from_str::<serde_json::Value>(&record).expect("JSON")["pid"].to_string();
    assert!(text(&again).contains(&format!("process {pid}")));
    said(
        &run(&["status", "--data-dir", "d"]),
        0,
        &["running", "0 succeeded"],
    );
    fs::write(place.path().join("run.yaml"), SHARED_CLAIM).expect("a file");
    let ran = run(&["run", "run.yaml", "--kubeconfig", &kubeconfig]);
    said(&ran, 0, &["from-write"]);
    said(&run(&["status", "--data-dir", "d"]), 0, &["1 succeeded"]);
    said(&run(&["down", "--data-dir", "d"]), 0, &["stopped"]);
    said(&run(&["down", "--data-dir", "d"]), 0, &["no cluster"]);
    // The same address again: the kubeconfig of before goes on working.
    let before = fs::read_to_string(&kubeconfig).expect("a kubeconfig");
    said(
        &run(&["up", "--detach", "--data-dir", "d"]),
        0,
        &["tektite is ready"],
    );
    assert_eq!(
        before,
        fs::read_to_string(&kubeconfig).expect("a kubeconfig")
    );
    said(
        &run(&["list", "--kubeconfig", &kubeconfig]),
        0,
        &["shared", "Succeeded"],
    );
    said(&run(&["down", "--data-dir", "d"]), 0, &["stopped"]);
}

/// P-248: the assistant of a shared claim waits beside the tasks; it does not end and start over again.
#[test]
fn the_assistant_of_a_shared_claim_runs_while_its_run_does() {
    const TEST: &str = "the_assistant_of_a_shared_claim_runs_while_its_run_does";
    if !has("kubectl") {
        return skip(
            TEST,
            "no kubectl on this machine (Debian: kubernetes-client)",
        );
    }
    let up = Up::start(&[]);
    up.kubectl_with(&["create", "-f", "-"], SHARED_CLAIM);
    let selector = "app.kubernetes.io/component=affinity-assistant";
    let status = "jsonpath={.items[*].status.phase} {.items[*].status.containerStatuses[0].ready} {.items[*].status.containerStatuses[0].restartCount}";
    let limit = Duration::from_secs(60);
    eventually("the assistant runs", limit, || {
        let status = up.kubectl(&["get", "pods", "-l", selector, "-o", status]);
        assert!(!status.ends_with('1'), "it was started over: {status}");
        (status == "Running true 0").then_some(())
    });
    up.kubectl(&[
        "wait",
        "pr/shared",
        "--for=condition=Succeeded",
        "--timeout=60s",
    ]);
    eventually("the assistant goes with the run", limit, || {
        let pods = up.kubectl(&["get", "pods,sts", "-l", selector, "-o", "name"]);
        pods.is_empty().then_some(())
    });
}
