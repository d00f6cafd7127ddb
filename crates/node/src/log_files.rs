//! Log files while they are written: who wants to hear of growth, and a sparse index from offset to time.
//!
//! A container appends to its file directly, so the file itself has no times. The node hears of each growth by inotify
//! and notes `(size, time)`; bytes written while no node runs get the time at which the next one looks.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use crate::pod::start::now_nanos;

/// All log files that are being written.
#[derive(Clone)]
pub(crate) struct LogWatch {
    inotify: Arc<AsyncFd<Polled>>,
    files: Arc<Mutex<HashMap<WatchDescriptor, Arc<LogFile>>>>,
}

/// An inotify instance that a runtime can wait for.
struct Polled(Inotify);

impl AsRawFd for Polled {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// One log file that is being written.
pub(crate) struct LogFile {
    path: PathBuf,
    times: Mutex<Times>,
    progress: watch::Sender<Progress>,
}

/// How far a log file has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub size: u64,
    pub ended: bool,
}

/// When which part of a file was written: sizes ascending, each with the time at which the file had it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    entries: Vec<(u64, i64)>,
    saved: usize,
}

/// Growths closer to each other than this share an entry.
const RESOLUTION: i64 = 1_000_000;

impl Times {
    pub fn load(log: &Path) -> Self {
        let text = fs::read_to_string(times_path(log)).unwrap_or_default();
        let entries: Vec<(u64, i64)> = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(size, time)| Some((size.parse().ok()?, time.parse().ok()?)))
            .collect();
        Self {
            saved: entries.len(),
            entries,
        }
    }

    fn note(&mut self, size: u64, now: i64) {
        let saved = self.saved;
        let count = self.entries.len();
        match self.entries.last_mut() {
            Some((last, _)) if *last >= size => {}
            Some((last, time)) if count > saved && now - *time < RESOLUTION => *last = size,
            _ => self.entries.push((size, now)),
        }
    }

    fn save(&mut self, log: &Path) -> io::Result<()> {
        let Some(fresh) = self
            .entries
            .get(self.saved..)
            .filter(|fresh| !fresh.is_empty())
        else {
            return Ok(());
        };
        let text: String = fresh
            .iter()
            .map(|(size, time)| format!("{size} {time}\n"))
            .collect();
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(times_path(log))?
            .write_all(text.as_bytes())?;
        self.saved = self.entries.len();
        Ok(())
    }

    /// When the byte at an offset was written.
    pub fn at(&self, offset: u64) -> Option<i64> {
        let index = self.entries.partition_point(|(size, _)| *size <= offset);
        self.entries
            .get(index)
            .or(self.entries.last())
            .map(|(_, time)| *time)
    }

    /// Offset of the first byte written at or after a time; `None` if there is none yet.
    pub fn since(&self, time: i64) -> Option<u64> {
        let index = self.entries.partition_point(|(_, at)| *at < time);
        self.entries.get(index)?;
        Some(
            index
                .checked_sub(1)
                .and_then(|before| self.entries.get(before))
                .map_or(0, |(size, _)| *size),
        )
    }
}

fn times_path(log: &Path) -> PathBuf {
    log.with_extension("times")
}

impl LogWatch {
    /// Starts to listen; needs a tokio runtime.
    pub fn start() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        // SAFETY: the descriptor is owned by the value it is registered with and never replaced or closed before it.
        #[allow(unsafe_code)]
        let polled = unsafe { AsyncFd::register(Polled(inotify)) }?;
        let watch = Self {
            inotify: Arc::new(polled),
            files: Arc::default(),
        };
        let own = watch.clone();
        tokio::spawn(async move { own.listen().await });
        Ok(watch)
    }

    /// Makes a log file if it is not there and watches it.
    pub fn open(&self, path: &Path) -> io::Result<()> {
        let size = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)?
            .metadata()?
            .len();
        let mut files = lock(&self.files);
        let descriptor = self
            .inotify
            .get_ref()
            .0
            .add_watch(path, AddWatchFlags::IN_MODIFY)?;
        files.entry(descriptor).or_insert_with(|| {
            let mut times = Times::load(path);
            times.note(size, now_nanos());
            Arc::new(LogFile {
                path: path.to_path_buf(),
                times: Mutex::new(times),
                progress: watch::Sender::new(Progress { size, ended: false }),
            })
        });
        Ok(())
    }

    /// The container has ended: followers read to the end and stop.
    pub fn close(&self, path: &Path) {
        let mut files = lock(&self.files);
        let Some(descriptor) = files
            .iter()
            .find(|(_, file)| file.path == path)
            .map(|(descriptor, _)| *descriptor)
        else {
            return;
        };
        if let Some(file) = files.remove(&descriptor) {
            let _ = self.inotify.get_ref().0.rm_watch(descriptor);
            file.grew();
            if let Err(error) = lock(&file.times).save(path) {
                tracing::warn!(%error, path = %path.display(), "cannot write the times of a log");
            }
            file.progress.send_modify(|progress| progress.ended = true);
        }
    }

    /// A file that is being written; `None` once it is complete.
    pub fn find(&self, path: &Path) -> Option<Arc<LogFile>> {
        lock(&self.files)
            .values()
            .find(|file| file.path == path)
            .cloned()
    }

    async fn listen(&self) {
        loop {
            let Ok(mut ready) = self.inotify.readable().await else {
                return;
            };
            match self.inotify.get_ref().0.read_events() {
                Ok(events) => {
                    let grown: Vec<Arc<LogFile>> = {
                        let files = lock(&self.files);
                        let mut descriptors: Vec<WatchDescriptor> =
                            events.into_iter().map(|event| event.wd).collect();
                        descriptors.dedup();
                        descriptors
                            .iter()
                            .filter_map(|descriptor| files.get(descriptor).cloned())
                            .collect()
                    };
                    for file in grown {
                        file.grew();
                    }
                }
                Err(nix::errno::Errno::EAGAIN) => ready.clear_ready(),
                Err(error) => {
                    tracing::error!(%error, "logs cannot be watched any more");
                    return;
                }
            }
        }
    }
}

impl LogFile {
    fn grew(&self) {
        let Ok(size) = fs::metadata(&self.path).map(|found| found.len()) else {
            return;
        };
        lock(&self.times).note(size, now_nanos());
        self.progress.send_if_modified(|progress| {
            let more = progress.size != size;
            progress.size = size;
            more
        });
    }

    pub fn times(&self) -> Times {
        lock(&self.times).clone()
    }

    pub fn subscribe(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    // K-329
    #[test]
    fn times_are_found_by_offset_and_offsets_by_time() {
        let mut times = Times::default();
        for (size, now) in [
            (10, 100 * RESOLUTION),
            (20, 200 * RESOLUTION),
            (20, 250 * RESOLUTION),
            (30, 300 * RESOLUTION),
        ] {
            times.note(size, now);
        }
        for (offset, expected) in [(0, 100), (9, 100), (10, 200), (29, 300), (99, 300)] {
            assert_eq!(times.at(offset), Some(expected * RESOLUTION), "{offset}");
        }
        for (time, expected) in [
            (0, Some(0)),
            (100, Some(0)),
            (101, Some(10)),
            (300, Some(20)),
            (301, None),
        ] {
            assert_eq!(times.since(time * RESOLUTION), expected, "{time}");
        }
    }

    #[test]
    fn times_survive_the_process_and_close_growths_share_an_entry() {
        let scratch = tempfile::tempdir().expect("a directory");
        let log = scratch.path().join("log");
        let mut times = Times::default();
        times.note(1, 5);
        times.note(2, 6);
        times.save(&log).expect("saved");
        times.note(3, 7);
        times.save(&log).expect("saved");
        assert_eq!(Times::load(&log).entries, [(2, 5), (3, 7)]);
    }

    // K-328
    #[tokio::test]
    async fn growth_and_end_are_heard_of() {
        let scratch = tempfile::tempdir().expect("a directory");
        let log = scratch.path().join("log");
        let watch = LogWatch::start().expect("inotify");
        watch.open(&log).expect("opened");
        let mut progress = watch.find(&log).expect("known").subscribe();
        fs::OpenOptions::new()
            .append(true)
            .open(&log)
            .and_then(|mut file| file.write_all(b"abc"))
            .expect("written");
        progress
            .wait_for(|progress| progress.size == 3)
            .await
            .expect("alive");
        watch.close(&log);
        assert!(progress.wait_for(|progress| progress.ended).await.is_ok());
        assert!(watch.find(&log).is_none());
    }
}
