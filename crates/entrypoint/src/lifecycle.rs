//! One step from waiting to the last word: the order in which files are written is what the other steps and the
//! controller rely on.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::flags::{Flags, TERMINATION_MESSAGE};
use crate::log::log;
use crate::mask::Search;
use crate::path::Path;
use crate::supervise::{self, Ended, Job};
use crate::system::clock::Instant;
use crate::system::process::Environment;
use crate::system::{Error, fs};
use crate::termination::{self, Entry, WriteError};
use crate::wait::{Awaited, Seen};
use crate::when::{self, When};
use crate::{artifacts, clock, debug, mask, step_results};

/// Why the step did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A debugger said so before it started.
    BeforeStep,
    /// A step before failed.
    Skipped,
    MessageTooLong,
    Cancelled,
    TimedOut,
    Exit(i32),
    Other(String),
    /// Nothing more can be done about it, not even by a breakpoint.
    Fatal(String),
}

pub(crate) fn go(
    flags: &Flags,
    command: Vec<Vec<u8>>,
    environment: Environment,
    when: Vec<When>,
) -> Result<(), Failure> {
    let mut message = Vec::new();
    let result = step(flags, command, environment, when, &mut message);
    match termination::append(&flags.termination_path, message, flags.compress) {
        Ok(()) => result,
        Err(WriteError::TooLong) => Err(Failure::Fatal(format!(
            "Error while writing message: {}",
            termination::TOO_LONG
        ))),
        Err(WriteError::Io(error)) => Err(Failure::Fatal(format!(
            "Error while writing message: {error}"
        ))),
    }
}

fn step(
    flags: &Flags,
    mut command: Vec<Vec<u8>>,
    mut environment: Environment,
    mut when: Vec<When>,
    message: &mut Vec<Entry>,
) -> Result<(), Failure> {
    let io_failure = |error: Error| Failure::Other(error.to_string());
    for dir in ["results", "artifacts"] {
        fs::create_dir_all(&flags.step_metadata_dir.join(dir)).map_err(io_failure)?; // T-281
    }
    wait(flags, message)?;
    let mut result = match flags.debug_before_step {
        true => debug::wait_before_step(flags),
        false => Ok(()),
    };
    message.push(started());
    if flags.timeout.is_some_and(|(negative, _)| negative) {
        result = Err(Failure::Other("negative timeout specified".into()));
    }
    if result.is_ok() {
        let steps = flags.root.join("steps");
        if let Err(error) = step_results::apply(&steps, &mut environment, &mut when, &mut command) {
            log(&format!("Error while substituting step results: {error}"));
        }
        if let Err(error) = artifacts::apply(&flags.root, &mut environment, &mut command) {
            log(&format!("Error while substituting step artifacts: {error}"));
        }
        match when::allow(&when) {
            Err(error) => result = Err(Failure::Other(error)),
            Ok(true) => result = run(flags, &command, &environment),
            Ok(false) => {
                log("Step was skipped due to when expressions were evaluated to false.");
                message.push(Entry::internal("Reason", "Skipped"));
                write_post_file(flags, false)?;
                return write_exit_code(flags, "0"); // T-295
            }
        }
    }
    record(flags, &result, message)?;
    // After the post files: an oversized result does not hold up the next step (T-292).
    report_results(
        flags,
        &flags.root.join("results"),
        &flags.results,
        termination::TASK_RESULT,
    )?;
    report_results(
        flags,
        &flags.step_metadata_dir.join("results"),
        &flags.step_results,
        termination::STEP_RESULT,
    )?;
    if flags.result_from == TERMINATION_MESSAGE {
        artifacts::report(flags, message)?;
    }
    result
}

fn wait(flags: &Flags, message: &mut Vec<Entry>) -> Result<(), Failure> {
    for file in &flags.wait_files {
        let failure = match Awaited::new(file, flags.wait_file_content).wait() {
            Ok(Seen::Error) if !flags.breakpoint_on_failure => Failure::Skipped, // T-333
            Ok(_) => continue,
            Err(error) => Failure::Other(format!("waiting for {file:?}: {error}")),
        };
        // The steps after this one fall in turn (T-282).
        if !flags.breakpoint_on_failure {
            write_post_file(flags, true)?;
        }
        message.push(started());
        if matches!(failure, Failure::Skipped) {
            message.push(Entry::internal("Reason", "Skipped"));
        }
        return Err(failure);
    }
    Ok(())
}

fn run(
    flags: &Flags,
    command: &[Vec<u8>],
    environment: &[(Vec<u8>, Vec<u8>)],
) -> Result<(), Failure> {
    let timeout = flags
        .timeout
        .map(|(_, length)| length)
        .filter(|length| !length.is_zero());
    // Now, not at the start: a Secret may have been replaced while the step waited.
    let values = flags.secrets.read(environment);
    let secrets = Rc::new(Search::of_values(values.iter().map(Vec::as_slice)));
    let job = Job {
        command,
        environment,
        stdout: flags.stdout_path.as_ref(),
        stderr: flags.stderr_path.as_ref(),
        secrets: &secrets,
        deadline: timeout.and_then(|length| Instant::now().checked_add(length)),
        cancel_file: flags.root.join("downward/cancel"),
    };
    supervise::run(&job).map_err(|ended| match ended {
        Ended::Exit(code) => Failure::Exit(code),
        Ended::TimedOut => Failure::TimedOut,
        Ended::Cancelled => Failure::Cancelled,
        // It may name the command, and variables have been put into that.
        Ended::Other(message) => Failure::Other(mask::text(&secrets, &message)),
    })
}

/// Tells the other steps and the controller how it went (T-283, T-284, T-287 to T-289, T-332).
fn record(
    flags: &Flags,
    result: &Result<(), Failure>,
    message: &mut Vec<Entry>,
) -> Result<(), Failure> {
    match result {
        Ok(()) => {
            write_post_file(flags, false)?;
            write_exit_code(flags, "0")
        }
        Err(Failure::Cancelled) => {
            log("Step was canceling");
            message.push(Entry::internal("Reason", "Cancelled"));
            write_post_file(flags, true)?;
            write_exit_code(flags, "killed")
        }
        Err(Failure::TimedOut) => {
            message.push(Entry::internal("Reason", "TimeoutExceeded"));
            write_post_file(flags, true)
        }
        Err(Failure::BeforeStep) => write_post_file(flags, true),
        Err(_) if flags.breakpoint_on_failure => {
            log("Skipping writing to PostFile");
            Ok(())
        }
        Err(Failure::Exit(code)) if flags.on_error == "continue" => {
            message.push(Entry::internal("ExitCode", code.to_string()));
            write_post_file(flags, false)?;
            write_exit_code(flags, &code.to_string())
        }
        Err(_) => write_post_file(flags, true),
    }
}

fn report_results(flags: &Flags, dir: &Path, names: &[String], kind: i64) -> Result<(), Failure> {
    let mut entries = Vec::new();
    for name in names {
        match fs::read(&dir.join(name)) {
            Ok(value) => entries.push(Entry {
                key: name.clone().into_bytes(),
                value,
                kind,
            }), // T-307
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(Failure::Other(format!("reading result {name}: {error}"))),
        }
    }
    if entries.is_empty() || flags.result_from != TERMINATION_MESSAGE {
        return Ok(()); // T-321
    }
    termination::append(&flags.termination_path, entries, flags.compress).map_err(|error| {
        match error {
            WriteError::TooLong => Failure::MessageTooLong,
            WriteError::Io(error) => Failure::Other(error.to_string()),
        }
    })
}

fn started() -> Entry {
    Entry::internal("StartedAt", clock::started_at())
}

fn write_post_file(flags: &Flags, failed: bool) -> Result<(), Failure> {
    let Some(file) = &flags.post_file else {
        return Ok(());
    };
    write(file.with(if failed { ".err" } else { "" }), "")
}

fn write_exit_code(flags: &Flags, code: &str) -> Result<(), Failure> {
    write(flags.step_metadata_dir.join("exitCode"), code)
}

fn write(file: Path, content: &str) -> Result<(), Failure> {
    let failed = |what: &str, error: Error| Failure::Fatal(format!("{what} {file:?}: {error}"));
    if let Some(parent) = file.parent() {
        fs::create_dir_all(&parent)
            .map_err(|error| failed("Error creating parent directory of", error))?;
    }
    fs::write(&file, content).map_err(|error| failed("Writing", error))
}
