//! Whole steps: the real program in directories that stand for a pod's volumes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use base64_lite::encode;

/// Base64 for the tests, so that they do not trust what they test.
mod base64_lite {
    pub fn encode(bytes: &[u8]) -> String {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut out = String::new();
        for chunk in bytes.chunks(3) {
            let bits = chunk
                .iter()
                .fold(0u32, |bits, &byte| bits << 8 | u32::from(byte))
                << (8 * (3 - chunk.len()));
            for at in 0..4 {
                let digit = ALPHABET[(bits >> (18 - 6 * at) & 63) as usize] as char;
                out.push(if at <= chunk.len() { digit } else { '=' });
            }
        }
        out
    }
}

/// This crate's own build, or, where the cli's tests include this file, the one that is shipped.
const PROGRAM: &str = match (
    option_env!("TEKTITE_ENTRYPOINT"),
    option_env!("CARGO_BIN_EXE_entrypoint"),
) {
    (Some(program), _) | (None, Some(program)) => program,
    (None, None) => panic!("cargo builds the program before its tests"),
};

struct Pod {
    dir: tempfile::TempDir,
}

impl Pod {
    fn new() -> Pod {
        let dir = tempfile::tempdir().unwrap();
        for made in [
            "run/0", "run/1", "results", "scripts", "steps", "downward", "home",
        ] {
            fs::create_dir_all(dir.path().join(made)).unwrap();
        }
        fs::write(dir.path().join("termination"), "").unwrap();
        Pod { dir }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// Step 0 with the flags every step has, running a shell command.
    fn step(&self, flags: &[&str], script: &str) -> Command {
        let mut command = self.bare(flags);
        command.args(["-entrypoint", "/bin/sh", "--", "-c", script]);
        command
    }

    fn bare(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("-tekton_root").arg(self.dir.path());
        command.arg("-post_file").arg(self.path("run/0/out"));
        command
            .arg("-termination_path")
            .arg(self.path("termination"));
        command
            .arg("-step_metadata_dir")
            .arg(self.path("run/0/status"));
        command.args(flags).env("HOME", self.path("home"));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn message(&self) -> Vec<(String, String, i64)> {
        let message: Vec<serde_json::Value> =
            serde_json::from_str(&self.read("termination")).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        message
            .iter()
            .map(|entry| {
                (
                    text(&entry["key"]),
                    text(&entry["value"]),
                    entry["type"].as_i64().unwrap(),
                )
            })
            .collect()
    }

    /// The internal entries but the time of the start.
    fn internal(&self) -> Vec<(String, String)> {
        let message = self.message();
        assert!(
            message
                .iter()
                .any(|(key, value, kind)| key == "StartedAt" && *kind == 3 && value.ends_with('Z'))
        );
        let internal = message
            .into_iter()
            .filter(|(key, _, kind)| *kind == 3 && key != "StartedAt");
        internal.map(|(key, value, _)| (key, value)).collect()
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Fails the test rather than hang it.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(30), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_running(child: &mut Child) -> bool {
    child.try_wait().unwrap().is_none()
}

#[test]
fn a_step_ends_with_its_commands_code_and_files_that_say_so() {
    struct Case {
        flags: &'static [&'static str],
        script: &'static str,
        code: i32,
        post_file: &'static str,
        exit_code: Option<&'static str>,
        internal: &'static [(&'static str, &'static str)],
    }
    let cases = [
        // T-240, T-281, T-283, T-284
        Case {
            flags: &[],
            script: "exit 0",
            code: 0,
            post_file: "out",
            exit_code: Some("0"),
            internal: &[],
        },
        // T-283, T-284, T-286
        Case {
            flags: &[],
            script: "exit 7",
            code: 7,
            post_file: "out.err",
            exit_code: None,
            internal: &[],
        },
        // T-286
        Case {
            flags: &[],
            script: "kill -9 $$",
            code: 255,
            post_file: "out.err",
            exit_code: None,
            internal: &[],
        },
        // T-284, T-289, T-302
        Case {
            flags: &["-on_error", "continue"],
            script: "exit 7",
            code: 0,
            post_file: "out",
            exit_code: Some("7"),
            internal: &[("ExitCode", "7")],
        },
        Case {
            flags: &["-on_error", "stopAndFail"],
            script: "exit 7",
            code: 7,
            post_file: "out.err",
            exit_code: None,
            internal: &[],
        },
        // T-241, T-287: onError does not cover a timeout.
        Case {
            flags: &["-timeout", "50ms", "-on_error", "continue"],
            script: "exec sleep 100",
            code: 1,
            post_file: "out.err",
            exit_code: None,
            internal: &[("Reason", "TimeoutExceeded")],
        },
        Case {
            flags: &["-timeout", "0s"],
            script: "exit 0",
            code: 0,
            post_file: "out",
            exit_code: Some("0"),
            internal: &[],
        },
        Case {
            flags: &["-timeout", "-1s"],
            script: "exit 0",
            code: 1,
            post_file: "out.err",
            exit_code: None,
            internal: &[],
        },
        // T-295
        Case {
            flags: &[
                "--when_expressions",
                r#"[{"input":"a","operator":"in","values":["b"]}]"#,
            ],
            script: "exit 3",
            code: 0,
            post_file: "out",
            exit_code: Some("0"),
            internal: &[("Reason", "Skipped")],
        },
        Case {
            flags: &[
                "--when_expressions",
                r#"[{"input":"a","operator":"in","values":["a"]}]"#,
            ],
            script: "exit 3",
            code: 3,
            post_file: "out.err",
            exit_code: None,
            internal: &[],
        },
    ];
    for case in cases {
        let pod = Pod::new();
        let output = pod.step(case.flags, case.script).output().unwrap();
        let told = (case.flags, case.script, stderr(&output));
        assert_eq!(code(&output), case.code, "{told:?}");
        let other = if case.post_file == "out" {
            "out.err"
        } else {
            "out"
        };
        assert_eq!(
            pod.read(&format!("run/0/{}", case.post_file)),
            "",
            "{told:?}"
        );
        assert!(!pod.exists(&format!("run/0/{other}")), "{told:?}");
        let written = fs::read_to_string(pod.path("run/0/status/exitCode")).ok();
        assert_eq!(written.as_deref(), case.exit_code, "{told:?}");
        let internal: Vec<_> = case
            .internal
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(pod.internal(), internal, "{told:?}");
        assert!(
            pod.path("run/0/status/results").is_dir()
                && pod.path("run/0/status/artifacts").is_dir()
        );
    }
}

#[test]
fn a_command_that_cannot_be_started_fails_whatever_on_error_says() {
    // T-289
    for (program, text) in [
        (
            "no-such-command",
            "exec: \"no-such-command\": executable file not found in $PATH",
        ),
        ("/no/such", "fork/exec /no/such: no such file or directory"),
        ("/etc/passwd", "fork/exec /etc/passwd: permission denied"),
    ] {
        let pod = Pod::new();
        let output = pod
            .bare(&["-on_error", "continue", "-entrypoint", program])
            .output()
            .unwrap();
        assert_eq!(code(&output), 1);
        assert!(
            stderr(&output).contains(&format!("Error executing command: {text}")),
            "{}",
            stderr(&output)
        );
        assert!(pod.exists("run/0/out.err") && !pod.exists("run/0/out"));
    }
}

#[test]
fn a_step_waits_for_the_one_before_and_falls_with_it() {
    // T-240, T-282
    for (file, code_expected) in [("run/1/out", 0), ("run/1/out.err", 1)] {
        let pod = Pod::new();
        let wait = pod.path("run/1/out");
        let mut child = pod
            .step(&["-wait_file", wait.to_str().unwrap()], "echo ran")
            .spawn()
            .unwrap();
        until("the step prepared its directories", || {
            pod.exists("run/0/status/artifacts")
        });
        assert!(is_running(&mut child) && !pod.exists("run/0/out"));
        fs::write(pod.path(file), "").unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(code(&output), code_expected);
        if code_expected == 1 {
            assert!(stderr(&output).contains("Skipping step because a previous step failed"));
            assert!(pod.exists("run/0/out.err") && output.stdout.is_empty());
            assert_eq!(pod.internal(), [("Reason".into(), "Skipped".into())]);
        } else {
            assert_eq!(output.stdout, b"ran\n");
        }
    }
}

#[test]
fn the_ready_file_must_have_content_and_may_be_swapped_through_a_link() {
    // T-240, K-304
    let pod = Pod::new();
    let downward = pod.path("downward");
    let version = |name: &str, content: &str| {
        fs::create_dir(downward.join(name)).unwrap();
        fs::write(downward.join(name).join("ready"), content).unwrap();
    };
    version("..1", "");
    std::os::unix::fs::symlink("..1", downward.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/ready", downward.join("ready")).unwrap();
    let wait = downward.join("ready");
    let mut child = pod
        .step(
            &["-wait_file", wait.to_str().unwrap(), "-wait_file_content"],
            "exit 0",
        )
        .spawn()
        .unwrap();
    until("the step prepared its directories", || {
        pod.exists("run/0/status/artifacts")
    });
    assert!(is_running(&mut child));
    version("..2", "READY");
    std::os::unix::fs::symlink("..2", downward.join("..new")).unwrap();
    fs::rename(downward.join("..new"), downward.join("..data")).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn cancellation_kills_the_child_and_says_so() {
    // T-284, T-288
    let pod = Pod::new();
    let started = pod.path("started");
    let child = pod
        .step(
            &["-on_error", "continue"],
            &format!("touch {}; exec sleep 100", started.display()),
        )
        .spawn()
        .unwrap();
    until("the command started", || started.exists());
    fs::write(pod.path("downward/cancel"), "CANCEL").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 9);
    assert!(stderr(&output).contains("Step was cancelled"));
    assert!(pod.exists("run/0/out.err"));
    assert_eq!(pod.read("run/0/status/exitCode"), "killed");
    assert_eq!(pod.internal(), [("Reason".into(), "Cancelled".into())]);
}

#[test]
fn signals_reach_the_whole_process_group() {
    // T-285
    let pod = Pod::new();
    let script = format!(
        "cd {}; trap 'touch outer; wait; exit 5' TERM; \
         (trap 'touch inner; exit 0' TERM; touch ready; while :; do sleep 0.05; done) & \
         while :; do sleep 0.05; done",
        pod.dir.path().display()
    );
    let child = pod.step(&[], &script).spawn().unwrap();
    until("both shells listen", || pod.exists("ready"));
    Command::new("kill")
        .arg("-TERM")
        .arg(child.id().to_string())
        .status()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 5, "{}", stderr(&output));
    assert!(pod.exists("inner") && pod.exists("outer"));
}

#[test]
fn results_are_reported_verbatim_and_absent_ones_left_out() {
    // T-243, T-301, T-307
    let pod = Pod::new();
    let script = format!(
        "printf ' <a>\\n' > {0}/results/one; printf '[\"x\"]' > {0}/run/0/status/results/two",
        pod.dir.path().display()
    );
    let output = pod
        .step(
            &["-results", "one,missing", "-step_results", "two"],
            &script,
        )
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let message = pod.message();
    assert_eq!(
        message[..2],
        [
            ("one".into(), " <a>\n".into(), 1),
            ("two".into(), "[\"x\"]".into(), 4)
        ]
    );
    assert_eq!(message[2].0, "StartedAt");
    let pod = Pod::new();
    assert_eq!(
        code(&pod.step(&["-results", ""], "exit 0").output().unwrap()),
        0
    );
}

#[test]
fn an_oversized_result_fails_the_step_after_the_next_one_was_released() {
    // T-292, T-304
    let pod = Pod::new();
    let script = format!(
        "head -c 5000 /dev/zero | tr '\\0' x > {}/results/big",
        pod.dir.path().display()
    );
    let output = pod.step(&["-results", "big"], &script).output().unwrap();
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains(
        "Termination message is above max allowed size 4096, caused by large task result."
    ));
    assert!(pod.exists("run/0/out") && !pod.exists("run/0/out.err"));
    assert_eq!(pod.message().len(), 1, "only the time of the start");
    // T-245, T-305: the same fits when compressed.
    let pod = Pod::new();
    let script = format!(
        "head -c 5000 /dev/zero | tr '\\0' x > {}/results/big",
        pod.dir.path().display()
    );
    let output = pod
        .step(
            &["-results", "big", "-compress_termination_message=true"],
            &script,
        )
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(pod.read("termination").starts_with("tknz:"));
}

#[test]
fn with_sidecar_logs_results_stay_out_of_the_message() {
    // T-321
    let pod = Pod::new();
    let root = pod.dir.path().display();
    let script = format!("echo v > {root}/results/one; echo v > {root}/run/0/status/results/two");
    let results = ["-results", "one", "-step_results", "two"];
    let flags = |from| {
        [
            &results[..],
            &["-result_from", from, "-on_error", "continue"],
        ]
        .concat()
    };
    let failing = format!("{script}; exit 3");
    pod.step(&flags("sidecar-logs"), &failing).output().unwrap();
    assert_eq!(pod.internal(), [("ExitCode".to_owned(), "3".to_owned())]);
    assert_eq!(pod.message().len(), 2, "{:?}", pod.message());
    let pod = Pod::new();
    let script = script.replace(&root.to_string(), &pod.dir.path().display().to_string());
    pod.step(&flags("termination-message"), &script)
        .output()
        .unwrap();
    assert_eq!(pod.message().len(), 3, "{:?}", pod.message());
}

#[test]
fn provenance_files_are_reported_by_their_paths() {
    // T-298
    let pod = Pod::new();
    let script = format!(
        "cd {}; mkdir -p artifacts; printf '{{}}' > artifacts/provenance.json; printf '[]' > run/0/status/artifacts/provenance.json",
        pod.dir.path().display()
    );
    pod.step(&[], &script).output().unwrap();
    let message = pod.message();
    let path = |path: &str| pod.path(path).to_str().unwrap().to_owned();
    assert!(
        message.contains(&(
            path("run/0/status/artifacts/provenance.json"),
            "[]".into(),
            5
        )),
        "{message:?}"
    );
    assert!(
        message.contains(&(path("artifacts/provenance.json"), "{}".into(), 6)),
        "{message:?}"
    );
}

#[test]
fn step_results_are_put_into_arguments_and_environment() {
    // T-293, T-294
    let pod = Pod::new();
    fs::create_dir_all(pod.path("steps/step-a/results")).unwrap();
    fs::write(pod.path("steps/step-a/results/l"), r#"["x","y"]"#).unwrap();
    fs::write(pod.path("steps/step-a/results/s"), "text").unwrap();
    let mut command = pod.bare(&["-entrypoint", "/bin/sh"]);
    command.env("E", "$(steps.a.results.s)");
    command.args([
        "--",
        "-c",
        "echo $E $0 $@",
        "$(steps.a.results.l[*])",
        "$(steps.a.results.s)",
    ]);
    assert_eq!(command.output().unwrap().stdout, b"text x y text\n");
    let mut command = pod.bare(&["-entrypoint", "/bin/echo"]);
    command.args(["--", "$(steps.a.results.missing)"]);
    let output = command.output().unwrap();
    assert_eq!(output.stdout, b"$(steps.a.results.missing)\n");
    assert!(stderr(&output).contains("Error while substituting step results:"));
}

#[test]
fn output_is_copied_to_files() {
    // T-290
    let pod = Pod::new();
    let both = pod.path("logs/both");
    fs::create_dir(pod.path("logs")).unwrap();
    fs::write(&both, "before\n").unwrap();
    let both = both.to_str().unwrap();
    let out = pod
        .step(
            &["-stdout_path", both, "-stderr_path", both],
            "echo out; echo err >&2; exit 4",
        )
        .output()
        .unwrap();
    assert_eq!(
        (code(&out), &out.stdout[..], &out.stderr[..]),
        (4, &b"out\n"[..], &b"err\n"[..])
    );
    let text = pod.read("logs/both");
    assert!(
        text.starts_with("before\n") && text.contains("out\n") && text.contains("err\n"),
        "{text}"
    );
    let pod = Pod::new();
    let deep = pod.path("a/b/c");
    let big = pod
        .step(
            &["-stdout_path", deep.to_str().unwrap()],
            "head -c 1000000 /dev/zero",
        )
        .output()
        .unwrap();
    assert_eq!(
        (big.stdout.len(), fs::metadata(deep).unwrap().len()),
        (1_000_000, 1_000_000)
    );
}

#[test]
fn a_script_from_the_environment_is_run_and_not_passed_on() {
    let pod = Pod::new();
    let script = pod.path("scripts/script-0-abcde");
    let text = "#!/bin/sh\nset -e\necho \"$1 $(env | grep -c TEKTON_INTERNAL_SCRIPT)\"\n";
    let encoded = encode(text.as_bytes());
    let (first, second) = encoded.split_at(20);
    let script_path = script.to_str().unwrap();
    let mut command = pod.bare(&["-script_file", script_path, "-entrypoint", script_path]);
    command
        .env("TEKTON_INTERNAL_SCRIPT", first)
        .env("TEKTON_INTERNAL_SCRIPT_1", second)
        .args(["--", "arg"]);
    let output = command.output().unwrap();
    assert_eq!(output.stdout, b"arg 0\n", "{}", stderr(&output));
    assert_eq!(
        fs::metadata(&script).unwrap().permissions().mode() & 0o777,
        0o755
    );
    // A sidecar's script replaces the entrypoint altogether.
    let mut command = pod.bare(&[
        "-exec",
        "-script_file",
        script_path,
        "-entrypoint",
        script_path,
    ]);
    let output = command
        .env("TEKTON_INTERNAL_SCRIPT", &encoded)
        .args(["--", "side"])
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"side 0\n");
}

#[test]
fn a_failed_step_with_a_breakpoint_waits_for_a_decision() {
    // T-331, T-332, T-335
    for (script, exit, post_file) in [
        ("debug-continue", 0, "out"),
        ("debug-fail-continue", 1, "out.err"),
    ] {
        let pod = Pod::new();
        fs::create_dir_all(pod.path("debug/info/0")).unwrap();
        let child = pod
            .step(
                &[
                    "-breakpoint_on_failure",
                    "-on_error",
                    "continue",
                    "-debug_scripts",
                    "2",
                ],
                "exit 7",
            )
            .spawn()
            .unwrap();
        until("the step failed", || {
            pod.exists("termination") && pod.read("termination").contains("StartedAt")
        });
        assert!(!pod.exists("run/0/out") && !pod.exists("run/0/out.err"));
        let decided = Command::new(pod.path(&format!("debug/scripts/{script}")))
            .output()
            .unwrap();
        assert!(decided.status.success(), "{}", stderr(&decided));
        let output = child.wait_with_output().unwrap();
        assert_eq!(code(&output), exit, "{}", stderr(&output));
        assert!(
            stderr(&output).contains(
                "debug onFailure breakpoint has taken effect, waiting for user's decision:"
            )
        );
        assert!(pod.exists(&format!("run/0/{post_file}")));
    }
}

#[test]
fn a_breakpoint_before_the_step_holds_it_until_a_decision() {
    // T-331, T-334, T-335
    for (script, exit) in [
        ("debug-beforestep-continue", 0),
        ("debug-beforestep-fail-continue", 1),
    ] {
        let pod = Pod::new();
        fs::create_dir_all(pod.path("debug/info/0")).unwrap();
        let mut child = pod
            .step(&["-debug_before_step", "-debug_scripts", "1"], "echo ran")
            .spawn()
            .unwrap();
        until("the step prepared its directories", || {
            pod.exists("run/0/status/artifacts")
        });
        assert!(is_running(&mut child));
        assert!(
            Command::new(pod.path(&format!("debug/scripts/{script}")))
                .output()
                .unwrap()
                .status
                .success()
        );
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            (code(&output), output.stdout == b"ran\n"),
            (exit, exit == 0)
        );
        assert_eq!(pod.exists("run/0/out.err"), exit == 1);
    }
}

#[test]
fn a_waiting_step_with_a_breakpoint_runs_though_the_one_before_failed() {
    // T-333
    let pod = Pod::new();
    fs::write(pod.path("run/1/out.err"), "").unwrap();
    let wait = pod.path("run/1/out");
    let output = pod
        .step(
            &[
                "-wait_file",
                wait.to_str().unwrap(),
                "-breakpoint_on_failure",
            ],
            "echo ran",
        )
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"ran\n");
}

#[test]
fn the_images_own_command_is_chosen_by_platform() {
    // T-244, T-264
    let pod = Pod::new();
    let mut command = pod.bare(&[]);
    command
        .env(
            "TEKTON_PLATFORM_COMMANDS",
            r#"{"linux/amd64":["echo","a"],"linux/arm64":["echo","a"]}"#,
        )
        .args(["--", "b"]);
    assert_eq!(command.output().unwrap().stdout, b"a b\n");
    let output = pod
        .bare(&[])
        .env("TEKTON_PLATFORM_COMMANDS", "{}")
        .output()
        .unwrap();
    assert!(code(&output) == 1 && stderr(&output).contains("could not find command for platform"));
}

#[test]
fn arguments_after_the_separator_are_never_flags() {
    // T-272
    let pod = Pod::new();
    let output = pod
        .bare(&["-entrypoint", "/bin/echo", "--", "-wait_file", "--", "x"])
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"-wait_file -- x\n");
}

#[test]
fn a_hermetic_step_sees_no_network() {
    // T-291
    let pod = Pod::new();
    let mut command = pod.step(&[], "cat /proc/net/dev; id -u; exit 3");
    let output = command.env("TEKTON_HERMETIC", "1").output().unwrap();
    if stderr(&output).contains("operation not permitted") {
        eprintln!("skipped: this machine does not allow user namespaces");
        return;
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    let interfaces: Vec<&str> = text
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0.trim()))
        .collect();
    assert_eq!(interfaces, ["lo"], "{text}");
}

#[test]
fn subcommands_prepare_the_pod() {
    // T-225, T-226, T-227, T-255, T-270, T-271
    let pod = Pod::new();
    let program = Path::new(PROGRAM);
    let copy = pod.path("bin");
    let run = |arguments: &[&str]| {
        Command::new(program)
            .args([
                "-tekton_root",
                pod.dir.path().to_str().unwrap(),
                "-working_dirs",
                "rel/dir,/elsewhere/dir",
            ])
            .args(arguments)
            .env(
                "TEKTON_INTERNAL_SCRIPTS",
                format!(
                    r#"{{"{}":"ZWNobyBoaQo="}}"#,
                    pod.path("scripts/s").display()
                ),
            )
            .current_dir(pod.dir.path())
            .output()
            .unwrap()
    };
    let copy_text = copy.to_str().unwrap();
    let output = run(&[
        "init",
        program.to_str().unwrap(),
        copy_text,
        "step-a",
        "step-b",
    ]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stderr(&output).contains("Entrypoint initialization"));
    assert_eq!(
        fs::metadata(&copy).unwrap().permissions().mode() & 0o777,
        0o311
    );
    assert_eq!(
        fs::metadata(&copy).unwrap().len(),
        fs::metadata(program).unwrap().len()
    );
    assert_eq!(
        fs::read_link(pod.path("steps/step-b")).unwrap(),
        pod.path("run/1/status")
    );
    assert_eq!(pod.read("scripts/s"), "echo hi\n");
    assert!(pod.path("rel/dir").is_dir() && !Path::new("/elsewhere").exists());

    let script = pod.path("script");
    fs::write(&script, "ZWNobyBoaQo=\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    let output = run(&["decode-script", script.to_str().unwrap()]);
    assert!(
        stderr(&output).contains("Decoded script"),
        "{}",
        stderr(&output)
    );
    assert_eq!(
        (
            pod.read("script").as_str(),
            fs::metadata(&script).unwrap().permissions().mode() & 0o777
        ),
        ("echo hi\n", 0o700)
    );

    let output = run(&["cp", "/no/such", copy_text]);
    assert!(
        code(&output) == 1 && stderr(&output).contains("cp error: "),
        "{}",
        stderr(&output)
    );
    // A wrong number of arguments is no subcommand: the program goes on to find it has no command.
    assert_eq!(code(&run(&["cp", "only-one"])), 1);
}

#[test]
fn results_for_a_sidecars_log_are_printed_when_the_steps_are_done() {
    // T-315, T-317
    let pod = Pod::new();
    fs::create_dir_all(pod.path("steps/step-a/results")).unwrap();
    fs::create_dir_all(pod.path("steps/step-a/artifacts")).unwrap();
    fs::write(pod.path("steps/step-a/results/r"), "s").unwrap();
    fs::write(pod.path("results/one"), "v").unwrap();
    let program = pod.path("sidecarlogresults");
    std::os::unix::fs::symlink(PROGRAM, &program).unwrap();
    let mut child = Command::new(&program)
        .args([
            "-tekton_root",
            pod.dir.path().to_str().unwrap(),
            "-results-dir",
            pod.path("results").to_str().unwrap(),
        ])
        .args([
            "-result-names",
            "one,none",
            "-step-names",
            "step-a",
            "-step-results",
            r#"{"step-a":["r"]}"#,
        ])
        .env("SIDECAR_LOG_POLLING_INTERVAL", "5ms")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    fs::write(pod.path("run/0/out"), "").unwrap();
    std::thread::sleep(Duration::from_millis(30));
    assert!(is_running(&mut child), "one step is still at work");
    fs::write(pod.path("run/1/out.err"), "").unwrap();
    let output = child.wait_with_output().unwrap();
    let expected = "{\"name\":\"one\",\"value\":\"v\",\"type\":\"task\"}\n{\"name\":\"step-a.r\",\"value\":\"s\",\"type\":\"step\"}\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

#[test]
fn the_nop_program_ends_at_once_or_when_told() {
    // T-328
    let pod = Pod::new();
    let nop = pod.path("nop");
    std::os::unix::fs::symlink(PROGRAM, &nop).unwrap();
    assert_eq!(code(&Command::new(&nop).output().unwrap()), 0);
    let mut child = Command::new(&nop)
        .arg("tekton_run_indefinitely")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0u8; 20];
    std::io::Read::read_exact(child.stderr.as_mut().unwrap(), &mut line).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    assert!(is_running(&mut child));
    Command::new("kill")
        .arg("-TERM")
        .arg(child.id().to_string())
        .status()
        .unwrap();
    assert!(child.wait().unwrap().success());
}
