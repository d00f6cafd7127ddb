//! Garbage collection and the life of namespaces, on the one stream of what is seen.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kube::api::{
    DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy,
};
use kube::core::{ApiResource, GroupVersion};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc::UnboundedReceiver;

use super::feed::{Kind, Seen};
use super::graph::{Action, Graph, Object};
use super::{is, namespaces, tell};

pub(super) async fn run(client: Client, mut events: UnboundedReceiver<Seen>) {
    let mut collector = Collector {
        client,
        graph: Graph::default(),
        kinds: HashMap::new(),
        complete: HashSet::new(),
        waiting: HashSet::new(),
        terminating: HashMap::new(),
    };
    while let Some(seen) = events.recv().await {
        collector.hear(seen).await;
    }
}

struct Collector {
    client: Client,
    graph: Graph,
    kinds: HashMap<String, Arc<Kind>>,
    /// Kinds whose objects are all known.
    complete: HashSet<String>,
    /// Dependents whose owners are asked for once every kind is complete.
    waiting: HashSet<String>,
    /// Namespaces on their way out, by name, and whether their content has been deleted.
    terminating: HashMap<String, bool>,
}

impl Collector {
    async fn hear(&mut self, seen: Seen) {
        let actions = match seen {
            Seen::Kind(kind) => {
                self.kinds.insert(kind.id(), kind);
                Vec::new()
            }
            Seen::Unserved(id) => {
                self.kinds.remove(&id);
                self.complete.remove(&id);
                let gone = self.graph.of_kind(&id);
                gone.iter().flat_map(|uid| self.graph.gone(uid)).collect()
            }
            Seen::Complete(kind, listed) => {
                let gone: Vec<String> = self
                    .graph
                    .of_kind(&kind.id())
                    .into_iter()
                    .filter(|uid| !listed.contains(uid))
                    .collect();
                self.complete.insert(kind.id());
                let mut actions: Vec<Action> =
                    gone.iter().flat_map(|uid| self.graph.gone(uid)).collect();
                if self.is_complete() {
                    actions.extend(
                        std::mem::take(&mut self.waiting)
                            .into_iter()
                            .map(Action::Check),
                    );
                }
                actions
            }
            Seen::Present(kind, meta) => {
                let namespace = (kind.id() == "namespaces." && meta.deletion_timestamp.is_some())
                    .then(|| meta.name.clone().unwrap_or_default());
                if let Some(namespace) = namespace {
                    self.terminating.entry(namespace).or_insert(false);
                }
                self.graph.present(kind, *meta)
            }
            Seen::Gone(meta) => self.gone(meta.uid.as_deref().unwrap_or_default()).await,
        };
        for action in actions {
            self.act(action).await;
        }
        self.finish_namespaces().await;
    }

    fn is_complete(&self) -> bool {
        self.kinds.keys().all(|id| self.complete.contains(id))
    }

    async fn gone(&mut self, uid: &str) -> Vec<Action> {
        let object = self.graph.get(uid).cloned();
        let actions = self.graph.gone(uid);
        if let Some(object) = object {
            match object.kind.id().as_str() {
                "namespaces." => drop(self.terminating.remove(&object.name)),
                "serviceaccounts." | "configmaps."
                    if !self.terminating.contains_key(&object.namespace) =>
                {
                    namespaces::restore(&self.client, &object).await;
                }
                _ => {}
            }
        }
        actions
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::Check(uid) if !self.is_complete() => drop(self.waiting.insert(uid)),
            Action::Check(uid) => {
                let absent = self.absent_owners(&uid).await;
                if let Some(action) = self.graph.judge(&uid, &absent) {
                    Box::pin(self.act(action)).await;
                }
            }
            Action::Delete { uid, foreground } => {
                let Some(object) = self.graph.get(&uid) else {
                    return;
                };
                let policy = if foreground {
                    PropagationPolicy::Foreground
                } else {
                    PropagationPolicy::Background
                };
                let mut parameters = DeleteParams {
                    propagation_policy: Some(policy),
                    ..DeleteParams::default()
                };
                parameters.preconditions = Some(Preconditions {
                    uid: Some(uid.clone()),
                    resource_version: None,
                });
                let api = self.api(object);
                let deleted = api.delete(&object.name, &parameters).await.map(drop);
                tell("collecting garbage", deleted);
            }
            Action::Release { uid, finalizer } => {
                let Some(object) = self.graph.get(&uid) else {
                    return;
                };
                let left: Vec<_> = object
                    .finalizers
                    .iter()
                    .filter(|it| *it != finalizer)
                    .collect();
                let patch = json!({"metadata": {"uid": uid, "finalizers": left}});
                self.patch(object, patch).await;
            }
            Action::Disown { uid, owners } => {
                let Some(object) = self.graph.get(&uid) else {
                    return;
                };
                let left: Vec<_> = object
                    .owners
                    .iter()
                    .filter(|owner| !owners.contains(&owner.uid))
                    .collect();
                let patch = json!({"metadata": {"uid": uid, "ownerReferences": left}});
                self.patch(object, patch).await;
            }
        }
    }

    async fn patch(&self, object: &Object, patch: serde_json::Value) {
        let patched = self
            .api(object)
            .patch_metadata(&object.name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        tell("releasing an object", patched.map(drop));
    }

    fn api(&self, object: &Object) -> Api<DynamicObject> {
        let resource = &object.kind.resource;
        match object.kind.namespaced {
            true => Api::namespaced_with(self.client.clone(), &object.namespace, resource),
            false => Api::all_with(self.client.clone(), resource),
        }
    }

    /// The owners of which the API itself says that they do not exist.
    async fn absent_owners(&self, uid: &str) -> Vec<String> {
        let Some(object) = self.graph.get(uid) else {
            return Vec::new();
        };
        let mut absent = Vec::new();
        for owner in object
            .owners
            .iter()
            .filter(|owner| self.graph.get(&owner.uid).is_none())
        {
            let group = owner
                .api_version
                .parse::<GroupVersion>()
                .map(|version| version.group)
                .unwrap_or_default();
            let known = self
                .kinds
                .values()
                .find(|kind| kind.resource.group == group && kind.resource.kind == owner.kind);
            // An owner of a kind that is not served cannot be judged.
            let Some(kind) = known else { continue };
            let resource: &ApiResource = &kind.resource;
            let api: Api<DynamicObject> = match kind.namespaced {
                true => Api::namespaced_with(self.client.clone(), &object.namespace, resource),
                false => Api::all_with(self.client.clone(), resource),
            };
            match api.get_metadata(&owner.name).await {
                Ok(found) if found.metadata.uid.as_deref() == Some(&owner.uid) => {}
                Ok(_) => absent.push(owner.uid.clone()),
                Err(error) if is(&error, 404) => absent.push(owner.uid.clone()),
                Err(error) => tracing::warn!(%error, owner = owner.name, "asking for an owner"),
            }
        }
        absent
    }

    /// Empties namespaces that are being deleted, and lets them go when they are empty (K-226).
    async fn finish_namespaces(&mut self) {
        // Nearly always none is, which is sooner seen than whether every kind is known.
        if self.terminating.is_empty() || !self.is_complete() {
            return;
        }
        let names: Vec<String> = self.terminating.keys().cloned().collect();
        for name in names {
            if self.terminating.get(&name) == Some(&false) {
                let kinds: Vec<Arc<Kind>> = self
                    .kinds
                    .values()
                    .filter(|kind| kind.namespaced)
                    .cloned()
                    .collect();
                let emptied = namespaces::empty(&self.client, &name, &kinds).await;
                self.terminating.insert(name.clone(), emptied);
            }
            if self.terminating.get(&name) == Some(&true) && self.graph.in_namespace(&name) == 0 {
                self.terminating.remove(&name);
                namespaces::finalize(&self.client, &name).await;
            }
        }
    }
}
