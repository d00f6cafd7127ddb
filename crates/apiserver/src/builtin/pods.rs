//! Rules that only pods have: quality of service, checks of the spec, what an update may change.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::error::Cause;
use crate::quantity::Quantity;

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// `Guaranteed`, `Burstable` or `BestEffort` (K-262).
pub fn qos_class(spec: &Value) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for container in list(spec, "initContainers").chain(list(spec, "containers")) {
        let amounts = |kind: &str| -> BTreeMap<&str, Quantity> {
            let map = container
                .pointer(&format!("/resources/{kind}"))
                .and_then(Value::as_object);
            map.into_iter()
                .flatten()
                .filter(|(key, _)| matches!(key.as_str(), "cpu" | "memory"))
                .filter_map(|(key, value)| Some((key.as_str(), Quantity::parse(value.as_str()?)?)))
                .filter(|(_, amount)| *amount != Quantity::ZERO)
                .collect()
        };
        let (requests, limits) = (amounts("requests"), amounts("limits"));
        any |= !requests.is_empty() || !limits.is_empty();
        guaranteed &= limits.len() == 2 && requests == limits;
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// The checks of K-263 on a PodSpec below `path`.
pub fn validate(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    let volumes = validate_volumes(spec, path, causes);
    if list(spec, "containers").next().is_none() {
        causes.push(Cause::required(format!("{path}.containers"), ""));
    }
    let mut names = BTreeSet::new();
    for (key, required) in [
        ("initContainers", true),
        ("containers", true),
        ("ephemeralContainers", true),
    ] {
        for (index, container) in list(spec, key).enumerate() {
            let at = format!("{path}.{key}[{index}]");
            validate_name(text(container, "name"), &at, &mut names, causes);
            if required && text(container, "image").is_empty() && path == "spec" {
                causes.push(Cause::required(format!("{at}.image"), ""));
            }
            validate_container(container, &at, &volumes, causes);
        }
    }
    let seconds = spec.get("activeDeadlineSeconds");
    if let Some(value) =
        seconds.filter(|value| !(1..=2_147_483_647).contains(&value.as_i64().unwrap_or(0)))
    {
        causes.push(Cause::invalid(
            format!("{path}.activeDeadlineSeconds"),
            value,
            "must be between 1 and 2147483647, inclusive",
        ));
    }
    for (key, allowed) in [
        ("restartPolicy", &["Always", "OnFailure", "Never"][..]),
        (
            "dnsPolicy",
            &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"][..],
        ),
    ] {
        if let Some(value) = spec
            .get(key)
            .filter(|value| !allowed.contains(&value.as_str().unwrap_or_default()))
        {
            causes.push(Cause::not_supported(
                format!("{path}.{key}"),
                value,
                allowed,
            ));
        }
    }
}

/// A name that must be there, be a label, and be nobody else's in `names`.
fn validate_name<'a>(
    name: &'a str,
    at: &str,
    names: &mut BTreeSet<&'a str>,
    causes: &mut Vec<Cause>,
) {
    if name.is_empty() {
        causes.push(Cause::required(format!("{at}.name"), ""));
    } else if !is_label(name) {
        causes.push(Cause::invalid(
            format!("{at}.name"),
            &name.into(),
            super::validate::LABEL,
        ));
    } else if !names.insert(name) {
        causes.push(Cause::duplicate(format!("{at}.name"), &name.into()));
    }
}

fn validate_volumes<'a>(spec: &'a Value, path: &str, causes: &mut Vec<Cause>) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::new();
    for (index, volume) in list(spec, "volumes").enumerate() {
        let at = format!("{path}.volumes[{index}]");
        validate_name(text(volume, "name"), &at, &mut names, causes);
        let sources: Vec<&String> = volume
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| key)
            .filter(|key| *key != "name")
            .collect();
        if sources.len() > 1 {
            for source in &sources[1..] {
                causes.push(Cause::forbidden(
                    format!("{at}.{source}"),
                    "may not specify more than 1 volume type",
                ));
            }
        }
    }
    names
}

fn validate_container(
    container: &Value,
    at: &str,
    volumes: &BTreeSet<&str>,
    causes: &mut Vec<Cause>,
) {
    let mut paths = BTreeSet::new();
    for (index, mount) in list(container, "volumeMounts").enumerate() {
        let at = format!("{at}.volumeMounts[{index}]");
        let (name, path) = (text(mount, "name"), text(mount, "mountPath"));
        if name.is_empty() {
            causes.push(Cause::required(format!("{at}.name"), ""));
        } else if !volumes.contains(name) {
            causes.push(Cause::not_found(format!("{at}.name"), &name.into()));
        }
        if path.is_empty() {
            causes.push(Cause::required(format!("{at}.mountPath"), ""));
        } else if !paths.insert(path) {
            causes.push(Cause::invalid(
                format!("{at}.mountPath"),
                &path.into(),
                "must be unique",
            ));
        }
        for key in ["subPath", "subPathExpr"] {
            let sub = text(mount, key);
            if sub.starts_with('/') {
                causes.push(Cause::invalid(
                    format!("{at}.{key}"),
                    &sub.into(),
                    "must be a relative path",
                ));
            } else if sub.split('/').any(|part| part == "..") {
                causes.push(Cause::invalid(
                    format!("{at}.{key}"),
                    &sub.into(),
                    "must not contain '..'",
                ));
            }
        }
    }
    for (index, port) in list(container, "ports").enumerate() {
        let number = port
            .get("containerPort")
            .and_then(Value::as_i64)
            .unwrap_or(0);
        if !(1..=65535).contains(&number) {
            let at = format!("{at}.ports[{index}].containerPort");
            causes.push(Cause::invalid(
                at,
                &number.into(),
                "must be between 1 and 65535, inclusive",
            ));
        }
    }
    for (index, variable) in list(container, "env").enumerate() {
        if text(variable, "name").is_empty() {
            causes.push(Cause::required(format!("{at}.env[{index}].name"), ""));
        }
    }
    if let (Some(requests), Some(limits)) = (
        container
            .pointer("/resources/requests")
            .and_then(Value::as_object),
        container
            .pointer("/resources/limits")
            .and_then(Value::as_object),
    ) {
        for (key, request) in requests {
            let parse =
                |value: Option<&Value>| value.and_then(Value::as_str).and_then(Quantity::parse);
            if let (Some(wanted), Some(limit)) = (parse(Some(request)), parse(limits.get(key)))
                && wanted > limit
            {
                let limit = limits.get(key).and_then(Value::as_str).unwrap_or_default();
                let detail = format!("must be less than or equal to {key} limit of {limit}");
                causes.push(Cause::invalid(
                    format!("{at}.resources.requests"),
                    request,
                    &detail,
                ));
            }
        }
    }
}

pub(crate) fn is_label(name: &str) -> bool {
    name.len() <= 63
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// K-264: of a pod's spec only images, deadlines and tolerations may change.
pub fn immutable(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    if new.get("spec") == old.get("spec") {
        return;
    }
    let strip = |value: &Value| {
        let mut spec = value.get("spec").cloned().unwrap_or_default();
        if let Some(map) = spec.as_object_mut() {
            map.remove("activeDeadlineSeconds");
            map.remove("tolerations");
            map.remove("schedulingGates");
            if map
                .get("terminationGracePeriodSeconds")
                .and_then(Value::as_i64)
                == Some(1)
            {
                map.remove("terminationGracePeriodSeconds");
            }
        }
        for key in ["containers", "initContainers"] {
            for container in spec
                .get_mut(key)
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                if let Some(container) = container.as_object_mut() {
                    container.remove("image");
                }
            }
        }
        spec
    };
    let (mut a, mut b) = (strip(new), strip(old));
    if old
        .pointer("/spec/terminationGracePeriodSeconds")
        .and_then(Value::as_i64)
        .is_some_and(|v| v >= 0)
    {
        a["terminationGracePeriodSeconds"] = new
            .pointer("/spec/terminationGracePeriodSeconds")
            .cloned()
            .unwrap_or_default();
        b["terminationGracePeriodSeconds"] = old
            .pointer("/spec/terminationGracePeriodSeconds")
            .cloned()
            .unwrap_or_default();
    }
    if a != b {
        causes.push(Cause::forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
             `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
             `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        ));
    }
    let deadline = |value: &Value| {
        value
            .pointer("/spec/activeDeadlineSeconds")
            .and_then(Value::as_i64)
    };
    if let Some(before) = deadline(old) {
        match deadline(new) {
            Some(after) if after <= before => {}
            Some(after) => causes.push(Cause::invalid(
                "spec.activeDeadlineSeconds",
                &after.into(),
                "must be less than or equal to previous value",
            )),
            None => causes.push(Cause::invalid(
                "spec.activeDeadlineSeconds",
                &Value::Null,
                "must not update from a positive integer to nil value",
            )),
        }
    }
}
