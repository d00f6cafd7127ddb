//! Following runs: their objects as they change and the logs of their steps as they are written.
//!
//! Log streams are opened as soon as a step's container has started, once per container; a finished step whose stream
//! was never opened still gets one, so no line of a fast step is lost.

use std::collections::HashSet;
use std::time::Duration;

use futures::io::AsyncBufReadExt as _;
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{Event as PodEvent, Pod};
use kube::api::{Api, LogParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use tektite_api::names::label;
use tektite_api::v1::{PipelineRun, StepState, TaskRun, TaskRunStatus};
use tektite_engine::annotations;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::connect::Connection;
use crate::view::{Root, RootKind};

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A PipelineRun as it is now.
    PipelineRun(Box<PipelineRun>),
    /// A TaskRun as it is now.
    TaskRun(Box<TaskRun>),
    /// Something was said about a pod of the namespace.
    Pod(Box<PodEvent>),
    /// A followed run was deleted.
    Deleted(String),
    /// Lines of a step's log.
    Lines {
        /// Name of the TaskRun.
        task_run: String,
        /// The step.
        step: String,
        /// One or more, without the end of the last.
        lines: String,
    },
    /// A log has ended.
    LogEnded,
}

/// Watches and log streams; all end when it is dropped.
pub struct Follower {
    connection: Connection,
    sender: mpsc::Sender<Event>,
    events: mpsc::Receiver<Event>,
    tasks: JoinSet<()>,
    watched: HashSet<String>,
    opened: HashSet<(String, String)>,
    open_logs: usize,
    follow_logs: bool,
    /// TaskRuns that were asked for by name.
    task_runs: HashSet<String>,
}

impl Follower {
    /// Follows these runs. With `follow_logs` a log stream lasts as long as its container.
    pub fn start(connection: Connection, roots: &[Root], follow_logs: bool) -> Self {
        let (sender, events) = mpsc::channel(32);
        let mut follower = Self {
            connection,
            sender,
            events,
            tasks: JoinSet::new(),
            watched: HashSet::new(),
            opened: HashSet::new(),
            open_logs: 0,
            follow_logs,
            task_runs: HashSet::new(),
        };
        if follow_logs {
            follower.watch_pod_warnings();
        }
        for root in roots {
            match root.kind {
                RootKind::PipelineRun => follower.watch_pipeline_run(&root.name),
                RootKind::TaskRun => {
                    follower.task_runs.insert(root.name.clone());
                    follower.watch_task_runs(
                        watcher::Config::default().fields(&format!("metadata.name={}", root.name)),
                    );
                }
            }
        }
        follower
    }

    /// How many logs are still being read.
    pub fn open_logs(&self) -> usize {
        self.open_logs
    }

    /// The next thing that happens. Safe to cancel.
    pub async fn next(&mut self) -> Event {
        // The sender lives in `self`, so the channel never closes.
        let Some(event) = self.events.recv().await else {
            std::future::pending().await
        };
        match &event {
            Event::TaskRun(run) => self.open_logs_of(run),
            Event::PipelineRun(run) => {
                let children = run
                    .status
                    .child_references
                    .iter()
                    .filter(|child| child.kind == "PipelineRun");
                let names: Vec<String> = children.map(|child| child.name.clone()).collect();
                names.iter().for_each(|name| self.watch_pipeline_run(name));
            }
            Event::LogEnded => self.open_logs -= 1,
            Event::Pod(_) | Event::Deleted(_) | Event::Lines { .. } => {}
        }
        event
    }

    fn watch_pod_warnings(&mut self) {
        let api: Api<PodEvent> =
            Api::namespaced(self.connection.client.clone(), &self.connection.namespace);
        let config = watcher::Config::default().fields("involvedObject.kind=Pod,type=Warning");
        let sender = self.sender.clone();
        self.tasks.spawn(async move {
            let mut events = std::pin::pin!(watcher(api, config).default_backoff());
            while let Some(event) = events.next().await {
                let event = match event {
                    Ok(watcher::Event::Apply(event) | watcher::Event::InitApply(event)) => event,
                    Ok(_) => continue,
                    Err(error) => {
                        // Whoever may not read events does without.
                        tracing::debug!(%error, "events of pods");
                        continue;
                    }
                };
                if sender.send(Event::Pod(Box::new(event))).await.is_err() {
                    return;
                }
            }
        });
    }

    fn watch_pipeline_run(&mut self, name: &str) {
        if !self.watched.insert(name.to_owned()) {
            return;
        }
        let api: Api<PipelineRun> =
            Api::namespaced(self.connection.client.clone(), &self.connection.namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        self.tasks
            .spawn(pump(watcher(api, config), self.sender.clone(), |run| {
                Event::PipelineRun(Box::new(run))
            }));
        self.watch_task_runs(
            watcher::Config::default().labels(&format!("{}={name}", label::PIPELINE_RUN)),
        );
    }

    fn watch_task_runs(&mut self, config: watcher::Config) {
        let api: Api<TaskRun> =
            Api::namespaced(self.connection.client.clone(), &self.connection.namespace);
        self.tasks
            .spawn(pump(watcher(api, config), self.sender.clone(), |run| {
                Event::TaskRun(Box::new(run))
            }));
    }

    fn open_logs_of(&mut self, run: &TaskRun) {
        let name = run.metadata.name.clone().unwrap_or_default();
        let cached = run
            .status
            .annotations
            .contains_key(annotations::CACHED_FROM);
        if cached && !self.task_runs.contains(&name) {
            // What its pod wrote is an earlier run's.
            return;
        }
        let attempts = run.status.retries_status.iter().chain([&run.status]);
        let started: Vec<(String, String, String)> = attempts.flat_map(started_steps).collect();
        for (pod, container, step) in started {
            if !self.opened.insert((pod.clone(), container.clone())) {
                continue;
            }
            self.open_logs += 1;
            let api: Api<Pod> =
                Api::namespaced(self.connection.client.clone(), &self.connection.namespace);
            let log = Log {
                task_run: name.clone(),
                pod,
                container,
                step,
                follow: self.follow_logs,
            };
            self.tasks.spawn(log.read(api, self.sender.clone()));
        }
    }
}

/// Pod, container and name of every step that has started.
fn started_steps(status: &TaskRunStatus) -> Vec<(String, String, String)> {
    let began = |step: &&StepState| {
        step.running.is_some()
            || step
                .terminated
                .as_ref()
                .is_some_and(|t| t.started_at.is_some())
    };
    let triple = |step: &StepState| {
        let short = step
            .container
            .strip_prefix("step-")
            .unwrap_or(&step.container);
        let name = if step.name.is_empty() {
            short
        } else {
            &step.name
        };
        (
            status.pod_name.clone(),
            step.container.clone(),
            name.to_owned(),
        )
    };
    if status.pod_name.is_empty() {
        return Vec::new();
    }
    status.steps.iter().filter(began).map(triple).collect()
}

async fn pump<K>(
    stream: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send,
    sender: mpsc::Sender<Event>,
    wrap: fn(K) -> Event,
) where
    K: kube::Resource + Send,
{
    let mut stream = std::pin::pin!(stream.default_backoff());
    while let Some(event) = stream.next().await {
        let event = match event {
            Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => wrap(object),
            Ok(watcher::Event::Delete(object)) => {
                Event::Deleted(object.meta().name.clone().unwrap_or_default())
            }
            Ok(watcher::Event::Init | watcher::Event::InitDone) => continue,
            Err(error) => {
                tracing::warn!(%error, "watch broken; trying again");
                continue;
            }
        };
        if sender.send(event).await.is_err() {
            return;
        }
    }
}

struct Log {
    task_run: String,
    pod: String,
    container: String,
    step: String,
    follow: bool,
}

impl Log {
    /// Reads to the end, however often the connection breaks on the way; a pod that is gone has no more to say.
    async fn read(self, api: Api<Pod>, sender: mpsc::Sender<Event>) {
        let mut delivered = 0;
        for attempt in 0..8_u32 {
            if attempt > 0 {
                tokio::time::sleep(Duration::from_millis(20 << attempt)).await;
            }
            match self.read_once(&api, &sender, &mut delivered).await {
                Ok(()) => break,
                Err(Trouble::Gone) => break,
                Err(Trouble::Transient(error)) => {
                    tracing::debug!(%error, pod = self.pod, step = self.step, "log")
                }
            }
        }
        let _ = sender.send(Event::LogEnded).await;
    }

    async fn read_once(
        &self,
        api: &Api<Pod>,
        sender: &mpsc::Sender<Event>,
        delivered: &mut usize,
    ) -> Result<(), Trouble> {
        let params = LogParams {
            container: Some(self.container.clone()),
            follow: self.follow,
            ..LogParams::default()
        };
        let mut reader = api.log_stream(&self.pod, &params).await?;
        // A log only grows: what has been delivered comes again first.
        let mut splitter = Splitter {
            known: *delivered,
            pending: Vec::new(),
        };
        loop {
            let read = reader.fill_buf().await;
            let read = read.map_err(|error| Trouble::Transient(error.to_string()))?;
            let count = read.len();
            let lines = match count {
                0 => std::mem::take(&mut splitter.pending),
                _ => splitter.take(read),
            };
            reader.consume_unpin(count);
            *delivered += lines.len();
            if !lines.is_empty() && !self.deliver(&lines, sender).await {
                return Ok(());
            }
            if count == 0 {
                return Ok(());
            }
        }
    }

    /// Says whether anybody still wants them.
    async fn deliver(&self, lines: &[u8], sender: &mpsc::Sender<Event>) -> bool {
        let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
        let event = Event::Lines {
            task_run: self.task_run.clone(),
            step: self.step.clone(),
            lines: String::from_utf8_lossy(lines).into_owned(),
        };
        sender.send(event).await.is_ok()
    }
}

/// A line that is longer, in bytes, is shown in parts: it would have to be held in memory.
const LONGEST_LINE: usize = 1 << 20;

/// Makes whole lines of what is read.
struct Splitter {
    /// Bytes at the beginning that have been delivered already.
    known: usize,
    /// The beginning of a line.
    pending: Vec<u8>,
}

impl Splitter {
    /// The lines that are whole with what has been `read` now.
    fn take(&mut self, read: &[u8]) -> Vec<u8> {
        let known = self.known.min(read.len());
        self.known -= known;
        let new = &read[known..];
        let whole = match new.iter().rposition(|byte| *byte == b'\n') {
            Some(at) => at + 1,
            None if self.pending.len() + new.len() > LONGEST_LINE => new.len(),
            None => {
                self.pending.extend_from_slice(new);
                return Vec::new();
            }
        };
        let mut lines = std::mem::replace(&mut self.pending, new[whole..].to_vec());
        lines.extend_from_slice(&new[..whole]);
        lines
    }
}

enum Trouble {
    Gone,
    Transient(String),
}

impl From<kube::Error> for Trouble {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 404 => Trouble::Gone,
            other => Trouble::Transient(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(known: usize, reads: &[&str]) -> (Vec<String>, String) {
        let pending = Vec::new();
        let mut splitter = Splitter { known, pending };
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let lines = reads
            .iter()
            .map(|read| text(splitter.take(read.as_bytes())));
        (lines.collect(), text(splitter.pending))
    }

    #[test]
    fn whole_lines_are_taken_from_what_is_read_and_known_ones_left_out() {
        let of = |lines: &[&str], rest: &str| {
            let lines = lines.iter().map(|&line| line.to_owned());
            (lines.collect::<Vec<_>>(), rest.to_owned())
        };
        let reads = ["a\nb", "c", "\n\nd\ne"];
        assert_eq!(split(0, &reads), of(&["a\n", "", "bc\n\nd\n"], "e"));
        assert_eq!(split(2, &reads), of(&["", "", "bc\n\nd\n"], "e"));
        assert_eq!(split(5, &reads), of(&["", "", "\nd\n"], "e"));
        assert_eq!(split(99, &reads), of(&["", "", ""], ""));
    }

    #[test]
    fn a_line_too_long_for_memory_is_taken_in_parts() {
        let half = "x".repeat(LONGEST_LINE / 2 + 1);
        let (lines, rest) = split(0, &[&half, &half, "y\n"]);
        let lengths: Vec<usize> = lines.iter().map(String::len).collect();
        assert_eq!(lengths, [0, LONGEST_LINE + 2, 2]);
        assert_eq!(rest, "");
    }
}
