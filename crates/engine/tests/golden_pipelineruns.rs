//! Plays what real Tekton did with the example PipelineRuns through the engine and compares field by field.
//!
//! Each recorded PipelineRun is started from its recorded spec; its children get their recorded endings one after
//! another. Compared are the children that are made (metadata and spec, after admission), the claims, the whole status,
//! the labels and the reasons of the run's events.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use jiff::{SignedDuration, Timestamp};
use regex::Regex;
use serde_json::{Map, Value, json};
use tektite_api::admission::{self, Operation, Request};
use tektite_api::config::{Config, FeatureFlags};
use tektite_api::v1::PipelineRun;
use tektite_engine::decision::{Answer, Effect, Found, Query};
use tektite_engine::pipelinerun::{Observed, reconcile};

/// Differences that are meant, with the reason: example, path (as printed, up to the colon).
const INTENDED: &[(&str, &str, &str)] = &[];

/// Recordings that cannot be played, with the reason.
const SKIPPED: &[(&str, &str)] = &[];

fn shared() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared")
}

#[test]
fn recorded_pipeline_runs_come_out_as_tekton_made_them() {
    // P-261, P-268, P-269, P-281, P-282, P-297, P-298, P-299, P-300
    let golden = shared().join("golden");
    if !golden.is_dir() {
        println!("skipped: no recordings at ../shared/golden beside the project");
        return;
    }
    let mut played = 0;
    let mut differences = Vec::new();
    for set in ["examples", "examples-alpha"] {
        for file in json_files(&golden.join(set).join("pipelineruns")) {
            let example = file
                .strip_prefix(&golden)
                .unwrap_or(&file)
                .display()
                .to_string();
            if let Some((_, reason)) = SKIPPED.iter().find(|(name, _)| *name == example) {
                println!("skipped {example}: {reason}");
                continue;
            }
            let Some(manifest) = manifest_of(&file, set) else {
                println!("skipped {example}: its manifest is not among the upstream examples here");
                continue;
            };
            played += 1;
            for difference in play(&file, &manifest, set) {
                let path = difference.split(": ").next().unwrap_or_default();
                let meant = INTENDED
                    .iter()
                    .find(|(name, at, _)| *name == example && *at == path);
                match meant {
                    Some((_, _, reason)) => println!("intended {example} {path}: {reason}"),
                    None => differences.push(format!("{example} {difference}")),
                }
            }
        }
    }
    println!("played {played} recordings");
    assert!(
        differences.is_empty(),
        "{} differences:\n{}",
        differences.len(),
        differences.join("\n")
    );
}

fn json_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(dir) else {
        return files;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(json_files(&path));
        } else if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The documents of the example's manifest, with the images that the recorder put in.
fn manifest_of(file: &Path, set: &str) -> Option<Vec<Value>> {
    let inside = file.strip_prefix(shared().join("golden").join(set)).ok()?;
    let path = shared()
        .join("upstream/pipeline/examples/v1")
        .join(inside)
        .with_extension("yaml");
    let text = with_stand_ins(&fs::read_to_string(path).ok()?);
    let documents = serde_yaml_ng::Deserializer::from_str(&text);
    let values =
        documents.map(|document| <Value as serde::Deserialize>::deserialize(document).ok());
    Some(values.flatten().filter(|value| !value.is_null()).collect())
}

fn with_stand_ins(text: &str) -> String {
    const IMAGES: [(&str, &str); 4] = [
        (
            r"(mirror\.gcr\.io|cgr\.dev/chainguard)/busybox",
            "localhost:5000/busybox:1",
        ),
        (
            r"[\w./-]*/(alpine/git|cloud-builders/git|alpine-git-nonroot|git-init|git-clone)",
            "localhost:5000/git:2",
        ),
        (r"mirror\.gcr\.io/bash", "localhost:5000/bash:2"),
        (
            r"mirror\.gcr\.io/(ubuntu|alpine|node|perl|python|library/python)|docker\.io/alpine/curl|gcr\.io/cloud-builders/curl|gcr\.io/google\.com/[\w/-]+|alpine|ubuntu|busybox|bash",
            "localhost:5000/debian:2",
        ),
    ];
    let images: Vec<(Regex, &str)> = IMAGES
        .iter()
        .map(|(pattern, to)| {
            (
                Regex::new(&format!("^({pattern})([:@].*)?$")).expect("a constant pattern"),
                *to,
            )
        })
        .collect();
    let field = Regex::new(
        r#"(image:\s*["']?)([A-Za-z0-9._/-]+(?::[A-Za-z0-9._-]+)?(?:@sha256:[0-9a-f]{64})?)"#,
    )
    .expect("a constant pattern");
    field
        .replace_all(text, |found: &regex::Captures<'_>| {
            let image = &found[2];
            let to = images
                .iter()
                .find(|(pattern, _)| pattern.is_match(image))
                .map_or(image, |(_, to)| *to);
            format!("{}{to}", &found[1])
        })
        .into_owned()
}

static RANDOM: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("-[a-z0-9]{5}$").expect("a constant pattern"));
/// Hashes of names too long for a label differ, because the recorder took the random part out of what was hashed.
static HASHED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("[0-9a-f]{32,}-").expect("a constant pattern"));

struct Cluster {
    config: Config,
    recorded: Vec<Value>,
    manifest: Vec<Value>,
    /// Children that exist, by kind and name; `false` until they have their recorded ending.
    children: Vec<(String, String, bool)>,
    claims: Vec<Value>,
    made: Vec<Value>,
}

fn play(file: &Path, manifest: &[Value], set: &str) -> Vec<String> {
    let text = fs::read_to_string(file).expect("a recording");
    let text = HASHED.replace_all(&text, "<MD5>-");
    // Times and uids were taken out; the engine needs some.
    let text = text
        .replace("<TIME>", "2026-01-01T00:00:00Z")
        .replace("<RAND>", "abcde");
    let recording: Value = serde_json::from_str(&text).expect("a recording is JSON");
    let recorded: Vec<Value> = recording["objects"].as_array().cloned().unwrap_or_default();
    let mut config = Config::default();
    if set == "examples-alpha" {
        config.feature_flags = recorded_flags(&recorded);
    }
    let created = recording["create"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let created: Vec<&str> = created
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let existing = |document: &&Value| {
        let name = document["metadata"]["name"].as_str().unwrap_or_default();
        let kind = document["kind"].as_str().unwrap_or_default().to_lowercase();
        // The recorder took five-letter endings for random ones.
        let shortened = RANDOM.replace(name, "-abcde");
        document["kind"] == "PipelineRun"
            || created.iter().any(|it| {
                *it == format!("{kind}.tekton.dev/{name}")
                    || *it == format!("{kind}.tekton.dev/{shortened}")
            })
    };
    let manifest: Vec<Value> = manifest.iter().filter(existing).cloned().collect();
    let mut differences = Vec::new();
    for run in recorded
        .iter()
        .filter(|object| object["kind"] == "PipelineRun")
    {
        let mut cluster = Cluster {
            config: config.clone(),
            recorded: recorded.clone(),
            manifest: manifest.clone(),
            children: Vec::new(),
            claims: Vec::new(),
            made: Vec::new(),
        };
        let events: BTreeSet<String> = recording["events"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|event| serde_json::from_str::<Vec<String>>(event.as_str()?).ok())
            .filter(|event| event[0] == "PipelineRun")
            .map(|event| format!("{} {}", event[1], event[2]))
            .collect();
        let several = recorded
            .iter()
            .filter(|object| object["kind"] == "PipelineRun")
            .count()
            > 1;
        differences.extend(cluster.play(run, (!several).then_some(events)));
    }
    differences
}

fn recorded_flags(recorded: &[Value]) -> FeatureFlags {
    let run = recorded
        .iter()
        .find(|object| object["kind"] == "PipelineRun")
        .expect("a PipelineRun");
    // What is not among them is off, whatever its default.
    let mut flags = serde_json::to_value(FeatureFlags::default()).expect("flags are JSON");
    for value in flags
        .as_object_mut()
        .expect("an object")
        .values_mut()
        .filter(|value| value.is_boolean())
    {
        *value = json!(false);
    }
    let given = run["status"]["provenance"]["featureFlags"]
        .as_object()
        .expect("recorded flags");
    flags
        .as_object_mut()
        .expect("an object")
        .extend(given.clone());
    serde_json::from_value(flags).expect("flags")
}

impl Cluster {
    fn play(&mut self, recorded: &Value, events: Option<BTreeSet<String>>) -> Vec<String> {
        let name = text(&recorded["metadata"]["name"]);
        let mut run = self.start(recorded);
        let mut now: Timestamp = "2026-01-01T00:00:01Z".parse().expect("a time");
        let mut told = BTreeSet::new();
        for _ in 0..400 {
            let before = run.status.clone();
            let acted = self.step(&mut run, now, &mut told);
            now += SignedDuration::from_millis(10);
            if run.is_done() {
                break;
            }
            if !acted && run.status == before {
                // Nothing more happens by itself: the next child ends.
                match self.children.iter_mut().find(|(_, _, ended)| !ended) {
                    Some(child) => child.2 = true,
                    None => break,
                }
            }
        }
        let mut differences = Vec::new();
        let ours = normal(serde_json::to_value(&run).expect("a run is JSON"));
        let theirs = normal(recorded.clone());
        diff(
            &format!("{name} status"),
            &ours["status"],
            &theirs["status"],
            &mut differences,
        );
        diff(
            &format!("{name} labels"),
            &ours["metadata"]["labels"],
            &theirs["metadata"]["labels"],
            &mut differences,
        );
        let annotations = |run: &Value| {
            run["metadata"]
                .get("annotations")
                .cloned()
                .unwrap_or_else(|| json!({}))
        };
        diff(
            &format!("{name} annotations"),
            &annotations(&ours),
            &annotations(&theirs),
            &mut differences,
        );
        if let Some(events) = events {
            diff(
                &format!("{name} events"),
                &json!(told),
                &json!(events),
                &mut differences,
            );
        }
        differences.extend(self.compare_children(&name));
        differences
    }

    /// The run as it was created: its recorded spec and the metadata of the manifest.
    fn start(&self, recorded: &Value) -> PipelineRun {
        let mut run = recorded.clone();
        let name = text(&run["metadata"]["name"]);
        let generated = run["metadata"]["generateName"].clone();
        let owned = run["metadata"]["ownerReferences"].is_array();
        let metadata = run["metadata"].as_object_mut().expect("metadata");
        if !owned {
            let source = self.manifest.iter().find(|document| {
                document["kind"] == "PipelineRun"
                    && (document["metadata"]["name"] == json!(name)
                        || (generated.is_string()
                            && document["metadata"]["generateName"] == generated))
            });
            for key in ["labels", "annotations"] {
                metadata.remove(key);
                if let Some(value) = source.and_then(|source| source["metadata"].get(key)) {
                    metadata.insert(key.to_owned(), value.clone());
                }
            }
        }
        metadata.insert("namespace".to_owned(), json!("<NS>"));
        metadata.insert("uid".to_owned(), json!("<UID>"));
        metadata.insert(
            "creationTimestamp".to_owned(),
            json!("2026-01-01T00:00:00Z"),
        );
        run.as_object_mut().expect("an object").remove("status");
        serde_json::from_value(run).expect("a PipelineRun")
    }

    /// One reconcile with all its questions answered; whether it did anything.
    fn step(&mut self, run: &mut PipelineRun, now: Timestamp, told: &mut BTreeSet<String>) -> bool {
        let mut seen = self.observed();
        let decision = loop {
            let decision = reconcile(run, &seen, &self.config, now);
            if decision.needs.is_empty() {
                break decision;
            }
            for query in decision.needs {
                let answer = self.answer(&query);
                seen.answers.insert(query, answer);
            }
        };
        for event in &decision.events {
            told.insert(format!("{} {}", event.type_.as_str(), event.reason));
        }
        run.metadata
            .labels
            .get_or_insert_default()
            .extend(decision.labels);
        run.metadata
            .annotations
            .get_or_insert_default()
            .extend(decision.annotations);
        run.status = decision.status;
        let acted = !decision.effects.is_empty();
        for effect in decision.effects {
            self.apply(effect);
        }
        acted
    }

    fn observed(&self) -> Observed {
        let mut seen = Observed {
            nop_image: "nop".to_owned(),
            ..Observed::default()
        };
        for (kind, name, ended) in &self.children {
            let mut object = self.made(kind, name).clone();
            if *ended && let Some(recorded) = self.recorded_object(kind, name) {
                object["status"] = recorded["status"].clone();
            }
            match kind.as_str() {
                "TaskRun" => seen
                    .task_runs
                    .push(Arc::new(serde_json::from_value(object).expect("a TaskRun"))),
                "CustomRun" => seen.custom_runs.push(Arc::new(
                    serde_json::from_value(object).expect("a CustomRun"),
                )),
                _ => seen.pipeline_runs.push(Arc::new(
                    serde_json::from_value(object).expect("a PipelineRun"),
                )),
            }
        }
        seen
    }

    fn made(&self, kind: &str, name: &str) -> &Value {
        let is_it = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
        self.made.iter().find(is_it).expect("a child that was made")
    }

    fn recorded_object(&self, kind: &str, name: &str) -> Option<&Value> {
        let name = HASHED.replace_all(name, "<MD5>-");
        self.recorded
            .iter()
            .find(|object| object["kind"] == kind && object["metadata"]["name"] == *name)
    }

    fn answer(&self, query: &Query) -> Answer {
        let missing = |message: String| Answer::Missing { message };
        let document = |kind: &str, name: &str| {
            let found = self
                .manifest
                .iter()
                .find(|it| it["kind"] == kind && it["metadata"]["name"] == name);
            found.map(|it| {
                let mut object = self.admitted(it.clone());
                object["metadata"]["namespace"] = json!("<NS>");
                object
            })
        };
        match query {
            Query::Task { name, .. } => match document("Task", name) {
                Some(task) => Answer::Found(Found::Task(Arc::new(
                    serde_json::from_value(task).expect("a Task"),
                ))),
                None => missing(format!("tasks.tekton.dev {name:?} not found")),
            },
            Query::Pipeline { name, .. } => match document("Pipeline", name) {
                Some(pipeline) => Answer::Found(Found::Pipeline(Arc::new(
                    serde_json::from_value(pipeline).expect("a Pipeline"),
                ))),
                None => missing(format!("pipelines.tekton.dev {name:?} not found")),
            },
            _ => missing("not found".to_owned()),
        }
    }

    /// What the mutating webhook makes of an object.
    fn admitted(&self, object: Value) -> Value {
        let api_version = text(&object["apiVersion"]);
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let request = Request {
            group,
            version,
            kind: object["kind"].as_str().unwrap_or_default(),
            operation: Operation::Create,
            name: object["metadata"]["name"].as_str().unwrap_or_default(),
            namespace: "<NS>",
            object: &object,
            old_object: None,
            subresource: "",
            user: "tester",
        };
        match admission::default(&request, &self.config) {
            Ok(defaulted) => defaulted,
            Err(refusal) => panic!("{}: {}", object["metadata"]["name"], refusal.message),
        }
    }

    fn apply(&mut self, effect: Effect) {
        let (kind, object) = match effect {
            Effect::CreateTaskRun(run) => ("TaskRun", serde_json::to_value(run).expect("JSON")),
            Effect::CreateCustomRun(run) => ("CustomRun", serde_json::to_value(run).expect("JSON")),
            Effect::CreatePipelineRun(run) => {
                ("PipelineRun", serde_json::to_value(run).expect("JSON"))
            }
            Effect::CreatePvc(claim) => {
                let claim = serde_json::to_value(claim).expect("JSON");
                if !self
                    .claims
                    .iter()
                    .any(|known| known["metadata"]["name"] == claim["metadata"]["name"])
                {
                    self.claims.push(claim);
                }
                return;
            }
            _ => return,
        };
        let name = text(&object["metadata"]["name"]);
        assert!(
            !self.children.iter().any(|(_, known, _)| *known == name),
            "{name} is made twice"
        );
        let mut object = self.admitted(object);
        object["metadata"]["uid"] = json!("<CHILD>");
        object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        self.made.push(object);
        self.children.push((kind.to_owned(), name, false));
    }

    fn compare_children(&self, run: &str) -> Vec<String> {
        let mut differences = Vec::new();
        let is_child = |object: &&Value| {
            let owners = object["metadata"]["ownerReferences"].as_array();
            let of_run = |owner: &Value| owner["kind"] == "PipelineRun" && owner["name"] == run;
            object["kind"] != "Pod" && owners.is_some_and(|owners| owners.iter().any(of_run))
        };
        let theirs: Vec<&Value> = self.recorded.iter().filter(is_child).collect();
        let names = |objects: &mut dyn Iterator<Item = &Value>| -> BTreeSet<String> {
            objects
                .map(|it| {
                    format!(
                        "{} {}",
                        text(&it["kind"]),
                        text(&normal(it.clone())["metadata"]["name"])
                    )
                })
                .collect()
        };
        let made = self.made.iter().chain(&self.claims);
        let (ours_named, theirs_named) =
            (names(&mut made.clone()), names(&mut theirs.iter().copied()));
        diff(
            &format!("{run} children"),
            &json!(ours_named),
            &json!(theirs_named),
            &mut differences,
        );
        for object in made {
            let ours = normal(object.clone());
            let kind = text(&ours["kind"]);
            let Some(recorded) = theirs.iter().map(|it| normal((*it).clone())).find(|it| {
                it["kind"] == ours["kind"] && it["metadata"]["name"] == ours["metadata"]["name"]
            }) else {
                continue;
            };
            let recorded = self.as_created(recorded);
            let ours = self.as_created(ours);
            let at = format!("{kind} {}", text(&ours["metadata"]["name"]));
            for key in ["labels", "annotations", "ownerReferences"] {
                let part = |object: &Value| {
                    object["metadata"]
                        .get(key)
                        .cloned()
                        .unwrap_or_else(|| json!({}))
                };
                diff(
                    &format!("{at} {key}"),
                    &part(&ours),
                    &part(&recorded),
                    &mut differences,
                );
            }
            if kind != "PersistentVolumeClaim" {
                diff(
                    &format!("{at} spec"),
                    &ours["spec"],
                    &recorded["spec"],
                    &mut differences,
                );
            }
        }
        differences
    }
}

impl Cluster {
    /// A child without what its own reconciler adds: a TaskRun takes the name, labels and annotations of its Task, a
    /// PipelineRun the name of its pipeline.
    fn as_created(&self, mut child: Value) -> Value {
        let own = match child["kind"].as_str() {
            Some("TaskRun") => "tekton.dev/task",
            Some("PipelineRun") => "tekton.dev/pipeline",
            _ => return child,
        };
        let task = child["spec"]["taskRef"]["name"].clone();
        let task = self
            .manifest
            .iter()
            .find(|it| it["kind"] == "Task" && it["metadata"]["name"] == task);
        for part in ["labels", "annotations"] {
            let Some(all) = child["metadata"]
                .get_mut(part)
                .and_then(Value::as_object_mut)
            else {
                continue;
            };
            all.remove(own);
            let of_task = task.and_then(|task| task["metadata"][part].as_object());
            all.retain(|key, value| of_task.and_then(|of_task| of_task.get(key)) != Some(value));
        }
        child
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

static RULES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<TIME>"),
        (r"\bpvc-[0-9a-f]{10}\b", "pvc-<HASH>"),
        (
            r"affinity-assistant-[0-9a-f]{10}",
            "affinity-assistant-<HASH>",
        ),
        ("[0-9a-f]{32,}-", "<MD5>-"),
    ]
    .map(|(pattern, to)| (Regex::new(pattern).expect("a constant pattern"), to))
    .into()
});

/// An object without what differs by nature, as the recorder normalised it.
fn normal(object: Value) -> Value {
    let text = object.to_string();
    let text = RULES.iter().fold(text, |text, (pattern, to)| {
        pattern.replace_all(&text, *to).into_owned()
    });
    let mut object: Value = serde_json::from_str(&text).expect("still JSON");
    if let Some(owners) = object["metadata"]["ownerReferences"].as_array_mut() {
        for owner in owners.iter_mut().filter_map(Value::as_object_mut) {
            owner.remove("uid");
        }
    }
    if let Some(annotations) = object["metadata"]
        .get_mut("annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        annotations.remove("pipeline.tekton.dev/release");
        // A bound claim's.
        annotations.retain(|key, _| !key.starts_with("pv.kubernetes.io/"));
    }
    object
}

fn diff(path: &str, ours: &Value, theirs: &Value, differences: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = keys(a).chain(keys(b)).collect();
            for key in keys {
                let null = Value::Null;
                diff(
                    &format!("{path}.{key}"),
                    a.get(key).unwrap_or(&null),
                    b.get(key).unwrap_or(&null),
                    differences,
                );
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                diff(&format!("{path}[{i}]"), a, b, differences);
            }
        }
        _ if ours == theirs => {}
        _ => differences.push(format!("{path}: ours {ours}, Tekton's {theirs}")),
    }
}

fn keys(map: &Map<String, Value>) -> impl Iterator<Item = &String> {
    map.keys()
}
