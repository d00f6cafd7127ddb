//! A whole cluster without a node: what Kubernetes' controller manager does, done here.

use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, PersistentVolume, PersistentVolumeClaim, Pod, ServiceAccount,
};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tektite_cluster::{Cluster, ClusterOptions, StartError};

struct Running {
    cluster: Cluster,
}

async fn start() -> Running {
    let cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    Running { cluster }
}

/// Fails the test rather than hang it.
async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    for _ in 0..3000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

async fn create<K>(api: &Api<K>, object: Value) -> K
where
    K: kube::Resource + Clone + serde::Serialize + serde::de::DeserializeOwned + std::fmt::Debug,
{
    api.create(
        &PostParams::default(),
        &serde_json::from_value(object).unwrap(),
    )
    .await
    .unwrap()
}

fn owned(name: &str, owner: &ConfigMap) -> Value {
    json!({"metadata": {"name": name, "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap",
        "name": owner.name_any(), "uid": owner.uid(), "blockOwnerDeletion": true}]}})
}

fn claim(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}}})
}

fn api<K>(client: &Client) -> Api<K>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    Api::namespaced(client.clone(), "default")
}

async fn gone<K>(api: &Api<K>, name: &str) -> bool
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    api.get_opt(name).await.unwrap().is_none()
}

#[tokio::test]
async fn dependents_follow_their_owner_as_the_deletion_says() {
    let running = start().await;
    let maps: Api<ConfigMap> = api(&running.cluster.client());
    for (policy, kept) in [
        (DeleteParams::background(), false),
        (DeleteParams::foreground(), false),
        (DeleteParams::orphan(), true),
    ] {
        let owner = create(&maps, json!({"metadata": {"name": "owner"}})).await;
        let child = create(&maps, owned("child", &owner)).await;
        create(&maps, owned("grandchild", &child)).await;
        maps.delete("owner", &policy).await.unwrap();
        until("the owner went", || gone(&maps, "owner")).await;
        if kept {
            let child = maps.get("child").await.unwrap();
            assert!(child.owner_references().is_empty(), "{policy:?}");
            maps.delete("child", &DeleteParams::default())
                .await
                .unwrap();
        }
        until("the child went", || gone(&maps, "child")).await;
        until("the grandchild went", || gone(&maps, "grandchild")).await;
    }
    // One that never had its owner is no different.
    let owner = create(&maps, json!({"metadata": {"name": "owner"}})).await;
    maps.delete("owner", &DeleteParams::default())
        .await
        .unwrap();
    create(&maps, owned("late", &owner)).await;
    until("the late child went", || gone(&maps, "late")).await;
    running.cluster.shutdown().await;
}

#[tokio::test]
async fn a_namespace_is_furnished_and_goes_with_all_it_holds() {
    // K-224, K-225, K-226, K-227
    let running = start().await;
    let client = running.cluster.client();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for _ in 0..2 {
        create(&namespaces, json!({"metadata": {"name": "team"}})).await;
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "team");
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "team");
        until("the account is there", || async {
            !gone(&accounts, "default").await
        })
        .await;
        assert!(
            maps.get("kube-root-ca.crt").await.unwrap().data.unwrap()["ca.crt"]
                .contains("BEGIN CERTIFICATE")
        );
        accounts
            .delete("default", &DeleteParams::default())
            .await
            .unwrap();
        until("the account is back", || async {
            !gone(&accounts, "default").await
        })
        .await;
        assert!(
            gone(&maps, "mine").await,
            "nothing of an earlier namespace is left"
        );
        create(&maps, json!({"metadata": {"name": "mine"}})).await;
        let phase = namespaces
            .delete("team", &DeleteParams::default())
            .await
            .unwrap();
        let phase = phase
            .left()
            .and_then(|namespace| namespace.status)
            .and_then(|status| status.phase);
        assert_eq!(phase.as_deref(), Some("Terminating"));
        until("the namespace went", || gone(&namespaces, "team")).await;
    }
    running.cluster.shutdown().await;
}

#[tokio::test]
async fn a_claim_is_bound_to_a_directory_that_goes_with_it() {
    // K-250, K-253
    let running = start().await;
    let client = running.cluster.client();
    let claims: Api<PersistentVolumeClaim> = api(&client);
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    create(&claims, claim("data")).await;
    let phase = |claim: &PersistentVolumeClaim| {
        claim
            .status
            .clone()
            .unwrap_or_default()
            .phase
            .unwrap_or_default()
    };
    until("the claim is bound", || async {
        phase(&claims.get("data").await.unwrap()) == "Bound"
    })
    .await;
    let bound = claims.get("data").await.unwrap();
    assert_eq!(bound.status.unwrap().capacity.unwrap()["storage"].0, "1Gi");
    let name = bound.spec.unwrap().volume_name.unwrap();
    let volume = volumes.get(&name).await.unwrap();
    assert_eq!(volume.status.unwrap().phase.as_deref(), Some("Bound"));
    let path = volume.spec.unwrap().host_path.unwrap().path;
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o777
    );
    fs::write(Path::new(&path).join("file"), "data").unwrap();
    claims
        .delete("data", &DeleteParams::default())
        .await
        .unwrap();
    until("the volume went", || gone(&volumes, &name)).await;
    assert!(!Path::new(&path).exists());
    running.cluster.shutdown().await;
}

#[tokio::test]
async fn a_claim_in_use_waits_for_its_pod() {
    // K-252
    let running = start().await;
    let client = running.cluster.client();
    let (claims, pods): (Api<PersistentVolumeClaim>, Api<Pod>) = (api(&client), api(&client));
    create(&claims, claim("data")).await;
    let pod = json!({"metadata": {"name": "user"}, "spec": {"nodeName": "elsewhere", "containers": [{"name": "c", "image": "i"}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}});
    create(&pods, pod).await;
    claims
        .delete("data", &DeleteParams::default())
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(
        claims
            .get("data")
            .await
            .unwrap()
            .metadata
            .deletion_timestamp
            .is_some()
    );
    pods.delete("user", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    until("the claim went", || gone(&claims, "data")).await;
    running.cluster.shutdown().await;
}

#[tokio::test]
async fn a_stateful_set_makes_its_pods_in_order_and_again() {
    // K-246, K-247
    let running = start().await;
    let client = running.cluster.client();
    let (sets, pods): (Api<StatefulSet>, Api<Pod>) = (api(&client), api(&client));
    let claims: Api<PersistentVolumeClaim> = api(&client);
    let set = json!({"metadata": {"name": "s"}, "spec": {"replicas": 2, "serviceName": "",
        "selector": {"matchLabels": {"app": "s"}},
        "template": {"metadata": {"labels": {"app": "s"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        "volumeClaimTemplates": [claim("data")]}});
    create(&sets, set).await;
    until("the first pod is there", || async {
        !gone(&pods, "s-0").await
    })
    .await;
    assert!(!gone(&claims, "data-s-0").await);
    let first = pods.get("s-0").await.unwrap();
    assert_eq!(first.labels()["statefulset.kubernetes.io/pod-name"], "s-0");
    assert_eq!(first.spec.unwrap().hostname.as_deref(), Some("s-0"));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(gone(&pods, "s-1").await, "the second waits for the first");
    let ready = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    for name in ["s-0", "s-1"] {
        until("the pod is there", || async { !gone(&pods, name).await }).await;
        pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(&ready))
            .await
            .unwrap();
    }
    let count = || async {
        sets.get("s")
            .await
            .unwrap()
            .status
            .unwrap_or_default()
            .ready_replicas
    };
    until("both are counted", || async { count().await == Some(2) }).await;
    let uid = pods.get("s-0").await.unwrap().uid();
    pods.delete("s-0", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    until("the pod is back", || async {
        pods.get_opt("s-0")
            .await
            .unwrap()
            .is_some_and(|pod| pod.uid() != uid)
    })
    .await;
    sets.delete("s", &DeleteParams::background()).await.unwrap();
    until("the pods went", || async {
        pods.list(&Default::default())
            .await
            .unwrap()
            .items
            .iter()
            .all(|pod| pod.metadata.deletion_timestamp.is_some())
    })
    .await;
    assert!(!gone(&claims, "data-s-0").await, "claims stay");
    running.cluster.shutdown().await;
}

#[tokio::test]
async fn a_durable_cluster_keeps_its_objects_and_keys_and_is_held_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let any = Some(([127, 0, 0, 1], 0).into());
    let durable = || ClusterOptions {
        data_dir: Some(data.clone()),
        listen: any,
    };
    let cluster = Cluster::start(durable()).await.unwrap();
    let refused = Cluster::start(durable()).await;
    assert!(
        matches!(refused, Err(StartError::InUse { holder: Some(pid), .. }) if pid == std::process::id())
    );
    let maps: Api<ConfigMap> = api(&cluster.client());
    create(&maps, json!({"metadata": {"name": "kept"}})).await;
    let kubeconfig = cluster.kubeconfig().unwrap().to_owned();
    assert_eq!(
        fs::metadata(&kubeconfig).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(
        fs::read_to_string(&kubeconfig)
            .unwrap()
            .contains(&cluster.address().unwrap().to_string())
    );
    cluster.shutdown().await;
    let cluster = Cluster::start(durable()).await.unwrap();
    let maps: Api<ConfigMap> = api(&cluster.client());
    assert!(!gone(&maps, "kept").await);
    cluster.shutdown().await;
}

#[tokio::test]
async fn volumes_whose_claims_went_unseen_go_at_the_next_start() {
    // K-253
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let durable = || ClusterOptions {
        data_dir: Some(data.clone()),
        listen: None,
    };
    let cluster = Cluster::start(durable()).await.unwrap();
    let claims: Api<PersistentVolumeClaim> = api(&cluster.client());
    create(&claims, claim("kept")).await;
    until("the claim is bound", || async {
        let claim = claims.get("kept").await.unwrap();
        claim
            .status
            .is_some_and(|status| status.phase.as_deref() == Some("Bound"))
    })
    .await;
    let kept = claims.get("kept").await.unwrap().spec.unwrap();
    let directory = |name: &str| data.join("volumes").join(name);
    let lost = json!({
        "metadata": {"name": "pvc-lost", "annotations": {"pv.kubernetes.io/provisioned-by": "tektite.dev/directory"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "storageClassName": "standard",
            "persistentVolumeReclaimPolicy": "Delete", "hostPath": {"path": directory("pvc-lost")}},
    });
    let volumes: Api<PersistentVolume> = Api::all(cluster.client());
    create(&volumes, lost).await;
    cluster.shutdown().await;
    for name in ["pvc-lost", "pvc-unwritten", "other"] {
        fs::create_dir(directory(name)).unwrap();
    }
    let cluster = Cluster::start(durable()).await.unwrap();
    let volumes: Api<PersistentVolume> = Api::all(cluster.client());
    until("the volume went", || gone(&volumes, "pvc-lost")).await;
    for name in ["pvc-lost", "pvc-unwritten"] {
        until("its directory went", || async { !directory(name).exists() }).await;
    }
    assert!(directory(&kept.volume_name.unwrap()).exists());
    assert!(directory("other").exists(), "it is somebody else's");
    cluster.shutdown().await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_refused() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().ok();
    let refused = Cluster::start(ClusterOptions {
        listen,
        ..ClusterOptions::default()
    })
    .await;
    assert!(matches!(refused, Err(StartError::Listen { .. })));
}
