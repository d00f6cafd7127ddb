//! Logs of containers, as `pods/log` wants them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
#[cfg(test)]
use futures::TryStreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::log_files::{LogFile, Progress, Times};

/// Bytes of a log as they come.
pub type LogStream = BoxStream<'static, io::Result<Bytes>>;

/// Which part of a log (K-329).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Stream until the container ends.
    pub follow: bool,
    /// The last ended instance instead of the current one.
    pub previous: bool,
    /// Prefix each line with its RFC 3339 time (nine decimals) and a space.
    pub timestamps: bool,
    /// Only this many lines from the end.
    pub tail_lines: Option<u64>,
    /// Only lines of the last so many seconds.
    pub since_seconds: Option<u64>,
    /// Only lines from this time on.
    pub since_time: Option<Timestamp>,
    /// Stop after this many bytes.
    pub limit_bytes: Option<u64>,
}

/// Why a log cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The container has not started (K-327).
    #[error("container \"{container}\" in pod \"{pod}\" is waiting to start: {reason}")]
    Waiting {
        /// The pod's name.
        pod: String,
        /// The container's name.
        container: String,
        /// Such as `ContainerCreating`.
        reason: String,
    },
    /// `previous` was asked for, and there is no earlier instance.
    #[error("previous terminated container \"{container}\" in pod \"{pod}\" not found")]
    NoPrevious {
        /// The pod's name.
        pod: String,
        /// The container's name.
        container: String,
    },
    /// The node does not know the pod or container (any more).
    #[error("{0}")]
    NotFound(String),
    /// The file cannot be read.
    #[error("{0}")]
    Failed(String),
}

/// Reads a log file; `growing` is its watch, if it is still being written.
pub(crate) fn read(
    path: &Path,
    growing: Option<Arc<LogFile>>,
    options: LogOptions,
) -> io::Result<LogStream> {
    let mut file = File::open(path)?;
    let times = match &growing {
        Some(file) => file.times(),
        None => Times::load(path),
    };
    let size = file.metadata()?.len();
    let mut start = 0;
    let since = options
        .since_time
        .or_else(|| {
            let seconds = i64::try_from(options.since_seconds?).ok()?;
            Timestamp::now()
                .checked_sub(jiff::SignedDuration::from_secs(seconds))
                .ok()
        })
        .map(|time| i64::try_from(time.as_nanosecond()).unwrap_or(i64::MIN));
    if let Some(since) = since {
        start = line_start(&mut file, times.since(since).unwrap_or(size))?;
    }
    if let Some(lines) = options.tail_lines {
        start = start.max(tail_start(&mut file, size, lines)?);
    }
    file.seek(SeekFrom::Start(start))?;
    let reader = Reader {
        progress: growing.as_ref().map(|file| file.subscribe()),
        growing,
        times,
        file,
        offset: start,
        pending: Vec::new(),
        within_line: false,
        left: options.limit_bytes,
        timestamps: options.timestamps,
        follow: options.follow,
        end: false,
    };
    Ok(
        futures::stream::try_unfold(reader, |mut reader| async move {
            Ok(reader.next().await?.map(|bytes| (bytes, reader)))
        })
        .boxed(),
    )
}

/// How much is read at once.
const CHUNK: usize = 64 * 1024;
/// A line that is longer comes in pieces, as container runtimes have it.
const LONG_LINE: usize = 16 * 1024;

struct Reader {
    file: File,
    growing: Option<Arc<LogFile>>,
    progress: Option<watch::Receiver<Progress>>,
    times: Times,
    /// Offset of the first byte of `pending`.
    offset: u64,
    /// Read, but not yet a whole line, nor a long one.
    pending: Vec<u8>,
    /// Whether a piece of the line has been given out.
    within_line: bool,
    left: Option<u64>,
    timestamps: bool,
    follow: bool,
    end: bool,
}

impl Reader {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if self.end || self.left == Some(0) {
                return Ok(None);
            }
            // Seen before the read: what is written later is read in another round.
            let ended = match &mut self.progress {
                Some(progress) => progress.borrow_and_update().ended,
                None => true,
            };
            let mut chunk = vec![0; CHUNK];
            let count = self.file.read(&mut chunk)?;
            chunk.truncate(count);
            let complete = match chunk.iter().rposition(|byte| *byte == b'\n') {
                Some(at) => self.pending.len() + at + 1,
                None if self.pending.len() + count > LONG_LINE => self.pending.len() + count,
                None => 0,
            };
            self.pending.extend_from_slice(&chunk);
            if count == 0 && ended {
                // K-328: an unfinished last line appears once the container has ended.
                self.end = true;
                let rest = std::mem::take(&mut self.pending);
                return Ok(self.emit(rest));
            }
            if complete > 0 {
                let rest = self.pending.split_off(complete);
                let lines = std::mem::replace(&mut self.pending, rest);
                return Ok(self.emit(lines));
            }
            if count > 0 {
                continue;
            }
            if !self.follow {
                return Ok(None);
            }
            let alive = match &mut self.progress {
                Some(progress) => progress.changed().await.is_ok(),
                None => false,
            };
            if !alive {
                self.progress = None;
            }
        }
    }

    fn emit(&mut self, lines: Vec<u8>) -> Option<Bytes> {
        if lines.is_empty() {
            return None;
        }
        let length = lines.len() as u64;
        let mut out = if self.timestamps {
            self.stamp(&lines)
        } else {
            lines
        };
        self.within_line = !out.ends_with(b"\n");
        self.offset += length;
        if let Some(left) = &mut self.left {
            out.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= out.len() as u64;
        }
        Some(Bytes::from(out))
    }

    fn stamp(&mut self, lines: &[u8]) -> Vec<u8> {
        if let Some(growing) = &self.growing {
            self.times = growing.times();
        }
        let mut out = Vec::with_capacity(lines.len() * 2);
        let mut offset = self.offset;
        for (at, line) in lines.split_inclusive(|byte| *byte == b'\n').enumerate() {
            offset += line.len() as u64;
            if at == 0 && self.within_line {
                out.extend_from_slice(line);
                continue;
            }
            let nanos = self.times.at(offset.saturating_sub(1)).unwrap_or_default();
            let time =
                Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or(Timestamp::UNIX_EPOCH);
            out.extend_from_slice(format!("{time:.9} ").as_bytes());
            out.extend_from_slice(line);
        }
        out
    }
}

/// Start of the first line that begins at or after an offset.
fn line_start(file: &mut File, offset: u64) -> io::Result<u64> {
    if offset == 0 {
        return Ok(0);
    }
    let mut at = offset - 1;
    file.seek(SeekFrom::Start(at))?;
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = file.read(&mut chunk)?;
        if count == 0 {
            return Ok(at);
        }
        if let Some(found) = chunk[..count].iter().position(|byte| *byte == b'\n') {
            return Ok(at + found as u64 + 1);
        }
        at += count as u64;
    }
}

/// Start of the last so many lines.
fn tail_start(file: &mut File, size: u64, lines: u64) -> io::Result<u64> {
    if lines == 0 {
        return Ok(size);
    }
    let mut end = size;
    let mut seen = 0;
    let mut chunk = vec![0; CHUNK];
    while end > 0 {
        let start = end.saturating_sub(CHUNK as u64);
        let part = &mut chunk[..usize::try_from(end - start).unwrap_or(CHUNK)];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        for at in (0..part.len()).rev() {
            let position = start + at as u64;
            // The newline that ends the last line begins no other.
            if part[at] == b'\n' && position + 1 != size {
                seen += 1;
                if seen == lines {
                    return Ok(position + 1);
                }
            }
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_files::LogWatch;
    use std::io::Write;

    fn append(path: &Path, text: &str) {
        std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .expect("written");
    }

    async fn all(path: &Path, options: LogOptions) -> String {
        let parts: Vec<Bytes> = read(path, None, options)
            .expect("readable")
            .try_collect()
            .await
            .expect("read");
        String::from_utf8(parts.concat()).expect("text")
    }

    /// The log of a container that runs, as somebody follows it.
    fn followed(path: &Path) -> (LogWatch, LogStream) {
        let watch = LogWatch::start().expect("inotify");
        watch.open(path).expect("opened");
        let follow = LogOptions {
            follow: true,
            ..LogOptions::default()
        };
        let stream = read(path, watch.find(path), follow).expect("readable");
        (watch, stream)
    }

    // K-326, K-329, K-330
    #[tokio::test]
    async fn a_finished_log_is_read_whole_or_in_part() {
        let scratch = tempfile::tempdir().expect("a directory");
        let path = scratch.path().join("log");
        append(&path, "one\ntwo\nthree");
        let tail = |lines| LogOptions {
            tail_lines: Some(lines),
            ..LogOptions::default()
        };
        let limit = |bytes| LogOptions {
            limit_bytes: Some(bytes),
            ..LogOptions::default()
        };
        let cases = [
            (LogOptions::default(), "one\ntwo\nthree"),
            (tail(0), ""),
            (tail(1), "three"),
            (tail(2), "two\nthree"),
            (tail(9), "one\ntwo\nthree"),
            (limit(5), "one\nt"),
            (limit(99), "one\ntwo\nthree"),
        ];
        for (options, expected) in cases {
            assert_eq!(all(&path, options.clone()).await, expected, "{options:?}");
        }
        let long = scratch.path().join("long");
        let line = "x".repeat(3 * CHUNK);
        append(&long, &format!("{line}\n{line}\n"));
        assert_eq!(all(&long, tail(1)).await.len(), line.len() + 1);
    }

    // K-329
    #[tokio::test]
    async fn lines_carry_the_time_at_which_they_were_written() {
        let scratch = tempfile::tempdir().expect("a directory");
        let path = scratch.path().join("log");
        append(&path, "a\nb\nc\n");
        std::fs::write(
            path.with_extension("times"),
            "2 1000000000\n4 2000000000\n6 3000000005\n",
        )
        .expect("written");
        let timestamps = LogOptions {
            timestamps: true,
            ..LogOptions::default()
        };
        assert_eq!(
            all(&path, timestamps.clone()).await,
            "1970-01-01T00:00:01.000000000Z a\n1970-01-01T00:00:02.000000000Z b\n1970-01-01T00:00:03.000000005Z c\n"
        );
        let since = LogOptions {
            since_time: Timestamp::from_second(2).ok(),
            ..LogOptions::default()
        };
        assert_eq!(all(&path, since).await, "b\nc\n");
        let later = LogOptions {
            since_time: Timestamp::from_second(9).ok(),
            ..LogOptions::default()
        };
        assert_eq!(all(&path, later).await, "");
    }

    // K-328, K-329, K-330
    #[tokio::test]
    async fn a_line_longer_than_any_buffer_comes_in_pieces_as_it_is_written() {
        let scratch = tempfile::tempdir().expect("a directory");
        let path = scratch.path().join("log");
        let (watch, mut stream) = followed(&path);
        let piece = "x".repeat(LONG_LINE + 1);
        append(&path, &piece);
        assert_eq!(stream.next().await.expect("a piece").expect("read"), piece);
        append(&path, "y");
        append(&path, "\n");
        assert_eq!(stream.next().await.expect("the rest").expect("read"), "y\n");
        watch.close(&path);
        assert!(stream.next().await.is_none());

        append(&path, &format!("{}\nz\n", "x".repeat(3 * CHUNK)));
        let timestamps = LogOptions {
            timestamps: true,
            ..LogOptions::default()
        };
        let whole = all(&path, timestamps).await;
        assert_eq!(whole.lines().count(), 3);
        assert!(whole.lines().all(|line| line.matches("Z ").count() == 1));
    }

    // K-328
    #[tokio::test]
    async fn a_followed_log_comes_line_by_line_and_ends_with_its_container() {
        let scratch = tempfile::tempdir().expect("a directory");
        let path = scratch.path().join("log");
        let (watch, mut stream) = followed(&path);
        append(&path, "one\ntw");
        assert_eq!(stream.next().await.expect("a line").expect("read"), "one\n");
        append(&path, "o\n");
        assert_eq!(stream.next().await.expect("a line").expect("read"), "two\n");
        append(&path, "end");
        watch.close(&path);
        assert_eq!(stream.next().await.expect("the rest").expect("read"), "end");
        assert!(stream.next().await.is_none());
    }
}
