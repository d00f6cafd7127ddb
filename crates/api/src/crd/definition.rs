//! Names, versions and columns of every kind, and its definition put together.

use serde_json::{Value, json};

use super::schema;
use crate::names;

/// One kind as its definition names it.
struct Kind {
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    /// Version, shape, and whether it is stored; in upstream's order.
    versions: &'static [(&'static str, &'static str, bool)],
    columns: Columns,
    /// Whether it has a `status` of its own.
    status: bool,
    conversion: bool,
}

enum Columns {
    None,
    Run,
    Resolution,
}

static KINDS: [Kind; 8] = [
    Kind {
        group: names::GROUP,
        kind: "Task",
        plural: "tasks",
        short: &[],
        versions: &[("v1beta1", "v1beta1.Task", false), ("v1", "v1.Task", true)],
        columns: Columns::None,
        status: true,
        conversion: true,
    },
    Kind {
        group: names::GROUP,
        kind: "TaskRun",
        plural: "taskruns",
        short: &["tr", "trs"],
        versions: &[
            ("v1beta1", "v1beta1.TaskRun", false),
            ("v1", "v1.TaskRun", true),
        ],
        columns: Columns::Run,
        status: true,
        conversion: true,
    },
    Kind {
        group: names::GROUP,
        kind: "Pipeline",
        plural: "pipelines",
        short: &[],
        versions: &[
            ("v1beta1", "v1beta1.Pipeline", false),
            ("v1", "v1.Pipeline", true),
        ],
        columns: Columns::None,
        status: true,
        conversion: true,
    },
    Kind {
        group: names::GROUP,
        kind: "PipelineRun",
        plural: "pipelineruns",
        short: &["pr", "prs"],
        versions: &[
            ("v1beta1", "v1beta1.PipelineRun", false),
            ("v1", "v1.PipelineRun", true),
        ],
        columns: Columns::Run,
        status: true,
        conversion: true,
    },
    Kind {
        group: names::GROUP,
        kind: "StepAction",
        plural: "stepactions",
        short: &[],
        versions: &[
            ("v1alpha1", "v1alpha1.StepAction", false),
            ("v1beta1", "v1beta1.StepAction", true),
        ],
        columns: Columns::None,
        status: true,
        conversion: true,
    },
    Kind {
        group: names::GROUP,
        kind: "CustomRun",
        plural: "customruns",
        short: &[],
        versions: &[("v1beta1", "v1beta1.CustomRun", true)],
        columns: Columns::Run,
        status: true,
        conversion: false,
    },
    Kind {
        group: names::GROUP,
        kind: "VerificationPolicy",
        plural: "verificationpolicies",
        short: &[],
        versions: &[("v1alpha1", "v1alpha1.VerificationPolicy", true)],
        columns: Columns::None,
        status: false,
        conversion: false,
    },
    Kind {
        group: names::RESOLUTION_GROUP,
        kind: "ResolutionRequest",
        plural: "resolutionrequests",
        short: &[],
        versions: &[
            ("v1alpha1", "res0.ResolutionRequest", false),
            ("v1beta1", "res1.ResolutionRequest", true),
        ],
        columns: Columns::Resolution,
        status: true,
        conversion: true,
    },
];

/// Every definition as JSON, generated afresh. [`crds`](super::crds) has them ready.
pub fn definitions() -> Vec<Value> {
    makers().map(|make| make()).collect()
}

/// What makes the definitions, for those who do it side by side: it takes a millisecond or two each.
pub fn makers() -> impl Iterator<Item = impl FnOnce() -> Value + Send + 'static> {
    KINDS.iter().map(|kind| move || definition(kind))
}

fn definition(of: &Kind) -> Value {
    let versions: Vec<Value> = of
        .versions
        .iter()
        .map(|(name, shape, stored)| version(of, name, shape, *stored))
        .collect();
    let mut kind_names = json!({
        "kind": of.kind,
        "plural": of.plural,
        "singular": of.kind.to_lowercase(),
        "categories": ["tekton", "tekton-pipelines"],
    });
    if !of.short.is_empty() {
        kind_names["shortNames"] = of.short.iter().copied().map(Value::from).collect();
    }
    let mut spec = json!({
        "group": of.group,
        "names": kind_names,
        "scope": "Namespaced",
        "preserveUnknownFields": false,
        "versions": versions,
    });
    if of.conversion {
        let review: Value = of
            .versions
            .iter()
            .map(|(name, ..)| Value::from(*name))
            .collect();
        spec["conversion"] = json!({
            "strategy": "Webhook",
            "webhook": {
                "conversionReviewVersions": review,
                "clientConfig": {"service": {
                    "name": names::WEBHOOK_SERVICE, "namespace": names::NAMESPACE, "path": "/resource-conversion"
                }},
            },
        });
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{}.{}", of.plural, of.group),
            "labels": {
                "app.kubernetes.io/instance": "default",
                "app.kubernetes.io/part-of": "tekton-pipelines",
                "pipeline.tekton.dev/release": "devel",
                "version": "devel",
            },
        },
        "spec": spec,
    })
}

fn version(of: &Kind, name: &str, shape: &str, stored: bool) -> Value {
    let mut version = json!({
        "name": name,
        "served": true,
        "storage": stored,
        "schema": {"openAPIV3Schema": schema::of_kind(shape, &super::describe::field)},
    });
    version["schema"]["openAPIV3Schema"]["description"] = describe(of, name, stored).into();
    if of.status {
        version["subresources"] = json!({"status": {}});
    }
    if of.group == names::RESOLUTION_GROUP && name == "v1alpha1" {
        version["deprecated"] = true.into();
    }
    let columns: &[(&str, &str, &str)] = match (&of.columns, name) {
        (Columns::None, _) => &[],
        (Columns::Run, _) => &[
            (
                "Succeeded",
                "string",
                r#".status.conditions[?(@.type=="Succeeded")].status"#,
            ),
            (
                "Reason",
                "string",
                r#".status.conditions[?(@.type=="Succeeded")].reason"#,
            ),
            ("StartTime", "date", ".status.startTime"),
            ("CompletionTime", "date", ".status.completionTime"),
        ],
        (Columns::Resolution, "v1alpha1") => &[
            (
                "Succeeded",
                "string",
                ".status.conditions[?(@.type=='Succeeded')].status",
            ),
            (
                "Reason",
                "string",
                ".status.conditions[?(@.type=='Succeeded')].reason",
            ),
        ],
        (Columns::Resolution, _) => &[
            ("OwnerKind", "string", ".metadata.ownerReferences[0].kind"),
            ("Owner", "string", ".metadata.ownerReferences[0].name"),
            (
                "Succeeded",
                "string",
                ".status.conditions[?(@.type=='Succeeded')].status",
            ),
            (
                "Reason",
                "string",
                ".status.conditions[?(@.type=='Succeeded')].reason",
            ),
            ("StartTime", "string", ".metadata.creationTimestamp"),
            (
                "EndTime",
                "string",
                ".status.conditions[?(@.type=='Succeeded')].lastTransitionTime",
            ),
        ],
    };
    if !columns.is_empty() {
        version["additionalPrinterColumns"] = columns
            .iter()
            .map(|(name, type_, path)| json!({"name": name, "type": type_, "jsonPath": path}))
            .collect();
    }
    version
}

/// One sentence about the kind, and whether to use another version (P-001).
fn describe(of: &Kind, version: &str, stored: bool) -> String {
    let what = match of.kind {
        "Task" => "Steps that run one after another in one pod.",
        "TaskRun" => "One run of a Task.",
        "Pipeline" => "Tasks and the order they run in.",
        "PipelineRun" => "One run of a Pipeline.",
        "StepAction" => "A step that Tasks share by reference.",
        "CustomRun" => "One run of a custom task, done by another controller.",
        "VerificationPolicy" => "Which remote definitions must be signed, and by whom.",
        _ => "A request to fetch a definition from elsewhere.",
    };
    match of.versions.iter().find(|(_, _, stored)| *stored) {
        Some((newest, ..)) if !stored => format!("{what} {version} is deprecated: use {newest}."),
        _ => what.to_owned(),
    }
}
