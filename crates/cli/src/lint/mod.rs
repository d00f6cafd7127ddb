//! Everything that can be said about manifests without a cluster.

mod fields;
mod graph;
mod index;
pub mod kinds;
mod references;
pub mod suggest;

pub use references::{Strictness, named};

use crate::diagnostic::{Diagnostic, Severity};
use crate::manifest::Document;

/// Checks documents, each for itself and against the others.
pub fn check(documents: &[Document], strictness: Strictness) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    let index = index::Index::new(documents, &mut diagnostics);
    for document in documents {
        if document.name().is_empty() && document.generate_name().is_empty() {
            let hint = "add `metadata.name`, or `metadata.generateName` for runs";
            diagnostics.push(
                document
                    .error_at("metadata.name", format!("{} without a name", document.kind))
                    .hint(hint),
            );
        }
        if kinds::find(document).is_some() {
            diagnostics.extend(fields::check(document, strictness.lenient));
        } else if kinds::group_is_known(document)
            || !strictness.external && !defines_kind(documents, document)
        {
            diagnostics.push(kinds::unknown(document));
        }
    }
    diagnostics.extend(references::check(documents, &index, strictness));
    diagnostics
}

/// Whether one of the diagnostics forbids going on.
pub fn refused(diagnostics: &[Diagnostic]) -> bool {
    diagnostics
        .iter()
        .any(|diagnostic| diagnostic.severity == Severity::Error)
}

/// Whether a CustomResourceDefinition among the documents brings the document's kind.
fn defines_kind(documents: &[Document], document: &Document) -> bool {
    documents
        .iter()
        .filter(|crd| crd.kind == "CustomResourceDefinition")
        .any(|crd| {
            let text = |path: &[&str]| {
                crd.root
                    .at(path)
                    .and_then(|node| node.as_str())
                    .unwrap_or_default()
                    .to_owned()
            };
            text(&["spec", "group"]) == document.group()
                && text(&["spec", "names", "kind"]) == document.kind
        })
}
