//! The child: started in a process group of its own, forwarded every signal, cut off by timeout or cancellation.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use rustix::process::{Pid, WaitOptions, kill_process, wait};

use crate::namespaces;
use crate::path::Path;
use crate::system::clock::Instant;
use crate::system::fs::{self, File};
use crate::system::process::{Command, Signal, variable};
use crate::system::signals::{Signals, send_to_group};
use crate::system::{
    AsFd, Error, OwnedFd, Result as IoResult, pipe, read, readable, stderr, stdout, write_all,
};
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
    pub(crate) deadline: Option<Instant>,
    /// Gets content when the run is cancelled.
    pub(crate) cancel_file: Path,
}

/// Output that goes to a file as well as to the container's stream (T-290).
struct Tee {
    pipe: Option<OwnedFd>,
    file: File,
    to_stderr: bool,
}

impl Tee {
    fn new(path: &Path, to_stderr: bool) -> IoResult<(Tee, OwnedFd)> {
        if let Some(parent) = path.parent() {
            let failed = |error| Error::other(format!("error creating parent directory: {error}"));
            fs::create_dir_all(&parent).map_err(failed)?;
        }
        let file = File::append(path, 0o644)
            .map_err(|error| Error::other(format!("error opening {path}: {error}")))?;
        let (read, write) = pipe()?;
        Ok((
            Tee {
                pipe: Some(read),
                file,
                to_stderr,
            },
            write,
        ))
    }

    /// Passes on what is there; forgets the pipe at its end.
    fn pump(&mut self) -> IoResult<()> {
        let Some(pipe) = &self.pipe else {
            return Ok(());
        };
        let mut buffer = [0u8; 16 * 1024];
        let length = read(pipe, &mut buffer)?;
        if length == 0 {
            self.pipe = None;
            return Ok(());
        }
        let stream = if self.to_stderr { stderr() } else { stdout() };
        write_all(stream, &buffer[..length]).and(self.file.write_all(&buffer[..length]))
    }
}

pub(crate) fn run(job: &Job<'_>) -> Result<(), Ended> {
    let Some(program) = job.command.first() else {
        return Ok(());
    };
    let other = |error: Error| Ended::Other(error.to_string());
    let program = find(program, job.environment).map_err(Ended::Other)?;
    let not_started = |error: Error| Ended::Other(format!("fork/exec {program}: {error}"));
    let mut command = Command::new(&program, job.command, job.environment).map_err(not_started)?;
    let mut tees = Vec::new();
    for (path, to_stderr) in [(job.stdout, false), (job.stderr, true)] {
        let Some(path) = path else { continue };
        let (tee, write) = Tee::new(path, to_stderr).map_err(other)?;
        command.streams.push((write, if to_stderr { 2 } else { 1 }));
        tees.push(tee);
    }
    let signals = Signals::block().map_err(other)?;
    // The write ends of the pipes live in the command, which is gone after this.
    let child = match namespaces::wanted(job.environment) {
        true => namespaces::spawn(command),
        false => command.spawn(0, |_| Ok(())),
    }
    .map_err(not_started)?;
    supervise(job, child, &signals, &mut tees).map_err(other)?
}

fn supervise(
    job: &Job<'_>,
    child: Pid,
    signals: &Signals,
    tees: &mut [Tee],
) -> IoResult<Result<(), Ended>> {
    let mut cancel = Awaited::new(&job.cancel_file, true);
    let mut cut_off = None;
    let mut ended: Option<Result<(), Ended>> = None;
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
        let open = tees.iter().any(|tee| tee.pipe.is_some());
        if let Some(result) = ended.take_if(|_| !open || cut_off.is_some()) {
            // What was written before the end is still in the pipes.
            for tee in tees.iter_mut() {
                while tee.pipe.as_ref().is_some_and(ready) {
                    tee.pump()?;
                }
            }
            return Ok(match (result, cut_off) {
                // A child that succeeded in spite of it has succeeded.
                (Err(_), Some(reason)) => Err(reason),
                (result, _) => result,
            });
        }
        wait_for_events(job, &cancel, signals, tees, ended.is_some())?;
        for tee in tees.iter_mut() {
            if tee.pipe.as_ref().is_some_and(ready) {
                tee.pump()?;
            }
        }
    }
}

/// Blocks until a signal, output, a change of the cancel file or the deadline.
fn wait_for_events(
    job: &Job<'_>,
    cancel: &Awaited,
    signals: &Signals,
    tees: &[Tee],
    ended: bool,
) -> IoResult<()> {
    let mut fds = vec![signals.as_fd()];
    fds.extend(
        tees.iter()
            .filter_map(|tee| tee.pipe.as_ref())
            .map(AsFd::as_fd),
    );
    fds.extend(cancel.watch());
    // A volume may tell nothing of its changes, so the cancel file is looked at each second besides.
    let mut timeout = Duration::from_secs(1);
    if let Some(deadline) = job.deadline.filter(|_| !ended) {
        timeout = timeout.min(deadline.left());
    }
    readable(&fds, Some(timeout)).map(drop)
}

fn ready(pipe: &OwnedFd) -> bool {
    readable(&[pipe.as_fd()], Some(Duration::ZERO)).unwrap_or(false)
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
