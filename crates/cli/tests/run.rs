//! `tektite run`: whole runs in real containers, from manifests to exit code, and what is left behind.

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use support::{BINARY, root, skip, text};

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command
        .args(arguments)
        .current_dir(root())
        .env_remove("KUBECONFIG")
        .stdin(Stdio::null());
    command
}

fn tektite(arguments: &[&str]) -> Output {
    command(arguments).output().expect("the binary starts")
}

/// The output of `tektite run` on a manifest given as text.
fn run(manifest: &str, arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("manifest.yaml");
    fs::write(&file, manifest).expect("a file");
    let mut all = vec!["run", file.to_str().expect("a path")];
    all.extend(arguments);
    tektite(&all)
}

/// One TaskRun with one step `go`.
fn task_run(script: &str, extra_spec: &str) -> String {
    format!(
        "apiVersion: tekton.dev/v1\nkind: TaskRun\nmetadata: {{name: probe}}\nspec:\n  {extra_spec}\n  taskSpec:\n    steps:\n    - name: go\n      image: host\n      script: |\n        {script}\n"
    )
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn can_run(test: &str) -> bool {
    let probe = run(&task_run("true", ""), &[]);
    if probe.status.code() == Some(3) {
        skip(test, String::from_utf8_lossy(&probe.stderr).trim());
        return false;
    }
    true
}

#[test]
fn hello_succeeds_in_both_versions() {
    if !can_run("hello_succeeds_in_both_versions") {
        return;
    }
    for example in ["examples/hello", "examples/hello-v1beta1"] {
        let output = tektite(&["run", example]);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{example}: {}",
            text(&output)
        );
        let printed = out(&output);
        assert!(
            printed
                .lines()
                .any(|line| line.starts_with('[') && line.contains(" : ")),
            "{example}: {printed}"
        );
        assert!(printed.contains("succeeded in"), "{example}: {printed}");
        assert!(
            !printed.contains('\x1b'),
            "no colours into a pipe: {printed}"
        );
    }
}

#[test]
fn clone_test_build_passes_results_and_its_failing_variant_says_where() {
    if !can_run("clone_test_build_passes_results_and_its_failing_variant_says_where") {
        return;
    }
    if !support::has("git") || !support::has("cc") {
        skip(
            "clone_test_build_passes_results_and_its_failing_variant_says_where",
            "git or cc is missing",
        );
        return;
    }
    let output = tektite(&["run", "examples/clone-test-build"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let printed = out(&output);
    assert!(printed.contains("The answer is 42."), "{printed}");
    assert!(
        printed.contains("Results") && printed.contains("artifacts/app-"),
        "{printed}"
    );

    let output = tektite(&["run", "examples/clone-test-build-failing"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let printed = out(&output);
    assert!(
        printed.contains("failed at step test with exit code 1"),
        "{printed}"
    );
    assert!(
        printed.contains("last lines of its log:") && printed.contains("not ok: answer"),
        "{printed}"
    );
    assert!(
        printed
            .lines()
            .any(|line| line.trim_start().starts_with("report") && line.contains("succeeded")),
        "finally ran: {printed}"
    );
}

#[test]
fn fan_out_and_release_succeed() {
    if !can_run("fan_out_and_release_succeed") {
        return;
    }
    for example in ["examples/fan-out", "examples/release"] {
        let output = tektite(&["run", example]);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{example}: {}",
            text(&output)
        );
    }
}

#[test]
fn final_objects_go_to_standard_output_and_logs_to_standard_error() {
    if !can_run("final_objects_go_to_standard_output_and_logs_to_standard_error") {
        return;
    }
    let output = tektite(&["run", "examples/hello", "-o", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let list: Value = serde_json::from_slice(&output.stdout).expect("JSON alone");
    assert_eq!(list["kind"], "List");
    let run = &list["items"][0];
    assert_eq!(run["status"]["conditions"][0]["status"], "True", "{run}");
    assert!(
        run["kind"]
            .as_str()
            .is_some_and(|kind| kind.ends_with("Run")),
        "{run}"
    );
    assert!(
        String::from_utf8_lossy(&output.stderr).contains(" : "),
        "{}",
        text(&output)
    );
    let yaml = tektite(&["run", "examples/hello", "-o", "yaml"]);
    assert!(
        out(&yaml).starts_with("apiVersion: v1\n"),
        "{}",
        text(&yaml)
    );
}

#[test]
fn params_and_workspaces_reach_a_task_that_is_started_by_itself() {
    if !can_run("params_and_workspaces_reach_a_task_that_is_started_by_itself") {
        return;
    }
    let shared = tempfile::tempdir().expect("a directory");
    fs::write(shared.path().join("in.txt"), "from outside\n").expect("a file");
    let manifest = "apiVersion: tekton.dev/v1\nkind: Task\nmetadata: {name: mix}\nspec:\n  params:\n  - name: who\n  - {name: list, type: array}\n  workspaces:\n  - name: files\n  - name: scratch\n  steps:\n  - name: go\n    image: host\n    args: [\"$(params.list[*])\"]\n    script: |\n      #!/bin/sh\n      echo \"who=$(params.who) list=$*\"\n      cat $(workspaces.files.path)/in.txt\n      echo back > $(workspaces.files.path)/out.txt\n      touch $(workspaces.scratch.path)/x\n";
    let directory = format!("files=dir={}", shared.path().display());
    let output = run(
        manifest,
        &[
            "-p",
            "who=me",
            "--param",
            "list=a,b",
            "-w",
            &directory,
            "--workspace",
            "scratch=emptyDir",
        ],
    );
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let printed = out(&output);
    assert!(
        printed.contains("[mix : go] who=me list=a b")
            && printed.contains("[mix : go] from outside"),
        "{printed}"
    );
    assert_eq!(
        fs::read_to_string(shared.path().join("out.txt")).expect("written by the step"),
        "back\n"
    );
}

/// Failures end with Tekton's reason, exit 1, and advice.
#[test]
fn failures_carry_tektons_reason_and_say_what_to_do() {
    if !can_run("failures_carry_tektons_reason_and_say_what_to_do") {
        return;
    }
    let secret = "apiVersion: tekton.dev/v1\nkind: TaskRun\nmetadata: {name: probe}\nspec:\n  taskSpec:\n    steps:\n    - name: go\n      image: host\n      script: echo\n      env:\n      - name: X\n        valueFrom: {secretKeyRef: {name: nowhere, key: x}}\n";
    let image = "apiVersion: tekton.dev/v1\nkind: TaskRun\nmetadata: {name: probe}\nspec:\n  taskSpec:\n    steps:\n    - name: go\n      image: localhost:1/nothing:here\n      script: echo\n";
    let cases = [
        (
            "exit code",
            task_run("echo before; exit 7", ""),
            &["failed at step go with exit code 7", "Failed: ", "before"][..],
        ),
        (
            "command",
            task_run("no-such-command", ""),
            &["exit code 127", "what to do: "],
        ),
        (
            "timeout",
            task_run("sleep 60", "timeout: 1s"),
            &["TaskRunTimeout", "what to do: "],
        ),
        (
            "secret",
            secret.to_owned(),
            &["CreateContainerConfigError", "what to do: "],
        ),
        (
            "image",
            image.to_owned(),
            &["TaskRunImagePullFailed", "what to do: "],
        ),
    ];
    for (name, manifest, parts) in cases {
        let output = run(&manifest, &[]);
        assert_eq!(output.status.code(), Some(1), "{name}: {}", text(&output));
        for part in parts {
            assert!(
                out(&output).contains(part),
                "{name}: no {part:?} in\n{}",
                text(&output)
            );
        }
    }
}

#[test]
fn a_step_that_takes_too_much_memory_is_told_so() {
    if !can_run("a_step_that_takes_too_much_memory_is_told_so") {
        return;
    }
    let manifest = "apiVersion: tekton.dev/v1\nkind: TaskRun\nmetadata: {name: probe}\nspec:\n  taskSpec:\n    steps:\n    - name: go\n      image: host\n      computeResources: {limits: {memory: 32Mi}}\n      script: |\n        #!/bin/sh\n        x=0123456789abcdef; while true; do x=$x$x; done\n";
    let output = run(manifest, &[]);
    let printed = text(&output);
    if printed.contains("memory limits") && printed.contains("warning") {
        skip(
            "a_step_that_takes_too_much_memory_is_told_so",
            "this machine cannot limit memory",
        );
        return;
    }
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(
        printed.contains("OOM") && printed.contains("computeResources.limits.memory"),
        "{printed}"
    );
}

/// SIGINT in the middle: the run is cancelled, exit 130, nothing is left.
#[test]
fn an_interrupt_cancels_runs_and_leaves_no_container() {
    if !can_run("an_interrupt_cancels_runs_and_leaves_no_container") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("long.yaml");
    let marker = format!("tektite-test-{}", std::process::id());
    fs::write(
        &file,
        task_run(
            &format!("echo started; exec -a {marker} sleep 600 || sleep 600"),
            "",
        ),
    )
    .expect("a file");
    let mut child = command(&["run", file.to_str().expect("a path")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let started = lines
        .by_ref()
        .map_while(Result::ok)
        .any(|line| line.contains("started"));
    assert!(started, "the step starts");
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .expect("kill")
            .success()
    );
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    let status = child.wait().expect("an end");
    assert_eq!(status.code(), Some(130), "{rest:#?}");
    assert!(
        rest.iter().any(|line| line.contains("cancelled")),
        "{rest:#?}"
    );
    assert_eq!(support::processes_naming(&marker), Vec::<u32>::new());
}

/// A private cluster leaves neither mounts nor files nor processes.
#[test]
fn nothing_is_left_behind() {
    if !can_run("nothing_is_left_behind") {
        return;
    }
    let temporary = tempfile::tempdir().expect("a directory");
    let output = command(&["run", "examples/hello"])
        .env("TMPDIR", temporary.path())
        .output()
        .expect("the binary starts");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let place = temporary.path().to_string_lossy();
    assert_eq!(support::mounts_naming(&place), Vec::<String>::new());
    assert_eq!(support::processes_naming(&place), Vec::<u32>::new());
    let left: Vec<_> = fs::read_dir(temporary.path())
        .expect("the directory")
        .flatten()
        .map(|e| e.path())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// An ordinary user runs the first example.
#[test]
fn another_user_than_root_runs_hello() {
    const TEST: &str = "another_user_than_root_runs_hello";
    if !rustix::process::geteuid().is_root() {
        return hello_succeeds_in_both_versions();
    }
    if !support::has("setpriv") {
        return skip(TEST, "setpriv is missing");
    }
    // The build directory may lie where other users cannot look.
    let place = tempfile::Builder::new()
        .prefix("tektite-user")
        .tempdir_in("/var/tmp")
        .expect("a directory");
    let path = |name: &str| place.path().join(name);
    fs::copy(BINARY, path("tektite")).expect("a copy");
    fs::copy(root().join("examples/hello/hello.yaml"), path("hello.yaml")).expect("a copy");
    fs::create_dir(path("home")).expect("a home");
    let everyone = |file: &Path| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(file, fs::Permissions::from_mode(0o777)).expect("permissions");
    };
    everyone(place.path());
    everyone(&path("home"));
    let output = Command::new("setpriv")
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--inh-caps=-all",
            "--",
        ])
        .arg(path("tektite"))
        .args(["run", "hello.yaml"])
        .current_dir(place.path())
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", path("home"))
        .env("TMPDIR", path("home"))
        .stdin(Stdio::null())
        .output()
        .expect("setpriv starts");
    if output.status.code() == Some(3) {
        return skip(TEST, String::from_utf8_lossy(&output.stderr).trim());
    }
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .matches(": warning")
            .count()
            <= 1,
        "{}",
        text(&output)
    );
}

/// Runs go to the cluster that a kubeconfig names, and stay there.
#[test]
fn an_existing_cluster_is_used_and_its_runs_are_listed_described_and_logged() {
    const TEST: &str = "an_existing_cluster_is_used_and_its_runs_are_listed_described_and_logged";
    if !can_run(TEST) {
        return;
    }
    let up = support::Up::start(&[]);
    let hello = root().join("examples/hello");
    let output = up.tektite(&["run", hello.to_str().expect("a path"), "-o", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let list: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let name = list["items"][0]["metadata"]["name"]
        .as_str()
        .expect("a name")
        .to_owned();
    let listed = up.tektite(&["list"]);
    assert!(
        out(&listed).contains(&name) && out(&listed).contains("Succeeded"),
        "{}",
        text(&listed)
    );
    let described = up.tektite(&["describe", &name]);
    assert!(
        out(&described).contains("succeeded"),
        "{}",
        text(&described)
    );
    for arguments in [&["logs", &name][..], &["logs", &name, "-f"]] {
        let logs = up.tektite(arguments);
        assert_eq!(logs.status.code(), Some(0), "{}", text(&logs));
        assert!(
            out(&logs).lines().any(|line| line.contains(" : ")),
            "{}",
            text(&logs)
        );
    }
    let again = up.tektite(&["cancel", "no-such-run"]);
    assert_eq!(again.status.code(), Some(1), "{}", text(&again));
}
