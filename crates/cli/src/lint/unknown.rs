//! Fields that a kind does not have, with the nearest one it has.

use super::suggest;
use crate::diagnostic::Diagnostic;
use crate::manifest::{Document, Findings, UnknownField};

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

/// Drops what is no slip: what a cluster adds, and what `v1beta1` knows although `v1` does not.
pub fn complete(document: &Document, mut found: Findings) -> Findings {
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
