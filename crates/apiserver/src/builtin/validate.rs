//! Checks of built-in objects that clients notice (K-052, K-228, K-230, K-263).

use serde_json::Value;

use super::kinds::BuiltIn;
use super::pods;
use super::shape::{Object, Shape};
use crate::error::Cause;

pub(crate) const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const LABEL_KEY: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const MAX_BYTES: usize = 1 << 20;

/// Names of RBAC objects may be anything that fits into a path.
fn is_path_segment(name: &str) -> bool {
    name != "." && name != ".." && !name.contains('/') && !name.contains('%')
}

fn is_subdomain(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|part| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !part.starts_with('-')
                && !part.ends_with('-')
        })
}

fn is_qualified(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 63
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric())
}

/// Name, labels, annotations and owners of any object (K-052, K-073).
pub fn metadata(kind: Option<&BuiltIn>, object: &Value, causes: &mut Vec<Cause>) {
    let Some(metadata) = object.get("metadata") else {
        return;
    };
    let name = metadata
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let rbac = kind.is_some_and(|kind| kind.group == "rbac.authorization.k8s.io");
    let label = kind.is_some_and(|kind| kind.is("", "namespaces") || kind.is("", "services"));
    let (ok, text) = match (rbac, label) {
        (true, _) => (is_path_segment(name), "may not contain '/' or '%'"),
        (_, true) => (pods::is_label(name), LABEL),
        _ => (is_subdomain(name), SUBDOMAIN),
    };
    if !ok {
        causes.push(Cause::invalid("metadata.name", &name.into(), text));
    }
    labels(metadata.get("labels"), "metadata.labels", causes);
    let annotations = metadata.get("annotations").and_then(Value::as_object);
    let mut total = 0;
    for (key, value) in annotations.into_iter().flatten() {
        total += key.len() + value.as_str().map_or(0, str::len);
        if !is_key(&key.to_lowercase()) {
            causes.push(Cause::invalid(
                "metadata.annotations",
                &key.as_str().into(),
                LABEL_KEY,
            ));
        }
    }
    if total > 256 << 10 {
        causes.push(Cause {
            reason: "FieldValueTooLong",
            message: "Too long: may not be more than 262144 bytes".into(),
            field: "metadata.annotations".into(),
        });
    }
    let owners = metadata.get("ownerReferences").and_then(Value::as_array);
    let controllers = owners
        .into_iter()
        .flatten()
        .filter(|owner| owner.get("controller") == Some(&Value::Bool(true)));
    if controllers.count() > 1 {
        causes.push(Cause::invalid(
            "metadata.ownerReferences",
            metadata.get("ownerReferences").unwrap_or(&Value::Null),
            "Only one reference can have Controller set to true",
        ));
    }
}

fn is_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_qualified(name),
        None => is_qualified(key),
    }
}

fn labels(labels: Option<&Value>, path: &str, causes: &mut Vec<Cause>) {
    for (key, value) in labels.and_then(Value::as_object).into_iter().flatten() {
        if !is_key(key) {
            causes.push(Cause::invalid(path, &key.as_str().into(), LABEL_KEY));
        }
        let text = value.as_str().unwrap_or_default();
        if !text.is_empty() && !is_qualified(text) {
            let text = if text.len() > 63 {
                "must be no more than 63 bytes"
            } else {
                LABEL_VALUE
            };
            causes.push(Cause::invalid(path, value, text));
        }
    }
}

/// The kind's own checks.
pub fn object(kind: &BuiltIn, object: &Value, causes: &mut Vec<Cause>) {
    match (kind.group, kind.kind) {
        ("", "Pod") => match object.get("spec") {
            Some(spec) => pods::validate(spec, "spec", causes),
            None => causes.push(Cause::required("spec.containers", "")),
        },
        ("", "ConfigMap") => data_keys(object, causes),
        ("", "Secret") => secret(object, causes),
        ("", "PersistentVolumeClaim") => {
            if object.pointer("/spec/resources/requests/storage").is_none() {
                causes.push(Cause::required("spec.resources[storage]", ""));
            }
            if object
                .pointer("/spec/accessModes")
                .and_then(Value::as_array)
                .is_none_or(Vec::is_empty)
            {
                causes.push(Cause::required(
                    "spec.accessModes",
                    "at least 1 access mode is required",
                ));
            }
        }
        ("", "Event") => event(object, causes),
        ("", "Service") => {
            let ports = object.pointer("/spec/ports").and_then(Value::as_array);
            let many = ports.is_some_and(|ports| ports.len() > 1);
            for (index, port) in ports.into_iter().flatten().enumerate() {
                if many && port.get("name").is_none() {
                    causes.push(Cause::required(format!("spec.ports[{index}].name"), ""));
                }
            }
        }
        ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet") => {
            workload(object, causes)
        }
        ("batch", "Job") => {
            if let Some(spec) = object.pointer("/spec/template/spec") {
                pods::validate(spec, "spec.template.spec", causes);
            }
        }
        _ => {
            if let Some(definition) = super::shape::definition(&kind.definition()) {
                required(object, definition, "", causes);
            }
        }
    }
}

/// Members the schema requires, for kinds without checks of their own.
fn required(value: &Value, object: &'static Object, path: &str, causes: &mut Vec<Cause>) {
    for field in object.fields {
        let at = if path.is_empty() {
            field.name.to_owned()
        } else {
            format!("{path}.{}", field.name)
        };
        match (value.get(field.name), field.shape) {
            (None, Shape::String | Shape::Object(_))
                if field.required && field.name != "status" =>
            {
                causes.push(Cause::required(at, ""));
            }
            (Some(member), Shape::Object(below))
                if field.name != "metadata" && field.name != "status" =>
            {
                required(member, below, &at, causes);
            }
            (Some(Value::Array(items)), Shape::List(list)) => {
                if let Shape::Object(below) = list.items {
                    for (index, item) in items.iter().enumerate() {
                        required(item, below, &format!("{at}[{index}]"), causes);
                    }
                }
            }
            _ => {}
        }
    }
}

fn workload(object: &Value, causes: &mut Vec<Cause>) {
    let Some(selector) = object.pointer("/spec/selector") else {
        causes.push(Cause::required("spec.selector", ""));
        return;
    };
    let template = object.pointer("/spec/template").unwrap_or(&Value::Null);
    if !crate::selector::Labels::from_object(selector).matches_value(template) {
        let labels = template
            .pointer("/metadata/labels")
            .cloned()
            .unwrap_or(Value::Null);
        causes.push(Cause::invalid(
            "spec.template.metadata.labels",
            &labels,
            "`selector` does not match template `labels`",
        ));
    }
    if let Some(spec) = template.get("spec") {
        pods::validate(spec, "spec.template.spec", causes);
    }
}

fn data_keys(object: &Value, causes: &mut Vec<Cause>) {
    let mut total = 0;
    for field in ["data", "binaryData"] {
        for (key, value) in object
            .get(field)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            total += value.as_str().map_or(0, str::len);
            let ok = !key.is_empty()
                && key.len() <= 253
                && key
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
                && key != "."
                && !key.starts_with("..");
            if !ok {
                let text = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
                causes.push(Cause::invalid(
                    format!("{field}[{key}]"),
                    &key.as_str().into(),
                    text,
                ));
            }
            if field == "binaryData"
                && object
                    .get("data")
                    .is_some_and(|data| data.get(key).is_some())
            {
                causes.push(Cause::invalid(
                    format!("data[{key}]"),
                    &key.as_str().into(),
                    "duplicate of key present in binaryData",
                ));
            }
        }
    }
    if total > MAX_BYTES {
        causes.push(Cause {
            reason: "FieldValueTooLong",
            message: "Too long: may not be more than 1048576 bytes".into(),
            field: String::new(),
        });
    }
}

/// K-230
fn secret(object: &Value, causes: &mut Vec<Cause>) {
    use base64::Engine as _;
    data_keys(object, causes);
    let data = object.get("data");
    let has = |key: &str| data.is_some_and(|data| data.get(key).is_some());
    let need = |key: &str, causes: &mut Vec<Cause>| {
        if !has(key) {
            causes.push(Cause::required(format!("data[{key}]"), ""));
        }
    };
    match object
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default()
    {
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            need("username", causes);
            need("password", causes);
        }
        "kubernetes.io/ssh-auth" => need("ssh-privatekey", causes),
        "kubernetes.io/tls" => {
            need("tls.crt", causes);
            need("tls.key", causes);
        }
        "kubernetes.io/service-account-token"
            if object
                .pointer("/metadata/annotations/kubernetes.io~1service-account.name")
                .is_none() =>
        {
            causes.push(Cause::required(
                "metadata.annotations[kubernetes.io/service-account.name]",
                "",
            ));
        }
        kind @ ("kubernetes.io/dockerconfigjson" | "kubernetes.io/dockercfg") => {
            let key = if kind.ends_with("json") {
                ".dockerconfigjson"
            } else {
                ".dockercfg"
            };
            need(key, causes);
            let text = data
                .and_then(|data| data.get(key))
                .and_then(Value::as_str)
                .unwrap_or_default();
            let decoded = base64::engine::general_purpose::STANDARD
                .decode(text)
                .unwrap_or_default();
            if has(key) && serde_json::from_slice::<serde::de::IgnoredAny>(&decoded).is_err() {
                causes.push(Cause::invalid(
                    format!("data[{key}]"),
                    &"<secret contents redacted>".into(),
                    "invalid json",
                ));
            }
        }
        _ => {}
    }
}

/// K-233
fn event(object: &Value, causes: &mut Vec<Cause>) {
    let namespace = object
        .pointer("/metadata/namespace")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let involved = object
        .pointer("/involvedObject/namespace")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let fits = involved == namespace
        || involved.is_empty() && matches!(namespace, "default" | "kube-system");
    if !fits {
        causes.push(Cause::invalid(
            "involvedObject.namespace",
            &involved.into(),
            "does not match event.namespace",
        ));
    }
}
