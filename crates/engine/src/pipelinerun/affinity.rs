//! Claims made of templates, and the affinity assistant: a pod that keeps the pods of a run near their volume.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{
    Affinity, Container, PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, PodAffinityTerm,
    PodAntiAffinity, PodSpec, PodTemplateSpec, ResourceRequirements, Volume, VolumeMount,
    WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde_json::json;
use tektite_api::config::Config;
use tektite_api::names::{label, pipeline_run_reason as reason};
use tektite_api::v1::WorkspaceBinding;

use super::children::owner;
use super::stop::Stop;
use super::work::Work;
use super::{names, pod_template};
use crate::decision::{Effect, Found, Known, Patch, Query};
use crate::taskrun::pod::security_context;

const COMPONENT: &str = "affinity-assistant";
const PROTECTION: &str = "kubernetes.io/pvc-protection";

/// What `coschedule` says (P-245).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coschedule {
    /// An assistant per workspace with a claim.
    Workspaces,
    /// One per run.
    Run,
    /// One per run, and one run per node.
    IsolatedRun,
    /// None.
    Disabled,
}

impl Coschedule {
    pub(super) fn of(config: &Config) -> Self {
        match config.feature_flags.coschedule.as_str() {
            "pipelineruns" => Self::Run,
            "isolate-pipelinerun" => Self::IsolatedRun,
            "disabled" => Self::Disabled,
            _ => Self::Workspaces,
        }
    }

    fn per_run(self) -> bool {
        matches!(self, Self::Run | Self::IsolatedRun)
    }
}

/// The assistant that a child with a claim from `workspace` is to stay near (P-253).
pub(super) fn annotation(work: &Work<'_>, workspace: Option<&str>) -> Option<String> {
    match Coschedule::of(work.config) {
        Coschedule::Workspaces => {
            workspace.map(|workspace| names::assistant(workspace, work.name()))
        }
        Coschedule::Run | Coschedule::IsolatedRun => Some(names::assistant("", work.name())),
        Coschedule::Disabled => None,
    }
}

/// Makes the claims and assistants that the run needs, before its first child (P-241).
pub(super) fn provide(work: &mut Work<'_>) -> Result<(), Stop> {
    let mode = Coschedule::of(work.config);
    let workspaces = work.run.spec.workspaces.clone();
    if mode.per_run() {
        let mut templates = Vec::new();
        for binding in workspaces
            .iter()
            .filter(|binding| binding.volume_claim_template.is_some())
        {
            let mut template = binding.volume_claim_template.clone().unwrap_or_default();
            template.metadata.name = Some(names::volume(&names::claim(binding, work.uid())));
            templates.push(template);
        }
        let claims = workspaces
            .iter()
            .filter_map(own_claim)
            .map(str::to_owned)
            .collect();
        return assistant(work, &names::assistant("", work.name()), templates, claims);
    }
    if mode == Coschedule::Workspaces {
        // Of several workspaces with one claim only the last has an assistant (P-245).
        let mut last: BTreeMap<&str, &str> = BTreeMap::new();
        for binding in &workspaces {
            if let Some(claim) = own_claim(binding) {
                last.insert(claim, &binding.name);
            }
        }
        for (claim, workspace) in last {
            assistant(
                work,
                &names::assistant(workspace, work.name()),
                Vec::new(),
                vec![claim.to_owned()],
            )?;
        }
    }
    for binding in workspaces
        .iter()
        .filter(|binding| binding.volume_claim_template.is_some())
    {
        let name = names::claim(binding, work.uid());
        claim(work, binding, &name)?;
        if mode == Coschedule::Workspaces {
            assistant(
                work,
                &names::assistant(&binding.name, work.name()),
                Vec::new(),
                vec![name],
            )?;
        }
    }
    Ok(())
}

fn own_claim(binding: &WorkspaceBinding) -> Option<&str> {
    binding
        .persistent_volume_claim
        .as_ref()
        .map(|claim| claim.claim_name.as_str())
}

/// P-240, P-242
fn claim(work: &mut Work<'_>, binding: &WorkspaceBinding, name: &str) -> Result<(), Stop> {
    let mut claim = binding.volume_claim_template.clone().unwrap_or_default();
    claim.metadata.name = Some(name.to_owned());
    claim
        .metadata
        .namespace
        .clone_from(&work.run.metadata.namespace);
    claim.metadata.owner_references = Some(vec![owner(&work.run)]);
    let is_it = |effect: &Effect| match effect {
        Effect::CreatePvc(claim) => claim.metadata.name.as_deref() == Some(name),
        _ => false,
    };
    let Some(refusal) = work.refusal(is_it).cloned() else {
        work.effects.push(Effect::CreatePvc(Box::new(claim)));
        return Ok(());
    };
    let may_pass =
        refusal.code == 409 || (refusal.code == 403 && refusal.message.contains("exceeded quota"));
    if may_pass {
        let error = format!(
            "PVC creation error, retryable for {name}: {}",
            refusal.message
        );
        work.mark_running(
            reason::PENDING,
            &format!("Waiting for PVC creation to succeed: {error}"),
        );
        return Err(Stop::Retry(error));
    }
    let error = format!("PVC creation error for {name}: {}", refusal.message);
    let message = format!(
        "Failed to create PVC for PipelineRun {}/{} correctly: {error}",
        work.namespace(),
        work.name()
    );
    Err(work.fail("CouldntCreateWorkspacePVC", &message, error))
}

/// Creates one assistant (P-247 to P-252, P-255).
fn assistant(
    work: &mut Work<'_>,
    name: &str,
    templates: Vec<PersistentVolumeClaim>,
    claims: Vec<String>,
) -> Result<(), Stop> {
    let set = stateful_set(work, name, templates, claims);
    let pod = set
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref());
    if let Some(template) = &mut work.run.spec.task_run_template.pod_template
        && template.affinity.is_some()
    {
        // The TaskRuns of this reconcile get the terms too (P-251).
        template.affinity = pod.and_then(|pod| pod.affinity.clone());
    }
    let is_it = |effect: &Effect| match effect {
        Effect::CreateStatefulSet(set) => set.metadata.name.as_deref() == Some(name),
        _ => false,
    };
    let Some(refusal) = work.refusal(is_it).cloned() else {
        work.effects.push(Effect::CreateStatefulSet(Box::new(set)));
        return Ok(());
    };
    let error = format!(
        "Affinity Assistant creation error: [failed to create StatefulSet {name}: {}]",
        refusal.message
    );
    let message = format!(
        "Failed to create StatefulSet for PipelineRun {}/{} correctly: {error}",
        work.namespace(),
        work.name()
    );
    Err(work.fail(
        "ReasonCouldntCreateOrUpdateAffinityAssistantStatefulSet",
        &message,
        error,
    ))
}

fn stateful_set(
    work: &Work<'_>,
    name: &str,
    templates: Vec<PersistentVolumeClaim>,
    claims: Vec<String>,
) -> StatefulSet {
    let mut labels = work.run.metadata.labels.clone().unwrap_or_default();
    labels.insert(label::PIPELINE_RUN.to_owned(), work.name().to_owned());
    labels.insert(label::INSTANCE.to_owned(), name.to_owned());
    labels.insert(label::COMPONENT.to_owned(), COMPONENT.to_owned());
    let of_run = &work.run.spec.task_run_template;
    let wider = work
        .config
        .defaults
        .affinity_assistant_pod_template
        .as_ref();
    let template = pod_template::for_assistant(of_run.pod_template.as_ref(), wider);
    let account = if template.service_account_name.is_empty() {
        of_run.service_account_name.clone()
    } else {
        template.service_account_name
    };
    let mounts = templates
        .iter()
        .filter_map(|claim| claim.metadata.name.clone());
    let mounts: Vec<VolumeMount> = mounts
        .map(|name| VolumeMount {
            mount_path: name.clone(),
            name,
            ..VolumeMount::default()
        })
        .collect();
    let some = BTreeMap::from([
        ("cpu".to_owned(), Quantity("50m".to_owned())),
        ("memory".to_owned(), Quantity("100Mi".to_owned())),
    ]);
    let container = Container {
        name: COMPONENT.to_owned(),
        image: Some(work.seen.nop_image.clone()),
        args: Some(vec!["tekton_run_indefinitely".to_owned()]),
        resources: Some(ResourceRequirements {
            requests: Some(some.clone()),
            limits: Some(some),
            ..ResourceRequirements::default()
        }),
        volume_mounts: listed(mounts),
        security_context: security_context(work.config),
        ..Container::default()
    };
    let volumes = claims
        .into_iter()
        .enumerate()
        .map(|(i, claim_name)| Volume {
            name: format!("workspace-{i}"),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name,
                read_only: None,
            }),
            ..Volume::default()
        });
    StatefulSet {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: work.run.metadata.namespace.clone(),
            labels: Some(labels.clone()),
            owner_references: Some(vec![owner(&work.run)]),
            ..ObjectMeta::default()
        },
        spec: Some(StatefulSetSpec {
            replicas: Some(1),
            selector: LabelSelector {
                match_labels: Some(labels.clone()),
                ..LabelSelector::default()
            },
            service_name: None,
            volume_claim_templates: listed(templates),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels),
                    ..ObjectMeta::default()
                }),
                spec: Some(PodSpec {
                    containers: vec![container],
                    tolerations: listed(template.tolerations),
                    node_selector: (!template.node_selector.is_empty())
                        .then_some(template.node_selector),
                    image_pull_secrets: listed(template.image_pull_secrets),
                    security_context: template.security_context,
                    priority_class_name: template.priority_class_name,
                    service_account_name: (!account.is_empty()).then_some(account),
                    affinity: Some(repelling(work)),
                    volumes: listed(volumes.collect()),
                    ..PodSpec::default()
                }),
            },
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

/// The run's affinity, and away from other assistants (P-251).
fn repelling(work: &Work<'_>) -> Affinity {
    let of_run = work.run.spec.task_run_template.pod_template.as_ref();
    let mut affinity = of_run
        .and_then(|template| template.affinity.clone())
        .unwrap_or_default();
    let anti = affinity
        .pod_anti_affinity
        .get_or_insert_with(PodAntiAffinity::default);
    let term = PodAffinityTerm {
        label_selector: Some(LabelSelector {
            match_labels: Some(BTreeMap::from([(
                label::COMPONENT.to_owned(),
                COMPONENT.to_owned(),
            )])),
            ..LabelSelector::default()
        }),
        topology_key: "kubernetes.io/hostname".to_owned(),
        ..PodAffinityTerm::default()
    };
    if Coschedule::of(work.config) == Coschedule::IsolatedRun {
        anti.required_during_scheduling_ignored_during_execution
            .get_or_insert_default()
            .push(term);
    } else {
        let preferred = anti
            .preferred_during_scheduling_ignored_during_execution
            .get_or_insert_default();
        preferred.push(WeightedPodAffinityTerm {
            weight: 100,
            pod_affinity_term: term,
        });
    }
    affinity
}

fn listed<T>(items: Vec<T>) -> Option<Vec<T>> {
    (!items.is_empty()).then_some(items)
}

/// Removes the assistants of a run that has ended (P-256).
pub(super) fn clean_up(work: &mut Work<'_>) {
    let mut names = Vec::new();
    match Coschedule::of(work.config) {
        Coschedule::Disabled => {}
        Coschedule::Workspaces => {
            let with_claim = work.run.spec.workspaces.iter().filter(|binding| {
                binding.persistent_volume_claim.is_some() || binding.volume_claim_template.is_some()
            });
            names.extend(with_claim.map(|binding| names::assistant(&binding.name, work.name())));
        }
        Coschedule::Run | Coschedule::IsolatedRun => names.push(names::assistant("", work.name())),
    }
    for name in names {
        let delete = Effect::DeleteStatefulSet { name };
        // One that cannot be deleted must not keep the run from ending; garbage collection takes it.
        if work.refusal(|effect| *effect == delete).is_none() {
            work.effects.push(delete);
        }
    }
}

/// Deletes claims made of templates: always in the per-run modes, else only if asked for (P-243, P-244).
pub(super) fn delete_claims(work: &mut Work<'_>, asked_for: bool) {
    let mode = Coschedule::of(work.config);
    if mode == Coschedule::Disabled || (mode == Coschedule::Workspaces && !asked_for) {
        return;
    }
    let namespace = work.namespace().to_owned();
    let templates = work
        .run
        .spec
        .workspaces
        .iter()
        .filter(|binding| binding.volume_claim_template.is_some());
    let claims: Vec<String> = templates
        .map(|binding| match mode.per_run() {
            true => names::claim_of_assistant(binding, work.name(), work.uid()),
            false => names::claim(binding, work.uid()),
        })
        .collect();
    for name in claims {
        let query = Query::Pvc {
            namespace: namespace.clone(),
            name: name.clone(),
        };
        let Known::Found(Found::Pvc(claim)) = work.inquiry.ask(query) else {
            continue;
        };
        let finalizers = claim.metadata.finalizers.as_deref().unwrap_or_default();
        let kept: Vec<&String> = finalizers
            .iter()
            .filter(|finalizer| *finalizer != PROTECTION)
            .collect();
        let patch = Patch::Json(vec![
            json!({"op": "replace", "path": "/metadata/finalizers", "value": kept}),
        ]);
        let effects = [
            Effect::DeletePvc { name: name.clone() },
            Effect::PatchPvc { name, patch },
        ];
        for effect in effects {
            let unprotected =
                matches!(effect, Effect::PatchPvc { .. }) && kept.len() == finalizers.len();
            if !unprotected && work.refusal(|refused| *refused == effect).is_none() {
                work.effects.push(effect);
            }
        }
    }
}
