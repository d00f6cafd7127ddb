//! Git's objects, and the packs they travel in.

use std::collections::HashMap;
use std::fmt;

use flate2::{Decompress, FlushDecompress, Status};
use ring::digest;

/// How objects are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Sha1,
    Sha256,
}

impl Hash {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }

    /// Bytes of a name.
    fn size(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    fn digest(self, parts: &[&[u8]]) -> Oid {
        let algorithm = match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
        };
        let mut context = digest::Context::new(algorithm);
        for part in parts {
            context.update(part);
        }
        Oid(context.finish().as_ref().into())
    }
}

/// The name of an object.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Oid(Box<[u8]>);

impl Oid {
    /// Reads hexadecimal digits.
    pub(super) fn read(text: &str, hash: Hash) -> Option<Self> {
        if text.len() != hash.size() * 2 || !text.is_ascii() {
            return None;
        }
        (0..hash.size())
            .map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).ok())
            .collect::<Option<Box<[u8]>>>()
            .map(Self)
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Commit,
    Tree,
    Blob,
    Tag,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Tree => "tree",
            Self::Blob => "blob",
            Self::Tag => "tag",
        }
    }
}

/// Objects by name. What is in it has that name: names are computed, not believed.
#[derive(Debug)]
pub(super) struct Objects {
    hash: Hash,
    known: HashMap<Oid, (Kind, Vec<u8>)>,
    /// Bytes that may still be unpacked.
    budget: usize,
}

/// One entry of a tree.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Tree(Oid),
    File(Oid),
    Link(Oid),
    /// A commit of another repository.
    Module,
}

impl Objects {
    /// None yet, and room for so many bytes of them.
    pub(super) fn new(hash: Hash, budget: usize) -> Self {
        Self {
            hash,
            known: HashMap::new(),
            budget,
        }
    }

    fn get(&self, oid: &Oid, kind: Kind) -> Option<&[u8]> {
        let (found, content) = self.known.get(oid)?;
        (*found == kind).then_some(content.as_slice())
    }

    /// A file's content, if it is here.
    pub(super) fn blob(&self, oid: &Oid) -> Option<&[u8]> {
        self.get(oid, Kind::Blob)
    }

    /// The commit that `oid` names, directly or by tags, and its tree.
    pub(super) fn commit(&self, oid: &Oid) -> Result<(Oid, Oid), String> {
        let mut oid = oid.clone();
        for _ in 0..10 {
            match self.known.get(&oid) {
                Some((Kind::Commit, content)) => {
                    let tree = header(content, "tree ")
                        .and_then(|tree| Oid::read(tree, self.hash))
                        .ok_or_else(|| format!("commit {oid} has no tree"))?;
                    return Ok((oid, tree));
                }
                Some((Kind::Tag, content)) => {
                    oid = header(content, "object ")
                        .and_then(|object| Oid::read(object, self.hash))
                        .ok_or_else(|| format!("tag {oid} is about nothing"))?;
                }
                Some((kind, _)) => return Err(format!("{oid} is a {}, no commit", kind.name())),
                None => return Err(format!("the server did not send {oid}")),
            }
        }
        Err("tags of tags of tags, and no commit".into())
    }

    /// What a tree holds under `name`.
    pub(super) fn entry(&self, tree: &Oid, name: &str) -> Result<Option<Entry>, String> {
        let mut rest = self
            .get(tree, Kind::Tree)
            .ok_or_else(|| format!("the server did not send tree {tree}"))?;
        let broken = || format!("tree {tree} is damaged");
        while !rest.is_empty() {
            let end = rest.iter().position(|b| *b == 0).ok_or_else(broken)?;
            let (head, after) = (&rest[..end], &rest[end + 1..]);
            let (oid, after) = after
                .split_at_checked(self.hash.size())
                .ok_or_else(broken)?;
            rest = after;
            let space = head.iter().position(|b| *b == b' ').ok_or_else(broken)?;
            if &head[space + 1..] == name.as_bytes() {
                let oid = Oid(oid.into());
                return Ok(Some(match &head[..space] {
                    b"40000" | b"040000" => Entry::Tree(oid),
                    b"120000" => Entry::Link(oid),
                    b"160000" => Entry::Module,
                    _ => Entry::File(oid),
                }));
            }
        }
        Ok(None)
    }

    /// Adds what a pack holds.
    ///
    /// # Errors
    /// If it is damaged, or larger than there is room for.
    pub(super) fn unpack(&mut self, pack: &[u8]) -> Result<(), String> {
        let cut = || "the pack ends too early".to_owned();
        let Some((body, trailer)) = pack.split_last_chunk_by(self.hash.size()) else {
            return Err(cut());
        };
        if self.hash.digest(&[body]).0.as_ref() != trailer {
            return Err("the pack's checksum is wrong".into());
        }
        let header = body.get(..12).ok_or_else(cut)?;
        let number = |at: usize| {
            u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        if &header[..4] != b"PACK" || !matches!(number(4), 2 | 3) {
            return Err("this is no pack of version 2 or 3".into());
        }
        let mut at = 12;
        let mut by_offset: HashMap<usize, Oid> = HashMap::new();
        let mut waiting: Vec<(usize, Oid, Vec<u8>)> = Vec::new();
        for _ in 0..number(8) {
            let offset = at;
            let (kind, size) = entry_head(body, &mut at).ok_or_else(cut)?;
            let base = match kind {
                6 => {
                    let back = delta_offset(body, &mut at).ok_or_else(cut)?;
                    let base = offset
                        .checked_sub(back)
                        .and_then(|base| by_offset.get(&base));
                    Some(
                        base.ok_or("a delta of an object that is not there")?
                            .clone(),
                    )
                }
                7 => {
                    let end = at + self.hash.size();
                    let base = Oid(body.get(at..end).ok_or_else(cut)?.into());
                    at = end;
                    Some(base)
                }
                _ => None,
            };
            let content = self.inflate(body, &mut at, size)?;
            match base {
                None => {
                    let kind = match kind {
                        1 => Kind::Commit,
                        2 => Kind::Tree,
                        3 => Kind::Blob,
                        4 => Kind::Tag,
                        other => return Err(format!("an object of unknown kind {other}")),
                    };
                    by_offset.insert(offset, self.add(kind, content));
                }
                Some(base) if self.known.contains_key(&base) => {
                    let oid = self.add_delta(&base, &content)?;
                    by_offset.insert(offset, oid);
                }
                Some(base) => waiting.push((offset, base, content)),
            }
        }
        // Deltas may come before what they are of, in chains.
        while !waiting.is_empty() {
            let (ready, rest): (Vec<_>, Vec<_>) = waiting
                .into_iter()
                .partition(|(_, base, _)| self.known.contains_key(base));
            if ready.is_empty() {
                return Err("a delta of an object that is not there".into());
            }
            for (_, base, delta) in ready {
                self.add_delta(&base, &delta)?;
            }
            waiting = rest;
        }
        Ok(())
    }

    fn add(&mut self, kind: Kind, content: Vec<u8>) -> Oid {
        let head = format!("{} {}\0", kind.name(), content.len());
        let oid = self.hash.digest(&[head.as_bytes(), &content]);
        self.known.insert(oid.clone(), (kind, content));
        oid
    }

    fn add_delta(&mut self, base: &Oid, delta: &[u8]) -> Result<Oid, String> {
        let broken = || "a damaged delta".to_owned();
        let (kind, base) = self.known.get(base).ok_or_else(broken)?;
        let mut at = 0;
        let from = delta_size(delta, &mut at).ok_or_else(broken)?;
        let to = delta_size(delta, &mut at).ok_or_else(broken)?;
        if from != base.len() {
            return Err(broken());
        }
        let budget = self.budget.checked_sub(to).ok_or_else(too_large)?;
        let content = apply(base, &delta[at..], to).ok_or_else(broken)?;
        let kind = *kind;
        self.budget = budget;
        Ok(self.add(kind, content))
    }

    fn inflate(&mut self, body: &[u8], at: &mut usize, size: usize) -> Result<Vec<u8>, String> {
        self.budget = self.budget.checked_sub(size).ok_or_else(too_large)?;
        let mut stream = Decompress::new(true);
        // One byte more, so that a stream that is longer than it says shows.
        let mut content = Vec::with_capacity(size + 1);
        let input = body.get(*at..).unwrap_or_default();
        let status = stream
            .decompress_vec(input, &mut content, FlushDecompress::Finish)
            .map_err(|error| format!("the pack is damaged: {error}"))?;
        if status != Status::StreamEnd || content.len() != size {
            return Err("the pack is damaged: an object has another size".into());
        }
        *at += usize::try_from(stream.total_in()).unwrap_or(usize::MAX);
        Ok(content)
    }
}

fn too_large() -> String {
    "the repository is too large: what one revision holds exceeds the limit of a resolver".into()
}

/// The value of a line at the head of a commit or tag.
fn header<'a>(content: &'a [u8], key: &str) -> Option<&'a str> {
    let end = content.iter().position(|byte| *byte == b'\n')?;
    std::str::from_utf8(&content[..end]).ok()?.strip_prefix(key)
}

trait SplitEnd {
    fn split_last_chunk_by(&self, size: usize) -> Option<(&[u8], &[u8])>;
}

impl SplitEnd for [u8] {
    fn split_last_chunk_by(&self, size: usize) -> Option<(&[u8], &[u8])> {
        self.split_at_checked(self.len().checked_sub(size)?)
    }
}

/// Kind and size of an entry of a pack.
fn entry_head(body: &[u8], at: &mut usize) -> Option<(u8, usize)> {
    let mut byte = *body.get(*at)?;
    *at += 1;
    let kind = (byte >> 4) & 7;
    let mut size = usize::from(byte & 15);
    let mut shift = 4;
    while byte & 0x80 != 0 {
        byte = *body.get(*at)?;
        *at += 1;
        size |= usize::from(byte & 0x7f).checked_shl(shift)?;
        shift += 7;
    }
    Some((kind, size))
}

/// How far back the base of a delta begins.
fn delta_offset(body: &[u8], at: &mut usize) -> Option<usize> {
    let mut byte = *body.get(*at)?;
    *at += 1;
    let mut offset = usize::from(byte & 0x7f);
    while byte & 0x80 != 0 {
        byte = *body.get(*at)?;
        *at += 1;
        offset = offset
            .checked_add(1)?
            .checked_mul(128)?
            .checked_add(usize::from(byte & 0x7f))?;
    }
    Some(offset)
}

/// One of the sizes at the head of a delta.
fn delta_size(delta: &[u8], at: &mut usize) -> Option<usize> {
    let mut size = 0usize;
    let mut shift = 0;
    loop {
        let byte = *delta.get(*at)?;
        *at += 1;
        size |= usize::from(byte & 0x7f).checked_shl(shift)?;
        shift += 7;
        if byte & 0x80 == 0 {
            return Some(size);
        }
    }
}

/// What the instructions make of `base`.
fn apply(base: &[u8], mut delta: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(size);
    while let Some((instruction, rest)) = delta.split_first() {
        delta = rest;
        if instruction & 0x80 == 0 {
            let length = usize::from(*instruction);
            if length == 0 {
                return None;
            }
            let (literal, rest) = delta.split_at_checked(length)?;
            out.extend_from_slice(literal);
            delta = rest;
        } else {
            let mut number = |bits: std::ops::Range<u32>| {
                let first = bits.start;
                bits.filter(|bit| instruction & (1 << bit) != 0)
                    .try_fold(0usize, |number, bit| {
                        let (byte, rest) = delta.split_first()?;
                        delta = rest;
                        Some(number | usize::from(*byte) << (8 * (bit - first)))
                    })
            };
            let offset = number(0..4)?;
            let length = match number(4..7)? {
                0 => 0x10000,
                length => length,
            };
            out.extend_from_slice(base.get(offset..offset.checked_add(length)?)?);
        }
        if out.len() > size {
            return None;
        }
    }
    (out.len() == size).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deflated(content: &[u8]) -> Vec<u8> {
        use std::io::Write as _;
        let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(content).unwrap();
        out.finish().unwrap()
    }

    /// A pack of entries: the bytes before the compressed content, and the content.
    fn pack(entries: &[(Vec<u8>, &[u8])]) -> Vec<u8> {
        let mut out = b"PACK\0\0\0\x02".to_vec();
        out.extend(u32::try_from(entries.len()).unwrap().to_be_bytes());
        for (head, content) in entries {
            out.extend(head);
            out.extend(deflated(content));
        }
        let sum = Hash::Sha1.digest(&[&out]);
        out.extend(sum.0.as_ref());
        out
    }

    fn blob(content: &str) -> Oid {
        Hash::Sha1.digest(&[
            format!("blob {}\0", content.len()).as_bytes(),
            content.as_bytes(),
        ])
    }

    #[test]
    fn objects_and_deltas_are_unpacked_under_the_names_they_have() {
        // Known to every Git: the name of "hello\n".
        assert_eq!(
            blob("hello\n").to_string(),
            "ce013625030ba8dba906f756967f9e9ca394464a"
        );
        // "hello\n" → copy 5 bytes from 0, insert " you\n".
        let delta = [6, 10, 0x90, 5, 5, b' ', b'y', b'o', b'u', b'\n'];
        let mut by_name = vec![0x70 | 10];
        by_name.extend(blob("hello\n").0.as_ref());
        // The delta first: its base comes later.
        let bytes = pack(&[(by_name, &delta), (vec![0x36], b"hello\n")]);
        let mut objects = Objects::new(Hash::Sha1, 1000);
        objects.unpack(&bytes).unwrap();
        assert_eq!(
            objects.blob(&blob("hello you\n")),
            Some(&b"hello you\n"[..])
        );
        // The same by offset.
        let back = u8::try_from(1 + deflated(b"hello\n").len()).unwrap();
        let bytes = pack(&[(vec![0x36], b"hello\n"), (vec![0x60 | 10, back], &delta)]);
        let mut objects = Objects::new(Hash::Sha1, 1000);
        objects.unpack(&bytes).unwrap();
        assert_eq!(
            objects.blob(&blob("hello you\n")),
            Some(&b"hello you\n"[..])
        );
    }

    #[test]
    fn damaged_and_oversized_packs_are_refused() {
        let good = pack(&[(vec![0x36], b"hello\n")]);
        for end in 0..good.len() {
            let mut objects = Objects::new(Hash::Sha1, 1000);
            assert!(objects.unpack(&good[..end]).is_err(), "cut at {end}");
        }
        for (entries, expected) in [
            (vec![(vec![0x37], &b"hello\n"[..])], "another size"),
            (vec![(vec![0x35], &b"hello\n"[..])], "another size"),
            (vec![(vec![0x50 | 6], &b"hello\n"[..])], "unknown kind 5"),
            (vec![(vec![0x60 | 6, 200, 1], &b"hello\n"[..])], "not there"),
            (
                vec![(vec![0xb6, 0xff, 0xff, 0xff, 0x7f], &b"x"[..])],
                "too large",
            ),
        ] {
            let mut objects = Objects::new(Hash::Sha1, 1000);
            let error = objects.unpack(&pack(&entries)).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        // A small delta that unfolds: 64 KiB for three bytes.
        let mut delta = vec![6, 0x80, 0x80, 0x40];
        delta.extend([0x80].repeat(16));
        let mut by_name = vec![0x70 | u8::try_from(delta.len() & 15).unwrap() | 0x80, 1];
        by_name.extend(blob("hello\n").0.as_ref());
        let bytes = pack(&[(vec![0x36], b"hello\n"), (by_name, &delta)]);
        let mut objects = Objects::new(Hash::Sha1, 1000);
        assert!(objects.unpack(&bytes).unwrap_err().contains("too large"));
    }
}
