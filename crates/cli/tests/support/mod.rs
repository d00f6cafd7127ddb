//! A local cluster for one test, and the ways tests look at it.
#![allow(dead_code)] // each test binary uses its part

pub mod component;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub const BINARY: &str = env!("CARGO_BIN_EXE_tektite");

/// Root of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Says that a test could not run, past the harness's capture, where the closing count finds it. The reason is a clause
/// in one line.
pub fn skip(test: &str, reason: &str) {
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {reason}");
}

/// Whether a program is on the PATH.
pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Whether this machine can run containers for the user of the test.
pub fn runs_containers() -> bool {
    fs::metadata("/proc/self/ns/user").is_ok()
}

/// Waits until `ready` gives a value; panics with `what` after `limit`.
pub fn eventually<T>(what: &str, limit: Duration, mut ready: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// `tektite up` on a directory of its own, brought down when dropped.
pub struct Up {
    pub child: Child,
    pub directory: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl Up {
    pub fn start(arguments: &[&str]) -> Self {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let mut up = Self::start_in(temporary.path(), arguments);
        up._temporary = Some(temporary);
        up
    }

    /// Starts on an existing directory and waits until it serves.
    pub fn start_in(directory: &Path, arguments: &[&str]) -> Self {
        let log = fs::File::create(directory.join("test-up.log")).expect("a log file");
        let child = Command::new(BINARY)
            .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(directory)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        let mut up = Self {
            child,
            directory: directory.to_owned(),
            _temporary: None,
        };
        let directory = up.directory.clone();
        eventually("`tektite up` serves", Duration::from_secs(30), || {
            if let Ok(Some(status)) = up.child.try_wait() {
                let log = fs::read_to_string(directory.join("test-up.log")).unwrap_or_default();
                panic!("`tektite up` ended with {status}:\n{log}");
            }
            serves(&directory.join("kubeconfig")).then_some(())
        });
        up
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.join("kubeconfig")
    }

    /// Runs `tektite` against this cluster.
    pub fn tektite(&self, arguments: &[&str]) -> Output {
        Command::new(BINARY)
            .args(arguments)
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .stdin(Stdio::null())
            .output()
            .expect("the binary starts")
    }

    /// Runs kubectl against this cluster, with its cache in the cluster's directory.
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .arg("--cache-dir")
            .arg(self.directory.join("kubectl-cache"))
            .args(arguments);
        command
    }

    /// Standard output of a kubectl call that must succeed.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self
            .kubectl_command(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("kubectl starts");
        assert!(
            output.status.success(),
            "kubectl {arguments:?}:\n{}",
            text(&output)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The same, with `manifest` on standard input.
    pub fn kubectl_with(&self, arguments: &[&str], manifest: &str) -> String {
        let output = self.kubectl_input(arguments, manifest);
        assert!(
            output.status.success(),
            "kubectl {arguments:?}:\n{}",
            text(&output)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// kubectl with `manifest` on standard input, whatever comes of it.
    pub fn kubectl_input(&self, arguments: &[&str], manifest: &str) -> Output {
        let mut child = self
            .kubectl_command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl starts");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        stdin
            .write_all(manifest.as_bytes())
            .expect("kubectl reads its input");
        drop(stdin);
        child.wait_with_output().expect("kubectl ends")
    }

    /// Ends the process at once, as `kill -9` does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = Command::new(BINARY)
            .args(["down", "--data-dir"])
            .arg(&self.directory)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        self.kill();
    }
}

/// Everything a process printed, for messages.
pub fn text(output: &Output) -> String {
    format!(
        "{}{}\n({})",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        output.status
    )
}

fn serves(kubeconfig: &Path) -> bool {
    let text = fs::read_to_string(kubeconfig).unwrap_or_default();
    let server = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("server: "));
    let address = server.map(|s| {
        s.trim_matches('"')
            .trim_start_matches("https://")
            .to_owned()
    });
    address.is_some_and(|address| std::net::TcpStream::connect(address).is_ok())
}

/// Processes whose command line or working directory names `needle`.
pub fn processes_naming(needle: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != std::process::id())
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(needle)
        })
        .collect()
}

/// Mount points that name `needle`.
pub fn mounts_naming(needle: &str) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .filter(|line| line.contains(needle))
        .map(str::to_owned)
        .collect()
}
