//! What validation depends on beside the object: the configuration and the version it came in.

use crate::{
    admission::{FieldError, FieldErrors},
    config::Config,
};

/// How strictly, and in which version's words, to validate.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub config: &'a Config,
    /// Whether the object came as v1beta1, which words some findings differently.
    pub beta: bool,
}

impl Scope<'_> {
    /// The finding that `feature` needs beta or alpha, unless it is on (T-022).
    pub(super) fn needs_beta(self, feature: &str) -> FieldErrors {
        match self.config.feature_flags.enable_api_fields.as_str() {
            "beta" | "alpha" => FieldErrors::new(),
            current => gate(feature, "\"alpha\" or \"beta\"", current),
        }
    }

    /// The finding that `feature` needs alpha, unless it is on (T-022).
    pub(super) fn needs_alpha(self, feature: &str) -> FieldErrors {
        match self.config.feature_flags.enable_api_fields.as_str() {
            "alpha" => FieldErrors::new(),
            current => gate(feature, "\"alpha\"", current),
        }
    }

    /// The finding that specs of `kind` may not be given inline, if so (T-064).
    pub(super) fn inline_disabled(self, kind: &str, field: &str) -> FieldErrors {
        let disabled = self
            .config
            .feature_flags
            .disable_inline_spec
            .split(',')
            .any(|k| k == kind);
        disabled.then(|| FieldError::disallowed(field)).into()
    }
}

fn gate(feature: &str, wanted: &str, current: &str) -> FieldErrors {
    let message = format!(
        "{feature} requires \"enable-api-fields\" feature gate to be {wanted} but it is \"{current}\""
    );
    FieldError::generic(message, []).into()
}
