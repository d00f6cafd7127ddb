//! Provisions PersistentVolumeClaims as directories of this machine (K-250 to K-253).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::directories::Directories;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt as _};
use serde_json::json;

/// The class that exists out of the box, and what provisions it.
const CLASS: &str = "standard";
const PROVISIONER: &str = "tektite.dev/directory";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// What the names of provisioned volumes, and of their directories, begin with.
const PREFIX: &str = "pvc-";
const PROTECTION: &str = "kubernetes.io/pvc-protection";

/// Works until it is dropped. `volumes` is the directory of all volumes.
pub async fn run(client: kube::Client, volumes: PathBuf, directories: Directories) {
    let provisioner = Provisioner {
        client,
        volumes,
        directories,
    };
    let claims: Api<PersistentVolumeClaim> = Api::all(provisioner.client.clone());
    let pods: Api<PartialObjectMeta<Pod>> = Api::all(provisioner.client.clone());
    let mut claim_events = watcher::watcher(claims, watcher::Config::default()).boxed();
    let mut pod_events = watcher::watcher(pods, watcher::Config::default()).boxed();
    let mut listed = BTreeSet::new();
    loop {
        tokio::select! {
            event = claim_events.try_next() => match event {
                Ok(Some(Event::Init)) => listed.clear(),
                Ok(Some(Event::InitApply(claim))) => {
                    listed.extend(claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()));
                    listed.insert(own_volume(&claim));
                    provisioner.settle(claim).await;
                }
                Ok(Some(Event::InitDone)) => provisioner.sweep(&std::mem::take(&mut listed)).await,
                Ok(Some(Event::Apply(claim))) => provisioner.settle(claim).await,
                Ok(Some(Event::Delete(claim))) => provisioner.reclaim(&claim).await,
                Ok(None) => return,
                Err(error) => retry("claims", &error).await,
            },
            event = pod_events.try_next() => match event {
                // A pod that is gone may have been the last to hold a claim that is to go.
                Ok(Some(Event::Delete(pod))) => {
                    provisioner.release(&pod.namespace().unwrap_or_default()).await;
                }
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(error) => retry("pods", &error).await,
            },
        }
    }
}

async fn retry(what: &str, error: &watcher::Error) {
    tracing::warn!(%error, what, "watching");
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
}

/// Makes the one class, marked default (K-250).
pub async fn storage_class(client: &kube::Client) -> kube::Result<()> {
    let class: StorageClass = serde_json::from_value(json!({
        "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
    }))
    .map_err(kube::Error::SerdeError)?;
    match Api::all(client.clone())
        .create(&PostParams::default(), &class)
        .await
    {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        other => other.map(drop),
    }
}

struct Provisioner {
    client: kube::Client,
    volumes: PathBuf,
    directories: Directories,
}

impl Provisioner {
    /// Binds a claim that waits for a volume; lets go of one that is to be deleted and unused.
    async fn settle(&self, claim: PersistentVolumeClaim) {
        let outcome = if claim.metadata.deletion_timestamp.is_some() {
            self.unprotect(&claim).await
        } else if is_bound(&claim) || !is_ours(&claim) {
            Ok(())
        } else {
            self.bind(&claim).await
        };
        if let Err(error) = outcome {
            tracing::warn!(%error, claim = claim.name_any(), "provisioning");
        }
    }

    async fn bind(&self, claim: &PersistentVolumeClaim) -> kube::Result<()> {
        let (uid, name) = (claim.uid().unwrap_or_default(), claim.name_any());
        let namespace = claim.namespace().unwrap_or_default();
        let volume = own_volume(claim);
        let directory = self.volumes.join(&volume);
        if let Err(error) = make_volume(&directory) {
            tracing::error!(%error, path = %directory.display(), "cannot make the directory of a volume");
            return Ok(());
        }
        let spec = claim.spec.clone().unwrap_or_default();
        let modes = spec.access_modes.clone().unwrap_or_default();
        let capacity: BTreeMap<_, _> = spec.resources.and_then(|r| r.requests).unwrap_or_default();
        let persistent: PersistentVolume = serde_json::from_value(json!({
            "metadata": {"name": volume, "annotations": {PROVISIONED_BY: PROVISIONER}},
            "spec": {
                "accessModes": modes,
                "capacity": capacity,
                "hostPath": {"path": directory, "type": ""},
                "persistentVolumeReclaimPolicy": "Delete",
                "storageClassName": CLASS,
                "volumeMode": "Filesystem",
                "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": name, "namespace": namespace, "uid": uid},
            },
        }))
        .map_err(kube::Error::SerdeError)?;
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        match volumes.create(&PostParams::default(), &persistent).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            other => drop(other?),
        }
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &namespace);
        let bound = json!({
            "metadata": {"annotations": {
                "pv.kubernetes.io/bind-completed": "yes",
                "pv.kubernetes.io/bound-by-controller": "yes",
                "volume.kubernetes.io/storage-provisioner": PROVISIONER,
            }},
            "spec": {"volumeName": volume},
        });
        claims
            .patch(&name, &PatchParams::default(), &Patch::Merge(&bound))
            .await?;
        let status =
            json!({"status": {"phase": "Bound", "accessModes": modes, "capacity": capacity}});
        claims
            .patch_status(&name, &PatchParams::default(), &Patch::Merge(&status))
            .await?;
        let status = json!({"status": {"phase": "Bound"}});
        volumes
            .patch_status(&volume, &PatchParams::default(), &Patch::Merge(&status))
            .await?;
        Ok(())
    }

    /// Takes the protection off a claim that no pod refers to any more (K-252).
    async fn unprotect(&self, claim: &PersistentVolumeClaim) -> kube::Result<()> {
        let finalizers = claim.metadata.finalizers.clone().unwrap_or_default();
        if !finalizers.iter().any(|f| f == PROTECTION) {
            return Ok(());
        }
        let (namespace, name) = (claim.namespace().unwrap_or_default(), claim.name_any());
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        if pods
            .list(&Default::default())
            .await?
            .iter()
            .any(|pod| uses(pod, &name))
        {
            return Ok(());
        }
        let rest: Vec<String> = finalizers.into_iter().filter(|f| f != PROTECTION).collect();
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &namespace);
        let patch = json!({"metadata": {"finalizers": rest}});
        match claims
            .patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
        {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(drop),
        }
    }

    /// Looks again at the claims of a namespace that are to be deleted.
    async fn release(&self, namespace: &str) {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
        let Ok(list) = claims.list(&Default::default()).await else {
            return;
        };
        for claim in list
            .items
            .into_iter()
            .filter(|c| c.metadata.deletion_timestamp.is_some())
        {
            self.settle(claim).await;
        }
    }

    /// Removes the volume of a claim that is gone, and what was in it.
    async fn reclaim(&self, claim: &PersistentVolumeClaim) {
        let named = claim
            .spec
            .as_ref()
            .and_then(|spec| spec.volume_name.clone())
            .filter(|name| !name.is_empty());
        self.reclaim_volume(&named.unwrap_or_else(|| own_volume(claim)))
            .await;
    }

    /// Reclaims what was provisioned for claims that are gone without anybody having seen it: the process died between a
    /// claim's end and its volume's, or before the claim, or its volume, was on disk. `kept` are the volumes of claims.
    async fn sweep(&self, kept: &BTreeSet<String>) {
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let list = match volumes.list(&Default::default()).await {
            Ok(list) => list.items,
            Err(error) => return tracing::warn!(%error, "listing volumes"),
        };
        let provisioned = list
            .iter()
            .filter(|volume| {
                volume
                    .annotations()
                    .get(PROVISIONED_BY)
                    .is_some_and(|by| by == PROVISIONER)
            })
            .map(|volume| volume.name_any());
        let directories = fs::read_dir(&self.volumes).into_iter().flatten().flatten();
        let directories = directories.filter_map(|entry| entry.file_name().into_string().ok());
        let left: BTreeSet<String> = provisioned
            .chain(directories)
            .filter(|name| name.starts_with(PREFIX) && !kept.contains(name))
            .collect();
        for volume in left {
            self.reclaim_volume(&volume).await;
        }
    }

    async fn remove_files(&self, volume: &str, directory: PathBuf) {
        if let Err(error) = self.directories.remove(directory).await {
            tracing::warn!(%error, volume, "the files of a deleted volume stay");
        }
    }

    async fn reclaim_volume(&self, volume: &str) {
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let found = match volumes.get_opt(volume).await {
            Ok(Some(found)) => found,
            Ok(None) if volume.starts_with(PREFIX) => {
                return self.remove_files(volume, self.volumes.join(volume)).await;
            }
            Ok(None) => return,
            Err(error) => return tracing::warn!(%error, volume, "reclaiming"),
        };
        let spec = found.spec.unwrap_or_default();
        if spec.persistent_volume_reclaim_policy.as_deref() != Some("Delete") {
            let status = json!({"status": {"phase": "Released"}});
            let _ = volumes
                .patch_status(volume, &PatchParams::default(), &Patch::Merge(&status))
                .await;
            return;
        }
        let _ = volumes.delete(volume, &DeleteParams::default()).await;
        // Only what was provisioned here: a volume made by hand keeps its directory.
        let directory = self.volumes.join(volume);
        if spec
            .host_path
            .is_some_and(|path| Path::new(&path.path) == directory)
        {
            self.remove_files(volume, directory).await;
        }
        // Its claim is gone, so nothing is left to protect it for, and its data went first.
        let unprotected = json!({"metadata": {"finalizers": null}});
        let _ = volumes
            .patch(volume, &PatchParams::default(), &Patch::Merge(&unprotected))
            .await;
    }
}

/// Any user of a container may write, as on a volume that a provisioner hands out.
fn make_volume(directory: &Path) -> std::io::Result<()> {
    let mut private = fs::DirBuilder::new();
    private.recursive(true).mode(0o700).create(directory)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777))
}

/// Name of the volume that is provisioned for a claim.
fn own_volume(claim: &PersistentVolumeClaim) -> String {
    format!("{PREFIX}{}", claim.uid().unwrap_or_default())
}

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        == Some("Bound")
}

/// Whether the claim is for the built-in class and asks for no volume in particular that somebody else made.
fn is_ours(claim: &PersistentVolumeClaim) -> bool {
    let spec = claim.spec.as_ref();
    let class = spec.and_then(|spec| spec.storage_class_name.as_deref());
    let volume = spec
        .and_then(|spec| spec.volume_name.as_deref())
        .unwrap_or_default();
    matches!(class, None | Some(CLASS)) && (volume.is_empty() || volume == own_volume(claim))
}

fn uses(pod: &Pod, claim: &str) -> bool {
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(|volume| volume.persistent_volume_claim.as_ref())
        .any(|source| source.claim_name == claim)
}
