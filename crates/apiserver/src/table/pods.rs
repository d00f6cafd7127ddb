//! The pod row: READY, STATUS and RESTARTS (K-149 to K-151).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Column, Row, age, duration, text};

pub(super) fn columns() -> Vec<Column> {
    [
        ("Name", "string", 0),
        ("Ready", "string", 0),
        ("Status", "string", 0),
        ("Restarts", "string", 0),
        ("Age", "string", 0),
        ("IP", "string", 1),
        ("Node", "string", 1),
        ("Nominated Node", "string", 1),
        ("Readiness Gates", "string", 1),
    ]
    .map(|(name, kind, priority)| Column::new(name, kind, priority))
    .into()
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn condition(pod: &Value, kind: &str, status: &str) -> bool {
    list(pod, "/status/conditions")
        .iter()
        .any(|c| text(c, "/type") == kind && text(c, "/status") == status)
}

fn is_sidecar(pod: &Value, name: &str) -> bool {
    list(pod, "/spec/initContainers")
        .iter()
        .any(|c| text(c, "/name") == name && text(c, "/restartPolicy") == "Always")
}

/// `Reason`, `Signal:n` or `ExitCode:n` of a terminated state.
fn terminated(state: &Value) -> String {
    let reason = text(state, "/reason");
    let number = |key: &str| state.get(key).and_then(Value::as_i64).unwrap_or(0);
    match (reason, number("signal")) {
        ("", 0) => format!("ExitCode:{}", number("exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

/// The STATUS column.
fn status(pod: &Value) -> String {
    let phase = text(pod, "/status/phase");
    let mut reason = match text(pod, "/status/reason") {
        "" => phase.to_owned(),
        reason => reason.to_owned(),
    };
    let gated = list(pod, "/status/conditions")
        .iter()
        .any(|c| text(c, "/type") == "PodScheduled" && text(c, "/reason") == "SchedulingGated");
    if gated {
        reason = "SchedulingGated".into();
    }
    let mut initializing = false;
    let total = list(pod, "/spec/initContainers").len();
    for (index, container) in list(pod, "/status/initContainerStatuses")
        .iter()
        .enumerate()
    {
        let exit = container
            .pointer("/state/terminated/exitCode")
            .and_then(Value::as_i64);
        let started = container.get("started") == Some(&Value::Bool(true));
        if exit == Some(0) || started && is_sidecar(pod, text(container, "/name")) {
            continue;
        }
        let waiting = text(container, "/state/waiting/reason");
        reason = match container.pointer("/state/terminated") {
            Some(state) => format!("Init:{}", terminated(state)),
            None if !waiting.is_empty() && waiting != "PodInitializing" => {
                format!("Init:{waiting}")
            }
            None => format!("Init:{index}/{total}"),
        };
        initializing = true;
        break;
    }
    if !initializing || condition(pod, "Initialized", "True") {
        let mut running = false;
        let mut failure = None;
        for container in list(pod, "/status/containerStatuses").iter().rev() {
            let waiting = text(container, "/state/waiting/reason");
            if !waiting.is_empty() {
                reason = waiting.to_owned();
            } else if let Some(state) = container.pointer("/state/terminated") {
                reason = terminated(state);
                if state
                    .get("exitCode")
                    .and_then(Value::as_i64)
                    .is_some_and(|code| code != 0)
                {
                    failure = Some(reason.clone());
                }
            } else if container.get("ready") == Some(&Value::Bool(true))
                && container.pointer("/state/running").is_some()
            {
                running = true;
            }
        }
        if reason == "Completed" {
            if running {
                reason = if condition(pod, "Ready", "True") {
                    "Running"
                } else {
                    "NotReady"
                }
                .into();
            } else if let Some(failure) = failure {
                reason = failure;
            }
        }
    }
    let deleted = pod.pointer("/metadata/deletionTimestamp").is_some();
    if deleted && text(pod, "/status/reason") == "NodeLost" {
        reason = "Unknown".into();
    } else if deleted && !matches!(phase, "Succeeded" | "Failed") {
        reason = "Terminating".into();
    }
    reason
}

fn or_none(text: &str) -> Value {
    if text.is_empty() {
        "<none>".into()
    } else {
        text.into()
    }
}

pub(super) fn row(pod: &Value, now: Timestamp) -> Row {
    let sidecars = list(pod, "/spec/initContainers")
        .iter()
        .filter(|c| text(c, "/restartPolicy") == "Always")
        .count();
    let total = list(pod, "/spec/containers").len() + sidecars;
    let counted: Vec<&Value> = list(pod, "/status/initContainerStatuses")
        .iter()
        .filter(|c| is_sidecar(pod, text(c, "/name")))
        .chain(list(pod, "/status/containerStatuses"))
        .collect();
    let ready = counted
        .iter()
        .filter(|c| {
            c.get("ready") == Some(&Value::Bool(true)) && c.pointer("/state/running").is_some()
        })
        .count();
    let all = list(pod, "/status/initContainerStatuses")
        .iter()
        .chain(list(pod, "/status/containerStatuses"));
    let restarts: i64 = all
        .clone()
        .filter_map(|c| c.get("restartCount").and_then(Value::as_i64))
        .sum();
    let last = all
        .map(|c| text(c, "/lastState/terminated/finishedAt"))
        .max()
        .unwrap_or_default();
    let restarts = if restarts > 0 && !last.is_empty() {
        format!("{restarts} ({} ago)", duration::since(last, now))
    } else {
        restarts.to_string()
    };
    let gates = list(pod, "/spec/readinessGates");
    let met = gates
        .iter()
        .filter(|gate| condition(pod, text(gate, "/conditionType"), "True"))
        .count();
    let gates = if gates.is_empty() {
        "<none>".to_owned()
    } else {
        format!("{met}/{}", gates.len())
    };
    let ip = match text(pod, "/status/podIP") {
        "" => text(pod, "/status/podIPs/0/ip"),
        ip => ip,
    };
    Row {
        cells: vec![
            text(pod, "/metadata/name").into(),
            format!("{ready}/{total}").into(),
            status(pod).into(),
            restarts.into(),
            age(pod, "/metadata/creationTimestamp", now),
            or_none(ip),
            or_none(text(pod, "/spec/nodeName")),
            or_none(text(pod, "/status/nominatedNodeName")),
            json!(gates),
        ],
        completed: match text(pod, "/status/phase") {
            "Succeeded" => Some("Succeeded"),
            "Failed" => Some("Failed"),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_column_says_what_holds_a_pod_up() {
        // K-149, K-150
        let running = json!({"running": {}});
        let pod = |phase: &str, init: Value, states: Vec<Value>| {
            let statuses: Vec<Value> = states
                .iter()
                .map(|state| json!({"name": "c", "ready": state.get("running").is_some(), "state": state}))
                .collect();
            json!({
                "metadata": {"name": "p"},
                "spec": {"containers": [{"name": "c"}], "initContainers": [{"name": "i"}]},
                "status": {"phase": phase, "initContainerStatuses": init, "containerStatuses": statuses},
            })
        };
        let done = json!([{"name": "i", "state": {"terminated": {"exitCode": 0}}}]);
        let ended =
            |code: i64, reason: &str| json!({"terminated": {"exitCode": code, "reason": reason}});
        for (pod, expected) in [
            (pod("Pending", json!([]), vec![]), "Pending"),
            (
                pod(
                    "Pending",
                    json!([{"name": "i", "state": {"running": {}}}]),
                    vec![],
                ),
                "Init:0/1",
            ),
            (
                pod(
                    "Pending",
                    json!([{"name": "i", "state": {"terminated": {"exitCode": 3}}}]),
                    vec![],
                ),
                "Init:ExitCode:3",
            ),
            (
                pod(
                    "Pending",
                    done.clone(),
                    vec![json!({"waiting": {"reason": "ImagePullBackOff"}})],
                ),
                "ImagePullBackOff",
            ),
            (pod("Running", done.clone(), vec![running]), "Running"),
            (
                pod("Succeeded", done.clone(), vec![ended(0, "Completed")]),
                "Completed",
            ),
            (
                pod(
                    "Failed",
                    done.clone(),
                    vec![ended(1, "Error"), ended(0, "Completed")],
                ),
                "Error",
            ),
            (
                pod(
                    "Failed",
                    done,
                    vec![ended(0, "Completed"), ended(1, "Error")],
                ),
                "Error",
            ),
        ] {
            assert_eq!(status(&pod), expected);
        }
    }
}
