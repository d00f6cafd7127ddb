//! From the text of one YAML document to [`Node`]s: anchors, merge keys and duplicate keys included.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span as Mark, StrInput, Tag};
use serde_json::Value;

use super::node::{Content, Entry, Node, Span};
use super::scalar;

/// Deeper nesting is refused: no manifest needs it, and recursion must end.
const MAX_DEPTH: usize = 200;
/// More nodes than this, aliases expanded, is an attack rather than a manifest.
const MAX_NODES: usize = 500_000;

/// Something wrong in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub span: Span,
    /// What.
    pub message: String,
    /// What to do about it.
    pub hint: String,
    /// Another place that has to do with it, and how.
    pub related: Option<(Span, &'static str)>,
}

impl Problem {
    fn new(span: Span, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            span,
            message: message.into(),
            hint: hint.into(),
            related: None,
        }
    }
}

/// Parses one document that starts at byte `base` of its file. `None` stands for an empty document. Duplicate keys are
/// reported and the later one is dropped, so that one run finds them all.
pub fn document(text: &str, base: usize) -> (Option<Node>, Vec<Problem>) {
    let mut relaxed = Cow::Borrowed(text);
    for _ in 0..MAX_RELAXED_LINES {
        let Some(at) = outdented_flow_line(&relaxed) else {
            break;
        };
        let Some(joined) = join_lines(&relaxed, at) else {
            break;
        };
        relaxed = Cow::Owned(joined);
    }
    parse(&relaxed, text, base)
}

/// How many lines of one document may be outdented within brackets.
const MAX_RELAXED_LINES: usize = 1000;

/// The character where the scanner finds a line within brackets indented less than the block around it. YAML 1.2
/// forbids that, go-yaml and so every published manifest does not care.
fn outdented_flow_line(text: &str) -> Option<usize> {
    let error = Parser::new_from_str(text).find_map(Result::err)?;
    matches!(
        error.info(),
        "invalid indentation" | "invalid indentation in flow construct"
    )
    .then(|| error.marker().index())
}

/// Joins the line of character `at` to the one before, character for character, so that places stay as they are.
fn join_lines(text: &str, at: usize) -> Option<String> {
    let mut characters: Vec<char> = text.chars().collect();
    let line_break = characters.get(..at)?.iter().rposition(|c| *c == '\n')?;
    let line = characters[..line_break]
        .iter()
        .rposition(|c| *c == '\n')
        .map_or(0, |before| before + 1);
    let comment = (line..line_break)
        .find(|i| characters[*i] == '#' && (*i == line || characters[*i - 1].is_whitespace()));
    characters[comment.unwrap_or(line_break)..=line_break].fill(' ');
    Some(characters.into_iter().collect())
}

/// Parses `text`, whose characters stand where those of `original` stand.
fn parse(text: &str, original: &str, base: usize) -> (Option<Node>, Vec<Problem>) {
    let mut builder = Builder {
        events: Parser::new_from_str(text),
        offsets: Offsets::new(original, base),
        anchors: HashMap::new(),
        problems: Vec::new(),
        nodes: 0,
    };
    match builder.root() {
        Ok(node) => (node, builder.problems),
        Err(problem) => {
            builder.problems.push(problem);
            (None, builder.problems)
        }
    }
}

/// The parser counts characters, reports count bytes.
struct Offsets {
    base: usize,
    length: usize,
    bytes: Option<Vec<usize>>,
}

impl Offsets {
    fn new(text: &str, base: usize) -> Self {
        let bytes = (!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).collect());
        Self {
            base,
            length: text.len(),
            bytes,
        }
    }

    fn byte(&self, character: usize) -> usize {
        let within = match &self.bytes {
            None => character.min(self.length),
            Some(bytes) => bytes.get(character).copied().unwrap_or(self.length),
        };
        self.base + within
    }

    fn span(&self, mark: Mark) -> Span {
        let start = self.byte(mark.start.index());
        Span {
            start,
            end: self.byte(mark.end.index()).max(start),
        }
    }
}

struct Builder<'t> {
    events: Parser<'t, StrInput<'t>>,
    offsets: Offsets,
    anchors: HashMap<usize, Node>,
    problems: Vec<Problem>,
    nodes: usize,
}

impl<'t> Builder<'t> {
    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, Problem> {
        match self.events.next_event() {
            None => Ok(None),
            Some(Ok((event, mark))) => Ok(Some((event, self.offsets.span(mark)))),
            Some(Err(error)) => {
                let at = self.offsets.byte(error.marker().index());
                let message = format!("not valid YAML: {}", error.info());
                Err(Problem::new(
                    Span { start: at, end: at },
                    message,
                    hint(error.info()),
                ))
            }
        }
    }

    fn root(&mut self) -> Result<Option<Node>, Problem> {
        let mut root = None;
        while let Some((event, span)) = self.next()? {
            match event {
                Event::StreamStart
                | Event::StreamEnd
                | Event::DocumentStart(_)
                | Event::DocumentEnd
                | Event::Nothing => {}
                event => {
                    let node = self.node(event, span, 0)?;
                    if root.is_none() {
                        root = Some(node);
                    }
                }
            }
        }
        Ok(root)
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, Problem> {
        self.nodes += 1;
        if depth > MAX_DEPTH || self.nodes > MAX_NODES {
            return Err(too_large(span));
        }
        let (content, anchor, span) = match event {
            Event::Scalar(text, style, anchor, tag) => (
                Content::Scalar(self.scalar(&text, style, tag.as_deref(), span)?),
                anchor,
                span,
            ),
            Event::SequenceStart(anchor, _) => {
                let (items, end) = self.sequence(depth)?;
                (
                    Content::Sequence(items),
                    anchor,
                    Span {
                        start: span.start,
                        end,
                    },
                )
            }
            Event::MappingStart(anchor, _) => {
                let (entries, end) = self.mapping(depth)?;
                (
                    Content::Mapping(entries),
                    anchor,
                    Span {
                        start: span.start,
                        end,
                    },
                )
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(Problem::new(
                        span,
                        "an alias inside the value it stands for",
                        "write the value out",
                    ));
                };
                self.nodes += count(node);
                if self.nodes > MAX_NODES {
                    return Err(too_large(span));
                }
                return Ok(node.clone());
            }
            _ => (Content::Scalar(Value::Null), 0, span),
        };
        let node = Node { content, span };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn scalar(
        &self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
        span: Span,
    ) -> Result<Value, Problem> {
        let value = match tag {
            Some(tag) if tag.is_yaml_core_schema() => scalar::tagged(text, &tag.suffix),
            Some(_) => Ok(Value::String(text.to_owned())),
            None if style == ScalarStyle::Plain => scalar::plain(text),
            None => Ok(Value::String(text.to_owned())),
        };
        value.map_err(|error| {
            Problem::new(
                span,
                error.to_string(),
                "quote it if it is meant to be text",
            )
        })
    }

    fn sequence(&mut self, depth: usize) -> Result<(Vec<Node>, usize), Problem> {
        let mut items = Vec::new();
        let mut end = 0;
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::SequenceEnd) {
                end = end.max(span.start);
                break;
            }
            let node = self.node(event, span, depth + 1)?;
            end = node.span.end;
            items.push(node);
        }
        Ok((items, end))
    }

    fn mapping(&mut self, depth: usize) -> Result<(Vec<Entry>, usize), Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen: HashMap<String, Span> = HashMap::new();
        let mut merged = Vec::new();
        let mut end = 0;
        while let Some((event, key_span)) = self.next()? {
            if matches!(event, Event::MappingEnd) {
                end = end.max(key_span.start);
                break;
            }
            let merge =
                matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = self.key(event, key_span, depth)?;
            let Some((event, span)) = self.next()? else {
                break;
            };
            let node = self.node(event, span, depth + 1)?;
            end = node.span.end;
            if merge {
                merged.push(node);
            } else if let Some(first) = seen.get(&key) {
                self.problems.push(Problem {
                    related: Some((*first, "it stands here already")),
                    ..Problem::new(
                        key_span,
                        format!("duplicate key `{key}`"),
                        "keep one of the two",
                    )
                });
            } else {
                seen.insert(key.clone(), key_span);
                entries.push(Entry {
                    key,
                    key_span,
                    node,
                });
            }
        }
        for source in merged {
            merge_into(&mut entries, &source);
        }
        Ok((entries, end))
    }

    fn key(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<String, Problem> {
        let node = self.node(event, span, depth + 1)?;
        match node.content {
            Content::Scalar(Value::String(text)) => Ok(text),
            Content::Scalar(Value::Bool(value)) => Ok(value.to_string()),
            Content::Scalar(Value::Number(number)) => Ok(number.to_string()),
            Content::Scalar(_) => Ok("null".to_owned()),
            Content::Sequence(_) | Content::Mapping(_) => Err(Problem::new(
                span,
                "a key must be a string",
                "if this is a template expression such as {{ x }}, quote it",
            )),
        }
    }
}

fn too_large(at: Span) -> Problem {
    let hint = format!("a document may nest {MAX_DEPTH} levels and hold {MAX_NODES} values");
    Problem::new(
        Span {
            start: at.start,
            end: at.start,
        },
        "nested too deeply or too large",
        hint,
    )
}

fn count(node: &Node) -> usize {
    1 + node.items().iter().map(count).sum::<usize>()
        + node.entries().iter().map(|e| count(&e.node)).sum::<usize>()
}

/// `<<: *base` gives the keys that the mapping does not set itself.
fn merge_into(entries: &mut Vec<Entry>, source: &Node) {
    for item in source.items() {
        merge_into(entries, item);
    }
    for entry in source.entries() {
        if entries.iter().all(|existing| existing.key != entry.key) {
            entries.push(entry.clone());
        }
    }
}

/// What usually causes each of the scanner's complaints.
fn hint(info: &str) -> &'static str {
    if info.contains("tab") {
        "YAML is indented with spaces, never with tabs"
    } else if info.contains("mapping values are not allowed")
        || info.contains("illegal placement of ':'")
    {
        "a colon followed by a space starts a mapping: quote the text if it contains one, or check the indentation"
    } else if info.contains("block mapping")
        || info.contains("simple key")
        || info.contains("block collection")
    {
        "check the indentation of this line and the one before: keys of one object start in one column"
    } else if info.contains("quoted scalar") {
        "check that the quote is closed, and that backslashes are doubled inside double quotes"
    } else if info.contains("flow") || info.contains("bracket") {
        "check that every { and [ is closed, and quote template expressions"
    } else if info.contains("anchor") {
        "an alias (*name) needs its anchor (&name) before it in the same document; quote text that starts with * or &"
    } else if info.contains("plain scalar")
        || info.contains("expected node content")
        || info.contains("next token")
    {
        "quote text that starts with a special character such as % @ ` { [ or &"
    } else {
        "check the indentation and quoting around this place"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn value(text: &str) -> Value {
        let (node, problems) = document(text, 0);
        assert_eq!(problems, [], "{text}");
        node.map_or(Value::Null, |node| node.to_json())
    }

    #[test]
    fn documents_become_the_json_that_kubectl_would_send() {
        let cases = [
            (
                "a: yes\nb: 'yes'\nc: |\n  yes\n",
                json!({"a": true, "b": "yes", "c": "yes\n"}),
            ),
            ("a: [1, 0x10, x]\n", json!({"a": [1, 16, "x"]})),
            ("on: push\n1: x\n", json!({"true": "push", "1": "x"})),
            (
                "base: &b {x: 1, z: 2}\nc:\n  <<: *b\n  z: 3\n",
                json!({"base": {"x": 1, "z": 2}, "c": {"z": 3, "x": 1}}),
            ),
            ("", Value::Null),
            ("# only a comment\n", Value::Null),
            ("a:\n", json!({"a": null})),
            ("a: !!str 12\n", json!({"a": "12"})),
            // Outdented within brackets: YAML 1.2 forbids it, kubectl reads it.
            (
                "a:\n  b: [\n    x, # one\n    z,\n  ]\nc: 1\n",
                json!({"a": {"b": ["x", "z"]}, "c": 1}),
            ),
            (
                "a:\n  b: [\nx, 'y'\n]\nc: {\nd: 1\n}\n",
                json!({"a": {"b": ["x", "y"]}, "c": {"d": 1}}),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn every_duplicate_key_is_reported_at_its_place() {
        let (_, problems) = document("a: 1\nb: 2\na: 3\nb: 4\n", 100);
        let places: Vec<_> = problems.iter().map(|p| p.span.start).collect();
        assert_eq!(places, [110, 115]);
    }

    #[test]
    fn places_count_bytes_also_after_other_alphabets() {
        let (node, _) = document("ключ: значение\nb: x\n", 0);
        let node = node.expect("a document");
        let span = node.entry("b").expect("b").key_span;
        assert_eq!(span.start, "ключ: значение\n".len());
    }

    #[test]
    fn deep_nesting_and_alias_bombs_are_refused() {
        let deep = "[".repeat(5000);
        assert!(!document(&deep, 0).1.is_empty());
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..10 {
            let items = vec![format!("*a{}", level - 1); 10].join(",");
            bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
        }
        let (node, problems) = document(&bomb, 0);
        assert!(node.is_none() && problems.len() == 1, "{problems:?}");
    }

    #[test]
    fn field_paths_lead_to_places() {
        let text = "metadata:\n  labels:\n    a.b/c: x\nspec:\n  tasks:\n  - name: one\n    params:\n    - name: p\n";
        let (node, _) = document(text, 0);
        let node = node.expect("a document");
        let cases = [
            ("spec.tasks[0].name", "name: one", ""),
            ("metadata.labels.a.b/c", "a.b/c", ""),
            ("spec.tasks[0].params[p]", "name: p", ""),
            ("spec.tasks[0].taskRef.name", "name: one", "taskRef.name"),
            ("status", "metadata", "status"),
            ("spec.tasks[7].name", "tasks:", "[7].name"),
        ];
        for (path, at, missing) in cases {
            let located = node.locate(path);
            assert!(
                text[located.span.start..].starts_with(at),
                "{path}: {}",
                &text[located.span.start..]
            );
            assert_eq!(located.missing, missing, "{path}");
        }
    }
}
