//! What the step writes, on its way to the container's streams: through pipes, where it is masked (see [`mask`](crate::mask))
//! or copied to files (T-290).

use alloc::format;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::mask::{Masker, Search};
use crate::path::Path;
use crate::system::clock::Instant;
use crate::system::fs::{self, File};
use crate::system::process::Command;
use crate::system::{
    AsFd, BorrowedFd, Error, OwnedFd, Result as IoResult, duplicate, is_would_block, read, stderr,
    stdout, wait_ready, wide_pipe, write_some,
};

/// What might go on as a secret is held back for so long: longer than a program takes from one write to the next,
/// shorter than somebody who waits for a progress bar notices.
const HOLD: Duration = Duration::from_millis(250);
/// What a pipe holds at most; so much may be left when the step has ended.
const PIPE: usize = 1 << 20;
/// Read at a time before somebody else gets a turn.
const TURN: usize = 4 << 20;
/// A stream that nobody takes from for so long is given up once the step was cut off.
const PATIENCE: Duration = Duration::from_secs(1);

/// One stream of the step.
#[derive(Debug)]
pub(crate) struct Stream {
    pipe: Option<OwnedFd>,
    to: BorrowedFd<'static>,
    /// Writing to a regular file never blocks.
    to_file: bool,
    file: Option<File>,
    masker: Masker,
    /// When what is held back is told nevertheless.
    release: Option<Instant>,
}

/// Makes the streams that the step's output needs, and hands their other ends to the command.
pub(crate) fn connect(
    command: &mut Command,
    files: [Option<&Path>; 2],
    secrets: &Rc<Search>,
) -> IoResult<Vec<Stream>> {
    let mut streams = Vec::new();
    let masked = !secrets.is_empty();
    // One pipe for both keeps the order in which they were written.
    let one = masked && files == [None, None] && fs::is_same(stdout(), stderr());
    for (file, to, number) in [(files[0], stdout(), 1), (files[1], stderr(), 2)] {
        if file.is_none() && !masked {
            continue;
        }
        if one && number == 2 {
            if let Some((write, _)) = command.streams.first() {
                let again = duplicate(write)?;
                command.streams.push((again, number));
            }
            continue;
        }
        let (stream, write) = Stream::new(to, file, secrets)?;
        command.streams.push((write, number));
        streams.push(stream);
    }
    Ok(streams)
}

impl Stream {
    fn new(
        to: BorrowedFd<'static>,
        file: Option<&Path>,
        secrets: &Rc<Search>,
    ) -> IoResult<(Stream, OwnedFd)> {
        let file = file.map(open).transpose()?;
        let (read, write) = wide_pipe(PIPE)?;
        let stream = Stream {
            pipe: Some(read),
            to,
            to_file: fs::is_regular(to),
            file,
            masker: Masker::new(Rc::clone(secrets)),
            release: None,
        };
        Ok((stream, write))
    }

    /// Whether the step's end has to wait for the stream's: what is copied to a file is copied whole, as upstream does.
    pub(crate) fn is_awaited(&self) -> bool {
        self.file.is_some() && self.pipe.is_some()
    }

    /// What to wait for: something to read, or room for what is to be written.
    pub(crate) fn wants(&self) -> (Option<BorrowedFd<'_>>, Option<BorrowedFd<'_>>) {
        match self.masker.leaving().is_empty() {
            true => (self.pipe.as_ref().map(AsFd::as_fd), None),
            false => (None, Some(self.to)),
        }
    }

    /// How long it may be waited for.
    pub(crate) fn patience(&self) -> Option<Duration> {
        self.release.map(Instant::left)
    }

    /// Passes on what is there, without waiting; returns how much was read.
    pub(crate) fn pump(&mut self) -> IoResult<usize> {
        let mut total = 0;
        while total < TURN && self.write_waiting() {
            let length = self.read()?;
            if length == 0 {
                break;
            }
            total += length;
        }
        if self.release.is_some_and(|moment| moment.left().is_zero())
            && self.masker.leaving().is_empty()
        {
            self.release = None;
            self.masker.flush();
            self.write_waiting();
        }
        Ok(total)
    }

    /// Passes on what is still there once the step has ended: all of it, unless the step was `cut_off` and nobody listens.
    pub(crate) fn finish(&mut self, cut_off: bool) -> IoResult<()> {
        let patience = cut_off.then_some(PATIENCE);
        let mut total = 0;
        // A child left behind may go on writing for ever.
        while total <= PIPE {
            self.write_all_waiting(patience);
            match self.read()? {
                0 => break,
                length => total += length,
            }
        }
        self.masker.flush();
        self.write_all_waiting(patience);
        self.pipe = None;
        Ok(())
    }

    /// Reads once; 0 if there is nothing, now or ever.
    fn read(&mut self) -> IoResult<usize> {
        let Some(pipe) = &self.pipe else {
            return Ok(0);
        };
        let length = match read(pipe, self.masker.room()) {
            Ok(length) => length,
            Err(error) if is_would_block(&error) => return Ok(0),
            Err(error) => return Err(error),
        };
        if length == 0 {
            self.pipe = None;
            self.release = None;
            self.masker.flush();
            self.write_waiting();
            return Ok(0);
        }
        let bytes = self.masker.read(length);
        if let Some(file) = &self.file {
            file.write_all(bytes)?;
        }
        self.release = match self.masker.holds() {
            true => Instant::now().checked_add(HOLD),
            false => None,
        };
        Ok(length)
    }

    /// Writes as much as can be without waiting; says whether it was all.
    fn write_waiting(&mut self) -> bool {
        loop {
            let leaving = self.masker.leaving();
            if leaving.is_empty() {
                return true;
            }
            match write_some(self.to, leaving, self.to_file) {
                Ok(0) => return false,
                Ok(length) => self.masker.left(length),
                Err(_) => self.give_up(),
            }
        }
    }

    fn write_all_waiting(&mut self, patience: Option<Duration>) {
        while !self.write_waiting() {
            let ready = wait_ready(&[], &[self.to], patience).unwrap_or(true);
            if !ready && patience.is_some() {
                self.give_up();
            }
        }
    }

    /// Nobody takes the output any more: the step's next write tells it, as if it had the stream itself.
    fn give_up(&mut self) {
        let rest = self.masker.leaving().len();
        self.masker.left(rest);
        self.pipe = None;
        self.release = None;
    }
}

fn open(path: &Path) -> IoResult<File> {
    if let Some(parent) = path.parent() {
        let failed = |error| Error::other(format!("error creating parent directory: {error}"));
        fs::create_dir_all(&parent).map_err(failed)?;
    }
    File::append(path, 0o644)
        .map_err(|error| Error::other(format!("error opening {path}: {error}")))
}
