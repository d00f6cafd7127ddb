//! One reconcile of a run: see, ask the engine, answer, do, write down.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::{Value, json};
use tektite_api::config::Config;
use tektite_api::v1::Condition;
use tektite_engine::decision::{Answers, Decision, Event, Refusal};

use crate::answers;
use crate::effects::{self, EffectError, encode, metadata_patch};
use crate::events::{Involved, Reporter};
use crate::rest::{CallError, PatchType};
use crate::store::{Head, Slot};
use crate::world::{Cached, Key, World};

/// How often one reconcile may ask the engine. Each round must add an answer or a refusal, so only a fault gets there.
const ROUNDS: usize = 64;

/// A kind of run that the engine keeps going.
pub(crate) trait Run: Cached + Clone {
    /// What the engine wants to see.
    type Seen: Send;
    /// What the engine writes.
    type Status: Clone + PartialEq + Serialize + Send + Sync;

    fn metadata(&self) -> &ObjectMeta;
    fn metadata_mut(&mut self) -> &mut ObjectMeta;
    fn status(&self) -> &Self::Status;
    fn status_mut(&mut self) -> &mut Self::Status;
    fn conditions(status: &Self::Status) -> &[Condition];
    /// Whether another controller looks after it (T-146, P-396).
    fn is_ours(&self) -> bool;

    /// Gathers what the caches hold around the run.
    fn see(
        &self,
        world: &World,
        key: &Key,
    ) -> impl Future<Output = Result<Self::Seen, CallError>> + Send;
    fn answers(seen: &mut Self::Seen) -> &mut Answers;
    fn refusals(seen: &mut Self::Seen) -> &mut Vec<Refusal>;
    fn decide(&self, seen: &Self::Seen, config: &Config, now: Timestamp) -> Decision<Self::Status>;
    /// Counts what is to be seen of a run under way.
    fn count_seen(&self, _world: &World, _seen: &Self::Seen, _config: &Config) {}
    /// Counts a run that has just ended.
    fn count(&self, world: &World, status: &Self::Status, config: &Config);
    /// Whether the run, as it stands, takes its place among others by what it decides: then one decides at a time.
    fn takes_place(&self) -> bool {
        false
    }
    /// Puts the run and what belongs to it to sleep, unless something of it still goes on: it is over.
    fn rest(world: &World, key: &Key);

    /// Takes over a new status and further labels and annotations; says whether that changed anything.
    fn advance(
        &mut self,
        status: Self::Status,
        labels: &BTreeMap<String, String>,
        annotations: &BTreeMap<String, String>,
    ) -> bool {
        let mut moved = *self.status() != status;
        *self.status_mut() = status;
        let metadata = self.metadata_mut();
        for (field, more) in [
            (&mut metadata.labels, labels),
            (&mut metadata.annotations, annotations),
        ] {
            for (key, value) in more {
                let before = field
                    .get_or_insert_default()
                    .insert(key.clone(), value.clone());
                moved |= before.as_ref() != Some(value);
            }
        }
        moved
    }
}

/// What is to happen to the key after a reconcile.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// It is not known whether what was done settles it.
    pub(crate) again: bool,
    /// Look again then.
    pub(crate) wake: Option<Duration>,
}

/// Why a reconcile is to be repeated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("refused again: {}", .0.message)]
    Refused(Box<Refusal>),
}

impl ReconcileError {
    /// Whether it is only this process' view that was out of date.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, ReconcileError::Call(call) if call.is_conflict())
    }
}

/// Reconciles the run that `key` names.
pub(crate) async fn reconcile<R: Run>(world: &World, key: &Key) -> Result<Outcome, ReconcileError> {
    let run = match R::store(world).get(&key.name) {
        Slot::Here(run) => run,
        Slot::Asleep => {
            // What changed belongs to a run that is over.
            R::rest(world, key);
            return Ok(Outcome::default());
        }
        Slot::Absent => {
            world.definitions.drop_of(key);
            return Ok(Outcome::default());
        }
    };
    // What is being deleted is left alone: there are no finalizers (P-398).
    if !run.is_ours() || run.metadata().deletion_timestamp.is_some() {
        return Ok(Outcome::default());
    }
    let config = world.options.config.current();
    let _alone = if run.takes_place() {
        // Before it is decided, so that no end is missed.
        world.wait_for_place(key.clone());
        Some(world.places.lock().await)
    } else {
        None
    };
    let now = Timestamp::now();
    let plan = match decide_and_act(world, key, &*run, &config, now).await {
        Ok(plan) => plan,
        Err(error) => {
            tell_error(world, key, &*run, &error);
            return Err(error);
        }
    };
    let mut outcome = Outcome {
        again: !plan.settled,
        wake: plan
            .wake
            .map(|at| at.duration_since(now).try_into().unwrap_or(Duration::ZERO)),
    };
    let unlabelled = match write(world, key, &*run, &plan).await {
        Ok(unlabelled) => unlabelled,
        // Deleted meanwhile.
        Err(error) if error.is_not_found() => return Ok(Outcome::default()),
        Err(error) => return Err(error.into()),
    };
    let ended = has_ended(R::conditions(plan.run.status()));
    if ended && !has_ended(R::conditions(run.status())) {
        run.count(world, plan.run.status(), &config);
    }
    let involved = involved(&*run, key);
    for event in plan.events {
        world.events.record(&involved, event);
    }
    if let Some(error) = unlabelled {
        let error = error.into();
        tell_error(world, key, &*run, &error);
        return Err(error);
    }
    if ended && !outcome.again && outcome.wake.is_none() {
        R::rest(world, key);
    }
    // A wake in the past or present would be a busy loop.
    outcome.wake = outcome.wake.map(|delay| delay.max(SHORTEST_WAKE));
    Ok(outcome)
}

/// Records that a reconcile failed (T-400, P-381), unless only this process' view was out of date; an API that cannot be
/// reached takes no event either.
fn tell_error<R: Run>(world: &World, key: &Key, run: &R, error: &ReconcileError) {
    let unreachable = matches!(error, ReconcileError::Call(CallError::Unreachable(_)));
    if !unreachable && !error.is_conflict() {
        let event = Event::warning("InternalError", error.to_string());
        world.events.record(&involved(run, key), event);
    }
}

/// The shortest time between a decision and the next that it asks for itself.
const SHORTEST_WAKE: Duration = Duration::from_millis(1);

fn has_ended(conditions: &[Condition]) -> bool {
    Condition::succeeded(conditions).is_some_and(Condition::is_done)
}

fn involved<R: Run>(run: &R, key: &Key) -> Involved {
    let metadata = run.metadata();
    Involved {
        reporter: Reporter::reconciling(key.kind),
        namespace: key.name.namespace.to_string(),
        name: key.name.name.to_string(),
        uid: metadata.uid.clone().unwrap_or_default(),
        resource_version: metadata.resource_version.clone().unwrap_or_default(),
    }
}

/// What became of a run in one reconcile, before it is written down.
struct Plan<R> {
    /// The run as it is to be.
    run: R,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    events: Vec<Event>,
    wake: Option<Timestamp>,
    /// Whether the engine, shown the outcome, wants nothing more.
    settled: bool,
}

/// Asks the engine, does what it wants and shows it the outcome, until it wants nothing more. So a run that moves on
/// by several steps is written once, and what is written needs no further look.
async fn decide_and_act<R: Run>(
    world: &World,
    key: &Key,
    run: &R,
    config: &Config,
    now: Timestamp,
) -> Result<Plan<R>, ReconcileError> {
    let uid = run.metadata().uid.clone().unwrap_or_default();
    let mut plan = Plan {
        run: run.clone(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        events: Vec::new(),
        wake: None,
        settled: false,
    };
    let mut seen = plan.run.see(world, key).await?;
    for _ in 0..ROUNDS {
        let decision = plan.run.decide(&seen, config, now);
        if !decision.needs.is_empty() {
            let found = answers::answer_all(world, key, &uid, decision.needs).await?;
            R::answers(&mut seen).extend(found);
            continue;
        }
        let changed = match effects::apply(world, key, &uid, decision.effects).await {
            Ok(changed) => changed,
            Err(EffectError::Later(error)) => return Err(error.into()),
            Err(EffectError::Refused(refusal)) => {
                // Told once, the engine wants it none the less: perhaps it works later.
                if R::refusals(&mut seen)
                    .iter()
                    .any(|known| known.effect == refusal.effect)
                {
                    return Err(ReconcileError::Refused(refusal));
                }
                // What was done before the refusal counts from now on; what was answered still holds.
                seen = look_again(&plan.run, world, key, seen).await?;
                R::refusals(&mut seen).push(*refusal);
                continue;
            }
        };
        plan.events.extend(decision.events);
        plan.wake = decision.wake;
        let moved = plan
            .run
            .advance(decision.status, &decision.labels, &decision.annotations);
        plan.labels.extend(decision.labels);
        plan.annotations.extend(decision.annotations);
        if !changed && !moved {
            plan.settled = true;
            if !has_ended(R::conditions(run.status())) {
                plan.run.count_seen(world, &seen, config);
            }
            return Ok(plan);
        }
        // A status that has changed may name children that were not seen before.
        seen = look_again(&plan.run, world, key, seen).await?;
    }
    tracing::warn!(kind = ?key.kind, run = %key.name, "the engine does not settle");
    Ok(plan)
}

async fn look_again<R: Run>(
    run: &R,
    world: &World,
    key: &Key,
    mut before: R::Seen,
) -> Result<R::Seen, CallError> {
    let mut seen = run.see(world, key).await?;
    R::answers(&mut seen).append(R::answers(&mut before));
    R::refusals(&mut seen).append(R::refusals(&mut before));
    Ok(seen)
}

/// Writes what the plan changes: metadata first, then the status. Labels that the API refuses do not hold up the
/// status (T-151, T-152); the refusal is returned.
async fn write<R: Run>(
    world: &World,
    key: &Key,
    run: &R,
    plan: &Plan<R>,
) -> Result<Option<CallError>, CallError> {
    let tell = |reason: &str, message: String| {
        let event = Event::warning(reason, message);
        world.events.record(&involved(run, key), event);
    };
    let passes =
        |error: &CallError| error.is_conflict() || error.is_transient() || error.is_not_found();
    let (version, unlabelled) = match write_metadata(world, key, run, plan).await {
        Ok(version) => (version, None),
        Err(error) if passes(&error) => return Err(error),
        Err(error) => {
            tell("Error", error.to_string());
            (None, Some(error))
        }
    };
    if plan.run.status() != run.status()
        && let Err(error) = write_status(world, key, run, plan.run.status(), version).await
    {
        if !passes(&error) {
            let name = &*key.name.name;
            tell(
                "UpdateFailed",
                format!("Failed to update status for {name:?}: {error}"),
            );
        }
        return Err(error);
    }
    Ok(unlabelled)
}

/// Adds the plan's labels and annotations; the run's new version, if that took a write.
async fn write_metadata<R: Run>(
    world: &World,
    key: &Key,
    run: &R,
    plan: &Plan<R>,
) -> Result<Option<String>, CallError> {
    let Some(patch) = metadata_patch(run.metadata(), &plan.labels, &plan.annotations) else {
        return Ok(None);
    };
    let path = R::RESOURCE.object(&key.name.namespace, &key.name.name);
    let written = world
        .rest
        .patch(&path, PatchType::Merge, encode(&patch)?)
        .await?;
    let head = Head::read(&written, "")
        .map_err(|error| CallError::Unreachable(format!("the answer cannot be read: {error}")))?;
    world.written::<R>(written, key)?;
    Ok(Some(head.version.to_string()))
}

/// Writes what differs in the status, unless the run has changed since it was read.
async fn write_status<R: Run>(
    world: &World,
    key: &Key,
    run: &R,
    status: &R::Status,
    version: Option<String>,
) -> Result<(), CallError> {
    let encode_status = |status: &R::Status| -> Result<Value, CallError> {
        serde_json::to_value(status)
            .map_err(|error| CallError::Unreachable(format!("cannot encode: {error}")))
    };
    let (old, new) = (encode_status(run.status())?, encode_status(status)?);
    let Some(patch) = crate::status_patch::merge_patch(&old, &new) else {
        return Ok(());
    };
    let version = version.or_else(|| run.metadata().resource_version.clone());
    let body = json!({"metadata": {"resourceVersion": version}, "status": patch});
    let path = R::RESOURCE.status(&key.name.namespace, &key.name.name);
    let written = world
        .rest
        .patch(&path, PatchType::Merge, encode(&body)?)
        .await?;
    world.written::<R>(written, key)?;
    Ok(())
}
