//! Tables of the built-in kinds (K-152 to K-159).

use jiff::Timestamp;
use serde_json::Value;

use super::cells::*;
use super::{Column, Row, pods, text};
use crate::registry::Resource;

type Cells = fn(&Value, Timestamp) -> Vec<Value>;

/// Columns as `name` or, for wide ones, `+name`; and the cells.
fn layout(resource: &Resource) -> (&'static [&'static str], Cells) {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "namespaces") => (&["Name", "Status", "Age"], |o, now| {
            vec![name(o), text(o, "/status/phase").into(), old(o, now)]
        }),
        ("", "configmaps") => (&["Name", "Data", "Age"], |o, now| {
            vec![
                name(o),
                (count(o, "/data") + count(o, "/binaryData")).into(),
                old(o, now),
            ]
        }),
        ("", "secrets") => (&["Name", "Type", "Data", "Age"], |o, now| {
            vec![
                name(o),
                text(o, "/type").into(),
                count(o, "/data").into(),
                old(o, now),
            ]
        }),
        ("", "serviceaccounts") => (&["Name", "Age"], |o, now| vec![name(o), old(o, now)]),
        ("" | "events.k8s.io", "events") => (
            &[
                "Last Seen",
                "Type",
                "Reason",
                "Object",
                "+Subobject",
                "+Source",
                "Message",
                "+First Seen",
                "+Count",
                "+Name",
            ],
            event,
        ),
        ("", "services") => (
            &[
                "Name",
                "Type",
                "Cluster-IP",
                "External-IP",
                "Port(s)",
                "Age",
                "+Selector",
            ],
            service,
        ),
        ("", "endpoints") => (&["Name", "Endpoints", "Age"], |o, now| {
            vec![name(o), endpoints(o).into(), old(o, now)]
        }),
        ("discovery.k8s.io", "endpointslices") => (
            &["Name", "AddressType", "Ports", "Endpoints", "Age"],
            |o, now| {
                let join = |values: Vec<String>| {
                    if values.is_empty() {
                        "<unset>".to_owned()
                    } else {
                        values.join(",")
                    }
                };
                let ports = items(o, "/ports")
                    .iter()
                    .filter_map(|p| p.get("port").map(Value::to_string))
                    .collect();
                let addresses = items(o, "/endpoints")
                    .iter()
                    .flat_map(|e| items(e, "/addresses"));
                let addresses = addresses
                    .filter_map(|a| a.as_str().map(str::to_owned))
                    .collect();
                vec![
                    name(o),
                    text(o, "/addressType").into(),
                    join(ports).into(),
                    join(addresses).into(),
                    old(o, now),
                ]
            },
        ),
        ("apps", "deployments") => (
            &[
                "Name",
                "Ready",
                "Up-to-date",
                "Available",
                "Age",
                "+Containers",
                "+Images",
                "+Selector",
            ],
            |o, now| {
                let mut cells = vec![
                    name(o),
                    format!(
                        "{}/{}",
                        number(o, "/status/readyReplicas"),
                        number(o, "/spec/replicas")
                    )
                    .into(),
                    number(o, "/status/updatedReplicas").into(),
                    number(o, "/status/availableReplicas").into(),
                    old(o, now),
                ];
                cells.extend(template(o));
                cells.push(selector(o, "/spec/selector").into());
                cells
            },
        ),
        ("apps", "replicasets") => (
            &[
                "Name",
                "Desired",
                "Current",
                "Ready",
                "Age",
                "+Containers",
                "+Images",
                "+Selector",
            ],
            |o, now| {
                let mut cells = vec![
                    name(o),
                    number(o, "/spec/replicas").into(),
                    number(o, "/status/replicas").into(),
                    number(o, "/status/readyReplicas").into(),
                    old(o, now),
                ];
                cells.extend(template(o));
                cells.push(selector(o, "/spec/selector").into());
                cells
            },
        ),
        ("apps", "statefulsets") => (
            &["Name", "Ready", "Age", "+Containers", "+Images"],
            |o, now| {
                let ready = format!(
                    "{}/{}",
                    number(o, "/status/readyReplicas"),
                    number(o, "/spec/replicas")
                );
                let mut cells = vec![name(o), ready.into(), old(o, now)];
                cells.extend(template(o));
                cells
            },
        ),
        ("batch", "jobs") => (
            &[
                "Name",
                "Status",
                "Completions",
                "Duration",
                "Age",
                "+Containers",
                "+Images",
                "+Selector",
            ],
            job,
        ),
        ("", "persistentvolumeclaims") => (
            &[
                "Name",
                "Status",
                "Volume",
                "Capacity",
                "Access Modes",
                "StorageClass",
                "VolumeAttributesClass",
                "Age",
                "+VolumeMode",
            ],
            |o, now| {
                let bound = !text(o, "/spec/volumeName").is_empty();
                vec![
                    name(o),
                    if deleted(o) {
                        "Terminating".into()
                    } else {
                        text(o, "/status/phase").into()
                    },
                    text(o, "/spec/volumeName").into(),
                    if bound {
                        text(o, "/status/capacity/storage")
                    } else {
                        ""
                    }
                    .into(),
                    if bound {
                        modes(o, "/status/accessModes")
                    } else {
                        String::new()
                    }
                    .into(),
                    text(o, "/spec/storageClassName").into(),
                    or(text(o, "/spec/volumeAttributesClassName"), "<unset>").into(),
                    old(o, now),
                    or(text(o, "/spec/volumeMode"), "<unset>").into(),
                ]
            },
        ),
        ("", "persistentvolumes") => (
            &[
                "Name",
                "Capacity",
                "Access Modes",
                "Reclaim Policy",
                "Status",
                "Claim",
                "StorageClass",
                "VolumeAttributesClass",
                "Reason",
                "Age",
                "+VolumeMode",
            ],
            |o, now| {
                let claim = match text(o, "/spec/claimRef/name") {
                    "" => String::new(),
                    claim => format!("{}/{claim}", text(o, "/spec/claimRef/namespace")),
                };
                vec![
                    name(o),
                    text(o, "/spec/capacity/storage").into(),
                    modes(o, "/spec/accessModes").into(),
                    text(o, "/spec/persistentVolumeReclaimPolicy").into(),
                    if deleted(o) {
                        "Terminating".into()
                    } else {
                        text(o, "/status/phase").into()
                    },
                    claim.into(),
                    text(o, "/spec/storageClassName").into(),
                    or(text(o, "/spec/volumeAttributesClassName"), "<unset>").into(),
                    text(o, "/status/reason").into(),
                    old(o, now),
                    or(text(o, "/spec/volumeMode"), "<unset>").into(),
                ]
            },
        ),
        ("storage.k8s.io", "storageclasses") => (
            &[
                "Name",
                "Provisioner",
                "ReclaimPolicy",
                "VolumeBindingMode",
                "AllowVolumeExpansion",
                "Age",
            ],
            |o, now| {
                let marked = text(
                    o,
                    "/metadata/annotations/storageclass.kubernetes.io~1is-default-class",
                ) == "true";
                let shown = format!(
                    "{}{}",
                    text(o, "/metadata/name"),
                    if marked { " (default)" } else { "" }
                );
                let expand = o.get("allowVolumeExpansion") == Some(&Value::Bool(true));
                vec![
                    shown.into(),
                    text(o, "/provisioner").into(),
                    or(text(o, "/reclaimPolicy"), "Delete").into(),
                    or(text(o, "/volumeBindingMode"), "Immediate").into(),
                    expand.into(),
                    old(o, now),
                ]
            },
        ),
        ("", "nodes") => (
            &[
                "Name",
                "Status",
                "Roles",
                "Age",
                "Version",
                "+Internal-IP",
                "+External-IP",
                "+OS-Image",
                "+Kernel-Version",
                "+Container-Runtime",
            ],
            node,
        ),
        ("", "resourcequotas") => (&["Name", "Request", "Limit", "Age"], |o, now| {
            let (requests, limits) = quota(o);
            vec![name(o), requests.into(), limits.into(), old(o, now)]
        }),
        ("coordination.k8s.io", "leases") => (&["Name", "Holder", "Age"], |o, now| {
            vec![name(o), text(o, "/spec/holderIdentity").into(), old(o, now)]
        }),
        ("scheduling.k8s.io", "priorityclasses") => (
            &[
                "Name",
                "Value",
                "Global-Default",
                "Age",
                "+PreemptionPolicy",
            ],
            |o, now| {
                let default = o.get("globalDefault") == Some(&Value::Bool(true));
                vec![
                    name(o),
                    number(o, "/value").into(),
                    default.into(),
                    old(o, now),
                    text(o, "/preemptionPolicy").into(),
                ]
            },
        ),
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => (
            &[
                "Name",
                "Role",
                "Age",
                "+Users",
                "+Groups",
                "+ServiceAccounts",
            ],
            |o, now| {
                let role = format!("{}/{}", text(o, "/roleRef/kind"), text(o, "/roleRef/name"));
                let of = |kind: &str| {
                    let subjects = items(o, "/subjects")
                        .iter()
                        .filter(|s| text(s, "/kind") == kind);
                    let names = subjects.map(|s| match (kind, text(s, "/namespace")) {
                        ("ServiceAccount", namespace) => {
                            format!("{namespace}/{}", text(s, "/name"))
                        }
                        _ => text(s, "/name").to_owned(),
                    });
                    Value::from(names.collect::<Vec<_>>().join(", "))
                };
                vec![
                    name(o),
                    role.into(),
                    old(o, now),
                    of("User"),
                    of("Group"),
                    of("ServiceAccount"),
                ]
            },
        ),
        (
            "admissionregistration.k8s.io",
            "mutatingwebhookconfigurations" | "validatingwebhookconfigurations",
        ) => (&["Name", "Webhooks", "Age"], |o, now| {
            vec![name(o), items(o, "/webhooks").len().into(), old(o, now)]
        }),
        _ => (&["Name", "Created At"], |o, _| {
            vec![name(o), text(o, "/metadata/creationTimestamp").into()]
        }),
    }
}

/// Columns and rows of a built-in kind.
pub(super) fn table(
    resource: &Resource,
    objects: &[Value],
    now: Timestamp,
) -> (Vec<Column>, Vec<Row>) {
    if resource.is("", "pods") {
        return (
            pods::columns(),
            objects.iter().map(|pod| pods::row(pod, now)).collect(),
        );
    }
    let (names, cells) = layout(resource);
    let columns = names.iter().map(|name| {
        let (shown, priority) = name.strip_prefix('+').map_or((*name, 0), |name| (name, 1));
        let kind = match shown {
            "Created At" => "date",
            "Data" | "Desired" | "Current" | "Up-to-date" | "Available" | "Count" | "Value"
            | "Webhooks" => "integer",
            "Global-Default" | "AllowVolumeExpansion" => "boolean",
            _ => "string",
        };
        Column::new(shown, kind, priority)
    });
    let columns = columns.collect();
    (
        columns,
        objects
            .iter()
            .map(|object| Row {
                cells: cells(object, now),
                completed: None,
            })
            .collect(),
    )
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;
    use serde_json::json;

    #[test]
    fn every_layout_has_as_many_cells_as_columns() {
        // K-152 to K-159 share one table of layouts.
        let registry = Registry::new(std::collections::BTreeMap::new());
        for resource in registry
            .groups()
            .values()
            .flatten()
            .flat_map(|(_, resources)| resources)
        {
            let (columns, rows) = table(
                resource,
                &[json!({"metadata": {"name": "x"}})],
                Timestamp::now(),
            );
            assert_eq!(columns.len(), rows[0].cells.len(), "{}", resource.plural);
        }
    }

    #[test]
    fn rows_show_what_kubectl_users_look_for() {
        let registry = Registry::new(std::collections::BTreeMap::new());
        let row = |group: &str, version: &str, plural: &str, object: Value| {
            let resource = registry.get(group, version, plural).unwrap();
            let mut object = object;
            object["metadata"]["name"] = "x".into();
            let rows = table(resource, &[object], Timestamp::now()).1;
            rows[0]
                .cells
                .iter()
                .map(|cell| {
                    cell.as_str()
                        .map_or_else(|| cell.to_string(), str::to_owned)
                })
                .collect::<Vec<_>>()
                .join(" | ")
        };
        // K-152
        let map = json!({"data": {"a": "1"}, "binaryData": {"b": ""}});
        assert_eq!(row("", "v1", "configmaps", map), "x | 2 | <unknown>");
        // K-153
        let service = json!({"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1", "ports": [{"port": 80}]}});
        assert_eq!(
            row("", "v1", "services", service),
            "x | ClusterIP | 10.0.0.1 | <none> | 80/TCP | <unknown> | <none>"
        );
        // K-154
        let set = json!({"spec": {"replicas": 1}, "status": {"readyReplicas": 1}});
        assert_eq!(
            row("apps", "v1", "statefulsets", set),
            "x | 1/1 | <unknown> |  | "
        );
        // K-155
        let job = json!({"spec": {"completions": 1}, "status": {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}});
        assert_eq!(
            row("batch", "v1", "jobs", job),
            "x | Complete | 1/1 |  | <unknown> |  |  | <none>"
        );
        // K-156
        let claim = json!({"spec": {"volumeName": "v", "volumeMode": "Filesystem"}, "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}});
        assert_eq!(
            row("", "v1", "persistentvolumeclaims", claim),
            "x | Bound | v | 1Gi | RWO |  | <unset> | <unknown> | Filesystem"
        );
        // K-157
        let class = json!({"provisioner": "p", "metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}});
        assert_eq!(
            row("storage.k8s.io", "v1", "storageclasses", class),
            "x (default) | p | Delete | Immediate | false | <unknown>"
        );
        // K-158
        let binding = json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "ServiceAccount", "name": "s", "namespace": "n"}]});
        assert_eq!(
            row("rbac.authorization.k8s.io", "v1", "rolebindings", binding),
            "x | Role/r | <unknown> |  |  | n/s"
        );
        // K-159
        let range = json!({"metadata": {"creationTimestamp": "2024-01-01T00:00:00Z"}});
        assert_eq!(
            row("", "v1", "limitranges", range),
            "x | 2024-01-01T00:00:00Z"
        );
    }
}
