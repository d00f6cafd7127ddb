//! Writes the schemas of the built-in kinds: `src/builtin/shapes.rs` for decoding, `schemas.json.gz` for OpenAPI.
//! Its test (`cargo test --features generate --example generate_schemas`) says whether they are stale.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use k8s_openapi::api;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

/// Lists that merge: definition suffix, field, merge keys of server-side apply, patch merge key, patch strategy.
const LISTS: &[(&str, &str, &[&str], &str, &str)] = &[
    ("PodSpec", "containers", &["name"], "name", "merge"),
    ("PodSpec", "initContainers", &["name"], "name", "merge"),
    ("PodSpec", "ephemeralContainers", &["name"], "name", "merge"),
    ("PodSpec", "volumes", &["name"], "name", "merge,retainKeys"),
    ("PodSpec", "imagePullSecrets", &["name"], "name", "merge"),
    (
        "PodSpec",
        "resourceClaims",
        &["name"],
        "name",
        "merge,retainKeys",
    ),
    ("PodSpec", "schedulingGates", &["name"], "name", "merge"),
    ("PodSpec", "hostAliases", &["ip"], "ip", "merge"),
    (
        "PodSpec",
        "topologySpreadConstraints",
        &["topologyKey", "whenUnsatisfiable"],
        "topologyKey",
        "merge",
    ),
    ("Container", "env", &["name"], "name", "merge"),
    (
        "Container",
        "ports",
        &["containerPort", "protocol"],
        "containerPort",
        "merge",
    ),
    (
        "Container",
        "volumeMounts",
        &["mountPath"],
        "mountPath",
        "merge",
    ),
    (
        "Container",
        "volumeDevices",
        &["devicePath"],
        "devicePath",
        "merge",
    ),
    ("EphemeralContainer", "env", &["name"], "name", "merge"),
    (
        "EphemeralContainer",
        "ports",
        &["containerPort", "protocol"],
        "containerPort",
        "merge",
    ),
    (
        "EphemeralContainer",
        "volumeMounts",
        &["mountPath"],
        "mountPath",
        "merge",
    ),
    (
        "EphemeralContainer",
        "volumeDevices",
        &["devicePath"],
        "devicePath",
        "merge",
    ),
    ("ResourceRequirements", "claims", &["name"], "", ""),
    ("PodStatus", "conditions", &["type"], "type", "merge"),
    ("PodStatus", "podIPs", &["ip"], "ip", "merge"),
    ("PodStatus", "hostIPs", &[], "ip", "merge"),
    ("NodeStatus", "conditions", &["type"], "type", "merge"),
    ("NodeStatus", "addresses", &["type"], "type", "merge"),
    ("NamespaceStatus", "conditions", &["type"], "type", "merge"),
    (
        "PersistentVolumeClaimStatus",
        "conditions",
        &["type"],
        "type",
        "merge",
    ),
    (
        "ServiceSpec",
        "ports",
        &["port", "protocol"],
        "port",
        "merge",
    ),
    ("ServiceStatus", "conditions", &["type"], "type", "merge"),
    ("DeploymentStatus", "conditions", &["type"], "type", "merge"),
    ("ReplicaSetStatus", "conditions", &["type"], "type", "merge"),
    (
        "StatefulSetStatus",
        "conditions",
        &["type"],
        "type",
        "merge",
    ),
    ("DaemonSetStatus", "conditions", &["type"], "type", "merge"),
    ("JobStatus", "conditions", &[], "type", "merge"),
    ("ServiceAccount", "secrets", &["name"], "name", "merge"),
    (
        "MutatingWebhookConfiguration",
        "webhooks",
        &["name"],
        "name",
        "merge",
    ),
    (
        "ValidatingWebhookConfiguration",
        "webhooks",
        &["name"],
        "name",
        "merge",
    ),
    (
        "MutatingWebhook",
        "matchConditions",
        &["name"],
        "name",
        "merge",
    ),
    (
        "ValidatingWebhook",
        "matchConditions",
        &["name"],
        "name",
        "merge",
    ),
    ("ObjectMeta", "ownerReferences", &["uid"], "uid", "merge"),
    (
        "CustomResourceDefinitionStatus",
        "conditions",
        &["type"],
        "",
        "",
    ),
    (
        "HorizontalPodAutoscalerStatus",
        "conditions",
        &["type"],
        "type",
        "merge",
    ),
];
/// Lists that are sets.
const SETS: &[(&str, &str)] = &[("ObjectMeta", "finalizers"), ("NodeSpec", "podCIDRs")];
/// Objects that change as a whole.
const ATOMIC: &[&str] = &[
    "LabelSelector",
    "ConfigMapKeySelector",
    "SecretKeySelector",
    "ObjectFieldSelector",
    "ResourceFieldSelector",
    "LocalObjectReference",
    "ObjectReference",
    "TypedLocalObjectReference",
    "OwnerReference",
    "SecretReference",
    "RoleRef",
    "Subject",
    "NodeSelector",
    "NodeSelectorTerm",
    "ScopeSelector",
];

macro_rules! roots {
    ($generator:ident: $($($path:ident)::+),* $(,)?) => {
        $( $generator.subschema_for::<$($path)::+>(); )*
    };
}

fn definitions() -> BTreeMap<String, Value> {
    let mut generator = SchemaSettings::openapi3().into_generator();
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
    roots!(generator:
        api::core::v1::Namespace, api::core::v1::Pod, api::core::v1::ConfigMap, api::core::v1::Secret,
        api::core::v1::ServiceAccount, api::core::v1::Event, api::events::v1::Event,
        api::core::v1::PersistentVolumeClaim, api::core::v1::PersistentVolume, api::core::v1::Node,
        api::core::v1::LimitRange, api::core::v1::ResourceQuota, api::core::v1::Service, api::core::v1::Endpoints,
        api::core::v1::Binding, api::core::v1::PodTemplate, api::core::v1::ReplicationController,
        api::discovery::v1::EndpointSlice, api::coordination::v1::Lease,
        api::apps::v1::StatefulSet, api::apps::v1::Deployment, api::apps::v1::ReplicaSet, api::apps::v1::DaemonSet,
        api::apps::v1::ControllerRevision,
        api::batch::v1::Job, api::batch::v1::CronJob,
        api::autoscaling::v1::Scale, api::autoscaling::v2::HorizontalPodAutoscaler,
        api::policy::v1::PodDisruptionBudget, api::policy::v1::Eviction,
        api::networking::v1::NetworkPolicy, api::networking::v1::Ingress, api::networking::v1::IngressClass,
        api::storage::v1::StorageClass, api::scheduling::v1::PriorityClass, api::node::v1::RuntimeClass,
        api::rbac::v1::Role, api::rbac::v1::RoleBinding, api::rbac::v1::ClusterRole, api::rbac::v1::ClusterRoleBinding,
        api::admissionregistration::v1::MutatingWebhookConfiguration,
        api::admissionregistration::v1::ValidatingWebhookConfiguration,
        api::admissionregistration::v1::ValidatingAdmissionPolicy,
        api::admissionregistration::v1::ValidatingAdmissionPolicyBinding,
        api::authentication::v1::TokenRequest, api::authentication::v1::TokenReview,
        api::authentication::v1::SelfSubjectReview,
        api::authorization::v1::SelfSubjectAccessReview, api::authorization::v1::SubjectAccessReview,
        api::authorization::v1::LocalSubjectAccessReview, api::authorization::v1::SelfSubjectRulesReview,
        apiextensions::CustomResourceDefinition,
        meta::DeleteOptions, meta::Status,
    );
    generator.take_definitions(true).into_iter().collect()
}

fn annotate(definitions: &mut BTreeMap<String, Value>) {
    for (name, schema) in definitions.iter_mut() {
        let short = name.rsplit('.').next().unwrap_or_default().to_owned();
        if ATOMIC.contains(&short.as_str()) {
            schema["x-kubernetes-map-type"] = json!("atomic");
        }
        let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
            continue;
        };
        for (field, property) in properties.iter_mut() {
            if let Some((.., keys, patch_key, strategy)) = LISTS
                .iter()
                .find(|(def, name, ..)| *def == short && name == field)
            {
                if keys.is_empty() {
                    property["x-kubernetes-list-type"] = json!("atomic");
                } else {
                    property["x-kubernetes-list-type"] = json!("map");
                    property["x-kubernetes-list-map-keys"] = json!(keys);
                }
                if !patch_key.is_empty() {
                    property["x-kubernetes-patch-merge-key"] = json!(patch_key);
                    property["x-kubernetes-patch-strategy"] = json!(strategy);
                }
            } else if SETS.contains(&(short.as_str(), field.as_str())) {
                property["x-kubernetes-list-type"] = json!("set");
                property["x-kubernetes-patch-strategy"] = json!("merge");
            } else if property.get("type") == Some(&json!("array")) {
                property["x-kubernetes-list-type"] = json!("atomic");
            }
            if short == "DeploymentSpec" && field == "strategy" {
                property["x-kubernetes-patch-strategy"] = json!("retainKeys");
            }
            if short == "PodSpec" && field == "nodeSelector" {
                property["x-kubernetes-map-type"] = json!("atomic");
            }
        }
    }
}

/// `#/components/schemas/x` without its prefix, also through the `allOf` wrapper that carries a description.
fn reference(schema: &Value) -> Option<&str> {
    let target = schema
        .get("$ref")
        .or_else(|| schema.get("allOf").and_then(|all| all.get(0)?.get("$ref")))?;
    target.as_str()?.strip_prefix("#/components/schemas/")
}

struct Shapes<'a> {
    definitions: &'a BTreeMap<String, Value>,
    names: BTreeMap<&'a str, usize>,
}

impl Shapes<'_> {
    fn expression(&self, schema: &Value) -> String {
        if let Some(target) = reference(schema) {
            return match target.rsplit('.').next().unwrap_or_default() {
                "Quantity" => "Shape::Quantity".into(),
                "IntOrString" => "Shape::IntOrString".into(),
                "Time" => "Shape::Time".into(),
                "MicroTime" => "Shape::MicroTime".into(),
                "RawExtension"
                | "FieldsV1"
                | "JSON"
                | "JSONSchemaPropsOrBool"
                | "JSONSchemaPropsOrArray"
                | "JSONSchemaPropsOrStringArray" => "Shape::Any".into(),
                _ if self.names[target] == usize::MAX => "Shape::Any".into(),
                _ => format!("Shape::Object(&OBJECTS[{}])", self.names[target]),
            };
        }
        if schema.get("x-kubernetes-int-or-string").is_some() {
            return "Shape::IntOrString".into();
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("string") => match schema.get("format").and_then(Value::as_str) {
                Some("byte") => "Shape::Bytes".into(),
                Some("date-time") => "Shape::Time".into(),
                _ => "Shape::String".into(),
            },
            Some("boolean") => "Shape::Bool".into(),
            Some("integer") => match schema.get("format").and_then(Value::as_str) {
                Some("int32") => "Shape::Int32".into(),
                _ => "Shape::Int64".into(),
            },
            Some("number") => "Shape::Number".into(),
            Some("array") => {
                let items = self.expression(&schema["items"]);
                let text = |key: &str| {
                    schema
                        .get(key)
                        .and_then(Value::as_str)
                        .unwrap_or_default()
                        .to_owned()
                };
                let keys: Vec<String> = schema
                    .get("x-kubernetes-list-map-keys")
                    .and_then(Value::as_array)
                    .map(|keys| keys.iter().map(|key| format!("{key}")).collect())
                    .unwrap_or_default();
                let apply = match text("x-kubernetes-list-type").as_str() {
                    "map" => format!("ListType::Map(&[{}])", keys.join(", ")),
                    "set" => "ListType::Set".into(),
                    _ => "ListType::Atomic".into(),
                };
                let (merge_key, strategy) = (
                    text("x-kubernetes-patch-merge-key"),
                    text("x-kubernetes-patch-strategy"),
                );
                let patch = match (merge_key.as_str(), strategy.contains("merge")) {
                    ("", true) => "Merge::Set".into(),
                    ("", false) => "Merge::Replace".into(),
                    (key, _) => format!("Merge::Key({key:?})"),
                };
                format!("Shape::List(&List {{ items: {items}, apply: {apply}, patch: {patch} }})")
            }
            Some("object") => match schema.get("additionalProperties") {
                Some(Value::Object(values)) => {
                    let atomic = schema.get("x-kubernetes-map-type").is_some();
                    let values = self.expression(&Value::Object(values.clone()));
                    format!("Shape::Map(&MapOf {{ values: {values}, atomic: {atomic} }})")
                }
                _ => "Shape::Any".into(),
            },
            _ => "Shape::Any".into(),
        }
    }
}

fn shapes(definitions: &BTreeMap<String, Value>) -> String {
    let objects: Vec<&str> = definitions
        .iter()
        .filter(|(_, schema)| schema.get("properties").is_some())
        .map(|(name, _)| name.as_str())
        .collect();
    let names: BTreeMap<&str, usize> = definitions
        .keys()
        .map(|name| {
            (
                name.as_str(),
                objects
                    .iter()
                    .position(|object| object == name)
                    .unwrap_or(usize::MAX),
            )
        })
        .collect();
    let shapes = Shapes { definitions, names };
    let mut out = String::from(
        "//! The fields of the built-in kinds, generated by `examples/generate_schemas.rs`: do not edit.\n\n\
         use super::shape::{Field, List, ListType, MapOf, Merge, Object, Shape};\n\n#[rustfmt::skip]\n",
    );
    let _ = writeln!(
        out,
        "pub(super) static OBJECTS: [Object; {}] = [",
        objects.len()
    );
    for name in &objects {
        let schema = &shapes.definitions[*name];
        let required: BTreeSet<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .map(|list| list.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let atomic = schema.get("x-kubernetes-map-type").is_some();
        let _ = writeln!(
            out,
            "    Object {{ name: {name:?}, atomic: {atomic}, fields: &["
        );
        let properties: BTreeMap<&String, &Value> = schema["properties"]
            .as_object()
            .map(|map| map.iter().collect())
            .unwrap_or_default();
        for (field, property) in properties {
            let required = required.contains(field.as_str());
            let shape = shapes.expression(property);
            let _ = writeln!(
                out,
                "        Field {{ name: {field:?}, shape: {shape}, required: {required} }},"
            );
        }
        out.push_str("    ] },\n");
    }
    out.push_str("];\n");
    out
}

/// The generated files, by name below `src/builtin`.
fn generate() -> Result<[(&'static str, Vec<u8>); 2], Box<dyn std::error::Error>> {
    let mut definitions = definitions();
    annotate(&mut definitions);
    let source = shapes(&definitions);
    let json = serde_json::to_vec(&definitions)?;
    let mut encoder = flate2::GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), flate2::Compression::best());
    encoder.write_all(&json)?;
    Ok([
        ("shapes.rs", source.into_bytes()),
        ("schemas.json.gz", encoder.finish()?),
    ])
}

fn directory() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/builtin")
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (name, content) in generate()? {
        std::fs::write(directory().join(name), content)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_schemas_are_what_the_generator_makes() {
        for (name, content) in super::generate().unwrap() {
            let committed = std::fs::read(super::directory().join(name)).unwrap();
            assert!(committed == content, "{name} is stale: run this example");
        }
    }
}
