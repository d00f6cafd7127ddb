//! Go durations: `1h2m3.5s`.

use core::time::Duration;

/// A duration and whether it is negative.
pub(crate) fn parse(text: &str) -> Option<(bool, Duration)> {
    let (negative, mut rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if rest == "0" {
        return Some((false, Duration::ZERO));
    }
    let mut nanos = 0f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        // Longer units first where one begins another.
        let units = [
            ("ns", 1.0),
            ("us", 1e3),
            ("µs", 1e3),
            ("μs", 1e3),
            ("ms", 1e6),
            ("s", 1e9),
            ("m", 6e10),
            ("h", 3.6e12),
        ];
        let (unit, scale) = units.iter().find(|(unit, _)| rest.starts_with(unit))?;
        nanos += number * scale;
        rest = &rest[unit.len()..];
    }
    if nanos > i64::MAX as f64 {
        return None;
    }
    Some((negative, Duration::from_nanos(nanos as u64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_read() {
        let cases = [
            ("0", Some((false, 0))),
            ("0s", Some((false, 0))),
            ("1m0s", Some((false, 60_000))),
            ("1h1.5s300ms", Some((false, 3_601_800))),
            ("-5s", Some((true, 5_000))),
            (".5s", Some((false, 500))),
            ("", None),
            ("5", None),
            ("s", None),
            ("1x", None),
            ("9999999999h", None),
        ];
        for (text, expected) in cases {
            let read = parse(text).map(|(negative, duration)| (negative, duration.as_millis()));
            assert_eq!(read, expected, "{text}");
        }
    }
}
