//! Finding what the engine asks for: from caches, by GET, from resolvers and registries.

use std::sync::Arc;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{LimitRange, ServiceAccount};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tektite_api::v1::TaskRun;
use tektite_engine::annotations::CACHE_KEY;
use tektite_engine::decision::{Answer, Answers, Failure, FailureKind, Found, ImageRef, Query};

use crate::pull_secrets::PullSecrets;
use crate::remote;
use crate::rest::{CallError, Resource};
use crate::store::{Name, Slot};
use crate::world::{Cached, Key, World};

/// Answers all of `needs` at once. What may be had later is an error, and the reconcile is repeated (T-162).
pub(crate) async fn answer_all(
    world: &World,
    key: &Key,
    run_uid: &str,
    needs: Vec<Query>,
) -> Result<Answers, CallError> {
    let found = try_join_all(needs.into_iter().map(|query| async move {
        let answer = match world.definitions.get(key, &query) {
            Some(known) => known,
            None => {
                let answer = answer(world, key, run_uid, &query).await?;
                world.definitions.keep(key, &query, &answer);
                answer
            }
        };
        Ok::<_, CallError>((query, answer))
    }))
    .await?;
    Ok(found.into_iter().collect())
}

async fn answer(
    world: &World,
    key: &Key,
    run_uid: &str,
    query: &Query,
) -> Result<Answer, CallError> {
    match query {
        Query::Task { namespace, name } => {
            get(world, Resource::TASKS, namespace, name, Found::Task).await
        }
        Query::Pipeline { namespace, name } => {
            get(world, Resource::PIPELINES, namespace, name, Found::Pipeline).await
        }
        Query::PipelineRun { namespace, name } => {
            known(world, namespace, name, Found::PipelineRun).await
        }
        Query::TaskRun { namespace, name } => known(world, namespace, name, Found::TaskRun).await,
        Query::Cached { namespace, key } => cached_task_run(world, namespace, key).await,
        Query::CustomRun { namespace, name } => {
            known(world, namespace, name, Found::CustomRun).await
        }
        // Those that have ended sleep.
        Query::PipelineRuns { namespace } => Ok(Answer::Found(Found::PipelineRuns(Arc::new(
            world.pipeline_runs.of_namespace(namespace),
        )))),
        Query::StepAction { namespace, name } => {
            get(
                world,
                Resource::STEP_ACTIONS,
                namespace,
                name,
                Found::StepAction,
            )
            .await
        }
        Query::Secret { namespace, name } => {
            get(world, Resource::SECRETS, namespace, name, Found::Secret).await
        }
        Query::ConfigMap { namespace, name } => {
            get(
                world,
                Resource::CONFIG_MAPS,
                namespace,
                name,
                Found::ConfigMap,
            )
            .await
        }
        Query::Pvc { namespace, name } => {
            get(world, Resource::PVCS, namespace, name, Found::Pvc).await
        }
        Query::ServiceAccount { namespace, name } => match cached_account(world, namespace, name) {
            Some(account) => Ok(Answer::Found(Found::ServiceAccount(account))),
            None => {
                get(
                    world,
                    Resource::SERVICE_ACCOUNTS,
                    namespace,
                    name,
                    Found::ServiceAccount,
                )
                .await
            }
        },
        Query::LimitRanges { namespace } => Ok(Answer::Found(Found::LimitRanges(Arc::new(
            limit_ranges(world, namespace),
        )))),
        Query::ImageConfig(image) => Ok(image_commands(world, image).await),
        Query::Log {
            namespace,
            pod,
            container,
        } => log(world, namespace, pod, container).await,
        Query::Remote(reference) => remote::answer(world, key, run_uid, reference).await,
    }
}

/// A run that the caches know of.
async fn known<K: Cached>(
    world: &World,
    namespace: &str,
    name: &str,
    found: impl FnOnce(Arc<K>) -> Found,
) -> Result<Answer, CallError> {
    let object = world.load::<K>(&Name::new(namespace, name)).await?;
    Ok(match object {
        Some(object) => Answer::Found(found(object)),
        None => Answer::Missing {
            message: format!("{} {name:?} not found", K::RESOURCE.plural),
        },
    })
}

/// The youngest TaskRun that has succeeded with this key: asked of the API, as those that have ended sleep here.
async fn cached_task_run(world: &World, namespace: &str, key: &str) -> Result<Answer, CallError> {
    #[derive(Deserialize)]
    struct List {
        items: Vec<TaskRun>,
    }
    let path = format!(
        "{}?labelSelector={}%3D{key}",
        Resource::TASK_RUNS.collection(Some(namespace)),
        CACHE_KEY.replace('/', "%2F")
    );
    let body = world.rest.get(&path).await?;
    let list: List = serde_json::from_slice(&body)
        .map_err(|error| CallError::Unreachable(format!("the list cannot be read: {error}")))?;
    let usable = list.items.into_iter().filter(|run| {
        run.metadata.deletion_timestamp.is_none()
            && run.succeeded().is_some_and(|it| it.status == "True")
    });
    let youngest = usable.max_by_key(|run| {
        let created = run.metadata.creation_timestamp.as_ref();
        created.map(|time| time.0)
    });
    Ok(match youngest {
        Some(run) => Answer::Found(Found::TaskRun(Arc::new(run))),
        None => Answer::Missing {
            message: format!("no TaskRun with the key {key} has succeeded"),
        },
    })
}

async fn get<T: DeserializeOwned>(
    world: &World,
    resource: Resource,
    namespace: &str,
    name: &str,
    found: impl FnOnce(Arc<T>) -> Found,
) -> Result<Answer, CallError> {
    match world.rest.get(&resource.object(namespace, name)).await {
        Ok(body) => Ok(match serde_json::from_slice(&body) {
            Ok(object) => Answer::Found(found(Arc::new(object))),
            Err(error) => failed(format!(
                "{} {name:?} cannot be read: {error}",
                resource.plural
            )),
        }),
        Err(CallError::Refused(refused)) if refused.code == 404 => Ok(Answer::Missing {
            message: refused.message,
        }),
        Err(error) if error.is_transient() => Err(error),
        Err(error) => Ok(failed(error.to_string())),
    }
}

fn failed(message: String) -> Answer {
    Answer::Failed(Failure {
        kind: FailureKind::Resolution,
        message,
    })
}

fn cached_account(world: &World, namespace: &str, name: &str) -> Option<Arc<ServiceAccount>> {
    match world.service_accounts.get(&Name::new(namespace, name)) {
        Slot::Here(account) => Some(account),
        _ => None,
    }
}

fn limit_ranges(world: &World, namespace: &str) -> Vec<LimitRange> {
    let mut found = world.limit_ranges.of_namespace(namespace);
    found.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    found.into_iter().map(|range| (*range).clone()).collect()
}

async fn image_commands(world: &World, image: &ImageRef) -> Answer {
    let logins = PullSecrets { world, image };
    let found = world.options.image_configs.look_up(image, &logins).await;
    match found {
        Ok(commands) => Answer::Found(Found::Image(Arc::new(commands))),
        Err(error) => failed(error.to_string()),
    }
}

async fn log(
    world: &World,
    namespace: &str,
    pod: &str,
    container: &str,
) -> Result<Answer, CallError> {
    let path = format!(
        "{}/log?container={container}",
        Resource::PODS.object(namespace, pod)
    );
    match world.rest.get(&path).await {
        Ok(body) => Ok(Answer::Found(Found::Log(
            String::from_utf8_lossy(&body).into(),
        ))),
        Err(CallError::Refused(refused)) if refused.code == 404 => Ok(Answer::Missing {
            message: refused.message,
        }),
        Err(error) if error.is_transient() => Err(error),
        Err(error) => Ok(failed(error.to_string())),
    }
}
