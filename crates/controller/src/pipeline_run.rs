//! PipelineRuns as the reconcile loop sees them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tektite_api::config::Config;
use tektite_api::v1::{Condition, PipelineRun, PipelineRunStatus, TaskRun};
use tektite_api::v1beta1::CustomRun;
use tektite_engine::decision::{Answers, Decision, Refusal};
use tektite_engine::pipelinerun::{self, Observed};
use tektite_engine::trace;

use crate::effects::child;
use crate::rest::CallError;
use crate::run::Run;
use crate::store::{Name, Slot, Store};
use crate::task_run;
use crate::world::{Cached, Key, World};

/// How many PipelineRuns up the chain of owners are looked at.
const ANCESTORS: usize = 32;

impl Run for PipelineRun {
    type Seen = Observed;
    type Status = PipelineRunStatus;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }

    fn status(&self) -> &PipelineRunStatus {
        &self.status
    }

    fn status_mut(&mut self) -> &mut PipelineRunStatus {
        &mut self.status
    }

    fn conditions(status: &PipelineRunStatus) -> &[Condition] {
        &status.conditions
    }

    fn is_ours(&self) -> bool {
        pipelinerun::is_ours(self)
    }

    async fn see(&self, world: &World, key: &Key) -> Result<Observed, CallError> {
        let mut pipeline_runs = self
            .children::<PipelineRun>(world, key, "PipelineRun")
            .await?;
        pipeline_runs.extend(ancestors(world, key).await?);
        let mut task_runs = self.children::<TaskRun>(world, key, "TaskRun").await?;
        let mut unconfirmed = BTreeMap::new();
        for run in &mut task_runs {
            if let Err(error) = confirm_eviction(world, run).await? {
                unconfirmed.insert(run.metadata.name.clone().unwrap_or_default(), error);
            }
        }
        Ok(Observed {
            task_runs,
            custom_runs: self.children::<CustomRun>(world, key, "CustomRun").await?,
            pipeline_runs,
            unconfirmed,
            nop_image: world.pod_options.nop_image.clone(),
            ..Observed::default()
        })
    }

    fn answers(seen: &mut Observed) -> &mut Answers {
        &mut seen.answers
    }

    fn refusals(seen: &mut Observed) -> &mut Vec<Refusal> {
        &mut seen.refusals
    }

    fn decide(
        &self,
        seen: &Observed,
        config: &Config,
        now: Timestamp,
    ) -> Decision<PipelineRunStatus> {
        pipelinerun::reconcile(self, seen, config, now)
    }

    fn takes_place(&self) -> bool {
        pipelinerun::concurrency::waits(self)
    }

    fn count(&self, world: &World, status: &PipelineRunStatus, config: &Config) {
        world
            .options
            .metrics
            .pipeline_run_ended(self, status, config);
        if config.tracing.enabled {
            world.spans.add(
                "pipelinerun-reconciler",
                trace::pipeline_run_span(self, status),
            );
        }
        world.place_is_free();
    }

    fn rest(world: &World, key: &Key) {
        for name in members(&world.task_runs, key) {
            if let Slot::Here(run) = world.task_runs.get(&name)
                && run.is_done()
                && !task_run::has_live_pod(world, &name)
            {
                task_run::put_to_sleep(world, &name);
            }
        }
        for name in members(&world.custom_runs, key) {
            world.custom_runs.put_to_sleep(&name);
        }
        world.pipeline_runs.put_to_sleep(&key.name);
        world.definitions.drop_of(key);
    }
}

/// A TaskRun that has failed by an eviction may be tried again: what the cache says of it is confirmed (P-107). What the
/// API says instead, if it will not for good, is returned.
async fn confirm_eviction(
    world: &World,
    run: &mut Arc<TaskRun>,
) -> Result<Result<(), String>, CallError> {
    let evicted = |it: &Condition| it.status == "False" && it.reason == "PodEvicted";
    if !run.succeeded().is_some_and(evicted) {
        return Ok(Ok(()));
    }
    let metadata = &run.metadata;
    let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
    let path = TaskRun::RESOURCE.object(namespace.unwrap_or_default(), name.unwrap_or_default());
    match world.rest.get(&path).await {
        Ok(body) => {
            *run = Arc::new(serde_json::from_slice(&body).map_err(|error| {
                CallError::Unreachable(format!("the answer cannot be read: {error}"))
            })?);
            Ok(Ok(()))
        }
        Err(error) if error.is_not_found() => Ok(Ok(())),
        Err(error) if error.is_transient() => Err(error),
        Err(error) => Ok(Err(error.to_string())),
    }
}

trait Children: Sync {
    /// The children of one kind, by label or by `status.childReferences`, in the order of their names.
    async fn children<K: Cached>(
        &self,
        world: &World,
        key: &Key,
        kind: &str,
    ) -> Result<Vec<Arc<K>>, CallError>;
}

impl Children for PipelineRun {
    async fn children<K: Cached>(
        &self,
        world: &World,
        key: &Key,
        kind: &str,
    ) -> Result<Vec<Arc<K>>, CallError> {
        let uid = self.metadata.uid.as_deref().unwrap_or_default();
        let store = K::store(world);
        let recorded: BTreeSet<Name> = self
            .status
            .child_references
            .iter()
            .filter(|reference| reference.kind == kind)
            .map(|reference| child(key, &reference.name))
            .collect();
        let labelled = members(store, key).into_iter().filter(|name| {
            // An earlier run of the same name may have left children behind.
            store
                .head(name)
                .and_then(|head| head.owner.as_ref().map(|owner| owner.uid == uid))
                .unwrap_or(true)
        });
        let names: BTreeSet<Name> = labelled.chain(recorded.iter().cloned()).collect();
        let mut children = Vec::with_capacity(names.len());
        for name in names {
            let known = match world.load::<K>(&name).await? {
                // Somebody else, who led before, has made it and written it down: without it the task would count as
                // done with what is left of its children, or be begun anew.
                None if !self.is_done() && recorded.contains(&name) => {
                    world.look_up::<K>(&name).await?
                }
                known => known,
            };
            children.extend(known);
        }
        Ok(children)
    }
}

fn members<K: Cached>(store: &Store<K>, key: &Key) -> Vec<Name> {
    store.group(&key.name.namespace, &key.name.name)
}

/// The PipelineRuns up the chain of controllers (P-216).
async fn ancestors(world: &World, key: &Key) -> Result<Vec<Arc<PipelineRun>>, CallError> {
    let mut found = Vec::new();
    let mut name = key.name.clone();
    while found.len() < ANCESTORS {
        let Some(owner) = world
            .pipeline_runs
            .head(&name)
            .and_then(|head| head.owner.clone())
            .filter(|owner| owner.kind == "PipelineRun")
        else {
            break;
        };
        name = child(key, &owner.name);
        let Some(run) = world.load::<PipelineRun>(&name).await? else {
            break;
        };
        found.push(run);
    }
    Ok(found)
}
