//! Runs the engine as a controller would, over what a recording knows.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use serde_json::{Value, json};
use tektite_api::config::Config;
use tektite_api::v1::{TaskRun, TaskRunStatus};
use tektite_engine::decision::{
    Answer, Decision, Effect, Found, ImageCommand, ImageCommands, Query,
};
use tektite_engine::taskrun::pod::{EntrypointDelivery, PodOptions};
use tektite_engine::taskrun::{Observed, reconcile};

use super::Recording;

fn observed() -> Observed {
    let options = PodOptions {
        entrypoint: EntrypointDelivery::InitContainer {
            image: "entrypoint:1".into(),
        },
        nop_image: "nop:1".into(),
        ..PodOptions::default()
    };
    Observed {
        pod_options: Arc::new(options),
        ..Observed::default()
    }
}

fn now() -> Timestamp {
    "2026-01-01T00:00:10Z".parse().expect("a time")
}

/// Calls the engine until it has no more questions.
fn decide(
    recording: &Recording,
    run: &TaskRun,
    seen: &mut Observed,
    recorded: &Value,
) -> Result<Decision<TaskRunStatus>, String> {
    for _ in 0..5 {
        let decision = reconcile(run, seen, &Config::default(), now());
        if decision.needs.is_empty() {
            return Ok(decision);
        }
        for query in decision.needs {
            let answer = answer(recording, &query, recorded)
                .ok_or_else(|| format!("no answer to {query:?}"))?;
            seen.answers.insert(query, answer);
        }
    }
    Err("the engine never stops asking".to_owned())
}

fn answer(recording: &Recording, query: &Query, pod: &Value) -> Option<Answer> {
    let missing = || Answer::Missing {
        message: "not found".into(),
    };
    Some(match query {
        Query::Task { name, .. } => {
            Answer::Found(Found::Task(Arc::new(recording.declared("Task", name)?)))
        }
        Query::StepAction { name, .. } => Answer::Found(Found::StepAction(Arc::new(
            recording.declared("StepAction", name)?,
        ))),
        Query::ServiceAccount { name, .. } => {
            let account: ServiceAccount = recording
                .declared("ServiceAccount", name)
                .unwrap_or_default();
            Answer::Found(Found::ServiceAccount(Arc::new(account)))
        }
        Query::Secret { name, .. } => recording
            .declared("Secret", name)
            .map_or_else(missing, |s| Answer::Found(Found::Secret(Arc::new(s)))),
        Query::LimitRanges { .. } => Answer::Found(Found::LimitRanges(Arc::new(Vec::new()))),
        Query::ImageConfig(image) => {
            Answer::Found(Found::Image(Arc::new(image_of(pod, &image.image)?)))
        }
        _ => return None,
    })
}

/// The image as the recorded pod shows that upstream's lookup found it.
fn image_of(pod: &Value, image: &str) -> Option<ImageCommands> {
    let repository = image.rsplit_once(':').map_or(image, |(r, _)| r);
    pod["spec"]["containers"].as_array()?.iter().find_map(|c| {
        let pinned = c["image"].as_str()?;
        let commands = c["env"]
            .as_array()?
            .iter()
            .find(|e| e["name"] == "TEKTON_PLATFORM_COMMANDS")?["value"]
            .as_str()?;
        let commands: BTreeMap<String, Vec<String>> = serde_json::from_str(commands).ok()?;
        let platforms = commands
            .into_iter()
            .map(|(p, entrypoint)| {
                (
                    p,
                    ImageCommand {
                        entrypoint,
                        cmd: Vec::new(),
                    },
                )
            })
            .collect();
        pinned
            .starts_with(&format!("{repository}@"))
            .then(|| ImageCommands {
                pinned: pinned.to_owned(),
                platforms,
            })
    })
}

/// The pod created for a fresh run.
pub fn create(recording: &Recording, run: &TaskRun, recorded: &Value) -> Result<Pod, String> {
    let decision = decide(recording, run, &mut observed(), recorded)?;
    let pod = decision.effects.into_iter().find_map(|e| match e {
        Effect::CreatePod(pod) => Some(*pod),
        _ => None,
    });
    pod.ok_or_else(|| format!("no pod: {:?}", decision.status.conditions))
}

/// The status of the run once its pod has ended as recorded, and type and reason of the events on the way.
pub fn finish(
    recording: &Recording,
    run: &TaskRun,
    recorded: &Value,
) -> Result<(TaskRunStatus, Vec<Value>), String> {
    let mut fresh = run.clone();
    fresh.status = TaskRunStatus::default();
    let mut seen = observed();
    let created = decide(recording, &fresh, &mut seen, recorded)?;
    let mut events = created.events;
    let effects = created.effects;
    let pod = effects.into_iter().find_map(|e| match e {
        Effect::CreatePod(pod) => Some(*pod),
        _ => None,
    });
    fresh.status = created.status;
    if let Some(mut pod) = pod {
        pod.metadata.name = recorded["metadata"]["name"].as_str().map(str::to_owned);
        fresh.status.pod_name = pod.metadata.name.clone().unwrap_or_default();
        pod.status = Some(serde_json::from_value(ended(run, recorded)).map_err(|e| e.to_string())?);
        let mut seen = observed();
        seen.pods = vec![Arc::new(pod)];
        let finished = decide(recording, &fresh, &mut seen, recorded)?;
        fresh.status = finished.status;
        events.extend(finished.events);
    }
    let events = events
        .iter()
        .map(|e| json!([e.type_.as_str(), e.reason]))
        .collect();
    Ok((fresh.status, events))
}

/// The status of a pod that ended as the recorded run says.
fn ended(run: &TaskRun, recorded: &Value) -> Value {
    let step = |s: &tektite_api::v1::StepState| {
        let mut state = json!(s.terminated);
        let mut notes: Vec<Value> = state["message"]
            .as_str()
            .and_then(|m| serde_json::from_str(m).ok())
            .unwrap_or_default();
        notes.push(json!({"key": "StartedAt", "value": "2026-01-01T00:00:00.123Z", "type": 3}));
        if s.termination_reason == "Continued" {
            notes.push(
                json!({"key": "ExitCode", "value": state["exitCode"].to_string(), "type": 3}),
            );
            state["exitCode"] = 0.into();
        } else if !s.termination_reason.is_empty()
            && Some(s.termination_reason.as_str()) != state["reason"].as_str()
        {
            notes.push(json!({"key": "Reason", "value": s.termination_reason, "type": 3}));
        }
        if !s.termination_reason.is_empty() {
            state["message"] = Value::Array(notes).to_string().into();
        }
        json!({"name": s.container, "image": "", "imageID": s.image_id, "ready": false, "restartCount": 0, "state": {"terminated": state}})
    };
    let sidecar = |s: &tektite_api::v1::SidecarState| {
        let state = json!({"waiting": s.waiting, "running": s.running, "terminated": s.terminated});
        json!({"name": s.container, "image": "", "imageID": s.image_id, "ready": false, "restartCount": 0, "state": state})
    };
    let containers: Vec<Value> = run
        .status
        .steps
        .iter()
        .map(step)
        .chain(run.status.sidecars.iter().map(sidecar))
        .collect();
    json!({"phase": recorded["status"]["phase"], "containerStatuses": containers})
}
