//! The ConfigMap `config-wait-exponential-backoff`.

use std::collections::BTreeMap;

use super::{ConfigError, parse_int};
use crate::Duration;

/// How waiting grows when the API server refuses for the moment.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitExponentialBackoff {
    /// First wait.
    pub duration: Duration,
    /// Growth per step.
    pub factor: f64,
    /// Random share added to each wait.
    pub jitter: f64,
    /// Most steps.
    pub steps: i64,
    /// Longest wait.
    pub cap: Duration,
}

impl Default for WaitExponentialBackoff {
    fn default() -> Self {
        WaitExponentialBackoff {
            duration: Duration::from_secs(1),
            factor: 2.0,
            jitter: 0.0,
            steps: 10,
            cap: Duration::from_secs(60),
        }
    }
}

impl WaitExponentialBackoff {
    /// How long to wait before each further attempt, as often as there is one. Jitter is read, but not used (P-377).
    pub fn waits(&self) -> impl Iterator<Item = std::time::Duration> + use<> {
        let (factor, cap) = (self.factor, seconds(self.cap));
        let (mut steps, mut next) = (self.steps, seconds(self.duration));
        std::iter::from_fn(move || {
            if steps <= 1 {
                return None;
            }
            steps -= 1;
            let wait = next;
            if factor != 0.0 {
                next *= factor;
            }
            // A wait as long as the cap is the last, with no attempt after it.
            if cap > 0.0 && next > cap {
                steps = 0;
                return None;
            }
            std::time::Duration::try_from_secs_f64(wait).ok()
        })
    }

    /// Reads the ConfigMap's data.
    ///
    /// # Errors
    /// The first value that does not parse.
    pub fn from_data(data: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let failed = |key: &str, text: &str, cause: String| {
            ConfigError(format!("failed parsing {key} {text:?}: {cause}"))
        };
        let duration = |key: &str, to: &mut Duration| match data.get(key) {
            Some(text) => text
                .parse()
                .map(|parsed| *to = parsed)
                .map_err(|e: crate::ParseDurationError| failed(key, text, e.to_string())),
            None => Ok(()),
        };
        let float = |key: &str, to: &mut f64| match data.get(key) {
            Some(text) => text.parse().map(|parsed| *to = parsed).map_err(|_| {
                failed(
                    key,
                    text,
                    format!("strconv.ParseFloat: parsing {text:?}: invalid syntax"),
                )
            }),
            None => Ok(()),
        };
        let mut read = WaitExponentialBackoff::default();
        duration("duration", &mut read.duration)?;
        float("factor", &mut read.factor)?;
        float("jitter", &mut read.jitter)?;
        if let Some(text) = data.get("steps") {
            read.steps = parse_int(text).map_err(|cause| failed("steps", text, cause.0))?;
        }
        duration("cap", &mut read.cap)?;
        Ok(read)
    }
}

fn seconds(duration: Duration) -> f64 {
    jiff::SignedDuration::from(duration).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P-377
    #[test]
    fn waits_grow_until_the_cap_or_the_steps_are_used_up() {
        let seconds = |backoff: &WaitExponentialBackoff| -> Vec<f64> {
            backoff.waits().map(|wait| wait.as_secs_f64()).collect()
        };
        let mut backoff = WaitExponentialBackoff::default();
        assert_eq!(seconds(&backoff), [1.0, 2.0, 4.0, 8.0, 16.0]);
        backoff.steps = 3;
        assert_eq!(seconds(&backoff), [1.0, 2.0]);
        backoff.factor = 0.0;
        assert_eq!(seconds(&backoff), [1.0, 1.0]);
        backoff.steps = 0;
        assert_eq!(seconds(&backoff), [0.0; 0]);
        let endless = WaitExponentialBackoff {
            factor: f64::NAN,
            cap: Duration::ZERO,
            steps: 100,
            ..WaitExponentialBackoff::default()
        };
        assert_eq!(seconds(&endless), [1.0]);
    }
}
