//! The run's conditions: what is set, and when the time of the last change moves.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tektite_api::v1::{Condition, PipelineRunStatus};

/// A point in time as Kubernetes stores it: whole seconds.
pub(super) fn stored(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

/// Sets one condition; its time moves whenever any of its fields does, and the list stays sorted by type (P-280).
pub(super) fn set(status: &mut PipelineRunStatus, mut new: Condition, now: Timestamp) {
    let old = status.conditions.iter().find(|old| old.type_ == new.type_);
    new.last_transition_time = Some(stored(now));
    if let Some(old) = old {
        let same = Condition {
            last_transition_time: old.last_transition_time.clone(),
            ..new.clone()
        };
        if same == *old {
            return;
        }
    }
    status.conditions.retain(|old| old.type_ != new.type_);
    status.conditions.push(new);
    status.conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
}

fn succeeded(status: &str, reason: &str, message: &str) -> Condition {
    Condition {
        type_: Condition::SUCCEEDED.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        ..Condition::default()
    }
}

/// Says that the run goes on, and how.
pub(super) fn mark_running(
    status: &mut PipelineRunStatus,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    set(status, succeeded("Unknown", reason, message), now);
}

/// Says that the run has ended, well or badly; it is complete since the condition changed (P-280).
pub(super) fn mark_done(
    status: &mut PipelineRunStatus,
    well: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    set(
        status,
        succeeded(if well { "True" } else { "False" }, reason, message),
        now,
    );
    status.completion_time = Condition::succeeded(&status.conditions)
        .and_then(|condition| condition.last_transition_time.clone());
}
