//! Labels and values of the metrics about runs.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use tektite_api::config::Metrics as Levels;
use tektite_api::names::{label, pipeline_run_reason, task_run_reason};
use tektite_api::v1::{Condition, PipelineRun, TaskRun};

use super::exposition::{Labels, Page};
use super::{PIPELINE_TASK_RUN_DURATION, TASK_RUN_DURATION};
use crate::world::World;

const ANONYMOUS: &str = "anonymous";

/// Seconds from start to completion; zero for what never started.
pub(super) fn seconds(start: Option<&Time>, end: Option<&Time>) -> f64 {
    let Some(start) = start else { return 0.0 };
    let end = end.map_or_else(jiff::Timestamp::now, |end| end.0);
    end.duration_since(start.0).as_secs_f64()
}

/// `success`, `failed` or `cancelled`.
pub(super) fn task_run_outcome(condition: &Condition) -> &'static str {
    outcome(condition, task_run_reason::CANCELLED)
}

/// `success`, `failed` or `cancelled` (P-388).
pub(super) fn pipeline_run_outcome(condition: &Condition) -> &'static str {
    outcome(condition, pipeline_run_reason::CANCELLED)
}

fn outcome(condition: &Condition, cancelled: &str) -> &'static str {
    match condition.status.as_str() {
        "False" if condition.reason == cancelled => "cancelled",
        "False" => "failed",
        _ => "success",
    }
}

fn label_of<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(key).map(String::as_str)
}

fn common(metadata: &ObjectMeta, condition: &Condition, outcome: &str, levels: &Levels) -> Labels {
    let mut labels = vec![
        ("namespace", metadata.namespace.clone().unwrap_or_default()),
        ("status", outcome.to_owned()),
    ];
    if levels.count_with_reason {
        labels.push(("reason", condition.reason.clone()));
    }
    labels
}

/// The metric a TaskRun's duration counts to, and its labels (T-409, T-410).
pub(super) fn task_run_labels(
    run: &TaskRun,
    condition: &Condition,
    outcome: &str,
    levels: &Levels,
) -> (&'static str, Labels) {
    let mut labels = common(&run.metadata, condition, outcome, levels);
    let name = run.metadata.name.clone().unwrap_or_default();
    match levels.taskrun_level.as_str() {
        "taskrun" => labels.extend([("task", task_name(run).to_owned()), ("taskrun", name)]),
        "namespace" => {}
        _ => labels.push(("task", task_name(run).to_owned())),
    }
    let (Some(pipeline), Some(pipeline_run)) = (
        label_of(&run.metadata, label::PIPELINE),
        label_of(&run.metadata, label::PIPELINE_RUN),
    ) else {
        return (TASK_RUN_DURATION, labels);
    };
    let pipeline = if pipeline == pipeline_run {
        ANONYMOUS
    } else {
        pipeline
    };
    match levels.pipelinerun_level.as_str() {
        "pipelinerun" => labels.extend([
            ("pipeline", pipeline.to_owned()),
            ("pipelinerun", pipeline_run.to_owned()),
        ]),
        "namespace" => {}
        _ => labels.push(("pipeline", pipeline.to_owned())),
    }
    (PIPELINE_TASK_RUN_DURATION, labels)
}

/// The labels of a pod's latency (T-416).
pub(super) fn pod_labels(run: &TaskRun, levels: &Levels) -> Labels {
    let mut labels = vec![(
        "namespace",
        run.metadata.namespace.clone().unwrap_or_default(),
    )];
    match levels.taskrun_level.as_str() {
        "taskrun" => labels.extend([
            ("task", task_name(run).to_owned()),
            ("taskrun", run.metadata.name.clone().unwrap_or_default()),
        ]),
        "namespace" => {}
        _ => labels.push(("task", task_name(run).to_owned())),
    }
    labels
}

/// Milliseconds from a pod's creation to its getting a node.
pub(super) fn scheduling_millis(pod: &Pod) -> Option<f64> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let scheduled = conditions
        .iter()
        .find(|condition| condition.type_ == "PodScheduled")?;
    let at = scheduled.last_transition_time.as_ref()?.0;
    let created = pod.metadata.creation_timestamp.as_ref()?.0;
    Some(at.duration_since(created).as_millis_f64().trunc())
}

/// Whether the pod runs and every container that is no step is ready.
pub(super) fn sidecars_are_ready(pod: &Pod) -> bool {
    let Some(status) = &pod.status else {
        return false;
    };
    status.phase.as_deref() == Some("Running")
        && status
            .container_statuses
            .iter()
            .flatten()
            .filter(|container| !container.name.starts_with("step-"))
            .all(|container| {
                container.ready
                    && container
                        .state
                        .as_ref()
                        .is_some_and(|state| state.running.is_some())
            })
}

/// The task a TaskRun runs, for people (T-411).
fn task_name(run: &TaskRun) -> &str {
    match (&run.spec.task_ref, &run.spec.task_spec) {
        (Some(reference), _) if !reference.name.is_empty() => &reference.name,
        (_, Some(_)) => label_of(&run.metadata, label::PIPELINE_TASK).unwrap_or(ANONYMOUS),
        (_, None) => label_of(&run.metadata, label::TASK).unwrap_or(ANONYMOUS),
    }
}

/// The labels of a PipelineRun's duration (P-387).
pub(super) fn pipeline_run_labels(
    run: &PipelineRun,
    condition: &Condition,
    outcome: &str,
    levels: &Levels,
) -> Labels {
    let mut labels = common(&run.metadata, condition, outcome, levels);
    let name = run.metadata.name.clone().unwrap_or_default();
    match levels.pipelinerun_level.as_str() {
        "pipelinerun" => labels.extend([
            ("pipeline", pipeline_name(run).to_owned()),
            ("pipelinerun", name),
        ]),
        "namespace" => {}
        _ => labels.push(("pipeline", pipeline_name(run).to_owned())),
    }
    labels
}

/// The pipeline a PipelineRun runs, for people (P-390).
fn pipeline_name(run: &PipelineRun) -> &str {
    if let Some(reference) = run
        .spec
        .pipeline_ref
        .as_ref()
        .filter(|reference| !reference.name.is_empty())
    {
        return &reference.name;
    }
    let generated = run
        .metadata
        .generate_name
        .as_deref()
        .is_some_and(|name| !name.is_empty());
    if run.spec.pipeline_spec.is_some() && !generated {
        return ANONYMOUS;
    }
    label_of(&run.metadata, label::PIPELINE)
        .filter(|name| !name.is_empty())
        .unwrap_or(ANONYMOUS)
}

/// The gauges of runs under way (T-413 to T-415, P-389).
pub(super) fn write_gauges(world: &World, page: &mut Page) {
    let config = world.options.config.current();
    let levels = &config.metrics;
    let mut running = 0.0;
    let mut resolving = 0.0;
    let mut by_quota: BTreeMap<Labels, f64> = BTreeMap::new();
    let mut by_node: BTreeMap<Labels, f64> = BTreeMap::new();
    world.task_runs.for_each(|run| {
        let Some(condition) = run
            .succeeded()
            .filter(|condition| condition.status == "Unknown")
        else {
            return;
        };
        running += 1.0;
        let labels = || match levels.throttle_with_namespace {
            true => vec![(
                "namespace",
                run.metadata.namespace.clone().unwrap_or_default(),
            )],
            false => vec![],
        };
        match condition.reason.as_str() {
            task_run_reason::RESOLVING_TASK_REF => resolving += 1.0,
            "ExceededResourceQuota" => *by_quota.entry(labels()).or_default() += 1.0,
            "ExceededNodeResources" => *by_node.entry(labels()).or_default() += 1.0,
            _ => {}
        }
    });
    let total = |value: f64| [(Labels::new(), value)];
    page.gauge(
        "tekton_pipelines_controller_running_taskruns",
        "Number of taskruns executing currently",
        total(running),
    );
    page.gauge(
        "tekton_pipelines_controller_running_taskruns_waiting_on_task_resolution_count",
        "Number of taskruns executing currently that are waiting on resolution requests for their task references.",
        total(resolving),
    );
    page.gauge(
        "tekton_pipelines_controller_running_taskruns_throttled_by_quota",
        "Number of taskruns executing currently whose pods are held back by a ResourceQuota.",
        by_quota,
    );
    page.gauge(
        "tekton_pipelines_controller_running_taskruns_throttled_by_node",
        "Number of taskruns executing currently whose pods fit on no node.",
        by_node,
    );
    write_pipeline_run_gauges(world, levels, page);
}

fn write_pipeline_run_gauges(world: &World, levels: &Levels, page: &mut Page) {
    let mut running: BTreeMap<Labels, f64> = BTreeMap::new();
    let mut resolving_pipeline = 0.0;
    let mut resolving_task = 0.0;
    world.pipeline_runs.for_each(|run| {
        let Some(condition) = run
            .succeeded()
            .filter(|condition| condition.status == "Unknown")
        else {
            return;
        };
        match condition.reason.as_str() {
            pipeline_run_reason::RESOLVING_PIPELINE_REF => resolving_pipeline += 1.0,
            task_run_reason::RESOLVING_TASK_REF => resolving_task += 1.0,
            _ => {}
        }
        let namespace = (
            "namespace",
            run.metadata.namespace.clone().unwrap_or_default(),
        );
        let pipeline = ("pipeline", pipeline_name(run).to_owned());
        let name = ("pipelinerun", run.metadata.name.clone().unwrap_or_default());
        let labels = match levels.running_pipelinerun_level.as_str() {
            "pipelinerun" => vec![name, pipeline, namespace],
            "pipeline" => vec![pipeline, namespace],
            "namespace" => vec![namespace],
            _ => vec![],
        };
        *running.entry(labels).or_default() += 1.0;
    });
    let all = running.values().fold(0.0, |sum, count| sum + count);
    running.entry(Labels::new()).or_insert(all);
    page.gauge(
        "tekton_pipelines_controller_running_pipelineruns",
        "Number of pipelineruns executing currently",
        running,
    );
    let total = |value: f64| [(Labels::new(), value)];
    page.gauge(
        "tekton_pipelines_controller_running_pipelineruns_waiting_on_pipeline_resolution",
        "Number of pipelineruns executing currently that are waiting on resolution requests for their pipeline references.",
        total(resolving_pipeline),
    );
    page.gauge(
        "tekton_pipelines_controller_running_pipelineruns_waiting_on_task_resolution",
        "Number of pipelineruns executing currently that are waiting on resolution requests for the task references of their taskrun children.",
        total(resolving_task),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn condition(status: &str, reason: &str) -> Condition {
        Condition {
            type_: "Succeeded".into(),
            status: status.into(),
            reason: reason.into(),
            ..Condition::default()
        }
    }

    fn task_run(metadata: Value, spec: Value) -> TaskRun {
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    // T-411
    #[test]
    fn the_task_label_is_the_references_name_or_the_pipeline_task_or_anonymous() {
        let both = json!({"tekton.dev/pipelineTask": "pt", "tekton.dev/task": "t"});
        for (labels, spec, name) in [
            (both.clone(), json!({"taskRef": {"name": "ref"}}), "ref"),
            (both.clone(), json!({"taskSpec": {"steps": []}}), "pt"),
            (json!({}), json!({"taskSpec": {"steps": []}}), "anonymous"),
            (both, json!({"taskRef": {"resolver": "git"}}), "t"),
            (
                json!({}),
                json!({"taskRef": {"resolver": "git"}}),
                "anonymous",
            ),
        ] {
            assert_eq!(
                task_name(&task_run(json!({"labels": labels}), spec.clone())),
                name,
                "{spec}"
            );
        }
    }

    // T-409, T-410
    #[test]
    fn a_pipelines_task_run_counts_apart_and_labels_follow_the_levels() {
        let labels = json!({"tekton.dev/pipeline": "p", "tekton.dev/pipelineRun": "p"});
        let part = task_run(
            json!({"name": "r", "namespace": "ns", "labels": labels}),
            json!({"taskRef": {"name": "t"}}),
        );
        let alone = task_run(
            json!({"name": "r", "namespace": "ns"}),
            json!({"taskRef": {"name": "t"}}),
        );
        let levels = |taskrun: &str, pipelinerun: &str, reason| Levels {
            taskrun_level: taskrun.into(),
            pipelinerun_level: pipelinerun.into(),
            count_with_reason: reason,
            ..Levels::default()
        };
        let text = |labels: Labels| {
            labels
                .iter()
                .map(|(k, v)| format!("{k}={v}"))
                .collect::<Vec<_>>()
                .join(",")
        };
        for (run, levels, name, expected) in [
            (
                &alone,
                levels("task", "pipeline", false),
                TASK_RUN_DURATION,
                "namespace=ns,status=failed,task=t",
            ),
            (
                &alone,
                levels("taskrun", "pipeline", true),
                TASK_RUN_DURATION,
                "namespace=ns,status=failed,reason=Failed,task=t,taskrun=r",
            ),
            (
                &alone,
                levels("namespace", "pipeline", false),
                TASK_RUN_DURATION,
                "namespace=ns,status=failed",
            ),
            (
                &part,
                levels("task", "pipeline", false),
                PIPELINE_TASK_RUN_DURATION,
                "namespace=ns,status=failed,task=t,pipeline=anonymous",
            ),
            (
                &part,
                levels("namespace", "pipelinerun", false),
                PIPELINE_TASK_RUN_DURATION,
                "namespace=ns,status=failed,pipeline=anonymous,pipelinerun=p",
            ),
        ] {
            let (found, labels) =
                task_run_labels(run, &condition("False", "Failed"), "failed", &levels);
            assert_eq!((found, text(labels).as_str()), (name, expected));
        }
    }

    // P-388, T-410
    #[test]
    fn only_the_reason_of_a_cancellation_counts_as_cancelled() {
        for (status, reason, task, pipeline) in [
            ("True", "Succeeded", "success", "success"),
            ("False", "TaskRunCancelled", "cancelled", "failed"),
            ("False", "Cancelled", "failed", "cancelled"),
            ("False", "TaskRunTimeout", "failed", "failed"),
        ] {
            let condition = condition(status, reason);
            assert_eq!(
                (
                    task_run_outcome(&condition),
                    pipeline_run_outcome(&condition)
                ),
                (task, pipeline)
            );
        }
    }

    // T-416
    #[test]
    fn a_pods_latency_counts_once_it_has_a_node_and_ready_sidecars() {
        let pod = |phase: &str, scheduled: Value, ready: bool| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
                "status": {"phase": phase, "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": scheduled}],
                    "containerStatuses": [
                        {"name": "step-a", "ready": false, "restartCount": 0, "image": "", "imageID": ""},
                        {"name": "sidecar-b", "ready": ready, "restartCount": 0, "image": "", "imageID": "",
                            "state": {"running": {}}},
                    ]},
            }))
            .unwrap()
        };
        for (pod, ready, millis) in [
            (
                pod("Running", json!("2026-01-01T00:00:02Z"), true),
                true,
                Some(2000.0),
            ),
            (
                pod("Running", json!("2026-01-01T00:00:02Z"), false),
                false,
                Some(2000.0),
            ),
            (
                pod("Pending", json!("2026-01-01T00:00:02Z"), true),
                false,
                Some(2000.0),
            ),
            (pod("Running", Value::Null, true), true, None),
        ] {
            assert_eq!(
                (sidecars_are_ready(&pod), scheduling_millis(&pod)),
                (ready, millis)
            );
        }
    }

    /// P-387
    #[test]
    fn labels_of_a_pipeline_runs_duration_follow_the_level() {
        let run: PipelineRun = serde_json::from_value(
            json!({"metadata": {"name": "r", "namespace": "ns"}, "spec": {"pipelineRef": {"name": "p"}}}),
        )
        .unwrap();
        for (level, reason, expected) in [
            ("pipeline", false, "namespace=ns,status=failed,pipeline=p"),
            (
                "pipelinerun",
                true,
                "namespace=ns,status=failed,reason=Failed,pipeline=p,pipelinerun=r",
            ),
            ("namespace", false, "namespace=ns,status=failed"),
        ] {
            let levels = Levels {
                pipelinerun_level: level.into(),
                count_with_reason: reason,
                ..Levels::default()
            };
            let labels =
                pipeline_run_labels(&run, &condition("False", "Failed"), "failed", &levels);
            let texts: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            assert_eq!(texts.join(","), expected);
        }
    }

    // P-390
    #[test]
    fn the_pipeline_label_of_an_inline_pipeline_needs_a_generated_name() {
        for (metadata, spec, name) in [
            (json!({}), json!({"pipelineRef": {"name": "p"}}), "p"),
            (
                json!({"labels": {"tekton.dev/pipeline": "l"}}),
                json!({"pipelineSpec": {}}),
                "anonymous",
            ),
            (
                json!({"generateName": "g-", "labels": {"tekton.dev/pipeline": "l"}}),
                json!({"pipelineSpec": {}}),
                "l",
            ),
            (
                json!({"labels": {"tekton.dev/pipeline": "l"}}),
                json!({"pipelineRef": {"resolver": "git"}}),
                "l",
            ),
        ] {
            let run: PipelineRun =
                serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap();
            assert_eq!(pipeline_name(&run), name);
        }
    }
}
