//! One container of a pod: what it does at present, and what an earlier node left of it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::images::ResolvedImage;
use crate::pod::record::{self, Record};
use crate::shared::{Shared, container_id};
use crate::status::{Ended, Role, State, View};

/// What a container does at present.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Phase {
    Idle,
    Starting,
    Running,
    /// To be tried or started again.
    Waiting(Instant),
    Done,
}

/// A container on its way to its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kill {
    pub(super) deadline: Instant,
    pub(super) killed: bool,
}

pub(super) struct Slot {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) view: View,
    pub(super) phase: Phase,
    pub(super) attempt: u32,
    pub(super) record: Option<Record>,
    pub(super) kill: Option<Kill>,
    /// Start again whatever the policy says: its image changed (K-277).
    pub(super) renew: bool,
    pub(super) backoff: Duration,
    pub(super) since: Option<Instant>,
    /// `ErrImagePull` becomes `ImagePullBackOff` at this time, with this message.
    pub(super) pull_backoff: Option<(Instant, String)>,
    pub(super) probes: Option<crate::pod::probe::Handle>,
    pub(super) image: Option<ResolvedImage>,
}

/// Which ends of a container are followed by a start (K-278).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    Never,
    OnFailure,
    Always,
}

impl Policy {
    pub(super) fn restarts(self, code: i32) -> bool {
        match self {
            Policy::Never => false,
            Policy::OnFailure => code != 0,
            Policy::Always => true,
        }
    }
}

impl Slot {
    pub(super) fn fresh(name: &str, role: Role) -> Self {
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
    pub(super) fn adopt(
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
