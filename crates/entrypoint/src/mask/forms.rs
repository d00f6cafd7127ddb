//! The forms in which a secret value may appear: as it is, line by line, in parts that are secret by themselves, and
//! encoded for URLs, in base64 and in JSON.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use crate::json_value::Value;
use crate::{base64_text, json};

pub(crate) type Patterns = BTreeSet<Vec<u8>>;

/// Nothing shorter is looked for: it would stand in every log.
pub(super) const SHORTEST: usize = 4;
/// Of a value's lines and of parts that nothing marks as secret, only those of this length count.
const SHORTEST_PART: usize = 8;
/// Base64 of something inside something else, without the letters it shares with its neighbours.
const SHORTEST_CORE: usize = 5;
/// Longer forms are looked for in pieces, so that little need be held back.
const LONGEST: usize = 1024;
/// Longer values are looked for as they are, not encoded.
const LONGEST_ENCODED: usize = 64 * 1024;
/// `base64` and PEM break lines here.
const WRAPPED: [usize; 2] = [76, 64];
/// Words of configuration, not of secrets.
const ORDINARY: [&str; 4] = ["true", "false", "null", "none"];
/// Members of JSON whose values are secret even if they are short.
const TELLING: [&str; 7] = [
    "auth",
    "password",
    "passwd",
    "token",
    "secret",
    "private_key",
    "apikey",
];

/// Adds everything that tells this value.
pub(crate) fn add(patterns: &mut Patterns, value: &[u8]) {
    let value = value.trim_ascii();
    let mut forms = Forms { patterns };
    if !value.contains(&b'\n') {
        return forms.text(value);
    }
    forms.encoded(value);
    if let Ok(document) = core::str::from_utf8(value)
        .map_err(drop)
        .and_then(|text| Value::parse(text.as_bytes()).map_err(drop))
    {
        return forms.leaves(&document, SHORTEST_PART);
    }
    for line in value.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii) {
        // The frame of a PEM block tells nothing.
        if line.len() >= SHORTEST_PART && !line.starts_with(b"-----") {
            forms.plain(line);
            forms.parts(line);
        }
    }
}

struct Forms<'a> {
    patterns: &'a mut Patterns,
}

impl Forms<'_> {
    /// One line that is secret, and what is in it.
    fn text(&mut self, text: &[u8]) {
        if ordinary(text) {
            return;
        }
        self.plain(text);
        self.encoded(text);
        self.parts(text);
    }

    /// What is secret inside a line: members of JSON, the right side of an assignment, the password in a URL.
    fn parts(&mut self, line: &[u8]) {
        if matches!(line.first(), Some(b'{' | b'[')) {
            if let Ok(document) = Value::parse(line) {
                self.leaves(&document, SHORTEST_PART);
            }
            return;
        }
        if let Some(password) = url_password(line) {
            self.leaf(password, SHORTEST);
            self.leaf(&percent_decoded(password), SHORTEST);
            return;
        }
        let name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let rest = line.strip_prefix(b"export ").unwrap_or(line);
        let end = rest.iter().position(|byte| !name(byte)).unwrap_or(0);
        if end > 0
            && let Some(right) = rest[end..]
                .strip_prefix(b"=")
                .or_else(|| rest[end..].strip_prefix(b": "))
        {
            let right = right.trim_ascii();
            let bare = [b'"', b'\''].into_iter().find_map(|quote| {
                let open = right.strip_prefix(&[quote])?;
                open.strip_suffix(&[quote])
            });
            self.leaf(bare.unwrap_or(right), SHORTEST_PART);
        }
    }

    /// The texts in a JSON document. Names are not secret.
    fn leaves(&mut self, value: &Value, shortest: usize) {
        match value {
            Value::String(text) => self.leaf(text.as_bytes(), shortest),
            Value::Array(items) => items.iter().for_each(|item| self.leaves(item, shortest)),
            Value::Object(members) => {
                for (name, value) in members {
                    let name = name.to_ascii_lowercase();
                    let telling = TELLING.iter().any(|word| name.contains(word));
                    self.leaves(value, if telling { SHORTEST } else { SHORTEST_PART });
                    // The login of a registry: `user:password` in base64.
                    if name == "auth"
                        && let Some(text) = value.as_str()
                        && let Ok(login) = base64_text::decode(text.as_bytes())
                    {
                        self.leaf(&login, SHORTEST);
                        let colon = login.iter().position(|&byte| byte == b':');
                        self.leaf(&login[colon.map_or(0, |at| at + 1)..], SHORTEST);
                    }
                }
            }
            _ => {}
        }
    }

    fn leaf(&mut self, text: &[u8], shortest: usize) {
        let text = text.trim_ascii();
        if text.len() < shortest {
            return;
        }
        match text.contains(&b'\n') {
            // A key inside JSON.
            true => add(self.patterns, text),
            false if ordinary(text) => {}
            false => {
                self.plain(text);
                self.encoded(text);
            }
        }
    }

    /// As it is, and as JSON and a quoting shell write it.
    fn plain(&mut self, text: &[u8]) {
        self.pattern(text.to_vec());
        if core::str::from_utf8(text).is_ok() {
            let mut escaped = String::new();
            json::string(&mut escaped, text);
            let escaped = &escaped.as_bytes()[1..escaped.len() - 1];
            self.pattern(escaped.to_vec());
        }
        if text.contains(&b'\'') {
            let quoted = text.split(|&byte| byte == b'\'').collect::<Vec<_>>();
            self.pattern(quoted.join(&b"'\\''"[..]));
            self.pattern(quoted.join(&b"'\"'\"'"[..]));
        }
    }

    fn encoded(&mut self, value: &[u8]) {
        if value.len() > LONGEST_ENCODED {
            return;
        }
        // What programs leave as it is beside letters, digits and `-_.~`: nothing, JavaScript's set, that of paths, and
        // that of user names in URLs.
        for kept in [&b""[..], b"!'()*", b"/", b"$&+,;="] {
            for (digits, blank) in [
                (b"0123456789ABCDEF", &b"%20"[..]),
                (b"0123456789abcdef", b"%20"),
                (b"0123456789ABCDEF", b"+"),
            ] {
                self.pattern(percent_encoded(value, kept, digits, blank));
            }
        }
        // `echo` and most files end in a line break.
        let line = [value, b"\n"].concat();
        for whole in [value, &line] {
            let encoded = base64_text::encode_unpadded(whole).into_bytes();
            for width in WRAPPED.into_iter().filter(|width| encoded.len() > *width) {
                let lines = encoded.chunks(width);
                for line in lines.filter(|line| line.len() >= SHORTEST_PART) {
                    self.pattern(line.to_vec());
                }
            }
            self.base64(encoded);
            self.base64(base64_text::encode(whole).into_bytes());
        }
        for offset in 0..3 {
            // Only letters whose six bits are all the value's.
            let encoded = base64_text::encode_unpadded(&[&[0; 2][..offset], value].concat());
            let core = (offset * 8).div_ceil(6)..(offset + value.len()) * 8 / 6;
            if core.len() >= SHORTEST_CORE {
                self.base64(encoded.as_bytes()[core].to_vec());
            }
        }
    }

    /// In the alphabet of the standard and in that for URLs.
    fn base64(&mut self, encoded: Vec<u8>) {
        let for_urls = |byte: &u8| match byte {
            b'+' => b'-',
            b'/' => b'_',
            byte => *byte,
        };
        self.pattern(encoded.iter().map(for_urls).collect());
        self.pattern(encoded);
    }

    fn pattern(&mut self, pattern: Vec<u8>) {
        if pattern.len() < SHORTEST {
            return;
        }
        if pattern.len() <= LONGEST {
            self.patterns.insert(pattern);
            return;
        }
        // Pieces of about one length: none is so short that it stands elsewhere too.
        let pieces = pattern.len().div_ceil(LONGEST);
        let pieces = pattern.chunks(pattern.len().div_ceil(pieces));
        self.patterns.extend(pieces.map(<[u8]>::to_vec));
    }
}

/// Too short or too common to be looked for.
fn ordinary(text: &[u8]) -> bool {
    text.len() < SHORTEST
        || ORDINARY
            .iter()
            .any(|word| text.eq_ignore_ascii_case(word.as_bytes()))
        // A line of dashes, a placeholder of stars.
        || text.iter().all(|byte| *byte == text[0])
}

/// The password in `scheme://user:password@host`, as it is written there.
fn url_password(text: &[u8]) -> Option<&[u8]> {
    let at = text.windows(3).position(|three| three == b"://")?;
    let rest = &text[at + 3..];
    let authority = rest
        .split(|byte| matches!(byte, b'/' | b'?' | b'#' | b' '))
        .next()?;
    let end = authority.iter().rposition(|&byte| byte == b'@')?;
    let colon = authority[..end].iter().position(|&byte| byte == b':');
    // A token stands there without a user.
    Some(&authority[colon.map_or(0, |at| at + 1)..end])
}

fn percent_encoded(value: &[u8], kept: &[u8], digits: &[u8; 16], blank: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for &byte in value {
        match byte {
            b' ' => out.extend_from_slice(blank),
            b'-' | b'_' | b'.' | b'~' => out.push(byte),
            _ if byte.is_ascii_alphanumeric() || kept.contains(&byte) => out.push(byte),
            _ => out.extend([
                b'%',
                digits[usize::from(byte >> 4)],
                digits[usize::from(byte & 15)],
            ]),
        }
    }
    out
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let digit = |byte: &u8| (*byte as char).to_digit(16);
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (b'%', [high, low, after @ ..]) if digit(high).is_some() && digit(low).is_some() => {
                let value = digit(high).unwrap_or(0) * 16 + digit(low).unwrap_or(0);
                out.push(value as u8);
                rest = after;
            }
            _ => out.push(byte),
        }
    }
    out
}
