//! The checks of the ConfigMap webhook (T-016, P-019).

use std::collections::BTreeMap;

use super::{ConfigError, Defaults, FeatureFlags, LeaderElection};
use crate::names::config_map;

/// Whether the installation could work with the data of the ConfigMap `name`. Only four of its ConfigMaps are looked
/// at; the others fail, if they do, where they are used.
///
/// # Errors
/// The data does not parse.
pub fn check(name: &str, data: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    match name {
        config_map::FEATURE_FLAGS => FeatureFlags::from_data(data).map(drop),
        config_map::DEFAULTS => Defaults::from_data(data).map(drop),
        config_map::LOGGING => logging(data),
        config_map::LEADER_ELECTION | config_map::LEADER_ELECTION_WEBHOOK => {
            LeaderElection::from_data(data).map(drop)
        }
        _ => Ok(()),
    }
}

fn logging(data: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    let levels = ["debug", "info", "warn", "error", "dpanic", "panic", "fatal"];
    for (key, level) in data {
        let component = key.strip_prefix("loglevel.").unwrap_or_default();
        let known = level.is_empty()
            || levels.contains(&level.as_str())
            || levels.map(str::to_uppercase).contains(level);
        if !component.is_empty() && !known {
            return Err(ConfigError(format!("invalid logging level: {level}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T-016, P-019
    #[test]
    fn four_configmaps_are_checked_and_no_other() {
        for (name, key, value, message) in [
            (
                "feature-flags",
                "coschedule",
                "x",
                "invalid value for feature flag \"coschedule\": \"x\"",
            ),
            (
                "config-defaults",
                "default-timeout-minutes",
                "x",
                "failed parsing default config \"default-timeout-minutes\"",
            ),
            (
                "config-logging",
                "loglevel.controller",
                "loud",
                "invalid logging level: loud",
            ),
            ("config-logging", "loglevel.controller", "info", ""),
            (
                "config-leader-election",
                "lease-duration",
                "60",
                "failed to parse \"lease-duration\": time: missing unit in duration \"60\"",
            ),
            (
                "config-leader-election",
                "buckets",
                "11",
                "buckets: value must be between 1 <= 11 <= 10",
            ),
            ("config-leader-election", "buckets", "2", ""),
            (
                "config-leader-election-webhook",
                "buckets",
                "many",
                "failed to parse \"buckets\": strconv.ParseUint: parsing \"many\": invalid syntax",
            ),
            ("config-leader-election-controller", "buckets", "many", ""),
            ("config-observability", "metrics.taskrun.level", "x", ""),
            ("config-tracing", "enabled", "x", ""),
            ("config-wait-exponential-backoff", "cap", "x", ""),
            ("config-spire", "spire-trust-domain", "", ""),
            ("config-events", "formats", "", ""),
        ] {
            let data = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            let said = check(name, &data)
                .err()
                .map_or(String::new(), |error| error.0);
            assert_eq!(said, message, "{name} {key}");
        }
    }
}
