//! The objects that exist from the start (K-218, K-224, K-225).

use std::sync::Arc;

use serde_json::{Value, json};

use crate::handler::now;
use crate::registry::Resource;
use crate::server::Inner;
use crate::storage::{Draft, Pairs, Stored};

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Rules by role: apiGroups, resources, verbs.
type Rules = &'static [(
    &'static [&'static str],
    &'static [&'static str],
    &'static [&'static str],
)];

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
const WORKLOADS: &[&str] = &[
    "daemonsets",
    "deployments",
    "deployments/scale",
    "replicasets",
    "replicasets/scale",
    "statefulsets",
    "statefulsets/scale",
    "controllerrevisions",
];
const CORE_VIEW: &[&str] = &[
    "bindings",
    "configmaps",
    "endpoints",
    "events",
    "limitranges",
    "namespaces",
    "namespaces/status",
    "persistentvolumeclaims",
    "persistentvolumeclaims/status",
    "pods",
    "pods/log",
    "pods/status",
    "resourcequotas",
    "resourcequotas/status",
    "serviceaccounts",
    "services",
    "services/status",
];
const CORE_EDIT: &[&str] = &[
    "configmaps",
    "endpoints",
    "events",
    "persistentvolumeclaims",
    "pods",
    "pods/attach",
    "pods/exec",
    "pods/portforward",
    "pods/proxy",
    "pods/eviction",
    "secrets",
    "serviceaccounts",
    "serviceaccounts/token",
    "services",
    "services/proxy",
];

const VIEW: Rules = &[
    (&[""], CORE_VIEW, READ),
    (&["apps"], WORKLOADS, READ),
    (&["batch"], &["cronjobs", "jobs"], READ),
    (&["autoscaling"], &["horizontalpodautoscalers"], READ),
    (
        &["networking.k8s.io"],
        &["ingresses", "networkpolicies"],
        READ,
    ),
    (&["policy"], &["poddisruptionbudgets"], READ),
    (&["discovery.k8s.io"], &["endpointslices"], READ),
];
const EDIT: Rules = &[
    (&[""], CORE_EDIT, WRITE),
    (&[""], &["serviceaccounts"], &["impersonate"]),
    (&["apps"], WORKLOADS, WRITE),
    (&["batch"], &["cronjobs", "jobs"], WRITE),
    (&["autoscaling"], &["horizontalpodautoscalers"], WRITE),
    (
        &["networking.k8s.io"],
        &["ingresses", "networkpolicies"],
        WRITE,
    ),
    (&["policy"], &["poddisruptionbudgets"], WRITE),
    (&["coordination.k8s.io"], &["leases"], WRITE),
];
const ADMIN: Rules = &[
    (
        &["rbac.authorization.k8s.io"],
        &["roles", "rolebindings"],
        WRITE,
    ),
    (
        &["authorization.k8s.io"],
        &["localsubjectaccessreviews"],
        &["create"],
    ),
];
const BASIC: Rules = &[
    (
        &["authorization.k8s.io"],
        &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
        &["create"],
    ),
    (
        &["authentication.k8s.io"],
        &["selfsubjectreviews"],
        &["create"],
    ),
];

fn rules(rules: Rules) -> Value {
    rules
        .iter()
        .map(|(groups, resources, verbs)| json!({"apiGroups": groups, "resources": resources, "verbs": verbs}))
        .collect()
}

fn role(name: &str, own: Value, labels: &[&str], aggregates: &[&str]) -> Value {
    let mut map = serde_json::Map::new();
    map.insert("kubernetes.io/bootstrapping".into(), "rbac-defaults".into());
    for label in labels {
        map.insert(
            format!("rbac.authorization.k8s.io/aggregate-to-{label}"),
            "true".into(),
        );
    }
    let mut role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": name, "labels": map}, "rules": own,
    });
    if !aggregates.is_empty() {
        let selectors: Vec<Value> = aggregates
            .iter()
            .map(|to| json!({"matchLabels": {format!("rbac.authorization.k8s.io/aggregate-to-{to}"): "true"}}))
            .collect();
        role["aggregationRule"] = json!({"clusterRoleSelectors": selectors});
        role["rules"] = json!([]);
    }
    role
}

fn binding(name: &str, role: &str, groups: &[&str]) -> Value {
    let subjects: Vec<Value> = groups
        .iter()
        .map(|group| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}))
        .collect();
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": subjects,
    })
}

impl Inner {
    /// Makes what is missing of the objects that always exist.
    pub(crate) fn bootstrap(&self) {
        for name in NAMESPACES {
            let namespace = json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
            });
            if let Some(stored) =
                self.put_if_absent("namespaces", namespace, &[("status.phase", "Active")])
            {
                self.furnish(&stored.name);
            }
        }
        let all = json!([
            {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
            {"nonResourceURLs": ["*"], "verbs": ["*"]},
        ]);
        let public = json!([{
            "nonResourceURLs": ["/healthz", "/livez", "/readyz", "/version", "/version/"], "verbs": ["get"],
        }]);
        let discovery = json!([{
            "nonResourceURLs": [
                "/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz",
                "/version", "/version/",
            ],
            "verbs": ["get"],
        }]);
        let roles = [
            role("cluster-admin", all, &[], &[]),
            role("admin", json!([]), &[], &["admin", "edit", "view"]),
            role("edit", json!([]), &[], &["edit", "view"]),
            role("view", json!([]), &[], &["view"]),
            role("system:aggregate-to-admin", rules(ADMIN), &["admin"], &[]),
            role("system:aggregate-to-edit", rules(EDIT), &["edit"], &[]),
            role("system:aggregate-to-view", rules(VIEW), &["view"], &[]),
            role("system:basic-user", rules(BASIC), &[], &[]),
            role("system:discovery", discovery, &[], &[]),
            role("system:public-info-viewer", public, &[], &[]),
        ];
        for role in roles {
            self.put_if_absent("clusterroles.rbac.authorization.k8s.io", role, &[]);
        }
        let bindings = [
            binding("cluster-admin", "cluster-admin", &["system:masters"]),
            binding(
                "system:basic-user",
                "system:basic-user",
                &["system:authenticated"],
            ),
            binding(
                "system:discovery",
                "system:discovery",
                &["system:authenticated"],
            ),
            binding(
                "system:public-info-viewer",
                "system:public-info-viewer",
                &["system:authenticated", "system:unauthenticated"],
            ),
        ];
        for binding in bindings {
            self.put_if_absent(
                "clusterrolebindings.rbac.authorization.k8s.io",
                binding,
                &[],
            );
        }
    }

    /// What every namespace has: the `default` account and the cluster's root certificate (K-225). Made together with
    /// the namespace, so that nothing can come between.
    pub(crate) fn furnish(&self, namespace: &str) {
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace},
        });
        self.put_if_absent("serviceaccounts", account, &[]);
        if let Some(pem) = &self.root_ca {
            let text = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints \
                        such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
                        distributions of Kubernetes clusters.";
            let map = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {
                    "name": "kube-root-ca.crt", "namespace": namespace,
                    "annotations": {"kubernetes.io/description": text},
                },
                "data": {"ca.crt": pem},
            });
            self.put_if_absent("configmaps", map, &[]);
        }
    }

    fn put_if_absent(
        &self,
        collection: &str,
        mut object: Value,
        fields: &[(&str, &str)],
    ) -> Option<Arc<Stored>> {
        object["metadata"]["uid"] = uuid::Uuid::new_v4().to_string().into();
        object["metadata"]["creationTimestamp"] = now().into();
        let fields = Pairs::new(fields.iter().copied());
        self.storage
            .create(&Arc::from(collection), Draft::new(&object, fields))
            .ok()
    }

    /// What follows from a write: new definitions are served, new namespaces furnished.
    pub(crate) fn wrote(self: &Arc<Self>, resource: &Resource, object: &Stored) {
        if resource.is("apiextensions.k8s.io", crate::builtin::kinds::CRDS) {
            self.reload_definitions();
            if object.deleting
                && self
                    .storage
                    .get(&resource.storage, "", &object.name)
                    .is_some()
            {
                let inner = Arc::clone(self);
                let name = object.name.to_string();
                tokio::spawn(inner.clean_up_definition(name));
            }
        } else if resource.is("", "namespaces") && !object.deleting {
            self.furnish(&object.name);
        }
    }
}
