//! References to tasks, pipelines and step actions (T-048, T-049).

use super::{param, scope::Scope};
use crate::{
    admission::{FieldError, FieldErrors},
    names_of_objects::qualified_name_errors,
    v1::Param,
};

pub(super) fn validate(
    name: &str,
    resolver: &str,
    params: &[Param],
    scope: Scope<'_>,
) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let concise = || {
        let on = scope.config.feature_flags.enable_concise_resolver_syntax;
        let message = "feature flag enable-concise-resolver-syntax should be set to true to use concise resolver syntax";
        FieldErrors::from((!on).then(|| FieldError::generic(message, [""])))
    };
    if !resolver.is_empty() || !params.is_empty() {
        if !params.is_empty() {
            errors.add(scope.needs_beta("resolver params").via("params"));
            if !name.is_empty() {
                errors.add(FieldError::multiple_one_of(&["name", "params"]));
            }
            if resolver.is_empty() {
                errors.add(FieldError::missing("resolver"));
            }
            errors.add(param::passed_once(params));
        }
        if !resolver.is_empty() {
            errors.add(scope.needs_beta("resolver").via("resolver"));
            if !name.is_empty() {
                if is_url(name) {
                    errors.add(concise());
                } else {
                    errors.add(FieldError::invalid_value("invalid URI for request", "name"));
                }
            }
        }
    } else if name.is_empty() {
        errors.add(FieldError::missing("name"));
    } else if is_url(name) {
        errors.add(concise());
        errors.add(FieldError::missing("resolver"));
    } else {
        let found = qualified_name_errors(name);
        if !found.is_empty() {
            errors.add(FieldError::invalid_value(found.join(","), "name"));
        }
    }
    errors
}

/// Whether a word, a colon and a slash occur in it.
fn is_url(name: &str) -> bool {
    let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_' || *b == b'-';
    name.match_indices(":/")
        .any(|(at, _)| at > 0 && word(&name.as_bytes()[at - 1]))
}
