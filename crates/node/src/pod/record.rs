//! What is written down of each container instance, so that the next node finds out how it started and ended.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::launcher::protocol::Exit;
use crate::shared::Instance;
use crate::status::Ended;

/// How an instance was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub image: String,
    pub image_id: String,
    /// Nanoseconds since 1970.
    pub started: i64,
    pub stop_signal: i32,
}

impl Record {
    pub fn write(&self, instance: &Instance) -> std::io::Result<()> {
        fs::write(instance.record(), serde_json::to_vec(self)?)
    }

    pub fn read(instance: &Instance) -> Option<Self> {
        serde_json::from_slice(&fs::read(instance.record()).ok()?).ok()
    }

    pub fn started_at(&self) -> Timestamp {
        timestamp(self.started)
    }
}

pub(crate) fn timestamp(nanos: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// How an instance ended, if the launcher wrote it down.
pub(crate) fn read_exit(instance: &Instance) -> Option<Exit> {
    serde_json::from_slice(&fs::read(instance.exit()).ok()?).ok()
}

/// The end of an instance as its status shows it (K-275, K-283, K-285).
pub(crate) fn ended(
    instance: &Instance,
    exit: &Exit,
    started: Option<Timestamp>,
    container_id: &str,
    fallback: bool,
) -> Ended {
    let mut message = tail(&instance.message(), 4096);
    if message.is_empty() && fallback && exit.code != 0 {
        message = last_lines(&tail(&instance.log(), 2048), 80).to_string();
    }
    let reason = match exit {
        Exit { oom: true, .. } => "OOMKilled",
        Exit { code: 0, .. } => "Completed",
        _ => "Error",
    };
    Ended {
        code: exit.code,
        reason: reason.to_string(),
        message,
        started,
        finished: Some(timestamp(exit.at)),
        container_id: container_id.to_string(),
    }
}

/// The end of an instance nobody saw (K-292).
pub(crate) fn lost(started: Option<Timestamp>, container_id: &str) -> Ended {
    Ended {
        code: 137,
        reason: "ContainerStatusUnknown".to_string(),
        message: "The container could not be located when the pod was terminated".to_string(),
        started,
        finished: None,
        container_id: container_id.to_string(),
    }
}

/// The last bytes of a file as text.
fn tail(path: &Path, limit: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(limit)))?;
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

fn last_lines(text: &str, count: usize) -> &str {
    let trimmed = text.strip_suffix('\n').unwrap_or(text);
    let start = trimmed
        .rmatch_indices('\n')
        .nth(count - 1)
        .map_or(0, |(at, _)| at + 1);
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::Layout;

    fn instance(message: &str, log: &str) -> (tempfile::TempDir, Instance) {
        let scratch = tempfile::tempdir().expect("a directory");
        let instance = Layout::new(scratch.path().into(), None).instance("u", "c", 0);
        fs::create_dir_all(instance.root()).expect("made");
        fs::write(instance.message(), message).expect("written");
        fs::write(instance.log(), log).expect("written");
        (scratch, instance)
    }

    // K-275, K-283, K-285
    #[test]
    fn an_end_has_its_reason_and_the_last_bytes_of_the_message() {
        let exit = |code, oom| Exit { code, oom, at: 0 };
        let long = format!("{}{}", "x".repeat(10), "y".repeat(4096));
        let lines: String = (0..100).map(|number| format!("{number}\n")).collect();
        let expected_lines: String = (20..100).map(|number| format!("{number}\n")).collect();
        let cases = [
            (
                "m",
                "log\n",
                exit(0, false),
                true,
                "Completed",
                "m".to_string(),
            ),
            (
                "",
                "log\n",
                exit(0, false),
                true,
                "Completed",
                String::new(),
            ),
            (
                "",
                "log\n",
                exit(1, false),
                true,
                "Error",
                "log\n".to_string(),
            ),
            ("", "log\n", exit(1, false), false, "Error", String::new()),
            (
                "",
                lines.as_str(),
                exit(1, false),
                true,
                "Error",
                expected_lines,
            ),
            ("", "", exit(137, true), true, "OOMKilled", String::new()),
            (
                long.as_str(),
                "",
                exit(1, false),
                true,
                "Error",
                "y".repeat(4096),
            ),
        ];
        for (message, log, exit, fallback, reason, expected) in cases {
            let (_scratch, instance) = instance(message, log);
            let ended = ended(&instance, &exit, None, "id", fallback);
            assert_eq!((ended.reason.as_str(), ended.message), (reason, expected));
        }
    }
}
