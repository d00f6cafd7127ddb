//! `tektite up`: a durable local cluster in this process or, with `--detach`, in one of its own.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::arguments::Up;
use crate::data_dir;
use crate::exit::{Exit, Failure, Outcome};
use crate::local::{DurableOptions, Local};
use crate::terminal::print;
use crate::up_record::UpRecord;
use crate::warnings;

/// How the line begins that says that the cluster is ready.
const READY: &str = "tektite is ready";

/// Serves until it is asked to stop.
pub async fn run(arguments: &Up) -> Outcome {
    let directory = data_dir::of(&arguments.data_dir);
    if arguments.detached {
        // A session of its own: closing the terminal does not end it. It fails only for a process that leads a group.
        let _ = rustix::process::setsid();
    }
    if let Some(record) = UpRecord::read(&directory) {
        return Err(in_use(&directory, &record));
    }
    make(&directory)?;
    let options = DurableOptions {
        data_dir: directory.clone(),
        listen: arguments.listen,
        node: !arguments.no_node,
        controller: !arguments.no_controller,
    };
    let mut local = Local::durable(options).await?;
    if let Some(mut found) = local.take_warnings() {
        tokio::spawn(async move {
            loop {
                warnings::say(&[found.next().await]);
            }
        });
    }
    let server = local.server();
    UpRecord::write(&directory, &server).map_err(|error| {
        Failure::new(
            Exit::Failed,
            format!("cannot write to {}: {error}", directory.display()),
        )
    })?;
    print(&ready(&directory, &server));
    super::StopRequests::listen()?.next().await;
    UpRecord::remove(&directory);
    local.stop().await;
    Ok(Exit::Success)
}

/// Starts `up` in a process of its own and returns when it is ready.
pub fn detach(arguments: &Up) -> Outcome {
    let directory = data_dir::of(&arguments.data_dir);
    if let Some(record) = UpRecord::read(&directory) {
        return Err(in_use(&directory, &record));
    }
    make(&directory)?;
    let log_path = directory.join("up.log");
    let failed = |error: std::io::Error| {
        Failure::new(
            Exit::Failed,
            format!("cannot start in the background: {error}"),
        )
    };
    let log = File::create(&log_path).map_err(failed)?;
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command
        .arg("up")
        .arg("--detached")
        .arg("--data-dir")
        .arg(&directory);
    if let Some(listen) = arguments.listen {
        command.arg("--listen").arg(listen.to_string());
    }
    if arguments.no_node {
        command.arg("--no-node");
    }
    if arguments.no_controller {
        command.arg("--no-controller");
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(failed)?;
    let lines = child
        .stdout
        .take()
        .into_iter()
        .flat_map(|out| BufReader::new(out).lines().map_while(Result::ok));
    for line in lines {
        if line.starts_with(READY) {
            let server = UpRecord::read(&directory)
                .map(|record| record.server)
                .unwrap_or_default();
            print(&ready(&directory, &server));
            return Ok(Exit::Success);
        }
    }
    // Its output has ended without the line: it is over, and its log says why.
    let exit = match child.wait().map_err(failed)?.code() {
        Some(2) => Exit::Refused,
        Some(3) => Exit::CannotRun,
        _ => Exit::Failed,
    };
    let text = fs::read_to_string(&log_path).unwrap_or_default();
    Err(Failure::new(
        exit,
        format!("the cluster did not start:\n{}", text.trim_end()),
    )
    .hint(format!("its log is {}", log_path.display())))
}

fn ready(directory: &Path, server: &str) -> String {
    let kubeconfig = directory.join("kubeconfig");
    format!(
        "{READY} at {server}\n  export KUBECONFIG={}\n",
        kubeconfig.display()
    )
}

fn in_use(directory: &Path, record: &UpRecord) -> Failure {
    Failure::new(
        Exit::Refused,
        format!(
            "{} is in use by process {}",
            directory.display(),
            record.pid
        ),
    )
    .hint("use that cluster, stop it with `tektite down`, or give another --data-dir")
}

/// The directory holds keys: it is for its owner alone.
fn make(directory: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| {
            Failure::new(
                Exit::Refused,
                format!("cannot create {}: {error}", directory.display()),
            )
            .hint("give a directory you may write to with --data-dir")
        })
}
