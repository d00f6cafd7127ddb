//! What the installation's ConfigMaps say.

mod backoff;
mod check;
mod defaults;
mod feature_flags;
mod leader_election;
mod observability;

use std::collections::BTreeMap;

pub use backoff::WaitExponentialBackoff;
pub use check::check;
pub use defaults::Defaults;
pub use feature_flags::FeatureFlags;
pub use leader_election::LeaderElection;
pub use observability::{Events, Metrics, Tracing};

use crate::names::config_map;

/// Why a ConfigMap's data is refused, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// Everything the ConfigMaps say, as one value.
///
/// ```
/// use std::collections::BTreeMap;
/// let mut config = tektite_api::config::Config::default();
/// let data = BTreeMap::from([("enable-api-fields".to_owned(), "alpha".to_owned())]);
/// assert!(config.update("feature-flags", &data).unwrap());
/// assert_eq!(config.feature_flags.enable_api_fields, "alpha");
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// ConfigMap `feature-flags`.
    pub feature_flags: FeatureFlags,
    /// ConfigMap `config-defaults`.
    pub defaults: Defaults,
    /// ConfigMap `config-events`.
    pub events: Events,
    /// ConfigMap `config-observability`.
    pub metrics: Metrics,
    /// ConfigMap `config-tracing`.
    pub tracing: Tracing,
    /// ConfigMap `config-wait-exponential-backoff`.
    pub wait_exponential_backoff: WaitExponentialBackoff,
}

impl Config {
    /// Takes over the data of the ConfigMap `name`; `false` if the name means nothing to us.
    ///
    /// # Errors
    /// The data does not parse; the configuration stays as it was.
    pub fn update(
        &mut self,
        name: &str,
        data: &BTreeMap<String, String>,
    ) -> Result<bool, ConfigError> {
        match name {
            config_map::FEATURE_FLAGS => self.feature_flags = FeatureFlags::from_data(data)?,
            config_map::DEFAULTS => self.defaults = Defaults::from_data(data)?,
            config_map::EVENTS => self.events = Events::from_data(data)?,
            config_map::OBSERVABILITY => self.metrics = Metrics::from_data(data),
            config_map::TRACING => self.tracing = Tracing::from_data(data)?,
            config_map::WAIT_EXPONENTIAL_BACKOFF => {
                self.wait_exponential_backoff = WaitExponentialBackoff::from_data(data)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
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
        let overflow = matches!(cause.kind(), PosOverflow | NegOverflow);
        let why = if overflow {
            "value out of range"
        } else {
            "invalid syntax"
        };
        ConfigError(format!("strconv.Atoi: parsing {text:?}: {why}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn an_empty_configmap_means_the_defaults() {
        let mut config = Config::default();
        for name in [
            "feature-flags",
            "config-defaults",
            "config-events",
            "config-observability",
            "config-tracing",
        ] {
            assert!(config.update(name, &BTreeMap::new()).unwrap());
        }
        assert_eq!(config, Config::default());
        assert_eq!(config.defaults.timeout().to_string(), "1h0m0s");
    }

    #[test]
    fn secret_masking_is_on_off_or_left_to_the_controller() {
        for (pairs, expected) in [
            (&[][..], None),
            (&[("enable-secret-masking", "true")], Some(true)),
            (&[("enable-secret-masking", "false")], Some(false)),
        ] {
            let mut config = Config::default();
            config.update("feature-flags", &data(pairs)).unwrap();
            assert_eq!(config.feature_flags.enable_secret_masking, expected);
        }
        let bad = data(&[("enable-secret-masking", "maybe")]);
        assert!(Config::default().update("feature-flags", &bad).is_err());
    }

    #[test]
    fn bad_data_is_refused_in_upstreams_words_and_changes_nothing() {
        for (name, key, value, message) in [
            (
                "feature-flags",
                "enable-api-fields",
                "gamma",
                r#"invalid value for feature flag "enable-api-fields": "gamma""#,
            ),
            (
                "feature-flags",
                "coschedule",
                "No",
                r#"invalid value for feature flag "coschedule": "no""#,
            ),
            (
                "feature-flags",
                "disable-creds-init",
                "ja",
                r#"failed parsing feature flags config "ja": strconv.ParseBool: parsing "ja": invalid syntax"#,
            ),
            (
                "feature-flags",
                "enable-artifacts",
                "ja",
                r#"failed parsing feature flags config "ja": strconv.ParseBool: parsing "ja": invalid syntax for feature enable-artifacts"#,
            ),
            (
                "feature-flags",
                "max-result-size",
                "1572864",
                r#"invalid value for feature flag "results-from": "1572864". This is exceeding the CRD limit"#,
            ),
            (
                "feature-flags",
                "max-result-size",
                "x",
                r#"strconv.Atoi: parsing "x": invalid syntax"#,
            ),
            (
                "config-defaults",
                "default-timeout-minutes",
                "1h",
                r#"failed parsing default config "default-timeout-minutes""#,
            ),
            (
                "config-defaults",
                "default-pod-template",
                "- 1",
                "failed to unmarshal - 1",
            ),
            (
                "config-defaults",
                "default-sidecar-log-polling-interval",
                "soon",
                r#"failed parsing default config "soon""#,
            ),
            (
                "config-events",
                "formats",
                "tektonv1,tektonv1",
                "duplicate format: tektonv1",
            ),
            ("config-events", "formats", "", "formats cannot be empty"),
            (
                "config-tracing",
                "enabled",
                "2",
                r#"failed parsing tracing config "2": strconv.ParseBool: parsing "2": invalid syntax"#,
            ),
            (
                "config-wait-exponential-backoff",
                "cap",
                "1",
                r#"failed parsing cap "1": time: missing unit in duration "1""#,
            ),
        ] {
            let mut config = Config::default();
            assert_eq!(
                config.update(name, &data(&[(key, value)])).unwrap_err().0,
                message
            );
            assert_eq!(config, Config::default());
        }
    }

    #[test]
    fn defaults_are_read() {
        let read = Defaults::from_data(&data(&[
            ("default-timeout-minutes", "20"),
            ("default-forbidden-env", "B, A,B"),
            (
                "default-pod-template",
                "nodeSelector: {a: b}\nenv: [{name: X, value: y}]",
            ),
            (
                "default-container-resource-requirements",
                "default: {requests: {cpu: 100m}}",
            ),
        ]))
        .unwrap();
        assert_eq!(read.timeout(), Duration::from_minutes(20));
        assert_eq!(read.forbidden_env, ["A", "B"]);
        assert_eq!(read.pod_template.unwrap().env[0].name, "X");
        assert!(
            read.container_resource_requirements["default"]
                .requests
                .is_some()
        );
    }

    use crate::Duration;
}
