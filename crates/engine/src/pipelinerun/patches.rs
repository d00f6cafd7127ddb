//! Telling children to end: because the run was cancelled, or because it took too long.

use std::collections::BTreeSet;

use serde_json::json;
use tektite_api::v1::{PipelineRun, TaskRunSpec};
use tektite_api::v1beta1::CustomRunSpec;

use super::observed::Observed;
use super::task::{CUSTOM_RUN_TIMED_OUT, Kind, TASK_RUN_TIMED_OUT};
use crate::decision::{Effect, Patch, Refusal};

const TASK_RUN_CANCELLED: &str =
    "TaskRun cancelled as the PipelineRun it belongs to has been cancelled.";
const CUSTOM_RUN_CANCELLED: &str =
    "CustomRun cancelled as the PipelineRun it belongs to has been cancelled.";

/// Why children are told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// P-273
    Cancelled,
    /// P-191
    TimedOut,
}

/// What to do, and what could not be done.
#[derive(Debug, Default)]
pub(super) struct Patches {
    pub effects: Vec<Effect>,
    pub errors: Vec<String>,
}

/// Patches for the children in `status.childReferences` of the given `tasks`, or of all if there are none given.
///
/// A child that has ended or was told so before is left alone; what the API refused becomes an error (P-192, P-274).
pub(super) fn tell(
    run: &PipelineRun,
    seen: &Observed,
    cause: Cause,
    tasks: Option<&BTreeSet<String>>,
) -> Patches {
    let mut patches = Patches::default();
    let chosen = |name: &String| tasks.is_none_or(|tasks| tasks.contains(name));
    let children: Vec<_> = run
        .status
        .child_references
        .iter()
        .filter(|child| chosen(&child.pipeline_task_name))
        .collect();
    let unknown: Vec<String> = children
        .iter()
        .filter(|child| child.kind != Kind::Task.name() && child.kind != Kind::Custom.name())
        .map(|child| format!("{}:{}", child.name, child.kind))
        .collect();
    if !unknown.is_empty() {
        // P-220
        patches.errors.push(format!(
            "found child objects of unknown kinds: map[{}]",
            unknown.join(" ")
        ));
    }
    for child in children
        .iter()
        .filter(|child| child.kind == Kind::Task.name())
    {
        let message = match cause {
            Cause::Cancelled => TASK_RUN_CANCELLED,
            Cause::TimedOut => TASK_RUN_TIMED_OUT,
        };
        let known = seen
            .task_runs
            .iter()
            .find(|it| it.metadata.name.as_deref() == Some(&child.name));
        if known.is_some_and(|it| {
            it.is_done() || (it.is_cancelled() && it.spec.status_message == message)
        }) {
            continue;
        }
        let patch = patch(TaskRunSpec::CANCELLED, message);
        patches.add(
            Effect::PatchTaskRun {
                name: child.name.clone(),
                patch,
            },
            "TaskRun",
            &child.name,
            cause,
            seen,
        );
    }
    for child in children
        .iter()
        .filter(|child| child.kind == Kind::Custom.name())
    {
        let message = match cause {
            Cause::Cancelled => CUSTOM_RUN_CANCELLED,
            Cause::TimedOut => CUSTOM_RUN_TIMED_OUT,
        };
        let known = seen
            .custom_runs
            .iter()
            .find(|it| it.metadata.name.as_deref() == Some(&child.name));
        if known.is_some_and(|it| {
            it.is_done()
                || (it.spec.status == CustomRunSpec::CANCELLED && it.spec.status_message == message)
        }) {
            continue;
        }
        let patch = patch(CustomRunSpec::CANCELLED, message);
        patches.add(
            Effect::PatchCustomRun {
                name: child.name.clone(),
                patch,
            },
            "CustomRun",
            &child.name,
            cause,
            seen,
        );
    }
    patches
}

fn patch(status: &str, message: &str) -> Patch {
    Patch::Json(vec![
        json!({"op": "add", "path": "/spec/status", "value": status}),
        json!({"op": "add", "path": "/spec/statusMessage", "value": message}),
    ])
}

impl Patches {
    fn add(&mut self, effect: Effect, kind: &str, name: &str, cause: Cause, seen: &Observed) {
        let Some(refusal) = seen
            .refusals
            .iter()
            .find(|refusal| refusal.effect == effect)
        else {
            self.effects.push(effect);
            return;
        };
        if is_harmless(refusal) {
            return;
        }
        let what = match cause {
            Cause::Cancelled => "cancellation",
            Cause::TimedOut => "timeout",
        };
        self.errors.push(format!(
            "failed to patch {kind} `{name}` with {what}: {}",
            refusal.message
        ));
    }
}

/// The child is gone, or is a TaskRun that has ended meanwhile (P-192, P-273).
fn is_harmless(refusal: &Refusal) -> bool {
    let ended = matches!(refusal.effect, Effect::PatchTaskRun { .. })
        && refusal.code == 400
        && refusal.message.contains("no updates are allowed");
    refusal.code == 404 || ended
}
