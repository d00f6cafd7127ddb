//! Arithmetic on Kubernetes quantities, as far as requests and limits need it.

use std::cmp::Ordering;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// How a quantity is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// `Ki`, `Mi`, …
    Binary,
    /// `m`, `k`, `M`, …
    Decimal,
}

const NANO: i128 = 1_000_000_000;

const BINARY: [(&str, i128); 6] = [
    ("Ei", 1 << 60),
    ("Pi", 1 << 50),
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
];

/// Suffixes with their worth in billionths.
const DECIMAL: [(&str, i128); 10] = [
    ("E", NANO * 1_000_000_000_000_000_000),
    ("P", NANO * 1_000_000_000_000_000),
    ("T", NANO * 1_000_000_000_000),
    ("G", NANO * 1_000_000_000),
    ("M", NANO * 1_000_000),
    ("k", NANO * 1_000),
    ("", NANO),
    ("m", 1_000_000),
    ("u", 1_000),
    ("n", 1),
];

/// A quantity in billionths. Text that is none counts as zero: the API server has refused it before.
fn parse(quantity: &Quantity) -> (i128, Format) {
    let text = quantity.0.trim();
    let digits = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let binary = BINARY
        .iter()
        .find(|(s, _)| *s == suffix)
        .map(|(_, worth)| (worth * NANO, Format::Binary));
    let decimal = DECIMAL
        .iter()
        .find(|(s, _)| *s == suffix)
        .map(|(_, worth)| (*worth, Format::Decimal));
    let exponent = || {
        let power: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
        let worth = if power >= 0 {
            NANO.checked_mul(10_i128.checked_pow(power.unsigned_abs())?)?
        } else {
            NANO / 10_i128.checked_pow(power.unsigned_abs())?
        };
        Some((worth, Format::Decimal))
    };
    let Some((worth, format)) = binary.or(decimal).or_else(exponent) else {
        return (0, Format::Decimal);
    };
    (scale(number, worth).unwrap_or(0), format)
}

/// `number` (with an optional fraction) times `worth`, rounded up as Kubernetes does.
fn scale(number: &str, worth: i128) -> Option<i128> {
    let (sign, number) = match number.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, number.trim_start_matches('+')),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction = fraction.get(..fraction.len().min(18))?;
    let whole: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut total = whole.checked_mul(worth)?;
    if !fraction.is_empty() {
        let unit = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let part = fraction.parse::<i128>().ok()?.checked_mul(worth)?;
        total = total.checked_add((part + unit - 1) / unit)?;
    }
    Some(sign * total)
}

fn write(nanos: i128, format: Format) -> Quantity {
    if nanos == 0 {
        return Quantity("0".into());
    }
    if format == Format::Binary && nanos % NANO == 0 {
        let whole = nanos / NANO;
        let fits = BINARY.iter().find(|(_, worth)| whole % worth == 0);
        return Quantity(fits.map_or_else(
            || whole.to_string(),
            |(suffix, worth)| format!("{}{suffix}", whole / worth),
        ));
    }
    let (suffix, worth) = DECIMAL
        .iter()
        .find(|(_, worth)| nanos % worth == 0)
        .unwrap_or(&("n", 1));
    Quantity(format!("{}{suffix}", nanos / worth))
}

/// Whether `a` is less than `b`.
pub(crate) fn less(a: &Quantity, b: &Quantity) -> bool {
    parse(a).0.cmp(&parse(b).0) == Ordering::Less
}

/// Whether it is zero.
pub(crate) fn is_zero(quantity: &Quantity) -> bool {
    parse(quantity).0 == 0
}

/// The larger one; the first of equals.
pub(crate) fn larger(a: Quantity, b: Quantity) -> Quantity {
    if less(&a, &b) { b } else { a }
}

/// An equal share of `quantity` of resource `name`: memory and storage in whole units, the rest in thousandths,
/// both rounded down after the whole was rounded up to that unit (T-337, T-340).
pub(crate) fn share(name: &str, quantity: &Quantity, parts: usize) -> Quantity {
    let unit = if matches!(name, "memory" | "ephemeral-storage") {
        NANO
    } else {
        1_000_000
    };
    let (nanos, format) = parse(quantity);
    let units = nanos.div_euclid(unit) + i128::from(nanos.rem_euclid(unit) != 0);
    let parts = i128::try_from(parts.max(1)).unwrap_or(1);
    write(units / parts * unit, format)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn q(text: &str) -> Quantity {
        Quantity(text.into())
    }

    #[test]
    fn quantities_compare_by_worth() {
        for (a, b) in [
            ("100m", "1"),
            ("1k", "1Ki"),
            ("0.5", "501m"),
            ("1e3", "1001"),
            ("1.5Gi", "2G"),
            ("-1", "0"),
        ] {
            assert!(less(&q(a), &q(b)), "{a} < {b}");
            assert!(!less(&q(b), &q(a)), "{b} > {a}");
        }
        assert!(is_zero(&q("0Mi")) && !is_zero(&q("1n")));
    }

    #[test]
    fn shares_are_written_as_kubernetes_writes_them() {
        // T-337
        for (name, whole, parts, part) in [
            ("cpu", "1", 2, "500m"),
            ("cpu", "1", 3, "333m"),
            ("cpu", "4", 2, "2"),
            ("memory", "1Gi", 2, "512Mi"),
            ("memory", "1Gi", 3, "357913941"),
            ("memory", "1G", 2, "500M"),
            ("memory", "100", 3, "33"),
            ("cpu", "0", 3, "0"),
        ] {
            assert_eq!(
                share(name, &q(whole), parts),
                q(part),
                "{whole} {name} / {parts}"
            );
        }
    }
}
