//! How a task came to its end when it did not succeed: at which step, and what kind of end it was.

use super::{State, StepView, TaskView};

/// What became of a task that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate<'a> {
    /// The image of a step could not be had.
    NoImage(Option<&'a StepView>),
    /// A step could not be started.
    NotStarted(Option<&'a StepView>),
    /// The kernel killed a step for its memory.
    OutOfMemory(Option<&'a StepView>),
    /// The task's time was up; the step that was to end next.
    OutOfTime(Option<&'a StepView>),
    /// A step took longer than its own `timeout`.
    StepOutOfTime(&'a StepView),
    /// A step ended with an exit code other than 0.
    Exit(&'a StepView, i32),
    /// Something that concerns no step.
    Other,
}

impl<'a> Fate<'a> {
    /// What became of this task.
    pub fn of(task: &'a TaskView) -> Self {
        let failed = task.steps.iter().find(|step| step.state == State::Failed);
        let named = || {
            let (_, rest) = task.message.split_once("the step \"")?;
            let (name, _) = rest.split_once('"')?;
            task.steps.iter().find(|step| step.name == name)
        };
        let held = || task.steps.iter().find(|step| step.obstacle.is_some());
        match task.reason.as_str() {
            "TaskRunImagePullFailed" => Fate::NoImage(named().or(failed)),
            "CreateContainerConfigError" | "PodCreationFailed" => {
                Fate::NotStarted(named().or_else(held))
            }
            "TaskRunTimeout" => Fate::OutOfTime(failed.or_else(held)),
            "StepOOM" => Fate::OutOfMemory(failed),
            _ => match failed {
                Some(step) if step.reason == "OOMKilled" => Fate::OutOfMemory(failed),
                Some(step) if step.reason == "TimeoutExceeded" => Fate::StepOutOfTime(step),
                Some(step) => step
                    .exit_code
                    .map_or(Fate::Other, |code| Fate::Exit(step, code)),
                None => Fate::Other,
            },
        }
    }

    /// The step it happened at.
    pub fn step(self) -> Option<&'a StepView> {
        match self {
            Fate::NoImage(step)
            | Fate::NotStarted(step)
            | Fate::OutOfMemory(step)
            | Fate::OutOfTime(step) => step,
            Fate::StepOutOfTime(step) | Fate::Exit(step, _) => Some(step),
            Fate::Other => None,
        }
    }
}
