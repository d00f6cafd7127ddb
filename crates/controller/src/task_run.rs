//! TaskRuns as the reconcile loop sees them.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tektite_api::config::Config;
use tektite_api::v1::{Condition, TaskRun, TaskRunStatus};
use tektite_engine::decision::{Answers, Decision, Refusal};
use tektite_engine::taskrun::{self, Observed};
use tektite_engine::trace;

use crate::effects::child;
use crate::rest::CallError;
use crate::run::Run;
use crate::store::{Name, Slot};
use crate::world::{Key, Kind, World};

impl Run for TaskRun {
    type Seen = Observed;
    type Status = TaskRunStatus;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }

    fn status(&self) -> &TaskRunStatus {
        &self.status
    }

    fn status_mut(&mut self) -> &mut TaskRunStatus {
        &mut self.status
    }

    fn conditions(status: &TaskRunStatus) -> &[Condition] {
        &status.conditions
    }

    fn is_ours(&self) -> bool {
        taskrun::is_ours(self)
    }

    async fn see(&self, world: &World, key: &Key) -> Result<Observed, CallError> {
        let mut names = world.pods.group(&key.name.namespace, &key.name.name);
        let named = &self.status.pod_name;
        if !named.is_empty() && !names.iter().any(|name| *name.name == **named) {
            names.push(child(key, named));
        }
        let mut pods: Vec<Arc<Pod>> = Vec::with_capacity(names.len());
        for name in names {
            pods.extend(world.load::<Pod>(&name).await?);
        }
        Ok(Observed {
            pods,
            pod_options: Arc::clone(&world.pod_options),
            ..Observed::default()
        })
    }

    fn answers(seen: &mut Observed) -> &mut Answers {
        &mut seen.answers
    }

    fn refusals(seen: &mut Observed) -> &mut Vec<Refusal> {
        &mut seen.refusals
    }

    fn decide(&self, seen: &Observed, config: &Config, now: Timestamp) -> Decision<TaskRunStatus> {
        taskrun::reconcile(self, seen, config, now)
    }

    fn count_seen(&self, world: &World, seen: &Observed, config: &Config) {
        let named = |pod: &&Arc<Pod>| pod.metadata.name.as_deref() == Some(&self.status.pod_name);
        if let Some(pod) = seen.pods.iter().find(named) {
            world.options.metrics.pod_seen(self, pod, config);
        }
    }

    fn count(&self, world: &World, status: &TaskRunStatus, config: &Config) {
        world.options.metrics.task_run_ended(self, status, config);
        if config.tracing.enabled {
            world
                .spans
                .add("taskrun-reconciler", trace::task_run_spans(self, status));
        }
    }

    fn rest(world: &World, key: &Key) {
        // A PipelineRun under way still reads its TaskRuns, and sidecars may outlive the steps.
        if owner_is_awake(world, key) || has_live_pod(world, &key.name) {
            return;
        }
        put_to_sleep(world, &key.name);
    }
}

/// Puts a TaskRun and its pods to sleep.
pub(crate) fn put_to_sleep(world: &World, name: &Name) {
    for pod in world.pods.group(&name.namespace, &name.name) {
        world.pods.put_to_sleep(&pod);
    }
    world.task_runs.put_to_sleep(name);
}

/// Whether a pod of the TaskRun has not ended.
pub(crate) fn has_live_pod(world: &World, name: &Name) -> bool {
    world
        .pods
        .group(&name.namespace, &name.name)
        .iter()
        .any(|pod| match world.pods.get(pod) {
            Slot::Here(pod) => {
                let phase = pod
                    .status
                    .as_ref()
                    .and_then(|status| status.phase.as_deref());
                !matches!(phase, Some("Succeeded" | "Failed"))
            }
            Slot::Asleep | Slot::Absent => false,
        })
}

fn owner_is_awake(world: &World, key: &Key) -> bool {
    let Some(head) = world.task_runs.head(&key.name) else {
        return false;
    };
    let Some(owner) = head
        .owner
        .as_ref()
        .filter(|owner| owner.kind == "PipelineRun")
    else {
        return false;
    };
    debug_assert_eq!(key.kind, Kind::TaskRun);
    let owner = Name::new(Arc::clone(&key.name.namespace), Arc::clone(&owner.name));
    matches!(world.pipeline_runs.get(&owner), Slot::Here(_))
}
