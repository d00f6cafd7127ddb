//! What a step leaves in its termination message: results, artifacts and internal notes (T-301 to T-306).

use std::collections::BTreeMap;
use std::io::Read;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use flate2::read::DeflateDecoder;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most that a compressed message may grow to (T-305).
const LONGEST_DECOMPRESSED: u64 = 131_072;

/// One entry of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// Name of a result, or of an internal note.
    pub key: String,
    /// Its content.
    pub value: String,
    /// What kind of entry it is.
    #[serde(rename = "type", skip_serializing_if = "Kind::is_unset")]
    pub kind: Kind,
}

/// Kinds of entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// The message did not say.
    #[default]
    Unset,
    /// A result of the task.
    TaskResult,
    /// For the controller alone.
    Internal,
    /// A result of the step.
    StepResult,
    /// Artifacts of the step.
    StepArtifacts,
    /// Artifacts of the task.
    TaskArtifacts,
    /// Some other number.
    Other(i64),
}

impl Kind {
    fn is_unset(&self) -> bool {
        *self == Self::Unset
    }

    fn code(self) -> i64 {
        match self {
            Self::Unset => 0,
            Self::TaskResult => 1,
            Self::Internal => 3,
            Self::StepResult => 4,
            Self::StepArtifacts => 5,
            Self::TaskArtifacts => 6,
            Self::Other(code) => code,
        }
    }

    fn from_code(code: i64) -> Self {
        match code {
            0 => Self::Unset,
            1 => Self::TaskResult,
            3 => Self::Internal,
            4 => Self::StepResult,
            5 => Self::StepArtifacts,
            6 => Self::TaskArtifacts,
            other => Self::Other(other),
        }
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.code())
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Code(i64),
            Name(String),
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Code(code) => Self::from_code(code),
            Written::Name(name) => match name.as_str() {
                "TaskRunResult" => Self::TaskResult,
                "InternalTektonResult" => Self::Internal,
                "StepResult" => Self::StepResult,
                "StepArtifactsResult" => Self::StepArtifacts,
                "TaskRunArtifactsResult" => Self::TaskArtifacts,
                _ => Self::Other(10),
            },
        })
    }
}

/// Why a message cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// It is marked as compressed but is not.
    #[error("decompressing termination message: {0}")]
    Compression(String),
    /// It is not a list of entries.
    #[error("parsing message json: {error}, msg: {start}")]
    Json {
        /// What the parser said.
        error: serde_json::Error,
        /// The first characters of the message.
        start: String,
    },
}

/// Reads a message: empty entries are dropped, the last entry of each key counts, sorted by key (T-306).
pub fn parse(message: &str) -> Result<Vec<Entry>, MessageError> {
    if message.is_empty() {
        return Ok(Vec::new());
    }
    let decompressed;
    let json = match message.strip_prefix("tknz:") {
        Some(encoded) => {
            decompressed = decompress(encoded)?;
            &decompressed
        }
        None => message,
    };
    let entries: Vec<Entry> = serde_json::from_str(json).map_err(|error| MessageError::Json {
        error,
        start: json.chars().take(256).collect(),
    })?;
    let by_key: BTreeMap<String, Entry> = entries
        .into_iter()
        .filter(|e| *e != Entry::default())
        .map(|e| (e.key.clone(), e))
        .collect();
    Ok(by_key.into_values().collect())
}

fn decompress(encoded: &str) -> Result<String, MessageError> {
    let bytes = STANDARD_NO_PAD
        .decode(encoded)
        .map_err(|e| MessageError::Compression(e.to_string()))?;
    let mut text = String::new();
    DeflateDecoder::new(bytes.as_slice())
        .take(LONGEST_DECOMPRESSED + 1)
        .read_to_string(&mut text)
        .map_err(|e| MessageError::Compression(e.to_string()))?;
    if text.len() as u64 > LONGEST_DECOMPRESSED {
        return Err(MessageError::Compression(format!(
            "message exceeds {LONGEST_DECOMPRESSED} bytes"
        )));
    }
    Ok(text)
}

/// Writes entries back as Go's encoder would; nothing for no entries (T-313).
pub fn write(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return String::new();
    }
    // Entries are plain text and numbers: encoding cannot fail.
    go_json(&serde_json::to_string(entries).unwrap_or_default())
}

/// Escapes what Go's JSON encoder escapes and serde's does not; those characters stand only inside strings.
pub(crate) fn go_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::DeflateEncoder};

    use super::*;

    fn entry(key: &str, value: &str, kind: Kind) -> Entry {
        Entry {
            key: key.into(),
            value: value.into(),
            kind,
        }
    }

    fn compressed(text: &str) -> String {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text.as_bytes()).unwrap();
        format!("tknz:{}", STANDARD_NO_PAD.encode(encoder.finish().unwrap()))
    }

    #[test]
    fn entries_are_read_with_numeric_and_named_types() {
        // T-301
        let message = r#"[{"key":"a","value":"1","type":1},{"key":"b","value":"2","type":"StepResult"},
            {"key":"c","value":"3","type":"InternalTektonResult"},{"key":"d","value":"4","type":"Odd"},
            {"key":"e","value":"5","type":5},{"key":"f","value":"6","type":"TaskRunArtifactsResult"}]"#;
        assert_eq!(
            parse(message).unwrap(),
            [
                entry("a", "1", Kind::TaskResult),
                entry("b", "2", Kind::StepResult),
                entry("c", "3", Kind::Internal),
                entry("d", "4", Kind::Other(10)),
                entry("e", "5", Kind::StepArtifacts),
                entry("f", "6", Kind::TaskArtifacts),
            ]
        );
    }

    #[test]
    fn the_last_entry_of_a_key_counts_and_entries_are_sorted() {
        // T-306
        let message = r#"[{"key":"z","value":"1","type":1},{},{"key":"a","value":"1","type":1},{"key":"z","value":"2","type":4}]"#;
        assert_eq!(
            parse(message).unwrap(),
            [
                entry("a", "1", Kind::TaskResult),
                entry("z", "2", Kind::StepResult)
            ]
        );
    }

    #[test]
    fn a_compressed_message_is_recognised_and_limited() {
        // T-305
        let json = r#"[{"key":"a","value":"1","type":1}]"#;
        assert_eq!(
            parse(&compressed(json)).unwrap(),
            [entry("a", "1", Kind::TaskResult)]
        );
        let bomb = compressed(&" ".repeat(LONGEST_DECOMPRESSED as usize + 1));
        assert!(matches!(parse(&bomb), Err(MessageError::Compression(_))));
        assert!(matches!(parse("tknz:!"), Err(MessageError::Compression(_))));
    }

    #[test]
    fn what_is_no_list_of_entries_is_an_error_and_no_message_is_no_entries() {
        assert!(matches!(parse("oops"), Err(MessageError::Json { .. })));
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn entries_are_written_as_go_writes_them() {
        // T-313
        assert_eq!(write(&[]), "");
        assert_eq!(
            write(&[entry("a", "<&>\n", Kind::TaskResult)]),
            r#"[{"key":"a","value":"\u003c\u0026\u003e\n","type":1}]"#
        );
    }
}
