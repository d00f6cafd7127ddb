//! The command line of a step: the entrypoint with its flags, then what the step runs (T-237 to T-246).

use k8s_openapi::api::core::v1::{Container, VolumeMount};
use tektite_api::v1::{Step, TaskRunDebug, TaskSpec};

use super::{BuildError, EntrypointDelivery, scripts};
use crate::taskrun::termination::go_json;

/// Where the entrypoint is in a step.
pub(crate) const ENTRYPOINT: &str = "/tekton/bin/entrypoint";
pub(crate) const TERMINATION: &str = "/tekton/termination";

/// What all steps of a pod have in common.
pub(crate) struct Shared<'a> {
    pub spec: &'a TaskSpec,
    /// Credentials and how results are reported.
    pub args: Vec<String>,
    pub debug: Option<&'a TaskRunDebug>,
    pub wait_for_ready: bool,
    pub keep_on_cancel: bool,
    pub delivery: &'a EntrypointDelivery,
    /// Container names of all steps.
    pub names: Vec<String>,
}

/// Puts the entrypoint before what each step runs.
pub(crate) fn order(steps: &mut [Container], shared: &Shared<'_>) -> Result<(), BuildError> {
    if steps.is_empty() {
        return Err(BuildError("no steps specified".into()));
    }
    for (i, container) in steps.iter_mut().enumerate() {
        let declared = shared.spec.steps.get(i);
        let mut args = wait_flags(i, shared.wait_for_ready);
        for (flag, path) in [
            ("-post_file", format!("/tekton/run/{i}/out")),
            ("-termination_path", TERMINATION.to_owned()),
            ("-step_metadata_dir", format!("/tekton/run/{i}/status")),
        ] {
            args.extend([flag.to_owned(), path]);
        }
        if let EntrypointDelivery::ImageVolume { .. } = shared.delivery {
            args.extend(["-step_names".to_owned(), shared.names.join(",")]);
        }
        args.extend(shared.args.iter().cloned());
        if let Some(step) = declared {
            args.extend(step_flags(step)?);
        }
        if !shared.spec.results.is_empty() {
            let written = shared
                .spec
                .results
                .iter()
                .filter(|r| r.value.is_none())
                .map(|r| r.name.as_str());
            args.extend(["-results".to_owned(), written.collect::<Vec<_>>().join(",")]);
        }
        if shared.debug.is_some() {
            args.extend(["-debug_scripts".to_owned(), shared.names.len().to_string()]);
        }
        if scripts::breaks_on_failure(shared.debug) {
            args.push("-breakpoint_on_failure".into());
        }
        if scripts::breaks_before(shared.debug, &container.name) {
            args.push("-debug_before_step".into());
        }
        if declared.is_some_and(|s| !s.script.is_empty())
            && let Some(path) = container.command.as_ref().and_then(|c| c.first())
        {
            args.extend(["-script_file".to_owned(), path.clone()]);
        }
        put_entrypoint_first(container, args);
        container.termination_message_path = Some(TERMINATION.into());
        if (i == 0 && shared.wait_for_ready) || shared.keep_on_cancel {
            container
                .volume_mounts
                .get_or_insert_default()
                .push(VolumeMount {
                    name: "tekton-internal-downward".into(),
                    mount_path: "/tekton/downward".into(),
                    read_only: Some(true),
                    ..VolumeMount::default()
                });
        }
    }
    Ok(())
}

/// Makes the container run the entrypoint with `args`, which runs what the container ran (T-244).
pub(crate) fn put_entrypoint_first(container: &mut Container, mut args: Vec<String>) {
    let mut command = container.command.take().unwrap_or_default().into_iter();
    if let Some(program) = command.next() {
        args.extend(["-entrypoint".to_owned(), program]);
    }
    args.push("--".into());
    args.extend(command);
    args.extend(container.args.take().unwrap_or_default());
    container.command = Some(vec![ENTRYPOINT.into()]);
    container.args = Some(args);
}

fn wait_flags(index: usize, wait_for_ready: bool) -> Vec<String> {
    let flags: Vec<String> = match index.checked_sub(1) {
        Some(previous) => vec!["-wait_file".into(), format!("/tekton/run/{previous}/out")],
        None if wait_for_ready => {
            vec![
                "-wait_file".into(),
                "/tekton/downward/ready".into(),
                "-wait_file_content".into(),
            ]
        }
        None => Vec::new(),
    };
    flags
}

fn step_flags(step: &Step) -> Result<Vec<String>, BuildError> {
    let mut args = Vec::new();
    let mut flag = |name: &str, value: String| args.extend([name.to_owned(), value]);
    match step.on_error.as_str() {
        "" => {}
        "continue" | "stopAndFail" => flag("-on_error", step.on_error.clone()),
        other => {
            return Err(BuildError(format!(
                "task step onError must be either \"continue\" or \"stopAndFail\" but it is set to an invalid value \"{other}\""
            )));
        }
    }
    if let Some(timeout) = step.timeout {
        flag("-timeout", timeout.to_string());
    }
    if let Some(out) = &step.stdout_config {
        flag("-stdout_path", out.path.clone());
    }
    if let Some(err) = &step.stderr_config {
        flag("-stderr_path", err.path.clone());
    }
    if !step.results.is_empty() {
        let names: Vec<&str> = step.results.iter().map(|r| r.name.as_str()).collect();
        flag("-step_results", names.join(","));
    }
    if !step.when.is_empty() {
        let when = serde_json::to_string(&step.when).map_err(|e| BuildError(e.to_string()))?;
        flag("--when_expressions", go_json(&when));
    }
    Ok(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_without_steps_is_refused() {
        // T-246: checks before it let none through.
        let shared = Shared {
            spec: &TaskSpec::default(),
            args: Vec::new(),
            debug: None,
            wait_for_ready: false,
            keep_on_cancel: false,
            delivery: &EntrypointDelivery::InitContainer { image: "e".into() },
            names: Vec::new(),
        };
        let refused = order(&mut [], &shared);
        assert_eq!(refused, Err(BuildError("no steps specified".into())));
    }
}
