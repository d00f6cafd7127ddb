//! Reading recordings of upstream's examples, and comparing with them.

pub mod pods;
pub mod replay;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;
use tektite_api::v1::TaskRun;

/// One example as it was recorded, with the manifest it came from.
pub struct Recording {
    pub name: String,
    recorded: Value,
    pub manifest: Vec<Value>,
}

impl Recording {
    pub fn objects(&self, kind: &str) -> Vec<Value> {
        let all = self.recorded["objects"].as_array().into_iter().flatten();
        all.filter(|o| o["kind"] == kind).cloned().collect()
    }

    /// Whether the example's TaskRuns had an event of this type and reason. Of one example the recorder read the events
    /// before the last one was written.
    pub fn saw_event(&self, type_and_reason: &Value) -> bool {
        let too_early = self.name == "pipelineruns/beta/propagated-pipeline-object-param";
        if too_early && type_and_reason[1] == "Succeeded" {
            return true;
        }
        let all = self.recorded["events"].as_array().into_iter().flatten();
        let parsed = all.filter_map(|e| serde_json::from_str::<Vec<String>>(e.as_str()?).ok());
        let mut of_task_runs = parsed.filter(|e| e[0] == "TaskRun");
        of_task_runs.any(|e| *type_and_reason == serde_json::json!(e[1..]))
    }

    /// A recorded run with what the recorder left out.
    pub fn run(&self, recorded: &Value) -> TaskRun {
        let text = recorded
            .to_string()
            .replace("<TIME>", "2026-01-01T00:00:00Z");
        let mut run: TaskRun = serde_json::from_str(&text).expect("a recorded run is a TaskRun");
        run.metadata.namespace = Some("<NS>".into());
        run.metadata.uid = Some("<UID>".into());
        run
    }

    /// An object of the example's manifest.
    pub fn declared<T: for<'de> Deserialize<'de>>(&self, kind: &str, name: &str) -> Option<T> {
        let found = self
            .manifest
            .iter()
            .find(|o| o["kind"] == kind && o["metadata"]["name"] == name)?;
        Some(
            serde_json::from_value(found.clone())
                .expect("an example's object has the type of its kind"),
        )
    }
}

/// All recordings, or `None`, said aloud, where they are not at hand.
pub fn recordings() -> Option<Vec<Recording>> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let (golden, examples) = (
        shared.join("golden/examples"),
        shared.join("upstream/pipeline/examples/v1"),
    );
    if !golden.is_dir() || !examples.is_dir() {
        eprintln!("skipped: no recordings of upstream's examples beside this checkout");
        return None;
    }
    let mut files = Vec::new();
    collect(&golden, &mut files);
    files.sort();
    let read = |file: PathBuf| {
        let name = file
            .strip_prefix(&golden)
            .expect("found below it")
            .with_extension("");
        let recorded =
            serde_json::from_str(&fs::read_to_string(&file).expect("readable")).expect("JSON");
        let yaml = fs::read_to_string(examples.join(&name).with_extension("yaml"))
            .expect("recorded from it");
        let yaml = stand_in(&yaml);
        let documents = serde_yaml_ng::Deserializer::from_str(&yaml);
        let manifest = documents
            .map(|d| Value::deserialize(d).expect("YAML"))
            .filter(|d| !d.is_null())
            .collect();
        Recording {
            name: name.display().to_string(),
            recorded,
            manifest,
        }
    };
    Some(files.into_iter().map(read).collect())
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("readable").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "json") {
            files.push(path);
        }
    }
}

static IMAGES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let images = [
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
    let pattern = |from: &str| Regex::new(&format!("^(?:{from})(?:[:@].*)?$")).expect("a pattern");
    images
        .iter()
        .map(|(from, to)| (pattern(from), *to))
        .collect()
});

static IMAGE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r#"(image:\s*["']?)([A-Za-z0-9._/-]+(?::[A-Za-z0-9._-]+)?(?:@sha256:[0-9a-f]{64})?)"#,
    )
    .expect("a pattern")
});

/// The images that the recorder put in place of those it could not reach.
fn stand_in(yaml: &str) -> String {
    let put = |found: &regex::Captures<'_>| {
        let to = IMAGES
            .iter()
            .find(|(from, _)| from.is_match(&found[2]))
            .map_or(&found[2], |(_, to)| to);
        format!("{}{to}", &found[1])
    };
    IMAGE.replace_all(yaml, put).into_owned()
}

/// Where two trees differ, one line each.
pub fn differences(expected: &Value, got: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", expected, got, &mut found);
    found
}

fn compare(path: &str, expected: &Value, got: &Value, found: &mut Vec<String>) {
    match (expected, got) {
        (Value::Object(e), Value::Object(g)) => {
            for key in e.keys().chain(g.keys().filter(|k| !e.contains_key(*k))) {
                let (e, g) = (
                    e.get(key).unwrap_or(&Value::Null),
                    g.get(key).unwrap_or(&Value::Null),
                );
                compare(&format!("{path}.{key}"), e, g, found);
            }
        }
        (Value::Array(e), Value::Array(g)) if e.len() == g.len() => {
            for (i, (e, g)) in e.iter().zip(g).enumerate() {
                compare(&format!("{path}[{i}]"), e, g, found);
            }
        }
        (e, g) if e == g => {}
        (e, g) => found.push(format!("{path}: expected {e}, got {g}")),
    }
}

static TIME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)").expect("a pattern")
});

/// The tree without times, which differ by nature.
pub fn without_times(value: Value) -> Value {
    let text = TIME.replace_all(&value.to_string(), "<TIME>").into_owned();
    serde_json::from_str(&text).unwrap_or(Value::Null)
}
