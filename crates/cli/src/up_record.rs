//! Which process holds a data directory: written by `up`, read by `down` and `status`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// The running `up` of a data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpRecord {
    /// Its process.
    pub pid: u32,
    /// When the process started, in clock ticks since boot: tells it from a later one with the same number.
    pub ticks: u64,
    /// Where it serves.
    pub server: String,
}

fn path(directory: &Path) -> PathBuf {
    directory.join("up.json")
}

impl UpRecord {
    /// Records this process.
    pub fn write(directory: &Path, server: &str) -> io::Result<()> {
        let pid = std::process::id();
        let ticks = start_ticks(pid).ok_or_else(|| io::Error::other("/proc is not mounted"))?;
        let record = Self {
            pid,
            ticks,
            server: server.to_owned(),
        };
        let text = serde_json::to_string(&record)?;
        let temporary = directory.join(".up.json");
        fs::write(&temporary, text)?;
        fs::rename(temporary, path(directory))
    }

    /// The record, if its process is alive.
    pub fn read(directory: &Path) -> Option<Self> {
        let record: Self = serde_json::from_slice(&fs::read(path(directory)).ok()?).ok()?;
        (start_ticks(record.pid) == Some(record.ticks)).then_some(record)
    }

    /// Removes the record of a process that ends.
    pub fn remove(directory: &Path) {
        // Nobody believes a record whose process is gone, so a failure does no harm.
        let _ = fs::remove_file(path(directory));
    }

    /// Asks the process to end and waits for it; `false` if it takes longer than `patience`.
    pub fn stop(&self, patience: Duration) -> io::Result<bool> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return Ok(true);
        };
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => process,
            Err(rustix::io::Errno::SRCH) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        // The number may have been given to another process between reading the record and opening it.
        if start_ticks(self.pid) != Some(self.ticks) {
            return Ok(true);
        }
        pidfd_send_signal(&process, Signal::TERM)?;
        let limit = Timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: 0,
        };
        let ready = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit))?;
        Ok(ready > 0)
    }

    /// Resident memory of the process in bytes.
    pub fn resident(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim()
            .strip_suffix(" kB")?
            .trim()
            .parse::<u64>()
            .ok()
            .map(|kib| kib * 1024)
    }
}

/// Field 22 of `/proc/PID/stat`; the name in field 2 may hold anything, so fields count from its closing bracket.
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(19)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_while_its_process_lives() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(UpRecord::read(directory.path()), None);
        UpRecord::write(directory.path(), "https://127.0.0.1:1").expect("written");
        let record = UpRecord::read(directory.path()).expect("this process lives");
        assert_eq!(record.pid, std::process::id());
        assert!(record.resident().is_some_and(|bytes| bytes > 0));
        let other = UpRecord {
            ticks: record.ticks + 1,
            ..record
        };
        fs::write(
            path(directory.path()),
            serde_json::to_string(&other).expect("JSON"),
        )
        .expect("written");
        assert_eq!(
            UpRecord::read(directory.path()),
            None,
            "the same number, another process"
        );
    }

    #[test]
    fn stopping_waits_for_the_end() {
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .expect("sleep");
        let ticks = start_ticks(child.id()).expect("alive");
        let record = UpRecord {
            pid: child.id(),
            ticks,
            server: String::new(),
        };
        assert!(record.stop(Duration::from_secs(20)).expect("signalled"));
        assert!(!child.wait().expect("an end").success());
    }
}
