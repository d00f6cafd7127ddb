//! What to do about a failure, from Tekton's reason, the message and the exit code.

use super::{State, StepView, TaskView};

/// One sentence of advice for a task that failed; `None` where the log must speak for itself.
pub fn advice(task: &TaskView) -> Option<String> {
    let step = task.failed_step();
    by_step(step, &task.message)
        .or_else(|| by_reason(&task.reason, &task.message))
        .map(str::to_owned)
}

fn by_step(step: Option<&StepView>, message: &str) -> Option<&'static str> {
    let step = step.filter(|step| step.state == State::Failed)?;
    if step.reason == "OOMKilled" || message.contains("OOMKilled") {
        return Some(
            "the step ran out of memory: raise `computeResources.limits.memory` of the step, or make it use less",
        );
    }
    match step.exit_code? {
        126 => Some(
            "exit code 126: the command exists but cannot be executed; check its mode and its #! line",
        ),
        127 => Some(
            "exit code 127: a command was not found in the step's image; check the image and PATH",
        ),
        137 => Some(
            "exit code 137: the step was killed, often for memory; check `computeResources.limits.memory`",
        ),
        _ => None,
    }
}

fn by_reason(reason: &str, message: &str) -> Option<&'static str> {
    Some(match reason {
        "TaskRunImagePullFailed" => {
            "the image could not be had: check its name and tag, load it with `tektite image load`, or map it to another \
             in images.yaml"
        }
        "CreateContainerConfigError" if message.contains("secret") => {
            "create the Secret it names in this namespace, or add it to the manifests"
        }
        "CreateContainerConfigError" if message.contains("configmap") => {
            "create the ConfigMap it names in this namespace, or add it to the manifests"
        }
        "CreateContainerConfigError" => {
            "check the Secrets and ConfigMaps that the step's environment refers to"
        }
        "TaskRunTimeout" | "PipelineRunTimeout" => {
            "raise `timeout` (or `timeouts`), or find out what it waited for"
        }
        "StepOOM" | "SidecarOOM" | "InitContainerOOM" => "raise `computeResources.limits.memory`",
        "PodCreationFailed" => {
            "the pod was refused: the message says which part of the task or pod template to change"
        }
        "TaskRunResultLargerThanAllowedLimit" => {
            "write less into results (4 KiB for all of a task), or set `results-from: sidecar-logs` in feature-flags"
        }
        "TaskRunResolutionFailed" | "CouldntGetTask" | "CouldntGetPipeline" => {
            "check the reference: the object must exist in the run's namespace"
        }
        "TaskRunValidationFailed"
        | "TaskValidationFailed"
        | "PipelineValidationFailed"
        | "ParameterMissing"
        | "InvalidParamValue"
        | "ParameterTypeMismatch" => "check the params and workspaces that the run passes",
        "InvalidTaskResultReference" => {
            "the task that should have written the result did not: check its steps"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_common_failure_has_its_advice() {
        let task = |reason: &str, message: &str, step: Option<(i32, &str)>| TaskView {
            label: "t".to_owned(),
            state: State::Failed,
            elapsed: None,
            reason: reason.to_owned(),
            message: message.to_owned(),
            retries: 0,
            taken_over: "",
            steps: step
                .map(|(code, reason)| StepView {
                    name: "s".to_owned(),
                    state: State::Failed,
                    exit_code: Some(code),
                    reason: reason.to_owned(),
                })
                .into_iter()
                .collect(),
        };
        let cases = [
            (task("TaskRunImagePullFailed", "", None), "image load"),
            (
                task("CreateContainerConfigError", "secret \"x\" not found", None),
                "create the Secret",
            ),
            (task("TaskRunTimeout", "", Some((1, ""))), "timeout"),
            (task("Failed", "", Some((137, "OOMKilled"))), "memory"),
            (task("Failed", "", Some((127, "Error"))), "not found"),
        ];
        for (task, part) in cases {
            let advice = advice(&task).unwrap_or_default();
            assert!(advice.contains(part), "{}: {advice}", task.reason);
        }
        assert_eq!(advice(&task("Failed", "", Some((1, "Error")))), None);
    }
}
