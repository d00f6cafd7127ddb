//! A stored object: its bytes, and the fields that selectors, preconditions and deletion look at.

use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde_json::{Map, Value};

/// Key and value pairs in one allocation: there are many objects, and each has labels.
#[derive(Clone, Debug, Default)]
pub struct Pairs(Box<str>);

impl Pairs {
    /// Joins pairs; neither keys nor values may contain NUL, so those that do are left out.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut text = String::new();
        for (key, value) in pairs {
            if !key.contains('\0') && !value.contains('\0') {
                for part in [key, value] {
                    text.push_str(part);
                    text.push('\0');
                }
            }
        }
        Self(text.into_boxed_str())
    }

    fn get(&self, key: &str) -> Option<&str> {
        let mut parts = self.0.split_terminator('\0');
        while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
            if name == key {
                return Some(value);
            }
        }
        None
    }
}

/// The JSON of an object.
#[derive(Clone, Debug)]
enum Content {
    Plain(Bytes),
    /// Compressed, because nothing has happened to the object for a while; and the length of the JSON.
    Packed(Box<[u8]>, u32),
}

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
    content: Content,
    places: Places,
    tree: Tree,
}

/// What the bytes of an object say, while it is likely to be asked for soon: the next write of it need not read them.
#[derive(Debug, Default)]
struct Tree(Mutex<Option<Arc<Value>>>);

impl Tree {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Value>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where in the bytes of an object some of it stands.
#[derive(Clone, Copy, Debug, Default)]
struct Places {
    /// The opening brace of the metadata.
    metadata: u32,
    /// Behind its closing brace.
    metadata_end: u32,
    /// The digits of the resource version.
    revision: u32,
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
    /// JSON with [`PLACEHOLDER`] for its revision.
    bytes: Vec<u8>,
    places: Places,
    /// What the bytes were made of, if it is to be kept.
    tree: Option<Value>,
}

/// Stands for the revision while an object is serialised; longer than no revision.
const PLACEHOLDER: &str = "0";

/// Bytes of an object from which on its tree, several times as large, is not kept.
const LARGEST_TREE: usize = 16 << 10;

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
            .into_iter()
            .flatten();
        let labels = Pairs::new(
            labels.map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default())),
        );
        let (bytes, places) = serialise(object);
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
            places,
            tree: None,
        }
    }

    /// Keeps what the draft was made of beside the bytes, for an object that will be written again soon.
    pub fn with_tree(mut self, object: Value) -> Self {
        self.tree = Some(object).filter(|_| self.bytes.len() <= LARGEST_TREE);
        self
    }

    pub(super) fn into_stored(self, revision: u64) -> Stored {
        let (bytes, places) = splice(&self.bytes, self.places, PLACEHOLDER.len(), revision);
        let tree = self.tree.map(|mut tree| {
            tree["metadata"]["resourceVersion"] = revision.to_string().into();
            Arc::new(tree)
        });
        Stored {
            tree: Tree(Mutex::new(tree)),
            namespace: self.namespace,
            name: self.name,
            uid: self.uid,
            revision,
            labels: self.labels,
            fields: self.fields,
            deleting: self.deleting,
            content: Content::Plain(bytes),
            places,
        }
    }
}

impl Stored {
    /// The object as JSON in its storage version.
    pub fn bytes(&self) -> Bytes {
        match &self.content {
            Content::Plain(bytes) => bytes.clone(),
            Content::Packed(packed, length) => {
                let mut out = Vec::with_capacity(*length as usize);
                // `pack` made it.
                let _ = DeflateDecoder::new(&packed[..]).read_to_end(&mut out);
                out.into()
            }
        }
    }

    /// Bytes of content in memory that packing could save.
    pub(super) fn plain_len(&self) -> usize {
        match &self.content {
            Content::Plain(bytes) => bytes.len(),
            Content::Packed(..) => 0,
        }
    }

    /// The same object with its JSON compressed.
    pub(super) fn pack(&self) -> Option<Self> {
        let Content::Plain(bytes) = &self.content else {
            return None;
        };
        let mut encoder =
            DeflateEncoder::new(Vec::with_capacity(bytes.len() / 3), Compression::fast());
        encoder.write_all(bytes).ok()?;
        let packed = encoder.finish().ok()?.into_boxed_slice();
        let length = u32::try_from(bytes.len()).ok()?;
        Some(self.with(Content::Packed(packed, length), self.places, self.revision))
    }

    fn with(&self, content: Content, places: Places, revision: u64) -> Self {
        Self {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            revision,
            labels: self.labels.clone(),
            fields: self.fields.clone(),
            deleting: self.deleting,
            content,
            places,
            tree: Tree::default(),
        }
    }

    /// As [`Stored::value`], and not parsed if that is still known from its write.
    pub fn tree(&self) -> Arc<Value> {
        let kept = self.tree.lock().clone();
        kept.unwrap_or_else(|| Arc::new(self.value()))
    }

    pub(super) fn has_tree(&self) -> bool {
        self.tree.lock().is_some()
    }

    /// Frees what [`Draft::with_tree`] kept.
    pub(super) fn forget_tree(&self) {
        let tree = self.tree.lock().take();
        drop(tree);
    }

    /// The parsed object.
    pub fn value(&self) -> Value {
        // The bytes were made by this module from a `Value`.
        serde_json::from_slice(&self.bytes()).unwrap_or_default()
    }

    /// The same content under another revision, as a deletion event carries it (K-136).
    pub fn at_revision(&self, revision: u64) -> Self {
        let old = self.revision.to_string().len();
        let (bytes, places) = splice(&self.bytes(), self.places, old, revision);
        self.with(Content::Plain(bytes), places, revision)
    }

    /// The JSON of the metadata alone.
    pub fn metadata(&self) -> Bytes {
        let Places {
            metadata,
            metadata_end,
            ..
        } = self.places;
        self.bytes().slice(metadata as usize..metadata_end as usize)
    }

    /// One label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key)
    }

    /// One selectable field.
    pub fn field(&self, path: &str) -> Option<&str> {
        match path {
            "metadata.name" => Some(&self.name),
            "metadata.namespace" => Some(&self.namespace),
            _ => self.fields.get(path),
        }
    }

    pub(super) fn record(&self) -> Vec<u8> {
        let bytes = self.bytes();
        let mut out = Vec::with_capacity(bytes.len() + self.fields.0.len() + 12);
        out.extend_from_slice(&self.revision.to_le_bytes());
        out.extend_from_slice(&(self.fields.0.len() as u32).to_le_bytes());
        out.extend_from_slice(self.fields.0.as_bytes());
        out.extend_from_slice(&bytes);
        out
    }

    /// Reads what [`Stored::record`] wrote.
    pub(super) fn from_record(record: &[u8]) -> Option<Self> {
        let (revision, rest) = record.split_at_checked(8)?;
        let (length, rest) = rest.split_at_checked(4)?;
        let (fields, json) =
            rest.split_at_checked(u32::from_le_bytes(length.try_into().ok()?) as usize)?;
        let fields = Pairs(std::str::from_utf8(fields).ok()?.into());
        let object: Value = serde_json::from_slice(json).ok()?;
        Some(Draft::new(&object, fields).into_stored(u64::from_le_bytes(revision.try_into().ok()?)))
    }
}

/// The same bytes with another revision in place of one of `old` digits.
fn splice(bytes: &[u8], places: Places, old: usize, revision: u64) -> (Bytes, Places) {
    let digits = revision.to_string();
    let at = places.revision as usize;
    let mut out = Vec::with_capacity(bytes.len() - old + digits.len());
    out.extend_from_slice(&bytes[..at]);
    out.extend_from_slice(digits.as_bytes());
    out.extend_from_slice(&bytes[at + old..]);
    let metadata_end = places.metadata_end + digits.len() as u32 - old as u32;
    (
        Bytes::from(out),
        Places {
            metadata_end,
            ..places
        },
    )
}

/// Writes `object` with `metadata.resourceVersion` set to the placeholder, and says where things stand.
fn serialise(object: &Value) -> (Vec<u8>, Places) {
    let mut out = Vec::with_capacity(1024);
    let mut places = Places::default();
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
    out.extend_from_slice(b"\"metadata\":");
    places.metadata = out.len() as u32;
    out.push(b'{');
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
    places.revision = out.len() as u32;
    out.extend_from_slice(PLACEHOLDER.as_bytes());
    out.extend_from_slice(b"\"}");
    places.metadata_end = out.len() as u32;
    for (key, value) in top {
        if !matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
            separate(&mut out);
            write_entry(&mut out, key, value);
        }
    }
    out.push(b'}');
    (out, places)
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_survive_packing_recording_and_a_change_of_revision() {
        // K-048, K-136
        let object = json!({
            "kind": "Pod", "apiVersion": "v1",
            "metadata": {"name": "n", "namespace": "s", "uid": "u", "labels": {"a": "b", "c": ""}, "resourceVersion": "5"},
            "spec": {"nodeName": "x", "text": "\"resourceVersion\":\"7\""},
        });
        let stored = Draft::new(&object, Pairs::new([("spec.nodeName", "x")])).into_stored(99);
        let later = stored.pack().unwrap().at_revision(12345);
        let back = Stored::from_record(&later.record()).unwrap();
        for (version, revision) in [(&stored, 99), (&later, 12345), (&back, 12345)] {
            let mut expected = object.clone();
            expected["metadata"]["resourceVersion"] = revision.to_string().into();
            assert_eq!(version.value(), expected);
            let metadata: Value = serde_json::from_slice(&version.metadata()).unwrap();
            assert_eq!(metadata, expected["metadata"]);
            assert_eq!(
                (version.label("a"), version.label("c"), version.label("d")),
                (Some("b"), Some(""), None)
            );
            assert_eq!(
                (
                    version.field("spec.nodeName"),
                    version.field("metadata.name")
                ),
                (Some("x"), Some("n"))
            );
            assert_eq!(version.revision, revision);
        }
    }
}
