//! Forked workers: what they are for, and what they report.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, SigSet, Signal, kill, signal};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use nix::unistd::{ForkResult, Pid, fork};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Reactor;
use super::children::{Container, Exec};
use super::connections::ConnectionId;
use crate::degraded::{Degraded, Lack};
use crate::launcher::cgroup::Group;
use crate::launcher::protocol::{ExecRequest, Failure, Message, Reply, RunRequest, SandboxRequest};
use crate::launcher::sandbox::{self, Sandbox};
use crate::launcher::scratch::Scratch;
use crate::launcher::worker;
use crate::volume_files::remove_all;

/// A forked worker and what it is for.
pub(super) struct Worker {
    pub(super) channel: OwnedFd,
    pub(super) connection: ConnectionId,
    pub(super) call: u64,
    pub(super) job: Job,
}

pub(super) enum Job {
    Run {
        container: String,
        exit_file: PathBuf,
        group: Option<Group>,
        warnings: Vec<Degraded>,
    },
    Sandbox(Box<SandboxRequest>),
    Exec {
        deadline: Instant,
    },
    Remove,
}

/// A started process and warnings, or why there is none.
type Outcome = Result<(i32, Vec<Degraded>), Failure>;

/// What a worker reports; a sandbox worker sends its namespaces along.
#[derive(Serialize, Deserialize)]
struct Report {
    result: Outcome,
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

pub(super) fn unmount(paths: &[PathBuf]) {
    for path in paths {
        let _ = nix::mount::umount2(path, nix::mount::MntFlags::MNT_DETACH);
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

impl Reactor {
    pub(super) fn start_sandbox(
        &mut self,
        connection: ConnectionId,
        call: u64,
        request: SandboxRequest,
    ) {
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

    pub(super) fn start_run(
        &mut self,
        connection: ConnectionId,
        call: u64,
        mut request: RunRequest,
    ) {
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
        let (group, not_kept) = self.hierarchies.create(&request.container, &request.limits);
        let warnings = not_kept.map(|text| Degraded::new(Lack::Limits, text));
        let job = Job::Run {
            container: request.container.clone(),
            exit_file: request.exit_file.clone(),
            group,
            warnings: warnings.into_iter().collect(),
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

    pub(super) fn start_exec(&mut self, connection: ConnectionId, call: u64, request: ExecRequest) {
        let deadline = Instant::now() + Duration::from_millis(request.timeout_ms);
        self.fork_worker(connection, call, Job::Exec { deadline }, |_, scratch| {
            (
                worker::exec(&request, scratch).map(|pid| (pid, Vec::new())),
                Vec::new(),
            )
        });
    }

    pub(super) fn start_remove(
        &mut self,
        connection: ConnectionId,
        call: u64,
        paths: Vec<PathBuf>,
    ) {
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
        work: impl FnOnce(&Job, &Scratch) -> (Outcome, Vec<OwnedFd>),
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

    pub(super) fn worker_reported(&mut self, pid: i32) {
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
}
