//! Each document for itself: fields its kind does not have, values that do not fit, and what Tekton's admission says.

use tektite_api::admission::{self, FieldError, Refusal};
use tektite_api::config::Config;

use super::{kinds, unknown};
use crate::diagnostic::Diagnostic;
use crate::manifest::{Document, Findings, Node, Span};

/// What is wrong with one document.
pub fn check(document: &Document, config: &Config) -> Vec<Diagnostic> {
    let Some(kind) = kinds::find(document) else {
        return Vec::new();
    };
    let found = kind
        .check
        .map(|read| read(&document.root))
        .unwrap_or_default();
    let found = unknown::complete(document, found);
    let mut diagnostics: Vec<Diagnostic> = found
        .unknown
        .iter()
        .map(|field| unknown::report(document, field))
        .collect();
    if kinds::is_tekton(document) {
        diagnostics.extend(admitted(document, &found, config));
    } else if let Some(mismatch) = &found.mismatch {
        let message = match mismatch.path.as_str() {
            "" => mismatch.message.clone(),
            path => format!("{path}: {}", mismatch.message),
        };
        let hint =
            "check the value's type: text that looks like a number or a boolean needs quotes";
        diagnostics.push(
            Diagnostic::error(message)
                .hint(hint)
                .at(&document.source, mismatch.span),
        );
    }
    diagnostics
}

/// What Tekton's admission says.
fn admitted(document: &Document, found: &Findings, config: &Config) -> Vec<Diagnostic> {
    match admission::admit(&document.to_json(), config) {
        Ok((_, warnings)) => {
            let at = document.root.locate("metadata.name").span;
            let warn = |warning: &admission::Warning| {
                Diagnostic::warning(warning.0.clone()).at(&document.source, at)
            };
            warnings.iter().map(warn).collect()
        }
        Err(refusal) => refused(document, &refusal, found),
    }
}

/// One diagnostic for each finding of admission, or one for the refusal as a whole.
fn refused(document: &Document, refusal: &Refusal, found: &Findings) -> Vec<Diagnostic> {
    if !refusal.errors.is_empty() {
        return refusal
            .errors
            .iter()
            .map(|error| finding(document, error))
            .collect();
    }
    let hint = "this is what Tekton's admission answers; check the value's type";
    if let Some(name) = refusal
        .message
        .split("unknown field \"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
    {
        // Decoding stops at the first unknown field; ours are all there already, each at its place.
        if found.unknown.iter().any(|field| field.name == name) {
            return Vec::new();
        }
        let span = find_key(&document.root, name).unwrap_or(document.root.span);
        return vec![
            Diagnostic::error(format!("unknown field `{name}`"))
                .hint("remove it")
                .at(&document.source, span),
        ];
    }
    let diagnostic = match &found.mismatch {
        // Decoding failed: serde knows the place, the refusal has Tekton's words.
        Some(mismatch) => {
            Diagnostic::error(refusal.message.clone()).at(&document.source, mismatch.span)
        }
        None => document.error_at(path_in(&refusal.message), refusal.message.clone()),
    };
    vec![diagnostic.hint(hint)]
}

fn finding(document: &Document, error: &FieldError) -> Diagnostic {
    let path = error.paths.first().map(String::as_str).unwrap_or_default();
    let message = match error.paths.as_slice() {
        [] => error.message.clone(),
        paths => format!("{}: {}", error.message, paths.join(", ")),
    };
    let hint = match (error.message.as_str(), error.details.as_str()) {
        (_, details) if !details.is_empty() => details,
        ("missing field(s)", _) => "add the field",
        ("must not set the field(s)", _) => "remove the field",
        (text, _) if text.starts_with("expected exactly one, got neither") => {
            "set one of these fields"
        }
        (text, _) if text.starts_with("expected exactly one, got both") => {
            "remove all but one of these fields"
        }
        _ => "this is what Tekton's admission answers",
    };
    document.error_at(path, message).hint(hint)
}

/// The first field path that a message names.
fn path_in(message: &str) -> &str {
    let words = message.split([' ', ',', ';', '"']);
    words
        .map(|word| word.trim_end_matches([':', '.']))
        .find(|word| word.starts_with("spec.") || word.starts_with("metadata."))
        .unwrap_or("metadata.name")
}

/// The first place where a key of this name stands.
fn find_key(node: &Node, name: &str) -> Option<Span> {
    let own = node
        .entries()
        .iter()
        .find(|entry| entry.key == name)
        .map(|entry| entry.key_span);
    own.or_else(|| {
        node.entries()
            .iter()
            .find_map(|entry| find_key(&entry.node, name))
    })
    .or_else(|| node.items().iter().find_map(|item| find_key(item, name)))
}

/// The configuration that the installation's ConfigMaps among the documents make; data that does not parse is reported.
pub fn configuration(documents: &[Document], diagnostics: &mut Vec<Diagnostic>) -> Config {
    let mut config = Config::default();
    let ours = |document: &&Document| {
        document.kind == "ConfigMap" && document.namespace() == tektite_api::names::NAMESPACE
    };
    for document in documents.iter().filter(ours) {
        let entries = document
            .root
            .get("data")
            .map(Node::entries)
            .unwrap_or_default();
        let pairs = entries
            .iter()
            .filter_map(|entry| Some((entry.key.clone(), entry.node.as_str()?.to_owned())));
        if let Err(error) = config.update(document.name(), &pairs.collect()) {
            let diagnostic = document.error_at("data", error.to_string());
            diagnostics.push(diagnostic.hint("Tekton would refuse this configuration"));
        }
    }
    config
}
