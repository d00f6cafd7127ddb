//! A cluster small enough for a test: one PipelineRun, its children, and a clock that tests turn.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use tektite_api::config::Config;
use tektite_api::v1::{
    Condition, Param, Pipeline, PipelineRun, PipelineRunStatus, Task, TaskRun, TaskRunResult,
};
use tektite_api::v1beta1::{CustomRun, CustomRunResult};
use tektite_engine::decision::{
    Answer, Decision, Effect, Event, Failure, FailureKind, Found, Patch, Query, Refusal,
};
use tektite_engine::pipelinerun::{Observed, reconcile};

/// The time at which every run is created.
pub fn epoch() -> Timestamp {
    Timestamp::from_second(1_700_000_000).expect("a time")
}

pub struct World {
    pub run: PipelineRun,
    pub config: Config,
    pub now: Timestamp,
    pub task_runs: BTreeMap<String, TaskRun>,
    pub custom_runs: BTreeMap<String, CustomRun>,
    pub pipeline_runs: BTreeMap<String, PipelineRun>,
    pub tasks: BTreeMap<String, Task>,
    pub pipelines: BTreeMap<String, Pipeline>,
    /// Runs that have ended, of which this one may be a rerun.
    pub earlier_runs: BTreeMap<String, Arc<PipelineRun>>,
    /// Other runs of the namespace.
    pub rivals: Vec<Arc<PipelineRun>>,
    /// What every image is pinned to; none can be looked up without.
    pub digest: Option<String>,
    /// Answers that tests fix beforehand.
    pub answers: BTreeMap<String, Answer>,
    /// What the API refuses: part of the effect's debug text, code and message.
    pub refuse: Vec<(String, u16, String)>,
    pub events: Vec<Event>,
    /// Everything done, in order.
    pub log: Vec<Effect>,
    /// Names of children in the order of their making.
    pub made: Vec<String>,
    pub wake: Option<Timestamp>,
}

impl World {
    /// A run called `run` with an inline pipeline.
    pub fn of_pipeline(spec: Value) -> Self {
        Self::of_run(json!({"pipelineSpec": spec}))
    }

    /// A run called `run` with this spec.
    pub fn of_run(spec: Value) -> Self {
        let mut run: PipelineRun =
            serde_json::from_value(json!({"spec": spec})).expect("a PipelineRun");
        run.metadata.name = Some("run".to_owned());
        run.metadata.namespace = Some("ns".to_owned());
        run.metadata.uid = Some("uid".to_owned());
        run.metadata.creation_timestamp = Some(Time(epoch()));
        Self {
            run,
            config: Config::default(),
            now: epoch(),
            task_runs: BTreeMap::new(),
            custom_runs: BTreeMap::new(),
            pipeline_runs: BTreeMap::new(),
            tasks: BTreeMap::new(),
            pipelines: BTreeMap::new(),
            earlier_runs: BTreeMap::new(),
            rivals: Vec::new(),
            digest: None,
            answers: BTreeMap::new(),
            refuse: Vec::new(),
            events: Vec::new(),
            log: Vec::new(),
            made: Vec::new(),
            wake: None,
        }
    }

    pub fn task(mut self, name: &str, spec: Value) -> Self {
        let task = json!({"metadata": {"name": name, "namespace": "ns"}, "spec": spec});
        self.tasks.insert(
            name.to_owned(),
            serde_json::from_value(task).expect("a Task"),
        );
        self
    }

    pub fn pipeline(mut self, name: &str, spec: Value) -> Self {
        let pipeline = json!({"metadata": {"name": name, "namespace": "ns"}, "spec": spec});
        self.pipelines.insert(
            name.to_owned(),
            serde_json::from_value(pipeline).expect("a Pipeline"),
        );
        self
    }

    pub fn after(&mut self, seconds: i64) -> &mut Self {
        self.now += SignedDuration::from_secs(seconds);
        self
    }

    pub fn observed(&self) -> Observed {
        Observed {
            task_runs: self.task_runs.values().cloned().map(Arc::new).collect(),
            custom_runs: self.custom_runs.values().cloned().map(Arc::new).collect(),
            pipeline_runs: self.pipeline_runs.values().cloned().map(Arc::new).collect(),
            nop_image: "nop".to_owned(),
            ..Observed::default()
        }
    }

    /// The decision, with all its questions answered.
    pub fn decide(&self, seen: &mut Observed) -> Decision<PipelineRunStatus> {
        loop {
            let decision = reconcile(&self.run, seen, &self.config, self.now);
            if decision.needs.is_empty() {
                return decision;
            }
            assert!(
                decision.effects.is_empty(),
                "a decision with open questions has no effects"
            );
            for query in decision.needs {
                let answer = self.answer(&query);
                assert!(
                    seen.answers.insert(query, answer).is_none(),
                    "a question is asked once"
                );
            }
        }
    }

    fn answer(&self, query: &Query) -> Answer {
        let (name, found) = match query {
            Query::Task { name, .. } => (
                name.clone(),
                self.tasks
                    .get(name)
                    .map(|task| Found::Task(Arc::new(task.clone()))),
            ),
            Query::Pipeline { name, .. } => (
                name.clone(),
                self.pipelines
                    .get(name)
                    .map(|it| Found::Pipeline(Arc::new(it.clone()))),
            ),
            Query::PipelineRun { name, .. } => (
                name.clone(),
                self.earlier_runs.get(name).cloned().map(Found::PipelineRun),
            ),
            Query::PipelineRuns { namespace } => (
                namespace.clone(),
                Some(Found::PipelineRuns(Arc::new(self.rivals.clone()))),
            ),
            Query::TaskRun { name, .. } => (
                name.clone(),
                self.task_runs
                    .get(name)
                    .map(|run| Found::TaskRun(Arc::new(run.clone()))),
            ),
            Query::Cached { key, .. } => (
                key.clone(),
                self.task_runs
                    .values()
                    .find(|run| {
                        let labels = run.metadata.labels.as_ref();
                        run.is_done()
                            && labels.and_then(|all| all.get("tektite.dev/cache-key")) == Some(key)
                    })
                    .map(|run| Found::TaskRun(Arc::new(run.clone()))),
            ),
            Query::ImageConfig(image) => match &self.digest {
                Some(pinned) => return crate::cache::image(pinned),
                None => (image.image.clone(), None),
            },
            Query::Remote(remote) => (remote.resolver.clone(), None),
            Query::Pvc { name, .. } => (name.clone(), None),
            other => panic!("not asked of PipelineRuns: {other:?}"),
        };
        match (found, self.answers.get(&name)) {
            (Some(found), _) => Answer::Found(found),
            (None, Some(answer)) => answer.clone(),
            (None, None) => Answer::Missing {
                message: format!("{name:?} not found"),
            },
        }
    }

    /// One reconcile: decides, does it (as far as the API does not refuse), writes it down.
    pub fn reconcile(&mut self) -> &mut Self {
        let mut seen = self.observed();
        let decision = loop {
            let decision = self.decide(&mut seen);
            let refused = decision
                .effects
                .iter()
                .position(|effect| self.refusal(effect).is_some());
            let done = refused.unwrap_or(decision.effects.len());
            for effect in &decision.effects[..done] {
                self.apply(effect.clone());
            }
            let Some(refused) = refused else {
                break decision;
            };
            let refusal = self
                .refusal(&decision.effects[refused])
                .expect("it was refused");
            seen.refusals.push(refusal);
        };
        self.run
            .metadata
            .labels
            .get_or_insert_default()
            .extend(decision.labels);
        self.run
            .metadata
            .annotations
            .get_or_insert_default()
            .extend(decision.annotations);
        self.run.status = decision.status;
        self.events.extend(decision.events);
        self.wake = decision.wake;
        self
    }

    fn refusal(&self, effect: &Effect) -> Option<Refusal> {
        let text = format!("{effect:?}");
        let (_, code, message) = self
            .refuse
            .iter()
            .find(|(part, _, _)| text.contains(part))?;
        Some(Refusal {
            effect: effect.clone(),
            code: *code,
            reason: String::new(),
            message: message.clone(),
            kind: String::new(),
        })
    }

    pub fn apply(&mut self, effect: Effect) {
        let created = Some(Time(self.now));
        match &effect {
            Effect::CreateTaskRun(run) => {
                let name = run.metadata.name.clone().expect("a name");
                if !self.task_runs.contains_key(&name) {
                    let mut run = TaskRun::clone(run);
                    run.metadata.creation_timestamp = created;
                    self.task_runs.insert(name.clone(), run);
                    self.made.push(name);
                }
            }
            Effect::CreateCustomRun(run) => {
                let name = run.metadata.name.clone().expect("a name");
                if !self.custom_runs.contains_key(&name) {
                    let mut run = CustomRun::clone(run);
                    run.metadata.creation_timestamp = created;
                    self.custom_runs.insert(name.clone(), run);
                    self.made.push(name);
                }
            }
            Effect::CreatePipelineRun(run) => {
                let name = run.metadata.name.clone().expect("a name");
                if !self.pipeline_runs.contains_key(&name) {
                    let mut run = PipelineRun::clone(run);
                    run.metadata.creation_timestamp = created;
                    self.pipeline_runs.insert(name.clone(), run);
                    self.made.push(name);
                }
            }
            Effect::PatchTaskRun { name, patch } => {
                if let Some(run) = self.task_runs.get_mut(name) {
                    (run.spec.status, run.spec.status_message) = status_and_message(patch);
                }
            }
            Effect::PatchCustomRun { name, patch } => {
                if let Some(run) = self.custom_runs.get_mut(name) {
                    (run.spec.status, run.spec.status_message) = status_and_message(patch);
                }
            }
            _ => {}
        }
        self.log.push(effect);
    }

    fn end(&mut self, name: &str, status: &str, reason: &str, results: &Value) {
        let conditions = vec![Condition {
            type_: Condition::SUCCEEDED.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            ..Condition::default()
        }];
        if let Some(run) = self.task_runs.get_mut(name) {
            run.status.conditions = conditions;
            run.status.results = results_of(results)
                .into_iter()
                .map(|Param { name, value }| TaskRunResult {
                    name,
                    type_: Some(value.type_()),
                    value,
                })
                .collect();
        } else if let Some(run) = self.custom_runs.get_mut(name) {
            run.status.conditions = conditions;
            run.status.results = results_of(results)
                .into_iter()
                .map(|it| CustomRunResult {
                    name: it.name,
                    value: it.value.as_str().unwrap_or_default().to_owned(),
                })
                .collect();
        } else if let Some(run) = self.pipeline_runs.get_mut(name) {
            run.status.conditions = conditions;
        } else {
            panic!("{name} does not exist; there are {:?}", self.made);
        }
    }

    /// The child of this name ends well, with results given as an object; then the run is reconciled.
    pub fn succeed(&mut self, name: &str, results: Value) -> &mut Self {
        self.end(name, "True", "Succeeded", &results);
        self.reconcile()
    }

    /// The child fails.
    pub fn fail(&mut self, name: &str) -> &mut Self {
        self.end(name, "False", "Failed", &json!({}));
        self.reconcile()
    }

    /// The child ends badly for this reason, with results.
    pub fn end_badly(&mut self, name: &str, reason: &str, results: Value) -> &mut Self {
        self.end(name, "False", reason, &results);
        self.reconcile()
    }

    /// Every child that was told to end does so.
    pub fn obey(&mut self) -> &mut Self {
        let told: Vec<(String, &str)> = self
            .task_runs
            .iter()
            .filter(|(_, run)| !run.is_done() && run.is_cancelled())
            .map(|(name, _)| (name.clone(), "TaskRunCancelled"))
            .chain(
                self.custom_runs
                    .iter()
                    .filter(|(_, run)| !run.is_done() && run.spec.status == "RunCancelled")
                    .map(|(name, _)| (name.clone(), "CustomRunCancelled")),
            )
            .collect();
        for (name, reason) in told {
            self.end(&name, "False", reason, &json!({}));
        }
        self.reconcile()
    }

    /// Status, reason and message of the run.
    pub fn outcome(&self) -> (String, String, String) {
        let condition = self.run.succeeded().cloned().unwrap_or_default();
        (condition.status, condition.reason, condition.message)
    }

    pub fn assert_outcome(&self, status: &str, reason: &str, message: &str) {
        assert_eq!(
            self.outcome(),
            (status.to_owned(), reason.to_owned(), message.to_owned())
        );
    }

    /// Names and reasons of skipped tasks.
    pub fn skipped(&self) -> Vec<(&str, &str)> {
        self.run
            .status
            .skipped_tasks
            .iter()
            .map(|it| (it.name.as_str(), it.reason.as_str()))
            .collect()
    }

    pub fn made(&self) -> Vec<&str> {
        self.made.iter().map(String::as_str).collect()
    }

    /// Params of a TaskRun, as an object.
    pub fn params(&self, task_run: &str) -> Value {
        let params = &self.task_runs[task_run].spec.params;
        params
            .iter()
            .map(|param| (param.name.clone(), json!(param.value)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    pub fn event_reasons(&self) -> Vec<&str> {
        self.events
            .iter()
            .map(|event| event.reason.as_str())
            .collect()
    }
}

fn status_and_message(patch: &Patch) -> (String, String) {
    let Patch::Json(operations) = patch else {
        panic!("children are patched by RFC 6902")
    };
    let value = |path: &str| {
        let operation = operations
            .iter()
            .find(|it| it["path"] == path && it["op"] == "add");
        operation
            .and_then(|it| it["value"].as_str())
            .expect("both are set")
            .to_owned()
    };
    (value("/spec/status"), value("/spec/statusMessage"))
}

fn results_of(results: &Value) -> Vec<Param> {
    let pairs = results.as_object().expect("results are an object");
    let param = |(name, value): (&String, &Value)| Param {
        name: name.clone(),
        value: serde_json::from_value(value.clone()).expect("a value"),
    };
    pairs.iter().map(param).collect()
}

/// An inline task that gives these results, all texts unless they end in `[]`.
pub fn giving(results: &[&str]) -> Value {
    let results: Vec<Value> = results
        .iter()
        .map(|name| match name.strip_suffix("[]") {
            Some(name) => json!({"name": name, "type": "array"}),
            None => json!({"name": name, "type": "string"}),
        })
        .collect();
    json!({"results": results, "steps": [{"name": "s", "image": "i", "script": "x"}]})
}

/// A failure of a resolver.
pub fn failed(kind: FailureKind, message: &str) -> Answer {
    Answer::Failed(Failure {
        kind,
        message: message.to_owned(),
    })
}
