//! The ConfigMaps `config-leader-election-*` (P-393).

use std::collections::BTreeMap;

use super::ConfigError;
use crate::Duration;

/// The most buckets there may be.
const MOST: u32 = 10;

/// How the processes of one component share the work. What the data does not say is left to the component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderElection {
    /// Into how many parts the keys are divided, each with a leader of its own: 1 to 10.
    pub buckets: u32,
    /// How long a leader that fell silent is respected.
    pub lease_duration: Option<Duration>,
    /// How long a leader acts on without having renewed.
    pub renew_deadline: Option<Duration>,
    /// How often to try.
    pub retry_period: Option<Duration>,
    /// Beginnings of Leases' names (`<component>.<queue>`), and what stands there instead.
    pub lease_prefixes: BTreeMap<String, String>,
}

impl Default for LeaderElection {
    fn default() -> Self {
        LeaderElection {
            buckets: 1,
            lease_duration: None,
            renew_deadline: None,
            retry_period: None,
            lease_prefixes: BTreeMap::new(),
        }
    }
}

impl LeaderElection {
    /// Reads the ConfigMap's data.
    ///
    /// # Errors
    /// A period that is no duration, or buckets that are no number from 1 to 10.
    pub fn from_data(data: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        // Of two spellings, the newer wins.
        let period = |older: &str, newer: &str| -> Result<Option<Duration>, ConfigError> {
            let mut read = None;
            for key in [older, newer] {
                if let Some(text) = data.get(key) {
                    let period = text.parse::<Duration>().map_err(|cause| {
                        ConfigError(format!("failed to parse {key:?}: {cause}"))
                    })?;
                    read = Some(period);
                }
            }
            Ok(read)
        };
        let mut read = LeaderElection {
            lease_duration: period("leaseDuration", "lease-duration")?,
            renew_deadline: period("renewDeadline", "renew-deadline")?,
            retry_period: period("retryPeriod", "retry-period")?,
            ..LeaderElection::default()
        };
        if let Some(text) = data.get("buckets") {
            read.buckets = text.parse().map_err(|_| {
                ConfigError(format!(
                    "failed to parse \"buckets\": strconv.ParseUint: parsing {text:?}: invalid syntax"
                ))
            })?;
        }
        for (key, value) in data {
            if let Some(prefix) = key.strip_prefix("map-lease-prefix.")
                && !value.is_empty()
            {
                read.lease_prefixes.insert(prefix.to_owned(), value.clone());
            }
        }
        if !(1..=MOST).contains(&read.buckets) {
            return Err(ConfigError(format!(
                "buckets: value must be between 1 <= {} <= {MOST}",
                read.buckets
            )));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P-393
    #[test]
    fn newer_spellings_win_and_what_is_not_said_is_left_open() {
        let data: BTreeMap<String, String> = [
            ("leaseDuration", "1s"),
            ("lease-duration", "2s"),
            ("renewDeadline", "3s"),
            ("buckets", "10"),
            ("map-lease-prefix.component.queue", "mine"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        let read = LeaderElection::from_data(&data).unwrap();
        assert_eq!(read.buckets, 10);
        assert_eq!(read.lease_duration, "2s".parse().ok());
        assert_eq!(read.renew_deadline, "3s".parse().ok());
        assert_eq!(read.retry_period, None);
        assert_eq!(read.lease_prefixes["component.queue"], "mine");
    }
}
