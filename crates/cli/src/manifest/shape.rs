//! Checks a document against a Rust type through serde itself: which fields the type knows, and where decoding fails.
//!
//! `Deserialize` implementations announce their field names, so no second schema is needed to find unknown fields and
//! to suggest the nearest known one. Parts read as free maps or buffered (untagged) values are not checked.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::Value;

use super::node::{self, Content, Entry, Node, Span};

/// A field that the type does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownField {
    /// The field's path, such as `spec.steps[0].comand`.
    pub path: String,
    /// Its last step.
    pub name: String,
    /// Where it stands.
    pub span: Span,
    /// The fields the type has.
    pub known: &'static [&'static str],
}

/// A value the type cannot take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// What serde says.
    pub message: String,
    /// Where the value stands.
    pub span: Span,
    /// The field's path.
    pub path: String,
}

/// What [`check`] found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Unknown fields, in the order written.
    pub unknown: Vec<UnknownField>,
    /// The first value that does not fit.
    pub mismatch: Option<Mismatch>,
}

/// Reads `node` as a `T` and says what does not fit.
pub fn check<T: DeserializeOwned>(node: &Node) -> Findings {
    let unknown = RefCell::new(Vec::new());
    let reader = Reader {
        node,
        path: String::new(),
        unknown: &unknown,
    };
    let mismatch = T::deserialize(reader).err().map(|error| Mismatch {
        message: error.message,
        span: error.place.as_ref().map_or(node.span, |place| place.0),
        path: error.place.map(|place| place.1).unwrap_or_default(),
    });
    Findings {
        unknown: unknown.into_inner(),
        mismatch,
    }
}

#[derive(Debug)]
struct Error {
    message: String,
    place: Option<(Span, String)>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            message: message.to_string(),
            place: None,
        }
    }
}

impl Error {
    fn at(mut self, span: Span, path: &str) -> Self {
        if self.place.is_none() {
            self.place = Some((span, path.to_owned()));
        }
        self
    }
}

struct Reader<'de> {
    node: &'de Node,
    path: String,
    unknown: &'de RefCell<Vec<UnknownField>>,
}

impl<'de> Reader<'de> {
    fn map<V: Visitor<'de>>(self, entries: &'de [Entry], visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Fields {
            entries: entries.iter(),
            current: None,
            path: self.path,
            unknown: self.unknown,
        })
    }
}

impl<'de> de::Deserializer<'de> for Reader<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let (span, path) = (self.node.span, self.path.clone());
        match &self.node.content {
            Content::Scalar(Value::Null) => visitor.visit_unit(),
            Content::Scalar(Value::Bool(value)) => visitor.visit_bool(*value),
            Content::Scalar(Value::Number(number)) => {
                match (number.as_i64(), number.as_u64(), number.as_f64()) {
                    (Some(value), _, _) => visitor.visit_i64(value),
                    (_, Some(value), _) => visitor.visit_u64(value),
                    (_, _, value) => visitor.visit_f64(value.unwrap_or(f64::NAN)),
                }
            }
            Content::Scalar(Value::String(text)) => visitor.visit_borrowed_str(text),
            Content::Scalar(_) => visitor.visit_unit(),
            Content::Sequence(items) => visitor.visit_seq(Items {
                items: items.iter(),
                index: 0,
                path: self.path,
                unknown: self.unknown,
            }),
            Content::Mapping(entries) => self.map(entries, visitor),
        }
        .map_err(|error: Error| error.at(span, &path))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.node.content {
            Content::Scalar(Value::Null) => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        for entry in self.node.entries() {
            if !fields.is_empty() && !fields.contains(&entry.key.as_str()) {
                self.unknown.borrow_mut().push(UnknownField {
                    path: node::join(&self.path, &entry.key),
                    name: entry.key.clone(),
                    span: entry.key_span,
                    known: fields,
                });
            }
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Some(text) = self.node.as_str() else {
            return self.deserialize_any(visitor);
        };
        let variant: StrDeserializer<'_, Error> = text.into_deserializer();
        visitor
            .visit_enum(variant)
            .map_err(|error| error.at(self.node.span, &self.path))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier
    }
}

struct Fields<'de> {
    entries: std::slice::Iter<'de, Entry>,
    current: Option<&'de Entry>,
    path: String,
    unknown: &'de RefCell<Vec<UnknownField>>,
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = Error;

    /// Null fields are passed over: to Go, a null field is an absent one.
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        self.current = self
            .entries
            .find(|entry| !matches!(entry.node.content, Content::Scalar(Value::Null)));
        let Some(entry) = self.current else {
            return Ok(None);
        };
        let key: StrDeserializer<'_, Error> = entry.key.as_str().into_deserializer();
        seed.deserialize(key)
            .map(Some)
            .map_err(|error| error.at(entry.key_span, &self.path))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some(entry) = self.current.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        let path = node::join(&self.path, &entry.key);
        seed.deserialize(Reader {
            node: &entry.node,
            path: path.clone(),
            unknown: self.unknown,
        })
        .map_err(|error| error.at(entry.node.span, &path))
    }
}

struct Items<'de> {
    items: std::slice::Iter<'de, Node>,
    index: usize,
    path: String,
    unknown: &'de RefCell<Vec<UnknownField>>,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some(item) = self.items.next() else {
            return Ok(None);
        };
        let path = node::join_index(&self.path, self.index);
        self.index += 1;
        let reader = Reader {
            node: item,
            path: path.clone(),
            unknown: self.unknown,
        };
        seed.deserialize(reader)
            .map(Some)
            .map_err(|error| error.at(item.span, &path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::parse;
    use k8s_openapi::api::core::v1::Pod;

    fn findings(text: &str) -> Findings {
        let (node, problems) = parse::document(text, 0);
        assert_eq!(problems, []);
        check::<Pod>(&node.expect("a document"))
    }

    #[test]
    fn unknown_fields_are_found_at_every_depth_with_the_known_ones() {
        let text = "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: a\n    imge: b\n  volums: []\n";
        let found = findings(text).unknown;
        let paths: Vec<_> = found.iter().map(|field| field.path.as_str()).collect();
        assert_eq!(paths, ["spec.volums", "spec.containers[0].imge"]);
        assert!(found[1].known.contains(&"image"));
        assert!(text[found[1].span.start..].starts_with("imge"));
    }

    #[test]
    fn a_value_of_the_wrong_type_is_placed() {
        let text = "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: a\n    tty: maybe\n";
        let mismatch = findings(text).mismatch.expect("a mismatch");
        assert_eq!(mismatch.path, "spec.containers[0].tty");
        assert!(text[mismatch.span.start..].starts_with("maybe"));
    }

    #[test]
    fn null_fields_count_as_absent() {
        let found = findings("apiVersion: v1\nkind: Pod\nspec:\n  containers: []\n  volumes:\n");
        assert!(
            found.mismatch.is_none() && found.unknown.is_empty(),
            "{found:?}"
        );
    }
}
