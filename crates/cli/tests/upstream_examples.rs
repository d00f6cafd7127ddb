//! Upstream's own examples, and whether their outcome is the one that Tekton had on a real Kubernetes.
//!
//! Prints every example with passed, failed or skipped and why. Images are mapped to the machine's own root
//! filesystem, so an example that needs another one, or the internet, is skipped by name.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use support::{Up, skip};

/// Examples that cannot run here, and why. A part of the path is enough.
const SKIPPED: &[(&str, &str)] = &[
    ("resolver", "a resolver against a public host"),
    ("git-clone", "clones from the internet"),
    ("private", "needs credentials of a private registry"),
    ("dind", "needs a Docker daemon image"),
    ("docker", "needs a Docker daemon image"),
    (
        "entrypoint-resolution",
        "looks up entrypoints in public registries",
    ),
    ("custom-task", "needs a third-party controller"),
    ("gcp", "needs a cloud account"),
];

#[derive(Debug)]
enum Verdict {
    Passed,
    Failed(String),
    Skipped(String),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstream_examples_end_as_tekton_ended_them() {
    let shared = support::root().join("../shared");
    let examples = shared.join("upstream/pipeline/examples/v1");
    if !examples.is_dir() {
        skip(
            "upstream_examples_end_as_tekton_ended_them",
            "no upstream examples beside the project",
        );
        return;
    }
    let mut verdicts = BTreeMap::new();
    for alpha in [false, true] {
        let files = files(&examples)
            .into_iter()
            .filter(|f| f.to_string_lossy().contains("/alpha/") == alpha);
        let golden = shared.join(if alpha {
            "golden/examples-alpha"
        } else {
            "golden/examples"
        });
        verdicts.extend(run_all(&examples, &golden, files.collect(), alpha).await);
    }
    let mut out = std::io::stderr();
    let (mut passed, mut failed) = (0, Vec::new());
    for (name, verdict) in &verdicts {
        let line = match verdict {
            Verdict::Passed => {
                passed += 1;
                format!("example {name}: passed")
            }
            Verdict::Failed(why) => {
                failed.push(name);
                format!("example {name}: FAILED: {why}")
            }
            Verdict::Skipped(why) => format!("example {name}: skipped: {why}"),
        };
        let _ = writeln!(out, "{line}");
    }
    let _ = writeln!(
        out,
        "examples: {passed} passed, {} failed, {} in all",
        failed.len(),
        verdicts.len()
    );
    assert!(failed.is_empty(), "failed examples: {failed:#?}");
    assert!(passed >= 40, "only {passed} examples passed");
}

fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "yaml") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

async fn run_all(
    examples: &Path,
    golden: &Path,
    files: Vec<PathBuf>,
    alpha: bool,
) -> Vec<(String, Verdict)> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join("images.yaml"), "'*': host\n").expect("an image map");
    let up = Up::start_in(directory.path(), &[]);
    let kubeconfig = kube::config::Kubeconfig::read_from(up.kubeconfig()).expect("a kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default())
        .await
        .expect("a config");
    let client = kube::Client::try_from(config).expect("a client");
    if alpha {
        enable_alpha(&client).await;
    }
    let verdicts = futures::stream::iter(files.into_iter().enumerate())
        .map(|(i, file)| {
            let client = client.clone();
            let name = file
                .strip_prefix(examples)
                .unwrap_or(&file)
                .display()
                .to_string();
            let recording = golden.join(&name).with_extension("json");
            async move {
                let verdict =
                    run_one(client, &name, &file, &recording, &format!("example-{i}")).await;
                (name, verdict)
            }
        })
        .buffer_unordered(4)
        .collect()
        .await;
    drop(up);
    verdicts
}

async fn enable_alpha(client: &kube::Client) {
    let api = api(client, "v1", "ConfigMap", "tekton-pipelines");
    let flags = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "feature-flags"},
        "data": {"enable-api-fields": "alpha"}});
    let patch = kube::api::Patch::Merge(&flags);
    if api
        .patch("feature-flags", &Default::default(), &patch)
        .await
        .is_err()
    {
        let object = serde_json::from_value(flags).expect("an object");
        api.create(&PostParams::default(), &object)
            .await
            .expect("feature flags");
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
}

fn api(client: &kube::Client, version: &str, kind: &str, namespace: &str) -> Api<DynamicObject> {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let plural = format!("{}s", kind.to_lowercase());
    let resource =
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), &plural);
    match kind {
        "Namespace" | "ClusterRole" | "ClusterRoleBinding" | "PersistentVolume" => {
            Api::all_with(client.clone(), &resource)
        }
        _ => Api::namespaced_with(client.clone(), namespace, &resource),
    }
}

async fn run_one(
    client: kube::Client,
    name: &str,
    file: &Path,
    recording: &Path,
    namespace: &str,
) -> Verdict {
    if let Some((_, why)) = SKIPPED.iter().find(|(part, _)| name.contains(part)) {
        return Verdict::Skipped((*why).to_owned());
    }
    let Some(expected) = fs::read_to_string(recording)
        .ok()
        .and_then(|t| serde_json::from_str::<Value>(&t).ok())
    else {
        return Verdict::Skipped("Tekton's own outcome was not recorded".to_owned());
    };
    let ns: DynamicObject = serde_json::from_value(
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
    )
    .expect("an object");
    if let Err(error) = api(&client, "v1", "Namespace", "")
        .create(&PostParams::default(), &ns)
        .await
    {
        return Verdict::Failed(format!("namespace: {error}"));
    }
    let text = fs::read_to_string(file).unwrap_or_default();
    let mut runs = Vec::new();
    let mut refusal = None;
    for document in serde_yaml_ng::Deserializer::from_str(&text) {
        let value: Value = match serde::Deserialize::deserialize(document) {
            Ok(Value::Null) => continue,
            Ok(value) => value,
            Err(error) => return Verdict::Failed(format!("unreadable YAML: {error}")),
        };
        let (version, kind) = (
            value["apiVersion"].as_str().unwrap_or("v1"),
            value["kind"].as_str().unwrap_or(""),
        );
        let api = api(&client, version, kind, namespace);
        let is_run = matches!(kind, "TaskRun" | "PipelineRun");
        let mut object: DynamicObject = match serde_json::from_value(value.clone()) {
            Ok(object) => object,
            Err(error) => return Verdict::Failed(format!("no object: {error}")),
        };
        object.metadata.namespace = None;
        match api.create(&PostParams::default(), &object).await {
            Ok(created) if is_run => runs.push((api, created.metadata.name.unwrap_or_default())),
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => refusal = Some(error.to_string()),
        }
    }
    if let Some(error) = refusal {
        return match expected["create_error"].as_str() {
            Some(_) => Verdict::Passed,
            None => Verdict::Failed(format!("refused: {error}")),
        };
    }
    let mut differences = Vec::new();
    for (api, run) in &runs {
        match end_of(api, run).await {
            Some(object) => differences.extend(compare(&object, &expected)),
            None => return Verdict::Failed(format!("{run} did not end within 90 s")),
        }
    }
    if differences.is_empty() {
        Verdict::Passed
    } else {
        Verdict::Failed(differences.join("; "))
    }
}

async fn end_of(api: &Api<DynamicObject>, name: &str) -> Option<DynamicObject> {
    for _ in 0..900 {
        let object = api.get(name).await.ok()?;
        if succeeded(&object.data).is_some_and(|c| c["status"] != "Unknown") {
            return Some(object);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    None
}

fn succeeded(data: &Value) -> Option<&Value> {
    data["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|c| c["type"] == "Succeeded")
}

/// What differs between our run and the recorded run of the same kind and name: outcome, reason, message, results.
fn compare(ours: &DynamicObject, recording: &Value) -> Vec<String> {
    let kind = ours
        .types
        .as_ref()
        .map(|t| t.kind.clone())
        .unwrap_or_default();
    let name = ours.metadata.name.clone().unwrap_or_default();
    let generate = ours.metadata.generate_name.clone();
    let theirs = recording["objects"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|object| {
            object["kind"] == kind.as_str()
                && object["metadata"]["ownerReferences"].is_null()
                && match &generate {
                    Some(generate) => object["metadata"]["generateName"] == generate.as_str(),
                    None => object["metadata"]["name"] == name.as_str(),
                }
        });
    let Some(theirs) = theirs else {
        return vec![format!("{kind} {name} is not in the recording")];
    };
    let mut differences = Vec::new();
    let (a, b) = (succeeded(&ours.data), succeeded(theirs));
    for field in ["status", "reason", "message"] {
        let (a, b) = (a.map(|c| &c[field]), b.map(|c| &c[field]));
        if a != b && !varies(b) {
            differences.push(format!("{kind} {name}: {field} is {a:?}, was {b:?}"));
        }
    }
    let (a, b) = (
        &ours.data["status"]["results"],
        &theirs["status"]["results"],
    );
    if a != b && !varies(Some(b)) {
        differences.push(format!("{kind} {name}: results are {a}, were {b}"));
    }
    differences
}

/// Whether a recorded value names what differs from run to run.
fn varies(value: Option<&Value>) -> bool {
    value.is_some_and(|v| v.to_string().contains('<'))
}
