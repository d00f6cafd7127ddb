//! Orders and supervises the steps inside a pod.
//!
//! One static program, started in every step's container in place of the step's own command: it waits until the step
//! may run, runs it, and leaves word of how it ended. Single-threaded on purpose, so that it may fork.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod artifacts;
mod base64_text;
mod cel;
mod clock;
mod contents;
mod credentials;
mod debug;
mod docker_credentials;
mod duration;
mod flags;
#[cfg(feature = "fuzz")]
mod fuzz;
mod git_credentials;
mod json;
mod json_value;
mod lifecycle;
mod log;
mod mask;
mod namespaces;
mod output;
mod param_value;
mod path;
mod platform;
mod prepare;
mod script;
mod sidecar_results;
mod step_results;
mod supervise;
mod system;
mod termination;
mod wait;
mod when;

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use flags::Flags;
use lifecycle::Failure;
use log::log;
use path::Path;
use system::process::{Command, Environment, Signal};

/// Runs every decoder on `data`, with `root` in place of `/tekton`; for the fuzz target.
#[cfg(feature = "fuzz")]
pub fn fuzz(data: &[u8], root: &str) {
    fuzz::all(data, &root.into());
}

/// Ends the program.
pub fn exit(code: u8) -> ! {
    system::process::exit(code.into())
}

/// Tells a mistake of ours and ends the program.
pub fn panicked(info: &core::panic::PanicInfo<'_>) -> ! {
    log::line(&format!("{info}"));
    exit(101)
}

/// Runs the program and returns its exit code. The first argument is the name it was called by.
pub fn main(arguments: Vec<Vec<u8>>, environment: Vec<(Vec<u8>, Vec<u8>)>) -> u8 {
    // A tee's reader may go; the step shall not go with it.
    let _ = system::signals::ignore_broken_pipes(true);
    let mut arguments = arguments.into_iter();
    let program = Path::new(arguments.next().unwrap_or_default());
    let arguments: Vec<Vec<u8>> = arguments.collect();
    // The image holds one program under the names of the several that Tekton's images hold.
    match program.file_name() {
        Some(b"nop") => return prepare::nop(&arguments),
        Some(b"workingdirinit") => return prepare::make_working_dirs(&arguments),
        Some(b"sidecarlogresults") => return sidecar_results::main(&arguments, &environment),
        _ => {}
    }
    let (before, command) = split(arguments);
    let flags = match Flags::parse(&before) {
        Ok(flags) => flags,
        Err(flags::Stop { message, code }) => {
            log::line(&message);
            return code;
        }
    };
    if let Some(code) = prepare::subcommand(&flags, &environment) {
        return code;
    }
    run(flags, command, environment)
}

/// Splits at the first `--`, which must not come first (T-272).
fn split(mut arguments: Vec<Vec<u8>>) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    match arguments.iter().position(|argument| argument == b"--") {
        Some(at) if at > 0 => {
            let command = arguments.split_off(at + 1);
            arguments.truncate(at);
            (arguments, command)
        }
        _ => (arguments, Vec::new()),
    }
}

fn run(flags: Flags, arguments: Vec<Vec<u8>>, mut environment: Environment) -> u8 {
    if let Some(path) = &flags.script_file
        && let Err(error) = script::place(path, &mut environment)
    {
        return fatal(&format!("Error placing script {path}: {error}"));
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
        Ok(()) => 0,
        Err(failure) => finish(&flags, failure),
    }
}

/// What the step's end means to the container (T-286 to T-289).
fn finish(flags: &Flags, failure: Failure) -> u8 {
    match failure {
        Failure::BeforeStep => {
            log("Skipping execute step script because before step breakpoint fail-continue");
            1
        }
        Failure::Skipped => {
            log("Skipping step because a previous step failed");
            1
        }
        Failure::MessageTooLong => {
            log(termination::TOO_LONG);
            1
        }
        Failure::Cancelled => {
            log("Step was cancelled");
            Signal::KILL.as_raw() as u8
        }
        Failure::TimedOut => {
            log("context deadline exceeded");
            1
        }
        Failure::Fatal(message) => fatal(&message),
        Failure::Exit(code) => {
            if flags.breakpoint_on_failure {
                return debug::wait_after_failure(flags);
            }
            match flags.on_error.as_str() {
                "continue" => 0,
                // A child ended by a signal has code -1, which the system cuts to 255.
                _ => code as u8,
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
fn exec(command: &[Vec<u8>], environment: &[(Vec<u8>, Vec<u8>)]) -> u8 {
    let Some(program) = command.first() else {
        return 0;
    };
    let error = supervise::find(program, environment).and_then(|program| {
        let error = match Command::new(&program, command, environment) {
            Ok(command) => command.replace_this(),
            Err(error) => error,
        };
        Err::<(), String>(format!("{program}: {error}"))
    });
    fatal(&format!(
        "Error executing command: {}",
        error.err().unwrap_or_default()
    ))
}

fn fatal(message: &str) -> u8 {
    log(message);
    1
}
