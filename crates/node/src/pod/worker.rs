//! The worker of one pod: it hears what happens, decides what follows, acts, and publishes the status.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, Container, ObjectReference, Pod, PodStatus};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::mount_retry::MountRetry;
use super::prepare::{self, Prepared};
use super::record::{self, Record};
use super::start::{StartFailure, Started, start};
use crate::images::{ImageError, ResolvedImage};
use crate::launcher::protocol::Exit;
use crate::network::Lease;
use crate::shared::{Shared, container_id};
use crate::status::{self, Ended, PodView, Role, State, View};

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

/// What a container does at present.
#[derive(Clone, Debug, PartialEq)]
enum Phase {
    Idle,
    Starting,
    Running,
    /// To be tried or started again.
    Waiting(Instant),
    Done,
}

/// A container on its way to its end.
#[derive(Clone, Copy, Debug)]
struct Kill {
    deadline: Instant,
    killed: bool,
}

struct Slot {
    name: String,
    role: Role,
    view: View,
    phase: Phase,
    attempt: u32,
    record: Option<Record>,
    kill: Option<Kill>,
    /// Start again whatever the policy says: its image changed (K-277).
    renew: bool,
    backoff: Duration,
    since: Option<Instant>,
    /// `ErrImagePull` becomes `ImagePullBackOff` at this time, with this message.
    pull_backoff: Option<(Instant, String)>,
    probes: Option<super::probe::Handle>,
    image: Option<ResolvedImage>,
}

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

const FIRST_BACKOFF: Duration = Duration::from_secs(10);
const LAST_BACKOFF: Duration = Duration::from_secs(300);
/// A start that takes no longer than this is published as running at once, not as waiting first.
const QUIET: Duration = Duration::from_millis(150);

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

    /// K-277: a container whose image is no longer the spec's is stopped, and started again with that.
    fn renew_changed_images(&mut self) {
        for at in 0..self.slots.len() {
            let slot = &self.slots[at];
            let image = self
                .spec_container(&slot.name)
                .and_then(|container| container.image.as_ref());
            let other = slot
                .record
                .as_ref()
                .is_some_and(|record| image != Some(&record.image));
            if slot.phase == Phase::Running && other && !slot.renew {
                self.slots[at].renew = true;
                let grace = self.grace();
                self.kill(at, grace);
            }
        }
    }

    /// Probes of containers that an earlier node started.
    fn resume_probes(&mut self) {
        for at in 0..self.slots.len() {
            if self.slots[at].phase != Phase::Running {
                continue;
            }
            let (name, attempt) = (self.slots[at].name.clone(), self.slots[at].attempt);
            let Some(probes) = self.start_probes(&name, attempt) else {
                continue;
            };
            let known = self.pod.status.iter().flat_map(|status| {
                let regular = status.container_statuses.iter().flatten();
                regular.chain(status.init_container_statuses.iter().flatten())
            });
            let was = known.filter(|one| one.name == name).find(|one| {
                one.state
                    .as_ref()
                    .is_some_and(|state| state.running.is_some())
            });
            let slot = &mut self.slots[at];
            if let State::Running { started, ready, .. } = &mut slot.view.state {
                *started = !probes.has_startup || was.is_some_and(|was| was.started == Some(true));
                *ready = *started && (!probes.has_readiness || was.is_some_and(|was| was.ready));
            }
            slot.probes = Some(probes);
        }
    }

    fn start_probes(&self, name: &str, attempt: u32) -> Option<super::probe::Handle> {
        super::probe::start(
            &self.shared,
            &self.uid,
            self.spec_container(name)?,
            attempt,
            &self.view.pod_ip,
            &self.sender,
        )
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

    fn grace(&self) -> Duration {
        let spec = self
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.termination_grace_period_seconds)
            .unwrap_or(30);
        let seconds = self
            .pod
            .metadata
            .deletion_grace_period_seconds
            .unwrap_or(spec);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(1))
    }

    // What happened.

    fn was_prepared(&mut self, result: Result<Prepared, String>) {
        self.preparing = false;
        match result {
            Ok(prepared) => {
                self.has_sandbox = true;
                self.view.sandbox = true;
                self.view.pod_ip = prepared.facts.pod_ip.clone();
                self.prepared = Some(prepared);
                // The pod may have changed while its volumes were written.
                self.follow_metadata();
            }
            Err(reason) => {
                let (wait, tell) = self.mount_retry.failed(&reason);
                if tell {
                    tracing::warn!(pod = %self.pod.name_any(), %reason, "cannot prepare a pod; trying again");
                    self.event("Warning", "FailedMount", &reason, None);
                }
                self.prepare_again = Some(Instant::now() + wait);
            }
        }
    }

    fn started(&mut self, name: &str, attempt: u32, result: Result<Started, StartFailure>) {
        let Some(at) = self.slot(name, attempt) else {
            return;
        };
        let id = format!("tektite://{}", container_id(&self.uid, name, attempt));
        let policy = self.policy(at);
        let probes = match &result {
            Ok(_) => self.start_probes(name, attempt),
            Err(_) => None,
        };
        let slot = &mut self.slots[at];
        match result {
            Ok(started) => {
                if slot.phase != Phase::Starting {
                    return;
                }
                let (gated, has_readiness) = probes.as_ref().map_or((false, false), |probes| {
                    (probes.has_startup, probes.has_readiness)
                });
                slot.phase = Phase::Running;
                slot.since = Some(Instant::now());
                slot.view.image_id = started.record.image_id.clone();
                slot.view.container_id = id;
                slot.view.image = Some(started.record.image.clone());
                slot.view.state = State::Running {
                    since: started.record.started_at(),
                    started: !gated,
                    ready: !gated && !has_readiness,
                };
                slot.record = Some(started.record);
                slot.image = Some(started.image);
                slot.probes = probes;
                slot.pull_backoff = None;
            }
            Err(StartFailure::Start { message, record }) => {
                let now = Timestamp::now();
                let ended = Ended {
                    code: 128,
                    reason: "StartError".to_string(),
                    message,
                    started: Some(Timestamp::UNIX_EPOCH),
                    finished: Some(now),
                    container_id: id.clone(),
                };
                slot.view.image_id = record.image_id.clone();
                slot.view.container_id = id;
                slot.record = Some(record);
                self.instance_over(at, ended, policy);
            }
            Err(StartFailure::Image(error)) => {
                let (reason, retry) = match &error {
                    ImageError::InvalidName(_) => ("InvalidImageName", None),
                    ImageError::NeverPull(_) => ("ErrImageNeverPull", None),
                    ImageError::Pull(_) => ("ErrImagePull", Some(())),
                };
                let message = match &error {
                    ImageError::InvalidName(text) => {
                        format!("Failed to apply default image tag: {text}")
                    }
                    other => other.to_string(),
                };
                slot.backoff = if slot.backoff.is_zero() {
                    FIRST_BACKOFF
                } else {
                    (slot.backoff * 2).min(LAST_BACKOFF)
                };
                let again = Instant::now()
                    + if retry.is_some() {
                        slot.backoff
                    } else {
                        FIRST_BACKOFF
                    };
                slot.phase = Phase::Waiting(again);
                slot.pull_backoff =
                    retry.map(|()| (Instant::now() + Duration::from_secs(1), message.clone()));
                slot.view.state = State::Waiting {
                    reason: reason.to_string(),
                    message: message.clone(),
                };
                self.event("Warning", "Failed", &format!("Error: {reason}"), Some(name));
            }
            Err(StartFailure::NoLauncher) => self.lost_instance(at),
            Err(StartFailure::Config(message) | StartFailure::Create(message))
                if message.is_empty() =>
            {
                slot.phase = Phase::Waiting(Instant::now() + FIRST_BACKOFF);
            }
            Err(failure) => {
                let (reason, message) = match failure {
                    StartFailure::Config(message) => ("CreateContainerConfigError", message),
                    StartFailure::Create(message) => ("CreateContainerError", message),
                    StartFailure::Image(_)
                    | StartFailure::Start { .. }
                    | StartFailure::NoLauncher => return,
                };
                slot.phase = Phase::Waiting(Instant::now() + FIRST_BACKOFF);
                slot.view.state = State::Waiting {
                    reason: reason.to_string(),
                    message: message.clone(),
                };
                self.event(
                    "Warning",
                    "Failed",
                    &format!("Error: {message}"),
                    Some(name),
                );
            }
        }
    }

    fn ended(&mut self, name: &str, attempt: u32, exit: &Exit) {
        let Some(at) = self.slot(name, attempt) else {
            return;
        };
        if !matches!(self.slots[at].phase, Phase::Starting | Phase::Running) {
            // Its exit file has told already.
            return;
        }
        let fallback = self.spec_container(name).is_some_and(|container| {
            container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError")
        });
        let policy = self.policy(at);
        let instance = self.shared.layout.instance(&self.uid, name, attempt);
        self.shared.logs.close(&instance.log());
        let slot = &mut self.slots[at];
        let started = slot
            .record
            .as_ref()
            .map(Record::started_at)
            .or_else(|| Record::read(&instance).map(|record| record.started_at()));
        if slot.phase == Phase::Starting {
            // It ended before the answer to its start was heard.
            if let Some(record) = Record::read(&instance) {
                slot.view.image_id = record.image_id.clone();
                slot.record = Some(record);
            }
            slot.view.container_id =
                format!("tektite://{}", container_id(&self.uid, name, attempt));
        }
        let id = slot.view.container_id.clone();
        if slot
            .since
            .is_some_and(|since| since.elapsed() > Duration::from_secs(600))
        {
            slot.backoff = Duration::ZERO;
        }
        let ended = record::ended(&instance, exit, started, &id, fallback);
        let writable = instance.writable();
        tokio::task::spawn_blocking(move || std::fs::remove_dir_all(writable));
        self.instance_over(at, ended, policy);
    }

    /// Whatever ran is over; how it ended is known only if the launcher came to write it down (K-292).
    fn lost(&mut self) {
        self.has_sandbox = false;
        self.prepared = None;
        self.view.sandbox = false;
        for at in 0..self.slots.len() {
            if self.slots[at].phase == Phase::Running {
                self.lost_instance(at);
            }
        }
    }

    fn lost_instance(&mut self, at: usize) {
        let slot = &self.slots[at];
        let (name, attempt) = (slot.name.clone(), slot.attempt);
        let instance = self.shared.layout.instance(&self.uid, &name, attempt);
        if let Some(exit) = record::read_exit(&instance) {
            return self.ended(&name, attempt, &exit);
        }
        self.shared.logs.close(&instance.log());
        if slot.phase == Phase::Starting && !instance.pid().exists() {
            // It never began. Another launcher is on its way.
            self.slots[at].phase = Phase::Waiting(Instant::now() + Duration::from_millis(50));
            return;
        }
        let ended = record::lost(
            slot.record.as_ref().map(Record::started_at),
            &format!("tektite://{}", container_id(&self.uid, &name, attempt)),
        );
        let policy = self.policy(at);
        self.instance_over(at, ended, policy);
    }

    /// An instance is over: the container is done, or will be started again.
    fn instance_over(&mut self, at: usize, ended: Ended, policy: Policy) {
        let stopping = self.stopping();
        let name = self.slots[at].name.clone();
        let slot = &mut self.slots[at];
        slot.kill = None;
        slot.probes = None;
        slot.image = None;
        slot.since = None;
        let again =
            !stopping && !self.stopping_sidecars && (slot.renew || policy.restarts(ended.code));
        if !again {
            slot.phase = Phase::Done;
            slot.view.state = State::Ended(ended);
            return;
        }
        slot.view.last = Some(ended);
        slot.view.restarts += 1;
        slot.attempt += 1;
        if slot.renew {
            slot.renew = false;
            slot.phase = Phase::Idle;
            slot.view.state = State::not_begun();
            return;
        }
        slot.backoff = if slot.backoff.is_zero() {
            FIRST_BACKOFF
        } else {
            (slot.backoff * 2).min(LAST_BACKOFF)
        };
        // K-278: the first restart comes at once, as the kubelet's does.
        if slot.view.restarts == 1 {
            slot.backoff = Duration::ZERO;
            slot.phase = Phase::Idle;
            slot.view.state = State::not_begun();
            return;
        }
        slot.phase = Phase::Waiting(Instant::now() + slot.backoff);
        let message = format!(
            "back-off {} restarting failed container={name} pod={}_{}({})",
            go_duration(slot.backoff),
            self.pod.name_any(),
            self.pod.namespace().unwrap_or_default(),
            self.uid
        );
        slot.view.state = State::Waiting {
            reason: "CrashLoopBackOff".to_string(),
            message,
        };
    }

    fn probed(&mut self, name: &str, attempt: u32, verdict: super::probe::Verdict) {
        use super::probe::Verdict;
        let Some(at) = self.slot(name, attempt) else {
            return;
        };
        let grace = self.grace();
        let slot = &mut self.slots[at];
        let has_readiness = slot
            .probes
            .as_ref()
            .is_some_and(|probes| probes.has_readiness);
        let State::Running { started, ready, .. } = &mut slot.view.state else {
            return;
        };
        match verdict {
            Verdict::Started => {
                *started = true;
                *ready = !has_readiness;
            }
            Verdict::Ready(now) => *ready = now && *started,
            Verdict::Dead(message) => {
                self.event("Warning", "Unhealthy", &message, Some(name));
                self.kill(at, grace);
            }
        }
    }

    fn policy(&self, at: usize) -> Policy {
        let role = self.slots[at].role;
        let policy = self
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.restart_policy.as_deref())
            .unwrap_or("Always");
        match (role, policy) {
            (Role::Sidecar, _) => Policy::Always,
            (Role::Init, "Never") | (Role::Regular, "Never") => Policy::Never,
            (Role::Init, _) | (Role::Regular, "OnFailure") => Policy::OnFailure,
            (Role::Regular, _) => Policy::Always,
        }
    }

    // What follows.

    fn stopping(&self) -> bool {
        self.removed || self.view.reason.is_some() || self.pod.metadata.deletion_timestamp.is_some()
    }

    fn step(&mut self) {
        let now = Instant::now();
        if self.view.finished {
            return;
        }
        if self.view.reason.is_none() && self.deadline.is_some_and(|deadline| deadline <= now) {
            let message =
                "Pod was active on the node longer than the specified deadline".to_string();
            self.view.reason = Some(("DeadlineExceeded".to_string(), message));
        }
        self.sharpen_kills(now);
        self.soften_pull_errors(now);
        if self.stopping() {
            self.stop(None);
            return;
        }
        if self.stopping_sidecars || self.nothing_to_start() {
            return self.stop_sidecars();
        }
        if self.prepared.is_none() {
            if !self.preparing && self.prepare_again.is_none_or(|again| again <= now) {
                self.prepare();
            }
            return;
        }
        if !self.advance_init(now) {
            return;
        }
        for at in 0..self.slots.len() {
            if self.slots[at].role == Role::Regular {
                self.start_if_due(at, now);
            }
        }
    }

    /// Whether nothing but sidecars is left: the regular containers are done, or an init container has failed for good.
    fn nothing_to_start(&self) -> bool {
        let failed = |slot: &Slot| {
            slot.role == Role::Init
                && slot.phase == Phase::Done
                && matches!(&slot.view.state, State::Ended(ended) if ended.code != 0)
        };
        let mut regular = self.slots.iter().filter(|slot| slot.role == Role::Regular);
        regular.all(|slot| slot.phase == Phase::Done) || self.slots.iter().any(failed)
    }

    /// Kills what runs; once nothing does, the pod is finished.
    fn stop(&mut self, grace: Option<Duration>) {
        let grace = if self.removed {
            Duration::ZERO
        } else {
            grace.unwrap_or_else(|| self.grace())
        };
        for at in 0..self.slots.len() {
            match self.slots[at].phase {
                Phase::Running => self.kill(at, grace),
                Phase::Idle | Phase::Waiting(_) | Phase::Starting | Phase::Done => {}
            }
        }
        if self
            .slots
            .iter()
            .all(|slot| !matches!(slot.phase, Phase::Running | Phase::Starting))
            && !self.preparing
        {
            self.finish();
        }
    }

    fn finish(&mut self) {
        for slot in &mut self.slots {
            // K-282: one that was waiting for a restart has no state of its own any more.
            if slot.role == Role::Sidecar
                && let (State::Waiting { .. }, Some(_)) = (&slot.view.state, &slot.view.last)
            {
                slot.view.state = State::Ended(record::lost(None, &slot.view.container_id));
            }
            slot.phase = Phase::Done;
        }
        self.view.finished = true;
    }

    /// Moves the init containers on; answers whether regular containers may run (K-279, K-281).
    fn advance_init(&mut self, now: Instant) -> bool {
        for at in 0..self.slots.len() {
            let slot = &self.slots[at];
            match slot.role {
                Role::Regular => {}
                Role::Sidecar => {
                    self.start_if_due(at, now);
                    let slot = &self.slots[at];
                    let begun = matches!(slot.view.state, State::Running { started: true, .. })
                        || slot.view.last.is_some();
                    if !begun {
                        return false;
                    }
                }
                Role::Init => match &slot.view.state {
                    State::Ended(ended) if ended.code == 0 => {}
                    _ => {
                        self.start_if_due(at, now);
                        return false;
                    }
                },
            }
        }
        true
    }

    /// Stops native sidecars in reverse order, one after the other; then the pod is finished.
    fn stop_sidecars(&mut self) {
        self.stopping_sidecars = true;
        let grace = self.grace();
        let last = (0..self.slots.len()).rev().find(|at| {
            let slot = &self.slots[*at];
            slot.role == Role::Sidecar && matches!(slot.phase, Phase::Running | Phase::Starting)
        });
        match last {
            Some(at) if self.slots[at].phase == Phase::Running => self.kill(at, grace),
            Some(_) => {}
            None => self.finish(),
        }
    }

    fn start_if_due(&mut self, at: usize, now: Instant) {
        let due = match self.slots[at].phase {
            Phase::Idle => true,
            Phase::Waiting(again) => again <= now,
            Phase::Starting | Phase::Running | Phase::Done => false,
        };
        let (Some(prepared), true) = (self.prepared.clone(), due) else {
            return;
        };
        let Some(container) = self.spec_container(&self.slots[at].name).cloned() else {
            return;
        };
        let slot = &mut self.slots[at];
        slot.phase = Phase::Starting;
        let attempt = slot.attempt;
        let (shared, pod, sender) = (self.shared.clone(), self.pod.clone(), self.sender.clone());
        let instance = shared.layout.instance(&self.uid, &slot.name, attempt);
        let logged = std::fs::create_dir_all(instance.root())
            .and_then(|()| shared.logs.open(&instance.log()));
        if let Err(error) = logged {
            tracing::warn!(%error, "cannot watch a container's log");
        }
        tokio::spawn(async move {
            let name = container.name.clone();
            let result = start(shared.clone(), pod, container, attempt, prepared).await;
            if result.is_err() {
                shared.logs.close(&instance.log());
            }
            let _ = sender.send(Event::Started {
                container: name,
                attempt,
                result: Box::new(result),
            });
        });
    }

    fn prepare(&mut self) {
        self.prepare_again = None;
        let host_network = self.pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
        if let (Some(network), None, false) = (&self.shared.network, &self.lease, host_network) {
            match network.lease(&self.uid) {
                Ok(lease) => self.lease = Some(lease),
                Err(reason) => {
                    self.event("Warning", "FailedCreatePodSandBox", &reason, None);
                    self.prepare_again = Some(Instant::now() + Duration::from_secs(1));
                    return;
                }
            }
        }
        self.preparing = true;
        let interface = self.lease.as_ref().map(|lease| lease.interface().clone());
        let (shared, pod, sender, has_sandbox) = (
            self.shared.clone(),
            self.pod.clone(),
            self.sender.clone(),
            self.has_sandbox,
        );
        tokio::spawn(async move {
            let result = prepare::prepare(&shared, &pod, has_sandbox, interface).await;
            let _ = sender.send(Event::Prepared(Box::new(result)));
        });
    }

    fn bind(&self) {
        let (client, name, pod, sender) = (
            self.shared.client.clone(),
            self.shared.name.clone(),
            self.pod.clone(),
            self.sender.clone(),
        );
        tokio::spawn(async move {
            let pods: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap_or_default());
            let binding = Binding {
                metadata: kube::api::ObjectMeta {
                    name: Some(pod.name_any()),
                    uid: pod.uid(),
                    ..Default::default()
                },
                target: ObjectReference {
                    kind: Some("Node".into()),
                    name: Some(name),
                    ..ObjectReference::default()
                },
            };
            let result: Result<serde_json::Value, _> = pods
                .create_subresource("binding", &pod.name_any(), &PostParams::default(), &binding)
                .await;
            let result = result.map(drop).map_err(|error| error.to_string());
            let _ = sender.send(Event::Bound(result));
        });
    }

    /// Asks a container to stop, and sees to it that it does.
    fn kill(&mut self, at: usize, grace: Duration) {
        let id = container_id(&self.uid, &self.slots[at].name, self.slots[at].attempt);
        let slot = &mut self.slots[at];
        let now = Instant::now();
        let deadline = now + grace;
        let signal = match &mut slot.kill {
            Some(kill) => {
                // A later request may only shorten the time (K-287).
                kill.deadline = kill.deadline.min(deadline);
                return self.sharpen_kills(now);
            }
            None if grace.is_zero() => {
                slot.kill = Some(Kill {
                    deadline,
                    killed: true,
                });
                9
            }
            None => {
                slot.kill = Some(Kill {
                    deadline: now + grace.max(Duration::from_secs(2)),
                    killed: false,
                });
                slot.record.as_ref().map_or(15, |record| record.stop_signal)
            }
        };
        self.signal(id, signal);
    }

    fn sharpen_kills(&mut self, now: Instant) {
        let mut overdue = Vec::new();
        for slot in &mut self.slots {
            if let Some(kill) = &mut slot.kill
                && !kill.killed
                && kill.deadline <= now
            {
                kill.killed = true;
                overdue.push(container_id(&self.uid, &slot.name, slot.attempt));
            }
        }
        for id in overdue {
            self.signal(id, 9);
        }
    }

    fn signal(&self, id: String, signal: i32) {
        let launcher = self.shared.launcher();
        tokio::spawn(async move {
            if let Err(error) = launcher.signal(&id, signal).await {
                tracing::warn!(%error, container = %id, "cannot signal a container");
            }
        });
    }

    fn soften_pull_errors(&mut self, now: Instant) {
        let images: BTreeMap<String, String> = self
            .pod
            .spec
            .iter()
            .flat_map(status::containers)
            .map(|(_, container)| {
                (
                    container.name.clone(),
                    container.image.clone().unwrap_or_default(),
                )
            })
            .collect();
        for slot in &mut self.slots {
            if let Some((at, error)) = &slot.pull_backoff
                && *at <= now
            {
                let image = images
                    .get(&slot.name)
                    .map(String::as_str)
                    .unwrap_or_default();
                slot.view.state = State::Waiting {
                    reason: "ImagePullBackOff".to_string(),
                    message: format!("Back-off pulling image \"{image}\": ErrImagePull: {error}"),
                };
                slot.pull_backoff = None;
            }
        }
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

    // What the API is told.

    /// Sends the status if it changed. A write may follow another that is not on disk yet, but only once the API has that
    /// one: so they never overtake each other, and the last one sent is the last one kept.
    fn publish(&mut self) {
        if self.unseen.is_some() || !self.bound || self.removed {
            return;
        }
        let views: BTreeMap<String, View> = self
            .slots
            .iter()
            .map(|slot| (slot.name.clone(), slot.view.clone()))
            .collect();
        let status = status::compute(
            &self.pod,
            &self.view,
            &views,
            self.published.as_ref(),
            Timestamp::now(),
        );
        let settled = matches!(
            status.phase.as_deref(),
            Some("Running" | "Succeeded" | "Failed")
        );
        let told = |status: &PodStatus| -> bool {
            status
                .container_statuses
                .iter()
                .chain(&status.init_container_statuses)
                .flatten()
                .any(|one| {
                    let waiting = one
                        .state
                        .as_ref()
                        .and_then(|state| state.waiting.as_ref())
                        .and_then(|waiting| waiting.reason.as_deref());
                    !matches!(
                        waiting,
                        None | Some("ContainerCreating" | "PodInitializing")
                    )
                })
        };
        if !settled
            && !told(&status)
            && self.published.is_none()
            && Instant::now() < self.write_after
        {
            return;
        }
        if self.published.as_ref() == Some(&status) {
            self.delete_object();
            return;
        }
        let uid = &self.pod.metadata.uid;
        let patch = Arc::new(json!({"metadata": {"uid": uid}, "status": status}));
        self.published = Some(status);
        self.unseen = Some(patch.clone());
        self.written += 1;
        self.unanswered += 1;
        let number = self.written;
        let (client, pod, sender) = (
            self.shared.client.clone(),
            self.pod.clone(),
            self.sender.clone(),
        );
        tokio::spawn(async move {
            let pods: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap_or_default());
            let result = pods
                .patch_status(
                    &pod.name_any(),
                    &PatchParams::default(),
                    &Patch::Merge(&*patch),
                )
                .await
                .map(drop);
            let _ = sender.send(Event::Written { number, result });
        });
    }

    fn written(&mut self, number: u64, result: Result<(), kube::Error>) {
        self.unanswered -= 1;
        let last = number == self.written;
        if last {
            self.unseen = None;
        }
        match result {
            Ok(()) => {}
            Err(kube::Error::Api(status))
                if status.code == 404 || status.code == 409 || status.code == 422 =>
            {
                // Gone, or another pod has its name now.
                self.removed = self.removed || status.code != 422;
                if status.code == 422 {
                    tracing::error!(message = %status.message, pod = %self.pod.name_any(), "the API refused a pod status");
                }
            }
            Err(error) => {
                tracing::warn!(%error, pod = %self.pod.name_any(), "cannot write a pod status");
                if !last {
                    // The one after it says it all.
                    return;
                }
                self.published = None;
                self.write_after = Instant::now() + Duration::from_millis(500);
            }
        }
    }

    /// K-286: the node has the last word on a deleted pod.
    fn delete_object(&mut self) {
        if !self.view.finished
            || self.deleted_object
            || self.pod.metadata.deletion_timestamp.is_none()
        {
            return;
        }
        self.deleted_object = true;
        delete_now(&self.shared, &self.pod);
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
        self.shared.remove(left).await;
    }
}

/// Deletes a pod's object without grace.
pub(crate) fn delete_now(shared: &Shared, pod: &Pod) {
    let (client, name, namespace, uid) = (
        shared.client.clone(),
        pod.name_any(),
        pod.namespace().unwrap_or_default(),
        pod.uid(),
    );
    tokio::spawn(async move {
        let pods: Api<Pod> = Api::namespaced(client, &namespace);
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid,
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match pods.delete(&name, &params).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
            Err(error) => tracing::warn!(%error, pod = %name, "cannot delete a terminated pod"),
        }
    });
}

/// Which ends of a container are followed by a start (K-278).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Never,
    OnFailure,
    Always,
}

impl Policy {
    fn restarts(self, code: i32) -> bool {
        match self {
            Policy::Never => false,
            Policy::OnFailure => code != 0,
            Policy::Always => true,
        }
    }
}

impl Slot {
    fn fresh(name: &str, role: Role) -> Self {
        Self {
            name: name.to_string(),
            role,
            view: View {
                role,
                state: State::not_begun(),
                last: None,
                restarts: 0,
                image_id: String::new(),
                container_id: String::new(),
                image: None,
            },
            phase: Phase::Idle,
            attempt: 0,
            record: None,
            kill: None,
            renew: false,
            backoff: Duration::ZERO,
            since: None,
            pull_backoff: None,
            probes: None,
            image: None,
        }
    }

    /// Takes over what an earlier node left of the newest instance (K-292); answers with its end, if it has ended.
    ///
    /// The exit file comes first: `alive` is what the launcher had when it was asked, and what has ended since then is
    /// told to nobody else.
    fn adopt(
        &mut self,
        shared: &Shared,
        uid: &str,
        attempt: u32,
        alive: &BTreeMap<String, i32>,
        fallback: bool,
    ) -> Option<Ended> {
        self.attempt = attempt;
        self.view.restarts = i32::try_from(attempt).unwrap_or(i32::MAX);
        let end = |attempt: u32, started: Option<Timestamp>| {
            let instance = shared.layout.instance(uid, &self.name, attempt);
            let shown = format!("tektite://{}", container_id(uid, &self.name, attempt));
            let exit = record::read_exit(&instance)?;
            Some(record::ended(&instance, &exit, started, &shown, fallback))
        };
        let started =
            |attempt: u32| Record::read(&shared.layout.instance(uid, &self.name, attempt));
        self.view.last = attempt
            .checked_sub(1)
            .and_then(|before| end(before, started(before).map(|record| record.started_at())));
        let record = started(attempt)?;
        let began = Some(record.started_at());
        let ended = end(attempt, began);
        let instance = shared.layout.instance(uid, &self.name, attempt);
        let id = container_id(uid, &self.name, attempt);
        let shown = format!("tektite://{id}");
        let runs = ended.is_none() && alive.contains_key(&id);
        if ended.is_none() && !runs && !instance.pid().exists() {
            // It was never started.
            return None;
        }
        self.view.image_id = record.image_id.clone();
        self.view.image = Some(record.image.clone());
        self.view.container_id = shown.clone();
        self.view.state = State::Running {
            since: record.started_at(),
            started: true,
            ready: true,
        };
        self.record = Some(record);
        if !runs {
            return Some(ended.unwrap_or_else(|| record::lost(began, &shown)));
        }
        if let Err(error) = shared.logs.open(&instance.log()) {
            tracing::warn!(%error, "cannot watch a container's log");
        }
        self.phase = Phase::Running;
        self.since = Some(Instant::now());
        None
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// A duration as Go prints whole seconds: `10s`, `1m20s`, `5m0s`.
fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 {
        format!("{seconds}s")
    } else {
        format!("{}m{}s", seconds / 60, seconds % 60)
    }
}
