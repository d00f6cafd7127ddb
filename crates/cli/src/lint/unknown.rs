//! Fields that a kind does not have, with the nearest one it has.

use tektite_api::v1::TaskSpec;

use super::suggest;
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

/// Adds what the check of the whole document cannot see: the inline tasks of pipelines, whose type is flattened with
/// that of custom tasks. Drops what `v1beta1` knows although `v1` does not.
pub fn complete(document: &Document, mut found: Findings) -> Findings {
    for (path, node) in embedded_tasks(document) {
        let inner = manifest::check::<TaskSpec>(&without_custom_task(node));
        let outer = |inner: &str| format!("{path}.{inner}");
        found
            .unknown
            .extend(inner.unknown.into_iter().map(|field| UnknownField {
                path: outer(&field.path),
                ..field
            }));
        if let (None, Some(mut mismatch)) = (&found.mismatch, inner.mismatch) {
            mismatch.path = outer(&mismatch.path);
            found.mismatch = Some(mismatch);
        }
    }
    let beta = document.api_version == "tekton.dev/v1beta1";
    found.unknown.retain(|field| {
        let top = ["apiVersion", "kind", "status"].contains(&field.path.as_str())
            || field.path.starts_with("status.");
        !(top || beta && known_to_v1beta1(field))
    });
    found
}

/// The diagnostic for one unknown field.
pub fn report(document: &Document, field: &UnknownField) -> Diagnostic {
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
    let message = format!("unknown field `{}`", field.path);
    let diagnostic = if differs_in_case {
        Diagnostic::warning(message)
    } else {
        Diagnostic::error(message)
    };
    diagnostic.hint(hint).at(&document.source, field.span)
}

fn known_to_v1beta1(field: &UnknownField) -> bool {
    V1BETA1_EXTRAS.iter().any(|(marker, extras)| {
        field.known.contains(marker) && extras.contains(&field.name.as_str())
    })
}

fn embedded_tasks(document: &Document) -> Vec<(String, &Node)> {
    let (path, spec) = match document.kind.as_str() {
        "Pipeline" => ("spec", document.root.get("spec")),
        "PipelineRun" => (
            "spec.pipelineSpec",
            document.root.at(&["spec", "pipelineSpec"]),
        ),
        _ => return Vec::new(),
    };
    let mut found = Vec::new();
    if let Some(spec) = spec {
        collect(path, spec, &mut found);
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
