//! What the documents define, by kind and name, with the fixed prefix of names that are generated.

use std::collections::HashMap;

use crate::diagnostic::Diagnostic;
use crate::manifest::{Document, Node};

/// Finds documents by what they define.
pub struct Index<'d> {
    documents: &'d [Document],
    by_name: HashMap<(&'d str, &'d str, &'d str), &'d Document>,
}

impl<'d> Index<'d> {
    /// Indexes documents; two of one kind and name are reported, the first counts.
    pub fn new(documents: &'d [Document], diagnostics: &mut Vec<Diagnostic>) -> Self {
        let mut by_name: HashMap<_, &'d Document> = HashMap::new();
        for document in documents
            .iter()
            .filter(|document| !document.name().is_empty())
        {
            let key = (
                document.kind.as_str(),
                document.namespace(),
                document.name(),
            );
            match by_name.get(&key) {
                Some(first) if first.group() == document.group() => {
                    diagnostics.push(duplicate(first, document))
                }
                Some(_) => {}
                None => {
                    by_name.insert(key, document);
                }
            }
        }
        Self { documents, by_name }
    }

    /// The Tekton object of this kind and name, as seen from `from`'s namespace.
    pub fn find(&self, kind: &str, name: &str, from: &Document) -> Option<&'d Document> {
        self.by_name
            .get(&(kind, from.namespace(), name))
            .copied()
            .filter(|found| found.is_tekton(kind))
    }

    /// The names of all Tekton objects of this kind.
    pub fn names(&self, kind: &str) -> Vec<&'d str> {
        self.documents
            .iter()
            .filter(|d| d.is_tekton(kind))
            .map(Document::name)
            .filter(|n| !n.is_empty())
            .collect()
    }
}

fn duplicate(first: &Document, second: &Document) -> Diagnostic {
    let span = |document: &Document| {
        document
            .root
            .at(&["metadata", "name"])
            .map_or(document.root.span, |node: &Node| node.span)
    };
    let diagnostic = Diagnostic::error(format!(
        "{} `{}` is defined twice",
        second.kind,
        second.name()
    ))
    .at(&second.source, span(second));
    if first.source.name == second.source.name {
        return diagnostic
            .related(span(first), "first defined here")
            .hint("rename or remove one of them");
    }
    let (line, column) = first.source.position(span(first).start);
    diagnostic.hint(format!(
        "it is first defined at {}:{line}:{column}; rename or remove one of them",
        first.source.name
    ))
}
