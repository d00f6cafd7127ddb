//! The admission that needs no configuration: service accounts, priorities, tolerations, storage classes, addresses
//! (K-200 to K-208, K-237).

use std::collections::BTreeSet;
use std::time::Duration;

use rand::Rng as _;
use serde_json::{Map, Value, json};

use super::{Operation, Review};
use crate::builtin::defaults;
use crate::error::ApiError;
use crate::handler;
use crate::registry::Resource;
use crate::server::Inner;

const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The namespace's `default` account may be made a moment after the namespace.
const ACCOUNT_ATTEMPTS: usize = 20;
const ACCOUNT_PAUSE: Duration = Duration::from_millis(50);

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

impl Inner {
    /// Runs the built-in plugins on a new or changed object.
    pub(crate) async fn admit_built_in(
        &self,
        review: &Review<'_>,
        object: &mut Value,
    ) -> Result<(), ApiError> {
        if review.resource.is("", "pods") && review.operation == Operation::Create {
            self.limit_pod(review, object)?;
            self.admit_service_account(review, object).await?;
            self.admit_priority(review, object)?;
            tolerate(object);
            self.admit_runtime_class(review, object)?;
            self.admit_pod_security(review, object)?;
        }
        if review.operation == Operation::Create {
            if review.resource.is("", "persistentvolumeclaims") {
                protect(object, "kubernetes.io/pvc-protection");
                self.default_storage_class(object);
                self.limit_claim(review, object)?;
            }
            if review.resource.is("", "persistentvolumes") {
                protect(object, "kubernetes.io/pv-protection");
            }
        }
        Ok(())
    }

    /// K-200, K-201
    async fn admit_service_account(
        &self,
        review: &Review<'_>,
        pod: &mut Value,
    ) -> Result<(), ApiError> {
        if pod
            .pointer("/metadata/annotations/kubernetes.io~1config.mirror")
            .is_some()
        {
            return Ok(());
        }
        let mut name = text(pod, "/spec/serviceAccountName").to_owned();
        if name.is_empty() {
            name = "default".into();
        }
        pod["spec"]["serviceAccountName"] = name.as_str().into();
        pod["spec"]["serviceAccount"] = name.as_str().into();
        let mut found = self.storage.get("serviceaccounts", review.namespace, &name);
        for _ in 0..ACCOUNT_ATTEMPTS {
            if found.is_some() || name != "default" {
                break;
            }
            tokio::time::sleep(ACCOUNT_PAUSE).await;
            found = self.storage.get("serviceaccounts", review.namespace, &name);
        }
        let Some(account) = found else {
            let why = format!(
                "error looking up service account {}/{name}: serviceaccount \"{name}\" not found",
                review.namespace
            );
            return Err(ApiError::forbidden(
                review.resource.about(),
                text(pod, "/metadata/name"),
                &why,
            ));
        };
        let account = account.value();
        let automount = pod
            .pointer("/spec/automountServiceAccountToken")
            .and_then(Value::as_bool);
        let automount = automount.or_else(|| {
            account
                .get("automountServiceAccountToken")
                .and_then(Value::as_bool)
        });
        if automount.unwrap_or(true) {
            mount_token(pod);
        }
        let own = pod
            .pointer("/spec/imagePullSecrets")
            .and_then(Value::as_array)
            .is_some_and(|list| !list.is_empty());
        if let Some(secrets) = account.get("imagePullSecrets").filter(|_| !own) {
            pod["spec"]["imagePullSecrets"] = secrets.clone();
        }
        Ok(())
    }

    /// K-206
    fn admit_priority(&self, review: &Review<'_>, pod: &mut Value) -> Result<(), ApiError> {
        const CLASSES: &str = "priorityclasses.scheduling.k8s.io";
        let name = text(pod, "/spec/priorityClassName").to_owned();
        let forbidden = |pod: &Value, why: &str| {
            ApiError::forbidden(review.resource.about(), text(pod, "/metadata/name"), why)
        };
        let (priority, policy) = match name.as_str() {
            "system-cluster-critical" => (2_000_000_000, "PreemptLowerPriority".to_owned()),
            "system-node-critical" => (2_000_001_000, "PreemptLowerPriority".to_owned()),
            _ => {
                let class = if name.is_empty() {
                    let (classes, _) = self.storage.list(CLASSES, None);
                    classes
                        .iter()
                        .map(|class| class.value())
                        .find(|class| class.get("globalDefault") == Some(&Value::Bool(true)))
                } else {
                    let class = self
                        .storage
                        .get(CLASSES, "", &name)
                        .map(|class| class.value());
                    Some(class.ok_or_else(|| {
                        forbidden(pod, &format!("no PriorityClass with name {name} was found"))
                    })?)
                };
                if let (Some(class), true) = (&class, name.is_empty()) {
                    pod["spec"]["priorityClassName"] =
                        class.pointer("/metadata/name").cloned().unwrap_or_default();
                }
                let value = class
                    .as_ref()
                    .and_then(|class| class.get("value"))
                    .and_then(Value::as_i64)
                    .unwrap_or(0);
                let policy = class
                    .as_ref()
                    .map_or("", |class| text(class, "/preemptionPolicy"));
                (
                    value,
                    if policy.is_empty() {
                        "PreemptLowerPriority".to_owned()
                    } else {
                        policy.to_owned()
                    },
                )
            }
        };
        if pod
            .pointer("/spec/priority")
            .and_then(Value::as_i64)
            .is_some_and(|own| own != priority)
        {
            let why = format!(
                "the integer value of priority must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
            );
            return Err(forbidden(pod, &why));
        }
        pod["spec"]["priority"] = priority.into();
        if let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) {
            defaults::default(spec, "preemptionPolicy", policy);
        }
        Ok(())
    }

    /// K-256
    fn admit_runtime_class(&self, review: &Review<'_>, pod: &mut Value) -> Result<(), ApiError> {
        let name = text(pod, "/spec/runtimeClassName").to_owned();
        if name.is_empty() {
            return Ok(());
        }
        let Some(class) = self.storage.get("runtimeclasses.node.k8s.io", "", &name) else {
            let why = format!("pod rejected: RuntimeClass \"{name}\" not found");
            return Err(ApiError::forbidden(
                review.resource.about(),
                text(pod, "/metadata/name"),
                &why,
            ));
        };
        if let Some(overhead) = class.value().pointer("/overhead/podFixed") {
            pod["spec"]["overhead"] = overhead.clone();
        }
        Ok(())
    }

    /// K-205, the part of `baseline` and `restricted` that says most: see `pod_security`.
    fn admit_pod_security(&self, review: &Review<'_>, pod: &Value) -> Result<(), ApiError> {
        let Some(namespace) = self.storage.get("namespaces", "", review.namespace) else {
            return Ok(());
        };
        let level = namespace
            .label("pod-security.kubernetes.io/enforce")
            .unwrap_or("privileged");
        let version = namespace
            .label("pod-security.kubernetes.io/enforce-version")
            .unwrap_or("latest");
        let violations = super::limits::pod_security(level, pod);
        if violations.is_empty() {
            return Ok(());
        }
        let why = format!(
            "violates PodSecurity \"{level}:{version}\": {}",
            violations.join(", ")
        );
        Err(ApiError::forbidden(
            review.resource.about(),
            text(pod, "/metadata/name"),
            &why,
        ))
    }

    /// K-207
    fn default_storage_class(&self, claim: &mut Value) {
        if claim.pointer("/spec/storageClassName").is_some() {
            return;
        }
        let (classes, _) = self.storage.list("storageclasses.storage.k8s.io", None);
        let marked = classes.iter().map(|class| class.value()).filter(|class| {
            let marks = [
                "storageclass.kubernetes.io~1is-default-class",
                "storageclass.beta.kubernetes.io~1is-default-class",
            ];
            marks
                .iter()
                .any(|mark| text(class, &format!("/metadata/annotations/{mark}")) == "true")
        });
        let newest =
            marked.max_by_key(|class| text(class, "/metadata/creationTimestamp").to_owned());
        if let Some(name) = newest.and_then(|class| class.pointer("/metadata/name").cloned()) {
            claim["spec"]["storageClassName"] = name;
        }
    }

    /// Cluster IPs of services (K-237).
    pub(crate) async fn allocate(
        &self,
        resource: &Resource,
        object: &mut Value,
        old: Option<&Value>,
    ) -> Result<(), ApiError> {
        if !resource.is("", "services") || text(object, "/spec/type") == "ExternalName" {
            return Ok(());
        }
        let own = text(object, "/spec/clusterIP").to_owned();
        if own == "None" {
            object["spec"]["clusterIPs"] = json!(["None"]);
            return Ok(());
        }
        if !own.is_empty() {
            object["spec"]["clusterIPs"] = json!([own]);
            return Ok(());
        }
        if old.is_some_and(|old| !text(old, "/spec/clusterIP").is_empty()) {
            return Ok(());
        }
        let (services, _) = self.storage.list("services", None);
        let used: BTreeSet<String> = services
            .iter()
            .filter_map(|service| service.field("spec.clusterIP").map(str::to_owned))
            .collect();
        let ip = loop {
            let (a, b) = {
                let mut rng = rand::rng();
                (rng.random_range(0..=254u8), rng.random_range(2..=254u8))
            };
            let ip = format!("10.96.{a}.{b}");
            if !used.contains(&ip) {
                break ip;
            }
        };
        object["spec"]["clusterIP"] = ip.as_str().into();
        object["spec"]["clusterIPs"] = json!([ip]);
        Ok(())
    }
}

fn protect(object: &mut Value, finalizer: &str) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        let list = metadata.entry("finalizers").or_insert_with(|| json!([]));
        if let Some(list) = list
            .as_array_mut()
            .filter(|list| !list.iter().any(|item| item == finalizer))
        {
            list.push(finalizer.into());
        }
    }
}

/// K-207
fn tolerate(pod: &mut Value) {
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let Some(list) = spec
        .entry("tolerations")
        .or_insert_with(|| json!([]))
        .as_array_mut()
    else {
        return;
    };
    for key in [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ] {
        let present = list.iter().any(|toleration| {
            let effect = text(toleration, "/effect");
            let own = text(toleration, "/key");
            (own == key || own.is_empty()) && matches!(effect, "NoExecute" | "")
        });
        if !present {
            list.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
        }
    }
}

/// K-201
fn mount_token(pod: &mut Value) {
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let existing = spec
        .get("volumes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let existing = existing
        .map(|volume| text(volume, "/name"))
        .find(|name| name.starts_with("kube-api-access-"));
    let name = existing.map_or_else(|| handler::generate_name("kube-api-access-"), str::to_owned);
    let mut mounted = false;
    for key in ["initContainers", "containers"] {
        for container in defaults::items(spec, key) {
            mounted |= mount(container, &name);
        }
    }
    let known = spec
        .get("volumes")
        .and_then(Value::as_array)
        .is_some_and(|list| list.iter().any(|volume| volume["name"] == name.as_str()));
    if !mounted || known {
        return;
    }
    if let Some(volumes) = spec
        .entry("volumes")
        .or_insert_with(|| json!([]))
        .as_array_mut()
    {
        volumes.push(json!({"name": name, "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ]}}));
    }
}

fn mount(container: &mut Map<String, Value>, name: &str) -> bool {
    let Some(mounts) = container
        .entry("volumeMounts")
        .or_insert_with(|| json!([]))
        .as_array_mut()
    else {
        return false;
    };
    if mounts.iter().any(|mount| mount["mountPath"] == TOKEN_PATH) {
        return false;
    }
    mounts.push(json!({"name": name, "readOnly": true, "mountPath": TOKEN_PATH}));
    true
}
