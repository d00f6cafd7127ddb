//! What a kubectl user does on `tektite up`, command by command (K-025..K-038).

mod support;

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use support::{Up, has, skip, text};

const TASK: &str = r#"
apiVersion: tekton.dev/v1
kind: Task
metadata:
  name: greet
  labels: {team: blue}
spec:
  description: Greets somebody
  params: [{name: who, default: world}]
  results: [{name: length}]
  steps:
    - name: say
      image: host
      script: |
        #!/bin/sh
        echo "hello $(params.who)"
        printf 5 > $(results.length.path)
"#;

const RUN: &str = r#"
apiVersion: tekton.dev/v1
kind: TaskRun
metadata:
  name: greet
  labels: {team: blue}
spec:
  taskRef: {name: greet}
"#;

fn up(test: &str) -> Option<Up> {
    if has("kubectl") {
        return Some(Up::start(&[]));
    }
    skip(
        test,
        "no kubectl on this machine (Debian: kubernetes-client)",
    );
    None
}

// K-029, K-030, K-031
#[test]
fn apply_creates_then_configures_then_leaves_unchanged() {
    let Some(up) = up("apply_creates_then_configures_then_leaves_unchanged") else {
        return;
    };
    let apply = |manifest: &str| up.kubectl_with(&["apply", "-f", "-"], manifest);
    // kubectl calls "unchanged" what the server had nothing to add to; lists count as a whole.
    let task = TASK
        .replace("name: who,", "name: who, type: string,")
        .replace("name: length", "name: length, type: string")
        .replace("image: host\n", "image: host\n      computeResources: {}\n");
    assert_eq!(apply(&task).trim(), "task.tekton.dev/greet created");
    assert_eq!(apply(&task).trim(), "task.tekton.dev/greet unchanged");
    let version = || {
        up.kubectl(&[
            "get",
            "task",
            "greet",
            "-o",
            "jsonpath={.metadata.resourceVersion}",
        ])
    };
    let before = version();
    assert_eq!(apply(TASK).trim(), "task.tekton.dev/greet configured");
    assert_ne!(before, version(), "the annotation is another");
    let before = version();
    apply(TASK);
    assert_eq!(before, version(), "what is defaulted again is no change");
    let changed = TASK.replace("Greets somebody", "Greets everybody");
    assert_eq!(apply(&changed).trim(), "task.tekton.dev/greet configured");
    assert_eq!(
        up.kubectl(&["get", "task", "greet", "-o", "jsonpath={.spec.description}"]),
        "Greets everybody"
    );

    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: '1', b: '2'}\n";
    assert_eq!(apply(config).trim(), "configmap/c created");
    let without = config.replace("a: '1', ", "");
    assert_eq!(apply(&without).trim(), "configmap/c configured");
    assert_eq!(
        up.kubectl(&["get", "cm", "c", "-o", "jsonpath={.data}"]),
        r#"{"b":"2"}"#
    );
    let server_side = up.kubectl_with(
        &["apply", "--server-side", "--force-conflicts", "-f", "-"],
        &without,
    );
    assert_eq!(server_side.trim(), "configmap/c serverside-applied");
}

// K-025, K-026
#[test]
fn get_prints_tables_and_every_output_format() {
    let Some(up) = up("get_prints_tables_and_every_output_format") else {
        return;
    };
    up.kubectl_with(&["apply", "-f", "-"], TASK);
    up.kubectl_with(&["create", "-f", "-"], RUN);
    up.kubectl(&[
        "wait",
        "taskrun/greet",
        "--for=condition=Succeeded",
        "--timeout=60s",
    ]);
    let table = up.kubectl(&["get", "taskruns"]);
    let mut lines = table.lines();
    let header: Vec<&str> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    assert_eq!(
        header,
        ["NAME", "SUCCEEDED", "REASON", "STARTTIME", "COMPLETIONTIME"]
    );
    let row: Vec<&str> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    assert_eq!(row[..3], ["greet", "True", "Succeeded"]);
    let pods = up.kubectl(&["get", "pods", "-A", "-o", "wide"]);
    let header: Vec<&str> = pods
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    assert_eq!(
        header[..6],
        ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    );
    assert!(pods.contains("greet-pod"), "{pods}");
    assert!(pods.contains("Completed"), "{pods}");
    assert_eq!(
        up.kubectl(&["get", "tr", "-l", "team=blue", "-o", "name"])
            .trim(),
        "taskrun.tekton.dev/greet"
    );
    assert_eq!(
        up.kubectl(&["get", "tr", "-l", "team=red", "-o", "name"])
            .trim(),
        ""
    );
    let json = up.kubectl(&["get", "tr", "greet", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["status"]["results"][0]["value"], "5");
    let yaml = up.kubectl(&["get", "tr", "greet", "-o", "yaml"]);
    assert!(yaml.contains("reason: Succeeded"), "{yaml}");
    assert_eq!(
        up.kubectl(&[
            "get",
            "tr",
            "greet",
            "-o",
            "jsonpath={.status.results[0].name}"
        ]),
        "length"
    );
    let beta = up.kubectl(&[
        "get",
        "taskruns.v1beta1.tekton.dev",
        "greet",
        "-o",
        "jsonpath={.apiVersion}",
    ]);
    assert_eq!(beta, "tekton.dev/v1beta1");
}

// K-027
#[test]
fn get_watch_prints_a_row_for_each_change() {
    let Some(up) = up("get_watch_prints_a_row_for_each_change") else {
        return;
    };
    up.kubectl_with(&["apply", "-f", "-"], TASK);
    let mut watch = up
        .kubectl_command(&["get", "taskruns", "-w"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("kubectl starts");
    std::thread::sleep(Duration::from_millis(700));
    up.kubectl_with(&["create", "-f", "-"], RUN);
    let stdout = watch.stdout.take().expect("stdout is piped");
    let mut rows = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let line = line.expect("text");
        let done = line.split_whitespace().nth(2) == Some("Succeeded");
        rows.push(line);
        if done {
            break;
        }
    }
    let _ = watch.kill();
    let _ = watch.wait();
    assert!(
        rows.last().is_some_and(|row| row.starts_with("greet")),
        "{rows:#?}"
    );
    assert!(
        rows.iter().any(|row| row.contains("Unknown")),
        "no row while it ran: {rows:#?}"
    );
}

// K-028, K-038
#[test]
fn describe_and_logs_tell_what_happened() {
    let Some(up) = up("describe_and_logs_tell_what_happened") else {
        return;
    };
    up.kubectl_with(&["apply", "-f", "-"], TASK);
    up.kubectl_with(&["create", "-f", "-"], RUN);
    up.kubectl(&[
        "wait",
        "taskrun/greet",
        "--for=condition=Succeeded",
        "--timeout=60s",
    ]);
    let logs = up.kubectl(&["logs", "-f", "greet-pod", "-c", "step-say"]);
    assert_eq!(logs, "hello world\n");
    let described = up.kubectl(&["describe", "taskrun", "greet"]);
    assert!(described.contains("Reason:"), "{described}");
    support::eventually("events of the run", Duration::from_secs(10), || {
        up.kubectl(&["describe", "taskrun", "greet"])
            .contains("All Steps have completed executing")
            .then_some(())
    });
    let pod = up.kubectl(&["describe", "pod", "greet-pod"]);
    assert!(pod.contains("step-say"), "{pod}");
    let events = up.kubectl(&["get", "events", "-o", "jsonpath={.items[*].reason}"]);
    assert!(events.contains("Started"), "{events}");
    let missing = up
        .kubectl_command(&["logs", "greet-pod", "-c", "nothing"])
        .output()
        .expect("kubectl starts");
    assert!(
        text(&missing).contains("container nothing is not valid for pod greet-pod"),
        "{}",
        text(&missing)
    );
}

// K-034, K-035, K-037
#[test]
fn patch_label_and_delete_do_what_they_say() {
    let Some(up) = up("patch_label_and_delete_do_what_they_say") else {
        return;
    };
    up.kubectl_with(&["apply", "-f", "-"], TASK);
    let patch = r#"{"spec":{"description":"patched"}}"#;
    assert_eq!(
        up.kubectl(&["patch", "task", "greet", "--type=merge", "-p", patch])
            .trim(),
        "task.tekton.dev/greet patched"
    );
    let json = r#"[{"op":"replace","path":"/spec/description","value":"again"}]"#;
    up.kubectl(&["patch", "task", "greet", "--type=json", "-p", json]);
    assert_eq!(
        up.kubectl(&["get", "task", "greet", "-o", "jsonpath={.spec.description}"]),
        "again"
    );
    up.kubectl(&["label", "task", "greet", "stage=test"]);
    up.kubectl(&["annotate", "task", "greet", "note=yes"]);
    assert_eq!(
        up.kubectl(&["get", "task", "-l", "stage=test", "-o", "name"])
            .trim(),
        "task.tekton.dev/greet"
    );
    up.kubectl_with(&["create", "-f", "-"], RUN);
    up.kubectl(&[
        "wait",
        "taskrun/greet",
        "--for=condition=Succeeded",
        "--timeout=60s",
    ]);
    assert_eq!(
        up.kubectl(&["delete", "taskrun", "greet"]).trim(),
        r#"taskrun.tekton.dev "greet" deleted"#
    );
    // The pod goes with its owner.
    up.kubectl(&["wait", "pod/greet-pod", "--for=delete", "--timeout=30s"]);
    let gone = up
        .kubectl_command(&["get", "taskrun", "greet"])
        .output()
        .expect("kubectl starts");
    assert!(
        text(&gone).contains(r#"taskruns.tekton.dev "greet" not found"#),
        "{}",
        text(&gone)
    );
}

// K-224, K-225, K-226
#[test]
fn a_namespace_has_its_account_and_goes_with_all_it_holds() {
    let Some(up) = up("a_namespace_has_its_account_and_goes_with_all_it_holds") else {
        return;
    };
    assert_eq!(
        up.kubectl(&["create", "namespace", "team"]).trim(),
        "namespace/team created"
    );
    support::eventually("the default account", Duration::from_secs(10), || {
        let accounts = up.kubectl(&["get", "sa", "-n", "team", "-o", "name"]);
        accounts.contains("serviceaccount/default").then_some(())
    });
    up.kubectl_with(&["apply", "-n", "team", "-f", "-"], TASK);
    up.kubectl(&[
        "create",
        "secret",
        "generic",
        "s",
        "-n",
        "team",
        "--from-literal=a=b",
    ]);
    up.kubectl(&["delete", "namespace", "team", "--timeout=30s"]);
    let tasks = up.kubectl(&["get", "tasks,secrets", "-A", "-o", "name"]);
    assert!(!tasks.contains("greet"), "{tasks}");
}

// K-006, K-018
#[test]
fn explain_and_api_resources_know_tektons_kinds() {
    let Some(up) = up("explain_and_api_resources_know_tektons_kinds") else {
        return;
    };
    let resources = up.kubectl(&["api-resources"]);
    for kind in [
        "TaskRun",
        "PipelineRun",
        "Task",
        "Pipeline",
        "StepAction",
        "CustomRun",
        "Pod",
        "ConfigMap",
        "Secret",
    ] {
        assert!(
            resources.lines().any(|line| line.ends_with(kind)),
            "{kind} is missing:\n{resources}"
        );
    }
    let explained = up.kubectl(&["explain", "taskrun.spec.taskRef"]);
    assert!(explained.contains("FIELD: taskRef"), "{explained}");
    let pod = up.kubectl(&["explain", "pod.spec.containers"]);
    assert!(pod.contains("FIELD: containers"), "{pod}");
}

/// What admission refuses, kubectl shows in Tekton's words (T-018).
#[test]
fn a_refused_manifest_says_why() {
    let Some(up) = up("a_refused_manifest_says_why") else {
        return;
    };
    let output = up.kubectl_input(
        &["create", "-f", "-"],
        &TASK.replace("      image: host\n", ""),
    );
    let said = text(&output);
    assert!(!output.status.success());
    let wanted = "admission webhook \"validation.webhook.pipeline.tekton.dev\" denied the request: validation failed: missing field(s): spec.steps[0].Image";
    assert!(said.contains(wanted), "{said}");
}
