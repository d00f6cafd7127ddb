//! Manifests: the Kubernetes objects that files, directories and standard input hold, with their places.

mod node;
mod parse;
mod scalar;
mod shape;
mod sources;

use std::sync::Arc;

use serde_json::Value;

pub use node::{Content, Entry, Node, Span};
pub use shape::{Findings, UnknownField, check};
pub use sources::load;

use crate::diagnostic::{Diagnostic, Source};

/// One object of a manifest.
#[derive(Debug, Clone)]
pub struct Document {
    /// The file it stands in.
    pub source: Arc<Source>,
    /// The whole object.
    pub root: Node,
    /// `apiVersion`.
    pub api_version: String,
    /// `kind`.
    pub kind: String,
}

impl Document {
    /// `metadata.name`, empty if there is none.
    pub fn name(&self) -> &str {
        self.root
            .at(&["metadata", "name"])
            .and_then(Node::as_str)
            .unwrap_or_default()
    }

    /// `metadata.generateName`, empty if there is none.
    pub fn generate_name(&self) -> &str {
        self.root
            .at(&["metadata", "generateName"])
            .and_then(Node::as_str)
            .unwrap_or_default()
    }

    /// `metadata.namespace`, empty if there is none.
    pub fn namespace(&self) -> &str {
        self.root
            .at(&["metadata", "namespace"])
            .and_then(Node::as_str)
            .unwrap_or_default()
    }

    /// The part of `apiVersion` before the slash; empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version
            .split_once('/')
            .map_or("", |(group, _)| group)
    }

    /// Whether this is a kind of group `tekton.dev`.
    pub fn is_tekton(&self, kind: &str) -> bool {
        self.group() == "tekton.dev" && self.kind == kind
    }

    /// The object as JSON.
    pub fn to_json(&self) -> Value {
        self.root.to_json()
    }

    /// An error at a field path of this document.
    pub fn error_at(&self, path: &str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(message).at(&self.source, self.root.locate(path).span)
    }

    /// `Kind "name"`, as messages call it.
    pub fn title(&self) -> String {
        match (self.name(), self.generate_name()) {
            ("", "") => self.kind.clone(),
            ("", prefix) => format!("{} {prefix}…", self.kind),
            (name, _) => format!("{} {name}", self.kind),
        }
    }
}

/// One value in YAML flow notation, such as `[a, b]`.
pub fn parse_value(text: &str) -> Result<Value, String> {
    Ok(parse_node(text)?.map_or(Value::Null, |node| node.to_json()))
}

/// The first document of a text, with places in it; `None` if there is none.
pub fn parse_node(text: &str) -> Result<Option<Node>, String> {
    let (node, problems) = parse::document(text, 0);
    match problems.first() {
        Some(problem) => Err(problem.message.clone()),
        None => Ok(node),
    }
}

/// The documents of a text, for tests.
#[cfg(test)]
pub fn load_text(text: &str) -> Vec<Document> {
    let mut loaded = sources::Loaded::default();
    loaded.text("test.yaml".to_owned(), text.as_bytes().to_vec());
    assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
    loaded.documents
}
