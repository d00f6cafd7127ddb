//! Kubernetes quantities (`500m`, `1Gi`): checked and written in canonical form.

const NANO_DIGITS: u32 = 9;

#[derive(Clone, Copy, PartialEq)]
enum Form {
    Decimal,
    Binary,
    Exponent,
}

const WRONG: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
const NUMERIC: &str = "unable to parse numeric part of quantity";
const SUFFIX: &str = "unable to parse quantity's suffix";

const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];
const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// The canonical form of a quantity, or Kubernetes' words for what is wrong with it.
pub(crate) fn canonical(text: &str) -> Result<String, &'static str> {
    if text.is_empty() {
        return Err(WRONG);
    }
    if text == "0" {
        return Ok(text.to_owned());
    }
    let (negative, body) = match text.as_bytes()[0] {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let trimmed = body.trim_start_matches('0');
    let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = trimmed.split_at(digits(trimmed));
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    let letters = suffix
        .find(|c| !"eEinumkKMGTP".contains(c))
        .unwrap_or(suffix.len());
    let sign = usize::from(suffix[letters..].starts_with(['-', '+']));
    if !suffix[letters + sign..].bytes().all(|b| b.is_ascii_digit()) {
        return Err(WRONG);
    }
    let (scale, form) = interpret(suffix).ok_or(SUFFIX)?;
    if body.is_empty() || (whole.is_empty() && fraction.is_empty() && !body.starts_with('0')) {
        return Err(NUMERIC);
    }
    let whole = if whole.is_empty() { "0" } else { whole };
    if reusable(whole, fraction, scale, form) {
        return Ok(text.to_owned());
    }
    // What overflows 128 bits of nanos is far beyond any machine; it is kept as written.
    let Some(nanos) = nanos(whole, fraction, scale, form) else {
        return Ok(text.to_owned());
    };
    Ok(write(if negative { -nanos } else { nanos }, form))
}

fn interpret(suffix: &str) -> Option<(i32, Form)> {
    if let Some((_, exponent)) = DECIMAL.iter().find(|(s, _)| *s == suffix) {
        return Some((*exponent, Form::Decimal));
    }
    if let Some(index) = BINARY.iter().position(|s| *s == suffix) {
        return Some((10 * (index as i32 + 1), Form::Binary));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    Some((exponent.parse().ok()?, Form::Exponent))
}

/// Whether Kubernetes keeps the text because it looks canonical enough to it.
fn reusable(whole: &str, fraction: &str, scale: i32, form: Form) -> bool {
    let digits = (whole.len() + fraction.len()) as i32;
    let shifted = format!("{whole}{fraction}");
    match form {
        Form::Binary => {
            let precision = 15 - whole.len() as i32 - (scale as f32 * 3.0 / 10.0) as i32 - 1;
            fraction.is_empty() && precision >= 0 && whole.parse::<i64>().is_ok_and(|v| v & 7 != 0)
        }
        Form::Decimal | Form::Exponent => {
            let scale = scale - fraction.len() as i32;
            digits <= 18
                && scale >= -9
                && scale % 3 == 0
                && !shifted.ends_with("000")
                && !shifted.starts_with('0')
        }
    }
}

/// The value in billionths, rounded away from zero.
fn nanos(whole: &str, fraction: &str, scale: i32, form: Form) -> Option<i128> {
    let unscaled: i128 = format!("{whole}{fraction}").parse().ok()?;
    let mut power = NANO_DIGITS as i32 - fraction.len() as i32;
    let factor = match form {
        Form::Binary => 1i128.checked_shl(scale as u32)?,
        Form::Decimal | Form::Exponent => {
            power += scale;
            1
        }
    };
    let value = unscaled.checked_mul(factor)?;
    if power >= 0 {
        return value.checked_mul(10i128.checked_pow(power as u32)?);
    }
    let divisor = 10i128.checked_pow(power.unsigned_abs())?;
    Some(value / divisor + i128::from(value % divisor != 0))
}

fn write(nanos: i128, form: Form) -> String {
    if nanos == 0 {
        return "0".to_owned();
    }
    let one = 10i128.pow(NANO_DIGITS);
    if form == Form::Binary && nanos.abs() >= 1024 * one && nanos % one == 0 {
        let (mut value, mut index) = (nanos / one, 0);
        while value % 1024 == 0 && index < BINARY.len() {
            value /= 1024;
            index += 1;
        }
        return if index == 0 {
            value.to_string()
        } else {
            format!("{value}{}", BINARY[index - 1])
        };
    }
    let (mut value, mut exponent) = (nanos, -9);
    while value % 1000 == 0 && (exponent < 18 || form == Form::Exponent) {
        value /= 1000;
        exponent += 3;
    }
    match (form, exponent) {
        (Form::Exponent, 0) => value.to_string(),
        (Form::Exponent, _) => format!("{value}e{exponent}"),
        _ => {
            let suffix = DECIMAL
                .iter()
                .find(|(_, e)| *e == exponent)
                .map_or("", |(s, _)| s);
            format!("{value}{suffix}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_written_in_kubernetes_canonical_form() {
        for (text, expected) in [
            ("1", "1"),
            ("0.5", "500m"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("100m", "100m"),
            ("1Gi", "1Gi"),
            ("1024Mi", "1Gi"),
            ("0.5Gi", "512Mi"),
            ("1.5Gi", "1536Mi"),
            ("8Gi", "8Gi"),
            ("512", "512"),
            ("1000", "1k"),
            ("1.500", "1.500"),
            ("1e3", "1e3"),
            ("1000e3", "1e6"),
            ("007", "007"),
            ("-1.5", "-1500m"),
            ("0Mi", "0"),
            ("0", "0"),
            ("1000Ki", "1000Ki"),
            ("0.1n", "1n"),
        ] {
            assert_eq!(canonical(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_bad_quantity_is_refused_in_kubernetes_words() {
        for (text, message) in [
            ("", WRONG),
            ("abc", WRONG),
            ("1 Gi", WRONG),
            ("$(params.x)", WRONG),
            ("1Zi", WRONG),
            ("1ki", SUFFIX),
            ("Gi", NUMERIC),
        ] {
            assert_eq!(canonical(text), Err(message), "{text}");
        }
    }
}
