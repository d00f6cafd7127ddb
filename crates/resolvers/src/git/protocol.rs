//! What is said to a Git server and what its answers mean (gitprotocol-v2, gitprotocol-pack).

use super::object::{Hash, Oid};
use super::packet::{Packet, Packets, data, delimiter, flush};

/// What a server offers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// Version 2: it is asked for references.
    V2 {
        /// Whether it can leave file contents out.
        filter: bool,
        hash: Hash,
    },
    /// Version 0 or 1: it has told its references.
    V0 { refs: Vec<Ref>, hash: Hash },
}

impl Offer {
    pub(super) fn hash(&self) -> Hash {
        match self {
            Self::V2 { hash, .. } | Self::V0 { hash, .. } => *hash,
        }
    }

    /// Whether file contents are fetched one by one.
    pub(super) fn is_lazy(&self) -> bool {
        matches!(self, Self::V2 { filter: true, .. })
    }
}

/// A branch, a tag, or another name of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ref {
    pub(super) name: String,
    /// What it names in the end: of an annotated tag, what the tag is about.
    pub(super) oid: Oid,
}

/// Reads the first message of a server.
pub(super) fn read_offer(message: &[u8]) -> Result<Offer, String> {
    let mut lines = Vec::new();
    for packet in Packets(message) {
        let packet = packet?;
        match packet.line() {
            Some(line) if line.starts_with("# service=") => {}
            Some(line) => match line.strip_prefix("ERR ") {
                Some(error) => return Err(format!("remote error: {error}")),
                None => lines.push(line),
            },
            None => {}
        }
    }
    let hash_of = |name: Option<&str>| match name {
        None | Some("sha1") => Ok(Hash::Sha1),
        Some("sha256") => Ok(Hash::Sha256),
        Some(other) => Err(format!("unknown object format {other:?}")),
    };
    if lines.first() == Some(&"version 2") {
        let value = |key: &str| {
            lines
                .iter()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        };
        return Ok(Offer::V2 {
            filter: value("fetch")
                .is_some_and(|features| features.split(' ').any(|feature| feature == "filter")),
            hash: hash_of(value("object-format"))?,
        });
    }
    let lines = lines.strip_prefix(&["version 1"]).unwrap_or(&lines);
    let capabilities = lines
        .first()
        .and_then(|line| line.split_once('\0'))
        .map_or("", |(_, capabilities)| capabilities);
    let format = capabilities
        .split(' ')
        .find_map(|capability| capability.strip_prefix("object-format="));
    let hash = hash_of(format)?;
    let mut refs: Vec<Ref> = Vec::new();
    for line in lines {
        let line = line.split_once('\0').map_or(*line, |(line, _)| line);
        let Some((oid, name)) = line.split_once(' ') else {
            return Err("this is no Git server: it names no references".into());
        };
        let oid = Oid::read(oid, hash).ok_or("a reference has no object")?;
        match name.strip_suffix("^{}") {
            Some("capabilities") => {}
            Some(tag) => {
                if let Some(tag) = refs.iter_mut().find(|known| known.name == tag) {
                    tag.oid = oid;
                }
            }
            None => refs.push(Ref {
                name: name.to_owned(),
                oid,
            }),
        }
    }
    if refs.is_empty() && capabilities.is_empty() {
        return Err("this is no Git server: it says nothing of Git's protocol".into());
    }
    Ok(Offer::V0 { refs, hash })
}

/// The names a revision may stand for, in the order in which Git tries them.
pub(super) fn candidates(revision: &str) -> [String; 6] {
    [
        revision.to_owned(),
        format!("refs/{revision}"),
        format!("refs/tags/{revision}"),
        format!("refs/heads/{revision}"),
        format!("refs/remotes/{revision}"),
        format!("refs/remotes/{revision}/HEAD"),
    ]
}

/// The object that a revision names among these references.
pub(super) fn choose<'r>(revision: &str, refs: &'r [Ref]) -> Option<&'r Oid> {
    candidates(revision)
        .iter()
        .find_map(|name| refs.iter().find(|known| known.name == *name))
        .map(|known| &known.oid)
}

const AGENT: &str = concat!("agent=tektite/", env!("CARGO_PKG_VERSION"));

fn command(name: &str, hash: Hash) -> Vec<u8> {
    let mut out = Vec::new();
    data(&mut out, &format!("command={name}\n"));
    data(&mut out, &format!("{AGENT}\n"));
    data(&mut out, &format!("object-format={}\n", hash.name()));
    delimiter(&mut out);
    out
}

/// Asks a server of version 2 what a revision may stand for.
pub(super) fn ask_refs(revision: &str, hash: Hash) -> Vec<u8> {
    let mut out = command("ls-refs", hash);
    data(&mut out, "peel\n");
    for candidate in candidates(revision) {
        data(&mut out, &format!("ref-prefix {candidate}\n"));
    }
    flush(&mut out);
    out
}

/// Reads the answer to [`ask_refs`].
pub(super) fn read_refs(message: &[u8], hash: Hash) -> Result<Vec<Ref>, String> {
    let mut refs = Vec::new();
    for packet in Packets(message) {
        let packet = packet?;
        let Some(line) = packet.line() else { continue };
        if let Some(error) = line.strip_prefix("ERR ") {
            return Err(format!("remote error: {error}"));
        }
        let mut words = line.split(' ');
        let (Some(oid), Some(name)) = (words.next(), words.next()) else {
            return Err(format!("protocol error: unexpected line {line:?}"));
        };
        let peeled = words.find_map(|word| word.strip_prefix("peeled:"));
        if oid == "unborn" {
            continue;
        }
        let oid = Oid::read(peeled.unwrap_or(oid), hash)
            .ok_or_else(|| format!("protocol error: unexpected line {line:?}"))?;
        refs.push(Ref {
            name: name.to_owned(),
            oid,
        });
    }
    Ok(refs)
}

/// Asks for one object: a commit without its history, or a file's content.
pub(super) fn ask_objects(offer: &Offer, want: &Oid) -> Vec<u8> {
    match offer {
        Offer::V2 { filter, hash } => {
            let mut out = command("fetch", *hash);
            for argument in ["no-progress", "ofs-delta", "deepen 1"] {
                data(&mut out, &format!("{argument}\n"));
            }
            if *filter {
                data(&mut out, "filter blob:none\n");
            }
            data(&mut out, &format!("want {want}\n"));
            data(&mut out, "done\n");
            flush(&mut out);
            out
        }
        Offer::V0 { hash, .. } => {
            let mut out = Vec::new();
            let format = match hash {
                Hash::Sha1 => String::new(),
                Hash::Sha256 => " object-format=sha256".to_owned(),
            };
            data(
                &mut out,
                &format!("want {want} side-band-64k ofs-delta no-progress{format} {AGENT}\n"),
            );
            data(&mut out, "deepen 1\n");
            flush(&mut out);
            data(&mut out, "done\n");
            out
        }
    }
}

/// The pack in the answer to [`ask_objects`].
pub(super) fn read_pack(offer: &Offer, message: &[u8]) -> Result<Vec<u8>, String> {
    let mut pack = Vec::new();
    // In version 2 a section has a name; before, the pack begins after the acknowledgement.
    let begin = match offer {
        Offer::V2 { .. } => "packfile",
        Offer::V0 { .. } => "NAK",
    };
    let mut begun = false;
    for packet in Packets(message) {
        let packet = packet?;
        if !begun {
            if let Some(line) = packet.line() {
                if let Some(error) = line.strip_prefix("ERR ") {
                    return Err(format!("remote error: {error}"));
                }
                begun = line == begin;
            }
            continue;
        }
        match packet {
            Packet::Data([1, content @ ..]) => pack.extend_from_slice(content),
            Packet::Data([2, ..]) => {}
            Packet::Data([3, error @ ..]) => {
                let error = String::from_utf8_lossy(error);
                return Err(format!("remote error: {}", error.trim()));
            }
            Packet::Data(_) => return Err("protocol error: bad band".into()),
            Packet::Flush | Packet::Delimiter => break,
        }
    }
    if pack.is_empty() {
        return Err("protocol error: the server sent no objects".into());
    }
    Ok(pack)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(lines: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        for line in lines {
            match *line {
                "0000" => flush(&mut out),
                "0001" => delimiter(&mut out),
                line => data(&mut out, &format!("{line}\n")),
            }
        }
        out
    }

    fn oid(digit: char) -> String {
        digit.to_string().repeat(40)
    }

    #[test]
    fn offers_of_both_versions_are_understood() {
        let v2 = message(&[
            "# service=git-upload-pack",
            "0000",
            "version 2",
            "agent=git/2.47",
            "ls-refs=unborn",
            "fetch=shallow wait-for-done filter",
            "object-format=sha256",
            "0000",
        ]);
        assert_eq!(
            read_offer(&v2),
            Ok(Offer::V2 {
                filter: true,
                hash: Hash::Sha256
            })
        );
        let (head, tag, peeled) = (oid('a'), oid('b'), oid('c'));
        let v0 = message(&[
            &format!("{head} HEAD\0multi_ack side-band-64k"),
            &format!("{tag} refs/tags/v1"),
            &format!("{peeled} refs/tags/v1^{{}}"),
            "0000",
        ]);
        let Ok(Offer::V0 { refs, .. }) = read_offer(&v0) else {
            panic!("not version 0")
        };
        assert_eq!(choose("v1", &refs).unwrap().to_string(), peeled);
        assert_eq!(choose("HEAD", &refs).unwrap().to_string(), head);
        for (broken, expected) in [
            (
                message(&["ERR no such repository"]),
                "remote error: no such repository",
            ),
            (
                message(&["<html>"]),
                "this is no Git server: it names no references",
            ),
            (
                b"<html>".to_vec(),
                "protocol error: bad line length character: <htm",
            ),
            (
                b"00ffx".to_vec(),
                "protocol error: the answer ends within a packet",
            ),
            (
                Vec::new(),
                "this is no Git server: it says nothing of Git's protocol",
            ),
        ] {
            assert_eq!(read_offer(&broken), Err(expected.to_owned()));
        }
    }

    #[test]
    fn a_tag_wins_over_a_branch_of_the_same_name() {
        let refs = message(&[
            &format!("{} refs/heads/x", oid('1')),
            &format!("{} refs/tags/x peeled:{}", oid('2'), oid('3')),
            &format!("{} refs/heads/x/y", oid('4')),
            "0000",
        ]);
        let refs = read_refs(&refs, Hash::Sha1).unwrap();
        for (revision, expected) in [
            ("x", Some(oid('3'))),
            ("refs/heads/x", Some(oid('1'))),
            ("heads/x", Some(oid('1'))),
            ("y", None),
        ] {
            assert_eq!(choose(revision, &refs).map(Oid::to_string), expected);
        }
    }

    #[test]
    fn the_pack_is_put_together_from_its_band() {
        let offer = Offer::V2 {
            filter: false,
            hash: Hash::Sha1,
        };
        let mut answer = message(&["shallow-info", "shallow x", "0001", "packfile"]);
        data(&mut answer, "\u{1}PA");
        data(&mut answer, "\u{2}counting");
        data(&mut answer, "\u{1}CK");
        flush(&mut answer);
        assert_eq!(read_pack(&offer, &answer).unwrap(), b"PACK");
        let mut refused = message(&["packfile"]);
        data(&mut refused, "\u{3}out of memory\n");
        assert_eq!(
            read_pack(&offer, &refused).unwrap_err(),
            "remote error: out of memory"
        );
        let not_ours = message(&["ERR upload-pack: not our ref 1"]);
        assert_eq!(
            read_pack(&offer, &not_ours).unwrap_err(),
            "remote error: upload-pack: not our ref 1"
        );
    }
}
