//! Defaults of built-in kinds, filled in on every write (K-260, K-261, K-237, K-188 …).

use serde_json::{Map, Value, json};

use super::kinds::BuiltIn;

/// Sets `map[key]` if it is absent.
pub(crate) fn default(map: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    if !map.contains_key(key) {
        map.insert(key.to_owned(), value.into());
    }
}

/// The member object, created if absent.
pub(crate) fn object<'a>(
    map: &'a mut Map<String, Value>,
    key: &str,
) -> Option<&'a mut Map<String, Value>> {
    map.entry(key)
        .or_insert_with(|| Value::Object(Map::new()))
        .as_object_mut()
}

/// The items of a list member that are objects.
pub(crate) fn items<'a>(
    map: &'a mut Map<String, Value>,
    key: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> + use<'a> {
    map.get_mut(key)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
}

/// Fills the defaults of one kind.
pub fn apply(kind: &BuiltIn, value: &mut Value) {
    let Some(map) = value.as_object_mut() else {
        return;
    };
    match (kind.group, kind.kind) {
        ("", "Pod") => {
            if let Some(spec) = object(map, "spec") {
                pod_spec(spec);
            }
        }
        ("", "PodTemplate") => template(map, None),
        ("", "Secret") => secret(map),
        ("", "Service") => service(map),
        ("", "Namespace") => {
            let name = map
                .get("metadata")
                .and_then(|m| m.get("name"))
                .cloned()
                .unwrap_or_default();
            if let Some(labels) =
                object(map, "metadata").and_then(|metadata| object(metadata, "labels"))
            {
                // K-224
                default(labels, "kubernetes.io/metadata.name", name);
            }
        }
        ("", "PersistentVolumeClaim") => {
            if let Some(spec) = object(map, "spec") {
                default(spec, "volumeMode", "Filesystem");
            }
        }
        ("", "PersistentVolume") => {
            if let Some(spec) = object(map, "spec") {
                default(spec, "volumeMode", "Filesystem");
                default(spec, "persistentVolumeReclaimPolicy", "Retain");
            }
        }
        ("", "LimitRange") => limit_range(map),
        ("", "Node") => {
            object(map, "spec");
        }
        ("apps", "Deployment") => {
            if let Some(spec) = object(map, "spec") {
                default(spec, "replicas", 1);
                default(spec, "revisionHistoryLimit", 10);
                default(spec, "progressDeadlineSeconds", 600);
                if let Some(strategy) = object(spec, "strategy") {
                    default(strategy, "type", "RollingUpdate");
                    if strategy.get("type") == Some(&json!("RollingUpdate"))
                        && let Some(rolling) = object(strategy, "rollingUpdate")
                    {
                        default(rolling, "maxSurge", "25%");
                        default(rolling, "maxUnavailable", "25%");
                    }
                }
                template(spec, None);
            }
        }
        ("apps", "ReplicaSet") => {
            if let Some(spec) = object(map, "spec") {
                default(spec, "replicas", 1);
                template(spec, None);
            }
        }
        ("apps", "StatefulSet") => {
            if let Some(spec) = object(map, "spec") {
                default(spec, "replicas", 1);
                default(spec, "revisionHistoryLimit", 10);
                default(spec, "podManagementPolicy", "OrderedReady");
                default(spec, "serviceName", "");
                default(
                    spec,
                    "persistentVolumeClaimRetentionPolicy",
                    json!({"whenDeleted": "Retain", "whenScaled": "Retain"}),
                );
                if let Some(strategy) = object(spec, "updateStrategy") {
                    default(strategy, "type", "RollingUpdate");
                    if strategy.get("type") == Some(&json!("RollingUpdate"))
                        && let Some(rolling) = object(strategy, "rollingUpdate")
                    {
                        default(rolling, "partition", 0);
                    }
                }
                for claim in items(spec, "volumeClaimTemplates") {
                    default(claim, "apiVersion", "v1");
                    default(claim, "kind", "PersistentVolumeClaim");
                    if let Some(spec) = object(claim, "spec") {
                        default(spec, "volumeMode", "Filesystem");
                    }
                    if let Some(status) = object(claim, "status") {
                        default(status, "phase", "Pending");
                    }
                }
                template(spec, None);
            }
        }
        ("apps", "DaemonSet") => {
            if let Some(spec) = object(map, "spec") {
                default(spec, "revisionHistoryLimit", 10);
                if let Some(strategy) = object(spec, "updateStrategy") {
                    default(strategy, "type", "RollingUpdate");
                    if strategy.get("type") == Some(&json!("RollingUpdate"))
                        && let Some(rolling) = object(strategy, "rollingUpdate")
                    {
                        default(rolling, "maxSurge", 0);
                        default(rolling, "maxUnavailable", 1);
                    }
                }
                template(spec, None);
            }
        }
        ("batch", "Job") => {
            if let Some(spec) = object(map, "spec") {
                job_spec(spec);
            }
        }
        ("batch", "CronJob") => {
            if let Some(spec) = object(map, "spec") {
                default(spec, "concurrencyPolicy", "Allow");
                default(spec, "suspend", false);
                default(spec, "successfulJobsHistoryLimit", 3);
                default(spec, "failedJobsHistoryLimit", 1);
                if let Some(job) =
                    object(spec, "jobTemplate").and_then(|template| object(template, "spec"))
                {
                    template(job, None);
                }
            }
        }
        ("storage.k8s.io", "StorageClass") => {
            default(map, "reclaimPolicy", "Delete");
            default(map, "volumeBindingMode", "Immediate");
        }
        ("scheduling.k8s.io", "PriorityClass") => {
            default(map, "preemptionPolicy", "PreemptLowerPriority");
        }
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            if let Some(role) = object(map, "roleRef") {
                default(role, "apiGroup", "rbac.authorization.k8s.io");
            }
            for subject in items(map, "subjects") {
                let group = if subject.get("kind") == Some(&json!("ServiceAccount")) {
                    ""
                } else {
                    "rbac.authorization.k8s.io"
                };
                if !group.is_empty() {
                    default(subject, "apiGroup", group);
                }
            }
        }
        (
            "admissionregistration.k8s.io",
            "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration",
        ) => {
            let mutating = kind.kind.starts_with('M');
            for webhook in items(map, "webhooks") {
                webhook_defaults(webhook, mutating);
            }
        }
        ("apiextensions.k8s.io", _) => custom_resource_definition(map),
        ("autoscaling", "HorizontalPodAutoscaler") => {
            if let Some(spec) = object(map, "spec") {
                default(spec, "minReplicas", 1);
            }
        }
        _ => {}
    }
}

fn template(map: &mut Map<String, Value>, restart: Option<&str>) {
    if let Some(template) = object(map, "template") {
        object(template, "metadata");
        if let Some(spec) = object(template, "spec") {
            if let Some(restart) = restart {
                default(spec, "restartPolicy", restart);
            }
            pod_spec(spec);
        }
    }
}

/// K-249
fn job_spec(spec: &mut Map<String, Value>) {
    if !spec.contains_key("completions") && !spec.contains_key("parallelism") {
        spec.insert("completions".into(), 1.into());
    }
    default(spec, "parallelism", 1);
    default(spec, "backoffLimit", 6);
    default(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    default(spec, "manualSelector", false);
    default(spec, "podReplacementPolicy", "TerminatingOrFailed");
    template(spec, None);
}

/// K-188
fn webhook_defaults(webhook: &mut Map<String, Value>, mutating: bool) {
    default(webhook, "failurePolicy", "Fail");
    default(webhook, "matchPolicy", "Equivalent");
    default(webhook, "timeoutSeconds", 10);
    object(webhook, "namespaceSelector");
    object(webhook, "objectSelector");
    if mutating {
        default(webhook, "reinvocationPolicy", "Never");
    }
    for rule in items(webhook, "rules") {
        default(rule, "scope", "*");
    }
    if let Some(service) = webhook
        .get_mut("clientConfig")
        .and_then(|config| config.get_mut("service"))
        && let Some(service) = service.as_object_mut()
    {
        default(service, "port", 443);
    }
}

/// K-162
fn custom_resource_definition(map: &mut Map<String, Value>) {
    let Some(spec) = object(map, "spec") else {
        return;
    };
    if let Some(names) = object(spec, "names") {
        let kind = names
            .get("kind")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        default(names, "singular", kind.to_lowercase());
        default(names, "listKind", format!("{kind}List"));
    }
    if let Some(conversion) = object(spec, "conversion") {
        default(conversion, "strategy", "None");
        if let Some(service) = conversion
            .get_mut("webhook")
            .and_then(|webhook| webhook.get_mut("clientConfig"))
            .and_then(|config| config.get_mut("service"))
            .and_then(Value::as_object_mut)
        {
            default(service, "port", 443);
        }
    }
}

/// K-202: a minimum or maximum alone also is a default.
fn limit_range(map: &mut Map<String, Value>) {
    let Some(spec) = object(map, "spec") else {
        return;
    };
    for item in items(spec, "limits") {
        if item.get("type") != Some(&json!("Container")) {
            continue;
        }
        let copy = |item: &Map<String, Value>, key: &str| {
            item.get(key)
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default()
        };
        let max = copy(item, "max");
        let min = copy(item, "min");
        let mut limits = copy(item, "default");
        for (key, value) in max {
            limits.entry(key).or_insert(value);
        }
        let mut requests = copy(item, "defaultRequest");
        for (key, value) in limits.iter().chain(&min) {
            requests.entry(key.clone()).or_insert_with(|| value.clone());
        }
        if !limits.is_empty() {
            item.insert("default".into(), limits.into());
        }
        if !requests.is_empty() {
            item.insert("defaultRequest".into(), requests.into());
        }
    }
}

/// K-229
fn secret(map: &mut Map<String, Value>) {
    use base64::Engine as _;
    default(map, "type", "Opaque");
    if let Some(Value::Object(text)) = map.remove("stringData")
        && let Some(data) = object(map, "data")
    {
        for (key, value) in text {
            let encoded = base64::engine::general_purpose::STANDARD
                .encode(value.as_str().unwrap_or_default());
            data.insert(key, encoded.into());
        }
    }
}

/// K-237
fn service(map: &mut Map<String, Value>) {
    let Some(spec) = object(map, "spec") else {
        return;
    };
    default(spec, "type", "ClusterIP");
    default(spec, "sessionAffinity", "None");
    let external_name = spec.get("type") == Some(&json!("ExternalName"));
    if !external_name {
        default(spec, "internalTrafficPolicy", "Cluster");
        default(spec, "ipFamilyPolicy", "SingleStack");
        default(spec, "ipFamilies", json!(["IPv4"]));
    }
    if matches!(
        spec.get("type").and_then(Value::as_str),
        Some("NodePort" | "LoadBalancer")
    ) {
        default(spec, "externalTrafficPolicy", "Cluster");
    }
    for port in items(spec, "ports") {
        default(port, "protocol", "TCP");
        if let Some(number) = port.get("port").cloned() {
            default(port, "targetPort", number);
        }
    }
}

/// The defaults of a PodSpec.
pub fn pod_spec(spec: &mut Map<String, Value>) {
    default(spec, "restartPolicy", "Always");
    default(spec, "dnsPolicy", "ClusterFirst");
    default(spec, "terminationGracePeriodSeconds", 30);
    default(spec, "schedulerName", "default-scheduler");
    default(spec, "enableServiceLinks", true);
    object(spec, "securityContext");
    if let Some(account) = spec.get("serviceAccountName").cloned() {
        spec.insert("serviceAccount".into(), account);
    } else if let Some(account) = spec.get("serviceAccount").cloned() {
        spec.insert("serviceAccountName".into(), account);
    }
    for key in ["initContainers", "containers", "ephemeralContainers"] {
        for item in items(spec, key) {
            container(item);
        }
    }
    for volume in items(spec, "volumes") {
        volume_defaults(volume);
    }
}

fn container(container: &mut Map<String, Value>) {
    default(container, "terminationMessagePath", "/dev/termination-log");
    default(container, "terminationMessagePolicy", "File");
    let image = container
        .get("image")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let policy = pull_policy(image);
    default(container, "imagePullPolicy", policy);
    if let Some(resources) = object(container, "resources") {
        let limits = resources
            .get("limits")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        if !limits.is_empty()
            && let Some(requests) = object(resources, "requests")
        {
            for (key, value) in limits {
                requests.entry(key).or_insert(value);
            }
        }
    }
    for port in items(container, "ports") {
        default(port, "protocol", "TCP");
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe).and_then(Value::as_object_mut) {
            default(probe, "timeoutSeconds", 1);
            default(probe, "periodSeconds", 10);
            default(probe, "successThreshold", 1);
            default(probe, "failureThreshold", 3);
            handler(probe);
        }
    }
    if let Some(lifecycle) = container
        .get_mut("lifecycle")
        .and_then(Value::as_object_mut)
    {
        for hook in ["postStart", "preStop"] {
            if let Some(hook) = lifecycle.get_mut(hook).and_then(Value::as_object_mut) {
                handler(hook);
            }
        }
    }
    for variable in items(container, "env") {
        if let Some(field) = variable
            .get_mut("valueFrom")
            .and_then(|from| from.get_mut("fieldRef"))
            .and_then(Value::as_object_mut)
        {
            default(field, "apiVersion", "v1");
        }
        if let Some(resource) = variable
            .get_mut("valueFrom")
            .and_then(|from| from.get_mut("resourceFieldRef"))
            .and_then(Value::as_object_mut)
        {
            default(resource, "divisor", "0");
        }
    }
}

fn handler(handler: &mut Map<String, Value>) {
    if let Some(http) = handler.get_mut("httpGet").and_then(Value::as_object_mut) {
        default(http, "path", "/");
        default(http, "scheme", "HTTP");
    }
    if let Some(grpc) = handler.get_mut("grpc").and_then(Value::as_object_mut) {
        default(grpc, "service", "");
    }
}

/// `Always` for the tag `latest` and for no tag at all, unless a digest alone pins the image (K-261).
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image
        .split_once('@')
        .map_or((image, false), |(name, _)| (name, true));
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once(':') {
        Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
        None if digest => "IfNotPresent",
        None => "Always",
    }
}

fn volume_defaults(volume: &mut Map<String, Value>) {
    if volume.len() == 1 && volume.contains_key("name") {
        volume.insert("emptyDir".into(), json!({}));
    }
    for key in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(key).and_then(Value::as_object_mut) {
            default(source, "defaultMode", 0o644);
            downward_items(source);
            for projection in items(source, "sources") {
                if let Some(token) = projection
                    .get_mut("serviceAccountToken")
                    .and_then(Value::as_object_mut)
                {
                    default(token, "expirationSeconds", 3600);
                }
                if let Some(downward) = projection
                    .get_mut("downwardAPI")
                    .and_then(Value::as_object_mut)
                {
                    downward_items(downward);
                }
            }
        }
    }
    if let Some(path) = volume.get_mut("hostPath").and_then(Value::as_object_mut) {
        default(path, "type", "");
    }
    if let Some(image) = volume.get_mut("image").and_then(Value::as_object_mut) {
        let policy = pull_policy(
            image
                .get("reference")
                .and_then(Value::as_str)
                .unwrap_or_default(),
        );
        default(image, "pullPolicy", policy);
    }
    if let Some(spec) = volume
        .get_mut("ephemeral")
        .and_then(|ephemeral| ephemeral.get_mut("volumeClaimTemplate"))
        .and_then(|template| template.get_mut("spec"))
        .and_then(Value::as_object_mut)
    {
        default(spec, "volumeMode", "Filesystem");
    }
}

fn downward_items(source: &mut Map<String, Value>) {
    for item in items(source, "items") {
        if let Some(field) = item.get_mut("fieldRef").and_then(Value::as_object_mut) {
            default(field, "apiVersion", "v1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_pulled_always_for_latest_and_untagged_references_only() {
        // K-261
        for (image, expected) in [
            ("busybox", "Always"),
            ("busybox:latest", "Always"),
            ("busybox:latest@sha256:aa", "Always"),
            ("busybox:1.36", "IfNotPresent"),
            ("busybox@sha256:aa", "IfNotPresent"),
            ("localhost:5000/busybox", "Always"),
            ("localhost:5000/busybox:1", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), expected, "{image}");
        }
    }
}
