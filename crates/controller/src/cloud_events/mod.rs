//! CloudEvents: what changed waits in a backlog, is decided about outside the reconciles and sent in the background
//! (T-402 to T-408, P-382 to P-386). Nothing here writes to a run.

mod backlog;

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use tektite_engine::cloud_event::{self, CloudEvent, History, Subject};
use tektite_engine::decision::Event;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::endpoint::{Endpoint, Endpoints};
use crate::events::{Involved, Reporter};
use crate::leader::Leadership;
use crate::rest::Resource;
use crate::world::{Kind, World};

pub(crate) use backlog::{Backlog, Changed};

/// How many events may be on their way at once.
const AT_ONCE: usize = 32;

/// Where a kind that events are sent of is served, and whose lead it follows.
fn place(subject: Subject) -> (Resource, Kind) {
    match subject {
        Subject::TaskRun => (Resource::TASK_RUNS, Kind::TaskRun),
        Subject::PipelineRun => (Resource::PIPELINE_RUNS, Kind::PipelineRun),
        // There is no lease for them here: whoever leads PipelineRuns made them.
        Subject::CustomRun => (Resource::CUSTOM_RUNS, Kind::PipelineRun),
    }
}

/// The kind of what is served at `resource`, if events are sent of it.
pub(crate) fn subject_of(resource: Resource) -> Option<Subject> {
    [Subject::TaskRun, Subject::PipelineRun, Subject::CustomRun]
        .into_iter()
        .find(|subject| place(*subject).0 == resource)
}

/// Whether anybody wants events at all.
pub(crate) fn wanted(world: &World) -> bool {
    cloud_event::sink(&world.options.config.current()).is_some()
}

/// Notes every run that follows the lead of `kind`: who led before may not have told of all that happened.
pub(crate) fn add_all(world: &World, kind: Kind) {
    if !wanted(world) {
        return;
    }
    let subjects: &[Subject] = match kind {
        Kind::TaskRun => &[Subject::TaskRun],
        Kind::PipelineRun => &[Subject::PipelineRun, Subject::CustomRun],
        Kind::ResolutionRequest => &[],
    };
    for subject in subjects {
        let names = match subject {
            Subject::TaskRun => world.task_runs.names(),
            Subject::PipelineRun => world.pipeline_runs.names(),
            Subject::CustomRun => world.custom_runs.names(),
        };
        for name in names {
            world.backlog.add(*subject, name, None);
        }
    }
}

/// Sends what the backlog is worth until `stop`, and then what is left of it.
pub(crate) async fn run(world: Arc<World>, leadership: Leadership, stop: CancellationToken) {
    let mut sender = Sender {
        world: &world,
        leadership,
        history: History::default(),
        sinks: Endpoints::of("sink"),
        slots: Arc::new(Semaphore::new(AT_ONCE)),
        under_way: JoinSet::new(),
    };
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            changed = world.backlog.next() => sender.handle(changed).await,
        }
    }
    while let Some(changed) = world.backlog.take() {
        sender.handle(changed).await;
    }
    sender.under_way.join_all().await;
}

/// Decides about changes one by one and sends what comes of it side by side.
struct Sender<'a> {
    world: &'a Arc<World>,
    leadership: Leadership,
    history: History,
    sinks: Endpoints,
    slots: Arc<Semaphore>,
    under_way: JoinSet<()>,
}

impl Sender<'_> {
    async fn handle(&mut self, changed: Changed) {
        while self.under_way.try_join_next().is_some() {}
        if !self
            .leadership
            .leads(place(changed.subject).1, &changed.name)
        {
            return;
        }
        let Some((involved, event)) = consider(self.world, changed, &mut self.history).await else {
            return;
        };
        let config = self.world.options.config.current();
        let Some(url) = cloud_event::sink(&config) else {
            return;
        };
        let sink = match self.sinks.get(url) {
            Ok(sink) => sink,
            Err(error) => return tell(self.world, &involved, Err(error), &event),
        };
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let world = Arc::clone(self.world);
        self.under_way.spawn(async move {
            let sent = send(&sink, &event).await;
            tell(&world, &involved, sent, &event);
            drop(slot);
        });
    }
}

/// Posts `event` in CloudEvents' binary form (T-405).
async fn send(sink: &Endpoint, event: &CloudEvent) -> Result<(), String> {
    let data = serde_json::to_vec(&event.data).map_err(|error| error.to_string())?;
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", &uuid::Uuid::new_v4().to_string()),
        ("ce-source", &event.source),
        ("ce-subject", &event.subject),
        ("ce-time", &Timestamp::now().to_string()),
        ("ce-type", &event.type_),
    ];
    sink.post(&headers, &data).await
}

/// The event that a change is worth, and whom it is about.
async fn consider(
    world: &World,
    changed: Changed,
    history: &mut History,
) -> Option<(Involved, CloudEvent)> {
    let Changed {
        subject,
        name,
        body,
    } = changed;
    let body = match body {
        Some(body) => body,
        None => {
            let path = place(subject).0.object(&name.namespace, &name.name);
            match world.rest.get(&path).await {
                Ok(body) => body,
                Err(error) if error.is_not_found() => return None,
                Err(error) => {
                    tracing::warn!(run = %name, %error, "no cloud event: the run cannot be read");
                    return None;
                }
            }
        }
    };
    let decided = serde_json::from_slice::<Value>(&body)
        .map_err(|error| error.to_string())
        .and_then(|run| {
            let text = |field: &str| {
                run["metadata"][field]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            };
            let involved = Involved {
                reporter: Reporter::notifying(subject),
                namespace: name.namespace.to_string(),
                name: name.name.to_string(),
                uid: text("uid"),
                resource_version: text("resourceVersion"),
            };
            let config = world.options.config.current();
            cloud_event::decide(subject, run, history, &config, Timestamp::now())
                .map(|event| event.map(|event| (involved, event)))
                .map_err(|error| error.to_string())
        });
    decided.unwrap_or_else(|error| {
        tracing::warn!(run = %name, error, "failed to build the cloud event");
        None
    })
}

/// Records what became of an event (T-408).
fn tell(world: &World, involved: &Involved, sent: Result<(), String>, event: &CloudEvent) {
    let told = match sent {
        Ok(()) => Event::normal("CloudEventSent", format!("Sent {}", event.type_)),
        Err(error) => {
            tracing::warn!(run = involved.name, error, "failed to send a cloud event");
            Event::warning("CloudEventFailed", error)
        }
    };
    world.events.record(involved, told);
}
