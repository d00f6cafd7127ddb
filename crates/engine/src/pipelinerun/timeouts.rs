//! How long a run, its tasks and its finally tasks may take.

use jiff::{SignedDuration, Timestamp};
use tektite_api::Duration;
use tektite_api::config::Config;
use tektite_api::v1::PipelineRun;

/// The limits in force. `Some(ZERO)` for tasks or finally means: set, to no limit.
#[derive(Clone, Debug)]
pub(super) struct Timeouts {
    /// Of the whole run; `ZERO` is none (P-188).
    pub pipeline: Duration,
    /// Of its tasks (P-189).
    pub tasks: Option<Duration>,
    /// Of its finally tasks, since the first of them started (P-189).
    pub finally: Option<Duration>,
}

impl Timeouts {
    /// What `run` and the installation's defaults say.
    pub(super) fn of(run: &PipelineRun, config: &Config) -> Self {
        let given = run.spec.timeouts.clone().unwrap_or_default();
        let rest = |other: Option<Duration>| match (given.pipeline, other) {
            (Some(pipeline), Some(other)) if !pipeline.is_zero() && !other.is_zero() => {
                Some(Duration(pipeline.0.saturating_sub(other.0)))
            }
            _ => None,
        };
        Self {
            pipeline: given.pipeline.unwrap_or_else(|| default_timeout(config)),
            tasks: given.tasks.or_else(|| rest(given.finally)),
            finally: given.finally.or_else(|| rest(given.tasks)),
        }
    }
}

/// `default-timeout-minutes` (P-370).
pub(super) fn default_timeout(config: &Config) -> Duration {
    config.defaults.timeout()
}

/// Whether more than `limit` has passed since `start`; never without a limit or a start (P-188).
pub(super) fn exceeded(start: Option<Timestamp>, limit: Option<Duration>, now: Timestamp) -> bool {
    match (start, limit) {
        (Some(start), Some(limit)) if !limit.is_zero() => {
            now.duration_since(start) > SignedDuration::from(limit)
        }
        _ => false,
    }
}

/// When `limit` after `start` will be over: the first moment at which [`exceeded`] holds.
pub(super) fn over_at(start: Timestamp, limit: Duration) -> Option<Timestamp> {
    start
        .checked_add(SignedDuration::from(limit))
        .ok()?
        .checked_add(SignedDuration::from_nanos(1))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn timeouts(given: Value) -> [Option<String>; 3] {
        let run: PipelineRun =
            serde_json::from_value(json!({"spec": {"timeouts": given}})).unwrap();
        let timeouts = Timeouts::of(&run, &Config::default());
        let text = |limit: Option<Duration>| limit.map(|limit| limit.to_string());
        [
            text(Some(timeouts.pipeline)),
            text(timeouts.tasks),
            text(timeouts.finally),
        ]
    }

    #[test]
    fn what_is_not_said_of_tasks_and_finally_follows_from_the_rest() {
        // P-188, P-189
        for (given, pipeline, tasks, finally) in [
            (json!(null), "1h0m0s", None, None),
            (json!({"pipeline": "0"}), "0s", None, None),
            (
                json!({"pipeline": "1h", "finally": "10m"}),
                "1h0m0s",
                Some("50m0s"),
                Some("10m0s"),
            ),
            (
                json!({"pipeline": "1h", "tasks": "45m"}),
                "1h0m0s",
                Some("45m0s"),
                Some("15m0s"),
            ),
            (
                json!({"pipeline": "1h", "tasks": "0"}),
                "1h0m0s",
                Some("0s"),
                None,
            ),
            (
                json!({"pipeline": "0", "finally": "10m"}),
                "0s",
                None,
                Some("10m0s"),
            ),
            (json!({"tasks": "10m"}), "1h0m0s", Some("10m0s"), None),
        ] {
            let expected = [Some(pipeline), tasks, finally].map(|text| text.map(str::to_owned));
            assert_eq!(timeouts(given.clone()), expected, "{given}");
        }
    }

    #[test]
    fn a_limit_is_exceeded_only_strictly_after_it_and_zero_never_is() {
        // P-188
        let start = Timestamp::from_second(1000).unwrap();
        let at = |seconds: i64| Timestamp::from_second(1000 + seconds).unwrap();
        let limit = Some(Duration::from_secs(10));
        assert!(!exceeded(Some(start), limit, at(10)));
        assert!(exceeded(
            Some(start),
            limit,
            over_at(start, Duration::from_secs(10)).unwrap()
        ));
        assert!(!exceeded(Some(start), Some(Duration::ZERO), at(1_000_000)));
        assert!(!exceeded(None, limit, at(100)));
        assert!(!exceeded(Some(start), None, at(100)));
    }
}
