//! The termination message: a small file through which the step tells the controller about itself.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_with_limit};

use crate::json_value::{Value, take_text};
use crate::path::Path;
use crate::system::fs::{self, File};
use crate::system::{Error, Result as IoResult};
use crate::{base64_text, json, log::log};

pub(crate) const TASK_RESULT: i64 = 1;
pub(crate) const INTERNAL: i64 = 3;
pub(crate) const STEP_RESULT: i64 = 4;
pub(crate) const STEP_ARTIFACTS: i64 = 5;
pub(crate) const TASK_ARTIFACTS: i64 = 6;

/// What the kubelet keeps of a message; a longer one is an error (T-304).
const LIMIT: usize = 4096;
const MAX_DECOMPRESSED: usize = 128 * 1024;
const COMPRESSED: &[u8] = b"tknz:";

pub(crate) const TOO_LONG: &str =
    "Termination message is above max allowed size 4096, caused by large task result.";

/// One `{"key","value","type"}` (T-301).
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    pub(crate) kind: i64,
}

impl Entry {
    pub(crate) fn internal(key: &str, value: impl Into<String>) -> Entry {
        Entry {
            key: key.into(),
            value: value.into().into_bytes(),
            kind: INTERNAL,
        }
    }
}

#[derive(Debug)]
pub(crate) enum WriteError {
    TooLong,
    Io(Error),
}

/// Adds entries to the message. The file is rewritten in place: the kubelet has mounted this very file (T-303).
pub(crate) fn append(path: &Path, entries: Vec<Entry>, compress: bool) -> Result<(), WriteError> {
    let mut all = match fs::read(path) {
        Ok(bytes) if bytes.trim_ascii().is_empty() => Vec::new(),
        Ok(bytes) => match parse(&bytes) {
            Ok(existing) => existing,
            Err(message) => {
                if compress {
                    log(&format!(
                        "Failed to parse existing termination message, previous results will be lost: {message}"
                    ));
                }
                Vec::new()
            }
        },
        Err(error) if error.is_not_found() => Vec::new(),
        Err(error) => return Err(WriteError::Io(error)),
    };
    all.extend(entries);
    let plain = encode(&all);
    let compressed = compress.then(|| deflate(plain.as_bytes()));
    let output = match &compressed {
        Some(compressed) if compressed.len() < plain.len() => compressed,
        _ => plain.as_bytes(),
    };
    if output.len() > LIMIT {
        return Err(WriteError::TooLong);
    }
    let write = || -> IoResult<()> {
        let file = File::create(path, 0o666)?;
        file.write_all(output)?;
        file.sync()
    };
    write().map_err(WriteError::Io)
}

fn encode(entries: &[Entry]) -> String {
    let mut out = String::from("[");
    json::joined(&mut out, entries, |out, entry| {
        out.push_str("{\"key\":");
        json::string(out, &entry.key);
        out.push_str(",\"value\":");
        json::string(out, &entry.value);
        if entry.kind != 0 {
            out.push_str(",\"type\":");
            out.push_str(&entry.kind.to_string());
        }
        out.push('}');
    });
    out.push(']');
    out
}

fn deflate(json: &[u8]) -> Vec<u8> {
    const SMALLEST: u8 = 9;
    let mut out = COMPRESSED.to_vec();
    out.extend_from_slice(
        base64_text::encode_unpadded(&compress_to_vec(json, SMALLEST)).as_bytes(),
    );
    out
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<Entry>, String> {
    let plain = match bytes.strip_prefix(COMPRESSED) {
        Some(encoded) => {
            let deflated = base64_text::decode_unpadded(encoded)?;
            decompress_to_vec_with_limit(&deflated, MAX_DECOMPRESSED).map_err(
                |error| match error.status {
                    TINFLStatus::HasMoreOutput => format!(
                        "decompressed termination message exceeds {MAX_DECOMPRESSED} byte limit"
                    ),
                    status => format!("flate decompress: {status:?}"),
                },
            )?
        }
        None => bytes.to_vec(),
    };
    let entry = |value: Value| {
        let mut members = value.into_members()?;
        Ok(Entry {
            key: take_text(&mut members, "key")?.into_bytes(),
            value: take_text(&mut members, "value")?.into_bytes(),
            kind: members.get("type").map_or(0, kind),
        })
    };
    Value::parse(&plain)?
        .into_items()?
        .into_iter()
        .map(entry)
        .collect()
}

/// Old entrypoints wrote names for numbers (T-301).
fn kind(value: &Value) -> i64 {
    match value {
        Value::Number(number) => number.parse().unwrap_or(10),
        Value::String(name) => match name.as_str() {
            "TaskRunResult" => TASK_RESULT,
            "InternalTektonResult" => INTERNAL,
            "StepResult" => STEP_RESULT,
            "StepArtifactsResult" => STEP_ARTIFACTS,
            "TaskRunArtifactsResult" => TASK_ARTIFACTS,
            _ => 10,
        },
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    fn ours(path: &std::path::Path) -> Path {
        Path::new(path.as_os_str().as_encoded_bytes())
    }

    fn entry(key: &str, value: &str) -> Entry {
        Entry {
            key: key.into(),
            value: value.into(),
            kind: TASK_RESULT,
        }
    }

    #[test]
    fn entries_are_added_to_what_is_there_in_the_same_file() {
        // T-301, T-303
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("termination");
        fs::write(
            &path,
            r#"[{"key":"old","value":"1","type":"TaskRunResult"}]"#,
        )
        .unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        append(&ours(&path), vec![entry("new", "<2>")], false).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            r#"[{"key":"old","value":"1","type":1},{"key":"new","value":"\u003c2\u003e","type":1}]"#
        );
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    }

    #[test]
    fn a_message_is_measured_after_encoding_and_not_written_when_too_long() {
        // T-304: 4096 bytes pass, 4097 do not; an escape counts with all its characters.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("termination");
        let frame = encode(&[entry("k", "")]).len();
        append(
            &ours(&path),
            vec![entry("k", &"x".repeat(LIMIT - frame))],
            false,
        )
        .unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 4096);
        fs::write(&path, "").unwrap();
        assert!(matches!(
            append(
                &ours(&path),
                vec![entry("k", &"x".repeat(LIMIT - frame + 1))],
                false
            ),
            Err(WriteError::TooLong)
        ));
        assert!(matches!(
            append(&ours(&path), vec![entry("k", &"<".repeat(700))], false),
            Err(WriteError::TooLong)
        ));
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    }

    #[test]
    fn compression_is_used_only_where_it_helps_and_read_back() {
        // T-305
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("termination");
        append(&ours(&path), vec![entry("k", "v")], true).unwrap();
        assert!(fs::read(&path).unwrap().starts_with(b"["));
        append(&ours(&path), vec![entry("long", &"abc".repeat(5000))], true).unwrap();
        let written = fs::read(&path).unwrap();
        assert!(written.starts_with(COMPRESSED) && !written.ends_with(b"="));
        append(&ours(&path), vec![entry("more", "x")], true).unwrap();
        let read = parse(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(
            read.iter()
                .map(|entry| entry.value.len())
                .collect::<Vec<_>>(),
            [1, 15000, 1]
        );
        let bomb = deflate(&[b' '; 200_000]);
        assert!(parse(&bomb).unwrap_err().contains("131072"));
    }
}
