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

/// `tektite controller` on a cluster; ends when dropped.
struct Outside(std::process::Child, std::path::PathBuf);

impl Outside {
    fn start(up: &Up) -> Self {
        let log = up.directory.join("controller.log");
        let child = Command::new(BINARY)
            .args(["controller", "--kubeconfig"])
            .arg(up.kubeconfig())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).expect("a log file"))
            .spawn()
            .expect("the binary starts");
        Self(child, log)
    }

    /// Waits until it has said `part` for each of the three kinds it sees to and the five resolvers it has.
    fn says(&self, part: &str) {
        eventually(part, Duration::from_secs(60), || {
            let log = fs::read_to_string(&self.1).unwrap_or_default();
            (log.matches(part).count() == 8).then_some(())
        });
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// P-319, P-392, P-394: beside the cluster's own controllers one from outside waits.
#[test]
fn a_controller_from_outside_stands_by_while_the_clusters_own_leads() {
    let up = Up::start(&[]);
    let outside = Outside::start(&up);
    outside.says("standing by: another leads");
    let run = up.directory.join("run.yaml");
    fs::write(&run, SHARED_CLAIM).expect("a file");
    let run = run.to_str().expect("a path");
    let ran = up.tektite(&["run", run, "-o", "json"]);
    said(&ran, 0, &["from-write"]);
    let log = fs::read_to_string(&outside.1).expect("a log");
    assert!(!log.contains(" leading "), "{log}");
}

/// The controllers alone see to the runs of a cluster without any, with the entrypoint from an init container.
#[test]
fn a_controller_from_outside_sees_to_runs_that_nobody_else_does() {
    let up = Up::start(&["--no-controller"]);
    let outside = Outside::start(&up);
    outside.says("leading ");
    let run = up.directory.join("run.yaml");
    fs::write(&run, SHARED_CLAIM).expect("a file");
    let ran = up.tektite(&["run", run.to_str().expect("a path")]);
    said(&ran, 0, &["from-write", "succeeded in"]);
}
