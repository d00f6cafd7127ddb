//! What a write of a built-in kind may and may not touch: status, generation, allocated and immutable fields.

use serde_json::{Map, Value, json};

use super::kinds::BuiltIn;
use super::pods;
use crate::error::Cause;

/// Before a create: the status is the server's, allocated fields are filled.
pub fn create(kind: &BuiltIn, object: &mut Value) {
    let Some(map) = object.as_object_mut() else {
        return;
    };
    match (kind.group, kind.kind) {
        ("", "Pod") => {
            let qos = map.get("spec").map_or("BestEffort", pods::qos_class);
            map.insert(
                "status".into(),
                json!({"phase": "Pending", "qosClass": qos}),
            );
        }
        ("", "Namespace") => {
            map.insert("status".into(), json!({"phase": "Active"}));
            map.insert("spec".into(), json!({"finalizers": ["kubernetes"]}));
        }
        ("", "PersistentVolumeClaim") => {
            map.insert("status".into(), json!({"phase": "Pending"}));
        }
        ("", "PersistentVolume") => {
            map.insert("status".into(), json!({"phase": "Pending"}));
        }
        // Kubelets create nodes together with their status.
        ("", "Node") => {}
        ("apiextensions.k8s.io", _) => {
            map.remove("status");
        }
        ("", "Service") => {
            map.insert("status".into(), json!({"loadBalancer": {}}));
        }
        _ if kind.status => {
            map.insert("status".into(), empty_status(kind));
        }
        _ => {}
    }
    if kind.kind == "Job" {
        job_selector(map);
    }
    if kind.generation {
        if let Some(metadata) = map.get_mut("metadata") {
            metadata["generation"] = 1.into();
        }
    } else if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("generation");
    }
}

fn empty_status(kind: &BuiltIn) -> Value {
    match kind.kind {
        "StatefulSet" => json!({"availableReplicas": 0, "replicas": 0}),
        "ReplicaSet" => json!({"replicas": 0}),
        "DaemonSet" => {
            json!({"currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0})
        }
        "HorizontalPodAutoscaler" => json!({"currentMetrics": null, "desiredReplicas": 0}),
        "PodDisruptionBudget" => {
            json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0})
        }
        "Ingress" => json!({"loadBalancer": {}}),
        _ => json!({}),
    }
}

/// K-249: the selector and the labels it selects by.
fn job_selector(map: &mut Map<String, Value>) {
    let uid = map
        .get("metadata")
        .and_then(|m| m.get("uid"))
        .cloned()
        .unwrap_or_default();
    let name = map
        .get("metadata")
        .and_then(|m| m.get("name"))
        .cloned()
        .unwrap_or_default();
    let Some(spec) = map.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    if spec.get("manualSelector") == Some(&Value::Bool(true)) {
        return;
    }
    spec.insert(
        "selector".into(),
        json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}),
    );
    if let Some(labels) = super::defaults::object(spec, "template")
        .and_then(|template| super::defaults::object(template, "metadata"))
        .and_then(|metadata| super::defaults::object(metadata, "labels"))
    {
        for prefix in ["", "batch.kubernetes.io/"] {
            labels.insert(format!("{prefix}controller-uid"), uid.clone());
            labels.insert(format!("{prefix}job-name"), name.clone());
        }
    }
}

/// Before an update through the main endpoint: the status stays, and so do allocated fields the client left out.
pub fn update(kind: &BuiltIn, new: &mut Value, old: &Value) {
    let Some(map) = new.as_object_mut() else {
        return;
    };
    if kind.status {
        match old.get("status") {
            Some(status) => map.insert("status".into(), status.clone()),
            None => map.remove("status"),
        };
    }
    if kind.is("", "services") {
        keep_service_allocations(map, old);
    }
    if kind.is("batch", "jobs") {
        keep(map, old, "/spec/selector");
    }
    if kind.is("", "pods") {
        for pointer in [
            "/spec/nodeName",
            "/spec/serviceAccountName",
            "/spec/serviceAccount",
        ] {
            keep(map, old, pointer);
        }
    }
    if kind.is("", "namespaces") {
        // `spec.finalizers` is emptied through `/finalize` only.
        if let Some(spec) = old.get("spec") {
            map.insert("spec".into(), spec.clone());
        }
    }
}

/// Copies a member the client left out from the stored object.
fn keep(map: &mut Map<String, Value>, old: &Value, pointer: &str) {
    let Some(value) = old.pointer(pointer) else {
        return;
    };
    let mut parts = pointer.trim_start_matches('/').split('/');
    let (Some(parent), Some(key)) = (parts.next(), parts.next()) else {
        return;
    };
    if let Some(parent) = map.get_mut(parent).and_then(Value::as_object_mut) {
        parent.entry(key).or_insert_with(|| value.clone());
    }
}

fn keep_service_allocations(map: &mut Map<String, Value>, old: &Value) {
    let external =
        map.get("spec").and_then(|spec| spec.get("type")) == Some(&json!("ExternalName"));
    if external {
        return;
    }
    for pointer in [
        "/spec/clusterIP",
        "/spec/clusterIPs",
        "/spec/healthCheckNodePort",
    ] {
        keep(map, old, pointer);
    }
    let old_ports = old
        .pointer("/spec/ports")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    if let Some(spec) = map.get_mut("spec").and_then(Value::as_object_mut) {
        let node_ports = matches!(
            spec.get("type").and_then(Value::as_str),
            Some("NodePort" | "LoadBalancer")
        );
        for port in super::defaults::items(spec, "ports") {
            if node_ports && !port.contains_key("nodePort") {
                let same = |old: &&Value| {
                    old.get("port") == port.get("port")
                        && old.get("protocol") == port.get("protocol")
                };
                if let Some(number) = old_ports
                    .iter()
                    .find(same)
                    .and_then(|old| old.get("nodePort"))
                {
                    port.insert("nodePort".into(), number.clone());
                }
            }
        }
    }
}

/// Before a write of the status subresource: everything but the status and the metadata stays (K-062).
pub fn update_status(kind: &BuiltIn, new: &mut Value, old: &Value) {
    let (Some(map), Some(kept)) = (new.as_object_mut(), old.as_object()) else {
        return;
    };
    let own = |key: &str| matches!(key, "status" | "metadata");
    if kind.is("", "pods")
        && map.contains_key("status")
        && let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut)
    {
        match old.pointer("/metadata/ownerReferences") {
            Some(owners) => drop(metadata.insert("ownerReferences".into(), owners.clone())),
            None => drop(metadata.remove("ownerReferences")),
        }
    }
    map.retain(|key, _| own(key) || kept.contains_key(key));
    for (key, value) in kept.iter().filter(|(key, _)| *key != "status") {
        let found = map.get(key);
        // Mostly it is the same already: comparing costs less than copying.
        if found.is_none() || !own(key) && found != Some(value) {
            map.insert(key.clone(), value.clone());
        }
    }
}

/// Whether an update changes what `metadata.generation` counts.
pub fn changes_generation(kind: &BuiltIn, new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else {
        return false;
    };
    if kind.kind == "EndpointSlice"
        || kind.group == "admissionregistration.k8s.io"
        || kind.kind == "PriorityClass"
    {
        return new
            .iter()
            .chain(old)
            .any(|(key, _)| key != "metadata" && key != "status" && new.get(key) != old.get(key));
    }
    let annotations = |map: &Map<String, Value>| {
        map.get("metadata")
            .and_then(|m| m.get("annotations"))
            .cloned()
    };
    new.get("spec") != old.get("spec")
        || kind.is("apps", "deployments") && annotations(new) != annotations(old)
}

/// Updates that are refused because of what the object was before.
pub fn immutable(kind: &BuiltIn, new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let immutable_when_set = old.get("immutable") == Some(&Value::Bool(true))
        && matches!(kind.kind, "ConfigMap" | "Secret");
    if immutable_when_set {
        // K-228
        let text = "field is immutable when `immutable` is set";
        if new.get("immutable") != Some(&Value::Bool(true)) {
            causes.push(Cause::forbidden("immutable", text));
        }
        for key in ["data", "binaryData"] {
            if new.get(key) != old.get(key) {
                causes.push(Cause::forbidden(key, text));
            }
        }
    }
    if kind.kind == "Secret" && new.get("type") != old.get("type") {
        // K-229
        causes.push(Cause::invalid(
            "type",
            new.get("type").unwrap_or(&Value::Null),
            "field is immutable",
        ));
    }
    if kind.group == "rbac.authorization.k8s.io" && new.get("roleRef") != old.get("roleRef") {
        causes.push(Cause::invalid(
            "roleRef",
            new.get("roleRef").unwrap_or(&Value::Null),
            "cannot change roleRef",
        ));
    }
    if kind.is("", "persistentvolumeclaims") {
        claim_spec(new, old, causes);
    }
    if kind.is("", "pods") {
        pods::immutable(new, old, causes);
    }
}

/// K-250: only the requested size may grow, and the volume be bound.
fn claim_spec(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let strip = |value: &Value| {
        let mut spec = value.get("spec").cloned().unwrap_or_default();
        if let Some(map) = spec.as_object_mut() {
            map.remove("resources");
            map.remove("volumeAttributesClassName");
        }
        spec
    };
    let (mut a, b) = (strip(new), strip(old));
    if b.get("volumeName").is_none()
        && let Some(map) = a.as_object_mut()
    {
        map.remove("volumeName");
    }
    if b.get("storageClassName").is_none()
        && let Some(map) = a.as_object_mut()
    {
        map.remove("storageClassName");
    }
    if a != b {
        causes.push(Cause::forbidden(
            "spec",
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        ));
    }
}
