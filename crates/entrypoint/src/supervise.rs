//! The child: started in a process group of its own, forwarded every signal, cut off by timeout or cancellation.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use rustix::process::{Pid, WaitOptions, kill_process, wait};

use crate::mask::Search;
use crate::namespaces;
use crate::output::{self, Stream};
use crate::path::Path;
use crate::system::clock::Instant;
use crate::system::fs;
use crate::system::process::{Command, Signal, variable};
use crate::system::signals::{Signals, send_to_group};
use crate::system::{AsFd, Error, Result as IoResult, wait_ready};
use crate::wait::{Awaited, Seen};

/// How the child ended, if it did not succeed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With this code, -1 for a signal (T-286).
    Exit(i32),
    TimedOut,
    Cancelled,
    /// It could not be started.
    Other(String),
}

/// What to run and when to stop it.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) command: &'a [Vec<u8>],
    pub(crate) environment: &'a [(Vec<u8>, Vec<u8>)],
    pub(crate) stdout: Option<&'a Path>,
    pub(crate) stderr: Option<&'a Path>,
    /// Not to be told in the log.
    pub(crate) secrets: &'a Rc<Search>,
    pub(crate) deadline: Option<Instant>,
    /// Gets content when the run is cancelled.
    pub(crate) cancel_file: Path,
}

pub(crate) fn run(job: &Job<'_>) -> Result<(), Ended> {
    let Some(program) = job.command.first() else {
        return Ok(());
    };
    let other = |error: Error| Ended::Other(error.to_string());
    let program = find(program, job.environment).map_err(Ended::Other)?;
    let not_started = |error: Error| Ended::Other(format!("fork/exec {program}: {error}"));
    let mut command = Command::new(&program, job.command, job.environment).map_err(not_started)?;
    let mut streams =
        output::connect(&mut command, [job.stdout, job.stderr], job.secrets).map_err(other)?;
    let signals = Signals::block().map_err(other)?;
    // The write ends of the pipes live in the command, which is gone after this.
    let child = match namespaces::wanted(job.environment) {
        true => namespaces::spawn(command),
        false => command.spawn(0, |_| Ok(())),
    }
    .map_err(not_started)?;
    supervise(job, child, &signals, &mut streams).map_err(other)?
}

fn supervise(
    job: &Job<'_>,
    child: Pid,
    signals: &Signals,
    streams: &mut [Stream],
) -> IoResult<Result<(), Ended>> {
    let mut cancel = Awaited::new(&job.cancel_file, true);
    let mut cut_off = None;
    let mut ended: Option<Result<(), Ended>> = None;
    let mut passed_on = 0;
    loop {
        if cut_off.is_none() && ended.is_none() {
            if cancel.look().is_ok_and(|seen| seen == Seen::File) {
                cut_off = Some(Ended::Cancelled);
            } else if job
                .deadline
                .is_some_and(|deadline| deadline.left().is_zero())
            {
                cut_off = Some(Ended::TimedOut);
            }
            if cut_off.is_some() {
                // Only the child itself, as upstream; the container's end takes the rest (T-287, T-288).
                let _ = kill_process(child, Signal::KILL);
            }
        }
        while let Some(signal) = signals.next() {
            if signal != Signal::CHILD.as_raw() && ended.is_none() {
                // Every signal goes to the whole group (T-285), which may have gone already.
                let _ = send_to_group(child, signal);
            }
        }
        // As the first process of its container the entrypoint inherits orphans; they are laid to rest too.
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid == child {
                ended = Some(match status.exit_status() {
                    Some(0) => Ok(()),
                    Some(code) => Err(Ended::Exit(code)),
                    None => Err(Ended::Exit(-1)),
                });
            }
        }
        let awaited = streams.iter().any(Stream::is_awaited);
        if let Some(result) = ended.take_if(|_| !awaited || cut_off.is_some()) {
            // What was written before the end is still in the pipes.
            for stream in streams.iter_mut() {
                stream.finish(cut_off.is_some())?;
            }
            return Ok(match (result, cut_off) {
                // A child that succeeded in spite of it has succeeded.
                (Err(_), Some(reason)) => Err(reason),
                (result, _) => result,
            });
        }
        wait_for_events(job, &cancel, signals, streams, ended.is_some(), passed_on)?;
        passed_on = 0;
        for stream in streams.iter_mut() {
            passed_on += stream.pump()?;
        }
    }
}

/// After little output there may be more in a moment: it is left to gather, which costs fewer calls of the kernel.
const LITTLE: usize = 64 * 1024;
const MOMENT: Duration = Duration::from_micros(300);

/// Blocks until a signal, output, a change of the cancel file or the deadline.
fn wait_for_events(
    job: &Job<'_>,
    cancel: &Awaited,
    signals: &Signals,
    streams: &[Stream],
    ended: bool,
    passed_on: usize,
) -> IoResult<()> {
    let (mut readable, mut writable) = (vec![signals.as_fd()], vec![]);
    readable.extend(cancel.watch());
    // A volume may tell nothing of its changes, so the cancel file is looked at each second besides.
    let mut timeout = Duration::from_secs(1);
    if (1..LITTLE).contains(&passed_on) && !ended {
        timeout = MOMENT;
    } else {
        for (read, write) in streams.iter().map(Stream::wants) {
            readable.extend(read);
            writable.extend(write);
        }
    }
    if let Some(deadline) = job.deadline.filter(|_| !ended) {
        timeout = timeout.min(deadline.left());
    }
    for patience in streams.iter().filter_map(Stream::patience) {
        timeout = timeout.min(patience);
    }
    wait_ready(&readable, &writable, Some(timeout)).map(drop)
}

/// The program's file: a name without a slash is looked for in the child's PATH.
pub(crate) fn find(program: &[u8], environment: &[(Vec<u8>, Vec<u8>)]) -> Result<Path, String> {
    if program.contains(&b'/') {
        return Ok(Path::new(program));
    }
    let found = variable(environment, "PATH")
        .unwrap_or_default()
        .split(|&byte| byte == b':')
        .map(|dir| Path::new(dir).join(program))
        .find(fs::is_executable);
    found.ok_or_else(|| {
        format!(
            "exec: \"{}\": executable file not found in $PATH",
            Path::new(program)
        )
    })
}
