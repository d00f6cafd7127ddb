//! Kubernetes Events: written in the background, repeated ones counted instead of written again (T-398 to T-401, P-380, P-381).

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use tektite_engine::cloud_event::Subject;
use tektite_engine::decision::{Event, EventType};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::rest::{PatchType, Resource, Rest};
use crate::world::Kind;

/// How many events may wait to be written; more are dropped, for events never hold up a run.
const BACKLOG: usize = 4096;
/// How many written events are remembered, so that a repetition counts them up.
const REMEMBERED: usize = 4096;

/// Who reports an event, and the kind of what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reporter {
    api_version: &'static str,
    kind: &'static str,
    component: &'static str,
}

impl Reporter {
    /// The controller that keeps objects of `kind` going.
    pub(crate) fn reconciling(kind: Kind) -> Self {
        let (api_version, kind, component) = match kind {
            Kind::TaskRun => ("tekton.dev/v1", "TaskRun", "taskrun-controller"),
            Kind::PipelineRun => ("tekton.dev/v1", "PipelineRun", "pipelinerun-controller"),
            Kind::ResolutionRequest => (
                "resolution.tekton.dev/v1beta1",
                "ResolutionRequest",
                "resolutionrequest-controller",
            ),
        };
        Self {
            api_version,
            kind,
            component,
        }
    }

    /// The controller that sends the CloudEvents of `subject`.
    pub(crate) fn notifying(subject: Subject) -> Self {
        Self {
            api_version: subject.api_version(),
            kind: subject.kind(),
            component: match subject {
                Subject::TaskRun => "TaskRunEvents",
                Subject::PipelineRun => "PipelineRunEvents",
                Subject::CustomRun => "CustomRunEvents",
            },
        }
    }
}

/// The object an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Involved {
    pub(crate) reporter: Reporter,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) resource_version: String,
}

/// Takes events; see [`recorder`].
#[derive(Clone)]
pub(crate) struct Recorder {
    sender: mpsc::Sender<(Involved, Event, Timestamp)>,
}

/// Writes the events of a [`Recorder`].
pub(crate) struct Writer {
    receiver: mpsc::Receiver<(Involved, Event, Timestamp)>,
    written: HashMap<(String, EventKey), Written>,
}

/// What makes two events the same.
type EventKey = (&'static str, String, String);

struct Written {
    name: String,
    count: u64,
}

/// A recorder and the task that writes what it records.
pub(crate) fn recorder() -> (Recorder, Writer) {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    (
        Recorder { sender },
        Writer {
            receiver,
            written: HashMap::new(),
        },
    )
}

impl Recorder {
    /// Records an event about `involved`.
    pub(crate) fn record(&self, involved: &Involved, event: Event) {
        if self
            .sender
            .try_send((involved.clone(), event, Timestamp::now()))
            .is_err()
        {
            tracing::debug!(run = involved.name, "an event was dropped");
        }
    }
}

impl Writer {
    /// Writes until the recorders are gone, or `shutdown` and nothing waits any more.
    pub(crate) async fn run(mut self, rest: Rest, shutdown: CancellationToken) {
        loop {
            let next = tokio::select! {
                biased;
                next = self.receiver.recv() => next,
                () = shutdown.cancelled() => return,
            };
            let Some((involved, event, at)) = next else {
                return;
            };
            self.write(&rest, involved, event, at).await;
        }
    }

    async fn write(&mut self, rest: &Rest, involved: Involved, event: Event, at: Timestamp) {
        let key = (
            involved.uid.clone(),
            (
                event.type_.as_str(),
                event.reason.clone(),
                event.message.clone(),
            ),
        );
        let at_text = seconds(at);
        if let Some(written) = self.written.get_mut(&key) {
            written.count += 1;
            let patch = json!({"count": written.count, "lastTimestamp": at_text});
            let path = Resource::EVENTS.object(&involved.namespace, &written.name);
            match rest
                .patch(&path, PatchType::Merge, patch.to_string().into_bytes())
                .await
            {
                Ok(_) => return,
                // Events expire: write it anew.
                Err(error) if error.is_not_found() => {}
                Err(error) => return tracing::debug!(%error, "cannot count an event up"),
            }
        }
        let name = format!("{}.{:x}", involved.name, at.as_nanosecond());
        let object = event_object(&involved, &event, &name, &at_text);
        let path = Resource::EVENTS.collection(Some(&involved.namespace));
        match rest.post(&path, object.to_string().into_bytes()).await {
            Ok(_) => {
                if self.written.len() >= REMEMBERED {
                    self.written.clear();
                }
                self.written.insert(key, Written { name, count: 1 });
            }
            Err(error) => tracing::debug!(%error, "cannot write an event"),
        }
    }
}

fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn event_object(involved: &Involved, event: &Event, name: &str, at: &str) -> Value {
    let Reporter {
        api_version,
        kind,
        component,
    } = involved.reporter;
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": involved.namespace, "name": name},
        "involvedObject": {
            "apiVersion": api_version,
            "kind": kind,
            "namespace": involved.namespace,
            "name": involved.name,
            "uid": involved.uid,
            "resourceVersion": involved.resource_version,
        },
        "type": match event.type_ { EventType::Normal => "Normal", EventType::Warning => "Warning" },
        "reason": event.reason,
        "message": event.message,
        "count": 1,
        "firstTimestamp": at,
        "lastTimestamp": at,
        "source": {"component": component},
        "reportingComponent": component,
        "reportingInstance": "",
    })
}
