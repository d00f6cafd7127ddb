//! Deletes what nobody owns any more (background, foreground, orphan).

use std::collections::{HashMap, HashSet};

use futures::stream::SelectAll;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{
    Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy,
};
use kube::core::{ApiResource, PartialObjectMeta};
use kube::discovery::{Discovery, Scope, verbs};
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt as _};
use serde_json::json;

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// Kinds that own nothing and are owned by nothing worth the watch.
const IGNORED: [&str; 3] = ["Event", "Lease", "EndpointSlice"];

type Metadata = PartialObjectMeta<DynamicObject>;

/// Works until it is dropped.
pub async fn run(client: Client) {
    let definitions: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(client.clone());
    let mut definition_events = watcher::watcher(definitions, watcher::Config::default()).boxed();
    let mut watched = HashSet::new();
    let mut streams = SelectAll::new();
    let mut graph = Graph {
        client: client.clone(),
        objects: HashMap::new(),
        dependents: HashMap::new(),
    };
    let mut listed = false;
    discover(&client, &mut watched, &mut streams).await;
    loop {
        tokio::select! {
            event = definition_events.try_next() => match event {
                Ok(Some(Event::InitDone)) => listed = true,
                // What was there at the start has been discovered already.
                Ok(Some(Event::Apply(_))) if listed => discover(&client, &mut watched, &mut streams).await,
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(200)).await,
            },
            Some((resource, event)) = streams.next() => match event {
                Ok(Event::Apply(object) | Event::InitApply(object)) => graph.seen(&resource, &object).await,
                Ok(Event::Delete(object)) => graph.gone(&object.uid().unwrap_or_default()).await,
                Ok(Event::Init | Event::InitDone) => {}
                Err(error) => tracing::debug!(%error, kind = resource.kind, "watching for garbage"),
            },
        }
    }
}

type Watch = futures::stream::BoxStream<'static, (ApiResource, watcher::Result<Event<Metadata>>)>;

/// Watches the kinds that are not watched yet.
async fn discover(client: &Client, watched: &mut HashSet<String>, streams: &mut SelectAll<Watch>) {
    let discovery = match Discovery::new(client.clone()).run_aggregated().await {
        Ok(discovery) => discovery,
        Err(error) => {
            tracing::warn!(%error, "discovering kinds");
            return;
        }
    };
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            let supported = capabilities.supports_operation(verbs::WATCH)
                && capabilities.supports_operation(verbs::DELETE);
            if !supported || IGNORED.contains(&resource.kind.as_str()) {
                continue;
            }
            if !watched.insert(format!("{}/{}", resource.group, resource.kind)) {
                continue;
            }
            debug_assert!(matches!(
                capabilities.scope,
                Scope::Cluster | Scope::Namespaced
            ));
            let api: Api<Metadata> = Api::all_with(client.clone(), &resource);
            let events = watcher::watcher(api, watcher::Config::default());
            streams.push(events.map(move |event| (resource.clone(), event)).boxed());
        }
    }
}

/// One object: where it is and whom it belongs to.
struct Known {
    resource: ApiResource,
    namespace: Option<String>,
    name: String,
    owners: Vec<OwnerReference>,
    /// It is deleted in the foreground: gone once its blocking dependents are.
    foreground: bool,
}

/// Who owns whom, by UID.
struct Graph {
    client: Client,
    objects: HashMap<String, Known>,
    dependents: HashMap<String, HashSet<String>>,
}

impl Graph {
    async fn seen(&mut self, resource: &ApiResource, object: &Metadata) {
        let uid = object.uid().unwrap_or_default();
        let owners = object.metadata.owner_references.clone().unwrap_or_default();
        let deleting = object.metadata.deletion_timestamp.is_some();
        let finalizers = object.finalizers().to_vec();
        let new = !self.objects.contains_key(&uid);
        for owner in &owners {
            self.dependents
                .entry(owner.uid.clone())
                .or_default()
                .insert(uid.clone());
        }
        let known = Known {
            resource: resource.clone(),
            namespace: object.namespace(),
            name: object.name_any(),
            owners: owners.clone(),
            foreground: deleting && finalizers.iter().any(|f| f == FOREGROUND),
        };
        let foreground = known.foreground;
        self.objects.insert(uid.clone(), known);
        if new && !owners.is_empty() && self.all_gone(&uid, &owners).await {
            self.delete(&uid, PropagationPolicy::Background).await;
            return;
        }
        if deleting && finalizers.iter().any(|f| f == ORPHAN) {
            self.orphan(&uid).await;
            self.drop_finalizer(&uid, ORPHAN, &finalizers).await;
        } else if foreground {
            self.delete_dependents(&uid).await;
            if self.blocking(&uid) == 0 {
                self.drop_finalizer(&uid, FOREGROUND, &finalizers).await;
            }
        }
    }

    async fn gone(&mut self, uid: &str) {
        let Some(known) = self.objects.remove(uid) else {
            return;
        };
        for owner in &known.owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(uid);
            }
            let waits = self
                .objects
                .get(&owner.uid)
                .is_some_and(|owner| owner.foreground);
            if waits && self.blocking(&owner.uid) == 0 {
                self.drop_finalizer(&owner.uid, FOREGROUND, &[FOREGROUND.to_owned()])
                    .await;
            }
        }
        let Some(dependents) = self.dependents.remove(uid) else {
            return;
        };
        for dependent in dependents {
            let owners = self
                .objects
                .get(&dependent)
                .map(|known| known.owners.clone());
            if let Some(owners) = owners
                && !owners
                    .iter()
                    .any(|owner| self.objects.contains_key(&owner.uid))
            {
                self.delete(&dependent, PropagationPolicy::Background).await;
            }
        }
    }

    /// Whether none of the owners exists: what the watches have not shown is asked for.
    async fn all_gone(&self, uid: &str, owners: &[OwnerReference]) -> bool {
        let Some(known) = self.objects.get(uid) else {
            return false;
        };
        for owner in owners {
            if self.objects.contains_key(&owner.uid) || self.exists(known, owner).await {
                return false;
            }
        }
        true
    }

    async fn exists(&self, dependent: &Known, owner: &OwnerReference) -> bool {
        let resource = self
            .objects
            .values()
            .map(|known| &known.resource)
            .find(|r| {
                r.kind == owner.kind
                    && r.api_version.split('/').next() == owner.api_version.split('/').next()
            })
            .cloned();
        let Some(resource) = resource else {
            return true;
        };
        for api in [
            dependent.namespace.as_deref().map(|ns| {
                Api::<DynamicObject>::namespaced_with(self.client.clone(), ns, &resource)
            }),
            Some(Api::all_with(self.client.clone(), &resource)),
        ]
        .into_iter()
        .flatten()
        {
            match api.get_metadata_opt(&owner.name).await {
                Ok(Some(found)) => return found.uid().as_deref() == Some(owner.uid.as_str()),
                Ok(None) => return false,
                Err(_) => {}
            }
        }
        true
    }

    fn api(&self, known: &Known) -> Api<DynamicObject> {
        match &known.namespace {
            Some(namespace) => {
                Api::namespaced_with(self.client.clone(), namespace, &known.resource)
            }
            None => Api::all_with(self.client.clone(), &known.resource),
        }
    }

    async fn delete(&self, uid: &str, policy: PropagationPolicy) {
        let Some(known) = self.objects.get(uid) else {
            return;
        };
        let parameters = DeleteParams {
            propagation_policy: Some(policy),
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        if let Err(error) = self.api(known).delete(&known.name, &parameters).await
            && !matches!(&error, kube::Error::Api(status) if matches!(status.code, 404 | 409))
        {
            tracing::warn!(%error, kind = known.resource.kind, name = known.name, "deleting garbage");
        }
    }

    async fn delete_dependents(&self, uid: &str) {
        for dependent in self.dependents.get(uid).into_iter().flatten() {
            self.delete(dependent, PropagationPolicy::Foreground).await;
        }
    }

    /// How many existing dependents hold up the foreground deletion of their owner.
    fn blocking(&self, uid: &str) -> usize {
        let dependents = self.dependents.get(uid).into_iter().flatten();
        dependents
            .filter_map(|dependent| self.objects.get(dependent))
            .filter(|known| {
                known
                    .owners
                    .iter()
                    .any(|o| o.uid == uid && o.block_owner_deletion == Some(true))
            })
            .count()
    }

    async fn orphan(&mut self, uid: &str) {
        for dependent in self.dependents.remove(uid).unwrap_or_default() {
            let Some(known) = self.objects.get(&dependent) else {
                continue;
            };
            let rest: Vec<_> = known
                .owners
                .iter()
                .filter(|owner| owner.uid != uid)
                .collect();
            let patch = json!({"metadata": {"uid": dependent, "ownerReferences": rest}});
            let _ = self
                .api(known)
                .patch_metadata(&known.name, &PatchParams::default(), &Patch::Merge(&patch))
                .await;
        }
    }

    async fn drop_finalizer(&self, uid: &str, finalizer: &str, all: &[String]) {
        let Some(known) = self.objects.get(uid) else {
            return;
        };
        let rest: Vec<&String> = all.iter().filter(|f| *f != finalizer).collect();
        let patch = json!({"metadata": {"uid": uid, "finalizers": rest}});
        let _ = self
            .api(known)
            .patch_metadata(&known.name, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
    }
}
