//! A cache of one kind: objects as bytes until somebody asks, never older than what this process has written.
//!
//! Own writes go into the store as soon as they are acknowledged, so a reconcile always sees its own work and the
//! watch's echo of it, recognised by its resourceVersion, changes nothing. Versions of one kind are numbers that grow
//! (Kubernetes promises it since 1.35).

mod head;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;

pub(crate) use head::Head;

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
}

impl Name {
    pub(crate) fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Takes away what no decision reads and what may be as large as all the rest (T-126).
pub(crate) fn trim_metadata(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
}

/// Where `kubectl apply` keeps the whole manifest.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

enum Body<K> {
    Raw(Bytes),
    Decoded(Arc<K>),
    /// Put to sleep: known to exist, to be read again when needed.
    Asleep,
    /// Cannot be decoded as this kind.
    Broken,
}

struct Entry<K> {
    head: Arc<Head>,
    body: Body<K>,
}

/// What the store has of an object.
pub(crate) enum Slot<K> {
    /// Here it is.
    Here(Arc<K>),
    /// It exists but was put to sleep.
    Asleep,
    /// There is none, or none that can be read.
    Absent,
}

/// Whether an observation told anything new.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// An object of which an older state or none was known, and that state as it was read.
    Newer(Arc<Head>, Bytes),
    /// The object is gone.
    Gone(Arc<Head>),
    /// Nothing that was not known.
    Stale,
}

/// The objects of one kind.
pub(crate) struct Store<K> {
    label: &'static str,
    trim: fn(&mut K),
    inner: Mutex<Inner<K>>,
}

struct Inner<K> {
    entries: HashMap<Name, Entry<K>>,
    groups: HashMap<Name, BTreeSet<Arc<str>>>,
}

impl<K: DeserializeOwned> Store<K> {
    /// An empty store that groups its objects by `label`.
    pub(crate) fn new(label: &'static str) -> Self {
        Self::trimmed(label, |_| {})
    }

    /// As [`Store::new`], with what `trim` leaves of each object.
    pub(crate) fn trimmed(label: &'static str, trim: fn(&mut K)) -> Self {
        Self {
            label,
            trim,
            inner: Mutex::new(Inner {
                entries: HashMap::new(),
                groups: HashMap::new(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<K>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of an object's state.
    pub(crate) fn observe(&self, object: Bytes) -> Result<Change, serde_json::Error> {
        let head = Arc::new(Head::read(&object, self.label)?);
        let mut inner = self.lock();
        if let Some(known) = inner.entries.get(&head.name)
            && known.head.version >= head.version
            && head.version != 0
        {
            return Ok(Change::Stale);
        }
        inner.insert(Arc::clone(&head), Body::Raw(object.clone()));
        Ok(Change::Newer(head, object))
    }

    /// Takes note of an object's end.
    pub(crate) fn forget(&self, object: &[u8]) -> Result<Change, serde_json::Error> {
        let head = Head::read(object, self.label)?;
        let mut inner = self.lock();
        match inner.entries.get(&head.name) {
            Some(known) if known.head.version <= head.version || known.head.uid == head.uid => {
                Ok(inner.remove(&head.name).map_or(Change::Stale, Change::Gone))
            }
            _ => Ok(Change::Stale),
        }
    }

    /// Takes a whole list as of `version`: what it lacks is gone, unless it is known to be newer than the list.
    pub(crate) fn replace(&self, listed: &[Name], version: u64) -> Vec<Change> {
        let listed: std::collections::HashSet<&Name> = listed.iter().collect();
        let mut inner = self.lock();
        let gone: Vec<Name> = inner
            .entries
            .iter()
            .filter(|(name, entry)| !listed.contains(name) && entry.head.version <= version)
            .map(|(name, _)| name.clone())
            .collect();
        gone.iter()
            .filter_map(|name| inner.remove(name).map(Change::Gone))
            .collect()
    }

    /// The object of that name.
    pub(crate) fn get(&self, name: &Name) -> Slot<K> {
        self.lock().decode(name, self.trim)
    }

    /// The head of the object of that name.
    pub(crate) fn head(&self, name: &Name) -> Option<Arc<Head>> {
        self.lock()
            .entries
            .get(name)
            .map(|entry| Arc::clone(&entry.head))
    }

    /// The names of the objects of `namespace` whose label has this value, in order.
    pub(crate) fn group(&self, namespace: &Arc<str>, value: &str) -> Vec<Name> {
        let inner = self.lock();
        inner
            .groups
            .get(&Name::new(Arc::clone(namespace), value))
            .into_iter()
            .flatten()
            .map(|name| Name::new(Arc::clone(namespace), Arc::clone(name)))
            .collect()
    }

    /// The names of all objects.
    pub(crate) fn names(&self) -> Vec<Name> {
        self.lock().entries.keys().cloned().collect()
    }

    /// The objects of `namespace`, in no order. Looks at every object: for stores with few.
    pub(crate) fn of_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let mut inner = self.lock();
        let names: Vec<Name> = inner
            .entries
            .keys()
            .filter(|name| *name.namespace == *namespace)
            .cloned()
            .collect();
        names
            .iter()
            .filter_map(|name| match inner.decode(name, self.trim) {
                Slot::Here(object) => Some(object),
                _ => None,
            })
            .collect()
    }

    /// Drops the body of an object that nobody is expected to need.
    pub(crate) fn put_to_sleep(&self, name: &Name) {
        if let Some(entry) = self.lock().entries.get_mut(name) {
            entry.body = Body::Asleep;
        }
    }

    /// Gives an object that sleeps its body back, if it is still in that state or older.
    pub(crate) fn awaken(&self, object: Bytes) -> Result<(), serde_json::Error> {
        let head = Arc::new(Head::read(&object, self.label)?);
        let mut inner = self.lock();
        if inner
            .entries
            .get(&head.name)
            .is_none_or(|known| known.head.version <= head.version)
        {
            inner.insert(head, Body::Raw(object));
        }
        Ok(())
    }

    /// Calls `each` with every object that is awake.
    pub(crate) fn for_each(&self, mut each: impl FnMut(&K)) {
        let mut inner = self.lock();
        let names: Vec<Name> = inner.entries.keys().cloned().collect();
        for name in names {
            if let Slot::Here(object) = inner.decode(&name, self.trim) {
                each(&object);
            }
        }
    }
}

impl<K: DeserializeOwned> Inner<K> {
    fn decode(&mut self, name: &Name, trim: fn(&mut K)) -> Slot<K> {
        let Some(entry) = self.entries.get_mut(name) else {
            return Slot::Absent;
        };
        if let Body::Raw(bytes) = &entry.body {
            entry.body = match serde_json::from_slice(bytes) {
                Ok(mut object) => {
                    trim(&mut object);
                    Body::Decoded(Arc::new(object))
                }
                Err(error) => {
                    tracing::error!(object = %name, %error, "an object of the API cannot be decoded; it is ignored");
                    Body::Broken
                }
            };
        }
        match &entry.body {
            Body::Decoded(object) => Slot::Here(Arc::clone(object)),
            Body::Asleep => Slot::Asleep,
            Body::Raw(_) | Body::Broken => Slot::Absent,
        }
    }

    fn insert(&mut self, head: Arc<Head>, body: Body<K>) {
        let old = self.entries.insert(
            head.name.clone(),
            Entry {
                head: Arc::clone(&head),
                body,
            },
        );
        if let Some(old) = old
            && old.head.group != head.group
        {
            self.leave_group(&old.head);
        }
        if let Some(group) = &head.group {
            self.groups
                .entry(Name::new(
                    Arc::clone(&head.name.namespace),
                    Arc::clone(group),
                ))
                .or_default()
                .insert(Arc::clone(&head.name.name));
        }
    }

    fn remove(&mut self, name: &Name) -> Option<Arc<Head>> {
        let entry = self.entries.remove(name)?;
        self.leave_group(&entry.head);
        Some(entry.head)
    }

    fn leave_group(&mut self, head: &Head) {
        let Some(group) = &head.group else { return };
        let key = Name::new(Arc::clone(&head.name.namespace), Arc::clone(group));
        if let Some(members) = self.groups.get_mut(&key) {
            members.remove(&head.name.name);
            if members.is_empty() {
                self.groups.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn object(name: &str, version: u64, group: &str) -> Bytes {
        json!({"metadata": {"namespace": "ns", "name": name, "uid": format!("uid-{name}"), "resourceVersion": version.to_string(),
            "labels": {"g": group},
            "ownerReferences": [{"kind": "Other", "name": "x", "uid": "1"},
                {"kind": "PipelineRun", "name": "owner", "uid": "2", "controller": true}]}})
        .to_string()
        .into()
    }

    fn names(store: &Store<Value>, group: &str) -> Vec<String> {
        store
            .group(&"ns".into(), group)
            .iter()
            .map(|n| n.name.to_string())
            .collect()
    }

    /// T-126: runs and pods are kept without what only others need.
    #[test]
    fn what_is_kept_of_an_object_has_no_managed_fields_and_no_applied_manifest() {
        use k8s_openapi::api::core::v1::Pod;
        let store = Store::<Pod>::trimmed("g", |pod| trim_metadata(&mut pod.metadata));
        let pod = json!({"metadata": {"namespace": "ns", "name": "a", "resourceVersion": "5",
            "annotations": {LAST_APPLIED: "{}", "other": "kept"},
            "managedFields": [{"manager": "kubectl", "operation": "Apply"}]}});
        store.observe(pod.to_string().into()).unwrap();
        let Slot::Here(kept) = store.get(&Name::new("ns", "a")) else {
            panic!("a is stored")
        };
        assert_eq!(kept.metadata.managed_fields, None);
        let annotations = kept.metadata.annotations.as_ref().unwrap();
        assert_eq!(annotations.keys().collect::<Vec<_>>(), ["other"]);
    }

    #[test]
    fn an_echo_of_what_is_known_and_older_states_change_nothing() {
        let store = Store::<Value>::new("g");
        assert!(matches!(
            store.observe(object("a", 5, "x")).unwrap(),
            Change::Newer(..)
        ));
        assert_eq!(store.observe(object("a", 5, "x")).unwrap(), Change::Stale);
        assert_eq!(store.observe(object("a", 4, "y")).unwrap(), Change::Stale);
        assert_eq!(names(&store, "x"), ["a"]);
        let Slot::Here(seen) = store.get(&Name::new("ns", "a")) else {
            panic!("a is stored")
        };
        assert_eq!(seen["metadata"]["resourceVersion"], "5");
    }

    #[test]
    fn a_list_older_than_an_own_write_does_not_undo_it() {
        let store = Store::<Value>::new("g");
        store.observe(object("old", 3, "x")).unwrap();
        store.observe(object("fresh", 9, "x")).unwrap();
        let gone = store.replace(&[], 7);
        assert_eq!(gone.len(), 1);
        assert_eq!(names(&store, "x"), ["fresh"]);
    }

    #[test]
    fn the_end_of_an_earlier_object_of_the_same_name_is_not_the_end_of_this_one() {
        let store = Store::<Value>::new("g");
        store.observe(object("a", 9, "x")).unwrap();
        let earlier = String::from_utf8(object("a", 8, "x").to_vec())
            .unwrap()
            .replace("uid-a", "uid-0");
        assert_eq!(store.forget(earlier.as_bytes()).unwrap(), Change::Stale);
        assert!(matches!(
            store.forget(&object("a", 10, "x")).unwrap(),
            Change::Gone(_)
        ));
        assert!(matches!(store.get(&Name::new("ns", "a")), Slot::Absent));
        assert!(names(&store, "x").is_empty());
    }

    #[test]
    fn objects_move_between_groups_with_their_label_and_know_their_controller() {
        let store = Store::<Value>::new("g");
        store.observe(object("a", 1, "x")).unwrap();
        let Change::Newer(head, _) = store.observe(object("a", 2, "y")).unwrap() else {
            panic!("version 2 is newer")
        };
        assert!(names(&store, "x").is_empty());
        assert_eq!(names(&store, "y"), ["a"]);
        assert_eq!(
            head.owner.as_ref().map(|o| (o.kind.as_str(), &*o.name)),
            Some(("PipelineRun", "owner"))
        );
    }

    #[test]
    fn a_sleeping_object_keeps_its_place_until_it_is_read_again() {
        let store = Store::<Value>::new("g");
        let name = Name::new("ns", "a");
        store.observe(object("a", 1, "x")).unwrap();
        store.put_to_sleep(&name);
        assert!(matches!(store.get(&name), Slot::Asleep));
        assert_eq!(store.observe(object("a", 1, "x")).unwrap(), Change::Stale);
        assert_eq!(names(&store, "x"), ["a"]);
        store.awaken(object("a", 1, "x")).unwrap();
        assert!(matches!(store.get(&name), Slot::Here(_)));
    }

    #[test]
    fn an_object_that_cannot_be_decoded_is_as_good_as_none() {
        let store = Store::<Vec<u8>>::new("g");
        store.observe(object("a", 1, "x")).unwrap();
        assert!(matches!(store.get(&Name::new("ns", "a")), Slot::Absent));
    }
}
