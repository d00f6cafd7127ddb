//! Request bodies in the Kubernetes protobuf encoding, which typed Go clients send for built-in kinds.
//!
//! Answers stay JSON: every such client accepts it (K-002).

use std::collections::HashMap;

use base64::Engine as _;
use serde_json::{Map, Value};

use crate::builtin::conform::{format_micro, format_seconds};
use crate::builtin::shape::{Object, Shape, definition};

/// The media type of such bodies.
pub(crate) const MEDIA: &str = "application/vnd.kubernetes.protobuf";
/// See its first lines.
static NUMBERS: &str = include_str!("builtin/protobuf.txt");
const MAGIC: &[u8] = b"k8s\0";

/// One field of a message.
#[derive(Clone, Copy)]
enum Member {
    /// Its name, and whether a zero value says something.
    Named(&'static str, bool),
    /// A message whose members belong to the outer one.
    Inline(&'static str),
}

type Messages = HashMap<&'static str, Vec<(u32, Member)>>;

fn messages() -> Messages {
    let lines = NUMBERS.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let mut words = line.split(' ');
            let name = words.next()?;
            let fields = words.filter_map(|word| {
                let (number, field) = word.split_once(':')?;
                let member = match (field.strip_prefix('^'), field.strip_suffix('*')) {
                    (Some(message), _) => Member::Inline(message),
                    (None, Some(field)) => Member::Named(field, true),
                    (None, None) => Member::Named(field, false),
                };
                Some((number.parse().ok()?, member))
            });
            Some((name, fields.collect()))
        })
        .collect()
}

/// Decodes a body: the envelope, then the object, whose definition `find` names for its apiVersion and kind.
pub(crate) fn decode(
    body: &[u8],
    find: impl Fn(&str, &str) -> Option<String>,
) -> Result<Value, String> {
    let envelope = body
        .strip_prefix(MAGIC)
        .ok_or("the body does not start as protobuf of Kubernetes")?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in Fields(envelope) {
        match field? {
            (1, Wire::Bytes(meta)) => {
                for field in Fields(meta) {
                    match field? {
                        (1, Wire::Bytes(text)) => api_version = utf8(text)?,
                        (2, Wire::Bytes(text)) => kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let name = find(&api_version, &kind)
        .ok_or_else(|| format!("no kind \"{kind}\" is registered for version \"{api_version}\""))?;
    let object = definition(&name).ok_or_else(|| format!("{name} is unknown"))?;
    let mut map = Map::new();
    Decoder {
        messages: messages(),
    }
    .message(raw, object.name, object, &mut map, 0)?;
    map.insert("apiVersion".into(), api_version.into());
    map.insert("kind".into(), kind.into());
    Ok(Value::Object(map))
}

/// A raw value on the wire.
enum Wire<'a> {
    Number(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, in order.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn field(&mut self) -> Option<(u32, Wire<'a>)> {
        let key = self.varint()?;
        let wire = match key & 7 {
            0 => Wire::Number(self.varint()?),
            1 => Wire::Fixed(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Fixed(u64::from(u32::from_le_bytes(
                self.take(4)?.try_into().ok()?,
            ))),
            _ => return None,
        };
        Some((u32::try_from(key >> 3).ok()?, wire))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Wire<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or_else(|| "proto: unexpected EOF".to_owned()))
    }
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "proto: invalid UTF-8".to_owned())
}

const MAX_DEPTH: usize = 100;

struct Decoder {
    messages: Messages,
}

impl Decoder {
    /// Reads the members of `message` into `map`, the form of `object`.
    fn message(
        &self,
        bytes: &[u8],
        message: &str,
        object: &'static Object,
        map: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err("proto: too deep".into());
        }
        let Some(members) = self.messages.get(message) else {
            return Ok(());
        };
        for field in Fields(bytes) {
            let (number, wire) = field?;
            let Some((_, member)) = members.iter().find(|(own, _)| *own == number) else {
                continue;
            };
            match (member, &wire) {
                (Member::Inline(inner), Wire::Bytes(bytes)) => {
                    self.message(bytes, inner, object, map, depth + 1)?
                }
                (Member::Named(name, explicit), _) => {
                    let Some(field) = object.field(name) else {
                        continue;
                    };
                    self.member(
                        name,
                        *explicit || field.required,
                        field.shape,
                        &wire,
                        map,
                        depth,
                    )?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn member(
        &self,
        name: &str,
        keep_zero: bool,
        shape: Shape,
        wire: &Wire<'_>,
        map: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), String> {
        match (shape, wire) {
            (Shape::List(list), _) => {
                let item = self.value(list.items, wire, depth)?;
                let items = map.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                if let Some(items) = items.as_array_mut() {
                    items.push(item);
                }
            }
            (Shape::Map(of), Wire::Bytes(entry)) => {
                let (mut key, mut value) = (String::new(), None);
                for field in Fields(entry) {
                    match field? {
                        (1, Wire::Bytes(text)) => key = utf8(text)?,
                        (2, wire) => value = Some(self.value(of.values, &wire, depth)?),
                        _ => {}
                    }
                }
                let value = value.unwrap_or_else(|| Value::from(""));
                let members = map.entry(name).or_insert_with(|| Value::Object(Map::new()));
                if let Some(members) = members.as_object_mut() {
                    members.insert(key, value);
                }
            }
            _ => {
                let value = self.value(shape, wire, depth)?;
                let zero = match &value {
                    Value::Null => true,
                    Value::Bool(flag) => !flag && !keep_zero,
                    Value::Number(number) => number.as_f64() == Some(0.0) && !keep_zero,
                    Value::String(text) => text.is_empty() && !keep_zero,
                    Value::Object(members) => members.is_empty() && !keep_zero,
                    Value::Array(_) => false,
                };
                if !zero {
                    map.insert(name.to_owned(), value);
                }
            }
        }
        Ok(())
    }

    fn value(&self, shape: Shape, wire: &Wire<'_>, depth: usize) -> Result<Value, String> {
        Ok(match (shape, wire) {
            (Shape::String, Wire::Bytes(text)) => utf8(text)?.into(),
            (Shape::Bytes, Wire::Bytes(bytes)) => base64::engine::general_purpose::STANDARD
                .encode(bytes)
                .into(),
            (Shape::Bool, Wire::Number(number)) => (*number != 0).into(),
            (Shape::Int32 | Shape::Int64, Wire::Number(number)) => number.cast_signed().into(),
            (Shape::Number, Wire::Fixed(bits)) => f64::from_bits(*bits).into(),
            (Shape::Time | Shape::MicroTime, Wire::Bytes(bytes)) => {
                time(bytes, matches!(shape, Shape::MicroTime))?
            }
            (Shape::Quantity, Wire::Bytes(bytes)) => {
                let text = Fields(bytes).find_map(|field| match field {
                    Ok((1, Wire::Bytes(text))) => utf8(text).ok(),
                    _ => None,
                });
                text.unwrap_or_else(|| "0".into()).into()
            }
            (Shape::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes)?,
            (Shape::Object(object), Wire::Bytes(bytes)) => {
                let mut map = Map::new();
                self.message(bytes, object.name, object, &mut map, depth + 1)?;
                Value::Object(map)
            }
            // Raw JSON in field 1.
            (Shape::Any, Wire::Bytes(bytes)) => {
                let raw = Fields(bytes).find_map(|field| match field {
                    Ok((1, Wire::Bytes(raw))) => serde_json::from_slice(raw).ok(),
                    _ => None,
                });
                raw.unwrap_or(Value::Null)
            }
            _ => Value::Null,
        })
    }
}

fn time(bytes: &[u8], micro: bool) -> Result<Value, String> {
    let (mut seconds, mut nanos) = (None, 0);
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Number(number)) => seconds = Some(number.cast_signed()),
            (2, Wire::Number(number)) => nanos = i32::try_from(number).unwrap_or(0),
            _ => {}
        }
    }
    let time = seconds.and_then(|seconds| jiff::Timestamp::new(seconds, nanos).ok());
    Ok(time.map_or(Value::Null, |time| {
        if micro {
            format_micro(time)
        } else {
            format_seconds(time)
        }
        .into()
    }))
}

fn int_or_string(bytes: &[u8]) -> Result<Value, String> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Number(kind)) => is_text = kind == 1,
            (2, Wire::Number(value)) => number = value.cast_signed(),
            (3, Wire::Bytes(value)) => text = utf8(value)?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(content.len()).unwrap()];
        out.extend_from_slice(content);
        out
    }

    #[test]
    fn objects_are_read_by_field_number_with_inlined_members() {
        let selector = [field(1, &field(1, b"s")), field(2, b"key")].concat();
        let env = [
            field(1, b"E"),
            field(2, b""),
            field(3, &field(4, &selector)),
        ]
        .concat();
        let container = [field(1, b"c"), field(7, &env), vec![0x80, 0x01, 1]].concat();
        let spec = [field(2, &container), vec![4 << 3, 0]].concat();
        let meta = [
            field(1, b"p"),
            field(8, &[]),
            field(11, &[field(1, b"a"), field(2, b"b")].concat()),
        ]
        .concat();
        let pod = [field(1, &meta), field(2, &spec)].concat();
        let unknown = [
            field(1, &[field(1, b"v1"), field(2, b"Pod")].concat()),
            field(2, &pod),
        ]
        .concat();
        let body = [MAGIC, &unknown].concat();
        let find = |_: &str, _: &str| Some("io.k8s.api.core.v1.Pod".to_owned());
        let decoded = decode(&body, find).unwrap();
        let expected = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}},
            "spec": {
                // A pointer: zero was said on purpose.
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "c", "stdin": true, "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "s", "key": "key"}}}]}],
            },
        });
        assert_eq!(decoded, expected);
        for cut in 0..body.len() {
            // Whatever is missing, it is an error or a smaller object, never a panic.
            let _ = decode(&body[..cut], find);
        }
    }
}
