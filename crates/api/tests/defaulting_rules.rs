//! What objects get that their authors left out, rule by rule.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tektite_api::{
    admission::{Operation, Request, default},
    config::Config,
};

fn defaulted(api_version: &str, kind: &str, spec: Value, defaults: &[(&str, &str)]) -> Value {
    let data: BTreeMap<_, _> = defaults
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    let mut config = Config::default();
    config.update("config-defaults", &data).unwrap();
    let object =
        json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "n"}, "spec": spec});
    default(&Request::create(&object), &config).unwrap()["spec"].clone()
}

/// T-086, T-087, P-025
#[test]
fn params_and_results_get_types() {
    let spec = json!({
        "params": [
            {"name": "a"}, {"name": "b", "default": ["x"]}, {"name": "c", "properties": {"k": {}}},
            {"name": "d", "default": {"k": "v"}}, {"name": "e", "properties": {}}, {"name": "f", "type": "string", "properties": {"k": {}}},
        ],
        "results": [{"name": "a"}, {"name": "b", "properties": {"k": {}}}],
        "steps": [{"image": "i", "results": [{"name": "r"}]}],
    });
    let task = defaulted("tekton.dev/v1", "Task", spec.clone(), &[]);
    let types = |list: &str| -> Vec<Value> {
        task[list]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p["type"].clone())
            .collect()
    };
    assert_eq!(
        types("params"),
        ["string", "array", "object", "object", "object", "string"]
    );
    assert_eq!(types("results"), ["string", "object"]);
    assert_eq!(task["params"][2]["properties"]["k"]["type"], "string");
    assert_eq!(task["params"][5]["properties"]["k"]["type"], "string");
    assert_eq!(task["results"][1]["properties"]["k"]["type"], "string");
    assert_eq!(task["steps"][0]["results"], json!([{"name": "r"}]));
    let pipeline = defaulted(
        "tekton.dev/v1",
        "Pipeline",
        json!({"params": spec["params"], "tasks": [{"name": "a", "taskSpec": spec}]}),
        &[],
    );
    assert_eq!(pipeline["params"], task["params"]);
    assert_eq!(pipeline["tasks"][0]["taskSpec"]["params"], task["params"]);
    let action = defaulted(
        "tekton.dev/v1beta1",
        "StepAction",
        json!({"results": spec["results"]}),
        &[],
    );
    assert_eq!(action["results"], task["results"]);
}

/// T-088, T-089, P-021, P-026
#[test]
fn references_get_a_kind_or_the_default_resolver() {
    let with = [("default-resolver-type", "git")];
    for (defaults, reference, expected) in [
        (
            &[][..],
            json!({"name": "t"}),
            json!({"name": "t", "kind": "Task"}),
        ),
        (&with[..], json!({}), json!({"resolver": "git"})),
        (&[][..], json!({}), json!({"kind": "Task"})),
        (
            &with[..],
            json!({"name": "t"}),
            json!({"name": "t", "kind": "Task"}),
        ),
        (
            &with[..],
            json!({"resolver": "hub"}),
            json!({"resolver": "hub"}),
        ),
    ] {
        let run = defaulted(
            "tekton.dev/v1",
            "TaskRun",
            json!({"taskRef": reference}),
            defaults,
        );
        assert_eq!(run["taskRef"], expected);
        let pipeline = defaulted(
            "tekton.dev/v1",
            "Pipeline",
            json!({"tasks": [{"name": "a", "taskRef": reference, "pipelineRef": {}}]}),
            defaults,
        );
        assert_eq!(pipeline["tasks"][0]["taskRef"], expected);
        assert_eq!(pipeline["tasks"][0]["pipelineRef"], json!({}));
    }
    let run = defaulted(
        "tekton.dev/v1",
        "PipelineRun",
        json!({"pipelineRef": {}}),
        &with,
    );
    assert_eq!(run["pipelineRef"], json!({"resolver": "git"}));
    let steps = json!({"steps": [{"ref": {}}]});
    assert_eq!(
        defaulted("tekton.dev/v1", "Task", steps.clone(), &with)["steps"][0]["ref"],
        json!({"resolver": "git"})
    );
    assert_eq!(
        defaulted("tekton.dev/v1beta1", "Task", steps, &with)["steps"][0]["ref"],
        json!({})
    );
}

/// T-090, P-022, P-023, P-028, P-029
#[test]
fn runs_get_a_timeout_and_an_account() {
    let with = [
        ("default-timeout-minutes", "5"),
        ("default-service-account", "bot"),
    ];
    for (version, kind, spec, expected) in [
        (
            "v1",
            "TaskRun",
            json!({}),
            json!({"serviceAccountName": "bot", "timeout": "5m0s"}),
        ),
        (
            "v1",
            "TaskRun",
            json!({"serviceAccountName": "me", "timeout": "1m"}),
            json!({"serviceAccountName": "me", "timeout": "1m0s"}),
        ),
        (
            "v1",
            "PipelineRun",
            json!({}),
            json!({"taskRunTemplate": {"serviceAccountName": "bot"}, "timeouts": {"pipeline": "5m0s"}}),
        ),
        (
            "v1",
            "PipelineRun",
            json!({"timeouts": {"tasks": "1m"}}),
            json!({"taskRunTemplate": {"serviceAccountName": "bot"}, "timeouts": {"pipeline": "5m0s", "tasks": "1m0s"}}),
        ),
        (
            "v1beta1",
            "PipelineRun",
            json!({}),
            json!({"serviceAccountName": "bot", "timeout": "5m0s"}),
        ),
        (
            "v1beta1",
            "PipelineRun",
            json!({"timeouts": {"tasks": "1m"}}),
            json!({"serviceAccountName": "bot", "timeouts": {"pipeline": "5m0s", "tasks": "1m0s"}}),
        ),
        (
            "v1beta1",
            "CustomRun",
            json!({}),
            json!({"serviceAccountName": "bot"}),
        ),
    ] {
        assert_eq!(
            defaulted(&format!("tekton.dev/{version}"), kind, spec, &with),
            expected,
            "{version} {kind}"
        );
    }
    let endless = defaulted(
        "tekton.dev/v1",
        "TaskRun",
        json!({}),
        &[("default-timeout-minutes", "0")],
    );
    assert_eq!(endless["timeout"], "0s");
}

/// T-091, P-023
#[test]
fn pod_templates_are_merged_with_the_default_one() {
    let with = [(
        "default-pod-template",
        "hostNetwork: true\nschedulerName: d\nnodeSelector: {a: b}\nenv: [{name: A, value: d}, {name: B, value: d}]",
    )];
    let own = json!({"schedulerName": "own", "env": [{"name": "B", "value": "own"}, {"name": ""}]});
    let expected = json!({"hostNetwork": true, "schedulerName": "own", "nodeSelector": {"a": "b"}, "env": [{"name": "B", "value": "own"}, {"name": "A", "value": "d"}]});
    let task = defaulted(
        "tekton.dev/v1",
        "TaskRun",
        json!({"podTemplate": own}),
        &with,
    );
    assert_eq!(task["podTemplate"], expected);
    let pipeline = defaulted(
        "tekton.dev/v1",
        "PipelineRun",
        json!({"taskRunTemplate": {"podTemplate": own}}),
        &with,
    );
    assert_eq!(pipeline["taskRunTemplate"]["podTemplate"], expected);
    let none = defaulted("tekton.dev/v1", "TaskRun", json!({}), &with);
    assert_eq!(none["podTemplate"]["schedulerName"], "d");
}

/// T-092, T-093, P-024
#[test]
fn runs_get_a_managed_by_label_and_lose_reserved_annotations_when_created() {
    let config = Config::default();
    for (kind, label) in [
        ("TaskRun", json!("tekton-pipelines")),
        ("PipelineRun", Value::Null),
    ] {
        let run = json!({"apiVersion": "tekton.dev/v1", "kind": kind, "spec": {},
            "metadata": {"name": "n", "annotations": {"x.chains.tekton.dev/signed": "true", "a": "b"}}});
        let created = default(&Request::create(&run), &config).unwrap();
        assert_eq!(created["metadata"]["annotations"], json!({"a": "b"}));
        assert_eq!(
            created["metadata"]["labels"]["app.kubernetes.io/managed-by"],
            label
        );
        let request = Request {
            operation: Operation::Update,
            old_object: Some(&run),
            ..Request::create(&run)
        };
        let updated = default(&request, &config).unwrap();
        assert_eq!(
            updated["metadata"]["annotations"],
            run["metadata"]["annotations"]
        );
    }
    let labelled = json!({"apiVersion": "tekton.dev/v1", "kind": "TaskRun", "spec": {},
        "metadata": {"name": "n", "labels": {"app.kubernetes.io/managed-by": "me"}}});
    assert_eq!(
        default(&Request::create(&labelled), &config).unwrap()["metadata"]["labels"],
        labelled["metadata"]["labels"]
    );
}
