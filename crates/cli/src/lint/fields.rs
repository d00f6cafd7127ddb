//! Fields that a kind does not have, and values that do not fit.

use tektite_api::v1::TaskSpec;

use super::{kinds, suggest};
use crate::diagnostic::Diagnostic;
use crate::manifest::{self, Content, Document, Findings, Node, UnknownField, join_index};

/// What `v1beta1` knows beyond `v1`: a field that marks the object, and the fields it has in addition.
const V1BETA1_EXTRAS: &[(&str, &[&str])] = &[
    (
        "pipelineRef",
        &[
            "serviceAccountName",
            "podTemplate",
            "timeout",
            "resources",
            "bundle",
            "conditions",
        ],
    ),
    (
        "taskRef",
        &[
            "resources",
            "conditions",
            "stepOverrides",
            "sidecarOverrides",
            "bundle",
            "serviceAccountName",
        ],
    ),
    ("steps", &["resources"]),
    (
        "computeResources",
        &[
            "resources",
            "taskServiceAccountName",
            "taskPodTemplate",
            "stepOverrides",
            "sidecarOverrides",
        ],
    ),
    (
        "imagePullPolicy",
        &[
            "resources",
            "ports",
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
            "lifecycle",
            "terminationMessagePath",
            "terminationMessagePolicy",
            "stdin",
            "stdinOnce",
            "tty",
        ],
    ),
    ("tasks", &["resources"]),
    ("resolver", &["bundle"]),
    (
        "pipelineTaskName",
        &[
            "taskServiceAccountName",
            "taskPodTemplate",
            "stepOverrides",
            "sidecarOverrides",
        ],
    ),
];

/// Unknown fields and misfits of one document; `lenient` makes unknown fields warnings, as Tekton prunes them.
pub fn check(document: &Document, lenient: bool) -> Vec<Diagnostic> {
    let Some(kind) = kinds::find(document) else {
        return Vec::new();
    };
    let Some(read) = kind.check else {
        return Vec::new();
    };
    let mut found = read(&document.root);
    for (path, node) in embedded_tasks(document) {
        let inner = manifest::check::<TaskSpec>(&without_custom_task(node));
        found
            .unknown
            .extend(inner.unknown.into_iter().map(|field| UnknownField {
                path: format!("{path}.{}", field.path),
                ..field
            }));
        if found.mismatch.is_none() {
            found.mismatch = inner.mismatch.map(|mut mismatch| {
                mismatch.path = format!("{path}.{}", mismatch.path);
                mismatch
            });
        }
    }
    report(document, found, lenient)
}

fn report(document: &Document, found: Findings, lenient: bool) -> Vec<Diagnostic> {
    let beta = document.api_version == "tekton.dev/v1beta1";
    let mut diagnostics: Vec<Diagnostic> = found
        .unknown
        .iter()
        .filter(|field| !["apiVersion", "kind", "status"].contains(&field.path.as_str()))
        .filter(|field| !field.path.starts_with("status."))
        .filter(|field| !(beta && known_to_v1beta1(field)))
        .map(|field| {
            let message = format!("unknown field `{}`", field.path);
            let hint = if field.name == "resources" && field.known.contains(&"computeResources") {
                "in tekton.dev/v1 this is `computeResources`".to_owned()
            } else {
                suggest::did_you_mean(&field.name, "fields here", field.known.iter().copied())
            };
            // Go reads field names without regard to case, so this one works; it is still a slip.
            let differs_in_case = field
                .known
                .iter()
                .any(|known| known.eq_ignore_ascii_case(&field.name));
            let tolerated = lenient || differs_in_case;
            let diagnostic = if tolerated {
                Diagnostic::warning(message)
            } else {
                Diagnostic::error(message)
            };
            diagnostic.hint(hint).at(&document.source, field.span)
        })
        .collect();
    if let Some(mismatch) = found.mismatch {
        let message = match mismatch.path.as_str() {
            "" => mismatch.message,
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

fn known_to_v1beta1(field: &UnknownField) -> bool {
    V1BETA1_EXTRAS.iter().any(|(marker, extras)| {
        field.known.contains(marker) && extras.contains(&field.name.as_str())
    })
}

/// The inline tasks of pipelines: their type is flattened with that of custom tasks, which hides its fields from the
/// check of the whole.
fn embedded_tasks(document: &Document) -> Vec<(String, &Node)> {
    let spec = match document.kind.as_str() {
        "Pipeline" => ("spec".to_owned(), document.root.get("spec")),
        "PipelineRun" => (
            "spec.pipelineSpec".to_owned(),
            document.root.at(&["spec", "pipelineSpec"]),
        ),
        _ => return Vec::new(),
    };
    let mut found = Vec::new();
    if let (path, Some(spec)) = spec {
        collect(&path, spec, &mut found);
    }
    found
}

fn collect<'n>(path: &str, spec: &'n Node, found: &mut Vec<(String, &'n Node)>) {
    for list in ["tasks", "finally"] {
        for (index, task) in spec
            .get(list)
            .map(Node::items)
            .unwrap_or_default()
            .iter()
            .enumerate()
        {
            let path = join_index(&format!("{path}.{list}"), index);
            if let Some(inline) = task.get("taskSpec") {
                found.push((format!("{path}.taskSpec"), inline));
            }
            if let Some(inner) = task.get("pipelineSpec") {
                collect(&format!("{path}.pipelineSpec"), inner, found);
            }
        }
    }
}

fn without_custom_task(node: &Node) -> Node {
    let custom = ["apiVersion", "kind", "spec", "metadata"];
    let entries = node
        .entries()
        .iter()
        .filter(|entry| !custom.contains(&entry.key.as_str()))
        .cloned()
        .collect();
    match &node.content {
        Content::Mapping(_) => Node {
            content: Content::Mapping(entries),
            span: node.span,
        },
        _ => node.clone(),
    }
}
