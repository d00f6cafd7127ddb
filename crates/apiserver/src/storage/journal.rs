//! The journal: a file of writes that are safe on disk but not in the database yet.
//!
//! An entry is `length of the payload: u32, CRC-32 of the payload: u32, payload`, and the payload is `revision: u64, length
//! of the key: u32, key, record`, numbers little-endian, an empty record for a removal. A crash may leave half an entry at
//! the end: it was never acknowledged, and reading stops there.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const HEADER: usize = 8;
/// By how much the file grows at a time, filled with zeros. A sync of bytes that the file had already need not write its
/// length too, which costs most file systems more than the bytes.
const ROOM: u64 = 256 << 10;

/// A write as the journal keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub revision: u64,
    pub key: &'a str,
    /// Empty for a removal.
    pub record: &'a [u8],
}

/// Where in the journal a record stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    offset: u64,
    length: usize,
}

/// The open file, written behind its last entry only.
pub(super) struct Journal {
    file: File,
    /// Where the last entry ends.
    length: u64,
    /// Where the file ends: zeros up to there are no entry.
    room: u64,
    /// Kept from one append to the next for its room.
    buffer: Vec<u8>,
}

impl Journal {
    /// Opens or creates the file at `path`, whose directory exists; returns its content too.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Vec<u8>)> {
        let mut content = Vec::new();
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let room = io::Read::read_to_end(&mut &file, &mut content)? as u64;
        if let Some(directory) = path.parent() {
            // The file's own name must survive too.
            File::open(directory)?.sync_all()?;
        }
        content.truncate(entries(&content).map(|(end, _)| end).last().unwrap_or(0));
        let length = content.len() as u64;
        let journal = Self {
            file,
            length,
            room,
            buffer: Vec::new(),
        };
        Ok((journal, content))
    }

    /// Bytes of all entries.
    pub(super) fn len(&self) -> u64 {
        self.length
    }

    /// Queues an entry for the next [`Journal::sync`] and says where its record will be.
    pub(super) fn push(&mut self, entry: Entry<'_>) -> Place {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; HEADER]);
        self.buffer.extend_from_slice(&entry.revision.to_le_bytes());
        self.buffer
            .extend_from_slice(&(entry.key.len() as u32).to_le_bytes());
        self.buffer.extend_from_slice(entry.key.as_bytes());
        let place = Place {
            offset: self.length + self.buffer.len() as u64,
            length: entry.record.len(),
        };
        self.buffer.extend_from_slice(entry.record);
        let payload = &self.buffer[start + HEADER..];
        let (length, crc) = (payload.len() as u32, crc32fast::hash(payload));
        self.buffer[start..start + 4].copy_from_slice(&length.to_le_bytes());
        self.buffer[start + 4..start + HEADER].copy_from_slice(&crc.to_le_bytes());
        place
    }

    /// Writes what was queued; when it returns, a crash does not lose it.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.length)?;
        let end = self.length + self.buffer.len() as u64;
        if end > self.room {
            let room = end.next_multiple_of(ROOM);
            self.file
                .write_all_at(&vec![0; (room - end) as usize], end)?;
            self.room = room;
        }
        self.file.sync_data()?;
        self.length = end;
        self.buffer.clear();
        Ok(())
    }

    /// A record that was synced.
    pub(super) fn record(&self, place: Place) -> io::Result<Vec<u8>> {
        let mut record = vec![0; place.length];
        self.file.read_exact_at(&mut record, place.offset)?;
        Ok(record)
    }

    /// Forgets all entries. Should a crash undo that, they are older than what the database holds by then.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        (self.length, self.room) = (0, 0);
        self.buffer = Vec::new();
        Ok(())
    }
}

/// The whole entries at the start of `content`, each with the offset behind it.
pub(super) fn entries(content: &[u8]) -> impl Iterator<Item = (usize, Entry<'_>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (header, rest) = content.get(at..)?.split_at_checked(HEADER)?;
        let length = u32::from_le_bytes(header[..4].try_into().ok()?) as usize;
        let crc = u32::from_le_bytes(header[4..].try_into().ok()?);
        let payload = rest
            .get(..length)
            .filter(|payload| crc32fast::hash(payload) == crc)?;
        let (revision, rest) = payload.split_at_checked(8)?;
        let (key, rest) = rest.split_at_checked(4)?;
        let (key, record) =
            rest.split_at_checked(u32::from_le_bytes(key.try_into().ok()?) as usize)?;
        at += HEADER + length;
        let entry = Entry {
            revision: u64::from_le_bytes(revision.try_into().ok()?),
            key: std::str::from_utf8(key).ok()?,
            record,
        };
        Some((at, entry))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITES: [Entry<'static>; 3] = [
        Entry {
            revision: 7,
            key: "pods\0default\0a",
            record: b"one",
        },
        Entry {
            revision: 8,
            key: "pods\0default\0a",
            record: b"",
        },
        Entry {
            revision: 9,
            key: "pods\0default\0b",
            record: b"three",
        },
    ];

    #[test]
    fn what_was_synced_is_read_back_and_a_torn_or_damaged_end_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let (mut journal, content) = Journal::open(&path).unwrap();
        assert!(content.is_empty());
        for write in WRITES {
            let place = journal.push(write);
            journal.sync().unwrap();
            assert_eq!(journal.record(place).unwrap(), write.record);
        }
        let mut whole = std::fs::read(&path).unwrap();
        assert!(
            whole
                .split_off(journal.len() as usize)
                .iter()
                .all(|byte| *byte == 0)
        );
        let ends: Vec<usize> = entries(&whole).map(|(end, _)| end).collect();
        assert_eq!(ends.last(), Some(&whole.len()));
        for length in 0..=whole.len() {
            let complete = ends.iter().filter(|end| **end <= length).count();
            let read: Vec<Entry<'_>> = entries(&whole[..length]).map(|(_, e)| e).collect();
            assert_eq!(read, WRITES[..complete], "cut at {length}");
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            let intact = ends.iter().filter(|end| **end <= at).count();
            let read: Vec<Entry<'_>> = entries(&damaged).map(|(_, e)| e).collect();
            assert_eq!(read, WRITES[..intact], "damaged at {at}");
        }
    }

    #[test]
    fn a_torn_end_is_written_over_and_a_cleared_journal_starts_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let (mut journal, _) = Journal::open(&path).unwrap();
        journal.push(WRITES[0]);
        journal.sync().unwrap();
        let whole = journal.len();
        let mut torn = std::fs::read(&path).unwrap();
        torn[whole as usize..whole as usize + 5].fill(9);
        std::fs::write(&path, torn).unwrap();
        let (mut journal, content) = Journal::open(&path).unwrap();
        assert_eq!((journal.len(), content.len() as u64), (whole, whole));
        journal.push(WRITES[1]);
        journal.sync().unwrap();
        let (mut journal, content) = Journal::open(&path).unwrap();
        assert_eq!(entries(&content).count(), 2);
        journal.clear().unwrap();
        journal.push(WRITES[2]);
        journal.sync().unwrap();
        let (_, content) = Journal::open(&path).unwrap();
        let read: Vec<Entry<'_>> = entries(&content).map(|(_, entry)| entry).collect();
        assert_eq!(read, WRITES[2..]);
    }
}
