//! A YAML document as JSON values that remember where in the file they stand.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// A range of bytes in a source file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte; never before `start`.
    pub end: usize,
}

/// A value and its place.
#[derive(Debug, Clone)]
pub struct Node {
    /// What stands there.
    pub content: Content,
    /// Where it stands.
    pub span: Span,
}

/// The shapes JSON knows.
#[derive(Debug, Clone)]
pub enum Content {
    /// Null, a boolean, a number or a string.
    Scalar(Value),
    /// A list.
    Sequence(Vec<Node>),
    /// An object, in the order written.
    Mapping(Vec<Entry>),
}

/// One key of a mapping.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key as JSON sees it.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// What it holds.
    pub node: Node,
}

impl Node {
    /// The value without positions.
    pub fn to_json(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::Sequence(items) => Value::Array(items.iter().map(Node::to_json).collect()),
            Content::Mapping(entries) => Value::Object(
                entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.node.to_json()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }

    /// The value under `key`, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// The entry of `key`, if this is a mapping that has it.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.content {
            Content::Mapping(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The string this node is, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// The items, if this is a list; nothing otherwise.
    pub fn items(&self) -> &[Node] {
        match &self.content {
            Content::Sequence(items) => items,
            _ => &[],
        }
    }

    /// The entries, if this is an object; nothing otherwise.
    pub fn entries(&self) -> &[Entry] {
        match &self.content {
            Content::Mapping(entries) => entries,
            _ => &[],
        }
    }

    /// The node at a path of keys; `None` if a step is missing.
    pub fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// Where a field path such as `spec.tasks[0].params[name].value` points to: the place of its last step, or of the
    /// nearest ancestor that exists, with the part that does not exist.
    pub fn locate<'p>(&self, path: &'p str) -> Located<'p> {
        let mut node = self;
        let mut span = first_key(self).unwrap_or(self.span);
        let mut rest = path;
        while !rest.is_empty() {
            let Some((next, place, remaining)) = step(node, rest) else {
                break;
            };
            node = next;
            span = place;
            rest = remaining;
        }
        Located {
            span,
            missing: rest,
        }
    }
}

/// The answer of [`Node::locate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located<'p> {
    /// The place of the deepest step that exists.
    pub span: Span,
    /// The steps that do not exist; empty if the whole path does.
    pub missing: &'p str,
}

fn first_key(node: &Node) -> Option<Span> {
    node.entries().first().map(|entry| entry.key_span)
}

/// One step along a field path: the node, the place to point at, the rest of the path.
fn step<'n, 'p>(node: &'n Node, path: &'p str) -> Option<(&'n Node, Span, &'p str)> {
    if let Some(inside) = path.strip_prefix('[') {
        let close = inside.find(']')?;
        let (key, rest) = (
            &inside[..close],
            inside[close + 1..].trim_start_matches('.'),
        );
        return match &node.content {
            Content::Sequence(items) => {
                let item = match key.parse::<usize>() {
                    Ok(index) => items.get(index)?,
                    Err(_) => items
                        .iter()
                        .find(|item| item.get("name").and_then(Node::as_str) == Some(key))?,
                };
                Some((item, first_key(item).unwrap_or(item.span), rest))
            }
            Content::Mapping(_) => node
                .entry(key)
                .map(|entry| (&entry.node, entry.key_span, rest)),
            Content::Scalar(_) => None,
        };
    }
    // Keys may contain dots (labels, data of ConfigMaps): the longest key that matches wins.
    let entry = node
        .entries()
        .iter()
        .filter(|entry| {
            path.strip_prefix(entry.key.as_str()).is_some_and(|rest| {
                rest.is_empty() || rest.starts_with('.') || rest.starts_with('[')
            })
        })
        .max_by_key(|entry| entry.key.len())?;
    Some((
        &entry.node,
        entry.key_span,
        path[entry.key.len()..].trim_start_matches('.'),
    ))
}

/// Appends `.key` or `[index]` to a field path.
pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// Appends `[index]` to a field path.
pub fn join_index(path: &str, index: usize) -> String {
    let mut joined = path.to_owned();
    let _ = write!(joined, "[{index}]");
    joined
}
