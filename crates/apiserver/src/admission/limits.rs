//! LimitRanges and pod security levels (K-202, K-205).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Review;
use crate::builtin::defaults;
use crate::error::ApiError;
use crate::quantity::Quantity;
use crate::server::Inner;

type Amounts = BTreeMap<String, Quantity>;

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn amounts(value: Option<&Value>) -> Amounts {
    let map = value.and_then(Value::as_object).into_iter().flatten();
    map.filter_map(|(key, value)| Some((key.clone(), Quantity::parse(value.as_str()?)?)))
        .collect()
}

/// The checks of one limit on what a container, pod or claim asks for.
fn violations(
    limit: &Value,
    what: &str,
    requests: &Amounts,
    limits: &Amounts,
    out: &mut Vec<String>,
) {
    let raw = |key: &str, name: &str| {
        limit
            .get(key)
            .and_then(|map| map.get(name))
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    for (name, least) in amounts(limit.get("min")) {
        let wanted = raw("min", &name);
        match requests.get(&name) {
            None => out.push(format!(
                "minimum {name} usage per {what} is {wanted}.  No request is specified"
            )),
            Some(request) if *request < least => {
                out.push(format!(
                    "minimum {name} usage per {what} is {wanted}, but request is {}",
                    request.binary()
                ));
            }
            Some(_) => {}
        }
        if let Some(own) = limits.get(&name).filter(|own| **own < least) {
            out.push(format!(
                "minimum {name} usage per {what} is {wanted}, but limit is {}",
                own.binary()
            ));
        }
    }
    for (name, most) in amounts(limit.get("max")) {
        let wanted = raw("max", &name);
        match limits.get(&name) {
            None if what != "PersistentVolumeClaim" => {
                out.push(format!(
                    "maximum {name} usage per {what} is {wanted}.  No limit is specified"
                ));
            }
            Some(own) if *own > most => {
                out.push(format!(
                    "maximum {name} usage per {what} is {wanted}, but limit is {}",
                    own.binary()
                ));
            }
            _ => {}
        }
        if let Some(request) = requests.get(&name).filter(|request| **request > most) {
            out.push(format!(
                "maximum {name} usage per {what} is {wanted}, but request is {}",
                request.binary()
            ));
        }
    }
    for (name, ratio) in amounts(limit.get("maxLimitRequestRatio")) {
        if let (Some(request), Some(own)) = (requests.get(&name), limits.get(&name))
            && own.ratio_exceeds(*request, ratio)
        {
            let wanted = raw("maxLimitRequestRatio", &name);
            out.push(format!("{name} max limit to request ratio per {what} is {wanted}, but provided ratio is higher"));
        }
    }
}

impl Inner {
    fn limits(&self, namespace: &str, kind: &str) -> Vec<Value> {
        let (ranges, _) = self.storage.list("limitranges", Some(namespace));
        let values = ranges.iter().map(|range| range.value());
        let limits = values.flat_map(|value| {
            value
                .pointer("/spec/limits")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default()
        });
        limits
            .filter(|limit| text(limit, "/type") == kind)
            .collect()
    }

    fn refuse(&self, review: &Review<'_>, object: &Value, out: &[String]) -> Result<(), ApiError> {
        let why = match out {
            [] => return Ok(()),
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        Err(ApiError::forbidden(
            review.resource.about(),
            text(object, "/metadata/name"),
            &why,
        ))
    }

    /// K-202 for pods.
    pub(super) fn limit_pod(&self, review: &Review<'_>, pod: &mut Value) -> Result<(), ApiError> {
        let limits = self.limits(review.namespace, "Container");
        let pod_limits = self.limits(review.namespace, "Pod");
        if limits.is_empty() && pod_limits.is_empty() {
            return Ok(());
        }
        let mut set: Vec<String> = Vec::new();
        let (mut default_limits, mut default_requests) = (Map::new(), Map::new());
        for limit in &limits {
            for (key, into) in [
                ("default", &mut default_limits),
                ("defaultRequest", &mut default_requests),
            ] {
                for (name, value) in limit
                    .get(key)
                    .and_then(Value::as_object)
                    .into_iter()
                    .flatten()
                {
                    into.entry(name.clone()).or_insert_with(|| value.clone());
                }
            }
        }
        if let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) {
            for (list, label) in [
                ("containers", "container"),
                ("initContainers", "init container"),
            ] {
                for container in defaults::items(spec, list) {
                    fill(
                        container,
                        label,
                        &default_requests,
                        &default_limits,
                        &mut set,
                    );
                }
            }
        }
        if !set.is_empty() {
            let message = format!("LimitRanger plugin set: {}", set.join("; "));
            if let Some(metadata) = pod.get_mut("metadata").and_then(Value::as_object_mut)
                && let Some(annotations) = defaults::object(metadata, "annotations")
            {
                annotations.insert("kubernetes.io/limit-ranger".into(), message.into());
            }
        }
        let mut out = Vec::new();
        let (mut total_requests, mut total_limits) = (Amounts::new(), Amounts::new());
        for list in ["containers", "initContainers"] {
            for container in pod
                .pointer(&format!("/spec/{list}"))
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                let requests = amounts(container.pointer("/resources/requests"));
                let own = amounts(container.pointer("/resources/limits"));
                for limit in &limits {
                    violations(limit, "Container", &requests, &own, &mut out);
                }
                if list == "containers" {
                    for (total, part) in
                        [(&mut total_requests, &requests), (&mut total_limits, &own)]
                    {
                        for (name, amount) in part {
                            let sum = total
                                .get(name)
                                .copied()
                                .unwrap_or(Quantity::ZERO)
                                .plus(*amount);
                            total.insert(name.clone(), sum);
                        }
                    }
                }
            }
        }
        for limit in &pod_limits {
            violations(limit, "Pod", &total_requests, &total_limits, &mut out);
        }
        self.refuse(review, pod, &out)
    }

    /// K-202 for claims.
    pub(super) fn limit_claim(&self, review: &Review<'_>, claim: &Value) -> Result<(), ApiError> {
        let requests = amounts(claim.pointer("/spec/resources/requests"));
        let mut out = Vec::new();
        for limit in self.limits(review.namespace, "PersistentVolumeClaim") {
            violations(
                &limit,
                "PersistentVolumeClaim",
                &requests,
                &Amounts::new(),
                &mut out,
            );
        }
        self.refuse(review, claim, &out)
    }
}

fn fill(
    container: &mut Map<String, Value>,
    label: &str,
    requests: &Map<String, Value>,
    limits: &Map<String, Value>,
    set: &mut Vec<String>,
) {
    let name = container
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let Some(resources) = defaults::object(container, "resources") else {
        return;
    };
    for (key, defaults_of, what) in [
        ("requests", requests, "request"),
        ("limits", limits, "limit"),
    ] {
        let mut added = Vec::new();
        let own = resources.entry(key).or_insert_with(|| json!({}));
        if let Some(own) = own.as_object_mut() {
            for (resource, value) in defaults_of {
                if !own.contains_key(resource) {
                    own.insert(resource.clone(), value.clone());
                    added.push(resource.as_str());
                }
            }
        }
        if resources
            .get(key)
            .and_then(Value::as_object)
            .is_some_and(Map::is_empty)
        {
            resources.remove(key);
        }
        if !added.is_empty() {
            set.push(format!("{} {what} for {label} {name}", added.join(", ")));
        }
    }
}

/// What a pod does that a security level forbids (K-205).
pub(super) fn pod_security(level: &str, pod: &Value) -> Vec<String> {
    let mut out = Vec::new();
    if !matches!(level, "baseline" | "restricted") {
        return out;
    }
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let list = |key: &str| {
        spec.get(key)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let containers: Vec<Value> = ["initContainers", "containers", "ephemeralContainers"]
        .iter()
        .flat_map(|key| list(key))
        .collect();
    let offenders = |test: &dyn Fn(&Value) -> bool| -> Vec<String> {
        containers
            .iter()
            .filter(|container| test(container))
            .map(|container| format!("\"{}\"", text(container, "/name")))
            .collect()
    };
    let mut report = |what: &str, names: Vec<String>, how: &str| match names.as_slice() {
        [] => {}
        [one] => out.push(format!("{what} (container {one} must {how})")),
        many => out.push(format!(
            "{what} (containers {} must {how})",
            many.join(", ")
        )),
    };
    let flag = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_bool);
    report(
        "privileged",
        offenders(&|c| flag(c, "/securityContext/privileged") == Some(true)),
        "not set securityContext.privileged=true",
    );
    if level == "restricted" {
        report(
            "allowPrivilegeEscalation != false",
            offenders(&|c| flag(c, "/securityContext/allowPrivilegeEscalation") != Some(false)),
            "set securityContext.allowPrivilegeEscalation=false",
        );
        let drops_all = |c: &Value| {
            let drop = c
                .pointer("/securityContext/capabilities/drop")
                .and_then(Value::as_array);
            drop.is_some_and(|drop| drop.iter().any(|item| item == "ALL"))
        };
        report(
            "unrestricted capabilities",
            offenders(&|c| !drops_all(c)),
            "set securityContext.capabilities.drop=[\"ALL\"]",
        );
        let pod_non_root = flag(spec, "/securityContext/runAsNonRoot");
        let names =
            offenders(&|c| flag(c, "/securityContext/runAsNonRoot").or(pod_non_root) != Some(true));
        if !names.is_empty() {
            out.push(format!("runAsNonRoot != true (pod or containers {} must set securityContext.runAsNonRoot=true)", names.join(", ")));
        }
        let pod_seccomp = text(spec, "/securityContext/seccompProfile/type").to_owned();
        let names = offenders(&|c| {
            let own = text(c, "/securityContext/seccompProfile/type");
            let kind = if own.is_empty() {
                pod_seccomp.as_str()
            } else {
                own
            };
            !matches!(kind, "RuntimeDefault" | "Localhost")
        });
        if !names.is_empty() {
            out.push(format!(
                "seccompProfile (pod or containers {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
                names.join(", ")
            ));
        }
    }
    for key in ["hostNetwork", "hostPID", "hostIPC"] {
        if spec.get(key) == Some(&Value::Bool(true)) {
            out.push(format!("host namespaces ({key}=true)"));
        }
    }
    let host_paths: Vec<String> = list("volumes")
        .iter()
        .filter(|volume| volume.get("hostPath").is_some())
        .map(|volume| format!("\"{}\"", text(volume, "/name")))
        .collect();
    if !host_paths.is_empty() {
        out.push(format!(
            "hostPath volumes (volumes {})",
            host_paths.join(", ")
        ));
    }
    out
}
