//! What a cache wants to know of every object, read without decoding the rest.

use std::borrow::Cow;
use std::sync::Arc;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Name;

/// What is read of every object, without decoding the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) name: Name,
    pub(crate) uid: String,
    pub(crate) version: u64,
    /// Value of the label by which the store groups its objects.
    pub(crate) group: Option<Arc<str>>,
    /// The controlling owner: kind, name, uid.
    pub(crate) owner: Option<Owner>,
}

/// The controlling owner of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) kind: String,
    pub(crate) name: Arc<str>,
    pub(crate) uid: String,
}

#[derive(Deserialize)]
struct RawHead<'a> {
    #[serde(borrow, default)]
    metadata: RawMeta<'a>,
}

/// Borrowed where nothing is escaped, which is nearly always.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawMeta<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    namespace: Cow<'a, str>,
    #[serde(borrow)]
    uid: Cow<'a, str>,
    #[serde(borrow)]
    resource_version: Cow<'a, str>,
    #[serde(borrow)]
    labels: Option<Labels<'a>>,
    #[serde(borrow)]
    owner_references: Option<Vec<RawOwner<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawOwner<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    uid: Cow<'a, str>,
    controller: Option<bool>,
}

/// Labels in the order of the document: one of them is looked for, once.
struct Labels<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Labels<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Labels<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map of labels")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut labels = Vec::new();
                while let Some((Text(key), Text(value))) = map.next_entry()? {
                    labels.push((key, value));
                }
                Ok(Labels(labels))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// A text that is borrowed if it can be: serde borrows a [`Cow`] in a field only.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Head {
    /// Reads the head of a serialised object that is grouped by `label`.
    pub(crate) fn read(object: &[u8], label: &str) -> Result<Self, serde_json::Error> {
        let RawHead { metadata } = serde_json::from_slice(object)?;
        let owner = metadata
            .owner_references
            .unwrap_or_default()
            .into_iter()
            .find(|owner| owner.controller == Some(true));
        Ok(Head {
            name: Name::new(metadata.namespace, metadata.name),
            uid: metadata.uid.into_owned(),
            version: metadata.resource_version.parse().unwrap_or(0),
            group: metadata.labels.and_then(|Labels(labels)| {
                let found = labels.into_iter().find(|(key, _)| key == label);
                found.map(|(_, value)| Arc::from(value))
            }),
            owner: owner.map(|owner| Owner {
                kind: owner.kind.into_owned(),
                name: owner.name.into(),
                uid: owner.uid.into_owned(),
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_whatever_is_escaped_in_it_or_null() {
        let object = br#"{"metadata": {"name": "a\u002db", "resourceVersion": "7", "uid": "u",
            "labels": {"x": "1", "\u0067": "caf\u00e9"}, "ownerReferences": null, "annotations": {"k": "v"}}}"#;
        let head = Head::read(object, "g").unwrap();
        assert_eq!((&*head.name.name, head.version), ("a-b", 7));
        assert_eq!(
            (head.group.as_deref(), head.owner),
            (Some("caf\u{e9}"), None)
        );
        let bare = Head::read(br#"{"metadata": {"name": "a", "labels": null}}"#, "g").unwrap();
        assert_eq!((bare.group, bare.version), (None, 0));
    }
}
