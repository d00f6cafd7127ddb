//! Stateful sets: pods with fixed names, made in order, each with its own claims (K-246, K-247).

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use futures::{StreamExt, stream};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;

use super::{is, tell};

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";

pub(super) async fn run(client: Client) {
    let sets: Api<StatefulSet> = Api::all(client.clone());
    let pods: Api<Pod> = Api::all(client.clone());
    let sets = watcher(sets, watcher::Config::default())
        .map(|event| event.map(|event| touched(event, |set| key(&set))));
    let of_sets = watcher::Config::default().labels(POD_NAME);
    let pods =
        watcher(pods, of_sets).map(|event| event.map(|event| touched(event, |pod| owner(&pod))));
    let mut events = stream::select(sets.boxed(), pods.boxed());
    while let Some(event) = events.next().await {
        match event {
            Ok(Some((namespace, name))) => tell(
                "reconciling a stateful set",
                reconcile(&client, &namespace, &name).await,
            ),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "watching stateful sets");
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
        }
    }
}

type Key = (String, String);

fn touched<K>(event: Event<K>, key: impl Fn(K) -> Option<Key>) -> Option<Key> {
    match event {
        Event::Apply(object) | Event::InitApply(object) | Event::Delete(object) => key(object),
        Event::Init | Event::InitDone => None,
    }
}

fn key(set: &StatefulSet) -> Option<Key> {
    Some((set.namespace()?, set.metadata.name.clone()?))
}

fn owner(pod: &Pod) -> Option<Key> {
    let owner = pod
        .owner_references()
        .iter()
        .find(|owner| owner.kind == "StatefulSet")?;
    Some((pod.namespace()?, owner.name.clone()))
}

async fn reconcile(client: &Client, namespace: &str, name: &str) -> Result<(), kube::Error> {
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let set = match sets.get(name).await {
        Ok(set) if set.metadata.deletion_timestamp.is_none() => set,
        // Its pods go by garbage collection.
        Ok(_) => return Ok(()),
        Err(error) if is(&error, 404) => return Ok(()),
        Err(error) => return Err(error),
    };
    let Some(spec) = &set.spec else { return Ok(()) };
    let wanted = spec.replicas.unwrap_or(1).max(0);
    let revision = revision(&set);
    let parallel = spec.pod_management_policy.as_deref() == Some("Parallel");
    let (mut present, mut ready, mut available) = (0, 0, true);
    for ordinal in 0..wanted {
        let pod = pods.get_opt(&format!("{name}-{ordinal}")).await?;
        let mine = pod.filter(|pod| {
            pod.owner_references()
                .iter()
                .any(|owner| Some(&owner.uid) == set.metadata.uid.as_ref())
        });
        match mine {
            Some(pod) => {
                present += 1;
                let ended = matches!(
                    pod.status
                        .as_ref()
                        .and_then(|status| status.phase.as_deref()),
                    Some("Failed" | "Succeeded")
                );
                if ended && pod.metadata.deletion_timestamp.is_none() {
                    // Its name is needed for the next one.
                    delete(&pods, &pod).await?;
                }
                let is_ready = !ended && is_ready(&pod);
                ready += i32::from(is_ready);
                available &= is_ready;
            }
            // In order: the next only when all before it are ready.
            None if available || parallel => {
                create(client, &set, namespace, ordinal, &revision).await?;
                present += 1;
                available = false;
            }
            None => {}
        }
    }
    // Surplus pods go from the highest number down.
    let before = set
        .status
        .as_ref()
        .map_or(0, |status| status.replicas)
        .max(wanted);
    for ordinal in (wanted..before).rev() {
        if let Some(pod) = pods.get_opt(&format!("{name}-{ordinal}")).await?
            && pod.metadata.deletion_timestamp.is_none()
        {
            present += 1;
            delete(&pods, &pod).await?;
        }
    }
    let status = json!({"status": {
        "replicas": present, "readyReplicas": ready, "availableReplicas": ready, "currentReplicas": present,
        "updatedReplicas": present, "currentRevision": revision, "updateRevision": revision,
        "observedGeneration": set.metadata.generation, "collisionCount": 0,
    }});
    let same = set.status.as_ref().is_some_and(|old| {
        old.replicas == present
            && old.ready_replicas.unwrap_or(0) == ready
            && old.observed_generation == set.metadata.generation
            && old.update_revision.as_deref() == Some(&revision)
    });
    if same {
        return Ok(());
    }
    sets.patch_status(name, &PatchParams::default(), &Patch::Merge(status))
        .await
        .map(drop)
}

async fn delete(pods: &Api<Pod>, pod: &Pod) -> Result<(), kube::Error> {
    let exactly = Preconditions {
        uid: pod.uid(),
        resource_version: None,
    };
    pods.delete(
        &pod.name_any(),
        &DeleteParams::default().preconditions(exactly),
    )
    .await
    .map(drop)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions
            .into_iter()
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The name of the template's version.
fn revision(set: &StatefulSet) -> String {
    let mut hasher = DefaultHasher::new();
    let template = set.spec.as_ref().map(|spec| &spec.template);
    // A template that cannot be written as JSON could not have been read.
    serde_json::to_string(&template)
        .unwrap_or_default()
        .hash(&mut hasher);
    format!(
        "{}-{:010x}",
        set.name_any(),
        hasher.finish() & 0xff_ffff_ffff
    )
}

async fn create(
    client: &Client,
    set: &StatefulSet,
    namespace: &str,
    ordinal: i32,
    revision: &str,
) -> Result<(), kube::Error> {
    let (Some(spec), Some(owner)) = (&set.spec, set.controller_owner_ref(&())) else {
        return Ok(());
    };
    let name = format!("{}-{ordinal}", set.name_any());
    let template = &spec.template;
    let mut pod = Pod {
        spec: template.spec.clone(),
        ..Pod::default()
    };
    let meta = template.metadata.clone().unwrap_or_default();
    let mut labels: BTreeMap<String, String> = meta.labels.unwrap_or_default();
    labels.insert(POD_NAME.into(), name.clone());
    labels.insert("apps.kubernetes.io/pod-index".into(), ordinal.to_string());
    labels.insert("controller-revision-hash".into(), revision.to_owned());
    pod.metadata.name = Some(name.clone());
    pod.metadata.labels = Some(labels);
    pod.metadata.annotations = meta.annotations;
    pod.metadata.owner_references = Some(vec![owner]);
    let pod_spec = pod.spec.get_or_insert_default();
    pod_spec.hostname = Some(name.clone());
    pod_spec.subdomain = spec
        .service_name
        .clone()
        .filter(|service| !service.is_empty());
    for claim in spec.volume_claim_templates.iter().flatten() {
        let template = claim.name_any();
        let claim_name = format!("{template}-{name}");
        make_claim(client, namespace, claim, &claim_name, set).await?;
        let volumes = pod_spec.volumes.get_or_insert_default();
        volumes.retain(|volume| volume.name != template);
        volumes.push(
            serde_json::from_value(
                json!({"name": template, "persistentVolumeClaim": {"claimName": claim_name}}),
            )
            .map_err(kube::Error::SerdeError)?,
        );
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    pods.create(&PostParams::default(), &pod).await.map(drop)
}

/// The claims of a pod come before it and stay after it.
async fn make_claim(
    client: &Client,
    namespace: &str,
    template: &PersistentVolumeClaim,
    name: &str,
    set: &StatefulSet,
) -> Result<(), kube::Error> {
    let mut claim = PersistentVolumeClaim {
        spec: template.spec.clone(),
        ..PersistentVolumeClaim::default()
    };
    claim.metadata.name = Some(name.to_owned());
    claim.metadata.annotations = template.metadata.annotations.clone();
    let mut labels = template.metadata.labels.clone().unwrap_or_default();
    labels.extend(
        set.spec
            .as_ref()
            .and_then(|spec| spec.selector.match_labels.clone())
            .unwrap_or_default(),
    );
    claim.metadata.labels = Some(labels);
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    match claims.create(&PostParams::default(), &claim).await {
        Err(error) if !is(&error, 409) => Err(error),
        _ => Ok(()),
    }
}
