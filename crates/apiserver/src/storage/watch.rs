//! Following a resource: a cursor into the log of changes, woken by writes to its kind and namespace.

use std::sync::Arc;

use tokio::sync::Notify;

use super::{Change, Storage, TooOld};

/// Where a writer leaves word for one watcher.
pub(super) struct Slot {
    namespace: Option<Box<str>>,
    notify: Notify,
}

impl Slot {
    pub(super) fn new(namespace: Option<&str>) -> Arc<Self> {
        Arc::new(Self {
            namespace: namespace.map(Into::into),
            notify: Notify::new(),
        })
    }

    pub(super) fn wake(&self, namespace: &str) {
        if self.namespace.as_deref().is_none_or(|own| own == namespace) {
            self.notify.notify_one();
        }
    }
}

/// A position in a resource's history. A slow one costs writers nothing: it falls behind, and in the end out of
/// history (K-144).
pub struct Watcher {
    storage: Arc<Storage>,
    resource: Arc<str>,
    slot: Arc<Slot>,
    revision: u64,
}

impl Watcher {
    pub(super) fn new(
        storage: Arc<Storage>,
        resource: Arc<str>,
        slot: Arc<Slot>,
        revision: u64,
    ) -> Self {
        Self {
            storage,
            resource,
            slot,
            revision,
        }
    }

    /// The changes since the last call, at least one; waits for it. Cancel safe.
    pub async fn next(&mut self) -> Result<Vec<Arc<Change>>, TooOld> {
        loop {
            let changes = self.ready()?;
            if !changes.is_empty() {
                return Ok(changes);
            }
            self.slot.notify.notified().await;
        }
    }

    /// The changes since the last call, if any.
    pub fn ready(&mut self) -> Result<Vec<Arc<Change>>, TooOld> {
        let (mut changes, revision) = self.storage.changes_after(&self.resource, self.revision)?;
        // A revision in the future stays there until the store reaches it (K-131).
        self.revision = self.revision.max(revision);
        if let Some(namespace) = &self.slot.namespace {
            changes.retain(|change| change.after.namespace == *namespace);
        }
        Ok(changes)
    }

    /// Everything up to this revision has been returned.
    pub fn revision(&self) -> u64 {
        self.revision
    }
}
