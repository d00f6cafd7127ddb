//! Masking: whole steps whose secrets stand in variables and mounted files, and what of them reaches the log.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// This crate's own build, or, where the cli's tests include this file, the one that is shipped.
const PROGRAM: &str = match (
    option_env!("TEKTITE_ENTRYPOINT"),
    option_env!("CARGO_BIN_EXE_entrypoint"),
) {
    (Some(program), _) | (None, Some(program)) => program,
    (None, None) => panic!("cargo builds the program before its tests"),
};

struct Step {
    dir: tempfile::TempDir,
}

impl Step {
    fn new() -> Step {
        let dir = tempfile::tempdir().unwrap();
        // As the kubelet lays a Secret out.
        let data = dir.path().join("secret/..2026_11_21");
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("password"), "swordfish-16-chips\n").unwrap();
        fs::write(
            data.join("key"),
            "-----BEGIN-----\nMIIEpAIBAAKCAQEA\n-----END-----\n",
        )
        .unwrap();
        symlink("..2026_11_21", dir.path().join("secret/..data")).unwrap();
        for key in ["password", "key"] {
            let target = Path::new("..data").join(key);
            symlink(target, dir.path().join("secret").join(key)).unwrap();
        }
        Step { dir }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn command(&self, flags: &[&str], script: &str) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .arg("-tekton_root")
            .arg(self.dir.path())
            .arg("-post_file")
            .arg(self.path("out"))
            .arg("-termination_path")
            .arg(self.path("termination"))
            .arg("-step_metadata_dir")
            .arg(self.path("status"))
            .arg("-mask_file")
            .arg(self.path("secret"))
            .args(["-mask_file", "/nowhere/token", "-mask_env", "TOKEN"])
            .args(flags)
            .args(["-entrypoint", "/bin/sh", "--", "-c", script])
            .env("TOKEN", "t0ken-in-a-variable")
            .env("PLAIN", "no-secret-at-all")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, flags: &[&str], script: &str) -> Output {
        self.command(flags, script).output().unwrap()
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn secrets_of_variables_and_files_are_stars_in_both_streams() {
    let step = Step::new();
    let out = step.run(
        &[],
        "echo $TOKEN $PLAIN; cat secret/password >&2; sed -n 2p secret/key; exit 3"
            .replace("secret/", &format!("{}/", step.path("secret").display()))
            .as_str(),
    );
    assert_eq!(out.status.code(), Some(3));
    assert_eq!(text(&out.stdout), "*** no-secret-at-all\n***\n");
    assert_eq!(text(&out.stderr), "***\n");
}

#[test]
fn a_secret_is_known_across_writes_and_in_encodings() {
    let step = Step::new();
    let out = step.run(
        &[],
        "printf t0ken-in-; sleep .05; printf a-variable; echo; printf %s \"$TOKEN\" | base64; \
         echo \"user:$TOKEN\" | base64; echo $TOKEN | base64",
    );
    let lines: Vec<String> = text(&out.stdout).lines().map(str::to_owned).collect();
    assert_eq!(lines[..2], ["***", "***"], "{lines:?}");
    for line in &lines[2..] {
        assert!(line.contains("***") && line.len() < 16, "{lines:?}");
    }
    assert_eq!(lines.len(), 4);
}

#[test]
fn one_file_for_both_streams_keeps_their_order() {
    let step = Step::new();
    let log = fs::File::create(step.path("log")).unwrap();
    let script = "for i in 1 2 3 4 5 6 7 8 9; do echo out $i; echo err $i $TOKEN >&2; done";
    let status = step
        .command(&[], script)
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .status();
    assert!(status.unwrap().success());
    let expected: String = (1..10).map(|i| format!("out {i}\nerr {i} ***\n")).collect();
    assert_eq!(step.read("log"), expected);
}

#[test]
fn only_the_log_is_masked() {
    // T-290: stdoutConfig's file is a result, not a log.
    let step = Step::new();
    let copy = step.path("copy");
    let result = step.path("results/r");
    fs::create_dir_all(step.path("results")).unwrap();
    let script = format!("echo $TOKEN; printf %s $TOKEN > {}", result.display());
    let flags = ["-stdout_path", copy.to_str().unwrap(), "-results", "r"];
    let out = step.run(&flags, &script);
    assert_eq!(text(&out.stdout), "***\n");
    assert_eq!(step.read("copy"), "t0ken-in-a-variable\n");
    assert!(step.read("termination").contains("t0ken-in-a-variable"));
}

#[test]
fn the_steps_end_is_the_end_though_a_child_keeps_the_stream() {
    let step = Step::new();
    let script =
        "sleep 1000 & echo $! > pid; echo $TOKEN; (while :; do echo spam; done) & echo $! >> pid";
    let mut command = step.command(&[], script);
    command.current_dir(step.dir.path());
    // To a file, so that nothing waits for the children.
    let log = fs::File::create(step.path("log")).unwrap();
    let status = command.stdout(log).status().unwrap();
    for pid in step.read("pid").lines() {
        let _ = Command::new("kill").args(["-9", pid]).status();
    }
    assert!(status.success());
    assert!(step.read("log").starts_with("***\n"));
}

#[test]
fn what_is_held_back_is_told_when_the_step_falls_silent_or_ends() {
    let step = Step::new();
    // `t0k` might go on as the token. The step waits until somebody has seen it.
    let script = format!(
        "printf 't0k'; while ! [ -e {} ]; do sleep .01; done; printf ' end t0ken-'",
        step.path("seen").display()
    );
    let mut child = step.command(&[], &script).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut prompt = [0; 3];
    stdout.read_exact(&mut prompt).unwrap();
    assert_eq!(&prompt, b"t0k");
    fs::write(step.path("seen"), "").unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, " end t0ken-");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_step_whose_reader_is_gone_is_told_so_by_its_next_write() {
    let step = Step::new();
    let script = "trap '' TERM; while echo some output; do :; done";
    let mut child = step.command(&[], script).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 4]).unwrap();
    drop(stdout);
    // Ended by SIGPIPE, as without masking.
    assert_eq!(child.wait().unwrap().code(), Some(255));
}

#[test]
fn a_deadline_holds_though_nobody_reads() {
    let step = Step::new();
    let child = step
        .command(
            &["-timeout", "300ms"],
            "while :; do echo $TOKEN and more; done",
        )
        .spawn()
        .unwrap();
    // Until the container is given up, too, nothing is read.
    let path = step.path("out.err");
    let start = std::time::Instant::now();
    while !path.exists() {
        assert!(start.elapsed().as_secs() < 60, "the step goes on");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    let printed = text(&out.stdout);
    assert!(printed.starts_with("*** and more\n") && !printed.contains("t0ken"));
}

#[test]
fn much_output_passes_whole() {
    let step = Step::new();
    let script =
        "i=0; while [ $i -lt 200 ]; do head -c 100000 /dev/zero; echo $TOKEN; i=$((i+1)); done";
    let out = step.run(&[], script);
    assert_eq!(out.stdout.len(), 200 * 100_004);
    assert!(
        out.stdout
            .chunks(100_004)
            .all(|chunk| chunk.ends_with(b"\0***\n"))
    );
}

#[test]
fn the_entrypoints_own_words_are_masked() {
    let step = Step::new();
    let mut command = Command::new(PROGRAM);
    command
        .args(["-mask_env", "TOKEN", "-tekton_root"])
        .arg(step.dir.path());
    command
        .arg("-termination_path")
        .arg(step.path("termination"));
    command.arg("-step_metadata_dir").arg(step.path("status"));
    command.args(["-entrypoint", "t0ken-in-a-variable", "--"]);
    let out = command
        .env("TOKEN", "t0ken-in-a-variable")
        .output()
        .unwrap();
    let said = text(&out.stderr);
    assert!(
        said.contains("exec: \"***\": executable file not found"),
        "{said}"
    );
}
