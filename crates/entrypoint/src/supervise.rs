//! The child: started in a process group of its own, forwarded every signal, cut off by timeout or cancellation.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, wait};

use crate::namespaces;
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
    pub(crate) command: &'a [OsString],
    pub(crate) environment: &'a [(OsString, OsString)],
    pub(crate) stdout: Option<&'a Path>,
    pub(crate) stderr: Option<&'a Path>,
    pub(crate) deadline: Option<Instant>,
    /// Gets content when the run is cancelled.
    pub(crate) cancel_file: PathBuf,
}

/// Signals as readable events instead of interruptions. Dropping it lets them interrupt again.
#[derive(Debug)]
pub(crate) struct Signals {
    fd: OwnedFd,
    before: libc::sigset_t,
}

impl Signals {
    pub(crate) fn block() -> io::Result<Signals> {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: the sets are valid for writing; sigfillset and sigprocmask initialise them before they are read.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            // Faults of this program itself must still end it.
            for signal in [
                libc::SIGSEGV,
                libc::SIGBUS,
                libc::SIGFPE,
                libc::SIGILL,
                libc::SIGABRT,
            ] {
                libc::sigdelset(all.as_mut_ptr(), signal);
            }
            if libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) != 0 {
                return Err(io::Error::last_os_error());
            }
            let fd = libc::signalfd(-1, all.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            // The descriptor was just made and belongs to nobody else.
            Ok(Signals {
                fd: OwnedFd::from_raw_fd(fd),
                before: before.assume_init(),
            })
        }
    }

    /// The next signal that has arrived, if any.
    pub(crate) fn next(&self) -> Option<i32> {
        let mut info = [MaybeUninit::<u8>::uninit(); size_of::<libc::signalfd_siginfo>()];
        let (read, _) = rustix::io::read(&self.fd, &mut info).ok()?;
        // The number comes first in the structure.
        let number = read.first_chunk::<4>()?;
        i32::try_from(u32::from_ne_bytes(*number)).ok()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // SAFETY: `before` was filled by sigprocmask.
        unsafe {
            libc::sigprocmask(
                libc::SIG_SETMASK,
                &raw const self.before,
                std::ptr::null_mut(),
            )
        };
    }
}

/// Output that goes to a file as well as to the container's stream (T-290).
struct Tee {
    pipe: Option<OwnedFd>,
    file: File,
    to_stderr: bool,
}

impl Tee {
    fn new(path: &Path, to_stderr: bool) -> io::Result<(Tee, OwnedFd)> {
        if let Some(parent) = path.parent() {
            let failed =
                |error| io::Error::other(format!("error creating parent directory: {error}"));
            fs::create_dir_all(parent).map_err(failed)?;
        }
        let file = File::options()
            .append(true)
            .create(true)
            .mode(0o644)
            .open(path);
        let file = file.map_err(|error| {
            io::Error::other(format!("error opening {}: {error}", path.display()))
        })?;
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
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
    fn pump(&mut self) -> io::Result<()> {
        let Some(pipe) = &self.pipe else {
            return Ok(());
        };
        let mut buffer = [0u8; 16 * 1024];
        let read = rustix::io::retry_on_intr(|| rustix::io::read(pipe, &mut buffer))?;
        if read == 0 {
            self.pipe = None;
            return Ok(());
        }
        let stream = if self.to_stderr {
            io::stderr().write_all(&buffer[..read])
        } else {
            write_stdout(&buffer[..read])
        };
        stream.and(self.file.write_all(&buffer[..read]))
    }
}

fn write_stdout(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

pub(crate) fn run(job: &Job<'_>) -> Result<(), Ended> {
    let Some((program, arguments)) = job.command.split_first() else {
        return Ok(());
    };
    let other = |error: io::Error| Ended::Other(error.to_string());
    let program = find(program, job.environment)?;
    let mut command = Command::new(&program);
    command
        .args(arguments)
        .env_clear()
        .envs(job.environment.iter().map(|(key, value)| (key, value)));
    command.process_group(0);
    let mut tees = Vec::new();
    for (path, to_stderr) in [(job.stdout, false), (job.stderr, true)] {
        let Some(path) = path else { continue };
        let (tee, write) = Tee::new(path, to_stderr).map_err(other)?;
        let stdio = Stdio::from(write);
        if to_stderr {
            command.stderr(stdio)
        } else {
            command.stdout(stdio)
        };
        tees.push(tee);
    }
    let signals = Signals::block().map_err(other)?;
    let started = match namespaces::wanted(job.environment) {
        true => namespaces::spawn(&mut command, &signals),
        false => command.spawn().map(|child| child.id()),
    };
    let child = started.map_err(|error| {
        Ended::Other(format!(
            "fork/exec {}: {}",
            program.display(),
            go_text(&error)
        ))
    })?;
    // The write ends of the pipes live in the command.
    drop(command);
    let Some(child) = i32::try_from(child).ok().and_then(Pid::from_raw) else {
        return Err(Ended::Other("the system gave no process id".into()));
    };
    supervise(job, child, &signals, &mut tees).map_err(other)?
}

fn supervise(
    job: &Job<'_>,
    child: Pid,
    signals: &Signals,
    tees: &mut [Tee],
) -> io::Result<Result<(), Ended>> {
    let mut cancel = Awaited::new(&job.cancel_file, true);
    let mut cut_off = None;
    let mut ended: Option<Result<(), Ended>> = None;
    loop {
        if cut_off.is_none() && ended.is_none() {
            if cancel.look().is_ok_and(|seen| seen == Seen::File) {
                cut_off = Some(Ended::Cancelled);
            } else if job
                .deadline
                .is_some_and(|deadline| Instant::now() >= deadline)
            {
                cut_off = Some(Ended::TimedOut);
            }
            if cut_off.is_some() {
                // Only the child itself, as upstream; the container's end takes the rest (T-287, T-288).
                let _ = kill_process(child, Signal::KILL);
            }
        }
        while let Some(signal) = signals.next() {
            if signal != libc::SIGCHLD && ended.is_none() {
                forward(child, signal);
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
                while tee.pipe.as_ref().is_some_and(|pipe| ready(pipe)) {
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
            if tee.pipe.as_ref().is_some_and(|pipe| ready(pipe)) {
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
) -> io::Result<()> {
    let mut fds = vec![PollFd::new(signals, PollFlags::IN)];
    fds.extend(
        tees.iter()
            .filter_map(|tee| tee.pipe.as_ref())
            .map(|pipe| PollFd::new(pipe, PollFlags::IN)),
    );
    let watch = cancel.watch();
    if let Some(watch) = &watch {
        fds.push(PollFd::new(watch, PollFlags::IN));
    }
    // A volume may tell nothing of its changes, so the cancel file is looked at each second besides.
    let mut timeout = Duration::from_secs(1);
    if let Some(deadline) = job.deadline.filter(|_| !ended) {
        timeout = timeout.min(deadline.saturating_duration_since(Instant::now()));
    }
    let timeout = Timespec {
        tv_sec: timeout.as_secs() as i64,
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn ready(pipe: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pipe, PollFlags::IN)];
    poll(
        &mut fds,
        Some(&Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }),
    )
    .is_ok_and(|ready| ready > 0)
}

/// Every signal goes to the whole group (T-285).
fn forward(child: Pid, signal: i32) {
    match Signal::from_named_raw(signal) {
        Some(signal) => {
            let _ = kill_process_group(child, signal);
        }
        // Real-time signals have no names.
        None => {
            // SAFETY: kill takes numbers only; the group is the child's.
            unsafe { libc::kill(-child.as_raw_nonzero().get(), signal) };
        }
    }
}

/// The program's file: a name without a slash is looked for in the child's PATH.
fn find(program: &OsString, environment: &[(OsString, OsString)]) -> Result<PathBuf, Ended> {
    use std::os::unix::ffi::OsStrExt;
    let shown = Path::new(program).display();
    if program.as_bytes().contains(&b'/') {
        return Ok(PathBuf::from(program));
    }
    let path = environment
        .iter()
        .find(|(key, _)| key == "PATH")
        .map(|(_, value)| value.as_os_str())
        .unwrap_or_default();
    let found = std::env::split_paths(path)
        .map(|dir| dir.join(program))
        .find(|file| is_executable(file));
    found.ok_or_else(|| {
        Ended::Other(format!(
            "exec: \"{shown}\": executable file not found in $PATH"
        ))
    })
}

fn is_executable(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

/// The system's message in Go's words, lower case and without a number.
fn go_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    match error.raw_os_error() {
        Some(libc::ENOEXEC) => "exec format error".into(),
        _ => text.to_lowercase(),
    }
}
