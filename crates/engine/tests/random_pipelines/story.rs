//! Playing one run: what happens, what is seen of it, and who dies meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Value, json};
use tektite_api::config::Config;
use tektite_api::v1::{PipelineRun, PipelineRunStatus, PipelineTask};
use tektite_engine::decision::{Effect, Patch};
use tektite_engine::pipelinerun::{Observed, reconcile};
use tektite_engine::references::dependencies;

use super::dice::Dice;
use super::life::{Child, Life};

/// The time at which every run is created.
fn epoch() -> Timestamp {
    Timestamp::from_second(1_700_000_000).expect("a time")
}

/// Reconciles after which a run that has nothing left to wait for must be done.
const PATIENCE: usize = 3000;

/// A child and its history.
pub struct History {
    /// The pipeline task it belongs to.
    pub task: String,
    pub versions: Vec<Child>,
    life: Life,
    /// How much of its life it has lived.
    lived: usize,
    /// Number of the version that the cache holds.
    seen: Option<usize>,
    /// When, in steps, it was made and ended.
    pub made: usize,
    pub ended: Option<usize>,
}

impl History {
    pub fn newest(&self) -> &Child {
        self.versions.last().expect("a child has a first version")
    }

    fn last(&self) -> usize {
        self.versions.len() - 1
    }
}

pub struct Story {
    seed: u64,
    calm: bool,
    pub run: PipelineRun,
    config: Arc<Config>,
    pub now: Timestamp,
    wake: Option<Timestamp>,
    pub children: BTreeMap<String, History>,
    /// The status before the last that was written, which a slow cache may still show.
    old_status: PipelineRunStatus,
    /// What each task waits for.
    parents: BTreeMap<String, Vec<String>>,
    steps: usize,
    pub faults: Vec<String>,
    /// What has come up in this story.
    pub came_up: BTreeSet<&'static str>,
}

impl Story {
    pub fn new(seed: u64, calm: bool, spec: &Value, config: &Arc<Config>) -> Self {
        let mut run: PipelineRun =
            serde_json::from_value(json!({"spec": spec})).expect("a PipelineRun");
        run.metadata = ObjectMeta {
            name: Some("run".to_owned()),
            namespace: Some("ns".to_owned()),
            uid: Some("uid".to_owned()),
            creation_timestamp: Some(Time(epoch())),
            ..ObjectMeta::default()
        };
        let pipeline = run.spec.pipeline_spec.as_ref().expect("an inline pipeline");
        let names = || pipeline.tasks.iter().map(|task| task.name.clone());
        let parents = pipeline
            .tasks
            .iter()
            .map(|task| (task.name.clone(), dependencies(task)))
            .chain(
                pipeline
                    .finally
                    .iter()
                    .map(|task| (task.name.clone(), names().collect())),
            )
            .collect();
        Self {
            seed,
            calm,
            old_status: run.status.clone(),
            run,
            config: Arc::clone(config),
            now: epoch(),
            wake: None,
            children: BTreeMap::new(),
            parents,
            steps: 0,
            faults: Vec::new(),
            came_up: BTreeSet::new(),
        }
    }

    /// The pipeline's tasks and finally tasks.
    pub fn tasks(&self) -> impl Iterator<Item = &PipelineTask> {
        let pipeline = self.run.spec.pipeline_spec.as_ref();
        pipeline
            .into_iter()
            .flat_map(|pipeline| pipeline.tasks.iter().chain(&pipeline.finally))
    }

    /// The names of all children.
    pub fn names(&self) -> Vec<&str> {
        self.children.keys().map(String::as_str).collect()
    }

    /// What the task of this name waits for.
    pub fn parents(&self, task: &str) -> &[String] {
        self.parents.get(task).map_or(&[], Vec::as_slice)
    }

    /// Anything may happen, in any order.
    pub fn chaos(&mut self, dice: &mut Dice) {
        for _ in 0..20 + dice.below(150) {
            if self.run.is_done() && dice.chance(50) {
                return;
            }
            self.pass(1);
            match dice.below(10) {
                0..=3 => {
                    let stale = self.calm && dice.chance(15);
                    let dies = dice.chance(10).then(|| dice.below(4));
                    self.reconcile(stale, dies);
                }
                4..=5 => {
                    for _ in 0..1 + dice.below(3) {
                        self.observe_some(dice);
                    }
                }
                // A restart sees everything.
                6 if dice.chance(20) => self.observe_all(),
                7 if !self.calm && dice.chance(5) => {
                    let wish =
                        ["Cancelled", "CancelledRunFinally", "StoppedRunFinally"][dice.below(3)];
                    if self.run.spec.status.is_empty() {
                        wish.clone_into(&mut self.run.spec.status);
                    }
                }
                _ => {
                    let running = self.running();
                    if !running.is_empty() {
                        let chosen = running[dice.below(running.len())].clone();
                        self.live_on(&chosen);
                    }
                }
            }
        }
    }

    /// From now on everything is seen and every child ends.
    pub fn peace(&mut self) {
        for _ in 0..PATIENCE {
            self.pass(1);
            self.observe_all();
            let changed = self.reconcile(false, None);
            if self.run.is_done() {
                return;
            }
            let running = self.running();
            // In large pipelines several at once, or a case would take long.
            for child in running.iter().take(1 + running.len() / 4) {
                self.live_on(child);
            }
            if running.is_empty() && !changed {
                match self.wake {
                    Some(wake) => self.now = self.now.max(wake),
                    None => break,
                }
            }
        }
        let outcome = self.run.succeeded().cloned();
        self.faults.push(format!("the run never ends: {outcome:?}"));
    }

    pub fn pass(&mut self, seconds: i64) {
        self.steps += 1;
        self.now += SignedDuration::from_secs(seconds);
    }

    fn running(&self) -> Vec<String> {
        let running = self.children.iter().filter(|(_, it)| it.ended.is_none());
        running.map(|(name, _)| name.clone()).collect()
    }

    /// The cache hears of one child: of its next version, or of a later one without those between.
    fn observe_some(&mut self, dice: &mut Dice) {
        let behind = |it: &History| it.seen != Some(it.last());
        let number = self.children.values().filter(|it| behind(it)).count();
        let chosen = dice.below(number);
        if let Some(child) = self
            .children
            .values_mut()
            .filter(|it| behind(it))
            .nth(chosen)
        {
            let next = child.seen.map_or(0, |seen| seen + 1);
            child.seen = Some(next + dice.below(child.versions.len() - next));
        }
    }

    pub fn observe_all(&mut self) {
        for child in self.children.values_mut() {
            child.seen = Some(child.last());
        }
    }

    fn live_on(&mut self, name: &str) {
        let Some(child) = self.children.get_mut(name) else {
            return;
        };
        let next = child.life.next(child.lived, child.newest());
        child.lived += 1;
        if next.is_done() {
            child.ended = Some(self.steps);
            if child.life.is_retried() && !next.is_told_to_end() {
                self.came_up.insert("a task is retried");
            }
        }
        child.versions.push(next);
    }

    fn observed(&mut self) -> Observed {
        let mut seen = Observed::default();
        let references = self.run.status.child_references.iter();
        let recorded: BTreeSet<&str> = references.map(|it| it.name.as_str()).collect();
        for (name, child) in &mut self.children {
            if child.seen.is_none() && recorded.contains(name.as_str()) {
                // What is looked up is in the cache from then on.
                child.seen = Some(child.last());
            }
            let Some(version) = child.seen else { continue };
            match &child.versions[version] {
                Child::Task(run) => seen.task_runs.push(Arc::clone(run)),
                Child::Custom(run) => seen.custom_runs.push(Arc::clone(run)),
            }
        }
        seen
    }

    /// One reconcile, perhaps with an old copy of the run, perhaps dying after some effects; says whether it changed
    /// anything.
    pub fn reconcile(&mut self, stale: bool, dies_after: Option<usize>) -> bool {
        if stale {
            self.came_up
                .insert("a status is refused as it was made from an old one");
            std::mem::swap(&mut self.run.status, &mut self.old_status);
        }
        let seen = self.observed();
        let decision = reconcile(&self.run, &seen, &self.config, self.now);
        let differs = decision.status != self.run.status;
        if self.run.is_done()
            && (!decision.effects.is_empty() || !decision.events.is_empty() || differs)
        {
            self.faults
                .push("a finished run still has effects".to_owned());
        }
        if stale {
            std::mem::swap(&mut self.run.status, &mut self.old_status);
        }
        let changed = differs || !decision.effects.is_empty();
        for (done, effect) in decision.effects.into_iter().enumerate() {
            if dies_after.is_some_and(|limit| done >= limit) {
                self.came_up.insert("a controller dies between two effects");
                self.observe_all();
                return true;
            }
            self.apply(effect);
        }
        if dies_after.is_some() {
            self.came_up
                .insert("a controller dies before it writes the status");
            self.observe_all();
        } else if !stale {
            self.wake = decision.wake;
            if !decision.labels.is_empty() {
                let labels = self.run.metadata.labels.get_or_insert_default();
                labels.extend(decision.labels);
            }
            if differs {
                self.old_status = std::mem::replace(&mut self.run.status, decision.status);
            }
        }
        changed
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::CreateTaskRun(mut run) => {
                run.metadata.creation_timestamp = Some(Time(self.now));
                let metadata = run.metadata.clone();
                self.make(&metadata, Child::Task(Arc::new(*run)));
            }
            Effect::CreateCustomRun(mut run) => {
                run.metadata.creation_timestamp = Some(Time(self.now));
                let metadata = run.metadata.clone();
                self.make(&metadata, Child::Custom(Arc::new(*run)));
            }
            Effect::PatchTaskRun {
                name,
                patch: Patch::Json(operations),
            }
            | Effect::PatchCustomRun {
                name,
                patch: Patch::Json(operations),
            } => {
                let Some(child) = self.children.get_mut(&name).filter(|it| it.ended.is_none())
                else {
                    return;
                };
                let value = |at: usize| operations[at]["value"].as_str().unwrap_or_default();
                let told = child.newest().told(value(0), value(1));
                child.versions.push(told);
            }
            other => self
                .faults
                .push(format!("an effect nobody expects: {other:?}")),
        }
    }

    /// Makes a child, unless it is there already; nothing starts before what it waits for has ended.
    fn make(&mut self, metadata: &ObjectMeta, child: Child) {
        let name = metadata.name.clone().unwrap_or_default();
        if self.children.contains_key(&name) {
            self.came_up
                .insert("a child is made again and is there already");
            return;
        }
        let labels = metadata.labels.as_ref();
        let task = labels
            .and_then(|labels| labels.get("tekton.dev/pipelineTask"))
            .cloned()
            .unwrap_or_default();
        let parents = self.parents(&task);
        let early = self
            .children
            .iter()
            .filter(|(_, it)| it.ended.is_none() && parents.contains(&it.task))
            .map(|(other, _)| format!("{name} starts while {other} still runs"));
        let mut faults: Vec<String> = early.collect();
        let Some(definition) = self.tasks().find(|it| it.name == task) else {
            self.faults.push(format!("{name} belongs to no task"));
            return;
        };
        if child.retries() != definition.retries {
            faults.push(format!("{name} has {} retries", child.retries()));
        }
        if definition.timeout.is_some() && child.timeout() != definition.timeout {
            faults.push(format!("{name} has the timeout {:?}", child.timeout()));
        }
        let life = Life::of(self.seed, self.calm, &name, definition);
        if definition.timeout.is_some() {
            self.came_up.insert("a task has its own timeout");
        }
        if matches!(child, Child::Custom(_)) {
            self.came_up.insert("a custom task runs");
        }
        self.faults.append(&mut faults);
        self.children.insert(
            name,
            History {
                task,
                versions: vec![child],
                life,
                lived: 0,
                seen: None,
                made: self.steps,
                ended: None,
            },
        );
    }
}
