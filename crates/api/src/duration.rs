//! Durations as Go writes and reads them: `1h0m0s`, `1.5h`, `-300ms`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const MICROSECOND: i64 = 1_000;
const MILLISECOND: i64 = 1_000_000;
const SECOND: i64 = 1_000_000_000;

/// A span of time in nanoseconds, written as Go's `time.Duration` is: `90s` reads, and prints as `1m30s`.
///
/// ```
/// use tektite_api::Duration;
/// let hour: Duration = "60m".parse().unwrap();
/// assert_eq!(hour.to_string(), "1h0m0s");
/// assert_eq!(hour, Duration::from_secs(3600));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub i64);

impl Duration {
    /// No time at all; as a timeout it means none.
    pub const ZERO: Duration = Duration(0);

    /// Whole seconds; saturates at Go's range of about 292 years.
    pub const fn from_secs(seconds: i64) -> Self {
        Duration(seconds.saturating_mul(SECOND))
    }

    /// Whole minutes; saturates.
    pub const fn from_minutes(minutes: i64) -> Self {
        Self::from_secs(minutes.saturating_mul(60))
    }

    /// Milliseconds; saturates.
    pub const fn from_millis(millis: i64) -> Self {
        Duration(millis.saturating_mul(MILLISECOND))
    }

    /// Nanoseconds.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Seconds with their fraction.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / SECOND as f64
    }

    /// Whether it is exactly zero.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Whether it is below zero.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// As the standard library's type; `None` when negative.
    pub fn to_std(self) -> Option<std::time::Duration> {
        u64::try_from(self.0)
            .ok()
            .map(std::time::Duration::from_nanos)
    }
}

impl From<Duration> for jiff::SignedDuration {
    fn from(duration: Duration) -> Self {
        jiff::SignedDuration::from_nanos(duration.0)
    }
}

impl From<std::time::Duration> for Duration {
    fn from(duration: std::time::Duration) -> Self {
        Duration(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
    }
}

/// `value` in units of `unit` nanoseconds, with as many decimals as it has.
fn decimal(f: &mut fmt::Formatter<'_>, value: u64, unit: u64, suffix: &str) -> fmt::Result {
    let (whole, mut fraction) = (value / unit, value % unit);
    write!(f, "{whole}")?;
    if fraction > 0 {
        let mut width = unit.ilog10() as usize;
        while fraction % 10 == 0 {
            fraction /= 10;
            width -= 1;
        }
        write!(f, ".{fraction:0width$}")?;
    }
    f.write_str(suffix)
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        if nanos == 0 {
            return f.write_str("0s");
        }
        if self.0 < 0 {
            f.write_str("-")?;
        }
        if nanos < SECOND as u64 {
            return match nanos {
                n if n < MICROSECOND as u64 => write!(f, "{n}ns"),
                n if n < MILLISECOND as u64 => decimal(f, n, MICROSECOND as u64, "µs"),
                n => decimal(f, n, MILLISECOND as u64, "ms"),
            };
        }
        let minute = 60 * SECOND as u64;
        let (minutes, rest) = (nanos / minute, nanos % minute);
        if minutes >= 60 {
            write!(f, "{}h", minutes / 60)?;
        }
        if minutes > 0 {
            write!(f, "{}m", minutes % 60)?;
        }
        decimal(f, rest, SECOND as u64, "s")
    }
}

/// Why a text is no duration, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseDurationError {
    /// Not of the form number-unit, or out of range.
    #[error("time: invalid duration {0}")]
    Invalid(String),
    /// A number without a unit.
    #[error("time: missing unit in duration {0}")]
    MissingUnit(String),
    /// A unit that is none of ns, us, ms, s, m, h.
    #[error("time: unknown unit {unit} in duration {text}")]
    UnknownUnit {
        /// The unit, quoted.
        unit: String,
        /// The whole text, quoted.
        text: String,
    },
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

impl FromStr for Duration {
    type Err = ParseDurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || ParseDurationError::Invalid(quoted(text));
        let (negative, mut rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        if rest == "0" {
            return Ok(Duration(0));
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut total: i128 = 0;
        while !rest.is_empty() {
            let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
            let whole = digits(rest);
            let (integer, after) = rest.split_at(whole);
            let (fraction, after) = match after.strip_prefix('.') {
                Some(after) => after.split_at(digits(after)),
                None => ("", after),
            };
            if integer.is_empty() && fraction.is_empty() {
                return Err(invalid());
            }
            let end = after
                .find(|c: char| c == '.' || c.is_ascii_digit())
                .unwrap_or(after.len());
            let (unit, after) = after.split_at(end);
            let scale: i128 = match unit {
                "" => return Err(ParseDurationError::MissingUnit(quoted(text))),
                "ns" => 1,
                "us" | "µs" | "μs" => MICROSECOND.into(),
                "ms" => MILLISECOND.into(),
                "s" => SECOND.into(),
                "m" => i128::from(SECOND) * 60,
                "h" => i128::from(SECOND) * 3600,
                _ => {
                    return Err(ParseDurationError::UnknownUnit {
                        unit: quoted(unit),
                        text: quoted(text),
                    });
                }
            };
            let integer: i128 = if integer.is_empty() {
                0
            } else {
                integer.parse().map_err(|_| invalid())?
            };
            let kept = &fraction[..fraction.len().min(18)];
            let part: i128 = if kept.is_empty() {
                0
            } else {
                kept.parse().map_err(|_| invalid())?
            };
            total = integer
                .checked_mul(scale)
                .and_then(|n| n.checked_add(part * scale / 10i128.pow(kept.len() as u32)))
                .and_then(|n| n.checked_add(total))
                .ok_or_else(invalid)?;
            rest = after;
        }
        let signed = if negative { -total } else { total };
        i64::try_from(signed).map(Duration).map_err(|_| invalid())
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_print_as_go_does() {
        for (text, printed) in [
            ("1h", "1h0m0s"),
            ("90m", "1h30m0s"),
            ("1h30m0s", "1h30m0s"),
            ("1.5h", "1h30m0s"),
            ("90s", "1m30s"),
            ("0", "0s"),
            ("0s", "0s"),
            ("-1s", "-1s"),
            ("1500ms", "1.5s"),
            ("1.5ms", "1.5ms"),
            ("100us", "100µs"),
            ("7ns", "7ns"),
            (".5s", "500ms"),
            ("+2m", "2m0s"),
            ("24h0m10s", "24h0m10s"),
        ] {
            assert_eq!(
                text.parse::<Duration>().unwrap().to_string(),
                printed,
                "{text}"
            );
        }
        assert_eq!(
            i64::MIN,
            "-9223372036854775808ns".parse::<Duration>().unwrap().0
        );
    }

    #[test]
    fn a_bad_duration_is_refused_in_gos_words() {
        for (text, message) in [
            ("", r#"time: invalid duration """#),
            ("abc", r#"time: invalid duration "abc""#),
            ("10", r#"time: missing unit in duration "10""#),
            ("1d", r#"time: unknown unit "d" in duration "1d""#),
            ("1h 2m", r#"time: unknown unit "h " in duration "1h 2m""#),
            (
                "9223372036854775808ns",
                r#"time: invalid duration "9223372036854775808ns""#,
            ),
        ] {
            assert_eq!(text.parse::<Duration>().unwrap_err().to_string(), message);
        }
    }
}
