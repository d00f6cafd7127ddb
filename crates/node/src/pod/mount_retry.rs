//! When to try a pod's volumes again, and what to say about it: soon at first, since what is missing is often on its way,
//! then less often, and each reason is told once (K-306).

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(50);
/// The longest: who adds what is missing does not want to wait for it.
const LONGEST: Duration = Duration::from_secs(4);
/// What lasts so long is worth an event.
const WORTH_TELLING: Duration = Duration::from_millis(400);

/// The failures of one pod so far.
#[derive(Debug, Default)]
pub(super) struct MountRetry {
    waited: Option<Duration>,
    told: Option<String>,
}

impl MountRetry {
    /// Counts a failure: how long to wait now, and whether its reason is news that lasts.
    pub(super) fn failed(&mut self, reason: &str) -> (Duration, bool) {
        let wait = self
            .waited
            .map_or(FIRST, |waited| (waited * 2).min(LONGEST));
        self.waited = Some(wait);
        let tell = wait >= WORTH_TELLING && self.told.as_deref() != Some(reason);
        if tell {
            self.told = Some(reason.to_owned());
        }
        (wait, tell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_each_reason_that_lasts_is_told_once() {
        let mut retry = MountRetry::default();
        let said: Vec<(u128, bool)> = (0..9)
            .map(|at| retry.failed(if at < 8 { "a" } else { "b" }))
            .map(|(wait, tell)| (wait.as_millis(), tell))
            .collect();
        let expected = [
            (50, false),
            (100, false),
            (200, false),
            (400, true),
            (800, false),
            (1600, false),
            (3200, false),
            (4000, false),
            (4000, true),
        ];
        assert_eq!(said, expected);
    }
}
