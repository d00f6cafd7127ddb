//! Random pipelines with random outcomes, watched through caches that lag, with lost writes and restarts.
//!
//! `SEED=<n> cargo test -p tektite-engine --test pipelinerun random` replays one case; `CASES=<n>` sets how many there are.
//!
//! The model of the world is Kubernetes': what happens to children is one history, a cache has seen some beginning of
//! it (so observations come late, several at once, or again, but never a later one without the earlier); a status is
//! only written over the version it was made from; a controller may die between any two effects or before the status, and
//! sees everything when it starts again. What the status names and no cache holds is looked up, as `Observed` demands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use tektite_api::v1::{Condition, ParamType, ParamValue, PipelineRun, TaskRun, TaskRunResult};
use tektite_engine::decision::{Effect, Patch};
use tektite_engine::pipelinerun::{Observed, reconcile};
use tektite_engine::references::dependencies;

use crate::world::World;

/// Cases of an ordinary test run; CI asks for more.
const CASES: u64 = 150;
/// Reconciles after which a run that has nothing left to wait for must be done.
const PATIENCE: usize = 2000;

#[test]
fn random_pipelines_keep_their_promises() {
    // P-117, P-118, P-120, P-175, P-264, P-285
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CASES").unwrap_or(CASES),
    };
    for seed in seeds {
        let faults = std::panic::catch_unwind(|| case(seed))
            .unwrap_or_else(|_| vec!["it panicked".to_owned()]);
        assert!(
            faults.is_empty(),
            "seed {seed}: {}\nreplay: SEED={seed} cargo test -p tektite-engine --test pipelinerun random",
            faults.join("\n")
        );
    }
}

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.roll() % limit.max(1) as u64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

fn case(seed: u64) -> Vec<String> {
    let mut dice = Dice(seed);
    // In calm cases no failure stops a pipeline, so the order of events must not matter.
    let calm = dice.chance(50);
    let spec = run_spec(&mut dice, calm);
    if std::env::var_os("SEED").is_some() {
        println!("{spec}");
    }
    let mut story = Story::new(seed, calm, &spec);
    story.chaos(&mut dice);
    story.peace();
    let mut faults = story.broken_promises();
    if calm {
        let mut orderly = Story::new(seed, calm, &spec);
        orderly.peace();
        let (ours, expected) = (story.end_state(), orderly.end_state());
        if ours != expected {
            faults.push(format!(
                "the end depends on the order of observation: {}",
                first_difference(&ours, &expected)
            ));
        }
    }
    faults
}

fn run_spec(dice: &mut Dice, calm: bool) -> Value {
    let size = if dice.chance(10) {
        1 + dice.below(60)
    } else {
        1 + dice.below(9)
    };
    let mut tasks: Vec<Value> = Vec::new();
    let mut matrixed = Vec::new();
    for number in 0..size {
        let task = task(dice, calm, &format!("t{number}"), &matrixed, false);
        matrixed.push(task.get("matrix").is_some());
        tasks.push(task);
    }
    // Where a task stands must not matter, only what it refers to.
    for at in (1..tasks.len()).rev() {
        tasks.swap(at, dice.below(at + 1));
    }
    let finally: Vec<Value> = (0..dice.below(4))
        .map(|number| task(dice, calm, &format!("f{number}"), &matrixed, true))
        .collect();
    let mut spec = json!({
        "params": [{"name": "none", "value": []}],
        "pipelineSpec": {"params": [{"name": "none", "type": "array"}], "tasks": tasks, "finally": finally}
    });
    if !calm && dice.chance(30) {
        let mut timeouts = json!({"pipeline": format!("{}s", 100 + dice.below(400))});
        if dice.chance(50) {
            timeouts["tasks"] = json!(format!("{}s", 20 + dice.below(60)));
        }
        if dice.chance(50) {
            timeouts["finally"] = json!(format!("{}s", 5 + dice.below(30)));
        }
        spec["timeouts"] = timeouts;
    } else {
        spec["timeouts"] = json!({"pipeline": "0"});
    }
    spec
}

/// A task that refers to some of the earlier ones, of which `matrixed` says which fan out.
fn task(dice: &mut Dice, calm: bool, name: &str, matrixed: &[bool], finally: bool) -> Value {
    let mut params: Vec<Value> = Vec::new();
    let mut declared: Vec<Value> = Vec::new();
    let mut after: Vec<String> = Vec::new();
    let mut when: Vec<Value> = Vec::new();
    let mut script = String::new();
    for number in 0..dice.below(4).min(matrixed.len()) {
        let parent = dice.below(matrixed.len());
        let param = format!("x{number}");
        match dice.below(4) {
            0 if !finally => after.push(format!("t{parent}")),
            1 if !matrixed[parent] => when.push(json!({
                "input": format!("$(tasks.t{parent}.results.r)"), "operator": if dice.chance(50) { "in" } else { "notin" },
                "values": ["v0", "v1"]
            })),
            2 if !matrixed[parent] && !finally => script = format!("echo $(tasks.t{parent}.results.r)"),
            _ if matrixed[parent] => {
                declared.push(json!({"name": param, "type": "array"}));
                params.push(json!({"name": param, "value": format!("$(tasks.t{parent}.results.r[*])")}));
            }
            _ => {
                declared.push(json!({"name": param}));
                params.push(json!({"name": param, "value": format!("$(tasks.t{parent}.results.r)")}));
            }
        }
    }
    if dice.chance(10) {
        when.push(json!({"input": "a", "operator": "in", "values": [if dice.chance(50) { "a" } else { "b" }]}));
    }
    if finally && dice.chance(30) && !matrixed.is_empty() {
        let seen = dice.below(matrixed.len());
        when.push(json!({"input": format!("$(tasks.t{seen}.status)"), "operator": "in", "values": ["Succeeded"]}));
    }
    let mut task = json!({"name": name, "params": params, "runAfter": after, "when": when});
    if dice.chance(15) {
        declared.push(json!({"name": "m"}));
        let values = if dice.chance(15) {
            json!("$(params.none[*])")
        } else {
            json!(["1", "2", "3"][..1 + dice.below(3)])
        };
        task["matrix"] = json!({"params": [{"name": "m", "value": values}]});
    }
    if calm || dice.chance(20) {
        task["onError"] = json!("continue");
    } else if dice.chance(20) {
        task["retries"] = json!(dice.below(3));
    }
    task["taskSpec"] = json!({
        "params": declared, "results": [{"name": "r", "type": "string"}],
        "steps": [{"name": "s", "image": "i", "script": script}]
    });
    task
}

/// How a child would end if nobody interferes.
fn fate(seed: u64, calm: bool, child: &str) -> (bool, Option<String>) {
    let mut dice = Dice(child.bytes().fold(seed ^ 0x5bd1_e995, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    }));
    let good = dice.chance(if calm { 75 } else { 85 });
    let result = format!("v{}", dice.below(3));
    (good, (calm || dice.chance(85)).then_some(result))
}

struct Story {
    seed: u64,
    calm: bool,
    world: World,
    /// Versions of TaskRuns in the order in which they came to be.
    history: Vec<TaskRun>,
    cached: usize,
    cache: BTreeMap<String, Arc<TaskRun>>,
    /// An older copy of the run that a slow cache may still show.
    old_run: PipelineRun,
    /// When, in steps, each child was made and ended.
    made: BTreeMap<String, usize>,
    ended: BTreeMap<String, usize>,
    steps: usize,
    faults: Vec<String>,
}

impl Story {
    fn new(seed: u64, calm: bool, spec: &Value) -> Self {
        let world = World::of_run(spec.clone());
        Self {
            seed,
            calm,
            old_run: world.run.clone(),
            world,
            history: Vec::new(),
            cached: 0,
            cache: BTreeMap::new(),
            made: BTreeMap::new(),
            ended: BTreeMap::new(),
            steps: 0,
            faults: Vec::new(),
        }
    }

    fn chaos(&mut self, dice: &mut Dice) {
        for _ in 0..20 + dice.below(200) {
            self.steps += 1;
            self.world.now += SignedDuration::from_secs(1);
            match dice.below(10) {
                0..=3 => {
                    let stale = self.calm && dice.chance(15);
                    let dies = dice.chance(10).then(|| dice.below(4));
                    self.reconcile(stale, dies);
                }
                4..=5 => {
                    let seen = 1 + dice.below(3);
                    self.observe(seen);
                }
                // A restart sees everything.
                6 if dice.chance(20) => self.observe(usize::MAX),
                7 if !self.calm && dice.chance(5) => {
                    let wish =
                        ["Cancelled", "CancelledRunFinally", "StoppedRunFinally"][dice.below(3)];
                    if self.world.run.spec.status.is_empty() {
                        wish.clone_into(&mut self.world.run.spec.status);
                    }
                }
                _ => {
                    let running: Vec<String> = self.running();
                    if !running.is_empty() {
                        let chosen = running[dice.below(running.len())].clone();
                        self.end(&chosen);
                    }
                }
            }
        }
    }

    /// From now on everything is seen and every child ends.
    fn peace(&mut self) {
        for _ in 0..PATIENCE {
            self.steps += 1;
            self.world.now += SignedDuration::from_secs(1);
            self.observe(usize::MAX);
            let before = (self.world.run.status.clone(), self.history.len());
            self.reconcile(false, None);
            if self.world.run.is_done() {
                return;
            }
            if before == (self.world.run.status.clone(), self.history.len()) {
                match self.running().first().cloned() {
                    Some(child) => self.end(&child),
                    None if self.world.wake.is_none() => break,
                    None => {}
                }
            }
        }
        let said = &self.world.events;
        self.faults.push(format!(
            "the run never ends: {:?} {said:?}",
            self.world.outcome()
        ));
    }

    fn running(&self) -> Vec<String> {
        let all = self.world.task_runs.iter();
        all.filter(|(_, run)| !run.is_done())
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn observe(&mut self, events: usize) {
        let until = self.cached.saturating_add(events).min(self.history.len());
        for run in &self.history[self.cached..until] {
            self.cache.insert(
                run.metadata.name.clone().unwrap_or_default(),
                Arc::new(run.clone()),
            );
        }
        self.cached = until;
    }

    fn record(&mut self, name: &str) {
        self.history.push(self.world.task_runs[name].clone());
    }

    fn end(&mut self, name: &str) {
        let (good, result) = fate(self.seed, self.calm, name);
        let Some(run) = self.world.task_runs.get_mut(name) else {
            return;
        };
        let (status, reason) = match (run.is_cancelled(), good) {
            (true, _) => ("False", "TaskRunCancelled"),
            (false, true) => ("True", "Succeeded"),
            (false, false) => ("False", "Failed"),
        };
        run.status.conditions = vec![Condition {
            type_: Condition::SUCCEEDED.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            ..Condition::default()
        }];
        run.status.results = result
            .map(|text| TaskRunResult {
                name: "r".to_owned(),
                type_: Some(ParamType::String),
                value: ParamValue::String(text),
            })
            .into_iter()
            .collect();
        self.ended.insert(name.to_owned(), self.steps);
        self.record(name);
    }

    /// One reconcile, perhaps with an old copy of the run, perhaps dying after some effects.
    fn reconcile(&mut self, stale: bool, dies_after: Option<usize>) {
        let run = if stale {
            self.old_run.clone()
        } else {
            self.world.run.clone()
        };
        let mut task_runs = self.cache.clone();
        for child in &run.status.child_references {
            if let Some(found) = self.world.task_runs.get(&child.name) {
                task_runs
                    .entry(child.name.clone())
                    .or_insert_with(|| Arc::new(found.clone()));
            }
        }
        let seen = Observed {
            task_runs: task_runs.into_values().collect(),
            ..Observed::default()
        };
        let decision = reconcile(&run, &seen, &self.world.config, self.world.now);
        if run.is_done()
            && (!decision.effects.is_empty()
                || !decision.events.is_empty()
                || decision.status != run.status)
        {
            self.faults
                .push("a finished run still has effects".to_owned());
        }
        for (done, effect) in decision.effects.into_iter().enumerate() {
            if dies_after.is_some_and(|limit| done >= limit) {
                self.observe(usize::MAX);
                return;
            }
            self.apply(effect);
        }
        if dies_after.is_some() {
            self.observe(usize::MAX);
        }
        if dies_after.is_some() || stale {
            // Nothing is written: the controller is gone, or the API says that the run has changed since.
            return;
        }
        self.old_run = self.world.run.clone();
        self.world.events = decision.events;
        self.world
            .run
            .metadata
            .labels
            .get_or_insert_default()
            .extend(decision.labels);
        self.world.run.status = decision.status;
        self.world.wake = decision.wake;
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::CreateTaskRun(run) => {
                let name = run.metadata.name.clone().unwrap_or_default();
                if self.world.task_runs.contains_key(&name) {
                    return;
                }
                let mut run = *run;
                run.metadata.creation_timestamp = Some(Time(self.world.now));
                self.check_parents(&name, &run);
                self.world.task_runs.insert(name.clone(), run);
                self.made.insert(name.clone(), self.steps);
                self.record(&name);
            }
            Effect::PatchTaskRun {
                name,
                patch: Patch::Json(operations),
            } => {
                let Some(run) = self
                    .world
                    .task_runs
                    .get_mut(&name)
                    .filter(|run| !run.is_done())
                else {
                    return;
                };
                let value = |at: usize| {
                    operations[at]["value"]
                        .as_str()
                        .unwrap_or_default()
                        .to_owned()
                };
                (run.spec.status, run.spec.status_message) = (value(0), value(1));
                self.record(&name);
            }
            other => self
                .faults
                .push(format!("an effect nobody expects: {other:?}")),
        }
    }

    /// Nothing starts before what it waits for has ended.
    fn check_parents(&mut self, name: &str, run: &TaskRun) {
        let task = task_of(run);
        let spec = self
            .world
            .run
            .spec
            .pipeline_spec
            .clone()
            .unwrap_or_default();
        let waits_for: Vec<String> = match spec.tasks.iter().find(|it| it.name == task) {
            Some(it) => dependencies(it),
            None => spec.tasks.iter().map(|it| it.name.clone()).collect(),
        };
        for other in self
            .world
            .task_runs
            .values()
            .filter(|other| !other.is_done())
        {
            if waits_for.contains(&task_of(other)) {
                self.faults.push(format!(
                    "{name} starts while {:?} still runs",
                    other.metadata.name
                ));
            }
        }
    }

    fn broken_promises(&mut self) -> Vec<String> {
        let mut faults = std::mem::take(&mut self.faults);
        let run = &self.world.run;
        let spec = run.spec.pipeline_spec.clone().unwrap_or_default();
        let (status, reason, message) = self.world.outcome();
        let ended_early =
            matches!(reason.as_str(), "PipelineRunTimeout") || run.spec.status == "Cancelled";
        let mut of_task: BTreeMap<String, Vec<&TaskRun>> = BTreeMap::new();
        for child in self.world.task_runs.values() {
            of_task.entry(task_of(child)).or_default().push(child);
        }
        for task in &spec.tasks {
            // Who started before a parent that started nevertheless?
            for parent in dependencies(task) {
                let first = of_task
                    .get(&task.name)
                    .into_iter()
                    .flatten()
                    .filter_map(|it| self.made.get(name(it)))
                    .min();
                let last = of_task
                    .get(&parent)
                    .into_iter()
                    .flatten()
                    .filter_map(|it| self.ended.get(name(it)))
                    .max();
                if let (Some(first), Some(last)) = (first, last)
                    && first < last
                {
                    faults.push(format!("{} ran before {parent} had ended", task.name));
                }
            }
        }
        for task in spec.tasks.iter().chain(&spec.finally) {
            let children = of_task.get(&task.name).map_or(0, Vec::len);
            let count = task.matrix.as_ref().map_or(1, |matrix| {
                matrix.params[0].value.as_array().map_or(1, <[String]>::len)
            });
            if children > count {
                faults.push(format!(
                    "{} has {children} children instead of {count}",
                    task.name
                ));
            }
            let skipped = run
                .status
                .skipped_tasks
                .iter()
                .filter(|it| it.name == task.name)
                .count();
            let recorded = run
                .status
                .child_references
                .iter()
                .filter(|it| it.pipeline_task_name == task.name)
                .count();
            let invalid = message.contains("Failed Validation") && children == 0 && skipped == 0;
            let states = usize::from(recorded > 0) + skipped + usize::from(invalid);
            if !ended_early && states != 1 {
                faults.push(format!(
                    "{} is in {states} states at the end of a run that is {reason}",
                    task.name
                ));
            }
            if !ended_early && recorded != children {
                faults.push(format!(
                    "{} has {children} children of which {recorded} are recorded",
                    task.name
                ));
            }
        }
        let names: BTreeSet<&str> = run
            .status
            .child_references
            .iter()
            .map(|it| it.name.as_str())
            .collect();
        if names.len() != run.status.child_references.len() {
            faults.push("a child is recorded twice".to_owned());
        }
        if !ended_early && self.world.task_runs.values().any(|it| !it.is_done()) {
            faults.push(format!(
                "the run is {status} {reason} while a child still runs"
            ));
        }
        let status_before = run.status.clone();
        self.observe(usize::MAX);
        for _ in 0..2 {
            self.world.now += SignedDuration::from_secs(10_000);
            self.reconcile(false, None);
        }
        if self.world.run.status != status_before {
            faults.push("a finished run changes".to_owned());
        }
        faults.append(&mut self.faults);
        faults
    }

    /// What must be the same however the run was watched.
    fn end_state(&self) -> Value {
        let status = &self.world.run.status;
        let mut children: Vec<Value> = status.child_references.iter().map(|it| json!(it)).collect();
        children.sort_by_key(|it| it["name"].as_str().map(str::to_owned));
        let mut skipped: Vec<Value> = status.skipped_tasks.iter().map(|it| json!(it)).collect();
        skipped.sort_by_key(|it| it["name"].as_str().map(str::to_owned));
        let params: BTreeMap<_, _> = self
            .world
            .task_runs
            .iter()
            .map(|(name, run)| (name, json!([run.spec.params, run.spec.task_spec])))
            .collect();
        json!({
            "outcome": self.world.outcome(), "children": children, "skipped": skipped, "results": status.results,
            "made": params
        })
    }
}

/// Where two values first differ, and how.
fn first_difference(ours: &Value, expected: &Value) -> String {
    match (ours, expected) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            let differ = keys.into_iter().find(|key| a.get(*key) != b.get(*key));
            differ.map_or_else(String::new, |key| {
                let of = |map: &serde_json::Map<String, Value>| {
                    map.get(key).cloned().unwrap_or_default()
                };
                format!(".{key}{}", first_difference(&of(a), &of(b)))
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let differ = (0..a.len()).find(|&at| a[at] != b[at]).unwrap_or_default();
            format!("[{differ}]{}", first_difference(&a[differ], &b[differ]))
        }
        _ => format!(": {ours} instead of {expected}"),
    }
}

fn task_of(run: &TaskRun) -> String {
    let labels = run.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get("tekton.dev/pipelineTask"))
        .cloned()
        .unwrap_or_default()
}

fn name(run: &TaskRun) -> &str {
    run.metadata.name.as_deref().unwrap_or_default()
}
