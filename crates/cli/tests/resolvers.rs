//! `tektite run` on pipelines and tasks that are fetched.

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use support::{BINARY, root, skip, text};

fn run(path: &Path) -> Output {
    Command::new(BINARY)
        .arg("run")
        .arg(path)
        .current_dir(root())
        .env_remove("KUBECONFIG")
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts")
}

/// The output, unless this machine runs no containers.
fn ran(test: &str, path: &Path) -> Option<Output> {
    let output = run(path);
    if output.status.code() == Some(3) {
        skip(test, String::from_utf8_lossy(&output.stderr).trim());
        return None;
    }
    Some(output)
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_example_fetches_its_pipeline_and_its_task_from_the_cluster() {
    let test = "the_example_fetches_its_pipeline_and_its_task_from_the_cluster";
    let Some(output) = ran(test, Path::new("examples/remote")) else {
        return;
    };
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(
        out(&output).contains("Hello, world, from a task that was fetched."),
        "{}",
        text(&output)
    );
}

/// Answers every request with `body`, for as long as the process lives.
fn serve(body: String) -> std::io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 4096]);
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    Ok(format!("http://{address}/task.yaml"))
}

fn git(directory: &Path, arguments: &[&str]) {
    let done = Command::new("git")
        .args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.com",
            "-c",
            "init.defaultBranch=main",
        ])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stdout(Stdio::null())
        .status();
    assert!(done.expect("git starts").success(), "git {arguments:?}");
}

/// P-310, P-333, P-346: fetched, admitted, run, and its source recorded.
#[test]
fn tasks_from_a_web_server_and_from_a_repository_run() {
    let test = "tasks_from_a_web_server_and_from_a_repository_run";
    if !support::has("git") {
        return skip(test, "git is missing");
    }
    let task = |from: &str| {
        format!(
            "apiVersion: tekton.dev/v1beta1\nkind: Task\nmetadata: {{name: remote}}\nspec:\n  steps:\n  - {{name: s, image: host, script: 'echo from {from}'}}\n"
        )
    };
    let url = serve(task("http")).expect("a server");
    let directory = tempfile::tempdir().expect("a directory");
    let repository = directory.path().join("repository");
    fs::create_dir(&repository).expect("a directory");
    fs::write(repository.join("task.yaml"), task("git")).expect("a file");
    for arguments in [
        &["init", "-q"][..],
        &["add", "."],
        &["commit", "-q", "-m", "m"],
    ] {
        git(&repository, arguments);
    }
    let manifest = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: git-resolver-config, namespace: tekton-pipelines-resolvers}}\ndata: {{local-repositories: {root}, default-revision: main, fetch-timeout: 1m}}\n---\napiVersion: tekton.dev/v1\nkind: PipelineRun\nmetadata: {{name: fetches}}\nspec:\n  pipelineSpec:\n    tasks:\n    - name: http\n      taskRef: {{resolver: http, params: [{{name: url, value: '{url}'}}]}}\n    - name: git\n      taskRef: {{resolver: git, params: [{{name: url, value: 'file://{root}/repository'}}, {{name: pathInRepo, value: task.yaml}}]}}\n",
        root = directory.path().display()
    );
    let file = directory.path().join("run.yaml");
    fs::write(&file, manifest).expect("a file");
    let Some(output) = ran(test, &file) else {
        return;
    };
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let printed = out(&output);
    assert!(
        printed.contains("from http") && printed.contains("from git"),
        "{printed}"
    );
}
