//! Who owns whom: from what is seen to what must be deleted. Pure.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::ObjectMeta;

use super::feed::Kind;

/// What the graph knows of an object.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) kind: Arc<Kind>,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) owners: Vec<OwnerReference>,
    pub(super) deleting: bool,
    pub(super) finalizers: Vec<String>,
}

/// What must be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Ask whether the owners that the graph has not seen exist.
    Check(String),
    /// Delete; with its own dependents first if `foreground`.
    Delete { uid: String, foreground: bool },
    /// Take one finalizer away.
    Release {
        uid: String,
        finalizer: &'static str,
    },
    /// Forget owners.
    Disown { uid: String, owners: Vec<String> },
}

pub(super) const FOREGROUND: &str = "foregroundDeletion";
pub(super) const ORPHAN: &str = "orphan";

/// All objects and the dependents of each owner.
#[derive(Debug, Default)]
pub(super) struct Graph {
    objects: HashMap<String, Object>,
    dependents: HashMap<String, BTreeSet<String>>,
}

impl Graph {
    pub(super) fn get(&self, uid: &str) -> Option<&Object> {
        self.objects.get(uid)
    }

    pub(super) fn of_kind(&self, id: &str) -> Vec<String> {
        self.objects
            .values()
            .filter(|object| object.kind.id() == id)
            .map(|object| object.uid.clone())
            .collect()
    }

    /// How many objects a namespace holds.
    pub(super) fn in_namespace(&self, namespace: &str) -> usize {
        self.objects
            .values()
            .filter(|object| object.kind.namespaced && object.namespace == namespace)
            .count()
    }

    /// Takes note of an object.
    pub(super) fn present(&mut self, kind: Arc<Kind>, meta: ObjectMeta) -> Vec<Action> {
        let Some(uid) = meta.uid.clone() else {
            return Vec::new();
        };
        let object = Object {
            kind,
            namespace: meta.namespace.unwrap_or_default(),
            name: meta.name.unwrap_or_default(),
            uid: uid.clone(),
            owners: meta.owner_references.unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            finalizers: meta.finalizers.unwrap_or_default(),
        };
        let before = self.objects.insert(uid.clone(), object.clone());
        let old_owners = before.map(|object| object.owners).unwrap_or_default();
        let mut actions = Vec::new();
        for old in old_owners
            .iter()
            .filter(|old| !object.owners.iter().any(|new| new.uid == old.uid))
        {
            self.unlink(&old.uid, &uid);
            actions.extend(self.wait_for_dependents(&old.uid));
        }
        for owner in &object.owners {
            self.dependents
                .entry(owner.uid.clone())
                .or_default()
                .insert(uid.clone());
        }
        if object
            .owners
            .iter()
            .any(|owner| !self.objects.contains_key(&owner.uid))
            && !object.deleting
        {
            actions.push(Action::Check(uid.clone()));
        }
        actions.extend(self.deletion(&object));
        actions
    }

    /// Takes note that an object is gone (K-066).
    pub(super) fn gone(&mut self, uid: &str) -> Vec<Action> {
        let Some(object) = self.objects.remove(uid) else {
            return Vec::new();
        };
        let mut actions = Vec::new();
        for owner in &object.owners {
            self.unlink(&owner.uid, uid);
            actions.extend(self.wait_for_dependents(&owner.uid));
        }
        for dependent in self.dependents.get(uid).into_iter().flatten() {
            if self
                .objects
                .get(dependent)
                .is_some_and(|object| !object.deleting)
            {
                actions.push(Action::Check(dependent.clone()));
            }
        }
        actions
    }

    /// What a dependent's fate is, given which of its owners are known not to exist.
    pub(super) fn judge(&self, uid: &str, absent: &[String]) -> Option<Action> {
        let object = self.objects.get(uid).filter(|object| !object.deleting)?;
        let (gone, left): (Vec<_>, Vec<_>) = object
            .owners
            .iter()
            .partition(|owner| absent.contains(&owner.uid));
        if gone.is_empty() {
            return None;
        }
        if left.is_empty() {
            return Some(Action::Delete {
                uid: uid.to_owned(),
                foreground: false,
            });
        }
        Some(Action::Disown {
            uid: uid.to_owned(),
            owners: gone.into_iter().map(|owner| owner.uid.clone()).collect(),
        })
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }

    fn children<'a>(&'a self, uid: &str) -> impl Iterator<Item = &'a Object> + use<'a> {
        self.dependents
            .get(uid)
            .into_iter()
            .flatten()
            .filter_map(|uid| self.objects.get(uid))
    }

    /// An owner that is being deleted with a word on its dependents.
    fn deletion(&self, owner: &Object) -> Vec<Action> {
        let has = |finalizer: &str| owner.finalizers.iter().any(|it| it == finalizer);
        let mut actions = Vec::new();
        if !owner.deleting {
            return actions;
        }
        if has(ORPHAN) {
            for child in self.children(&owner.uid) {
                actions.push(Action::Disown {
                    uid: child.uid.clone(),
                    owners: vec![owner.uid.clone()],
                });
            }
            actions.push(Action::Release {
                uid: owner.uid.clone(),
                finalizer: ORPHAN,
            });
        }
        if has(FOREGROUND) {
            let children = self.children(&owner.uid).filter(|child| !child.deleting);
            // Another owner that lives on keeps a dependent.
            let only = |child: &&Object| child.owners.iter().all(|other| other.uid == owner.uid);
            actions.extend(children.filter(only).map(|child| Action::Delete {
                uid: child.uid.clone(),
                foreground: true,
            }));
            actions.extend(self.wait_for_dependents(&owner.uid));
        }
        actions
    }

    /// In foreground the owner goes once no dependent blocks it.
    fn wait_for_dependents(&self, uid: &str) -> Option<Action> {
        let owner = self.objects.get(uid)?;
        if !owner.deleting || !owner.finalizers.iter().any(|it| it == FOREGROUND) {
            return None;
        }
        let blocks = |child: &Object| {
            child
                .owners
                .iter()
                .any(|owner| owner.uid == uid && owner.block_owner_deletion == Some(true))
        };
        let blocked = self.children(uid).any(blocks);
        (!blocked).then(|| Action::Release {
            uid: uid.to_owned(),
            finalizer: FOREGROUND,
        })
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use kube::api::ApiResource;

    use super::*;

    fn kind() -> Arc<Kind> {
        let gvk = kube::core::GroupVersionKind::gvk("", "v1", "ConfigMap");
        Arc::new(Kind {
            resource: ApiResource::from_gvk(&gvk),
            namespaced: true,
        })
    }

    fn meta(uid: &str, owners: &[&str]) -> ObjectMeta {
        let owner = |uid: &&str| OwnerReference {
            uid: (*uid).into(),
            block_owner_deletion: Some(true),
            ..OwnerReference::default()
        };
        ObjectMeta {
            uid: Some(uid.into()),
            name: Some(uid.into()),
            namespace: Some("ns".into()),
            owner_references: Some(owners.iter().map(owner).collect()),
            ..ObjectMeta::default()
        }
    }

    fn dying(mut meta: ObjectMeta, finalizer: &str) -> ObjectMeta {
        meta.deletion_timestamp = Some(Time(Default::default()));
        meta.finalizers = Some(vec![finalizer.into()]);
        meta
    }

    fn delete(uid: &str, foreground: bool) -> Action {
        Action::Delete {
            uid: uid.into(),
            foreground,
        }
    }

    #[test]
    fn a_dependent_goes_when_its_last_owner_is_gone() {
        let mut graph = Graph::default();
        graph.present(kind(), meta("a", &[]));
        graph.present(kind(), meta("b", &[]));
        assert_eq!(graph.present(kind(), meta("child", &["a", "b"])), []);
        assert_eq!(graph.gone("a"), [Action::Check("child".into())]);
        let disown = Action::Disown {
            uid: "child".into(),
            owners: vec!["a".into()],
        };
        assert_eq!(graph.judge("child", &["a".into()]), Some(disown));
        assert_eq!(
            graph.judge("child", &["a".into(), "b".into()]),
            Some(delete("child", false))
        );
        assert_eq!(graph.judge("child", &[]), None);
        assert_eq!(graph.in_namespace("ns"), 2);
    }

    #[test]
    fn an_unknown_owner_is_asked_for_before_anything_is_deleted() {
        let mut graph = Graph::default();
        assert_eq!(
            graph.present(kind(), meta("child", &["unseen"])),
            [Action::Check("child".into())]
        );
    }

    #[test]
    fn in_foreground_the_owner_waits_for_its_dependents() {
        let mut graph = Graph::default();
        graph.present(kind(), meta("owner", &[]));
        graph.present(kind(), meta("child", &["owner"]));
        let actions = graph.present(kind(), dying(meta("owner", &[]), FOREGROUND));
        assert_eq!(actions, [delete("child", true)]);
        assert_eq!(
            graph.gone("child"),
            [Action::Release {
                uid: "owner".into(),
                finalizer: FOREGROUND
            }]
        );
    }

    #[test]
    fn orphans_are_disowned_before_their_owner_goes() {
        let mut graph = Graph::default();
        graph.present(kind(), meta("child", &["owner"]));
        let actions = graph.present(kind(), dying(meta("owner", &[]), ORPHAN));
        let disown = Action::Disown {
            uid: "child".into(),
            owners: vec!["owner".into()],
        };
        assert_eq!(
            actions,
            [
                disown,
                Action::Release {
                    uid: "owner".into(),
                    finalizer: ORPHAN
                }
            ]
        );
    }
}
