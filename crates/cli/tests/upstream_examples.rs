//! Upstream's own examples, and whether what comes of them is what Tekton made of them on a real Kubernetes.
//!
//! Prints every example with passed, failed or skipped and why. What is compared: refusals, every run's condition, results,
//! steps, children, labels, specification, and the kinds of events. Examples that were not recorded must succeed.

mod support;
mod upstream {
    pub mod images;
    pub mod recording;
}

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use support::{Up, skip};
use upstream::{images, recording::Outcome};

/// Examples that cannot run here, and why.
const SKIPPED: &[(&str, &str)] = &[
    ("pipelineruns/beta/git-resolver.yaml", INTERNET),
    ("pipelineruns/beta/http-resolver.yaml", INTERNET),
    (
        "pipelineruns/no-ci/cluster-resolver.yaml",
        "names a Pipeline that no manifest holds",
    ),
    (
        "pipelineruns/no-ci/git-resolver-custom-apiurl.yaml",
        INTERNET,
    ),
    (
        "pipelineruns/no-ci/git-resolver-custom-secret.yaml",
        INTERNET,
    ),
    ("pipelineruns/no-ci/git-resolver.yaml", INTERNET),
    (
        "taskruns/alpha/step-stream-results.yaml",
        "asks a registry on the internet, with crane",
    ),
    (
        "taskruns/alpha/step-stream-workspace.yaml",
        "asks a registry on the internet, with crane",
    ),
    ("taskruns/beta/bundles-resolver.yaml", INTERNET),
    ("taskruns/beta/git-resolver.yaml", INTERNET),
    ("taskruns/beta/hub-resolver.yaml", INTERNET),
    ("taskruns/beta/stepaction-git-resolver.yaml", INTERNET),
    (
        "taskruns/dind-sidecar.yaml",
        "needs a Docker daemon, and pulls from the internet",
    ),
    ("taskruns/no-ci/docker-creds.yaml", INTERNET),
    (
        "taskruns/no-ci/git-basic-auth-multiple-repos.yaml",
        INTERNET,
    ),
    ("taskruns/no-ci/git-ssh-auth-multiple-repos.yaml", INTERNET),
    ("taskruns/no-ci/git-volume.yaml", INTERNET),
    ("taskruns/no-ci/pull-private-image.yaml", INTERNET),
];
const INTERNET: &str = "fetches from the internet";

/// Differences from the recording that are meant, or that lie in the example: its path, the start of the difference, why.
const MEANT: &[(&str, &str, &str)] = &[
    (
        "pipelineruns/beta/propagated-pipeline-object-param.yaml",
        "event TaskRun Normal Succeeded: only in ours",
        "the recording ended before the event came",
    ),
    (
        "taskruns/sidecar-ready-script.yaml",
        "TaskRun sidecar-ready-<RAND>.status.sidecars[0].terminated.message",
        "the step is faster here than the two seconds after which the sidecar ends by itself, so it is stopped",
    ),
    (
        "taskruns/task-result.yaml",
        "TaskRun print-date-<RAND>.status.results",
        "the date",
    ),
    (
        "taskruns/task-result.yaml",
        "TaskRun print-date-<RAND>.status.steps[0].terminated.message",
        "the date",
    ),
    (
        "taskruns/task-result.yaml",
        "TaskRun print-date-<RAND>.status.steps[1].terminated.message",
        "the date",
    ),
];

/// How long one example may take.
const LIMIT: Duration = Duration::from_secs(90);

#[derive(Debug)]
enum Verdict {
    Passed,
    Failed(String),
    Skipped(String),
}

/// One manifest, and what Tekton made of it if that was recorded.
struct Example {
    name: String,
    text: String,
    recorded: Option<Outcome>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstream_examples_end_as_tekton_ended_them() {
    let shared = support::root().join("../shared");
    let root = shared.join("upstream/pipeline/examples/v1");
    if !root.is_dir() {
        skip(
            "upstream_examples_end_as_tekton_ended_them",
            "no upstream examples beside the project",
        );
        return;
    }
    let mut verdicts = BTreeMap::new();
    // By the feature flags that the cluster must have.
    let mut sets: BTreeMap<Vec<(&str, &str)>, Vec<Example>> = BTreeMap::new();
    let only = std::env::var("TEKTITE_EXAMPLES").unwrap_or_default();
    for file in files(&root) {
        let name = file.strip_prefix(&root).unwrap_or(&file);
        let name = name.display().to_string();
        // Like kubectl, which ends the last line of a file that does not.
        let text = fs::read_to_string(&file).expect("an example") + "\n";
        let skipped = SKIPPED.iter().find(|(path, _)| *path == name);
        let why = skipped.map(|(_, why)| (*why).to_owned());
        let lacking =
            || images::missing(&text).map(|p| format!("needs {p}, for a stand-in of its image"));
        if let Some(why) = why.or_else(lacking) {
            verdicts.insert(name, Verdict::Skipped(why));
        } else if name.contains(&only) {
            let (flags, recorded) = expectation(&shared, &name);
            sets.entry(flags).or_default().push(Example {
                name,
                text,
                recorded,
            });
        }
    }
    for (flags, examples) in sets {
        verdicts.extend(run_all(examples, &flags).await);
    }
    report(&verdicts, only.is_empty());
}

/// The flags under which the example was recorded, and the recording.
fn expectation(shared: &Path, name: &str) -> (Vec<(&'static str, &'static str)>, Option<Outcome>) {
    const ALPHA: (&str, &str) = ("enable-api-fields", "alpha");
    const EACH: [(&str, &str); 4] = [
        ("enable-artifacts", "true"),
        ("enable-cel-in-whenexpression", "true"),
        ("enable-concise-resolver-syntax", "true"),
        ("enable-param-enum", "true"),
    ];
    let alpha = name.contains("/alpha/");
    let set = if alpha { "examples-alpha" } else { "examples" };
    let file = shared.join("golden").join(set).join(name);
    let recorded = Outcome::recorded(&file.with_extension("json"));
    let each = recorded
        .as_ref()
        .is_none_or(|(_, recording)| recording.to_string().contains("enableParamEnum"));
    let mut flags = Vec::new();
    if alpha {
        flags.push(ALPHA);
        flags.extend(EACH.iter().filter(|_| each));
    }
    (flags, recorded.map(|(outcome, _)| outcome))
}

fn report(verdicts: &BTreeMap<String, Verdict>, whole: bool) {
    let mut out = std::io::stderr();
    let (mut passed, mut failed) = (0, Vec::new());
    for (name, verdict) in verdicts {
        let line = match verdict {
            Verdict::Passed => {
                passed += 1;
                format!("example {name}: passed")
            }
            Verdict::Failed(why) => {
                failed.push(name);
                format!("example {name}: FAILED: {why}")
            }
            Verdict::Skipped(why) => format!("skipped: example {name}: {why}"),
        };
        let _ = writeln!(out, "{line}");
    }
    let skipped = verdicts.len() - passed - failed.len();
    let _ = writeln!(
        out,
        "examples: {passed} passed, {} failed, {skipped} skipped",
        failed.len()
    );
    assert!(failed.is_empty(), "failed examples: {failed:#?}");
    assert!(!whole || passed >= 40, "only {passed} examples passed");
}

fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).expect("a directory").flatten() {
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

/// Runs examples on a cluster of their own, four at a time.
async fn run_all(examples: Vec<Example>, flags: &[(&str, &str)]) -> Vec<(String, Verdict)> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    images::prepare(directory.path());
    let up = Up::start_in(directory.path(), &[]);
    let kubeconfig = kube::config::Kubeconfig::read_from(up.kubeconfig()).expect("a kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default())
        .await
        .expect("a config");
    let client = kube::Client::try_from(config).expect("a client");
    if !flags.is_empty() {
        set_flags(&client, flags).await;
    }
    let verdicts = futures::stream::iter(examples.into_iter().enumerate())
        .map(|(i, example)| {
            let run = Run {
                client: client.clone(),
                namespace: format!("example-{i}"),
            };
            async move {
                let verdict = run.example(&example).await;
                (example.name, verdict)
            }
        })
        .buffer_unordered(4)
        .collect()
        .await;
    drop(up);
    verdicts
}

async fn set_flags(client: &kube::Client, flags: &[(&str, &str)]) {
    let api = api(client, "v1", "ConfigMap", "tekton-pipelines");
    let data: BTreeMap<_, _> = flags.iter().copied().collect();
    let flags = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "feature-flags"}, "data": data});
    let patch = Patch::Merge(&flags);
    let patched = api
        .patch("feature-flags", &Default::default(), &patch)
        .await;
    if patched.is_err() {
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

/// One example in its namespace.
struct Run {
    client: kube::Client,
    namespace: String,
}

impl Run {
    async fn example(&self, example: &Example) -> Verdict {
        let verdict = self.outcome(example).await;
        let namespaces = api(&self.client, "v1", "Namespace", "");
        let deleted = namespaces
            .delete(&self.namespace, &DeleteParams::default())
            .await;
        match (verdict, deleted) {
            (Err(why), _) => Verdict::Failed(why),
            (Ok(()), Err(error)) => Verdict::Failed(format!("namespace: {error}")),
            (Ok(()), Ok(_)) => Verdict::Passed,
        }
    }

    async fn outcome(&self, example: &Example) -> Result<(), String> {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}});
        self.create(&namespace).await.map_err(|e| e.to_string())?;
        let mut refusal = None;
        for document in serde_yaml_ng::Deserializer::from_str(&example.text) {
            let value: Value =
                serde::Deserialize::deserialize(document).map_err(|e| format!("YAML: {e}"))?;
            if value.is_null() {
                continue;
            }
            match self.create(&value).await {
                Ok(()) => {}
                Err(kube::Error::Api(status)) if example.recorded.is_some() => {
                    refusal = Some(status.message);
                }
                Err(error) => return Err(format!("refused: {error}")),
            }
        }
        let started = Instant::now();
        let ended = |run: &Value| succeeded(run).is_some_and(|c| c["status"] != "Unknown");
        while !self.runs().await.iter().all(ended) {
            if started.elapsed() > LIMIT {
                return Err(format!(
                    "did not end within {LIMIT:?}:\n{}",
                    self.account().await
                ));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // Events and the end of sidecars come after the end of the run.
        let deadline = Instant::now() + Duration::from_secs(5);
        let differences = loop {
            let differences = self.differences(example, refusal.clone()).await;
            if differences.is_empty() || Instant::now() > deadline {
                break differences;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        if differences.is_empty() {
            return Ok(());
        }
        Err(format!(
            "\n  {}\n{}",
            differences.join("\n  "),
            self.account().await
        ))
    }

    async fn differences(&self, example: &Example, refusal: Option<String>) -> Vec<String> {
        let runs = self.runs().await;
        let Some(recorded) = &example.recorded else {
            return failures(&runs);
        };
        let events = self.list("v1", "Event").await;
        let seen = Outcome::seen(refusal, &self.namespace, runs, &events);
        let mut differences = seen.differences(recorded);
        differences.retain(|difference| {
            !MEANT
                .iter()
                .any(|(name, start, _)| *name == example.name && difference.starts_with(start))
        });
        differences
    }

    async fn create(&self, manifest: &Value) -> Result<(), kube::Error> {
        let [version, kind] =
            [&manifest["apiVersion"], &manifest["kind"]].map(|v| v.as_str().unwrap_or(""));
        // What belongs to `default` in the manifest belongs to the example's namespace here.
        let text = manifest.to_string().replace(
            r#""namespace":"default""#,
            &format!(r#""namespace":"{}""#, self.namespace),
        );
        let mut object: DynamicObject =
            serde_json::from_str(&text).map_err(kube::Error::SerdeError)?;
        object.metadata.namespace = None;
        let api = api(&self.client, version, kind, &self.namespace);
        match api.create(&PostParams::default(), &object).await {
            Err(kube::Error::Api(status))
                if status.code == 409 && status.reason == "AlreadyExists" =>
            {
                Ok(())
            }
            other => other.map(drop),
        }
    }

    async fn list(&self, version: &str, kind: &str) -> Vec<Value> {
        let api = api(&self.client, version, kind, &self.namespace);
        let list = api.list(&ListParams::default()).await.expect("a list");
        let items = list.items.into_iter().map(|object| {
            let mut value = serde_json::to_value(object).expect("an object");
            value["kind"] = kind.into();
            value
        });
        items.collect()
    }

    async fn runs(&self) -> Vec<Value> {
        let mut runs = self.list("tekton.dev/v1", "TaskRun").await;
        runs.extend(self.list("tekton.dev/v1", "PipelineRun").await);
        runs.extend(self.list("tekton.dev/v1beta1", "CustomRun").await);
        runs
    }

    /// What a person wants to know of an example that went wrong.
    async fn account(&self) -> String {
        let mut lines = Vec::new();
        for run in self.runs().await {
            let condition = succeeded(&run).cloned().unwrap_or_default();
            let (kind, name) = (&run["kind"], &run["metadata"]["name"]);
            lines.push(format!(
                "{kind} {name}: {} {}",
                condition["reason"], condition["message"]
            ));
        }
        for pod in self.list("v1", "Pod").await {
            let (name, status) = (&pod["metadata"]["name"], &pod["status"]);
            let containers = status["containerStatuses"].as_array().into_iter().flatten();
            let states: Vec<_> = containers
                .map(|c| format!("{}={}", c["name"], c["state"]))
                .collect();
            lines.push(format!(
                "Pod {name}: {} {} {}",
                status["phase"],
                status["message"],
                states.join(" ")
            ));
        }
        for event in self.list("v1", "Event").await {
            let (about, reason) = (&event["involvedObject"], &event["reason"]);
            if event["type"] != "Normal" {
                lines.push(format!(
                    "Event {} {}: {reason} {}",
                    about["kind"], about["name"], event["message"]
                ));
            }
        }
        format!("    {}", lines.join("\n    "))
    }
}

/// Where nothing was recorded: runs that did not succeed, as upstream's own tests demand of its examples.
fn failures(runs: &[Value]) -> Vec<String> {
    let failed = runs
        .iter()
        .filter(|run| succeeded(run).is_none_or(|c| c["status"] != "True"));
    failed
        .map(|run| format!("{} did not succeed", run["metadata"]["name"]))
        .collect()
}

fn succeeded(run: &Value) -> Option<&Value> {
    let conditions = run["status"]["conditions"].as_array()?;
    conditions.iter().find(|c| c["type"] == "Succeeded")
}
