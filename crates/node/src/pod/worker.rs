//! The worker of one pod: it hears what happens, decides what follows, acts, and publishes the status.

mod answers;
mod ends;
mod probes;
mod publish;
mod slot;
mod steps;
mod stopping;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use kube::ResourceExt;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::mount_retry::MountRetry;
use super::prepare::{self, Prepared};
use super::start::{StartFailure, Started};
use crate::launcher::protocol::Exit;
use crate::network::Lease;
use crate::shared::Shared;
use crate::status::{self, PodView};
use publish::QUIET;
use slot::{Phase, Slot};

pub(crate) use publish::delete_now;

/// What a pod's worker hears.
pub(crate) enum Event {
    /// The object changed.
    Updated(Box<Pod>),
    /// The object is gone.
    Removed,
    /// An instance of a container ended.
    Ended {
        container: String,
        attempt: u32,
        exit: Exit,
    },
    Prepared(Box<Result<Prepared, String>>),
    Started {
        container: String,
        attempt: u32,
        result: Box<Result<Started, StartFailure>>,
    },
    Probed {
        container: String,
        attempt: u32,
        verdict: super::probe::Verdict,
    },
    Bound(Result<(), String>),
    /// A status write was answered; they are numbered from one.
    Written {
        number: u64,
        result: Result<(), kube::Error>,
    },
    /// The launcher died, and all containers with it.
    Lost,
    /// The node stops; containers are somebody else's now.
    Abandon,
}

/// How a worker came to its end.
pub(crate) enum End {
    /// Told to leave the pod alone.
    Abandoned,
    /// With its pod; what came too late is in the channel.
    Over(mpsc::UnboundedReceiver<Event>),
}

/// Sends events to a worker.
pub(crate) type Sender = mpsc::UnboundedSender<Event>;

pub(crate) struct Worker {
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    uid: String,
    events: mpsc::UnboundedReceiver<Event>,
    sender: Sender,
    slots: Vec<Slot>,
    view: PodView,
    prepared: Option<Prepared>,
    preparing: bool,
    prepare_again: Option<Instant>,
    mount_retry: MountRetry,
    has_sandbox: bool,
    bound: bool,
    /// The last status sent.
    published: Option<PodStatus>,
    /// The patch that carried it, until the API is known to have it.
    unseen: Option<Arc<serde_json::Value>>,
    /// Number of the last status write, and how many are not answered: an answer comes when a write is on disk.
    written: u64,
    unanswered: u64,
    write_after: Instant,
    deadline: Option<Instant>,
    removed: bool,
    stopping_sidecars: bool,
    deleted_object: bool,
    /// The pod's address, if its network is its own.
    lease: Option<Lease>,
}

impl Worker {
    /// A worker for a pod nobody has run yet, or that an earlier node ran: `alive` are the containers the launcher still
    /// has.
    pub fn new(
        shared: Arc<Shared>,
        pod: Pod,
        events: mpsc::UnboundedReceiver<Event>,
        sender: Sender,
    ) -> Self {
        let uid = pod.uid().unwrap_or_default();
        let greeting = shared.launcher().greeting().clone();
        let spec = pod.spec.clone().unwrap_or_default();
        let fallback = |container: &Container| {
            container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError")
        };
        let mut slots = Vec::new();
        let mut overdue = Vec::new();
        for (role, container) in status::containers(&spec) {
            let mut slot = Slot::fresh(&container.name, role);
            if let Some(attempt) = shared.layout.newest(&uid, &container.name) {
                let ended = slot.adopt(
                    &shared,
                    &uid,
                    attempt,
                    &greeting.containers,
                    fallback(container),
                );
                overdue.extend(ended.map(|ended| (slots.len(), ended)));
            }
            slots.push(slot);
        }
        let now = Timestamp::now();
        let old = pod.status.clone();
        let start = old
            .as_ref()
            .and_then(|status| status.start_time.clone())
            .map_or(now, |time| time.0);
        let has_sandbox = greeting.sandboxes.contains_key(&uid);
        let pod_ip = old.as_ref().and_then(|status| status.pod_ip.clone());
        let view = PodView {
            start: Some(start),
            host_ip: shared.facts.host_ip.clone(),
            pod_ip: pod_ip.filter(|_| has_sandbox).unwrap_or_default(),
            sandbox: has_sandbox,
            ..PodView::default()
        };
        let bound = spec
            .node_name
            .as_deref()
            .is_some_and(|name| !name.is_empty());
        let published = old.filter(|status| status.start_time.is_some());
        let mut worker = Self {
            has_sandbox,
            shared,
            uid,
            events,
            sender,
            slots,
            view,
            bound,
            published,
            pod: Arc::new(pod),
            prepared: None,
            preparing: false,
            prepare_again: None,
            mount_retry: MountRetry::default(),
            unseen: None,
            written: 0,
            unanswered: 0,
            write_after: Instant::now() + QUIET,
            deadline: None,
            removed: false,
            stopping_sidecars: false,
            deleted_object: false,
            lease: None,
        };
        for (at, ended) in overdue {
            let policy = worker.policy(at);
            worker.instance_over(at, ended, policy);
        }
        worker
    }

    /// Runs the pod to its end.
    pub async fn run(mut self) -> End {
        if !self.bound {
            self.bind();
        }
        self.set_deadline();
        self.resume_probes();
        self.renew_changed_images();
        loop {
            self.step();
            self.publish();
            if self.over() {
                break;
            }
            let next = self.next_time();
            let event = tokio::select! {
                event = self.events.recv() => event,
                () = sleep_until(next) => continue,
            };
            match event {
                Some(Event::Abandon) | None => return End::Abandoned,
                Some(event) => self.hear(event),
            }
            // What came in meanwhile is decided on, and published, together.
            while let Ok(event) = self.events.try_recv() {
                if matches!(event, Event::Abandon) {
                    return End::Abandoned;
                }
                self.hear(event);
            }
        }
        self.clean_up().await;
        End::Over(self.events)
    }

    /// Whether nothing is left to do: all has ended and the API knows, or has forgotten the pod.
    fn over(&self) -> bool {
        let idle = self
            .slots
            .iter()
            .all(|slot| !matches!(slot.phase, Phase::Starting | Phase::Running));
        if !idle || self.preparing || self.unanswered > 0 {
            return false;
        }
        if self.removed {
            return true;
        }
        let published = self.view.finished
            && self.published.as_ref().is_some_and(|status| {
                matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
            });
        published && (self.pod.metadata.deletion_timestamp.is_none() || self.deleted_object)
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Updated(pod) => self.updated(*pod),
            Event::Removed => self.removed = true,
            Event::Ended {
                container,
                attempt,
                exit,
            } => self.ended(&container, attempt, &exit),
            Event::Prepared(result) => self.was_prepared(*result),
            Event::Started {
                container,
                attempt,
                result,
            } => self.started(&container, attempt, *result),
            Event::Probed {
                container,
                attempt,
                verdict,
            } => self.probed(&container, attempt, verdict),
            Event::Bound(Ok(())) => self.bound = true,
            Event::Bound(Err(error)) => {
                tracing::warn!(pod = %self.pod.name_any(), %error, "cannot bind the pod to this node");
                self.removed = true;
            }
            Event::Written { number, result } => self.written(number, result),
            Event::Lost => self.lost(),
            Event::Abandon => {}
        }
    }

    fn updated(&mut self, pod: Pod) {
        // The watch tells sooner than the answer, which waits for the disk.
        self.bound |= pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.as_deref())
            .is_some_and(|name| !name.is_empty());
        if let Some(sent) = &self.unseen
            && status::shows(&pod, &sent["status"])
        {
            self.unseen = None;
        }
        self.pod = Arc::new(pod);
        self.follow_metadata();
        self.renew_changed_images();
        self.set_deadline();
    }

    /// K-304: files of the downward API follow at once.
    fn follow_metadata(&mut self) {
        let Some(prepared) = &mut self.prepared else {
            return;
        };
        let (written, now) = (&prepared.pod.metadata, &self.pod.metadata);
        if (&written.annotations, &written.labels) == (&now.annotations, &now.labels) {
            return;
        }
        let result = prepare::write_volumes(
            &self.shared,
            &self.pod,
            &prepared.answers,
            &prepared.facts,
            &prepared.images,
        );
        match result {
            Ok(_) => prepared.pod = self.pod.clone(),
            Err(error) => {
                tracing::warn!(pod = %self.pod.name_any(), %error, "cannot update the pod's volumes");
            }
        }
    }

    fn set_deadline(&mut self) {
        let seconds = self
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.active_deadline_seconds);
        self.deadline = seconds.zip(self.view.start).map(|(seconds, start)| {
            let passed = Timestamp::now().duration_since(start);
            let left = jiff::SignedDuration::from_secs(seconds) - passed;
            Instant::now() + Duration::try_from(left).unwrap_or(Duration::ZERO)
        });
    }

    fn spec_container(&self, name: &str) -> Option<&Container> {
        self.pod
            .spec
            .iter()
            .flat_map(status::containers)
            .map(|(_, container)| container)
            .find(|container| container.name == name)
    }

    fn slot(&mut self, name: &str, attempt: u32) -> Option<usize> {
        self.slots
            .iter()
            .position(|slot| slot.name == name && slot.attempt == attempt)
    }

    /// When something is due that no event announces.
    fn next_time(&self) -> Option<Instant> {
        let waiting = self.slots.iter().filter_map(|slot| match slot.phase {
            Phase::Waiting(again) => Some(again),
            _ => None,
        });
        let kills = self
            .slots
            .iter()
            .filter_map(|slot| slot.kill.filter(|kill| !kill.killed))
            .map(|kill| kill.deadline);
        let pulls = self
            .slots
            .iter()
            .filter_map(|slot| slot.pull_backoff.as_ref().map(|(at, _)| *at));
        let deadline = self
            .deadline
            .filter(|_| self.view.reason.is_none() && !self.view.finished);
        let publish = (self.bound && self.published.is_none() && self.unseen.is_none())
            .then_some(self.write_after);
        let waiting = waiting
            .chain(kills)
            .chain(pulls)
            .filter(|_| !self.view.finished);
        waiting
            .chain(deadline)
            .chain(self.prepare_again)
            .chain(publish)
            .min()
    }

    fn event(&self, kind: &str, reason: &str, message: &str, container: Option<&str>) {
        super::events::emit(&self.shared, &self.pod, kind, reason, message, container);
    }

    async fn clean_up(&mut self) {
        if self.has_sandbox {
            self.shared.remove_sandbox(&self.uid).await;
        }
        self.lease = None;
        let layout = &self.shared.layout;
        let left = match self.removed {
            true => vec![layout.pod_memory(&self.uid), layout.pod(&self.uid)],
            false => layout.left_at_end(&self.uid),
        };
        self.shared.clear_away(left).await;
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
