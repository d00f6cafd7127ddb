//! What the installation's ConfigMaps say.

mod feature_flags;

pub use feature_flags::FeatureFlags;

/// Why a ConfigMap's data is refused, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// Everything the ConfigMaps say, as one value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// ConfigMap `feature-flags`.
    pub feature_flags: FeatureFlags,
}

/// Go's `strconv.ParseBool`, with its error text.
fn parse_bool(text: &str) -> Result<bool, ConfigError> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(ConfigError(format!(
            "strconv.ParseBool: parsing {text:?}: invalid syntax"
        ))),
    }
}

/// Go's `strconv.Atoi`, with its error text.
fn parse_int(text: &str) -> Result<i64, ConfigError> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse::<i64>().map_err(|cause| {
        let why = if matches!(cause.kind(), PosOverflow | NegOverflow) {
            "value out of range"
        } else {
            "invalid syntax"
        };
        ConfigError(format!("strconv.Atoi: parsing {text:?}: {why}"))
    })
}
