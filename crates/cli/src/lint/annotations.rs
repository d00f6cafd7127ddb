//! Annotations of ours that we do not know: what they ask for would silently not happen.

use tektite_engine::annotations::{ALL, PREFIX};

use super::suggest;
use crate::diagnostic::Diagnostic;
use crate::manifest::{Document, Entry, Node};

/// A warning for each, wherever in the document it stands.
pub fn check(document: &Document) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    collect(&document.root, &mut found);
    found
        .into_iter()
        .map(|entry| {
            let known = ALL.into_iter();
            let hint = suggest::did_you_mean(&entry.key, "annotations of Tektite", known);
            Diagnostic::warning(format!("unknown annotation `{}`", entry.key))
                .hint(hint)
                .at(&document.source, entry.key_span)
        })
        .collect()
}

fn collect<'n>(node: &'n Node, found: &mut Vec<&'n Entry>) {
    for entry in node.entries() {
        if entry.key == "annotations" {
            let ours = |it: &&Entry| it.key.starts_with(PREFIX) && !ALL.contains(&it.key.as_str());
            found.extend(entry.node.entries().iter().filter(ours));
        } else {
            collect(&entry.node, found);
        }
    }
    for item in node.items() {
        collect(item, found);
    }
}
