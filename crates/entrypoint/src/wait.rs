//! Waiting for files by inotify: the next step starts the moment the one before says so.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use crate::log::log;
use crate::supervise::Signals;

/// A file to wait for, and the eyes on it.
#[derive(Debug)]
pub(crate) struct Awaited {
    file: PathBuf,
    with_content: bool,
    watch: Option<OwnedFd>,
}

/// What is known about an awaited file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Nothing,
    File,
    /// `<file>.err`: the one who should have written the file failed.
    Error,
}

impl Awaited {
    pub(crate) fn new(file: &Path, with_content: bool) -> Awaited {
        let mut awaited = Awaited {
            file: file.to_owned(),
            with_content,
            watch: None,
        };
        match awaited.open() {
            Ok(watch) => awaited.watch = Some(watch),
            Err(error) => log(&format!(
                "watching {}: {error}; looking once a second",
                file.display()
            )),
        }
        awaited
    }

    /// Watches every existing directory on the way to the file: volumes may be mounted, and their content be swapped
    /// through a symbolic link, at any of them.
    fn open(&self) -> io::Result<OwnedFd> {
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let events = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MODIFY;
        let parent = self.file.parent().unwrap_or(Path::new("/"));
        match inotify::add_watch(&watch, parent, events) {
            Ok(_) => {}
            Err(_) => {
                let existing = parent
                    .ancestors()
                    .find(|dir| dir.is_dir())
                    .unwrap_or(Path::new("/"));
                inotify::add_watch(&watch, existing, events)?;
            }
        }
        Ok(watch)
    }

    /// Looks, after having been woken or for the first time.
    pub(crate) fn look(&mut self) -> io::Result<Seen> {
        self.drain();
        match fs::metadata(&self.file) {
            Ok(meta) if !self.with_content || meta.len() > 0 => return Ok(Seen::File),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut error = self.file.clone().into_os_string();
        error.push(".err");
        Ok(if Path::new(&error).exists() {
            Seen::Error
        } else {
            Seen::Nothing
        })
    }

    /// Where events arrive.
    pub(crate) fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    fn drain(&mut self) {
        if let Some(watch) = &self.watch {
            let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
            while rustix::io::read(watch, &mut buffer).is_ok_and(|(read, _)| !read.is_empty()) {}
        }
    }

    /// Blocks until the file, or its error, is there.
    pub(crate) fn wait(&mut self) -> io::Result<Seen> {
        // As the first process of a container it would otherwise ignore what asks it to stop.
        let signals = Signals::block()?;
        loop {
            match self.look()? {
                Seen::Nothing => {}
                seen => {
                    drop(signals);
                    return Ok(seen);
                }
            }
            let mut fds = vec![PollFd::new(&signals, PollFlags::IN)];
            fds.extend(
                self.watch
                    .as_ref()
                    .map(|watch| PollFd::new(watch, PollFlags::IN)),
            );
            // Some file systems tell nothing; a look each second costs nothing either.
            match poll(
                &mut fds,
                Some(&Timespec {
                    tv_sec: 1,
                    tv_nsec: 0,
                }),
            ) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            while let Some(signal) = signals.next() {
                if matches!(
                    signal,
                    libc::SIGTERM | libc::SIGINT | libc::SIGQUIT | libc::SIGHUP
                ) {
                    std::process::exit(128 + signal);
                }
            }
        }
    }
}
