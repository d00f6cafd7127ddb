//! The launcher's loop: it waits for requests, reports and ends, and sees to each.

mod children;
mod connections;
mod jobs;
mod serve;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::WaitStatus;

use super::cgroup::{Group, Hierarchies};
use super::protocol::{Call, Greeting, Message, Reply, Request, VERSION};
use super::sandbox::Sandbox;
use super::scratch::Scratch;
use super::uplink::Bridge;
use super::user_namespace::{SINGLE_USER, Users};
use crate::degraded::{Degraded, Lack};
use children::{Container, Exec};
use connections::{Connection, ConnectionId};
use jobs::{Job, Worker, unmount};

pub(super) use serve::serve;

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

struct Reactor {
    scratch: Scratch,
    hierarchies: Hierarchies,
    rootless: bool,
    users: Users,
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
        let single_user = match &self.users {
            Users::Many => None,
            Users::One(why) => Some(Degraded::new(
                Lack::Users,
                format!("{SINGLE_USER}, since {why}"),
            )),
        };
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
            single_user: single_user.is_some(),
            warnings: single_user.into_iter().collect(),
            rootless: self.rootless,
            scratch: self.scratch.image_volume(""),
        }
    }
}
