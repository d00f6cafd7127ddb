//! Children: containers and what is run in them, until they are reaped.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::Reactor;
use super::connections::ConnectionId;
use crate::launcher::cgroup::Group;
use crate::launcher::protocol::{Exit, Failure, Message, Reply};

pub(super) struct Container {
    pub(super) name: String,
    pub(super) exit_file: PathBuf,
    pub(super) group: Option<Group>,
}

pub(super) struct Exec {
    pub(super) connection: ConnectionId,
    pub(super) call: u64,
    pub(super) deadline: Instant,
    pub(super) timed_out: bool,
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

impl Reactor {
    pub(super) fn signal(&self, container: &str, number: i32) -> Result<Reply, Failure> {
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

    pub(super) fn end(&mut self) {
        self.ending = true;
        for pid in self.containers.keys() {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
    }

    pub(super) fn reap(&mut self) {
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

    pub(super) fn child_ended(&mut self, pid: i32, status: WaitStatus) {
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

    pub(super) fn time_out(&mut self) {
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
}
