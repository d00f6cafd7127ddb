//! Waiting for files by inotify: the next step starts the moment the one before says so.

use alloc::format;
use alloc::vec;
use core::time::Duration;

use crate::log::log;
use crate::path::Path;
use crate::system::fs;
use crate::system::fs::inotify::{self, CreateFlags, WatchFlags};
use crate::system::process::{Signal, exit};
use crate::system::signals::Signals;
use crate::system::{AsFd, BorrowedFd, OwnedFd, Result, read, readable};

/// A file to wait for, and the eyes on it.
#[derive(Debug)]
pub(crate) struct Awaited {
    file: Path,
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
            file: file.clone(),
            with_content,
            watch: None,
        };
        match awaited.open() {
            Ok(watch) => awaited.watch = Some(watch),
            Err(error) => log(&format!("watching {file}: {error}; looking once a second")),
        }
        awaited
    }

    /// Watches every existing directory on the way to the file: volumes may be mounted, and their content be swapped
    /// through a symbolic link, at any of them.
    fn open(&self) -> Result<OwnedFd> {
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let events = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MODIFY;
        let mut dir = self.file.parent().unwrap_or_else(|| Path::from("/"));
        while let Err(error) = inotify::add_watch(&watch, dir.as_bytes(), events) {
            if dir.as_bytes() == b"/" {
                return Err(error.into());
            }
            let above = dir.parent().filter(|above| !above.is_empty());
            dir = above.unwrap_or_else(|| Path::from("/"));
        }
        Ok(watch)
    }

    /// Looks, after having been woken or for the first time.
    pub(crate) fn look(&mut self) -> Result<Seen> {
        self.drain();
        match fs::metadata(&self.file) {
            Ok(meta) if !self.with_content || meta.length > 0 => return Ok(Seen::File),
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
        Ok(if fs::exists(&self.file.with(".err")) {
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
            let mut buffer = [0u8; 4096];
            while read(watch, &mut buffer).is_ok_and(|length| length > 0) {}
        }
    }

    /// Blocks until the file, or its error, is there.
    pub(crate) fn wait(&mut self) -> Result<Seen> {
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
            let mut fds = vec![signals.as_fd()];
            fds.extend(self.watch());
            // Some file systems tell nothing; a look each second costs nothing either.
            readable(&fds, Some(Duration::from_secs(1)))?;
            while let Some(signal) = signals.next() {
                if [Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP]
                    .iter()
                    .any(|stop| stop.as_raw() == signal)
                {
                    exit(128 + signal);
                }
            }
        }
    }
}
