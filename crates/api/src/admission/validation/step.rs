//! Steps and sidecars (T-029 to T-040).

use super::{artifact, param, reference, result, scope::Scope, when, workspace};
use crate::{
    admission::{FieldError, FieldErrors, field_error::quote},
    names_of_objects::is_dns_label,
    v1::{Sidecar, Step},
};

const NAME_DETAILS: &str = "Task step name must be a valid DNS Label, For more info refer to https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#names";

/// Name of the container that collects results; nobody else's.
const RESULTS_SIDECAR: &str = "tekton-log-results";

pub(super) fn all(steps: &[Step], scope: Scope<'_>) -> FieldErrors {
    let mut names: Vec<&str> = Vec::new();
    let mut errors = FieldErrors::new();
    for (index, step) in steps.iter().enumerate() {
        let repeated = !step.name.is_empty() && names.contains(&step.name.as_str());
        names.push(&step.name);
        if repeated && !scope.beta {
            errors.add(FieldErrors::from(FieldError::multiple_one_of(&["name"])).via_index(index));
        }
        errors.add(one(step, repeated && scope.beta, scope).via_index(index));
        if !step.results.is_empty() {
            errors.add(result::script_mentions(&step.results, &step.script).via_index(index));
            errors.add(
                result::step_results(&step.results)
                    .via_index(index)
                    .via("results"),
            );
        }
        if !step.when.is_empty() {
            errors.add(when::validate(&step.when, scope).via_index(index));
        }
    }
    errors
}

fn one(step: &Step, repeated: bool, scope: Scope<'_>) -> FieldErrors {
    if !scope.config.feature_flags.enable_artifacts && mentions_artifacts(step) {
        return FieldError::generic(artifact::flag_needed(), [""]).into();
    }
    if let Some(timeout) = step.timeout.filter(|t| t.is_negative()) {
        // Upstream forgets what else it has found (T-034).
        return FieldError::invalid_value(timeout, "negative timeout").into();
    }
    let mut errors = content(step, scope);
    if !step.name.is_empty() {
        if repeated {
            errors.add(FieldError::invalid_value(&step.name, "name"));
        }
        if !is_dns_label(&step.name) {
            let message = format!("invalid value {}", quote(&step.name));
            errors.add(FieldError::generic(message, ["name"]).details(NAME_DETAILS));
        }
    }
    errors.add(volume_mounts(step));
    if !step.on_error.is_empty()
        && !step.on_error.starts_with("$(params")
        && step.on_error != "continue"
        && step.on_error != "stopAndFail"
    {
        let message = format!("invalid value: \"{}\"", step.on_error);
        let details = "Task step onError must be either \"continue\" or \"stopAndFail\"";
        errors.add(FieldError::generic(message, ["onError"]).details(details));
    }
    errors.add(windows_script(&step.script, scope));
    if step.stdout_config.is_some() {
        errors.add(scope.needs_alpha("step stdout stream support"));
    }
    if step.stderr_config.is_some() {
        errors.add(scope.needs_alpha("step stderr stream support"));
    }
    for (place, text) in places(step) {
        if result::mentions_step_result(text) {
            let message = "stepResult substitutions are only allowed in env, command and args. Found usage in";
            errors.add(FieldError::generic(message, [place]));
        }
        if place != "script" && artifact::mentions_step_artifact(text) {
            let message = "stepArtifact substitutions are only allowed in env, command, args and script. Found usage in";
            errors.add(FieldError::generic(message, [place]));
        }
    }
    errors
}

/// T-030 to T-033
fn content(step: &Step, scope: Scope<'_>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if let Some(of) = &step.ref_ {
        errors.add(reference::validate(
            &of.name,
            &of.resolver,
            &of.params,
            scope,
        ));
        for (set, what, path) in [
            (!step.image.is_empty(), "image", "image"),
            (!step.command.is_empty(), "command", "command"),
            (!step.args.is_empty(), "args", "args"),
            (!step.script.is_empty(), "script", "script"),
            (!step.working_dir.is_empty(), "working dir", "workingDir"),
            (!step.env.is_empty(), "env", "env"),
            (
                !step.volume_mounts.is_empty(),
                "volumeMounts",
                "volumeMounts",
            ),
            (!step.results.is_empty(), "results", "results"),
        ] {
            if set {
                errors.add(FieldError::generic(
                    format!("{what} cannot be used with Ref"),
                    [path],
                ));
            }
        }
        return errors;
    }
    if !step.params.is_empty() {
        errors.add(FieldError::generic(
            "params cannot be used without Ref",
            ["params"],
        ));
    }
    if step.image.is_empty() {
        errors.add(FieldError::missing("Image"));
    }
    errors.add(script_and_command(&step.script, &step.command));
    errors
}

pub(super) fn script_and_command(script: &str, command: &[String]) -> Option<FieldError> {
    let both = !script.is_empty() && !command.is_empty();
    both.then(|| FieldError::generic("script cannot be used with command", ["script"]))
}

pub(super) fn windows_script(script: &str, scope: Scope<'_>) -> FieldErrors {
    if script.trim().starts_with("#!win") {
        scope.needs_alpha("windows script support")
    } else {
        FieldErrors::new()
    }
}

/// T-035
fn volume_mounts(step: &Step) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (index, mount) in step.volume_mounts.iter().enumerate() {
        let mut say = |message: String, path: &str| {
            errors.add(
                FieldErrors::from(FieldError::generic(message, [path]))
                    .via_field_index("volumeMounts", index),
            );
        };
        let path = workspace::clean(&mount.mount_path);
        if path.starts_with("/tekton/") && !path.starts_with("/tekton/home") {
            let (name, at) = (quote(&mount.name), quote(&mount.mount_path));
            say(
                format!(
                    "volumeMount cannot be mounted under /tekton/ (volumeMount {name} mounted at {at})"
                ),
                "mountPath",
            );
        }
        if mount.name.starts_with("tekton-internal-") {
            say(
                format!(
                    "volumeMount name {} cannot start with \"tekton-internal-\"",
                    quote(&mount.name)
                ),
                "name",
            );
        }
    }
    errors
}

fn mentions_artifacts(step: &Step) -> bool {
    let env = step.env.iter().filter_map(|e| e.value.as_deref());
    let texts = std::iter::once(step.script.as_str())
        .chain(step.command.iter().chain(&step.args).map(String::as_str));
    texts
        .chain(env)
        .any(|t| artifact::mentions_step_artifact(t) || artifact::mentions_task_artifact(t))
}

/// The texts in which step results and artifacts may not be used.
fn places(step: &Step) -> Vec<(&'static str, &str)> {
    let mut places = vec![
        ("name", step.name.as_str()),
        ("image", step.image.as_str()),
        ("script", step.script.as_str()),
        ("imagePullPolicy", step.image_pull_policy.as_str()),
        ("workingDir", step.working_dir.as_str()),
    ];
    for from in &step.env_from {
        places.extend(from.prefix.as_deref().map(|text| ("envFrom.prefix", text)));
        places.extend(
            from.config_map_ref
                .as_ref()
                .map(|r| ("envFrom.configMapRef", r.name.as_str())),
        );
        places.extend(
            from.secret_ref
                .as_ref()
                .map(|r| ("envFrom.secretRef", r.name.as_str())),
        );
    }
    for mount in &step.volume_mounts {
        places.push(("volumeMounts.name", &mount.name));
        places.push(("volumeMounts.mountPath", &mount.mount_path));
        places.extend(
            mount
                .sub_path
                .as_deref()
                .map(|text| ("volumeMounts.subPath", text)),
        );
    }
    for device in &step.volume_devices {
        places.push(("volumeDevices.name", &device.name));
        places.push(("volumeDevices.devicePath", &device.device_path));
    }
    places
}

pub(super) fn sidecars(sidecars: &[Sidecar], scope: Scope<'_>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for sidecar in sidecars {
        if sidecar.name == RESULTS_SIDECAR {
            let path = if scope.beta { "" } else { "name" };
            let message = format!(
                "Invalid: cannot use reserved sidecar name {} ",
                sidecar.name
            );
            errors.add(FieldError::generic(message, [path]));
        }
        if scope.beta {
            continue;
        }
        if sidecar.image.is_empty() {
            errors.add(FieldError::missing("image"));
        }
        errors.add(script_and_command(&sidecar.script, &sidecar.command));
    }
    errors.via("sidecars")
}

/// Resources by step or sidecar: each entry names one, once (T-071).
pub(super) fn named_specs<'a>(names: impl Iterator<Item = &'a str> + Clone) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (index, _) in names
        .clone()
        .enumerate()
        .filter(|(_, name)| name.is_empty())
    {
        errors.add(FieldErrors::from(FieldError::missing("name")).via_index(index));
    }
    errors.add(param::distinct(names.filter(|name| !name.is_empty()), true));
    errors
}
