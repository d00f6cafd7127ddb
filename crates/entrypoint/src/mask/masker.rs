//! Masking a stream: writes may end anywhere, also inside a secret.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::ops::Range;

use super::STARS;
use super::search::{Cut, Search};

/// Room for what is read at a time: at first, and when there is much.
const LITTLE: usize = 16 * 1024;
const MUCH: usize = 256 * 1024;
/// Less of a secret than this may be told when the stream falls silent.
const TELLING: usize = 8;

/// Holds what is between reading and writing. What is at the end and might go on as a secret stays until it is known.
#[derive(Debug)]
pub(crate) struct Masker {
    search: Rc<Search>,
    buffer: Vec<u8>,
    /// It was full once: there is much to read.
    much: bool,
    /// So much of the buffer has been read.
    filled: usize,
    /// From here on it is still of use once what leaves has left.
    keep: usize,
    /// So much of what is kept has been told, …
    told: usize,
    /// … and as stars, to which more of a secret adds nothing.
    starred: bool,
    leaving: Leaving,
    found: Vec<Range<usize>>,
}

/// What is to be written.
#[derive(Debug)]
enum Leaving {
    /// This part of the buffer, as it was read.
    Read(Range<usize>),
    /// Rewritten; so much of it is gone.
    Rewritten(Vec<u8>, usize),
}

impl Masker {
    pub(crate) fn new(search: Rc<Search>) -> Masker {
        Masker {
            search,
            buffer: Vec::new(),
            much: false,
            filled: 0,
            keep: 0,
            told: 0,
            starred: false,
            leaving: Leaving::Read(0..0),
            found: Vec::new(),
        }
    }

    /// Room for more of the stream. Everything that leaves has left.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        self.buffer.copy_within(self.keep..self.filled, 0);
        self.filled -= self.keep;
        self.keep = 0;
        let size = if self.much { MUCH } else { LITTLE };
        if self.buffer.len() < self.filled + size {
            self.buffer.resize(self.filled + size, 0);
        }
        &mut self.buffer[self.filled..]
    }

    /// So many bytes were read into the room; returns them.
    pub(crate) fn read(&mut self, length: usize) -> &[u8] {
        let from = self.filled;
        self.filled += length;
        self.much |= self.filled == self.buffer.len();
        let cut = self.search.cut(&self.buffer[..self.filled]);
        let limit = cut.map_or(self.filled, |cut| cut.at);
        self.tell(None, limit, limit);
        &self.buffer[from..self.filled]
    }

    /// Whether something waits for the stream to go on.
    pub(crate) fn holds(&self) -> bool {
        self.filled - self.keep > self.told
    }

    /// The stream is silent, or at its end: tells what is held, or stars where it is most of a secret. If the stream goes
    /// on with the rest of that secret, the rest is not told.
    pub(crate) fn flush(&mut self) {
        let held = self.keep..self.filled;
        if held.len() <= self.told {
            return;
        }
        let most = |cut: Cut| held.len() >= TELLING && held.len() * 2 >= cut.length;
        let secret = self
            .search
            .cut(&self.buffer[held.clone()])
            .is_some_and(|cut| cut.at == 0 && most(cut));
        // Only what is held is looked at again.
        self.buffer.copy_within(held, 0);
        self.filled -= self.keep;
        self.keep = 0;
        self.tell(secret.then_some(0..self.filled), self.filled, 0);
    }

    /// Lets the buffer leave up to `limit`, with all that is found, and `also` that, replaced; keeps it from `keep` on.
    fn tell(&mut self, also: Option<Range<usize>>, limit: usize, keep: usize) {
        let mut found = core::mem::take(&mut self.found);
        let text = &self.buffer[..self.filled];
        self.search.find(text, &mut found);
        found.extend(also);
        self.leaving = if found.is_empty() {
            let from = self.told.min(limit);
            if limit > self.told {
                self.starred = false;
            }
            self.told = self.told.max(limit);
            Leaving::Read(from..limit)
        } else {
            found.sort_unstable_by_key(|secret| (secret.start, secret.end));
            let mut out = Vec::new();
            for secret in found.drain(..) {
                if secret.start >= limit {
                    break;
                }
                if secret.end <= self.told {
                    continue;
                }
                if secret.start > self.told {
                    out.extend_from_slice(&text[self.told..secret.start]);
                    self.starred = false;
                }
                // What overlaps or touches is one.
                if !self.starred {
                    out.extend_from_slice(STARS);
                    self.starred = true;
                }
                self.told = secret.end;
            }
            if self.told < limit {
                out.extend_from_slice(&text[self.told..limit]);
                self.told = limit;
                self.starred = false;
            }
            found.clear();
            Leaving::Rewritten(out, 0)
        };
        self.keep = keep;
        self.told -= keep;
        self.found = found;
    }

    /// What is to be written now.
    pub(crate) fn leaving(&self) -> &[u8] {
        match &self.leaving {
            Leaving::Read(range) => &self.buffer[range.clone()],
            Leaving::Rewritten(text, from) => &text[*from..],
        }
    }

    /// So much of it was written.
    pub(crate) fn left(&mut self, length: usize) {
        match &mut self.leaving {
            Leaving::Read(range) => range.start += length,
            Leaving::Rewritten(_, from) => *from += length,
        }
    }
}
