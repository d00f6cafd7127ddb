//! What runs look like to a person: one flat list of tasks per run, made from the objects seen so far. Pure.

mod advice;
mod board;
mod fate;
mod lacking;
mod obstacles;
mod step;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use advice::{advice, run_advice};
pub use board::{Board, Root, RootKind};
pub use fate::Fate;
pub use lacking::Lacking;

/// How far something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not begun.
    Waiting,
    /// Under way.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
    /// Ended because somebody asked for it.
    Cancelled,
    /// Will not run.
    Skipped,
}

impl State {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Running => "running",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
            State::Skipped => "skipped",
        }
    }
}

/// One run that was started or asked for.
#[derive(Debug, Clone)]
pub struct RunView {
    /// `PipelineRun` or `TaskRun`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// How far it is.
    pub state: State,
    /// Reason of its condition.
    pub reason: String,
    /// Message of its condition.
    pub message: String,
    /// How long it took, or takes so far.
    pub elapsed: Option<Duration>,
    /// Results with their values as text.
    pub results: Vec<(String, String)>,
    /// Its tasks, in the order of the pipeline.
    pub tasks: Vec<TaskView>,
}

/// One task of a run.
#[derive(Debug, Clone)]
pub struct TaskView {
    /// What it is called in logs and lists.
    pub label: String,
    /// How far it is.
    pub state: State,
    /// How long it took, or takes so far.
    pub elapsed: Option<Duration>,
    /// Reason of its condition, or why it is skipped.
    pub reason: String,
    /// Message of its condition.
    pub message: String,
    /// Why its pod does not start, in the node's words.
    pub obstacle: Option<String>,
    /// The object or key whose absence is to blame.
    pub lacking: Option<Lacking>,
    /// How often it was tried again.
    pub retries: usize,
    /// How its outcome came from another run: `inherited` or `cached`. Empty if it ran in this one.
    pub taken_over: &'static str,
    /// Its steps.
    pub steps: Vec<StepView>,
}

/// One step of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepView {
    /// Its name; unnamed steps are called `unnamed-N` as in container names.
    pub name: String,
    /// How far it is.
    pub state: State,
    /// Its exit code, once it has ended.
    pub exit_code: Option<i32>,
    /// Why it ended, as the container says, or whoever ended it.
    pub reason: String,
    /// Its image, as the task names it.
    pub image: String,
    /// Why it does not start, in the node's words.
    pub obstacle: Option<String>,
}

impl TaskView {
    /// The step that runs now.
    pub fn running_step(&self) -> Option<&StepView> {
        self.steps.iter().find(|step| step.state == State::Running)
    }
}
