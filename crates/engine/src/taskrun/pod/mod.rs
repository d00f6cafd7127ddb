//! Building the pod of a TaskRun (T-211 to T-269).

mod cache_inputs;
mod command_line;
mod credentials;
mod images;
mod masking;
mod merge;
mod options;
pub(crate) mod quantity;
mod resources;
mod results_sidecar;
mod scripts;
mod spec;
mod volumes;

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use tektite_api::config::Config;
use tektite_api::v1::{PodTemplate, Sidecar, Step, TaskRun, TaskSpec};

pub(crate) use cache_inputs::{CACHE_INPUTS, CacheInputs};
pub(crate) use options::security_context;
pub use options::{EntrypointDelivery, PodOptions};
pub use scripts::SCRIPT_VARIABLE;

use super::status::{RESULTS_SIDECAR, from_sidecar_logs};
use super::{results, step_container_name};
use crate::child_name::{child_name, cut};
use crate::decision::{Found, Inquiry, Known, Query};
use command_line::Shared;

/// Why no pod can be built; the text stands in the run's condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BuildError(pub String);

/// A pod, and what there is to say about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Built {
    /// The pod to create.
    pub pod: Pod,
    /// Secrets of the service account that do not exist (T-266).
    pub missing_secrets: Vec<String>,
    /// Whether the podTemplate's pod affinity met the affinity assistant's (T-401).
    pub affinity_overwritten: bool,
}

/// Builds the pod of `run` from the substituted `spec`, in which workspaces are mounted; `None` while `inquiry` has
/// open questions. `run.spec.pod_template` is already substituted. With `cache_inputs`, the pod tells what is in them before
/// its first step, which then waits.
pub(crate) fn build(
    run: &TaskRun,
    spec: &TaskSpec,
    cache_inputs: Option<CacheInputs>,
    config: &Config,
    options: &PodOptions,
    inquiry: &mut Inquiry<'_>,
) -> Result<Option<Built>, BuildError> {
    let flags = &config.feature_flags;
    let alpha = flags.enable_api_fields == "alpha";
    let debug = run
        .spec
        .debug
        .as_ref()
        .filter(|d| alpha && scripts::needs_debug(Some(d)));
    let namespace = run.metadata.namespace.clone().unwrap_or_default();
    let account = run.spec.service_account_name.as_str();
    let uid = run.metadata.uid.as_deref().unwrap_or_default();
    let template = run.spec.pod_template.clone().unwrap_or_default();
    let delivery = &options.entrypoint;

    let credentials = credentials::find(&namespace, account, config, inquiry)?;
    let ranges = limit_ranges(&namespace, inquiry)?;

    let steps = merged_steps(run, spec);
    let logged_results = from_sidecar_logs(config)
        && (!spec.results.is_empty() || results::artifacts_referenced(&steps));
    let mut sidecars = spec.sidecars.clone();
    if logged_results {
        sidecars.push(results_sidecar::sidecar(spec, config, options));
    }
    let awaits_sidecars = !sidecars.is_empty() || flags.running_in_env_with_injected_sidecars;
    let wait_for_ready =
        (awaits_sidecars && flags.await_sidecar_readiness) || cache_inputs.is_some();

    let mut step_containers = step_containers(&steps, uid);
    let images_known = images::resolve(
        &mut step_containers,
        &namespace,
        account,
        &template.image_pull_secrets,
        inquiry,
    )?;
    let (Some(credentials), Some(ranges), true) = (credentials, ranges, images_known) else {
        return Ok(None);
    };
    let sidecar_containers = sidecar_containers(&sidecars, run, uid);
    let names: Vec<String> = steps
        .iter()
        .enumerate()
        .map(|(i, s)| step_container_name(&s.name, i))
        .collect();

    let mut args = credentials.args;
    if logged_results {
        args.extend(["-result_from".to_owned(), "sidecar-logs".to_owned()]);
    }
    if flags.enable_termination_message_compression && !from_sidecar_logs(config) {
        args.push("-compress_termination_message=true".into());
    }
    let shared = Shared {
        spec,
        args,
        debug,
        wait_for_ready,
        keep_on_cancel: flags.enable_keep_pod_on_cancel,
        delivery,
        names: names.clone(),
    };
    if debug.is_some() {
        mount_debug(&mut step_containers);
    }
    command_line::order(&mut step_containers, &shared)?;
    add_env(&mut step_containers, &template, run, config, alpha);

    let with_scripts =
        steps.iter().any(|s| !s.script.is_empty()) || sidecars.iter().any(|s| !s.script.is_empty());
    let mut volumes = volumes::implicit_volumes();
    volumes.extend(credentials.volumes);
    if with_scripts {
        volumes.push(volumes::empty_dir("tekton-internal-scripts"));
    }
    if debug.is_some() {
        volumes.extend(
            [
                "tekton-internal-debug-scripts",
                "tekton-internal-debug-info",
            ]
            .map(volumes::empty_dir),
        );
    }
    volumes.push(volumes::bin_volume(delivery));
    if wait_for_ready || flags.enable_keep_pod_on_cancel {
        volumes.push(volumes::downward_volume(flags.enable_keep_pod_on_cancel));
    }
    let count = step_containers.len();
    let working_dirs = working_dirs(&step_containers);
    for (i, container) in step_containers.iter_mut().enumerate() {
        let with_credentials = !flags.disable_creds_init;
        if with_credentials {
            volumes.push(volumes::credentials_volume(i));
        }
        volumes.push(volumes::empty_dir(format!("tekton-internal-run-{i}")));
        volumes::mount_in_step(
            container,
            i,
            count,
            with_credentials,
            &credentials.mounts,
            delivery,
        );
        container.name = restrict_length(&names[i]);
    }
    volumes.extend(spec.volumes.iter().cloned());
    volumes.extend(template.volumes.iter().cloned());
    unique_names(&volumes)?;
    if flags.enable_secret_masking.unwrap_or(options.masks_secrets) {
        let token = template.automount_service_account_token != Some(false);
        volumes.extend(masking::mask(&mut step_containers, &volumes, token));
    }

    let mut init_containers = init_containers(delivery, &names, &working_dirs, config);
    let mut containers = step_containers;
    if let (Some(inputs), Some(step)) = (cache_inputs, containers.first()) {
        init_containers.push(inputs.container(step));
    }
    let native = flags.enable_kubernetes_sidecar && options.kubernetes_minor >= 29;
    for (mut container, sidecar) in sidecar_containers.into_iter().zip(&sidecars) {
        container.name = restrict_length(&format!("sidecar-{}", sidecar.name));
        if container.name == RESULTS_SIDECAR {
            volumes::mount_in_results_sidecar(&mut container, count, &credentials.mounts);
            if native {
                let mode = ["-kubernetes-sidecar-mode".to_owned(), "true".to_owned()];
                container.command.get_or_insert_default().extend(mode);
            }
        }
        if native {
            container.restart_policy = Some("Always".into());
            init_containers.push(container);
        } else {
            containers.push(container);
        }
    }

    let affinity_overwritten = spec::affinity_assistant(run).is_some()
        && template
            .affinity
            .as_ref()
            .is_some_and(|a| a.pod_affinity.is_some());
    let mut pod = Pod {
        metadata: spec::metadata(run, config, options, &namespace, !wait_for_ready),
        spec: Some(spec::pod_spec(
            run,
            config,
            template,
            containers,
            init_containers,
            volumes,
        )),
        status: None,
    };
    resources::apply_defaults(&mut pod, &config.defaults.container_resource_requirements);
    resources::apply_limit_ranges(&mut pod, &ranges);
    spec::apply_affinity_assistant(&mut pod, run);
    Ok(Some(Built {
        pod,
        missing_secrets: credentials.missing,
        affinity_overwritten,
    }))
}

/// The pod's name, new for each attempt (T-211).
pub fn name(run: &TaskRun) -> String {
    let run_name = run.metadata.name.as_deref().unwrap_or_default();
    match run.status.retries_status.len() {
        0 => child_name(run_name, "-pod"),
        retries => child_name(run_name, &format!("-pod-retry{retries}")),
    }
}

/// The owner reference that children of a run carry (T-212).
pub fn owner(run: &TaskRun) -> OwnerReference {
    OwnerReference {
        api_version: "tekton.dev/v1".into(),
        kind: "TaskRun".into(),
        name: run.metadata.name.clone().unwrap_or_default(),
        uid: run.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

fn limit_ranges(
    namespace: &str,
    inquiry: &mut Inquiry<'_>,
) -> Result<Option<std::sync::Arc<Vec<k8s_openapi::api::core::v1::LimitRange>>>, BuildError> {
    match inquiry.ask(Query::LimitRanges {
        namespace: namespace.into(),
    }) {
        Known::Found(Found::LimitRanges(ranges)) => Ok(Some(ranges.clone())),
        Known::Missing(_) => Ok(Some(Default::default())),
        Known::Failed(failure) => Err(BuildError(failure.message.clone())),
        _ => Ok(None),
    }
}

fn merged_steps(run: &TaskRun, spec: &TaskSpec) -> Vec<Step> {
    let mut steps: Vec<Step> = match &spec.step_template {
        Some(template) => spec
            .steps
            .iter()
            .map(|s| merge::step_with_template(s.clone(), template))
            .collect(),
        None => spec.steps.clone(),
    };
    for step in &mut steps {
        if let Some(over) = run.spec.step_specs.iter().rfind(|o| o.name == step.name) {
            step.compute_resources =
                merge::resources(&step.compute_resources, &over.compute_resources);
        }
    }
    if let Some(task) = &run.spec.compute_resources {
        resources::apply_task_level(&mut steps, task);
    }
    steps
}

fn step_containers(steps: &[Step], uid: &str) -> Vec<Container> {
    let place = |(i, step): (usize, &Step)| {
        let mut container = step.to_container();
        if !step.script.is_empty() {
            scripts::place(
                &mut container,
                &step.script,
                &scripts::path("script", i, uid),
            );
        }
        container
    };
    steps.iter().enumerate().map(place).collect()
}

/// Sidecars; one with a script gets the entrypoint, which writes the script and then only passes signals on.
fn sidecar_containers(sidecars: &[Sidecar], run: &TaskRun, uid: &str) -> Vec<Container> {
    let place = |(i, sidecar): (usize, &Sidecar)| {
        let mut container = sidecar.to_container();
        if let Some(over) = run
            .spec
            .sidecar_specs
            .iter()
            .rfind(|o| o.name == sidecar.name)
        {
            container.resources = Some(merge::resources(
                &sidecar.compute_resources,
                &over.compute_resources,
            ));
        }
        if !sidecar.script.is_empty() {
            let path = scripts::path("sidecar-script", i, uid);
            scripts::place(&mut container, &sidecar.script, &path);
            let args = ["-exec", "-script_file", &path].map(str::to_owned);
            command_line::put_entrypoint_first(&mut container, args.to_vec());
            let bin = volumes::mount("tekton-internal-bin", "/tekton/bin", true);
            container.volume_mounts.get_or_insert_default().push(bin);
        }
        container
    };
    sidecars.iter().enumerate().map(place).collect()
}

/// Mounts of breakpoints (T-330); each step's entrypoint writes the scripts.
fn mount_debug(steps: &mut [Container]) {
    for (i, step) in steps.iter_mut().enumerate() {
        step.volume_mounts.get_or_insert_default().extend([
            volumes::mount(
                "tekton-internal-debug-scripts",
                "/tekton/debug/scripts",
                false,
            ),
            volumes::mount(
                "tekton-internal-debug-info",
                format!("/tekton/debug/info/{i}"),
                false,
            ),
        ]);
    }
}

/// Environment beside the steps' own (T-248 to T-250).
fn add_env(
    steps: &mut [Container],
    template: &PodTemplate,
    run: &TaskRun,
    config: &Config,
    alpha: bool,
) {
    let forbidden = &config.defaults.forbidden_env;
    let mode = run
        .metadata
        .annotations
        .as_ref()
        .and_then(|a| a.get("experimental.tekton.dev/execution-mode"));
    let hermetic = alpha && mode.is_some_and(|m| m == "hermetic");
    let mut more: Vec<EnvVar> = template
        .env
        .iter()
        .filter(|e| !forbidden.contains(&e.name))
        .cloned()
        .collect();
    if hermetic {
        more.push(EnvVar {
            name: "TEKTON_HERMETIC".into(),
            value: Some("1".into()),
            value_from: None,
        });
    }
    if !more.is_empty() {
        steps
            .iter_mut()
            .for_each(|s| s.env.get_or_insert_default().extend(more.iter().cloned()));
    }
}

/// T-223
fn unique_names(volumes: &[Volume]) -> Result<(), BuildError> {
    let mut seen = BTreeSet::new();
    match volumes.iter().find(|v| !seen.insert(v.name.as_str())) {
        Some(twice) => Err(BuildError(format!(
            "multiple volumes with same name {:?}: name",
            twice.name
        ))),
        None => Ok(()),
    }
}

/// Working directories that are relative or below `/workspace`, sorted (T-227).
fn working_dirs(steps: &[Container]) -> Vec<String> {
    let dirs = steps
        .iter()
        .filter_map(|s| s.working_dir.as_deref())
        .filter(|d| !d.is_empty());
    let dirs: BTreeSet<String> = dirs.map(volumes::clean_path).collect();
    dirs.into_iter()
        .filter(|d| !d.starts_with('/') || d.starts_with("/workspace/"))
        .collect()
}

/// The container that brings the entrypoint, where it does not come as an image volume (T-225, T-227).
fn init_containers(
    delivery: &EntrypointDelivery,
    names: &[String],
    dirs: &[String],
    config: &Config,
) -> Vec<Container> {
    let EntrypointDelivery::InitContainer { image } = delivery else {
        return Vec::new();
    };
    let mut command = vec!["/ko-app/entrypoint".to_owned()];
    let mut mounts = vec![
        volumes::mount("tekton-internal-bin", "/tekton/bin", false),
        volumes::mount("tekton-internal-steps", "/tekton/steps", false),
    ];
    if !dirs.is_empty() {
        command.extend(["-working_dirs".to_owned(), dirs.join(",")]);
        mounts.push(volumes::mount(
            "tekton-internal-workspace",
            "/workspace",
            false,
        ));
    }
    command.extend(["init", "/ko-app/entrypoint", command_line::ENTRYPOINT].map(str::to_owned));
    command.extend(names.iter().cloned());
    vec![Container {
        name: "prepare".into(),
        image: Some(image.clone()),
        working_dir: Some(if dirs.is_empty() { "/" } else { "/workspace" }.into()),
        command: Some(command),
        volume_mounts: Some(mounts),
        security_context: options::security_context(config),
        ..Container::default()
    }]
}

/// At most 63 bytes, ending in a letter or digit (T-220).
fn restrict_length(name: &str) -> String {
    cut(name, 63)
        .trim_end_matches(|c: char| !c.is_ascii_alphanumeric())
        .to_owned()
}
