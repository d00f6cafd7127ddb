//! The configuration in force, shared between the controller that keeps it current and the webhooks that read it.

use std::sync::{Arc, PoisonError, RwLock};

use tektite_api::config::Config;

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
