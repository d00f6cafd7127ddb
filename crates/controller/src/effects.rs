//! Doing what the engine decided: each effect is one request, and doing it twice is doing it once.

use bytes::Bytes;
use futures::future::join_all;
use serde::Serialize;
use serde_json::Value;
use tektite_api::v1::{PipelineRun, TaskRun};
use tektite_api::v1beta1::CustomRun;
use tektite_engine::decision::{Effect, Patch, Refusal};

use crate::rest::{CallError, PatchType, Resource};
use crate::store::{Head, Name};
use crate::world::{Cached, Key, World};
use k8s_openapi::api::core::v1::Pod;

/// Why an effect did not come about.
#[derive(Debug)]
pub(crate) enum EffectError {
    /// The API refuses it; the engine must decide again.
    Refused(Box<Refusal>),
    /// It may work later.
    Later(CallError),
}

/// Applies `effects` in order and stops at the first that fails; children of a run that follow each other are created side
/// by side, as nothing of one depends on another. Says whether that changed anything of which no watch will tell;
/// deletions are left to the watch, as an object may take its time to go.
pub(crate) async fn apply(
    world: &World,
    key: &Key,
    run_uid: &str,
    effects: Vec<Effect>,
) -> Result<bool, EffectError> {
    let mut changed = false;
    for batch in effects.chunk_by(|one, next| is_child(one) && is_child(next)) {
        let applied = batch
            .iter()
            .map(|effect| apply_one(world, key, run_uid, effect));
        for (effect, applied) in batch.iter().zip(join_all(applied).await) {
            changed |= applied.map_err(|error| failed(effect, error))?;
        }
    }
    Ok(changed)
}

/// Whether the effect creates what a run consists of.
fn is_child(effect: &Effect) -> bool {
    matches!(
        effect,
        Effect::CreateTaskRun(_) | Effect::CreateCustomRun(_) | Effect::CreatePipelineRun(_)
    )
}

fn failed(effect: &Effect, error: CallError) -> EffectError {
    match error {
        CallError::Refused(refused) if !CallError::Refused(refused.clone()).is_transient() => {
            EffectError::Refused(Box::new(Refusal {
                effect: effect.clone(),
                code: refused.code,
                reason: refused.reason,
                message: refused.message,
                kind: refused.kind,
            }))
        }
        error => EffectError::Later(error),
    }
}

async fn apply_one(
    world: &World,
    key: &Key,
    run_uid: &str,
    effect: &Effect,
) -> Result<bool, CallError> {
    let by = Actor {
        world,
        key,
        run_uid,
    };
    match effect {
        Effect::CreatePod(pod) => {
            let name = pod.metadata.name.as_deref();
            patiently(world, || {
                by.create::<Pod>(&**pod, name, OthersObject::Refuse)
            })
            .await
        }
        Effect::DeletePod { name } => by.delete(Resource::PODS, name).await,
        Effect::PatchPod { name, patch } => by.patch::<Pod>(name, patch).await,
        Effect::CreatePvc(claim) => by.create_uncached(Resource::PVCS, &**claim).await,
        Effect::PatchPvc { name, patch } => by
            .patch_uncached(Resource::PVCS, name, patch)
            .await
            .map(|_| false),
        Effect::DeletePvc { name } => by.delete(Resource::PVCS, name).await,
        Effect::CreateTaskRun(run) => {
            let name = run.metadata.name.as_deref();
            let create = async || {
                by.create::<TaskRun>(&**run, name, OthersObject::Accept)
                    .await
            };
            patiently(world, create).await
        }
        Effect::PatchTaskRun { name, patch } => by.patch::<TaskRun>(name, patch).await,
        Effect::DeleteTaskRun { name } => by.delete(Resource::TASK_RUNS, name).await,
        Effect::CreateCustomRun(run) => {
            let name = run.metadata.name.as_deref();
            let create = async || {
                by.create::<CustomRun>(&**run, name, OthersObject::Accept)
                    .await
            };
            patiently(world, create).await
        }
        Effect::PatchCustomRun { name, patch } => by.patch::<CustomRun>(name, patch).await,
        Effect::CreatePipelineRun(run) => {
            by.create::<PipelineRun>(&**run, run.metadata.name.as_deref(), OthersObject::Accept)
                .await
        }
        Effect::PatchPipelineRun { name, patch } => by.patch::<PipelineRun>(name, patch).await,
        Effect::CreateStatefulSet(set) => by.create_uncached(Resource::STATEFUL_SETS, &**set).await,
        Effect::DeleteStatefulSet { name } => by.delete(Resource::STATEFUL_SETS, name).await,
    }
}

/// Creates, again and later each time while admission is too slow to answer and the configuration wants it (T-224, P-377).
async fn patiently<F: Future<Output = Result<bool, CallError>>>(
    world: &World,
    create: impl Fn() -> F,
) -> Result<bool, CallError> {
    let config = world.options.config.current();
    let mut waits = config.wait_exponential_backoff.waits();
    loop {
        let error = match create().await {
            Err(error) if config.feature_flags.enable_wait_exponential_backoff => error,
            result => return result,
        };
        if !error.is_webhook_timeout() {
            return Err(error);
        }
        let Some(wait) = waits.next() else {
            return Err(CallError::Unreachable(
                "timed out waiting for the condition".into(),
            ));
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = world.stop.cancelled() => return Err(error),
        }
    }
}

/// What to do about an object of the wanted name that another owner controls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OthersObject {
    /// It is not ours: the create is refused.
    Refuse,
    /// It counts as the child (P-265).
    Accept,
}

struct Actor<'a> {
    world: &'a World,
    key: &'a Key,
    run_uid: &'a str,
}

impl Actor<'_> {
    fn namespace(&self) -> &str {
        &self.key.name.namespace
    }

    async fn create<K: Cached>(
        &self,
        object: &impl Serialize,
        name: Option<&str>,
        others: OthersObject,
    ) -> Result<bool, CallError> {
        let path = K::RESOURCE.collection(Some(self.namespace()));
        match self.world.rest.post(&path, encode(object)?).await {
            Ok(created) => self.world.written::<K>(created, self.key),
            Err(exists) if exists.is_already_exists() => {
                let path = K::RESOURCE.object(self.namespace(), name.unwrap_or_default());
                let existing = self.world.rest.get(&path).await?;
                if others == OthersObject::Refuse && !self.controls(&existing) {
                    return Err(exists);
                }
                self.world.written::<K>(existing, self.key)
            }
            Err(error) => Err(error),
        }
    }

    fn controls(&self, object: &Bytes) -> bool {
        Head::read(object, "")
            .is_ok_and(|head| head.owner.is_some_and(|owner| owner.uid == self.run_uid))
    }

    async fn create_uncached(
        &self,
        resource: Resource,
        object: &impl Serialize,
    ) -> Result<bool, CallError> {
        let path = resource.collection(Some(self.namespace()));
        match self.world.rest.post(&path, encode(object)?).await {
            Ok(_) => Ok(true),
            Err(exists) if exists.is_already_exists() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn patch<K: Cached>(&self, name: &str, patch: &Patch) -> Result<bool, CallError> {
        match self.patch_uncached(K::RESOURCE, name, patch).await? {
            Some(patched) => self.world.written::<K>(patched, self.key),
            None => Ok(false),
        }
    }

    async fn patch_uncached(
        &self,
        resource: Resource,
        name: &str,
        patch: &Patch,
    ) -> Result<Option<Bytes>, CallError> {
        let path = resource.object(self.namespace(), name);
        let (kind, body) = match patch {
            Patch::Json(operations) => (PatchType::Json, encode(operations)?),
            Patch::Merge(value) => (PatchType::Merge, encode(value)?),
        };
        match self.world.rest.patch(&path, kind, body).await {
            Ok(patched) => Ok(Some(patched)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, resource: Resource, name: &str) -> Result<bool, CallError> {
        match self
            .world
            .rest
            .delete(&resource.object(self.namespace(), name))
            .await
        {
            Ok(_) => Ok(false),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Serialises an object; a typed one without `apiVersion` and `kind` is refused by no known server, but ours all have it.
pub(crate) fn encode(object: &impl Serialize) -> Result<Vec<u8>, CallError> {
    serde_json::to_vec(object)
        .map_err(|error| CallError::Unreachable(format!("cannot encode: {error}")))
}

/// A child's name in the run's namespace.
pub(crate) fn child(key: &Key, name: &str) -> Name {
    Name::new(key.name.namespace.clone(), name)
}

/// The value that a merge patch of labels and annotations has, or none if all are there already.
pub(crate) fn metadata_patch(
    metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    labels: &std::collections::BTreeMap<String, String>,
    annotations: &std::collections::BTreeMap<String, String>,
) -> Option<Value> {
    let mut patch = serde_json::Map::new();
    for (field, have, want) in [
        ("labels", &metadata.labels, labels),
        ("annotations", &metadata.annotations, annotations),
    ] {
        let missing: serde_json::Map<String, Value> = want
            .iter()
            .filter(|(key, value)| have.as_ref().and_then(|have| have.get(*key)) != Some(value))
            .map(|(key, value)| (key.clone(), Value::String(value.clone())))
            .collect();
        if !missing.is_empty() {
            patch.insert(field.into(), missing.into());
        }
    }
    (!patch.is_empty()).then(|| serde_json::json!({ "metadata": patch }))
}
