//! The steps of a TaskRun as its status has them.

use tektite_api::v1::{StepState, TaskRunStatus};

use super::{State, StepView};

/// All steps, in order.
pub(super) fn steps(status: &TaskRunStatus) -> Vec<StepView> {
    let spec = status.task_spec.as_ref();
    let image = |at: usize| {
        spec.and_then(|spec| spec.steps.get(at))
            .map(|step| step.image.clone())
    };
    let steps = status.steps.iter().enumerate();
    steps
        .map(|(at, state)| step(state, image(at).unwrap_or_default()))
        .collect()
}

fn step(step: &StepState, image: String) -> StepView {
    let ended = step.terminated.as_ref();
    let state = match (ended, &step.running) {
        (Some(ended), _) if step.termination_reason == "Skipped" && ended.exit_code != 0 => {
            State::Skipped
        }
        (Some(ended), _) if ended.exit_code == 0 => State::Succeeded,
        (Some(_), _) if step.termination_reason == "Continued" => State::Succeeded,
        (Some(_), _) => State::Failed,
        (None, Some(_)) => State::Running,
        (None, None) => State::Waiting,
    };
    let container = step
        .container
        .strip_prefix("step-")
        .unwrap_or(&step.container);
    let reason = match step.termination_reason.as_str() {
        "TimeoutExceeded" => Some(step.termination_reason.clone()),
        _ => ended.and_then(|ended| ended.reason.clone()),
    };
    StepView {
        name: if step.name.is_empty() {
            container.to_owned()
        } else {
            step.name.clone()
        },
        state,
        exit_code: ended.map(|ended| ended.exit_code),
        reason: reason.unwrap_or_default(),
        image,
        obstacle: step
            .waiting
            .as_ref()
            .and_then(|waiting| waiting.message.clone())
            .filter(|message| !message.is_empty()),
    }
}
