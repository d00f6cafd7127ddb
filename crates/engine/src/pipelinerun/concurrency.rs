//! Concurrency: how many runs with one key run at once, and who goes first. Off unless a run names a key.
//!
//! What counts is only what the API holds: a run that has a start time runs, one that has none waits. Those that wait are
//! in one order, so that two of them never take the same place.

use std::cmp::Reverse;

use jiff::Timestamp;
use tektite_api::names::{label, pipeline_run_reason as reason};
use tektite_api::v1::{PipelineRun, PipelineRunSpec};

use super::condition::mark_done;
use super::params;
use super::stop::Stop;
use super::substitute;
use super::work::Work;
use crate::annotations as key;
use crate::decision::{Effect, Found, Known, Patch, Query};
use crate::substitution::Replacements;

/// The reason of a run that waits for its turn.
pub const QUEUED: &str = "Queued";
/// The reason of a run whose annotations make no sense.
pub const INVALID: &str = "InvalidConcurrency";

/// What to do when there are more runs than may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The later wait.
    Queue,
    /// The earlier are cancelled.
    CancelPrevious,
    /// The later is cancelled.
    CancelNew,
}

/// What a run says about running beside others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The key, with everything filled in.
    pub key: String,
    /// How many may run at once.
    pub limit: usize,
    /// What happens to more.
    pub policy: Policy,
    /// The higher the earlier.
    pub priority: i64,
}

/// The terms of `run`; nothing if it names no key.
///
/// # Errors
/// Which annotation is wrong, and how.
pub fn terms(run: &PipelineRun) -> Option<Result<Terms, String>> {
    let given = |name: &str| {
        run.metadata
            .annotations
            .as_ref()?
            .get(name)
            .map(|it| it.trim())
    };
    let key = given(key::CONCURRENCY_KEY).filter(|key| !key.is_empty())?;
    let number = |name: &str, default: i64, least: i64| match given(name) {
        None => Ok(default),
        Some(text) => text
            .parse()
            .ok()
            .filter(|number| *number >= least)
            .ok_or_else(|| {
                format!("annotation {name} is {text:?}, not a whole number from {least} on")
            }),
    };
    let read = || {
        let policy = match given(key::CONCURRENCY_POLICY) {
            None | Some("queue") => Policy::Queue,
            Some("cancel-previous") => Policy::CancelPrevious,
            Some("cancel-new") => Policy::CancelNew,
            Some(other) => {
                return Err(format!(
                    "annotation {} is {other:?}, not queue, cancel-previous or cancel-new",
                    key::CONCURRENCY_POLICY
                ));
            }
        };
        let limit = number(key::CONCURRENCY_LIMIT, 1, 1)?;
        Ok(Terms {
            key: filled_in(key, run)?,
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            policy,
            priority: number(key::CONCURRENCY_PRIORITY, 0, i64::MIN)?,
        })
    };
    Some(read())
}

/// Whether `run` has yet to be let in.
#[must_use]
pub fn waits(run: &PipelineRun) -> bool {
    run.status.start_time.is_none()
        && !run.is_done()
        && run.spec.status.is_empty()
        && run
            .metadata
            .annotations
            .as_ref()
            .is_some_and(|all| all.contains_key(key::CONCURRENCY_KEY))
}

/// How many tasks of `run` may run at once; nothing means any number.
///
/// # Errors
/// The annotation is no number.
pub fn parallel_tasks(run: &PipelineRun) -> Result<Option<usize>, String> {
    let given = run
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(key::MAX_PARALLEL_TASKS));
    given
        .map(|text| {
            let number = text.trim().parse().ok().filter(|number| *number > 0);
            number.ok_or_else(|| {
                format!(
                    "annotation {} is {text:?}, not a whole number from 1 on",
                    key::MAX_PARALLEL_TASKS
                )
            })
        })
        .transpose()
}

/// The key with the run's params, context and labels filled in.
fn filled_in(text: &str, run: &PipelineRun) -> Result<String, String> {
    let labels = run.metadata.labels.iter().flatten();
    let pipeline = run
        .spec
        .pipeline_ref
        .as_ref()
        .map(|it| it.name.clone())
        .filter(|it| !it.is_empty());
    let labelled = run
        .metadata
        .labels
        .as_ref()
        .and_then(|all| all.get(label::PIPELINE));
    let pipeline = pipeline.or_else(|| labelled.cloned()).unwrap_or_default();
    let mut values = params::of_run(&run.spec.params);
    values
        .strings
        .extend(substitute::contexts(&pipeline, run).strings);
    for (name, value) in labels {
        for spelled in [
            format!("labels.{name}"),
            format!("labels['{name}']"),
            format!("labels[\"{name}\"]"),
        ] {
            values.strings.insert(spelled, value.clone());
        }
    }
    let values = Replacements {
        strings: values.strings,
        ..Replacements::default()
    };
    let key = values.text(text);
    match key.find("$(").filter(|_| unknown(text, &values)) {
        Some(start) => Err(format!(
            "annotation {}: the run gives no value for {}",
            key::CONCURRENCY_KEY,
            key[start..].split_inclusive(')').next().unwrap_or_default()
        )),
        None => Ok(key),
    }
}

/// Whether `text` has a reference that nothing is known about.
fn unknown(text: &str, known: &Replacements) -> bool {
    text.split("$(")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .any(|(name, _)| !known.strings.contains_key(name))
}

/// Where a run stands among those of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// It may begin.
    Free,
    /// It must wait.
    Waits,
    /// It must wait, until these others that are to be cancelled have ended.
    After(Vec<String>),
    /// It is to end without having begun, because these others go before it.
    Yields(Vec<String>),
}

/// Where `run` stands among `others`, which may be any runs of its namespace.
#[must_use]
pub fn place<'r>(
    run: &PipelineRun,
    own: &Terms,
    others: impl IntoIterator<Item = &'r PipelineRun>,
) -> Place {
    let rivals: Vec<Rival<'_>> = others
        .into_iter()
        .filter(|other| other.metadata.uid != run.metadata.uid)
        .filter(|other| !other.is_done() && other.metadata.deletion_timestamp.is_none())
        // One that is held back, or will be cancelled before it begins, takes no place.
        .filter(|other| other.status.start_time.is_some() || other.spec.status.is_empty())
        .filter_map(|other| {
            let terms = terms(other)?.ok().filter(|terms| terms.key == own.key)?;
            Some(Rival {
                run: other,
                priority: terms.priority,
            })
        })
        .collect();
    let me = Rival {
        run,
        priority: own.priority,
    };
    let running = rivals.iter().filter(|it| it.runs()).count();
    let earlier = |it: &&Rival<'_>| it.age() < me.age();
    match own.policy {
        Policy::Queue => {
            let ahead = rivals
                .iter()
                .filter(|it| !it.runs() && it.turn() < me.turn())
                .count();
            if running + ahead < own.limit {
                Place::Free
            } else {
                Place::Waits
            }
        }
        Policy::CancelNew => {
            let before: Vec<&Rival<'_>> = rivals
                .iter()
                .filter(|it| it.runs() || earlier(it))
                .collect();
            if before.len() < own.limit {
                Place::Free
            } else {
                Place::Yields(names(&before))
            }
        }
        Policy::CancelPrevious => {
            let mut all: Vec<&Rival<'_>> = rivals.iter().filter(|it| !earlier(it)).collect();
            if all.len() >= own.limit {
                return Place::Yields(names(&all));
            }
            let mut previous: Vec<&Rival<'_>> = rivals.iter().filter(earlier).collect();
            previous.sort_by_key(|it| Reverse(it.age()));
            let kept = (own.limit - 1 - all.len()).min(previous.len());
            let too_many = previous.split_off(kept);
            all.append(&mut previous);
            let waiting = all
                .iter()
                .filter(|it| !it.runs() && it.age() < me.age())
                .count();
            if running + waiting < own.limit && too_many.is_empty() {
                Place::Free
            } else {
                Place::After(names(&too_many))
            }
        }
    }
}

/// Another run of the key.
struct Rival<'r> {
    run: &'r PipelineRun,
    priority: i64,
}

impl Rival<'_> {
    fn runs(&self) -> bool {
        self.run.status.start_time.is_some()
    }

    /// When it was made; the name decides between those of one second.
    fn age(&self) -> (Option<Timestamp>, &str) {
        let metadata = &self.run.metadata;
        (
            metadata.creation_timestamp.as_ref().map(|time| time.0),
            metadata.name.as_deref().unwrap_or_default(),
        )
    }

    fn turn(&self) -> (Reverse<i64>, (Option<Timestamp>, &str)) {
        (Reverse(self.priority), self.age())
    }
}

fn names(rivals: &[&Rival<'_>]) -> Vec<String> {
    let names = rivals.iter().filter_map(|it| it.run.metadata.name.clone());
    names.collect()
}

impl Work<'_> {
    /// Whether the run may begin; if not, it waits or has ended.
    pub(super) fn let_in(&mut self) -> Result<bool, Stop> {
        if !waits(self.stored) {
            return Ok(true);
        }
        let terms = match terms(self.stored) {
            None => return Ok(true),
            Some(Ok(terms)) => terms,
            Some(Err(error)) => {
                let message = format!(
                    "PipelineRun {:?} cannot take its place: {error}",
                    self.name()
                );
                return Err(self.fail(INVALID, &message, error));
            }
        };
        let query = Query::PipelineRuns {
            namespace: self.namespace().to_owned(),
        };
        let others = match self.inquiry.ask(query) {
            Known::Found(Found::PipelineRuns(others)) => others,
            _ => return Err(Stop::Ask),
        };
        let (key, limit) = (&terms.key, terms.limit);
        let to_cancel = match place(self.stored, &terms, others.iter().map(|it| &**it)) {
            Place::Free => return Ok(true),
            Place::Yields(others) => {
                let message = format!(
                    "PipelineRun {:?} was cancelled: no more than {limit} may run with the concurrency key {key:?}, and there \
                     is {}",
                    self.name(),
                    others.join(", ")
                );
                mark_done(
                    &mut self.run.status,
                    false,
                    reason::CANCELLED,
                    &message,
                    self.now,
                );
                return Ok(false);
            }
            Place::Waits => Vec::new(),
            Place::After(others) => others,
        };
        for name in to_cancel {
            let told = others
                .iter()
                .find(|it| it.metadata.name.as_ref() == Some(&name));
            if told.is_some_and(|it| it.spec.status == PipelineRunSpec::CANCELLED) {
                continue;
            }
            let patch =
                Patch::Merge(serde_json::json!({"spec": {"status": PipelineRunSpec::CANCELLED}}));
            let effect = Effect::PatchPipelineRun { name, patch };
            // One that has ended meanwhile cannot be changed, and need not be.
            if self.refusal(|refused| *refused == effect).is_none() {
                self.effects.push(effect);
            }
        }
        let message = format!(
            "PipelineRun {:?} waits for its turn: no more than {limit} may run with the concurrency key {key:?}",
            self.name()
        );
        self.mark_running(QUEUED, &message);
        Ok(false)
    }

    /// How many more tasks may start beside those that are `running`.
    pub(super) fn free_places(&mut self, running: usize) -> Result<usize, Stop> {
        match parallel_tasks(&self.run) {
            Ok(limit) => Ok(limit.map_or(usize::MAX, |limit| limit.saturating_sub(running))),
            Err(error) => {
                let message = format!("PipelineRun {:?} cannot start tasks: {error}", self.name());
                Err(self.fail(INVALID, &message, error))
            }
        }
    }
}
