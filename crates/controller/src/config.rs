//! The configuration in force, shared between the controller that keeps it current and the webhooks that read it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use tektite_api::config::{Config, Defaults};
use tektite_api::names::config_map;

use crate::store::{Name, Slot};
use crate::world::World;

/// The configuration in force; clones share it. Starts with the defaults.
#[derive(Clone, Debug, Default)]
pub struct ConfigHandle {
    current: Arc<RwLock<Arc<Config>>>,
    names: Arc<ConfigMapNames>,
}

impl ConfigHandle {
    /// Read from the ConfigMaps of these names.
    pub fn named(names: ConfigMapNames) -> Self {
        Self {
            names: Arc::new(names),
            ..Self::default()
        }
    }

    /// What the ConfigMaps are called.
    pub(crate) fn names(&self) -> &ConfigMapNames {
        &self.names
    }

    /// The configuration of this moment; hold on to it for one decision (T-145).
    pub fn current(&self) -> Arc<Config> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another configuration in force.
    pub fn set(&self, config: Config) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }
}

/// What the ConfigMaps are called where an installation does not call them as upstream does (T-128).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigMapNames {
    /// By upstream's name.
    chosen: BTreeMap<&'static str, String>,
}

impl ConfigMapNames {
    /// As upstream's environment variables say; `read` gives the value of one.
    pub fn from_environment(read: impl Fn(&str) -> Option<String>) -> Self {
        let chosen = VARIABLES
            .iter()
            .filter_map(|(name, variable)| {
                Some((*name, read(variable).filter(|value| !value.is_empty())?))
            })
            .collect();
        Self { chosen }
    }

    /// What the one that upstream calls `name` is called here.
    pub(crate) fn actual<'a>(&'a self, name: &'a str) -> &'a str {
        self.chosen.get(name).map_or(name, String::as_str)
    }

    /// What upstream calls the one that is called `actual` here; nothing if that is none of them.
    pub(crate) fn usual<'a>(&self, actual: &'a str) -> Option<&'a str> {
        if let Some((name, _)) = self.chosen.iter().find(|(_, chosen)| *chosen == actual) {
            return Some(name);
        }
        (!self.chosen.contains_key(actual)).then_some(actual)
    }
}

/// ConfigMaps and the environment variables that name others.
const VARIABLES: [(&str, &str); 8] = [
    (config_map::DEFAULTS, "CONFIG_DEFAULTS_NAME"),
    (config_map::EVENTS, "CONFIG_EVENTS_NAME"),
    (config_map::FEATURE_FLAGS, "CONFIG_FEATURE_FLAGS_NAME"),
    (config_map::LEADER_ELECTION, "CONFIG_LEADERELECTION_NAME"),
    (config_map::LOGGING, "CONFIG_LOGGING_NAME"),
    (config_map::OBSERVABILITY, "CONFIG_OBSERVABILITY_NAME"),
    (config_map::TRACING, "CONFIG_TRACING_NAME"),
    (
        config_map::WAIT_EXPONENTIAL_BACKOFF,
        "CONFIG_WAIT_EXPONENTIAL_BACKOFF_NAME",
    ),
];

/// Reads the cached ConfigMaps into the handle. One that does not parse leaves the old values in force (P-376).
pub(crate) fn read_config(world: &World) {
    let handle = &world.options.config;
    let mut config = (*handle.current()).clone();
    for name in MAPS {
        let actual = handle.names().actual(name);
        let key = Name::new(world.options.system_namespace.as_str(), actual);
        let map = match world.config_maps.get(&key) {
            Slot::Here(map) => Some(map),
            _ => None,
        };
        let none = BTreeMap::new();
        let data = map
            .as_ref()
            .and_then(|map| map.data.as_ref())
            .unwrap_or(&none);
        if let Err(error) = config.update(name, data) {
            tracing::error!(config_map = actual, %error, "the ConfigMap is refused; the old values stay in force");
        } else if name == config_map::DEFAULTS {
            for field in Defaults::unknown_fields(data) {
                tracing::warn!(
                    config_map = actual,
                    field,
                    "the ConfigMap has a field that means nothing"
                );
            }
        }
    }
    handle.set(config);
}

/// The ConfigMaps that are read.
const MAPS: [&str; 6] = [
    config_map::FEATURE_FLAGS,
    config_map::DEFAULTS,
    config_map::EVENTS,
    config_map::OBSERVABILITY,
    config_map::TRACING,
    config_map::WAIT_EXPONENTIAL_BACKOFF,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// T-128
    #[test]
    fn the_environment_names_config_maps_and_their_usual_names_then_mean_nothing() {
        let names = ConfigMapNames::from_environment(|variable| match variable {
            "CONFIG_DEFAULTS_NAME" => Some("mine".into()),
            "CONFIG_EVENTS_NAME" => Some(String::new()),
            _ => None,
        });
        for (usual, actual) in [
            ("config-defaults", "mine"),
            ("config-events", "config-events"),
            ("feature-flags", "feature-flags"),
        ] {
            assert_eq!(names.actual(usual), actual);
            assert_eq!(names.usual(actual), Some(usual));
        }
        assert_eq!(names.usual("config-defaults"), None);
    }
}
