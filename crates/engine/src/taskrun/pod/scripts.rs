//! Scripts: how the text of a step or sidecar becomes a file that its container runs (T-253 to T-256), and which
//! steps wait at breakpoints.
//!
//! A script travels base64-encoded in an environment variable; the container's entrypoint writes it to its path before
//! it runs it, so that no other container is needed to place it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{Container, EnvVar, VolumeMount};
use tektite_api::v1::TaskRunDebug;

use crate::child_name::sha256_hex;

/// Variable in which the entrypoint finds the script; the command does not see it.
pub const SCRIPT_VARIABLE: &str = "TEKTON_INTERNAL_SCRIPT";

/// Longest part of a script in one variable: a process gets no text over 128 KiB. Further parts go on in `…_1`, `…_2`.
const LONGEST_PART: usize = 120_000;

const PREAMBLE: &str = "#!/bin/sh\nset -e\n";

/// Path of a script; `salt` makes it unlike any path a user would guess (T-253).
pub(crate) fn path(prefix: &str, index: usize, salt: &str) -> String {
    format!(
        "/tekton/scripts/{prefix}-{index}-{}",
        sha256_hex(&format!("{salt}/{prefix}/{index}"), 5)
    )
}

/// The script as it will stand in the file (T-254).
pub(crate) fn file_text(script: &str) -> String {
    if script.trim().starts_with("#!") {
        script.to_owned()
    } else {
        format!("{PREAMBLE}{script}")
    }
}

/// Makes the container run `script` from `path`. Its entrypoint still needs `-script_file <path>`.
pub(crate) fn place(container: &mut Container, script: &str, path: &str) {
    container.command = Some(vec![path.to_owned()]);
    let encoded = STANDARD.encode(file_text(script));
    let env = container.env.get_or_insert_default();
    for (part, start) in (0..encoded.len()).step_by(LONGEST_PART).enumerate() {
        let name = if part == 0 {
            SCRIPT_VARIABLE.to_owned()
        } else {
            format!("{SCRIPT_VARIABLE}_{part}")
        };
        let value = encoded[start..encoded.len().min(start + LONGEST_PART)].to_owned();
        env.push(EnvVar {
            name,
            value: Some(value),
            value_from: None,
        });
    }
    container
        .volume_mounts
        .get_or_insert_default()
        .push(VolumeMount {
            name: "tekton-internal-scripts".into(),
            mount_path: "/tekton/scripts".into(),
            ..VolumeMount::default()
        });
}

/// Whether failed steps wait for a decision.
pub(crate) fn breaks_on_failure(debug: Option<&TaskRunDebug>) -> bool {
    debug
        .and_then(|d| d.breakpoints.as_ref())
        .is_some_and(|b| b.on_failure == "enabled")
}

/// Whether the step of this name waits for a decision before it runs.
pub(crate) fn breaks_before(debug: Option<&TaskRunDebug>, step: &str) -> bool {
    debug
        .and_then(|d| d.breakpoints.as_ref())
        .is_some_and(|b| b.before_steps.iter().any(|s| s == step))
}

/// Whether there is any breakpoint.
pub(crate) fn needs_debug(debug: Option<&TaskRunDebug>) -> bool {
    breaks_on_failure(debug)
        || debug
            .and_then(|d| d.breakpoints.as_ref())
            .is_some_and(|b| !b.before_steps.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_without_an_interpreter_gets_the_shell() {
        // T-254
        assert_eq!(file_text("echo hi"), "#!/bin/sh\nset -e\necho hi");
        assert_eq!(
            file_text("\n #!/usr/bin/env python\n"),
            "\n #!/usr/bin/env python\n"
        );
    }

    #[test]
    fn a_container_with_a_script_runs_the_file_and_keeps_its_args() {
        // T-253, T-255, T-256
        let mut container = Container {
            command: Some(vec!["old".into()]),
            args: Some(vec!["a".into()]),
            ..Container::default()
        };
        let path = path("script", 3, "uid");
        assert!(
            path.starts_with("/tekton/scripts/script-3-")
                && path.len() == "/tekton/scripts/script-3-".len() + 5
        );
        place(&mut container, "echo", &path);
        assert_eq!(container.command, Some(vec![path]));
        assert_eq!(container.args, Some(vec!["a".into()]));
        let encoded = container.env.unwrap()[0].value.clone().unwrap();
        assert_eq!(
            STANDARD.decode(encoded).unwrap(),
            b"#!/bin/sh\nset -e\necho"
        );
    }

    #[test]
    fn a_script_too_long_for_one_variable_goes_on_in_the_next() {
        let script = format!("#!/bin/sh\n{}", "x".repeat(200_000));
        let mut container = Container::default();
        place(&mut container, &script, "/p");
        let env = container.env.unwrap();
        let names: Vec<_> = env.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "TEKTON_INTERNAL_SCRIPT",
                "TEKTON_INTERNAL_SCRIPT_1",
                "TEKTON_INTERNAL_SCRIPT_2"
            ]
        );
        assert!(
            env.iter()
                .all(|e| e.value.as_ref().unwrap().len() < 128 << 10)
        );
        let encoded: String = env.iter().filter_map(|e| e.value.clone()).collect();
        assert_eq!(STANDARD.decode(encoded).unwrap(), script.as_bytes());
    }
}
