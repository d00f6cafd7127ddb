//! The configuration in force, shared between the controller that keeps it current and the webhooks that read it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use tektite_api::config::Config;
use tektite_api::names::config_map;

use crate::store::{Name, Slot};
use crate::world::World;

/// The configuration in force; clones share it. Starts with the defaults.
#[derive(Clone, Debug, Default)]
pub struct ConfigHandle {
    current: Arc<RwLock<Arc<Config>>>,
}

impl ConfigHandle {
    /// The configuration of this moment; hold on to it for one decision (T-145).
    pub fn current(&self) -> Arc<Config> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another configuration in force.
    pub fn set(&self, config: Config) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }
}

/// Reads the cached ConfigMaps into the handle. One that does not parse leaves the old values in force (P-376).
pub(crate) fn read_config(world: &World) {
    let handle = &world.options.config;
    let mut config = (*handle.current()).clone();
    for name in MAPS {
        let key = Name::new(world.options.system_namespace.as_str(), name);
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
            tracing::error!(config_map = name, %error, "the ConfigMap is refused; the old values stay in force");
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
