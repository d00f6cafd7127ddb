//! A small world round one TaskRun: what it holds is given as JSON, and the engine is asked until it has decided.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{LimitRange, Pod, Secret, ServiceAccount};
use serde_json::{Value, json};
use tektite_api::config::Config;
use tektite_api::v1::{Condition, Task, TaskRun, TaskRunStatus};
use tektite_api::v1beta1::StepAction;
use tektite_engine::decision::{
    Answer, Decision, Effect, Event, EventType, Found, ImageCommand, ImageCommands, Query, Refusal,
};
use tektite_engine::taskrun::{Observed, reconcile};

/// The world, its clock, and the run in it.
pub struct World {
    pub run: TaskRun,
    pub config: Config,
    pub seen: Observed,
    pub now: Timestamp,
    /// Objects by kind and name; what is not here is missing.
    objects: Vec<Value>,
    /// Answers that objects cannot give.
    pub answers: BTreeMap<Query, Answer>,
}

/// Second 0 is when the run was created.
pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).expect("in range")
}

pub fn run(spec: Value) -> TaskRun {
    let metadata = json!({"name": "tr", "namespace": "ns", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("a TaskRun")
}

/// A run of one inline step.
pub fn one_step() -> TaskRun {
    run(json!({"taskSpec": {"steps": [{"name": "s", "image": "i", "command": ["c"]}]}}))
}

impl World {
    pub fn new(run: TaskRun) -> Self {
        let account = json!({"kind": "ServiceAccount", "metadata": {"name": "default"}});
        Self {
            run,
            config: Config::default(),
            seen: Observed::default(),
            now: at(1),
            objects: vec![account],
            answers: BTreeMap::new(),
        }
    }

    pub fn with(mut self, object: Value) -> Self {
        self.objects.insert(0, object);
        self
    }

    fn find<T: serde::de::DeserializeOwned>(
        &self,
        kind: &str,
        name: &str,
    ) -> Result<Arc<T>, Answer> {
        let found = self
            .objects
            .iter()
            .find(|o| o["kind"] == kind && o["metadata"]["name"] == name);
        let missing = || Answer::Missing {
            message: format!("{} {name:?} not found", kind.to_lowercase()),
        };
        let found = found.cloned().ok_or_else(missing)?;
        Ok(Arc::new(
            serde_json::from_value(found).expect("an object of its kind"),
        ))
    }

    fn answer(&self, query: &Query) -> Answer {
        if let Some(answer) = self.answers.get(query) {
            return answer.clone();
        }
        let found = match query {
            Query::Task { name, .. } => self.find::<Task>("Task", name).map(Found::Task),
            Query::StepAction { name, .. } => self
                .find::<StepAction>("StepAction", name)
                .map(Found::StepAction),
            Query::ServiceAccount { name, .. } => self
                .find::<ServiceAccount>("ServiceAccount", name)
                .map(Found::ServiceAccount),
            Query::Secret { name, .. } => self.find::<Secret>("Secret", name).map(Found::Secret),
            Query::LimitRanges { .. } => {
                let ranges = self.objects.iter().filter(|o| o["kind"] == "LimitRange");
                let ranges: Vec<LimitRange> = ranges
                    .map(|r| serde_json::from_value(r.clone()).expect("a LimitRange"))
                    .collect();
                Ok(Found::LimitRanges(Arc::new(ranges)))
            }
            Query::ImageConfig(image) => {
                let command = ImageCommand {
                    entrypoint: vec!["entry".into()],
                    cmd: vec!["cmd".into()],
                };
                let pinned = format!("{}@sha256:0", image.image);
                Ok(Found::Image(Arc::new(ImageCommands {
                    pinned,
                    platforms: [("linux/amd64".into(), command)].into(),
                })))
            }
            other => panic!("the test gives no answer to {other:?}"),
        };
        found.map_or_else(|missing| missing, Answer::Found)
    }

    /// What the engine decides once it has its answers. The world stays as it is.
    pub fn decide(&mut self) -> Decision<TaskRunStatus> {
        self.seen.answers.clear();
        for _ in 0..6 {
            let decision = reconcile(&self.run, &self.seen, &self.config, self.now);
            if decision.needs.is_empty() {
                return decision;
            }
            assert!(
                decision.effects.is_empty(),
                "effects before everything is known"
            );
            for query in decision.needs {
                let answer = self.answer(&query);
                self.seen.answers.insert(query, answer);
            }
        }
        panic!("the engine never stops asking");
    }

    /// Decides, and makes it so: status and metadata are stored, pods exist as pending or are gone.
    pub fn pass(&mut self) -> Decision<TaskRunStatus> {
        let decision = self.decide();
        self.run.status = decision.status.clone();
        self.run
            .metadata
            .labels
            .get_or_insert_default()
            .extend(decision.labels.clone());
        self.run
            .metadata
            .annotations
            .get_or_insert_default()
            .extend(decision.annotations.clone());
        for effect in &decision.effects {
            match effect {
                Effect::CreatePod(pod) => {
                    self.seen.pods.push(Arc::new(Pod::clone(pod)));
                    self.pod_status(json!({"phase": "Pending"}));
                }
                Effect::DeletePod { name } => self
                    .seen
                    .pods
                    .retain(|p| p.metadata.name.as_ref() != Some(name)),
                _ => {}
            }
        }
        decision
    }

    /// Gives the only pod a status.
    pub fn pod_status(&mut self, status: Value) {
        let pod = self.seen.pods.last_mut().expect("a pod");
        Arc::make_mut(pod).status = Some(serde_json::from_value(status).expect("a pod's status"));
    }

    /// The pod that the engine wants to create.
    pub fn pod(&mut self) -> Value {
        let decision = self.decide();
        match decision
            .effects
            .iter()
            .find(|e| matches!(e, Effect::CreatePod(_)))
        {
            Some(Effect::CreatePod(pod)) => json!(pod),
            _ => panic!("no pod: {:?}", decision.status.conditions),
        }
    }

    /// Lets the API refuse the effect of the decision that `which` picks.
    pub fn refuse(
        &mut self,
        which: impl Fn(&Effect) -> bool,
        code: u16,
        reason: &str,
        message: &str,
        kind: &str,
    ) {
        let effect = self
            .decide()
            .effects
            .into_iter()
            .find(which)
            .expect("such an effect");
        let (reason, message, kind) = (reason.into(), message.into(), kind.into());
        self.seen.refusals.push(Refusal {
            effect,
            code,
            reason,
            message,
            kind,
        });
    }
}

/// Status, reason and message of the run's condition.
pub fn condition(status: &TaskRunStatus) -> (&str, &str, &str) {
    let c = Condition::succeeded(&status.conditions).expect("a condition");
    (&c.status, &c.reason, &c.message)
}

/// Events as text.
pub fn events(decision: &Decision<TaskRunStatus>) -> Vec<String> {
    let text = |e: &Event| {
        let sign = if e.type_ == EventType::Warning {
            "! "
        } else {
            ""
        };
        format!("{sign}{}: {}", e.reason, e.message)
    };
    decision.events.iter().map(text).collect()
}

/// A container status in a state.
pub fn container(name: &str, state: Value) -> Value {
    json!({"name": name, "image": "", "imageID": "id", "ready": false, "restartCount": 0, "state": state})
}

/// The state of a container that ended.
pub fn ended(code: i32, reason: &str) -> Value {
    json!({"terminated": {"exitCode": code, "reason": reason}})
}

/// The state of a container that waits.
pub fn waiting(reason: &str, message: &str) -> Value {
    json!({"waiting": {"reason": reason, "message": message}})
}

pub fn running() -> Value {
    json!({"running": {"startedAt": "2026-01-01T00:00:02Z"}})
}

/// A world in which the run's pod has been created.
pub fn started() -> World {
    let mut world = World::new(one_step());
    world.pass();
    world
}

/// The same, after its pod came to this status and a pass has seen it.
pub fn status_of(pod: Value) -> World {
    let mut world = started();
    world.pod_status(pod);
    world.pass();
    world
}

/// A Task `t`.
pub fn task(spec: Value) -> Value {
    json!({"kind": "Task", "metadata": {"name": "t", "labels": {"l": "task", "own": "task"}, "annotations": {"a": "task",
        "kubectl.kubernetes.io/last-applied-configuration": "x"}}, "spec": spec})
}

/// One step.
pub fn step() -> Value {
    json!([{"name": "s", "image": "i", "command": ["c"]}])
}

/// A run that refers to a task.
pub fn checked(spec: Value, task_spec: Value) -> World {
    let mut spec = spec;
    spec["taskRef"] = json!({"name": "t"});
    let mut task_spec = task_spec;
    if task_spec["steps"].is_null() {
        task_spec["steps"] = step();
    }
    World::new(run(spec)).with(task(task_spec))
}
