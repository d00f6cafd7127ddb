//! What a real Tekton made of an example, and how what came of it here differs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

/// What varies by nature from run to run or from machine to machine, and what stands for it in recordings.
static VARYING: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        (
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)",
            "<TIME>",
        ),
        (
            r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            "<UID>",
        ),
        (r#""imageID":"[^"]*""#, r#""imageID":"<IMAGEID>""#),
        (r#""image":"[^"]*""#, r#""image":"<IMAGE>""#),
        (r"\bpvc-[0-9a-f]{10}\b", "pvc-<HASH>"),
        (
            r"affinity-assistant-[0-9a-f]{10}",
            "affinity-assistant-<HASH>",
        ),
        // Names too long are cut and end in a hash of the whole, which holds the random suffix of a parent.
        (r"[0-9a-f]{32,}-", "<HASH>-"),
        (r"(containerd|tektite)://[0-9A-Za-z<>.-]+", "<CONTAINERID>"),
    ]
    .into_iter()
    .map(|(pattern, stand_in)| (Regex::new(pattern).expect("a pattern"), stand_in))
    .collect()
});

/// One outcome of an example: a recorded one or ours.
pub struct Outcome {
    /// The admission's refusal, if an object was refused.
    pub refusal: Option<String>,
    /// All TaskRuns, PipelineRuns and CustomRuns.
    runs: BTreeMap<String, Value>,
    /// Kind, type and reason of the runs' events.
    events: BTreeSet<String>,
}

impl Outcome {
    /// Reads a recording; `None` if there is none.
    pub fn recorded(file: &Path) -> Option<(Self, Value)> {
        let text = fs::read_to_string(file).ok()?;
        let recording: Value = serde_json::from_str(&text).expect("a recording is JSON");
        let objects = recording["objects"].as_array().cloned().unwrap_or_default();
        let events = recording["events"].as_array().into_iter().flatten();
        let events = events.filter_map(|event| serde_json::from_str(event.as_str()?).ok());
        let events = events
            .map(|(kind, type_, reason): (String, String, String)| [kind, type_, reason].join(" "));
        let outcome = Self {
            refusal: recording["create_error"].as_str().map(str::to_owned),
            runs: by_name(normalised(objects, &[])),
            events: events.collect(),
        };
        Some((outcome, recording))
    }

    /// Ours, from what the namespace holds in the end.
    pub fn seen(
        refusal: Option<String>,
        namespace: &str,
        objects: Vec<Value>,
        events: &[Value],
    ) -> Self {
        let mut aliases = vec![(namespace.to_owned(), "<NS>".to_owned())];
        for object in &objects {
            let metadata = &object["metadata"];
            if let (Some(name), Some(generate)) =
                (metadata["name"].as_str(), metadata["generateName"].as_str())
            {
                aliases.push((name.to_owned(), format!("{generate}<RAND>")));
            }
        }
        let kinds = ["TaskRun", "PipelineRun", "CustomRun"];
        let events = events
            .iter()
            .filter(|event| kinds.contains(&event["involvedObject"]["kind"].as_str().unwrap_or("")))
            .map(|event| {
                let fields = [
                    &event["involvedObject"]["kind"],
                    &event["type"],
                    &event["reason"],
                ];
                fields.map(|f| f.as_str().unwrap_or("")).join(" ")
            });
        Self {
            refusal,
            events: events.collect(),
            runs: by_name(normalised(objects, &aliases)),
        }
    }

    /// What differs from the recording: refusals, the set of runs, their metadata and status, the set of events.
    pub fn differences(&self, recorded: &Self) -> Vec<String> {
        let mut found = Vec::new();
        match (&self.refusal, &recorded.refusal) {
            (None, None) => {}
            // A recording holds the first 600 bytes.
            (Some(ours), Some(theirs))
                if theirs.contains(&ours.chars().take(300).collect::<String>()) => {}
            (ours, theirs) => {
                found.push(format!("refusal: {ours:?}, recorded {theirs:?}"));
            }
        }
        let names: BTreeSet<_> = self.runs.keys().chain(recorded.runs.keys()).collect();
        for name in names {
            match (self.runs.get(name), recorded.runs.get(name)) {
                (Some(ours), Some(theirs)) => compare(name, ours, theirs, &mut found),
                (Some(_), None) => found.push(format!("{name}: not in the recording")),
                (None, _) => found.push(format!("{name}: only in the recording")),
            }
        }
        for event in self.events.symmetric_difference(&recorded.events) {
            let whose = if self.events.contains(event) {
                "ours"
            } else {
                "the recording"
            };
            found.push(format!("event {event}: only in {whose}"));
        }
        found
    }
}

fn by_name(objects: Vec<Value>) -> BTreeMap<String, Value> {
    let runs = objects.into_iter().filter(|o| {
        matches!(
            o["kind"].as_str(),
            Some("TaskRun" | "PipelineRun" | "CustomRun")
        )
    });
    runs.map(|run| {
        let [kind, name] =
            [&run["kind"], &run["metadata"]["name"]].map(|v| v.as_str().unwrap_or(""));
        (format!("{kind} {name}"), compared(&run))
    })
    .collect()
}

/// The parts of a run that are compared.
fn compared(run: &Value) -> Value {
    let mut parts = Map::new();
    for field in ["labels", "annotations", "ownerReferences"] {
        let mut value = run["metadata"][field].clone();
        for owner in value.as_array_mut().into_iter().flatten() {
            owner.as_object_mut().map(|owner| owner.remove("uid"));
        }
        if let Some(fields) = value.as_object_mut() {
            fields.remove("pipeline.tekton.dev/release");
        }
        if value.as_object().is_some_and(Map::is_empty) {
            value = Value::Null;
        }
        parts.insert(field.to_owned(), value);
    }
    parts.insert("spec".to_owned(), run["spec"].clone());
    parts.insert("status".to_owned(), run["status"].clone());
    Value::Object(parts)
}

fn normalised(objects: Vec<Value>, aliases: &[(String, String)]) -> Vec<Value> {
    let mut aliases: Vec<_> = aliases.to_vec();
    aliases.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    let mut text = Value::Array(objects).to_string();
    for (name, alias) in &aliases {
        text = text.replace(name, alias);
    }
    for (pattern, stand_in) in VARYING.iter() {
        text = pattern.replace_all(&text, *stand_in).into_owned();
    }
    serde_json::from_str(&text).expect("placeholders leave JSON whole")
}

fn compare(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                let (x, y) = (a.get(key), b.get(key));
                compare(
                    &format!("{path}.{key}"),
                    x.unwrap_or(&Value::Null),
                    y.unwrap_or(&Value::Null),
                    found,
                );
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (x, y)) in a.iter().zip(b).enumerate() {
                compare(&format!("{path}[{i}]"), x, y, found);
            }
        }
        _ if ours == theirs => {}
        _ => found.push(format!("{path}: {ours}, recorded {theirs}")),
    }
}
