//! References to the run itself and to files inside the pod.

use tektite_api::v1::{TaskRun, TaskSpec};

use super::Replacements;
use crate::taskrun::step_container_name;

/// `$(context.…)` (T-180). `task` is the name of the Task, or of the run if its spec is inline.
pub fn context(run: &TaskRun, task: &str) -> Replacements {
    let metadata = |value: &Option<String>| value.clone().unwrap_or_default();
    Replacements::of_strings([
        ("context.taskRun.name", metadata(&run.metadata.name)),
        (
            "context.taskRun.namespace",
            metadata(&run.metadata.namespace),
        ),
        ("context.taskRun.uid", metadata(&run.metadata.uid)),
        ("context.task.name", task.to_owned()),
        (
            "context.task.retry-count",
            run.status.retries_status.len().to_string(),
        ),
    ])
}

/// Spellings of a reference to result `name` below `prefix`.
fn result_spellings(prefix: &str, name: &str) -> [String; 3] {
    [
        format!("{prefix}.{name}.path"),
        format!("{prefix}[\"{name}\"].path"),
        format!("{prefix}['{name}'].path"),
    ]
}

/// Replaces `$(step.results.r.path)` in each step and `$(results.r.path)` everywhere (T-181).
pub fn result_paths(spec: &mut TaskSpec) {
    for (i, step) in spec.steps.iter_mut().enumerate() {
        let container = step_container_name(&step.name, i);
        let paths = Replacements::of_strings(step.results.iter().flat_map(|result| {
            let path = format!("/tekton/steps/{container}/results/{}", result.name);
            result_spellings("step.results", &result.name).map(|key| (key, path.clone()))
        }));
        paths.apply_step(step);
    }
    let paths = Replacements::of_strings(spec.results.iter().flat_map(|result| {
        let path = format!("/tekton/results/{}", result.name);
        result_spellings("results", &result.name).map(|key| (key, path.clone()))
    }));
    paths.apply_task_spec(spec);
}

/// Replaces `$(step.artifacts.path)` and `$(artifacts.path)` in steps (T-183).
pub fn artifact_paths(spec: &mut TaskSpec) {
    for (i, step) in spec.steps.iter_mut().enumerate() {
        let container = step_container_name(&step.name, i);
        Replacements::of_strings([
            (
                "step.artifacts.path",
                format!("/tekton/steps/{container}/artifacts/provenance.json"),
            ),
            (
                "artifacts.path",
                "/tekton/artifacts/provenance.json".to_owned(),
            ),
        ])
        .apply_step(step);
    }
}

/// Replaces `$(steps.<container>.exitCode.path)` (T-182).
pub fn exit_code_paths(spec: &mut TaskSpec) {
    let paths = Replacements::of_strings(spec.steps.iter().enumerate().map(|(i, step)| {
        let container = step_container_name(&step.name, i);
        (
            format!("steps.{container}.exitCode.path"),
            format!("/tekton/steps/{container}/exitCode"),
        )
    }));
    paths.apply_task_spec(spec);
}
