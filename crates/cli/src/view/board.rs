//! Collects the objects as they are seen and turns them into views.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tektite_api::names::label;
use tektite_api::v1::{Condition, ParamValue, PipelineRun, PipelineTask, TaskRun};
use tektite_engine::annotations;
use tektite_engine::pipelinerun::concurrency::QUEUED;

use super::obstacles::Obstacles;
use super::step::steps;
use super::{Lacking, RunView, State, TaskView};

/// The kind of a run that is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RootKind {
    /// A PipelineRun.
    PipelineRun,
    /// A TaskRun.
    TaskRun,
}

impl RootKind {
    /// As in `kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            RootKind::PipelineRun => "PipelineRun",
            RootKind::TaskRun => "TaskRun",
        }
    }
}

/// A run that is followed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Root {
    /// Its kind.
    pub kind: RootKind,
    /// Its name.
    pub name: String,
}

/// An object with the moments, since the start of watching, at which it was first seen begun and ended. Times in
/// objects have whole seconds only.
#[derive(Debug, Clone)]
struct Seen<T> {
    object: T,
    begun: Option<Duration>,
    ended: Option<Duration>,
}

/// The objects of the followed runs.
#[derive(Debug, Clone)]
pub struct Board {
    roots: Vec<Root>,
    pipelines: BTreeMap<String, Seen<PipelineRun>>,
    tasks: BTreeMap<String, Seen<TaskRun>>,
    deleted: BTreeSet<String>,
    obstacles: Obstacles,
}

impl Board {
    /// An empty board for these runs.
    pub fn new(roots: Vec<Root>) -> Self {
        Self {
            roots,
            pipelines: BTreeMap::new(),
            tasks: BTreeMap::new(),
            deleted: BTreeSet::new(),
            obstacles: Obstacles::default(),
        }
    }

    /// Takes in a PipelineRun as it is at `now`.
    pub fn see_pipeline_run(&mut self, run: PipelineRun, now: Duration) {
        let name = run.metadata.name.clone().unwrap_or_default();
        let (begun, done) = (run.status.start_time.is_some(), run.is_done());
        record(&mut self.pipelines, name, run, begun, done, now);
    }

    /// Takes in a TaskRun as it is at `now`.
    pub fn see_task_run(&mut self, run: TaskRun, now: Duration) {
        let name = run.metadata.name.clone().unwrap_or_default();
        let (begun, done) = (run.status.start_time.is_some(), run.is_done());
        record(&mut self.tasks, name, run, begun, done, now);
    }

    /// Takes in an event about a pod.
    pub fn hear(&mut self, event: Event) {
        self.obstacles.hear(event);
    }

    /// What has newly become known to keep pods from starting, by task.
    pub fn news(&mut self) -> Vec<(String, String)> {
        let mut news = Vec::new();
        for seen in self.tasks.values().filter(|seen| !seen.object.is_done()) {
            let run = &seen.object;
            let name = run.metadata.name.clone().unwrap_or_default();
            let messages = self.obstacles.news(run);
            news.extend(messages.into_iter().map(|message| {
                let lacking = Lacking::read(&message, run).map(|lacking| lacking.to_string());
                (name.clone(), lacking.unwrap_or(message))
            }));
        }
        news.into_iter()
            .map(|(name, text)| (self.label(&name), text))
            .collect()
    }

    /// Whether all followed runs have ended.
    pub fn is_done(&self) -> bool {
        self.roots.iter().all(|root| {
            self.deleted.contains(&root.name)
                || match root.kind {
                    RootKind::PipelineRun => self
                        .pipelines
                        .get(&root.name)
                        .is_some_and(|seen| seen.object.is_done()),
                    RootKind::TaskRun => self
                        .tasks
                        .get(&root.name)
                        .is_some_and(|seen| seen.object.is_done()),
                }
        })
    }

    /// Whether the last state of every task of the followed runs has been seen too.
    pub fn is_settled(&self) -> bool {
        let ended = |name: &str| {
            self.deleted.contains(name)
                || self
                    .tasks
                    .get(name)
                    .is_some_and(|seen| seen.object.is_done())
        };
        let pipelines_are = self.pipelines.values().all(|pipeline| {
            let run = &pipeline.object;
            let mut children = run.status.child_references.iter();
            run.is_done()
                && children.all(|child| {
                    child.kind != "TaskRun"
                        || !taken_over(run, &child.pipeline_task_name).is_empty()
                        || ended(&child.name)
                })
        });
        pipelines_are
            && self
                .roots
                .iter()
                .all(|root| root.kind == RootKind::PipelineRun || ended(&root.name))
    }

    /// A run that was deleted: nobody waits for it any more.
    pub fn forget(&mut self, name: &str) {
        self.deleted.insert(name.to_owned());
    }

    /// What the task of a TaskRun is called.
    pub fn label(&self, task_run: &str) -> String {
        let Some(seen) = self.tasks.get(task_run) else {
            return task_run.to_owned();
        };
        let run = &seen.object;
        let own = |key: &str| {
            run.metadata
                .labels
                .as_ref()
                .and_then(|labels| labels.get(key))
        };
        let Some(task) = own(label::PIPELINE_TASK) else {
            let reference = run
                .spec
                .task_ref
                .as_ref()
                .map(|reference| reference.name.as_str())
                .unwrap_or_default();
            return if reference.is_empty() {
                task_run.to_owned()
            } else {
                reference.to_owned()
            };
        };
        let mut text = task.clone();
        if let Some(parent) = own(label::PIPELINE_RUN) {
            if let Some(index) = self.matrix_index(parent, task, task_run) {
                text = format!("{text}-{index}");
            }
            if let Some(outer) = self.child_pipeline_label(parent) {
                text = format!("{outer}/{text}");
            } else if self.roots.len() > 1 && self.roots.iter().any(|root| root.name == *parent) {
                text = format!("{parent}/{text}");
            }
        }
        text
    }

    /// Where a task run stands among those of a task with a matrix.
    fn matrix_index(&self, parent: &str, task: &str, task_run: &str) -> Option<usize> {
        let status = &self.pipelines.get(parent)?.object.status;
        let spec = status.pipeline_spec.as_ref()?;
        spec.tasks
            .iter()
            .chain(&spec.finally)
            .find(|t| t.name == task)?
            .matrix
            .as_ref()?;
        status
            .child_references
            .iter()
            .filter(|child| child.pipeline_task_name == task)
            .position(|c| c.name == task_run)
    }

    /// The pipeline task that a child PipelineRun belongs to.
    fn child_pipeline_label(&self, run: &str) -> Option<String> {
        let labels = self.pipelines.get(run)?.object.metadata.labels.as_ref()?;
        labels.get(label::PIPELINE_TASK).cloned()
    }

    /// All runs as they are at `now`.
    pub fn views(&self, now: Duration) -> Vec<RunView> {
        self.roots.iter().map(|root| self.view(root, now)).collect()
    }

    fn view(&self, root: &Root, now: Duration) -> RunView {
        let mut view = RunView {
            kind: root.kind.as_str(),
            name: root.name.clone(),
            state: State::Waiting,
            reason: String::new(),
            message: String::new(),
            elapsed: None,
            results: Vec::new(),
            tasks: Vec::new(),
        };
        match root.kind {
            RootKind::PipelineRun => {
                let Some(seen) = self.pipelines.get(&root.name) else {
                    return view;
                };
                let status = &seen.object.status;
                describe(
                    &mut view,
                    &status.conditions,
                    seen.elapsed(&status.start_time, &status.completion_time, now),
                );
                view.results = status
                    .results
                    .iter()
                    .map(|r| (r.name.clone(), text(&r.value)))
                    .collect();
                view.tasks = self.pipeline_tasks(&seen.object, now);
            }
            RootKind::TaskRun => {
                let Some(seen) = self.tasks.get(&root.name) else {
                    return view;
                };
                let status = &seen.object.status;
                describe(
                    &mut view,
                    &status.conditions,
                    seen.elapsed(&status.start_time, &status.completion_time, now),
                );
                view.results = status
                    .results
                    .iter()
                    .map(|r| (r.name.clone(), text(&r.value)))
                    .collect();
                view.tasks = vec![self.task(&root.name, now)];
            }
        }
        view
    }

    fn pipeline_tasks(&self, run: &PipelineRun, now: Duration) -> Vec<TaskView> {
        let spec = run
            .status
            .pipeline_spec
            .as_ref()
            .or(run.spec.pipeline_spec.as_ref());
        let Some(spec) = spec else {
            return run
                .status
                .child_references
                .iter()
                .map(|child| self.task(&child.name, now))
                .collect();
        };
        spec.tasks
            .iter()
            .chain(&spec.finally)
            .flat_map(|task| self.pipeline_task(run, task, now))
            .collect()
    }

    fn pipeline_task(
        &self,
        run: &PipelineRun,
        task: &PipelineTask,
        now: Duration,
    ) -> Vec<TaskView> {
        let over = run.is_done();
        let children: Vec<_> = run
            .status
            .child_references
            .iter()
            .filter(|child| child.pipeline_task_name == task.name)
            .collect();
        if children.is_empty() {
            let skipped = run
                .status
                .skipped_tasks
                .iter()
                .find(|skipped| skipped.name == task.name);
            let state = if skipped.is_some() || over {
                State::Skipped
            } else {
                State::Waiting
            };
            let reason = skipped
                .map(|skipped| skipped.reason.clone())
                .unwrap_or_default();
            return vec![TaskView {
                state,
                reason,
                ..empty(task.name.clone())
            }];
        }
        let views = children.iter().map(|child| match child.kind.as_str() {
            "PipelineRun" => match self.pipelines.get(&child.name) {
                Some(seen) => {
                    let inner = self.view(
                        &Root {
                            kind: RootKind::PipelineRun,
                            name: child.name.clone(),
                        },
                        now,
                    );
                    let mut views = vec![TaskView {
                        state: inner.state,
                        elapsed: inner.elapsed,
                        reason: inner.reason,
                        message: inner.message,
                        ..empty(task.name.clone())
                    }];
                    views.extend(self.pipeline_tasks(&seen.object, now).into_iter().map(
                        |mut view| {
                            if !view.label.starts_with(&format!("{}/", task.name)) {
                                view.label = format!("{}/{}", task.name, view.label);
                            }
                            view
                        },
                    ));
                    views
                }
                None => vec![empty(task.name.clone())],
            },
            "TaskRun" | "" => match taken_over(run, &task.name) {
                "" => vec![self.task(&child.name, now)],
                how => vec![TaskView {
                    state: State::Succeeded,
                    taken_over: how,
                    ..empty(task.name.clone())
                }],
            },
            _ => vec![TaskView {
                state: if over {
                    State::Succeeded
                } else {
                    State::Running
                },
                ..empty(task.name.clone())
            }],
        });
        views.flatten().collect()
    }

    fn task(&self, name: &str, now: Duration) -> TaskView {
        let Some(seen) = self.tasks.get(name) else {
            return empty(name.to_owned());
        };
        let status = &seen.object.status;
        let condition = Condition::succeeded(&status.conditions);
        let steps = steps(status);
        let message = condition
            .map(|condition| condition.message.clone())
            .unwrap_or_default();
        let of_step = steps.iter().find_map(|step| step.obstacle.as_deref());
        let obstacle = of_step.or_else(|| self.obstacles.of(&seen.object));
        let lacking = [obstacle, Some(message.as_str())]
            .into_iter()
            .flatten()
            .find_map(|text| Lacking::read(text, &seen.object));
        TaskView {
            label: self.label(name),
            state: condition.map_or(State::Waiting, state),
            elapsed: seen.elapsed(&status.start_time, &status.completion_time, now),
            reason: condition
                .map(|condition| condition.reason.clone())
                .unwrap_or_default(),
            obstacle: obstacle.map(str::to_owned),
            lacking,
            message,
            retries: status.retries_status.len(),
            taken_over: "",
            steps,
        }
    }
}

/// How the outcome of a task came from another run; empty if it did not.
fn taken_over(run: &PipelineRun, task: &str) -> &'static str {
    let listed = |key: &str| {
        let tasks = run.status.annotations.get(key);
        tasks.is_some_and(|tasks| tasks.split(',').any(|it| it == task))
    };
    if listed(annotations::INHERITED) {
        "inherited"
    } else if listed(annotations::CACHED) {
        "cached"
    } else {
        ""
    }
}

fn record<T>(
    map: &mut BTreeMap<String, Seen<T>>,
    name: String,
    object: T,
    begun: bool,
    done: bool,
    now: Duration,
) {
    let before = map.remove(&name);
    // What was already under way when it was first seen has no moment of its own.
    let live = before.is_some();
    let (was_begun, was_ended) = before.map_or((None, None), |seen| (seen.begun, seen.ended));
    let begun = was_begun.or((begun && (live || !done)).then_some(now));
    let ended = was_ended.or((done && live).then_some(now)).filter(|_| done);
    map.insert(
        name,
        Seen {
            object,
            begun,
            ended,
        },
    );
}

impl<T> Seen<T> {
    fn elapsed(
        &self,
        start: &Option<Time>,
        completion: &Option<Time>,
        now: Duration,
    ) -> Option<Duration> {
        match (self.begun, self.ended, start, completion) {
            (Some(begun), Some(ended), ..) => Some(ended.saturating_sub(begun)),
            (_, _, Some(start), Some(completion)) => {
                Some(completion.0.duration_since(start.0).unsigned_abs())
            }
            (Some(begun), None, ..) => Some(now.saturating_sub(begun)),
            _ => None,
        }
    }
}

fn describe(view: &mut RunView, conditions: &[Condition], elapsed: Option<Duration>) {
    view.elapsed = elapsed;
    if let Some(condition) = Condition::succeeded(conditions) {
        view.state = state(condition);
        view.reason = condition.reason.clone();
        view.message = condition.message.clone();
    }
}

fn state(condition: &Condition) -> State {
    match (condition.status.as_str(), condition.reason.as_str()) {
        ("True", _) => State::Succeeded,
        ("False", "TaskRunCancelled" | "Cancelled") => State::Cancelled,
        ("False", _) => State::Failed,
        (_, QUEUED) => State::Waiting,
        _ => State::Running,
    }
}

fn empty(label: String) -> TaskView {
    TaskView {
        label,
        state: State::Waiting,
        elapsed: None,
        reason: String::new(),
        message: String::new(),
        obstacle: None,
        lacking: None,
        retries: 0,
        taken_over: "",
        steps: Vec::new(),
    }
}

/// A result's value as one line of text.
fn text(value: &ParamValue) -> String {
    match value {
        ParamValue::String(text) => text.clone(),
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}
