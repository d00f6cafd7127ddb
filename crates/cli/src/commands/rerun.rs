//! `tektite rerun RUN`: a new run that goes on where an earlier one failed.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource};
use kube::api::{Api, PostParams};
use tektite_api::v1::{
    ChildStatusReference, Condition, Pipeline, PipelineRun, PipelineRunStatus, TaskRun,
};
use tektite_api::v1beta1::CustomRun;
use tektite_engine::annotations::{PREFIX, RERUN_FROM, RERUN_OF, RERUN_OF_UID};
use tektite_engine::pipelinerun::rerun::{self, Plan};

use crate::arguments::Rerun;
use crate::connect::{Connection, api_failure, connect};
use crate::exit::{Exit, Failure, Outcome};
use crate::objects;
use crate::terminal::print;
use crate::view::RootKind;

/// What kubectl writes for itself.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// What stands between the name of a run and what the API adds for its rerun.
const SUFFIX: &str = "-rerun-";
/// Longest beginning of a generated name that leaves room for the rest.
const LONGEST: usize = 40;

/// Creates the rerun, unless there is a reason not to.
pub async fn run(arguments: Rerun) -> Outcome {
    let connection = connect(&arguments.target).await?;
    let root = objects::find_run(&connection, &arguments.run).await?;
    if root.kind != RootKind::PipelineRun {
        return Err(Failure::new(
            Exit::Refused,
            format!(
                "{} is a TaskRun, which has no tasks to go on from",
                root.name
            ),
        )
        .hint("only PipelineRuns can be rerun; start the TaskRun anew"));
    }
    let runs = objects::api::<PipelineRun>(&connection);
    let earlier = runs
        .get(&root.name)
        .await
        .map_err(|error| api_failure("cannot read the run", error))?;
    let claims = claims(&connection, &earlier).await?;
    let new = again(&earlier, &arguments.from, &claims);
    let plan = plan(&connection, &new, &earlier).await?;
    let created = runs
        .create(&PostParams::default(), &new)
        .await
        .map_err(|error| api_failure("cannot create the rerun", error))?;
    let list = |names: Vec<&str>| match names.is_empty() {
        true => "nothing".to_owned(),
        false => names.join(", "),
    };
    print(&format!(
        "pipelinerun/{} takes over {} from {} and runs {}\n",
        created.metadata.name.unwrap_or_default(),
        list(plan.tasks().into_iter().collect()),
        root.name,
        list(plan.to_run.iter().map(String::as_str).collect()),
    ));
    Ok(Exit::Success)
}

/// The claims that `earlier` made of templates and that are still there.
async fn claims(
    connection: &Connection,
    earlier: &PipelineRun,
) -> Result<BTreeSet<String>, Failure> {
    let claims =
        Api::<PersistentVolumeClaim>::namespaced(connection.client.clone(), &connection.namespace);
    let mut found = BTreeSet::new();
    for binding in &earlier.spec.workspaces {
        let name = rerun::claim_of(earlier, binding);
        if binding.volume_claim_template.is_some() {
            let claim = claims.get_metadata_opt(&name).await;
            if claim
                .map_err(|error| api_failure("cannot look for the run's claims", error))?
                .is_some()
            {
                found.insert(name);
            }
        }
    }
    Ok(found)
}

/// The rerun of `earlier`: the same run again, which names the earlier one and uses those of its `claims` that are there.
fn again(earlier: &PipelineRun, from: &[String], claims: &BTreeSet<String>) -> PipelineRun {
    let name = earlier.metadata.name.clone().unwrap_or_default();
    let base = name.split(SUFFIX).next().unwrap_or(&name);
    let mut new = earlier.clone();
    new.status = PipelineRunStatus::default();
    new.spec.status = String::new();
    for binding in &mut new.spec.workspaces {
        let claim_name = rerun::claim_of(earlier, binding);
        if binding.volume_claim_template.is_some() && claims.contains(&claim_name) {
            binding.persistent_volume_claim = Some(PersistentVolumeClaimVolumeSource {
                claim_name,
                read_only: None,
            });
            binding.volume_claim_template = None;
        }
    }
    let kept =
        |key: &String| key != LAST_APPLIED && (!key.starts_with(PREFIX) || !key.contains("rerun"));
    let annotations = earlier.metadata.annotations.iter().flatten();
    let mut annotations: BTreeMap<String, String> = annotations
        .filter(|(key, _)| kept(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    annotations.insert(RERUN_OF.to_owned(), name.clone());
    annotations.extend(
        earlier
            .metadata
            .uid
            .clone()
            .map(|uid| (RERUN_OF_UID.to_owned(), uid)),
    );
    if !from.is_empty() {
        annotations.insert(RERUN_FROM.to_owned(), from.join(","));
    }
    new.metadata = kube::api::ObjectMeta {
        generate_name: Some(format!("{}{SUFFIX}", base.get(..LONGEST).unwrap_or(base))),
        namespace: earlier.metadata.namespace.clone(),
        labels: earlier.metadata.labels.clone(),
        annotations: Some(annotations),
        ..Default::default()
    };
    new
}

/// What the rerun would take over, decided as the controller will decide it.
async fn plan(
    connection: &Connection,
    new: &PipelineRun,
    earlier: &PipelineRun,
) -> Result<Plan, Failure> {
    let failed = |error| api_failure("cannot read what the run is made of", error);
    let name = earlier.metadata.name.clone().unwrap_or_default();
    let (pipeline, called) = match (&new.spec.pipeline_ref, &new.spec.pipeline_spec) {
        (Some(reference), _) if !reference.name.is_empty() && reference.resolver.is_empty() => {
            let pipeline = objects::api::<Pipeline>(connection)
                .get(&reference.name)
                .await;
            (pipeline.map_err(failed)?.spec, reference.name.clone())
        }
        (None, Some(spec)) => (spec.clone(), name.clone()),
        // What a resolver brings is compared by the controller.
        _ => (
            earlier.status.pipeline_spec.clone().unwrap_or_default(),
            name.clone(),
        ),
    };
    let mut conditions: BTreeMap<String, Vec<Condition>> = BTreeMap::new();
    for child in &earlier.status.child_references {
        let found = match child.kind.as_str() {
            "CustomRun" => objects::api::<CustomRun>(connection)
                .get_opt(&child.name)
                .await
                .map(|run| run.map(|run| run.status.conditions)),
            "PipelineRun" => objects::api::<PipelineRun>(connection)
                .get_opt(&child.name)
                .await
                .map(|run| run.map(|run| run.status.conditions)),
            _ => objects::api::<TaskRun>(connection)
                .get_opt(&child.name)
                .await
                .map(|run| run.map(|run| run.status.conditions)),
        };
        if let Some(found) = found.map_err(failed)? {
            conditions.insert(child.name.clone(), found);
        }
    }
    let of = |child: &ChildStatusReference| conditions.get(&child.name).map(Vec::as_slice);
    rerun::plan(new, earlier, &pipeline, &called, of)
        .map_err(|error| Failure::new(Exit::Refused, format!("{name} cannot be rerun: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_rerun_is_the_same_run_again_on_the_same_files() {
        let earlier: PipelineRun = serde_json::from_value(json!({
            "metadata": {"name": "build-rerun-x1", "namespace": "ns", "uid": "u", "labels": {"l": "1"}, "annotations": {
                LAST_APPLIED: "{}", "mine": "2", RERUN_OF: "build", RERUN_OF_UID: "t", RERUN_FROM: "a"}},
            "spec": {"pipelineRef": {"name": "p"}, "status": "StoppedRunFinally", "params": [{"name": "x", "value": "1"}],
                "workspaces": [{"name": "w", "volumeClaimTemplate": {"spec": {}}, "subPath": "s"},
                    {"name": "gone", "volumeClaimTemplate": {"spec": {}}}, {"name": "e", "emptyDir": {}}]},
            "status": {"startTime": "2026-01-01T00:00:00Z"}
        }))
        .expect("a run");
        let claim = rerun::claim_of(&earlier, &earlier.spec.workspaces[0]);
        let from = ["b".to_owned(), "c".to_owned()];
        let new = again(&earlier, &from, &[claim.clone()].into());
        assert_eq!(new.metadata.generate_name.as_deref(), Some("build-rerun-"));
        assert_eq!((new.metadata.name, new.metadata.uid), (None, None));
        let annotations = json!(new.metadata.annotations);
        assert_eq!(
            annotations,
            json!({"mine": "2", RERUN_OF: "build-rerun-x1", RERUN_OF_UID: "u", RERUN_FROM: "b,c"})
        );
        assert_eq!(
            json!(new.spec.workspaces[0]),
            json!({"name": "w", "persistentVolumeClaim": {"claimName": claim}, "subPath": "s"})
        );
        assert_eq!(new.spec.workspaces[1..], earlier.spec.workspaces[1..]);
        assert!(new.spec.status.is_empty());
        assert_eq!(new.status, PipelineRunStatus::default());
    }
}
