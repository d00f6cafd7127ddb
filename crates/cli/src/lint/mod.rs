//! Everything that can be said about manifests without a cluster.

mod annotations;
mod fields;
mod graph;
mod index;
pub mod kinds;
mod references;
pub mod suggest;
mod unknown;

pub use references::{Strictness, named};

use crate::diagnostic::{Diagnostic, Severity};
use crate::manifest::Document;

/// Checks documents, each for itself and against the others.
pub fn check(documents: &[Document], strictness: Strictness) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    let index = index::Index::new(documents, &mut diagnostics);
    let config = fields::configuration(documents, &mut diagnostics);
    let graphs = references::check(documents, &index, strictness);
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
            diagnostics.extend(annotations::check(document));
            let found = fields::check(document, &config);
            diagnostics.extend(
                found
                    .into_iter()
                    .filter(|diagnostic| !says_again(diagnostic, &graphs)),
            );
        } else if kinds::group_is_known(document)
            || !strictness.external && !defines_kind(documents, document)
        {
            diagnostics.push(kinds::unknown(document));
        }
    }
    diagnostics.extend(graphs);
    diagnostics
}

/// Whether a finding of admission about the order of tasks is among ours, which name the place exactly.
fn says_again(diagnostic: &Diagnostic, graphs: &[Diagnostic]) -> bool {
    let of_graph =
        |text: &str| text.contains("cycle detected") || text.contains("couldn't add link between");
    let text = format!(
        "{} {}",
        diagnostic.message,
        diagnostic.hint.as_deref().unwrap_or_default()
    );
    let same_file = |other: &&Diagnostic| match (&diagnostic.place, &other.place) {
        (Some(a), Some(b)) => a.source.name == b.source.name,
        _ => false,
    };
    of_graph(&text) && graphs.iter().any(|other| same_file(&other))
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
