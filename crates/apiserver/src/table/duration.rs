//! Short durations, as in the AGE column (K-148).

use jiff::Timestamp;

/// The time since an RFC 3339 time.
pub(crate) fn since(time: &str, now: Timestamp) -> String {
    if time.is_empty() {
        return "<unknown>".into();
    }
    match time.parse::<Timestamp>() {
        Ok(time) => short(now.as_second() - time.as_second()),
        Err(_) => "<unknown>".into(),
    }
}

/// A duration in at most two units.
pub(crate) fn short(seconds: i64) -> String {
    if seconds < -1 {
        return "<invalid>".into();
    }
    let seconds = seconds.max(0);
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    let two = |first: i64, unit: &str, second: i64, small: &str| {
        if second == 0 {
            format!("{first}{unit}")
        } else {
            format!("{first}{unit}{second}{small}")
        }
    };
    match seconds {
        0..=119 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => two(days, "d", hours % 24, "h"),
        _ if days < 730 => format!("{days}d"),
        _ if days < 365 * 8 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        // K-148
        for (seconds, expected) in [
            (-5, "<invalid>"),
            (9, "9s"),
            (119, "119s"),
            (245, "4m5s"),
            (600, "10m"),
            (3 * 3600 + 120, "3h2m"),
            (9 * 3600, "9h"),
            (5 * 86400, "5d"),
            (323 * 86400, "323d"),
        ] {
            assert_eq!(short(seconds), expected, "{seconds}");
        }
        assert_eq!(since("", Timestamp::UNIX_EPOCH), "<unknown>");
    }
}
