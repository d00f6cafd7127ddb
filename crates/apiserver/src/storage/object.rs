//! A stored object: its bytes, and the fields that selectors, preconditions and deletion look at.

use bytes::Bytes;
use serde_json::{Map, Value};

type Pairs = Box<[(Box<str>, Box<str>)]>;

/// One version of one object.
#[derive(Debug)]
pub struct Stored {
    /// Empty for cluster-scoped objects.
    pub namespace: Box<str>,
    /// `metadata.name`.
    pub name: Box<str>,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.resourceVersion`.
    pub revision: u64,
    /// `metadata.labels`.
    pub labels: Pairs,
    /// Selectable fields beyond name and namespace (K-127 to K-129, K-182).
    pub fields: Pairs,
    /// Whether `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// The object as JSON in its storage version.
    pub bytes: Bytes,
    /// Where in `bytes` the digits of the resource version are.
    revision_at: u32,
}

/// An object about to be stored; it lacks its revision.
#[derive(Debug)]
pub struct Draft {
    pub namespace: Box<str>,
    pub name: Box<str>,
    uid: Box<str>,
    labels: Pairs,
    fields: Pairs,
    deleting: bool,
    /// JSON with room for the revision at `revision_at`.
    bytes: Vec<u8>,
    revision_at: usize,
}

/// Stands for the revision while an object is serialised; longer than no revision.
const PLACEHOLDER: &str = "0";

impl Draft {
    /// Serialises `object`, which has a `metadata.name`.
    pub fn new(object: &Value, fields: Pairs) -> Self {
        let empty = Map::new();
        let metadata = object
            .get("metadata")
            .and_then(Value::as_object)
            .unwrap_or(&empty);
        let text = |key: &str| {
            metadata
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .into()
        };
        let labels = metadata
            .get("labels")
            .and_then(Value::as_object)
            .map(|labels| {
                labels
                    .iter()
                    .map(|(key, value)| {
                        (
                            key.as_str().into(),
                            value.as_str().unwrap_or_default().into(),
                        )
                    })
                    .collect()
            })
            .unwrap_or_default();
        let (bytes, revision_at) = serialise(object);
        Self {
            namespace: text("namespace"),
            name: text("name"),
            uid: text("uid"),
            labels,
            fields,
            deleting: metadata
                .get("deletionTimestamp")
                .is_some_and(|time| !time.is_null()),
            bytes,
            revision_at,
        }
    }

    pub(super) fn into_stored(self, revision: u64) -> Stored {
        let bytes = splice(&self.bytes, self.revision_at, PLACEHOLDER.len(), revision);
        Stored {
            namespace: self.namespace,
            name: self.name,
            uid: self.uid,
            revision,
            labels: self.labels,
            fields: self.fields,
            deleting: self.deleting,
            bytes,
            revision_at: self.revision_at as u32,
        }
    }
}

impl Stored {
    /// The parsed object.
    pub fn value(&self) -> Value {
        // The bytes were made by this module from a `Value`.
        serde_json::from_slice(&self.bytes).unwrap_or_default()
    }

    /// The same content under another revision, as a deletion event carries it (K-136).
    pub fn at_revision(&self, revision: u64) -> Self {
        let old = self.revision.to_string().len();
        Self {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            revision,
            labels: self.labels.clone(),
            fields: self.fields.clone(),
            deleting: self.deleting,
            bytes: splice(&self.bytes, self.revision_at as usize, old, revision),
            revision_at: self.revision_at,
        }
    }

    /// One label.
    pub fn label(&self, key: &str) -> Option<&str> {
        lookup(&self.labels, key)
    }

    /// One selectable field.
    pub fn field(&self, path: &str) -> Option<&str> {
        match path {
            "metadata.name" => Some(&self.name),
            "metadata.namespace" => Some(&self.namespace),
            _ => lookup(&self.fields, path),
        }
    }

    pub(super) fn record(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes.len() + 128);
        out.extend_from_slice(&self.revision.to_le_bytes());
        let count = self.fields.len() as u32;
        out.extend_from_slice(&count.to_le_bytes());
        for (key, value) in &self.fields {
            for part in [key, value] {
                out.extend_from_slice(&(part.len() as u32).to_le_bytes());
                out.extend_from_slice(part.as_bytes());
            }
        }
        out.extend_from_slice(&self.bytes);
        out
    }

    /// Reads what [`Stored::record`] wrote.
    pub(super) fn from_record(record: &[u8]) -> Option<Self> {
        let mut rest = record;
        let mut take = |count: usize| {
            let (head, tail) = rest.split_at_checked(count)?;
            rest = tail;
            Some(head)
        };
        let revision = u64::from_le_bytes(take(8)?.try_into().ok()?);
        let count = u32::from_le_bytes(take(4)?.try_into().ok()?);
        let mut fields = Vec::new();
        for _ in 0..count {
            let mut part = || -> Option<Box<str>> {
                let length = u32::from_le_bytes(take(4)?.try_into().ok()?);
                Some(std::str::from_utf8(take(length as usize)?).ok()?.into())
            };
            fields.push((part()?, part()?));
        }
        let object: Value = serde_json::from_slice(rest).ok()?;
        Some(Draft::new(&object, fields.into()).into_stored(revision))
    }
}

fn lookup<'a>(pairs: &'a [(Box<str>, Box<str>)], key: &str) -> Option<&'a str> {
    pairs
        .iter()
        .find(|(name, _)| **name == *key)
        .map(|(_, value)| &**value)
}

fn splice(bytes: &[u8], at: usize, old: usize, revision: u64) -> Bytes {
    let digits = revision.to_string();
    let mut out = Vec::with_capacity(bytes.len() - old + digits.len());
    out.extend_from_slice(&bytes[..at]);
    out.extend_from_slice(digits.as_bytes());
    out.extend_from_slice(&bytes[at + old..]);
    Bytes::from(out)
}

/// Writes `object` with `metadata.resourceVersion` set to the placeholder, and says where that stands.
fn serialise(object: &Value) -> (Vec<u8>, usize) {
    let mut out = Vec::with_capacity(1024);
    let mut revision_at = 0;
    let empty = Map::new();
    let top = object.as_object().unwrap_or(&empty);
    out.push(b'{');
    for key in ["apiVersion", "kind"] {
        if let Some(value) = top.get(key) {
            separate(&mut out);
            write_entry(&mut out, key, value);
        }
    }
    separate(&mut out);
    out.extend_from_slice(b"\"metadata\":{");
    let metadata = top
        .get("metadata")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    for (key, value) in metadata {
        if key == "resourceVersion" {
            continue;
        }
        separate(&mut out);
        write_entry(&mut out, key, value);
    }
    separate(&mut out);
    out.extend_from_slice(b"\"resourceVersion\":\"");
    revision_at += out.len();
    out.extend_from_slice(PLACEHOLDER.as_bytes());
    out.extend_from_slice(b"\"}");
    for (key, value) in top {
        if !matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
            separate(&mut out);
            write_entry(&mut out, key, value);
        }
    }
    out.push(b'}');
    (out, revision_at)
}

fn separate(out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
}

fn write_entry(out: &mut Vec<u8>, key: &str, value: &Value) {
    // Writing a `Value` to memory cannot fail.
    let _ = serde_json::to_writer(&mut *out, key);
    out.push(b':');
    let _ = serde_json::to_writer(&mut *out, value);
}
