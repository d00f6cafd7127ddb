//! The `Succeeded` condition of a TaskRun: what may set it and what that does to times (T-344, T-351).

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tektite_api::v1::{Condition, TaskRunStatus};

/// The API's times have whole seconds.
pub(crate) fn seconds(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// Sets a condition; its time changes with any change of status, reason or message.
pub(crate) fn set(conditions: &mut Vec<Condition>, mut new: Condition, now: Timestamp) {
    if let Some(old) = conditions.iter_mut().find(|c| c.type_ == new.type_) {
        new.last_transition_time = old.last_transition_time.clone();
        if *old != new {
            new.last_transition_time = Some(seconds(now));
            *old = new;
        }
        return;
    }
    new.last_transition_time = Some(seconds(now));
    conditions.push(new);
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
}

fn succeeded(status: &str, reason: &str, message: String) -> Condition {
    Condition {
        type_: Condition::SUCCEEDED.into(),
        status: status.into(),
        reason: reason.into(),
        message,
        ..Condition::default()
    }
}

/// The run is under way, or waits.
pub(crate) fn ongoing(
    status: &mut TaskRunStatus,
    reason: &str,
    message: impl Into<String>,
    now: Timestamp,
) {
    set(
        &mut status.conditions,
        succeeded("Unknown", reason, message.into()),
        now,
    );
}

/// The run's pod ended badly; completion is recorded elsewhere.
pub(crate) fn not_succeeded(
    status: &mut TaskRunStatus,
    reason: &str,
    message: impl Into<String>,
    now: Timestamp,
) {
    set(
        &mut status.conditions,
        succeeded("False", reason, message.into()),
        now,
    );
}

/// The controller ends the run here and now.
pub(crate) fn failed(
    status: &mut TaskRunStatus,
    reason: &str,
    message: impl Into<String>,
    now: Timestamp,
) {
    not_succeeded(status, reason, message, now);
    status.completion_time =
        Condition::succeeded(&status.conditions).and_then(|c| c.last_transition_time.clone());
}

/// All steps ended well.
pub(crate) fn success(status: &mut TaskRunStatus, now: Timestamp) {
    done_well(status, "All Steps have completed executing".to_owned(), now);
}

/// The run is what was wanted, for the reason that `message` gives.
pub(crate) fn done_well(status: &mut TaskRunStatus, message: String, now: Timestamp) {
    set(
        &mut status.conditions,
        succeeded("True", "Succeeded", message),
        now,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_transition_time_moves_with_any_change_and_only_then() {
        // T-344
        let mut status = TaskRunStatus::default();
        let time = |s: &TaskRunStatus| {
            s.conditions[0]
                .last_transition_time
                .as_ref()
                .unwrap()
                .0
                .as_second()
        };
        ongoing(&mut status, "Running", "m", at(1));
        ongoing(&mut status, "Running", "m", at(2));
        assert_eq!(time(&status), 1);
        ongoing(&mut status, "Running", "other", at(3));
        assert_eq!(time(&status), 3);
        not_succeeded(&mut status, "Running", "other", at(4));
        assert_eq!(time(&status), 4);
    }

    #[test]
    fn conditions_are_sorted_by_type() {
        // T-344
        let mut status = TaskRunStatus::default();
        let verified = Condition {
            type_: "TrustedResourcesVerified".into(),
            ..Condition::default()
        };
        set(&mut status.conditions, verified, at(1));
        ongoing(&mut status, "Started", "", at(1));
        assert_eq!(status.conditions[0].type_, "Succeeded");
    }

    #[test]
    fn a_run_that_the_controller_fails_completes_at_its_transition() {
        // T-351
        let mut status = TaskRunStatus::default();
        failed(&mut status, "PodCreationFailed", "m", at(5));
        assert_eq!(status.completion_time, Some(seconds(at(5))));
    }
}
