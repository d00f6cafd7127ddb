//! The launcher's loop: connections, workers, children.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, SigSet, Signal, kill, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::cgroup::{Group, Hierarchies};
use super::protocol::{
    Call, ExecRequest, Exit, Failure, Greeting, Message, Reply, Request, RunRequest,
    SandboxRequest, VERSION,
};
use super::sandbox::{self, Sandbox};
use super::scratch::Scratch;
use super::uplink::Bridge;
use super::user_namespace::{self, Users};
use super::worker;
use crate::volume_files::remove_all;

/// Name of the socket in the launcher's directory.
pub(super) const SOCKET: &str = "launcher.sock";

/// What a launcher is for.
#[derive(Debug, Default)]
pub(super) struct Purpose {
    /// It ends with the connection of the node that started it, even if that dies before it says a word.
    pub bound: bool,
    /// Removed at the end.
    pub scrap: Vec<PathBuf>,
    /// Containers of the machine's own root file system see these directories empty.
    pub hidden: Vec<PathBuf>,
}

/// Runs the launcher in `directory`, with the node that started it at the other end of stdin, until it is told to end.
pub(super) fn serve(directory: &Path, purpose: Purpose) -> io::Result<()> {
    let _ = nix::unistd::setsid();
    // SAFETY: ignoring a signal installs no handler that could run.
    unsafe {
        signal(Signal::SIGINT, SigHandler::SigIgn)?;
        signal(Signal::SIGHUP, SigHandler::SigIgn)?;
        // A service manager sends it to all processes at once; the node decides what becomes of containers.
        signal(Signal::SIGTERM, SigHandler::SigIgn)?;
    }
    let first = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    nix::unistd::dup2_stdin(fs::File::open("/dev/null")?)?;
    let directory = directory.canonicalize()?;
    std::env::set_current_dir(&directory)?;
    let _alone = alone()?;
    let _ = fs::remove_file(SOCKET);
    let listener = UnixListener::bind(SOCKET)?;
    let (rootless, single_user) = match nix::unistd::geteuid().is_root() {
        true => (false, false),
        false => (true, matches!(user_namespace::enter()?, Users::One)),
    };
    let name = directory.to_string_lossy();
    let parent = format!(
        "tektite-{:x}",
        name.bytes()
            .fold(0xcbf2_9ce4u64, |hash, byte| (hash ^ u64::from(byte))
                .wrapping_mul(0x100_0000_01b3))
    );
    let hierarchies = Hierarchies::open(parent);
    let run = directory.join("run");
    let scratch = Scratch::enter(&run, &purpose, rootless)?;
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    listener.set_nonblocking(true)?;
    let mut reactor = Reactor {
        scratch,
        hierarchies,
        rootless,
        single_user,
        connections: Vec::new(),
        next_connection: 0,
        greetings: Vec::new(),
        workers: HashMap::new(),
        containers: HashMap::new(),
        execs: HashMap::new(),
        sandboxes: HashMap::new(),
        unclaimed: HashMap::new(),
        busy_groups: Vec::new(),
        ending: false,
        bridge: None,
    };
    reactor.accept(first, purpose.bound)?;
    reactor.run(&listener, &signals)?;
    reactor.hierarchies.remove();
    let _ = fs::remove_file(directory.join(SOCKET));
    if purpose.bound {
        // Mount points cannot be removed where they are mounted.
        for sandbox in reactor.sandboxes.values() {
            unmount(&sandbox.tmpfs);
        }
        unmount(&[run]);
        std::env::set_current_dir("/")?;
        for path in &purpose.scrap {
            remove_all(path);
        }
    }
    // The kernel closes them once the process has nothing else left: their end tells the node that the launcher is gone.
    std::mem::forget(reactor.connections);
    Ok(())
}

/// Waits until no other launcher has the working directory: one that is ending would take the next one's socket with it.
/// Workers and containers do not inherit this kind of lock, so that it never outlives the launcher.
fn alone() -> io::Result<fs::File> {
    let file = fs::File::create("launcher.lock")?;
    let whole = nix::libc::flock {
        l_type: nix::libc::F_WRLCK as _,
        l_whence: nix::libc::SEEK_SET as _,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    loop {
        match fcntl(&file, FcntlArg::F_SETLKW(&whole)) {
            Ok(_) => return Ok(file),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Names a connection as long as the launcher lives; descriptors are used again.
type ConnectionId = u64;

struct Connection {
    id: ConnectionId,
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    bound: bool,
    closed: bool,
}

/// A forked worker and what it is for.
struct Worker {
    channel: OwnedFd,
    connection: ConnectionId,
    call: u64,
    job: Job,
}

enum Job {
    Run {
        container: String,
        exit_file: PathBuf,
        group: Option<Group>,
        warnings: Vec<String>,
    },
    Sandbox(Box<SandboxRequest>),
    Exec {
        deadline: Instant,
    },
    Remove,
}

/// A started process and warnings, or why there is none.
type Outcome = Result<(i32, Vec<String>), Failure>;

/// What a worker reports; a sandbox worker sends its namespaces along.
#[derive(Serialize, Deserialize)]
struct Report {
    result: Outcome,
}

struct Container {
    name: String,
    exit_file: PathBuf,
    group: Option<Group>,
}

struct Exec {
    connection: ConnectionId,
    call: u64,
    deadline: Instant,
    timed_out: bool,
}

struct Reactor {
    scratch: Scratch,
    hierarchies: Hierarchies,
    rootless: bool,
    single_user: bool,
    connections: Vec<Connection>,
    next_connection: ConnectionId,
    /// Greetings that are due once what earlier connections asked for has come to be, or failed.
    greetings: Vec<(ConnectionId, u64)>,
    workers: HashMap<i32, Worker>,
    containers: HashMap<i32, Container>,
    execs: HashMap<i32, Exec>,
    sandboxes: HashMap<String, Sandbox>,
    /// Children that ended before their worker said what they are.
    unclaimed: HashMap<i32, WaitStatus>,
    busy_groups: Vec<Group>,
    ending: bool,
    bridge: Option<Bridge>,
}

impl Reactor {
    fn accept(&mut self, stream: UnixStream, bound: bool) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        self.next_connection += 1;
        self.connections.push(Connection {
            id: self.next_connection,
            stream,
            input: Vec::new(),
            output: Vec::new(),
            bound,
            closed: false,
        });
        Ok(())
    }

    fn run(&mut self, listener: &UnixListener, signals: &SignalFd) -> io::Result<()> {
        loop {
            self.busy_groups.retain(|group| !group.remove());
            // Without containers and connections there is nothing to stay for.
            if (self.ending || self.connections.is_empty())
                && self.workers.is_empty()
                && self.containers.is_empty()
                && self.busy_groups.is_empty()
            {
                match listener.accept() {
                    Ok((stream, _)) if !self.ending => self.accept(stream, false)?,
                    _ => {
                        self.flush();
                        return Ok(());
                    }
                }
            }
            let (readable, accepting) = self.wait(listener, signals)?;
            if accepting && let Ok((stream, _)) = listener.accept() {
                self.accept(stream, false)?;
            }
            for descriptor in readable {
                if let Some(pid) = self
                    .workers
                    .iter()
                    .find(|(_, worker)| worker.channel.as_raw_fd() == descriptor)
                    .map(|(pid, _)| *pid)
                {
                    self.worker_reported(pid);
                } else if let Some(at) = self
                    .connections
                    .iter()
                    .position(|connection| connection.stream.as_raw_fd() == descriptor)
                {
                    self.read(at);
                }
            }
            while let Ok(Some(_)) = signals.read_signal() {}
            self.reap();
            self.time_out();
            self.greet();
            self.flush();
            self.drop_closed();
        }
    }

    /// Waits for something to do; answers with the readable descriptors and whether somebody connects.
    fn wait(&self, listener: &UnixListener, signals: &SignalFd) -> io::Result<(Vec<RawFd>, bool)> {
        let mut polled = vec![
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        for connection in &self.connections {
            let mut flags = PollFlags::POLLIN;
            if !connection.output.is_empty() {
                flags |= PollFlags::POLLOUT;
            }
            polled.push(PollFd::new(connection.stream.as_fd(), flags));
        }
        for worker in self.workers.values() {
            polled.push(PollFd::new(worker.channel.as_fd(), PollFlags::POLLIN));
        }
        let next = self
            .execs
            .values()
            .filter(|exec| !exec.timed_out)
            .map(|exec| exec.deadline)
            .min();
        let mut limit = next.map(|deadline| {
            deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1)
        });
        if !self.busy_groups.is_empty() {
            limit = Some(limit.unwrap_or(Duration::MAX).min(Duration::from_millis(5)));
        }
        let limit = match limit {
            Some(limit) => PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        match poll(&mut polled, limit) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = |polled: &PollFd<'_>| polled.revents().is_some_and(|events| !events.is_empty());
        let readable = polled
            .iter()
            .skip(2)
            .filter(|polled| ready(polled))
            .map(|polled| polled.as_fd().as_raw_fd())
            .collect();
        Ok((readable, polled.first().is_some_and(ready)))
    }

    fn read(&mut self, at: usize) {
        let Some(connection) = self.connections.get_mut(at) else {
            return;
        };
        let mut buffer = [0; 65536];
        loop {
            match connection.stream.read(&mut buffer) {
                Ok(0) => {
                    connection.closed = true;
                    break;
                }
                Ok(count) => connection.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    connection.closed = true;
                    break;
                }
            }
        }
        let id = connection.id;
        let mut calls = Vec::new();
        while let Some(end) = connection.input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = connection.input.drain(..=end).collect();
            calls.push(serde_json::from_slice::<Call>(&line));
        }
        for call in calls {
            match call {
                Ok(call) => self.call(id, call),
                Err(error) => eprintln!("unreadable request: {error}"),
            }
        }
    }

    fn call(&mut self, connection: ConnectionId, call: Call) {
        let id = call.id;
        let answer = match call.request {
            Request::Hello { version, bound } => {
                if let Some(found) = self.connections.iter_mut().find(|one| one.id == connection) {
                    found.bound = bound;
                }
                if version != VERSION {
                    self.end();
                }
                return self.greetings.push((connection, id));
            }
            Request::Network { name } => {
                let made = match self.bridge.take() {
                    Some(bridge) => Ok(bridge),
                    None => Bridge::make(&name),
                };
                made.map(|bridge| Reply::Network(self.bridge.insert(bridge).uplink().clone()))
            }
            Request::RemoveSandbox { pod } => {
                if let Some(sandbox) = self.sandboxes.remove(&pod) {
                    unmount(&sandbox.tmpfs);
                }
                Ok(Reply::Done)
            }
            Request::Signal { container, signal } => self.signal(&container, signal),
            Request::Shutdown => {
                self.end();
                Ok(Reply::Done)
            }
            Request::Sandbox(request) => return self.start_sandbox(connection, id, request),
            Request::Run(request) => return self.start_run(connection, id, *request),
            Request::Exec(request) => return self.start_exec(connection, id, request),
            Request::Remove { paths } => return self.start_remove(connection, id, paths),
        };
        self.send(connection, &Message::Reply { id, result: answer });
    }

    /// Answers greetings, unless containers or sandboxes are in the making: whoever takes over from a node that died must
    /// hear of them, or it would kill them as strays or make them again.
    fn greet(&mut self) {
        let making = |worker: &Worker| matches!(worker.job, Job::Run { .. } | Job::Sandbox(_));
        if self.greetings.is_empty() || self.workers.values().any(making) {
            return;
        }
        for (connection, id) in std::mem::take(&mut self.greetings) {
            let result = Ok(Reply::Hello(self.greeting()));
            self.send(connection, &Message::Reply { id, result });
        }
    }

    fn greeting(&self) -> Greeting {
        let mut warnings = Vec::new();
        if self.single_user {
            warnings.push(
                "containers know one user only, because newuidmap or a range in /etc/subuid is missing: runAsUser, runAsGroup and fsGroup are ignored".to_string(),
            );
        }
        Greeting {
            version: VERSION,
            pid: std::process::id() as i32,
            containers: self
                .containers
                .iter()
                .map(|(pid, container)| (container.name.clone(), *pid))
                .collect(),
            sandboxes: self
                .sandboxes
                .iter()
                .map(|(pod, sandbox)| (pod.clone(), sandbox.interface.clone()))
                .collect::<BTreeMap<_, _>>(),
            warnings,
            single_user: self.single_user,
            rootless: self.rootless,
            scratch: self.scratch.image_volume(""),
        }
    }

    fn signal(&self, container: &str, number: i32) -> Result<Reply, Failure> {
        let Some((pid, _)) = self
            .containers
            .iter()
            .find(|(_, one)| one.name == container)
        else {
            // It has ended: the message that says so is on its way.
            return Ok(Reply::Done);
        };
        let signal = Signal::try_from(number).map_err(Failure::new)?;
        match kill(Pid::from_raw(*pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(Reply::Done),
            Err(error) => Err(Failure::new(error)),
        }
    }

    fn end(&mut self) {
        self.ending = true;
        for pid in self.containers.keys() {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
    }

    fn start_sandbox(&mut self, connection: ConnectionId, call: u64, request: SandboxRequest) {
        if self.sandboxes.contains_key(&request.pod) {
            return self.send(
                connection,
                &Message::Reply {
                    id: call,
                    result: Ok(Reply::Done),
                },
            );
        }
        for (path, size) in &request.tmpfs {
            let options = format!("mode=1777,size={size}");
            let mounted = nix::mount::mount(
                Some("tmpfs"),
                path,
                Some("tmpfs"),
                nix::mount::MsFlags::MS_NOSUID | nix::mount::MsFlags::MS_NODEV,
                Some(options.as_str()),
            );
            if let Err(error) = mounted {
                let failure = Failure::new(format!("cannot mount a tmpfs volume: {error}"));
                return self.send(
                    connection,
                    &Message::Reply {
                        id: call,
                        result: Err(failure),
                    },
                );
            }
        }
        let job = Job::Sandbox(Box::new(request));
        self.fork_worker(connection, call, job, |job, _| {
            let Job::Sandbox(request) = job else {
                return (Err(Failure::new("not a sandbox")), Vec::new());
            };
            match sandbox::make(request) {
                Ok(made) => (Ok((0, Vec::new())), made),
                Err(failure) => (Err(failure), Vec::new()),
            }
        });
    }

    fn start_run(&mut self, connection: ConnectionId, call: u64, mut request: RunRequest) {
        if self.ending {
            let failure = Failure::new("the launcher is ending");
            return self.send(
                connection,
                &Message::Reply {
                    id: call,
                    result: Err(failure),
                },
            );
        }
        if let Some(sandbox) = self.sandboxes.get(&request.pod)
            && let Some(Value::Array(namespaces)) = request.spec.pointer_mut("/linux/namespaces")
        {
            namespaces.extend(
                sandbox
                    .paths()
                    .map(|(kind, path)| json!({"type": kind, "path": path})),
            );
        }
        let mut warnings = Vec::new();
        let group = self
            .hierarchies
            .create(&request.container, &request.limits)
            .unwrap_or_else(|error| {
                warnings.push(format!("limits of containers are not kept: {error}"));
                None
            });
        let job = Job::Run {
            container: request.container.clone(),
            exit_file: request.exit_file.clone(),
            group,
            warnings,
        };
        self.fork_worker(connection, call, job, |job, scratch| {
            let Job::Run { group, .. } = job else {
                return (Err(Failure::new("not a container")), Vec::new());
            };
            let result = worker::run(request, scratch, group.as_ref());
            (
                result.map(|started| (started.pid, started.warnings)),
                Vec::new(),
            )
        });
    }

    fn start_exec(&mut self, connection: ConnectionId, call: u64, request: ExecRequest) {
        let deadline = Instant::now() + Duration::from_millis(request.timeout_ms);
        self.fork_worker(connection, call, Job::Exec { deadline }, |_, scratch| {
            (
                worker::exec(&request, scratch).map(|pid| (pid, Vec::new())),
                Vec::new(),
            )
        });
    }

    fn start_remove(&mut self, connection: ConnectionId, call: u64, paths: Vec<PathBuf>) {
        self.fork_worker(connection, call, Job::Remove, move |_, _| {
            let removed = paths.iter().filter(|path| !remove_all(path)).count() == 0;
            let result = removed
                .then_some((0, Vec::new()))
                .ok_or_else(|| Failure::new("some files of the pod cannot be removed"));
            (result, Vec::new())
        });
    }

    /// Forks a worker that does `work` and reports; the parent goes on at once.
    fn fork_worker(
        &mut self,
        connection: ConnectionId,
        call: u64,
        job: Job,
        work: impl FnOnce(&Job, &Scratch) -> (Result<(i32, Vec<String>), Failure>, Vec<OwnedFd>),
    ) {
        let pair = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        );
        let (ours, theirs) = match pair {
            Ok(pair) => pair,
            Err(error) => return self.refuse(connection, call, error),
        };
        // SAFETY: the launcher has one thread, so the child may do anything the parent may.
        match unsafe { fork() } {
            Err(error) => self.refuse(connection, call, error),
            Ok(ForkResult::Parent { child }) => {
                self.workers.insert(
                    child.as_raw(),
                    Worker {
                        channel: ours,
                        connection,
                        call,
                        job,
                    },
                );
            }
            Ok(ForkResult::Child) => {
                become_worker();
                let (result, descriptors) = work(&job, &self.scratch);
                let report = serde_json::to_vec(&Report { result }).unwrap_or_default();
                let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
                let rights = [ControlMessage::ScmRights(&raw)];
                let control = if raw.is_empty() { &[][..] } else { &rights[..] };
                let _ = sendmsg::<()>(
                    theirs.as_raw_fd(),
                    &[IoSlice::new(&report)],
                    control,
                    MsgFlags::empty(),
                    None,
                );
                // Nothing of the parent's may be run or flushed here.
                // SAFETY: _exit ends the process at once.
                unsafe { nix::libc::_exit(0) }
            }
        }
    }

    fn refuse(&mut self, connection: ConnectionId, call: u64, error: Errno) {
        let result = Err(Failure::new(format!("cannot start a worker: {error}")));
        self.send(connection, &Message::Reply { id: call, result });
    }

    fn worker_reported(&mut self, pid: i32) {
        let Some(worker) = self.workers.remove(&pid) else {
            return;
        };
        let (result, mut descriptors) = receive(&worker.channel);
        let answer = match worker.job {
            Job::Run {
                container,
                exit_file,
                group,
                mut warnings,
            } => match result {
                Ok((started, more)) => {
                    warnings.extend(more);
                    self.containers.insert(
                        started,
                        Container {
                            name: container,
                            exit_file,
                            group,
                        },
                    );
                    if self.ending {
                        let _ = kill(Pid::from_raw(started), Signal::SIGKILL);
                    }
                    let result = Ok(Reply::Started {
                        pid: started,
                        warnings,
                    });
                    self.send(
                        worker.connection,
                        &Message::Reply {
                            id: worker.call,
                            result,
                        },
                    );
                    if let Some(status) = self.unclaimed.remove(&started) {
                        self.child_ended(started, status);
                    }
                    return;
                }
                Err(failure) => {
                    self.scratch.forget(&container);
                    self.busy_groups.extend(group);
                    Err(failure)
                }
            },
            Job::Sandbox(request) => match result {
                Ok(_) => {
                    let network = request
                        .network
                        .is_some()
                        .then(|| (!descriptors.is_empty()).then(|| descriptors.remove(0)))
                        .flatten();
                    let ipc = (!request.host_ipc)
                        .then(|| (!descriptors.is_empty()).then(|| descriptors.remove(0)))
                        .flatten();
                    match descriptors.pop() {
                        Some(uts) => {
                            let tmpfs = request.tmpfs.into_iter().map(|(path, _)| path).collect();
                            let sandbox = Sandbox {
                                network,
                                ipc,
                                uts,
                                interface: request.network,
                                tmpfs,
                            };
                            self.sandboxes.insert(request.pod, sandbox);
                            Ok(Reply::Done)
                        }
                        None => Err(Failure::new("the pod's namespaces were lost")),
                    }
                }
                Err(failure) => {
                    let mounted: Vec<PathBuf> =
                        request.tmpfs.into_iter().map(|(path, _)| path).collect();
                    unmount(&mounted);
                    Err(failure)
                }
            },
            Job::Remove => result.map(|_| Reply::Done),
            Job::Exec { deadline } => match result {
                Ok((started, _)) => {
                    let exec = Exec {
                        connection: worker.connection,
                        call: worker.call,
                        deadline,
                        timed_out: false,
                    };
                    self.execs.insert(started, exec);
                    if let Some(status) = self.unclaimed.remove(&started) {
                        self.child_ended(started, status);
                    }
                    return;
                }
                Err(failure) => Err(failure),
            },
        };
        self.send(
            worker.connection,
            &Message::Reply {
                id: worker.call,
                result: answer,
            },
        );
    }

    fn reap(&mut self) {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(_) => break,
                Ok(status) => {
                    if let Some(pid) = status.pid() {
                        self.child_ended(pid.as_raw(), status);
                    }
                }
            }
        }
        if self.workers.is_empty() {
            self.unclaimed.clear();
        }
    }

    fn child_ended(&mut self, pid: i32, status: WaitStatus) {
        let code = match status {
            WaitStatus::Exited(_, code) => code,
            WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
            _ => return,
        };
        if let Some(container) = self.containers.remove(&pid) {
            let at = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |since| since.as_nanos() as i64);
            let oom = container.group.as_ref().is_some_and(Group::oom_killed);
            let exit = Exit { code, oom, at };
            write_exit(&container.exit_file, &exit);
            self.broadcast(&Message::Exited {
                container: container.name.clone(),
                exit,
            });
            self.scratch.forget(&container.name);
            self.busy_groups.extend(container.group);
        } else if let Some(exec) = self.execs.remove(&pid) {
            let result = Ok(Reply::ExecEnded {
                code,
                timed_out: exec.timed_out,
            });
            self.send(
                exec.connection,
                &Message::Reply {
                    id: exec.call,
                    result,
                },
            );
        } else if self.workers.contains_key(&pid) {
            // Its report, or the lack of one, is read from its channel.
        } else {
            self.unclaimed.insert(pid, status);
        }
    }

    fn time_out(&mut self) {
        let now = Instant::now();
        for (pid, exec) in self
            .execs
            .iter_mut()
            .filter(|(_, exec)| !exec.timed_out && exec.deadline <= now)
        {
            exec.timed_out = true;
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
    }

    fn send(&mut self, connection: ConnectionId, message: &Message) {
        let found = self.connections.iter_mut().find(|one| one.id == connection);
        if let (Some(connection), Ok(line)) = (found, serde_json::to_vec(message)) {
            connection.output.extend_from_slice(&line);
            connection.output.push(b'\n');
        }
    }

    fn broadcast(&mut self, message: &Message) {
        let all: Vec<ConnectionId> = self.connections.iter().map(|one| one.id).collect();
        for connection in all {
            self.send(connection, message);
        }
    }

    fn flush(&mut self) {
        for connection in &mut self.connections {
            while !connection.output.is_empty() {
                match connection.stream.write(&connection.output) {
                    Ok(written) => drop(connection.output.drain(..written)),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => {
                        connection.closed = true;
                        connection.output.clear();
                    }
                }
            }
        }
    }

    /// A bound connection's end is the launcher's.
    fn drop_closed(&mut self) {
        if self
            .connections
            .iter()
            .any(|connection| connection.closed && connection.bound)
        {
            self.end();
        }
        self.connections.retain(|connection| !connection.closed);
    }
}

/// Undoes in a fresh worker what the launcher set up for itself and a container must not inherit.
fn become_worker() {
    let _ = SigSet::all().thread_unblock();
    for reset in [
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGTERM,
        Signal::SIGPIPE,
    ] {
        // SAFETY: the default disposition installs no handler that could run.
        let _ = unsafe { signal(reset, SigHandler::SigDfl) };
    }
}

fn unmount(paths: &[PathBuf]) {
    for path in paths {
        let _ = nix::mount::umount2(path, nix::mount::MntFlags::MNT_DETACH);
    }
}

fn write_exit(file: &Path, exit: &Exit) {
    let partial = file.with_extension("partial");
    let Ok(bytes) = serde_json::to_vec(exit) else {
        return;
    };
    if let Err(error) = fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, file)) {
        eprintln!("cannot write {}: {error}", file.display());
    }
}

fn receive(channel: &OwnedFd) -> (Outcome, Vec<OwnedFd>) {
    let mut bytes = vec![0; 65536];
    let mut control = nix::cmsg_space!([RawFd; 4]);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg::<()>(
        channel.as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::MSG_CMSG_CLOEXEC,
    );
    let (count, descriptors) = match received {
        Ok(message) => {
            let mut descriptors = Vec::new();
            for part in message.cmsgs().into_iter().flatten() {
                if let ControlMessageOwned::ScmRights(raw) = part {
                    // SAFETY: the kernel has just installed these descriptors for us; nobody else owns them.
                    descriptors.extend(
                        raw.into_iter()
                            .map(|one| unsafe { OwnedFd::from_raw_fd(one) }),
                    );
                }
            }
            (message.bytes, descriptors)
        }
        Err(error) => return (Err(Failure::new(error)), Vec::new()),
    };
    let result = match serde_json::from_slice::<Report>(&bytes[..count]) {
        Ok(report) => report.result,
        Err(_) => Err(Failure::new("the worker ended without a report")),
    };
    (result, descriptors)
}
