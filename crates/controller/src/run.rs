//! One reconcile of a run: see, ask the engine, answer, do, write down.

use std::future::Future;
use std::sync::Arc;
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
use crate::events::Involved;
use crate::rest::{CallError, PatchType};
use crate::world::{Cached, Key, World};

/// How often one reconcile may ask the engine. Each round must add an answer or a refusal, so only a fault gets there.
const ROUNDS: usize = 64;

/// A kind of run that the engine keeps going.
pub(crate) trait Run: Cached {
    /// What the engine wants to see.
    type Seen: Send;
    /// What the engine writes.
    type Status: Clone + PartialEq + Serialize + Send + Sync;

    fn metadata(&self) -> &ObjectMeta;
    fn status(&self) -> &Self::Status;
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
    /// Counts a run that has just ended.
    fn count(&self, world: &World, status: &Self::Status, config: &Config);
    /// Puts the run and what belongs to it to sleep: it is over and nothing is left to do.
    fn rest(&self, world: &World, key: &Key);
}

/// What is to happen to the key after a reconcile.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Something was written: look again whether that settles it.
    pub(crate) wrote: bool,
    /// Look again then.
    pub(crate) wake: Option<Duration>,
}

/// Why a reconcile is to be repeated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the engine asks without end")]
    Endless,
}

impl ReconcileError {
    /// Whether it is only this process' view that was out of date.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, ReconcileError::Call(call) if call.is_conflict())
    }
}

/// Reconciles the run that `key` names.
pub(crate) async fn reconcile<R: Run>(world: &World, key: &Key) -> Result<Outcome, ReconcileError> {
    let crate::store::Slot::Here(run) = R::store(world).get(&key.name) else {
        return Ok(Outcome::default());
    };
    // What is being deleted is left alone: there are no finalizers (P-398).
    if !run.is_ours() || run.metadata().deletion_timestamp.is_some() {
        return Ok(Outcome::default());
    }
    let config = world.options.config.current();
    let now = Timestamp::now();
    let involved = involved(&*run, key);
    let (decision, acted) = decide_and_act(world, key, &run, &config, now).await?;

    let mut outcome = Outcome {
        wrote: acted,
        wake: None,
    };
    let labelled = write_metadata(world, key, &*run, &decision).await;
    let version = match labelled {
        Ok(version) => version,
        Err(error) if error.is_not_found() => return Ok(outcome),
        Err(error) => {
            if !error.is_conflict() && !error.is_transient() {
                world
                    .events
                    .record(&involved, Event::warning("Error", error.to_string()));
            }
            return Err(error.into());
        }
    };
    outcome.wrote |= version.is_some();
    let settled = decision.status == *run.status();
    if !settled {
        match write_status(world, key, &*run, &decision.status, version).await {
            Ok(wrote) => outcome.wrote |= wrote,
            Err(error) if error.is_not_found() => return Ok(outcome),
            Err(error) => {
                if !error.is_conflict() && !error.is_transient() {
                    let message =
                        format!("Failed to update status for {:?}: {error}", &*key.name.name);
                    world
                        .events
                        .record(&involved, Event::warning("UpdateFailed", message));
                }
                return Err(error.into());
            }
        }
    }
    for event in decision.events {
        world.events.record(&involved, event);
    }
    if !settled
        && has_ended(R::conditions(&decision.status))
        && !has_ended(R::conditions(run.status()))
    {
        run.count(world, &decision.status, &config);
    }
    outcome.wake = decision
        .wake
        .map(|at| at.duration_since(now).try_into().unwrap_or(Duration::ZERO));
    if !outcome.wrote && outcome.wake.is_none() && has_ended(R::conditions(run.status())) {
        run.rest(world, key);
    }
    Ok(outcome)
}

fn has_ended(conditions: &[Condition]) -> bool {
    Condition::succeeded(conditions).is_some_and(Condition::is_done)
}

fn involved<R: Run>(run: &R, key: &Key) -> Involved {
    let metadata = run.metadata();
    Involved {
        kind: key.kind,
        namespace: key.name.namespace.to_string(),
        name: key.name.name.to_string(),
        uid: metadata.uid.clone().unwrap_or_default(),
        resource_version: metadata.resource_version.clone().unwrap_or_default(),
    }
}

/// Asks the engine until it knows enough and the API agrees; says too whether anything was done.
async fn decide_and_act<R: Run>(
    world: &World,
    key: &Key,
    run: &Arc<R>,
    config: &Config,
    now: Timestamp,
) -> Result<(Decision<R::Status>, bool), ReconcileError> {
    let mut seen = run.see(world, key).await?;
    let mut acted = false;
    for _ in 0..ROUNDS {
        let mut decision = run.decide(&seen, config, now);
        if !decision.needs.is_empty() {
            let needs = std::mem::take(&mut decision.needs);
            let uid = run.metadata().uid.as_deref().unwrap_or_default();
            let found = answers::answer_all(world, key, uid, needs).await?;
            R::answers(&mut seen).extend(found);
            continue;
        }
        let effects = std::mem::take(&mut decision.effects);
        if effects.is_empty() {
            return Ok((decision, acted));
        }
        let uid = run.metadata().uid.as_deref().unwrap_or_default();
        match effects::apply(world, key, uid, effects).await {
            Ok(changed) => return Ok((decision, acted || changed)),
            Err(EffectError::Later(error)) => return Err(error.into()),
            Err(EffectError::Refused(refusal)) => {
                // What was done before the refusal counts from now on; what was answered still holds.
                acted = true;
                let mut fresh = run.see(world, key).await?;
                R::answers(&mut fresh).append(R::answers(&mut seen));
                R::refusals(&mut fresh).append(R::refusals(&mut seen));
                R::refusals(&mut fresh).push(*refusal);
                seen = fresh;
            }
        }
    }
    Err(ReconcileError::Endless)
}

/// Adds the decision's labels and annotations; the run's new version, if that took a write.
async fn write_metadata<R: Run>(
    world: &World,
    key: &Key,
    run: &R,
    decision: &Decision<R::Status>,
) -> Result<Option<String>, CallError> {
    let Some(patch) = metadata_patch(run.metadata(), &decision.labels, &decision.annotations)
    else {
        return Ok(None);
    };
    let path = R::RESOURCE.object(&key.name.namespace, &key.name.name);
    let written = world
        .rest
        .patch(&path, PatchType::Merge, encode(&patch)?)
        .await?;
    world.written::<R>(written, key)?;
    Ok(R::store(world)
        .head(&key.name)
        .map(|head| head.version.to_string()))
}

/// Writes what differs in the status, unless the run has changed since it was read.
async fn write_status<R: Run>(
    world: &World,
    key: &Key,
    run: &R,
    status: &R::Status,
    version: Option<String>,
) -> Result<bool, CallError> {
    let encode_status = |status: &R::Status| -> Result<Value, CallError> {
        serde_json::to_value(status)
            .map_err(|error| CallError::Unreachable(format!("cannot encode: {error}")))
    };
    let (old, new) = (encode_status(run.status())?, encode_status(status)?);
    let Some(patch) = crate::status_patch::merge_patch(&old, &new) else {
        return Ok(false);
    };
    let version = version.or_else(|| run.metadata().resource_version.clone());
    let body = json!({"metadata": {"resourceVersion": version}, "status": patch});
    let path = R::RESOURCE.status(&key.name.namespace, &key.name.name);
    let written = world
        .rest
        .patch(&path, PatchType::Merge, encode(&body)?)
        .await?;
    world.written::<R>(written, key)?;
    Ok(true)
}
