//! Compares admission with what Tekton's own answered (`../shared/golden/admission.jsonl`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;
use tektite_api::{admission::admit, config::Config};

const EXCEPTIONS: &str = include_str!("admission_exceptions.txt");

/// Drops what the API server puts in front of a webhook's text.
fn own_text(message: &str) -> &str {
    match message.split_once(" denied the request: ") {
        Some((front, text)) if front.starts_with("admission webhook ") => text,
        _ => message,
    }
}

/// The recorded name of an object that wanted one has a random end; ours has `xxxxx`.
fn without_random_name(message: &str, manifest: &Value) -> String {
    let Some(prefix) = manifest["metadata"]["generateName"].as_str() else {
        return message.to_owned();
    };
    let quoted = format!("\"{prefix}");
    let mut parts = message.split(&quoted);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(&quoted);
        match part.as_bytes().get(5) {
            Some(b'"') if !part.starts_with('"') => out.push_str(&format!("xxxxx{}", &part[5..])),
            _ => out.push_str(part),
        }
    }
    out
}

#[derive(PartialEq)]
struct Answer {
    code: u64,
    message: String,
    spec: Value,
    labels: Value,
    annotations: Value,
}

fn ours(manifest: &Value, config: &Config) -> Answer {
    match admit(manifest, config) {
        Ok((object, _)) => Answer {
            code: 201,
            message: String::new(),
            spec: object["spec"].clone(),
            labels: object["metadata"]["labels"].clone(),
            annotations: object["metadata"]["annotations"].clone(),
        },
        Err(refusal) => Answer {
            code: refusal.code.into(),
            message: refusal.message,
            spec: Value::Null,
            labels: Value::Null,
            annotations: Value::Null,
        },
    }
}

/// T-012, T-017, T-018, T-019, P-010, P-014, P-016, P-017: the same verdict, message and defaulted object as Tekton
/// gave, but for the reviewed exceptions.
#[test]
fn admission_answers_as_recorded() {
    let golden =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/admission.jsonl");
    let Ok(lines) = fs::read_to_string(&golden) else {
        eprintln!(
            "SKIPPED admission_answers_as_recorded: no recordings at {}",
            golden.display()
        );
        return;
    };
    let exceptions: BTreeSet<usize> = EXCEPTIONS
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.split(' ').next().unwrap().parse().unwrap())
        .collect();
    let config = Config::default();
    let (mut total, mut verdicts, mut texts) = (0, 0, 0);
    let mut disagreements: BTreeMap<usize, String> = BTreeMap::new();
    for (index, line) in lines.lines().enumerate() {
        let line: Value = serde_json::from_str(line).unwrap();
        let (manifest, recorded) = (&line["manifest"], &line["answer"]);
        let answer = ours(manifest, &config);
        let code = recorded["code"].as_u64().unwrap();
        let message = own_text(recorded["message"].as_str().unwrap_or_default());
        let message = &without_random_name(message, manifest);
        total += 1;
        let same_verdict = (code == 201) == (answer.code == 201);
        let upstreams = Answer {
            code,
            message: message.clone(),
            spec: recorded["spec"].clone(),
            labels: recorded["labels"].clone(),
            annotations: recorded["annotations"].clone(),
        };
        let same_text = answer == upstreams;
        verdicts += usize::from(same_verdict);
        texts += usize::from(same_text);
        if !same_text {
            let kind = manifest["kind"].as_str().unwrap_or_default();
            let version = manifest["apiVersion"].as_str().unwrap_or_default();
            let text = if code == 201 && answer.code == 201 {
                format!(
                    "  upstream {}\n  ours     {}",
                    recorded["spec"], answer.spec
                )
            } else {
                format!(
                    "  upstream {code} {message}\n  ours     {} {}",
                    answer.code, answer.message
                )
            };
            disagreements.insert(
                index,
                format!(
                    "{index} {kind} {version}{}\n{text}",
                    if same_verdict { "" } else { " VERDICT" }
                ),
            );
        }
    }
    for text in disagreements.values() {
        println!("{text}");
    }
    let percent = |n: usize| 100.0 * n as f64 / total as f64;
    println!(
        "{total} recorded: verdict {:.2} %, message and spec {:.2} %",
        percent(verdicts),
        percent(texts)
    );
    let found: BTreeSet<usize> = disagreements.keys().copied().collect();
    let new: Vec<_> = found.difference(&exceptions).collect();
    let gone: Vec<_> = exceptions.difference(&found).collect();
    assert!(
        new.is_empty(),
        "disagreements that nobody has reviewed: {new:?}"
    );
    assert!(
        gone.is_empty(),
        "exceptions that are none any more: {gone:?}"
    );
}
