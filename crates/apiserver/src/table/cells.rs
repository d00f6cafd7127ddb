//! What the tables of built-in kinds put into their cells.

use jiff::Timestamp;
use serde_json::Value;

use super::{age, duration, text};

pub(super) fn name(object: &Value) -> Value {
    text(object, "/metadata/name").into()
}

pub(super) fn old(object: &Value, now: Timestamp) -> Value {
    age(object, "/metadata/creationTimestamp", now)
}

pub(super) fn deleted(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some()
}

pub(super) fn or<'a>(text: &'a str, other: &'a str) -> &'a str {
    if text.is_empty() { other } else { text }
}

pub(super) fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

pub(super) fn count(object: &Value, pointer: &str) -> usize {
    object
        .pointer(pointer)
        .and_then(Value::as_object)
        .map_or(0, serde_json::Map::len)
}

pub(super) fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

pub(super) fn modes(object: &Value, pointer: &str) -> String {
    let short = items(object, pointer)
        .iter()
        .filter_map(|mode| match mode.as_str()? {
            "ReadWriteOnce" => Some("RWO"),
            "ReadOnlyMany" => Some("ROX"),
            "ReadWriteMany" => Some("RWX"),
            "ReadWriteOncePod" => Some("RWOP"),
            _ => None,
        });
    short.collect::<Vec<_>>().join(",")
}

pub(super) fn selector(object: &Value, pointer: &str) -> String {
    let value = object.pointer(pointer).unwrap_or(&Value::Null);
    let labels = value
        .get("matchLabels")
        .unwrap_or(value)
        .as_object()
        .into_iter()
        .flatten();
    let labels: Vec<String> = labels
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
        .collect();
    if labels.is_empty() {
        "<none>".into()
    } else {
        labels.join(",")
    }
}

pub(super) fn template(object: &Value) -> [Value; 2] {
    let containers = items(object, "/spec/template/spec/containers");
    ["/name", "/image"].map(|key| {
        containers
            .iter()
            .map(|c| text(c, key))
            .collect::<Vec<_>>()
            .join(",")
            .into()
    })
}

pub(super) fn event(event: &Value, now: Timestamp) -> Vec<Value> {
    let either = |a: &'static str, b: &'static str| match text(event, a) {
        "" => text(event, b),
        found => found,
    };
    let first = or(
        either("/firstTimestamp", "/deprecatedFirstTimestamp"),
        text(event, "/eventTime"),
    );
    let last = match text(event, "/series/lastObservedTime") {
        "" => or(either("/lastTimestamp", "/deprecatedLastTimestamp"), first),
        seen => seen,
    };
    let root = if event.get("regarding").is_some() {
        "/regarding"
    } else {
        "/involvedObject"
    };
    let object = format!(
        "{}/{}",
        text(event, &format!("{root}/kind")).to_lowercase(),
        text(event, &format!("{root}/name"))
    );
    let source = match (
        text(event, "/source/component"),
        text(event, "/source/host"),
    ) {
        ("", _) => either("/reportingComponent", "/reportingController").to_owned(),
        (component, "") => component.to_owned(),
        (component, host) => format!("{component}, {host}"),
    };
    let times = event
        .get("count")
        .or_else(|| event.get("deprecatedCount"))
        .and_then(Value::as_i64)
        .unwrap_or(1);
    vec![
        duration::since(last, now).into(),
        text(event, "/type").into(),
        text(event, "/reason").into(),
        object.into(),
        text(event, &format!("{root}/fieldPath")).into(),
        source.into(),
        either("/message", "/note").trim().into(),
        duration::since(first, now).into(),
        times.into(),
        name(event),
    ]
}

pub(super) fn service(service: &Value, now: Timestamp) -> Vec<Value> {
    let ports = items(service, "/spec/ports").iter().map(|port| {
        let node = number(port, "/nodePort");
        let protocol = or(text(port, "/protocol"), "TCP");
        if node > 0 {
            format!("{}:{node}/{protocol}", number(port, "/port"))
        } else {
            format!("{}/{protocol}", number(port, "/port"))
        }
    });
    let ports = ports.collect::<Vec<_>>().join(",");
    let external = match text(service, "/spec/type") {
        "ExternalName" => text(service, "/spec/externalName").to_owned(),
        "LoadBalancer" => "<pending>".to_owned(),
        _ => "<none>".to_owned(),
    };
    vec![
        name(service),
        text(service, "/spec/type").into(),
        or(text(service, "/spec/clusterIP"), "<none>").into(),
        external.into(),
        or(&ports, "<none>").into(),
        old(service, now),
        selector(service, "/spec/selector").into(),
    ]
}

pub(super) fn endpoints(object: &Value) -> String {
    let mut all = Vec::new();
    for subset in items(object, "/subsets") {
        for address in items(subset, "/addresses") {
            let ip = text(address, "/ip");
            match items(subset, "/ports") {
                [] => all.push(ip.to_owned()),
                ports => all.extend(
                    ports
                        .iter()
                        .map(|port| format!("{ip}:{}", number(port, "/port"))),
                ),
            }
        }
    }
    match all.len() {
        0 => "<none>".into(),
        1..=3 => all.join(","),
        more => format!("{} + {} more...", all[..3].join(","), more - 3),
    }
}

pub(super) fn job(job: &Value, now: Timestamp) -> Vec<Value> {
    let condition = |kind: &str| {
        items(job, "/status/conditions")
            .iter()
            .any(|c| text(c, "/type") == kind && text(c, "/status") == "True")
    };
    let status = if condition("Complete") {
        "Complete"
    } else if condition("Failed") {
        "Failed"
    } else if deleted(job) {
        "Terminating"
    } else if condition("Suspended") {
        "Suspended"
    } else if condition("FailureTarget") {
        "FailureTarget"
    } else if condition("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    };
    let wanted = job.pointer("/spec/completions").and_then(Value::as_i64);
    let done = number(job, "/status/succeeded");
    let completions = match wanted {
        Some(wanted) => format!("{done}/{wanted}"),
        None if number(job, "/spec/parallelism") > 1 => {
            format!("{done}/1 of {}", number(job, "/spec/parallelism"))
        }
        None => format!("{done}/1"),
    };
    let start: Option<Timestamp> = text(job, "/status/startTime").parse().ok();
    let end: Timestamp = text(job, "/status/completionTime").parse().unwrap_or(now);
    let took = start.map_or(String::new(), |start| {
        duration::short(end.as_second() - start.as_second())
    });
    let mut cells = vec![
        name(job),
        status.into(),
        completions.into(),
        took.into(),
        old(job, now),
    ];
    cells.extend(template(job));
    cells.push(selector(job, "/spec/selector").into());
    cells
}

pub(super) fn node(node: &Value, now: Timestamp) -> Vec<Value> {
    let ready = items(node, "/status/conditions")
        .iter()
        .find(|c| text(c, "/type") == "Ready");
    let mut status = match ready.map(|c| text(c, "/status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if node.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) {
        status.push_str(",SchedulingDisabled");
    }
    let labels = node
        .pointer("/metadata/labels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    let roles: Vec<&str> = labels
        .filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/"))
        .collect();
    let address = |kind: &str| {
        let found = items(node, "/status/addresses")
            .iter()
            .find(|a| text(a, "/type") == kind);
        Value::from(found.map_or("<none>", |a| text(a, "/address")))
    };
    let info = |key: &str| {
        Value::from(or(
            text(node, &format!("/status/nodeInfo/{key}")),
            "<unknown>",
        ))
    };
    vec![
        name(node),
        status.into(),
        if roles.is_empty() {
            "<none>".into()
        } else {
            roles.join(",").into()
        },
        old(node, now),
        text(node, "/status/nodeInfo/kubeletVersion").into(),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

pub(super) fn quota(object: &Value) -> (String, String) {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    let hard = object
        .pointer("/status/hard")
        .or_else(|| object.pointer("/spec/hard"));
    for (key, most) in hard.and_then(Value::as_object).into_iter().flatten() {
        let used = object
            .pointer("/status/used")
            .and_then(|used| used.get(key))
            .and_then(Value::as_str)
            .unwrap_or("0");
        let line = format!("{key}: {used}/{}", most.as_str().unwrap_or_default());
        if key.starts_with("limits.") {
            limits.push(line)
        } else {
            requests.push(line)
        }
    }
    (requests.join(", "), limits.join(", "))
}
