//! Objects and their history: revisions as in etcd, reads from memory, writes also to disk where there is one.
//!
//! An object is kept as the bytes clients receive, beside the few parsed fields that selectors need. A write is
//! serialised once; the log of changes shares those bytes with every watcher.

mod durable;
mod journal;
mod object;
mod trees;
mod watch;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::{Duration, Instant};

pub use object::{Draft, Pairs, Stored};
use trees::Trees;
use watch::Slot;
pub use watch::Watcher;

/// How long changes stay available to watchers (K-138 asks for 75 s).
const HISTORY_AGE: Duration = Duration::from_secs(90);
/// Superseded bytes kept per resource; beyond it old changes go early.
const HISTORY_BYTES: usize = 16 << 20;
/// Content up to this size in all stays as it is; beyond it, what has not changed lately is compressed.
const PLAIN_BYTES: usize = 24 << 20;
/// Smaller objects are not worth it.
const LEAST_PACKED: usize = 512;
/// Objects compressed in one round.
const PACKED_PER_ROUND: usize = 8000;

/// One write, as watchers see it.
#[derive(Debug)]
pub struct Change {
    /// The revision the write got.
    pub revision: u64,
    /// The object before, absent for a creation.
    pub before: Option<Arc<Stored>>,
    /// The object after; for a deletion its last state under the deletion's revision.
    pub after: Arc<Stored>,
    /// Whether the object is gone.
    pub deleted: bool,
    at: Instant,
}

#[derive(Default)]
struct Collection {
    items: BTreeMap<Box<str>, Arc<Stored>>,
    log: VecDeque<Arc<Change>>,
    log_bytes: usize,
    /// Changes up to this revision are no longer in the log.
    floor: u64,
    slots: Vec<Weak<Slot>>,
}

#[derive(Default)]
struct State {
    revision: u64,
    collections: HashMap<Arc<str>, Collection>,
    trees: Trees,
}

/// The store; shared by everything in the server.
pub struct Storage {
    state: RwLock<State>,
    disk: Option<durable::Disk>,
    /// The first revision this process may serve watches from.
    started_at: u64,
}

/// Why a write did not happen.
#[derive(Debug)]
pub enum Refused {
    /// Create: the name is taken.
    Exists(Arc<Stored>),
    /// Update or delete: no such object.
    Missing,
    /// Update or delete: the object is at another revision than expected.
    Conflict,
}

/// The history asked for is gone; the oldest available revision.
#[derive(Debug)]
pub struct TooOld(pub u64);

fn key(namespace: &str, name: &str) -> Box<str> {
    let mut key = String::with_capacity(namespace.len() + name.len() + 1);
    key.push_str(namespace);
    key.push('\0');
    key.push_str(name);
    key.into_boxed_str()
}

impl Storage {
    /// A store that is gone with the process.
    pub fn in_memory() -> Self {
        Self {
            state: RwLock::new(State {
                revision: 1,
                ..State::default()
            }),
            disk: None,
            started_at: 1,
        }
    }

    /// Opens or creates the database in `directory` and reads everything into memory.
    pub fn open(directory: &Path) -> Result<Self, String> {
        let (disk, objects, revision) = durable::Disk::open(directory)?;
        let mut state = State {
            revision,
            ..State::default()
        };
        for (resource, object) in objects {
            let collection = state.collections.entry(resource).or_default();
            collection
                .items
                .insert(key(&object.namespace, &object.name), Arc::new(object));
        }
        for collection in state.collections.values_mut() {
            collection.floor = revision;
        }
        Ok(Self {
            state: RwLock::new(state),
            disk: Some(disk),
            started_at: revision,
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        // Writers leave no half-done state behind: a poisoned lock is as good as another.
        self.state
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The revision of the latest write.
    pub fn revision(&self) -> u64 {
        self.read().revision
    }

    /// One object; `namespace` is empty for cluster-scoped ones.
    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Stored>> {
        let state = self.read();
        state
            .collections
            .get(resource)?
            .items
            .get(&key(namespace, name))
            .cloned()
    }

    /// All objects of a resource (in one namespace), in key order, and the revision of that snapshot.
    pub fn list(&self, resource: &str, namespace: Option<&str>) -> (Vec<Arc<Stored>>, u64) {
        let state = self.read();
        let items = match state.collections.get(resource) {
            Some(collection) => in_namespace(&collection.items, namespace)
                .cloned()
                .collect(),
            None => Vec::new(),
        };
        (items, state.revision)
    }

    /// The snapshot as it was at `revision`, rebuilt from the log of changes (K-120, K-122).
    pub fn list_at(
        &self,
        resource: &str,
        namespace: Option<&str>,
        revision: u64,
    ) -> Result<Vec<Arc<Stored>>, TooOld> {
        let state = self.read();
        if revision < self.started_at {
            return Err(TooOld(self.started_at));
        }
        let Some(collection) = state.collections.get(resource) else {
            return Ok(Vec::new());
        };
        if revision < collection.floor {
            return Err(TooOld(collection.floor));
        }
        let mut items: BTreeMap<Box<str>, Arc<Stored>> = in_namespace(&collection.items, namespace)
            .map(|object| (key(&object.namespace, &object.name), Arc::clone(object)))
            .collect();
        for change in collection
            .log
            .iter()
            .rev()
            .take_while(|change| change.revision > revision)
        {
            if namespace.is_some_and(|namespace| *namespace != *change.after.namespace) {
                continue;
            }
            let key = key(&change.after.namespace, &change.after.name);
            match &change.before {
                Some(before) => items.insert(key, Arc::clone(before)),
                None => items.remove(&key),
            };
        }
        Ok(items.into_values().collect())
    }

    /// Stores a new object.
    pub fn create(&self, resource: &Arc<str>, draft: Draft) -> Result<Arc<Stored>, Refused> {
        let mut state = self.write();
        let key = key(&draft.namespace, &draft.name);
        if let Some(existing) = state
            .collections
            .get(resource)
            .and_then(|collection| collection.items.get(&key))
        {
            return Err(Refused::Exists(Arc::clone(existing)));
        }
        Ok(self.put(&mut state, resource, key, draft))
    }

    /// Replaces an object if it is still at revision `expected`.
    pub fn update(
        &self,
        resource: &Arc<str>,
        draft: Draft,
        expected: u64,
    ) -> Result<Arc<Stored>, Refused> {
        let mut state = self.write();
        let key = key(&draft.namespace, &draft.name);
        let current = state
            .collections
            .get(resource)
            .and_then(|collection| collection.items.get(&key));
        match current {
            None => Err(Refused::Missing),
            Some(current) if current.revision != expected => Err(Refused::Conflict),
            Some(_) => Ok(self.put(&mut state, resource, key, draft)),
        }
    }

    /// Removes an object if it is still at revision `expected`; returns its last state.
    pub fn delete(
        &self,
        resource: &Arc<str>,
        namespace: &str,
        name: &str,
        expected: u64,
    ) -> Result<Arc<Stored>, Refused> {
        let mut state = self.write();
        let key = key(namespace, name);
        let revision = state.revision + 1;
        let Some(collection) = state.collections.get_mut(resource) else {
            return Err(Refused::Missing);
        };
        match collection.items.get(&key) {
            None => return Err(Refused::Missing),
            Some(current) if current.revision != expected => return Err(Refused::Conflict),
            Some(_) => {}
        }
        let Some(before) = collection.items.remove(&key) else {
            return Err(Refused::Missing);
        };
        let after = Arc::new(before.at_revision(revision));
        if let Some(disk) = &self.disk {
            disk.enqueue(resource, &key, None, revision);
        }
        state.revision = revision;
        let change = Change {
            revision,
            before: Some(before),
            after: Arc::clone(&after),
            deleted: true,
            at: Instant::now(),
        };
        state.publish(resource, change);
        Ok(after)
    }

    fn put(
        &self,
        state: &mut State,
        resource: &Arc<str>,
        key: Box<str>,
        draft: Draft,
    ) -> Arc<Stored> {
        let revision = state.revision + 1;
        state.revision = revision;
        let after = Arc::new(draft.into_stored(revision));
        if let Some(disk) = &self.disk {
            disk.enqueue(resource, &key, Some(&after), revision);
        }
        let started_at = self.started_at;
        let collection = state
            .collections
            .entry(Arc::clone(resource))
            .or_insert_with(|| Collection {
                floor: started_at,
                ..Collection::default()
            });
        let before = collection.items.insert(key, Arc::clone(&after));
        if let Some(before) = &before {
            before.forget_tree();
        }
        let change = Change {
            revision,
            before,
            after: Arc::clone(&after),
            deleted: false,
            at: Instant::now(),
        };
        state.publish(resource, change);
        state.trees.keep(&after);
        after
    }

    /// Waits until the write with this revision would survive a crash.
    pub async fn durable(&self, revision: u64) -> Result<(), String> {
        match &self.disk {
            Some(disk) => disk.durable(revision).await,
            None => Ok(()),
        }
    }

    /// Starts to follow a resource from `revision` on, exclusively.
    pub fn watch(
        self: &Arc<Self>,
        resource: &Arc<str>,
        namespace: Option<&str>,
        revision: u64,
    ) -> Result<Watcher, TooOld> {
        let mut state = self.write();
        if revision < self.started_at {
            return Err(TooOld(self.started_at));
        }
        let started_at = self.started_at;
        let collection = state
            .collections
            .entry(Arc::clone(resource))
            .or_insert_with(|| Collection {
                floor: started_at,
                ..Collection::default()
            });
        if revision < collection.floor {
            return Err(TooOld(collection.floor));
        }
        let slot = Slot::new(namespace);
        collection.slots.push(Arc::downgrade(&slot));
        Ok(Watcher::new(
            Arc::clone(self),
            Arc::clone(resource),
            slot,
            revision,
        ))
    }

    /// A list and a watcher that continues exactly where it ends.
    pub fn list_and_watch(
        self: &Arc<Self>,
        resource: &Arc<str>,
        namespace: Option<&str>,
    ) -> (Vec<Arc<Stored>>, u64, Watcher) {
        loop {
            let (items, revision) = self.list(resource, namespace);
            if let Ok(watcher) = self.watch(resource, namespace, revision) {
                return (items, revision, watcher);
            }
        }
    }

    /// The changes of a resource after `revision`, oldest first.
    fn changes_after(
        &self,
        resource: &str,
        revision: u64,
    ) -> Result<(Vec<Arc<Change>>, u64), TooOld> {
        let state = self.read();
        let Some(collection) = state.collections.get(resource) else {
            return Ok((Vec::new(), state.revision));
        };
        if revision < collection.floor {
            return Err(TooOld(collection.floor));
        }
        let from = collection
            .log
            .partition_point(|change| change.revision <= revision);
        Ok((
            collection.log.range(from..).cloned().collect(),
            state.revision,
        ))
    }

    /// Forgets history past its age, watchers that are gone, and all trees. Called now and then.
    pub fn sweep(&self) {
        let mut state = self.write();
        for collection in state.collections.values_mut() {
            collection.slots.retain(|slot| slot.strong_count() > 0);
            collection.trim();
            collection.log.shrink_to_fit();
        }
        state.trees.clear();
    }

    /// Compresses objects that have not changed since revision `settled`, if there is much content in memory.
    pub fn pack(&self, settled: u64) {
        let candidates: Vec<(Arc<str>, Arc<Stored>)> = {
            let state = self.read();
            let objects = || {
                state
                    .collections
                    .iter()
                    .flat_map(|(name, c)| c.items.values().map(move |o| (name, o)))
            };
            let total: usize = objects().map(|(_, object)| object.plain_len()).sum();
            if total <= PLAIN_BYTES {
                return;
            }
            objects()
                .filter(|(_, object)| {
                    object.revision <= settled && object.plain_len() >= LEAST_PACKED
                })
                .take(PACKED_PER_ROUND)
                .map(|(name, object)| (Arc::clone(name), Arc::clone(object)))
                .collect()
        };
        for batch in candidates.chunks(256) {
            let packed: Vec<_> = batch
                .iter()
                .map(|(name, object)| (name, object.pack()))
                .collect();
            let mut state = self.write();
            for (name, object) in packed {
                let Some(object) = object else { continue };
                let slot = state.collections.get_mut(name).and_then(|collection| {
                    collection
                        .items
                        .get_mut(&key(&object.namespace, &object.name))
                });
                if let Some(slot) = slot.filter(|slot| slot.revision == object.revision) {
                    *slot = Arc::new(object);
                }
            }
        }
    }

    /// Waits for all writes, then stops writing to disk.
    pub async fn close(&self) {
        if let Some(disk) = &self.disk {
            disk.close().await;
        }
    }
}

fn in_namespace<'a>(
    items: &'a BTreeMap<Box<str>, Arc<Stored>>,
    namespace: Option<&str>,
) -> Box<dyn Iterator<Item = &'a Arc<Stored>> + 'a> {
    match namespace {
        None => Box::new(items.values()),
        Some(namespace) => {
            let from: Box<str> = format!("{namespace}\0").into();
            let to: Box<str> = format!("{namespace}\u{1}").into();
            Box::new(items.range(from..to).map(|(_, object)| object))
        }
    }
}

impl State {
    fn publish(&mut self, resource: &str, change: Change) {
        let Some(collection) = self.collections.get_mut(resource) else {
            return;
        };
        collection.log_bytes += change.weight();
        let mut dead = false;
        for slot in &collection.slots {
            match slot.upgrade() {
                Some(slot) => slot.wake(&change.after.namespace),
                None => dead = true,
            }
        }
        if dead {
            collection.slots.retain(|slot| slot.strong_count() > 0);
        }
        collection.log.push_back(Arc::new(change));
        collection.trim();
    }
}

impl Change {
    /// Bytes that only the log keeps alive.
    fn weight(&self) -> usize {
        256 + self.before.as_ref().map_or(0, |before| before.plain_len())
    }
}

impl Collection {
    fn trim(&mut self) {
        while let Some(oldest) = self.log.front() {
            if self.log_bytes <= HISTORY_BYTES && oldest.at.elapsed() < HISTORY_AGE {
                break;
            }
            self.floor = oldest.revision;
            self.log_bytes -= oldest.weight();
            self.log.pop_front();
        }
    }
}
