//! Resource quantities: parsed exactly, compared by value, printed in canonical form (K-082).

use std::cmp::Ordering;

/// A quantity in billionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    nanos: i128,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Decimal,
    Binary,
    Exponent,
}

const NANO: i128 = 1_000_000_000;
const DECIMAL: &[(&str, i32)] = &[
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
const BINARY: &[(&str, u32)] = &[
    ("Ki", 10),
    ("Mi", 20),
    ("Gi", 30),
    ("Ti", 40),
    ("Pi", 50),
    ("Ei", 60),
];

impl Quantity {
    /// Zero.
    pub const ZERO: Self = Self { nanos: 0 };

    /// Parses `1500m`, `64Mi`, `1e3`, `0.5`.
    pub fn parse(text: &str) -> Option<Self> {
        parse(text).map(|(quantity, _)| quantity)
    }

    /// The sum.
    pub fn plus(self, other: Self) -> Self {
        Self {
            nanos: self.nanos.saturating_add(other.nanos),
        }
    }

    /// A whole number.
    pub fn whole(count: i64) -> Self {
        Self {
            nanos: i128::from(count) * NANO,
        }
    }

    /// `self / other` compared with `limit`.
    pub fn ratio_exceeds(self, other: Self, limit: Self) -> bool {
        let left = self.nanos.saturating_mul(NANO);
        left.cmp(&limit.nanos.saturating_mul(other.nanos)) == Ordering::Greater
    }

    /// Canonical text in decimal form.
    pub fn decimal(self) -> String {
        print(self, Format::Decimal)
    }

    /// Canonical text in binary form, where the value allows it.
    pub fn binary(self) -> String {
        print(self, Format::Binary)
    }
}

/// The canonical form of a quantity: value kept, suffix family kept, largest suffix without fraction.
pub fn canonical(text: &str) -> Option<String> {
    let (quantity, format) = parse(text)?;
    Some(print(quantity, format))
}

fn parse(text: &str) -> Option<(Quantity, Format)> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let digits = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(digits);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || whole.len() > 25 {
        return None;
    }
    let mut mantissa: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut scale = 0i32;
    for digit in fraction.bytes().take(12) {
        mantissa = mantissa
            .checked_mul(10)?
            .checked_add(i128::from(digit - b'0'))?;
        scale -= 1;
    }
    let (nanos, format) = if let Some((_, bits)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        let scaled = mantissa.checked_mul(1i128 << bits)?.checked_mul(NANO)?;
        (
            divide_up(scaled, 10i128.checked_pow((-scale) as u32)?),
            Format::Binary,
        )
    } else {
        let (exponent, format) = match DECIMAL.iter().find(|(name, _)| *name == suffix) {
            Some((_, exponent)) => (*exponent, Format::Decimal),
            None => {
                let exponent = suffix.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?;
                (exponent, Format::Exponent)
            }
        };
        let power = exponent.saturating_add(9 + scale);
        if !(-30..=30).contains(&power) {
            return None;
        }
        let nanos = if power >= 0 {
            mantissa.checked_mul(10i128.checked_pow(power as u32)?)?
        } else {
            divide_up(mantissa, 10i128.checked_pow((-power) as u32)?)
        };
        (nanos, format)
    };
    Some((
        Quantity {
            nanos: if negative { -nanos } else { nanos },
        },
        format,
    ))
}

fn divide_up(value: i128, by: i128) -> i128 {
    value / by + i128::from(value % by != 0)
}

fn print(quantity: Quantity, format: Format) -> String {
    let value = quantity.nanos;
    if value == 0 {
        return "0".into();
    }
    if format == Format::Binary && value % NANO == 0 {
        let mut whole = value / NANO;
        let mut suffix = "";
        if whole.abs() >= 1024 {
            for (name, _) in BINARY {
                if whole % 1024 != 0 {
                    break;
                }
                whole /= 1024;
                suffix = name;
            }
            return format!("{whole}{suffix}");
        }
    }
    let mut rest = value;
    let mut exponent = -9;
    while exponent < 18 && rest % 1000 == 0 {
        rest /= 1000;
        exponent += 3;
    }
    if format == Format::Exponent && exponent != 0 {
        return format!("{rest}e{exponent}");
    }
    let suffix = DECIMAL
        .iter()
        .find(|(_, power)| *power == exponent)
        .map_or("", |(name, _)| name);
    format!("{rest}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_print_in_canonical_form() {
        // K-082
        for (given, expected) in [
            ("1.5", "1500m"),
            ("1.5Gi", "1536Mi"),
            ("64Mi", "64Mi"),
            ("1", "1"),
            ("1000m", "1"),
            ("0.5Ki", "512"),
            ("2048Ki", "2Mi"),
            ("1e3", "1e3"),
            ("1000", "1k"),
            ("100M", "100M"),
            ("0", "0"),
            ("-1.5", "-1500m"),
            ("0.1n", "1n"),
        ] {
            assert_eq!(canonical(given).as_deref(), Some(expected), "{given}");
        }
        for bad in [
            "",
            "x",
            "1.2.3",
            "1Zi",
            "Mi",
            "1 ",
            "1e2147483647",
            "1e-2147483648",
        ] {
            assert_eq!(canonical(bad), None, "{bad}");
        }
    }
}
