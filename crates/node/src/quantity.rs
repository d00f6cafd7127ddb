//! Kubernetes quantities as integers.

/// One unit, in the billionths that [`nanos`] counts.
pub(crate) const ONE: i128 = 1_000_000_000;

/// Billionths of the unit; `None` if the text is no quantity.
pub(crate) fn nanos(text: &str) -> Option<i128> {
    let text = text.trim();
    let digits = text
        .find(|character: char| !matches!(character, '0'..='9' | '.' | '+' | '-'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let scale: i128 = match suffix {
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "" => ONE,
        "k" => 1_000 * ONE,
        "M" => 1_000_000 * ONE,
        "G" => 1_000_000_000 * ONE,
        "T" => 1_000_000_000_000 * ONE,
        "P" => 1_000_000_000_000_000 * ONE,
        "E" => 1_000_000_000_000_000_000 * ONE,
        "Ki" => (1 << 10) * ONE,
        "Mi" => (1 << 20) * ONE,
        "Gi" => (1 << 30) * ONE,
        "Ti" => (1 << 40) * ONE,
        "Pi" => (1 << 50) * ONE,
        "Ei" => (1 << 60) * ONE,
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            10i128.checked_pow(u32::try_from(power.checked_add(9)?).ok()?)?
        }
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let negative = whole.starts_with('-');
    let whole = whole.trim_start_matches(['+', '-']);
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = if whole.is_empty() {
        0
    } else {
        whole.parse::<i128>().ok()?.checked_mul(scale)?
    };
    let mut unit = scale;
    for digit in fraction.chars() {
        unit /= 10;
        value = value.checked_add(i128::from(digit.to_digit(10)?) * unit)?;
    }
    Some(if negative { -value } else { value })
}

/// Whole units, rounded up.
pub(crate) fn units(text: &str) -> Option<i64> {
    let value = nanos(text)?;
    i64::try_from((value + ONE - 1).div_euclid(ONE)).ok()
}

/// Thousandths, rounded up.
pub(crate) fn milli(text: &str) -> Option<i64> {
    let value = nanos(text)?;
    i64::try_from((value + ONE / 1000 - 1).div_euclid(ONE / 1000)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_in_every_suffix() {
        let cases = [
            ("1", Some(1)),
            ("100m", Some(1)),
            ("1500m", Some(2)),
            ("1Ki", Some(1024)),
            ("1.5Gi", Some(1_610_612_736)),
            ("2e3", Some(2000)),
            ("1k", Some(1000)),
            ("0", Some(0)),
            (".5", Some(1)),
            ("x", None),
            ("", None),
            ("1X", None),
            ("99999999999999999999999999999999999999999", None),
        ];
        for (text, expected) in cases {
            assert_eq!(units(text), expected, "{text}");
        }
        assert_eq!(milli("250m"), Some(250));
        assert_eq!(milli("0.1"), Some(100));
    }
}
