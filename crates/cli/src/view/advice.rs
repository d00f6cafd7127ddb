//! What to do about a failure, from what became of the task, Tekton's reason and what its pod lacks.

use super::{Fate, RunView, TaskView};

/// One sentence of advice for a task that did not succeed; `None` where the log must speak for itself.
pub fn advice(task: &TaskView) -> Option<String> {
    if let Some(lacking) = &task.lacking {
        return Some(lacking.to_string());
    }
    match Fate::of(task) {
        Fate::NoImage(step) => {
            let image = step
                .filter(|step| !step.image.is_empty())
                .map_or("its name and tag".to_owned(), |step| {
                    format!("the name and tag `{}`", step.image)
                });
            Some(format!(
                "check {image}, load the image with `tektite image load`, or map it to another in images.yaml"
            ))
        }
        Fate::OutOfMemory(_) => Some(
            "raise `computeResources.limits.memory` of the step, or make it use less".to_owned(),
        ),
        Fate::OutOfTime(_) => Some(match &task.obstacle {
            Some(_) => "see to what it waited for".to_owned(),
            None => "raise the run's `timeout`, or find out from its log what the step waited for"
                .to_owned(),
        }),
        Fate::StepOutOfTime(_) => Some(
            "raise the step's `timeout`, or find out from its log what it waited for".to_owned(),
        ),
        Fate::Exit(_, code) => by_exit_code(code).map(str::to_owned),
        Fate::NotStarted(_) => Some(by_obstacle(task)),
        Fate::Other => by_reason(&task.reason).map(str::to_owned),
    }
}

/// Advice for a run no task of which has failed.
pub fn run_advice(run: &RunView) -> Option<&'static str> {
    by_reason(&run.reason)
}

fn by_obstacle(task: &TaskView) -> String {
    let refused =
        "the pod was refused: the message says which part of the task or pod template to change";
    match (&task.obstacle, task.reason.as_str()) {
        (None, "PodCreationFailed") => refused.to_owned(),
        _ => "change what the message names: the step's `env`, `securityContext` or `volumeMounts`"
            .to_owned(),
    }
}

fn by_exit_code(code: i32) -> Option<&'static str> {
    Some(match code {
        126 => {
            "exit code 126: the command exists but cannot be executed; check its mode and its #! line"
        }
        127 => {
            "exit code 127: a command was not found in the step's image; check the image and PATH"
        }
        134 => "exit code 134: its program gave up by itself (SIGABRT); its log says why",
        137 => {
            "exit code 137: the step was killed, often for memory; check `computeResources.limits.memory`"
        }
        139 => "exit code 139: its program crashed (SIGSEGV)",
        143 => "exit code 143: something ended the step with SIGTERM",
        _ => return None,
    })
}

fn by_reason(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "PipelineRunTimeout" | "PipelineRunTimeoutRunningFinally" => {
            "raise `timeouts` of the run, or find out what the tasks that were cancelled waited for"
        }
        "SidecarOOM" => "raise `computeResources.limits.memory` of the sidecar",
        "InitContainerOOM" => "raise `computeResources.limits.memory`",
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
    use crate::view::{State, StepView};

    #[test]
    fn every_common_failure_has_its_advice() {
        let task = |reason: &str, message: &str, step: Option<(i32, &str)>| TaskView {
            label: "t".to_owned(),
            state: State::Failed,
            elapsed: None,
            reason: reason.to_owned(),
            message: message.to_owned(),
            obstacle: None,
            lacking: None,
            retries: 0,
            taken_over: "",
            steps: step
                .map(|(code, reason)| StepView {
                    name: "s".to_owned(),
                    state: State::Failed,
                    exit_code: Some(code),
                    reason: reason.to_owned(),
                    image: "registry/tool:1".to_owned(),
                    obstacle: None,
                })
                .into_iter()
                .collect(),
        };
        let cases = [
            (
                task("TaskRunImagePullFailed", "the step \"s\" in", Some((1, ""))),
                "`registry/tool:1`",
            ),
            (task("TaskRunImagePullFailed", "", None), "image load"),
            (
                task("CreateContainerConfigError", "", None),
                "securityContext",
            ),
            (task("PodCreationFailed", "", None), "refused"),
            (
                task("TaskRunTimeout", "", Some((1, ""))),
                "the run's `timeout`",
            ),
            (
                task("Failed", "", Some((1, "TimeoutExceeded"))),
                "the step's `timeout`",
            ),
            (task("StepOOM", "", Some((137, ""))), "limits.memory"),
            (
                task("Failed", "", Some((137, "OOMKilled"))),
                "limits.memory",
            ),
            (task("Failed", "", Some((127, "Error"))), "not found"),
            (task("ParameterMissing", "", None), "params"),
        ];
        for (task, part) in cases {
            let advice = advice(&task).unwrap_or_default();
            assert!(advice.contains(part), "{}: {advice}", task.reason);
        }
        assert_eq!(advice(&task("Failed", "", Some((1, "Error")))), None);
    }
}
