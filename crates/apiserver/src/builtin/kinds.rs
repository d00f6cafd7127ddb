//! The table of built-in kinds: names, scope, subresources and the rules in which they differ (section 12).

/// One built-in kind at its one served version.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn {
    pub group: &'static str,
    pub version: &'static str,
    pub plural: &'static str,
    pub kind: &'static str,
    pub namespaced: bool,
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    /// Subresources beyond `status`.
    pub subresources: &'static [Sub],
    pub status: bool,
    /// `metadata.generation` counts changes of the spec (K-060).
    pub generation: bool,
    /// PUT needs a resourceVersion (K-057).
    pub strict_update: bool,
    /// PUT creates what is missing (K-058).
    pub upsert: bool,
    /// DELETE answers with the object instead of a Status (K-065).
    pub returns_object: bool,
    /// Answered at once, never stored: the reviews.
    pub virtual_kind: bool,
    /// Package of the OpenAPI definition.
    pub package: &'static str,
    /// Selectable fields beyond name and namespace.
    pub fields: &'static [&'static str],
    /// Stored under this name, where it differs from the plural.
    pub storage: &'static str,
}

/// A subresource and the kind it speaks (K-006).
#[derive(Clone, Copy, Debug)]
pub struct Sub {
    pub name: &'static str,
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub verbs: &'static [&'static str],
}

const NONE: BuiltIn = BuiltIn {
    group: "",
    version: "v1",
    plural: "",
    kind: "",
    namespaced: true,
    short_names: &[],
    categories: &[],
    subresources: &[],
    status: false,
    generation: false,
    strict_update: false,
    upsert: false,
    returns_object: false,
    virtual_kind: false,
    package: "io.k8s.api.core.v1",
    fields: &[],
    storage: "",
};
const APPS: BuiltIn = BuiltIn {
    group: "apps",
    package: "io.k8s.api.apps.v1",
    categories: &["all"],
    status: true,
    generation: true,
    subresources: &[SCALE],
    ..NONE
};
const BATCH: BuiltIn = BuiltIn {
    group: "batch",
    package: "io.k8s.api.batch.v1",
    categories: &["all"],
    status: true,
    generation: true,
    ..NONE
};
const RBAC: BuiltIn = BuiltIn {
    group: "rbac.authorization.k8s.io",
    package: "io.k8s.api.rbac.v1",
    upsert: true,
    ..NONE
};
const ADMISSION: BuiltIn = BuiltIn {
    group: "admissionregistration.k8s.io",
    package: "io.k8s.api.admissionregistration.v1",
    namespaced: false,
    generation: true,
    strict_update: true,
    categories: &["api-extensions"],
    ..NONE
};
const AUTHORIZATION: BuiltIn = BuiltIn {
    group: "authorization.k8s.io",
    package: "io.k8s.api.authorization.v1",
    namespaced: false,
    virtual_kind: true,
    ..NONE
};
const AUTHENTICATION: BuiltIn = BuiltIn {
    group: "authentication.k8s.io",
    package: "io.k8s.api.authentication.v1",
    namespaced: false,
    virtual_kind: true,
    ..NONE
};
const NETWORKING: BuiltIn = BuiltIn {
    group: "networking.k8s.io",
    package: "io.k8s.api.networking.v1",
    generation: true,
    ..NONE
};

const RW: &[&str] = &["get", "patch", "update"];
const SCALE: Sub = Sub {
    name: "scale",
    group: "autoscaling",
    version: "v1",
    kind: "Scale",
    verbs: RW,
};
const fn core_sub(name: &'static str, kind: &'static str, verbs: &'static [&'static str]) -> Sub {
    Sub {
        name,
        group: "",
        version: "v1",
        kind,
        verbs,
    }
}

/// Every built-in kind.
pub static KINDS: &[BuiltIn] = &[
    BuiltIn {
        plural: "bindings",
        kind: "Binding",
        virtual_kind: true,
        ..NONE
    },
    BuiltIn {
        plural: "configmaps",
        kind: "ConfigMap",
        short_names: &["cm"],
        ..NONE
    },
    BuiltIn {
        plural: "endpoints",
        kind: "Endpoints",
        short_names: &["ep"],
        upsert: true,
        ..NONE
    },
    BuiltIn {
        plural: "events",
        kind: "Event",
        short_names: &["ev"],
        upsert: true,
        fields: &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ..NONE
    },
    BuiltIn {
        plural: "limitranges",
        kind: "LimitRange",
        short_names: &["limits"],
        upsert: true,
        ..NONE
    },
    BuiltIn {
        plural: "namespaces",
        kind: "Namespace",
        namespaced: false,
        short_names: &["ns"],
        status: true,
        returns_object: true,
        subresources: &[core_sub("finalize", "Namespace", &["update"])],
        fields: &["status.phase"],
        ..NONE
    },
    BuiltIn {
        plural: "nodes",
        kind: "Node",
        namespaced: false,
        short_names: &["no"],
        status: true,
        fields: &["spec.unschedulable"],
        ..NONE
    },
    BuiltIn {
        plural: "persistentvolumeclaims",
        kind: "PersistentVolumeClaim",
        short_names: &["pvc"],
        status: true,
        returns_object: true,
        ..NONE
    },
    BuiltIn {
        plural: "persistentvolumes",
        kind: "PersistentVolume",
        namespaced: false,
        short_names: &["pv"],
        status: true,
        returns_object: true,
        ..NONE
    },
    BuiltIn {
        plural: "pods",
        kind: "Pod",
        short_names: &["po"],
        categories: &["all"],
        status: true,
        generation: true,
        returns_object: true,
        subresources: &[
            core_sub("attach", "PodAttachOptions", &["create", "get"]),
            core_sub("binding", "Binding", &["create"]),
            core_sub("ephemeralcontainers", "Pod", RW),
            Sub {
                name: "eviction",
                group: "policy",
                version: "v1",
                kind: "Eviction",
                verbs: &["create"],
            },
            core_sub("exec", "PodExecOptions", &["create", "get"]),
            core_sub("log", "Pod", &["get"]),
            core_sub("portforward", "PodPortForwardOptions", &["create", "get"]),
            core_sub(
                "proxy",
                "PodProxyOptions",
                &["create", "delete", "get", "patch", "update"],
            ),
        ],
        fields: &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
        ..NONE
    },
    BuiltIn {
        plural: "podtemplates",
        kind: "PodTemplate",
        returns_object: true,
        generation: true,
        ..NONE
    },
    BuiltIn {
        plural: "resourcequotas",
        kind: "ResourceQuota",
        short_names: &["quota"],
        status: true,
        returns_object: true,
        ..NONE
    },
    BuiltIn {
        plural: "secrets",
        kind: "Secret",
        fields: &["type"],
        ..NONE
    },
    BuiltIn {
        plural: "serviceaccounts",
        kind: "ServiceAccount",
        short_names: &["sa"],
        returns_object: true,
        subresources: &[Sub {
            name: "token",
            group: "authentication.k8s.io",
            version: "v1",
            kind: "TokenRequest",
            verbs: &["create"],
        }],
        ..NONE
    },
    BuiltIn {
        plural: "services",
        kind: "Service",
        short_names: &["svc"],
        categories: &["all"],
        status: true,
        upsert: true,
        returns_object: true,
        subresources: &[core_sub(
            "proxy",
            "ServiceProxyOptions",
            &["create", "delete", "get", "patch", "update"],
        )],
        fields: &["spec.clusterIP", "spec.type"],
        ..NONE
    },
    BuiltIn {
        plural: "controllerrevisions",
        kind: "ControllerRevision",
        status: false,
        generation: false,
        subresources: &[],
        categories: &[],
        ..APPS
    },
    BuiltIn {
        plural: "daemonsets",
        kind: "DaemonSet",
        short_names: &["ds"],
        subresources: &[],
        ..APPS
    },
    BuiltIn {
        plural: "deployments",
        kind: "Deployment",
        short_names: &["deploy"],
        ..APPS
    },
    BuiltIn {
        plural: "replicasets",
        kind: "ReplicaSet",
        short_names: &["rs"],
        ..APPS
    },
    BuiltIn {
        plural: "statefulsets",
        kind: "StatefulSet",
        short_names: &["sts"],
        ..APPS
    },
    BuiltIn {
        plural: "cronjobs",
        kind: "CronJob",
        short_names: &["cj"],
        ..BATCH
    },
    BuiltIn {
        plural: "jobs",
        kind: "Job",
        fields: &["status.successful"],
        ..BATCH
    },
    BuiltIn {
        group: "autoscaling",
        version: "v2",
        plural: "horizontalpodautoscalers",
        kind: "HorizontalPodAutoscaler",
        short_names: &["hpa"],
        categories: &["all"],
        status: true,
        package: "io.k8s.api.autoscaling.v2",
        ..NONE
    },
    BuiltIn {
        group: "policy",
        plural: "poddisruptionbudgets",
        kind: "PodDisruptionBudget",
        short_names: &["pdb"],
        status: true,
        generation: true,
        strict_update: true,
        package: "io.k8s.api.policy.v1",
        ..NONE
    },
    BuiltIn {
        plural: "ingresses",
        kind: "Ingress",
        short_names: &["ing"],
        status: true,
        ..NETWORKING
    },
    BuiltIn {
        plural: "ingressclasses",
        kind: "IngressClass",
        namespaced: false,
        ..NETWORKING
    },
    BuiltIn {
        plural: "networkpolicies",
        kind: "NetworkPolicy",
        short_names: &["netpol"],
        ..NETWORKING
    },
    BuiltIn {
        group: "storage.k8s.io",
        plural: "storageclasses",
        kind: "StorageClass",
        namespaced: false,
        short_names: &["sc"],
        returns_object: true,
        package: "io.k8s.api.storage.v1",
        ..NONE
    },
    BuiltIn {
        group: "scheduling.k8s.io",
        plural: "priorityclasses",
        kind: "PriorityClass",
        namespaced: false,
        short_names: &["pc"],
        generation: true,
        package: "io.k8s.api.scheduling.v1",
        ..NONE
    },
    BuiltIn {
        group: "node.k8s.io",
        plural: "runtimeclasses",
        kind: "RuntimeClass",
        namespaced: false,
        strict_update: true,
        upsert: true,
        package: "io.k8s.api.node.v1",
        ..NONE
    },
    BuiltIn {
        group: "coordination.k8s.io",
        plural: "leases",
        kind: "Lease",
        strict_update: true,
        upsert: true,
        package: "io.k8s.api.coordination.v1",
        ..NONE
    },
    BuiltIn {
        group: "discovery.k8s.io",
        plural: "endpointslices",
        kind: "EndpointSlice",
        generation: true,
        package: "io.k8s.api.discovery.v1",
        ..NONE
    },
    BuiltIn {
        group: "events.k8s.io",
        plural: "events",
        kind: "Event",
        short_names: &["ev"],
        upsert: true,
        package: "io.k8s.api.events.v1",
        fields: &[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reason",
            "reportingController",
            "type",
        ],
        storage: "events",
        ..NONE
    },
    BuiltIn {
        plural: "clusterrolebindings",
        kind: "ClusterRoleBinding",
        namespaced: false,
        ..RBAC
    },
    BuiltIn {
        plural: "clusterroles",
        kind: "ClusterRole",
        namespaced: false,
        ..RBAC
    },
    BuiltIn {
        plural: "rolebindings",
        kind: "RoleBinding",
        ..RBAC
    },
    BuiltIn {
        plural: "roles",
        kind: "Role",
        ..RBAC
    },
    BuiltIn {
        plural: "mutatingwebhookconfigurations",
        kind: "MutatingWebhookConfiguration",
        ..ADMISSION
    },
    BuiltIn {
        plural: "validatingwebhookconfigurations",
        kind: "ValidatingWebhookConfiguration",
        ..ADMISSION
    },
    BuiltIn {
        plural: "validatingadmissionpolicies",
        kind: "ValidatingAdmissionPolicy",
        status: true,
        ..ADMISSION
    },
    BuiltIn {
        plural: "validatingadmissionpolicybindings",
        kind: "ValidatingAdmissionPolicyBinding",
        ..ADMISSION
    },
    BuiltIn {
        group: "apiextensions.k8s.io",
        plural: CRDS,
        kind: "CustomResourceDefinition",
        namespaced: false,
        short_names: &["crd", "crds"],
        categories: &["api-extensions"],
        status: true,
        generation: true,
        strict_update: true,
        package: "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1",
        ..NONE
    },
    BuiltIn {
        plural: "selfsubjectaccessreviews",
        kind: "SelfSubjectAccessReview",
        ..AUTHORIZATION
    },
    BuiltIn {
        plural: "selfsubjectrulesreviews",
        kind: "SelfSubjectRulesReview",
        ..AUTHORIZATION
    },
    BuiltIn {
        plural: "subjectaccessreviews",
        kind: "SubjectAccessReview",
        ..AUTHORIZATION
    },
    BuiltIn {
        plural: "localsubjectaccessreviews",
        kind: "LocalSubjectAccessReview",
        namespaced: true,
        ..AUTHORIZATION
    },
    BuiltIn {
        plural: "selfsubjectreviews",
        kind: "SelfSubjectReview",
        ..AUTHENTICATION
    },
    BuiltIn {
        plural: "tokenreviews",
        kind: "TokenReview",
        ..AUTHENTICATION
    },
];

/// The plural of CustomResourceDefinitions.
pub const CRDS: &str = "customresourcedefinitions";

impl BuiltIn {
    /// The name of its OpenAPI definition.
    pub fn definition(&self) -> String {
        format!("{}.{}", self.package, self.kind)
    }

    /// The name of its collection in the store.
    pub fn storage_name(&self) -> String {
        let plural = if self.storage.is_empty() {
            self.plural
        } else {
            return self.storage.to_owned();
        };
        if self.group.is_empty() {
            plural.to_owned()
        } else {
            format!("{plural}.{}", self.group)
        }
    }

    /// Whether it is this core kind.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }
}
