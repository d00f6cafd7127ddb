//! Orders and supervises the steps inside a pod.
//!
//! One static program, started in every step's container in place of the step's own command: it waits until the step
//! may run, runs it, and leaves word of how it ended. Single-threaded on purpose, so that it may fork.
#![allow(unsafe_code)] // signals and namespaces; each use states its invariant

mod artifacts;
mod base64_text;
mod cel;
mod clock;
mod credentials;
mod debug;
mod docker_credentials;
mod duration;
mod flags;
mod git_credentials;
mod json;
mod lifecycle;
mod log;
mod namespaces;
mod param_value;
mod platform;
mod prepare;
mod script;
mod sidecar_results;
mod step_results;
mod supervise;
mod termination;
mod wait;
mod when;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use flags::Flags;
use lifecycle::Failure;
use log::log;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let program = arguments.next().unwrap_or_default();
    let arguments: Vec<OsString> = arguments.collect();
    // The image holds one program under the names of the several that Tekton's images hold.
    match Path::new(&program)
        .file_name()
        .and_then(|name| name.to_str())
    {
        Some("nop") => return prepare::nop(&arguments),
        Some("workingdirinit") => return prepare::make_working_dirs(&arguments),
        Some("sidecarlogresults") => return sidecar_results::main(&arguments),
        _ => {}
    }
    let (before, command) = split(arguments);
    let flags = match Flags::parse(&before) {
        Ok(flags) => flags,
        Err(flags::Stop { message, code }) => {
            eprintln!("{message}");
            return ExitCode::from(code);
        }
    };
    if let Some(code) = prepare::subcommand(&flags) {
        return code;
    }
    run(flags, command)
}

/// Splits at the first `--`, which must not come first (T-272).
fn split(mut arguments: Vec<OsString>) -> (Vec<OsString>, Vec<OsString>) {
    match arguments.iter().position(|argument| argument == "--") {
        Some(at) if at > 0 => {
            let command = arguments.split_off(at + 1);
            arguments.truncate(at);
            (arguments, command)
        }
        _ => (arguments, Vec::new()),
    }
}

fn run(flags: Flags, arguments: Vec<OsString>) -> ExitCode {
    let mut environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    if let Some(path) = &flags.script_file
        && let Err(error) = script::place(path, &mut environment)
    {
        return fatal(&format!("Error placing script {}: {error}", path.display()));
    }
    if !flags.step_names.is_empty()
        && let Err(error) = prepare::link_steps(&flags.root, &flags.step_names)
    {
        return fatal(&format!("Error linking steps: {error}"));
    }
    if let Some(steps) = flags.debug_scripts
        && let Err(error) = debug::place_scripts(&flags, steps)
    {
        return fatal(&format!("Error placing debug scripts: {error}"));
    }
    let mut command = match &flags.entrypoint {
        Some(program) => vec![program.clone()],
        None => match platform::command(&environment) {
            Ok(command) => command,
            Err(message) => return fatal(&message),
        },
    };
    command.extend(arguments);
    if flags.exec {
        return exec(&command, &environment);
    }
    credentials::set_up(&flags, &environment);
    let when = match when::parse(&flags.when_expressions) {
        Ok(when) => when,
        Err(message) => return fatal(&message),
    };
    match lifecycle::go(&flags, command, environment, when) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => finish(&flags, failure),
    }
}

/// What the step's end means to the container (T-286 to T-289).
fn finish(flags: &Flags, failure: Failure) -> ExitCode {
    match failure {
        Failure::BeforeStep => {
            log("Skipping execute step script because before step breakpoint fail-continue");
            ExitCode::FAILURE
        }
        Failure::Skipped => {
            log("Skipping step because a previous step failed");
            ExitCode::FAILURE
        }
        Failure::MessageTooLong => {
            log(termination::TOO_LONG);
            ExitCode::FAILURE
        }
        Failure::Cancelled => {
            log("Step was cancelled");
            ExitCode::from(libc::SIGKILL as u8)
        }
        Failure::TimedOut => {
            log("context deadline exceeded");
            ExitCode::FAILURE
        }
        Failure::Fatal(message) => fatal(&message),
        Failure::Exit(code) => {
            if flags.breakpoint_on_failure {
                return debug::wait_after_failure(flags);
            }
            match flags.on_error.as_str() {
                "continue" => ExitCode::SUCCESS,
                // A child ended by a signal has code -1, which the system cuts to 255.
                _ => ExitCode::from(code as u8),
            }
        }
        Failure::Other(message) => {
            if flags.breakpoint_on_failure {
                return debug::wait_after_failure(flags);
            }
            fatal(&format!("Error executing command: {message}"))
        }
    }
}

/// Becomes the command: for sidecars, which need their script placed and nothing else.
fn exec(command: &[OsString], environment: &[(OsString, OsString)]) -> ExitCode {
    let Some((program, arguments)) = command.split_first() else {
        return ExitCode::SUCCESS;
    };
    let error = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(environment.iter().map(|(k, v)| (k, v)))
        .exec();
    fatal(&format!(
        "Error executing command: {}: {error}",
        program.display()
    ))
}

fn fatal(message: &str) -> ExitCode {
    log(message);
    ExitCode::FAILURE
}
