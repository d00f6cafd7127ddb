//! What a plain YAML scalar means to kubectl: the YAML 1.1 rules of go-yaml v2, which sigs.k8s.io/yaml uses.
//!
//! `yes`, `on` and `y` are booleans, `0777` is octal, `1_000` is a thousand, timestamps stay strings. Quoted and block
//! scalars are always strings.

use serde_json::{Number, Value};

/// Why a scalar cannot become JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScalarError {
    /// JSON has no such number.
    #[error("{0} is not a number that JSON can hold")]
    NotFinite(String),
    /// An explicit tag contradicts the text.
    #[error("cannot decode `{text}` as {tag}")]
    Tag {
        /// The text of the scalar.
        text: String,
        /// The tag as written.
        tag: String,
    },
}

/// Resolves a plain scalar without a tag.
pub fn plain(text: &str) -> Result<Value, ScalarError> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Value::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Value::Bool(false)
        }
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF"
        | "-.inf" | "-.Inf" | "-.INF" => return Err(ScalarError::NotFinite(text.to_owned())),
        _ => match number(text) {
            Some(number) => Value::Number(number),
            None => Value::String(text.to_owned()),
        },
    })
}

/// Resolves a scalar with a core schema tag (`!!str`, `!!int`, …).
pub fn tagged(text: &str, tag: &str) -> Result<Value, ScalarError> {
    let mismatch = || ScalarError::Tag {
        text: text.to_owned(),
        tag: format!("!!{tag}"),
    };
    match tag {
        "str" | "binary" | "timestamp" => Ok(Value::String(text.to_owned())),
        "float" => match plain(text)? {
            number @ Value::Number(_) => Ok(number),
            _ => Err(mismatch()),
        },
        "int" => match plain(text)? {
            Value::Number(n) if n.is_i64() || n.is_u64() => Ok(Value::Number(n)),
            _ => Err(mismatch()),
        },
        "bool" => match plain(text)? {
            value @ Value::Bool(_) => Ok(value),
            _ => Err(mismatch()),
        },
        "null" => match plain(text)? {
            Value::Null => Ok(Value::Null),
            _ => Err(mismatch()),
        },
        _ => Ok(Value::String(text.to_owned())),
    }
}

fn number(text: &str) -> Option<Number> {
    match text.as_bytes().first()? {
        b'.' => float(text),
        b'0'..=b'9' | b'+' | b'-' => {
            let digits = text.replace('_', "");
            if looks_like_a_date(text) {
                return None;
            }
            integer(&digits).or_else(|| yaml_float(&digits).then(|| float(&digits)).flatten())
        }
        _ => None,
    }
}

/// Dates and timestamps stay strings; nothing else starts with four digits and a dash and is a number.
fn looks_like_a_date(text: &str) -> bool {
    text.len() > 4
        && text.as_bytes()[..4].iter().all(u8::is_ascii_digit)
        && text.as_bytes()[4] == b'-'
}

/// An integer with the prefixes Go knows: `0x`, `0o`, `0b`, and a bare `0` for octal.
fn integer(text: &str) -> Option<Number> {
    let (negative, magnitude) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = magnitude.to_ascii_lowercase();
    let (radix, digits) = if let Some(rest) = lower.strip_prefix("0x") {
        (16, rest)
    } else if let Some(rest) = lower.strip_prefix("0o") {
        (8, rest)
    } else if let Some(rest) = lower.strip_prefix("0b") {
        (2, rest)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    if !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    if !negative {
        return Some(Number::from(magnitude));
    }
    match i64::try_from(magnitude) {
        Ok(value) => Some(Number::from(-value)),
        Err(_) if magnitude == i64::MIN.unsigned_abs() => Some(Number::from(i64::MIN)),
        Err(_) => None,
    }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn yaml_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let mantissa_fits = match mantissa.split_once('.') {
        Some(("", fraction)) => !fraction.is_empty() && digits(fraction),
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => !mantissa.is_empty() && digits(mantissa),
    };
    let exponent_fits = exponent.is_none_or(|e| {
        let e = e.strip_prefix(['-', '+']).unwrap_or(e);
        !e.is_empty() && digits(e)
    });
    mantissa_fits && exponent_fits
}

/// Go prints a whole float without a fraction, so `1.0` reaches the API server as `1`.
fn float(text: &str) -> Option<Number> {
    if !yaml_float(text) {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    if value.fract() == 0.0 && value.abs() < 1e18 {
        return Some(Number::from(value as i64));
    }
    Number::from_f64(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_scalars_mean_what_they_mean_to_kubectl() {
        let cases = [
            ("yes", json!(true)),
            ("on", json!(true)),
            ("y", json!(true)),
            ("No", json!(false)),
            ("off", json!(false)),
            ("yEs", json!("yEs")),
            ("~", json!(null)),
            ("", json!(null)),
            ("12", json!(12)),
            ("0777", json!(511)),
            ("0o17", json!(15)),
            ("0x1F", json!(31)),
            ("-0b11", json!(-3)),
            ("1_000", json!(1000)),
            ("+5", json!(5)),
            ("08", json!(8)),
            ("1.5", json!(1.5)),
            ("1.0", json!(1)),
            ("1e3", json!(1000)),
            (".5", json!(0.5)),
            (
                "18446744073709551615",
                json!(18_446_744_073_709_551_615_u64),
            ),
            ("-9223372036854775808", json!(i64::MIN)),
            ("2024-01-02", json!("2024-01-02")),
            ("1.2.3", json!("1.2.3")),
            ("1h", json!("1h")),
            ("-", json!("-")),
            ("--5", json!("--5")),
            (".", json!(".")),
            ("12e", json!("12e")),
            ("0x", json!("0x")),
            ("hello", json!("hello")),
            ("$(params.x)", json!("$(params.x)")),
        ];
        for (text, expected) in cases {
            assert_eq!(plain(text), Ok(expected), "{text:?}");
        }
        assert!(plain(".inf").is_err());
    }

    #[test]
    fn an_explicit_tag_decides_or_contradicts() {
        assert_eq!(tagged("12", "str"), Ok(json!("12")));
        assert_eq!(tagged("on", "bool"), Ok(json!(true)));
        assert!(tagged("abc", "int").is_err());
    }
}
