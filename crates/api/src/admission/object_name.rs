//! The API server's own check of an object's name, which comes between the two webhooks (T-023).

use serde_json::Value;

use super::{FieldError, Refusal, Request};
use crate::names_of_objects::subdomain_errors;

/// Makes up a name for an object that wants one, as the API server does before it asks the webhooks.
pub(super) fn generate(object: &mut Value) {
    let text = |field: &str| {
        object["metadata"][field]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let (name, prefix) = (text("name"), text("generateName"));
    if name.is_empty() && !prefix.is_empty() {
        // The random part must fit into 63 bytes with the rest.
        let end = (0..=prefix.len().min(58))
            .rfind(|at| prefix.is_char_boundary(*at))
            .unwrap_or_default();
        object["metadata"]["name"] = format!("{}xxxxx", &prefix[..end]).into();
    }
}

/// Checks `metadata.name` and `metadata.generateName`.
pub(super) fn check(object: &Value, request: &Request<'_>) -> Result<(), Refusal> {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    let (name, generate) = (text("name"), text("generateName"));
    let mut found: Vec<(String, &str)> = Vec::new();
    if !generate.is_empty() {
        // A generated name may end where its random part begins.
        let probe = generate
            .strip_suffix('-')
            .map_or(generate.to_owned(), |g| format!("{g}a"));
        let shown = |message: &str| {
            format!("metadata.generateName: Invalid value: {generate:?}: {message}")
        };
        found.extend(
            subdomain_errors(&probe)
                .into_iter()
                .map(|m| (shown(&m), "metadata.generateName")),
        );
    }
    if name.is_empty() {
        found.push((
            "metadata.name: Required value: name or generateName is required".to_owned(),
            "metadata.name",
        ));
    } else {
        let shown = |message: &str| format!("metadata.name: Invalid value: {name:?}: {message}");
        found.extend(
            subdomain_errors(name)
                .into_iter()
                .map(|m| (shown(&m), "metadata.name")),
        );
    }
    if found.is_empty() {
        return Ok(());
    }
    let texts: Vec<_> = found.iter().map(|(text, _)| text.as_str()).collect();
    let all = if texts.len() == 1 {
        texts[0].to_owned()
    } else {
        format!("[{}]", texts.join(", "))
    };
    let errors = found
        .iter()
        .map(|(text, path)| FieldError::generic(text.clone(), [*path]))
        .collect();
    Err(Refusal {
        code: 422,
        message: format!(
            "{}.{} {name:?} is invalid: {all}",
            request.kind, request.group
        ),
        errors,
    })
}
