//! The time, as Tekton writes it.

use alloc::format;
use alloc::string::String;

use crate::system;

/// RFC 3339 with milliseconds in UTC (T-302).
pub(crate) fn started_at() -> String {
    let (date, [hour, minute, second], millis) = now();
    format!(
        "{}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z",
        year(date[0]),
        date[1],
        date[2]
    )
}

pub(crate) fn log_stamp() -> String {
    let (date, [hour, minute, second], _) = now();
    format!(
        "{}/{:02}/{:02} {hour:02}:{minute:02}:{second:02}",
        year(date[0]),
        date[1],
        date[2]
    )
}

fn year(year: u64) -> String {
    format!("{year:04}")
}

fn now() -> ([u64; 3], [u64; 3], u32) {
    let since = system::clock::now();
    let seconds = since.as_secs();
    let time = seconds % 86_400;
    (
        civil(seconds / 86_400),
        [time / 3600, time / 60 % 60, time % 60],
        since.subsec_millis(),
    )
}

/// Year, month and day of a day counted from 1970-01-01, by counting in 400-year eras that begin on 1 March.
fn civil(days: u64) -> [u64; 3] {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    [era * 400 + year + u64::from(month <= 2), month, day]
}

#[cfg(test)]
mod tests {
    #[test]
    fn days_become_dates() {
        for (days, date) in [
            (0, [1970, 1, 1]),
            (59, [1970, 3, 1]),
            (11_016, [2000, 2, 29]),
            (20_778, [2026, 11, 21]),
            (47_540, [2100, 2, 28]),
            (47_541, [2100, 3, 1]),
        ] {
            assert_eq!(super::civil(days), date, "{days}");
        }
    }
}
