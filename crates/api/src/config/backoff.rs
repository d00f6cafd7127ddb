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
