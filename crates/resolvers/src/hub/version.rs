//! Versions and constraints on them, as HashiCorp's go-version reads and compares them (P-350).

use std::cmp::Ordering;
use std::fmt;

/// A version: numbers, and what comes before or beside a release.
#[derive(Clone, Debug)]
pub(super) struct Version {
    /// At least three.
    segments: Vec<u64>,
    /// How many were written.
    written: usize,
    prerelease: String,
    metadata: String,
}

impl Version {
    /// Reads `1`, `v1.2`, `1.2.3-rc.1+build`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let words = |text: &str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '~';
            text.split('.')
                .all(|word| !word.is_empty() && word.chars().all(fits))
        };
        let (rest, metadata) = match text.split_once('+') {
            Some((_, metadata)) if !words(metadata) => return None,
            Some((rest, metadata)) => (rest, metadata),
            None => (text, ""),
        };
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (numbers, prerelease) = rest.split_at(end);
        let prerelease = match prerelease.strip_prefix('-') {
            Some("") => return None,
            Some(rest) => rest,
            None => prerelease,
        };
        if !prerelease.is_empty() && !words(prerelease) {
            return None;
        }
        let mut segments = numbers
            .split('.')
            .map(|number| number.parse().ok())
            .collect::<Option<Vec<u64>>>()?;
        let written = segments.len();
        segments.resize(written.max(3), 0);
        Some(Self {
            segments,
            written,
            prerelease: prerelease.to_owned(),
            metadata: metadata.to_owned(),
        })
    }

    fn compare_segments(&self, other: &Self) -> Ordering {
        let longest = self.segments.len().max(other.segments.len());
        let at = |version: &Self, index| version.segments.get(index).copied().unwrap_or(0);
        (0..longest)
            .map(|index| at(self, index).cmp(&at(other, index)))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }

    /// By numbers, then releases after what precedes them.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        self.compare_segments(other).then_with(|| {
            match (self.prerelease.is_empty(), other.prerelease.is_empty()) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => compare_prereleases(&self.prerelease, &other.prerelease),
            }
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.segments.iter().enumerate() {
            let dot = if index == 0 { "" } else { "." };
            write!(f, "{dot}{segment}")?;
        }
        for (mark, part) in [('-', &self.prerelease), ('+', &self.metadata)] {
            if !part.is_empty() {
                write!(f, "{mark}{part}")?;
            }
        }
        Ok(())
    }
}

fn compare_prereleases(one: &str, other: &str) -> Ordering {
    let (mut ones, mut others) = (one.split('.'), other.split('.'));
    loop {
        let order = match (ones.next(), others.next()) {
            (None, None) => return Ordering::Equal,
            (one, other) => compare_parts(one.unwrap_or(""), other.unwrap_or("")),
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// Numbers come before words; where one side has no more parts, the other's next decides.
fn compare_parts(one: &str, other: &str) -> Ordering {
    let number = |part: &str| part.parse::<i64>().ok();
    match (number(one), number(other)) {
        _ if one == other => Ordering::Equal,
        (_, Some(_)) if one.is_empty() => Ordering::Less,
        _ if one.is_empty() => Ordering::Greater,
        (Some(_), _) if other.is_empty() => Ordering::Greater,
        _ if other.is_empty() => Ordering::Less,
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => one.cmp(other),
        (Some(one), Some(other)) => one.cmp(&other),
    }
}

#[derive(Clone, Copy, Debug)]
enum Operator {
    Equal,
    NotEqual,
    Greater,
    Less,
    AtLeast,
    AtMost,
    /// `~>`: only the last number that is written may grow.
    Pessimistic,
}

/// What a version must fulfil: all of its parts.
#[derive(Clone, Debug)]
pub(super) struct Constraint(Vec<(Operator, Version)>);

impl Constraint {
    /// Reads `>= 0.4, < 1`; a version alone is one that must be equal.
    pub(super) fn parse(text: &str) -> Option<Self> {
        text.split(',')
            .map(part)
            .collect::<Option<Vec<_>>>()
            .map(Self)
    }

    /// Whether `version` fulfils all parts.
    pub(super) fn allows(&self, version: &Version) -> bool {
        self.0.iter().all(|(operator, bound)| {
            let order = version.compare(bound);
            match operator {
                Operator::Equal => order.is_eq(),
                Operator::NotEqual => order.is_ne(),
                Operator::Greater => comparable(version, bound) && order.is_gt(),
                Operator::Less => comparable(version, bound) && order.is_lt(),
                Operator::AtLeast => comparable(version, bound) && order.is_ge(),
                Operator::AtMost => comparable(version, bound) && order.is_le(),
                Operator::Pessimistic => is_close(version, bound),
            }
        })
    }
}

fn part(text: &str) -> Option<(Operator, Version)> {
    let text = text.trim();
    let (operator, rest) = [
        ("!=", Operator::NotEqual),
        (">=", Operator::AtLeast),
        ("<=", Operator::AtMost),
        ("~>", Operator::Pessimistic),
        ("=", Operator::Equal),
        (">", Operator::Greater),
        ("<", Operator::Less),
    ]
    .iter()
    .find_map(|(sign, operator)| Some((*operator, text.strip_prefix(sign)?)))
    .unwrap_or((Operator::Equal, text));
    Some((operator, Version::parse(rest.trim_start())?))
}

/// What precedes a release only compares with bounds that say so, of the same numbers.
fn comparable(version: &Version, bound: &Version) -> bool {
    match (version.prerelease.is_empty(), bound.prerelease.is_empty()) {
        (false, false) => version.compare_segments(bound).is_eq(),
        (false, true) => false,
        (true, _) => true,
    }
}

fn is_close(version: &Version, bound: &Version) -> bool {
    if !comparable(version, bound)
        || !bound.prerelease.is_empty() && version.prerelease.is_empty()
        || version.compare(bound).is_lt()
        || bound.segments.len() > version.segments.len()
    {
        return false;
    }
    let fixed = bound.written - 1;
    let last = bound.segments.len() - 1;
    version.segments[..fixed] == bound.segments[..fixed]
        && version.segments[last] >= bound.segments[last]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P-350
    #[test]
    fn constraints_hold_as_in_go() {
        for (constraint, version, holds) in [
            ("0.6", "0.6.0", true),
            ("0.6", "0.6.1", false),
            ("= v0.6", "0.6", true),
            (">= 0.5.0", "0.6.0", true),
            (">=0.5.0,<0.6", "0.6.0", false),
            ("> 0.5, < 1, != 0.7", "0.7.0", false),
            ("~> 1.2", "1.9.0", true),
            ("~> 1.2", "2.0.0", false),
            ("~> 1.2.3", "1.2.9", true),
            ("~> 1.2.3", "1.3.0", false),
            ("~> 1", "2.0", true),
            (">= 1.0", "1.1.0-beta", false),
            (">= 1.1.0-alpha", "1.1.0-beta", true),
            (">= 1.0.0-alpha", "1.1.0-beta", false),
            ("~> 1.0.0-a", "1.0.0", false),
            ("<= 1.0.0", "1.0.0+build", true),
        ] {
            let version = Version::parse(version).unwrap();
            assert_eq!(
                Constraint::parse(constraint).unwrap().allows(&version),
                holds,
                "{version} {constraint}"
            );
        }
        for none in ["", "latest", ">=", "1.", "1..2", "=> 1", "1-", "1+", "a,1"] {
            assert!(Constraint::parse(none).is_none(), "{none}");
        }
    }

    #[test]
    fn versions_are_ordered_and_written_with_three_parts() {
        let ordered = [
            "0.9",
            "1.0.0-1",
            "1.0.0-2",
            "1.0.0-10",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-beta",
            "1.0",
            "1.0.0.1",
            "1.1",
        ];
        for pair in ordered.windows(2) {
            let [one, other] = [pair[0], pair[1]].map(|text| Version::parse(text).unwrap());
            assert_eq!(one.compare(&other), Ordering::Less, "{pair:?}");
        }
        for (text, written) in [
            ("v1", "1.0.0"),
            ("0.6", "0.6.0"),
            ("1.2.3.4-rc1+x", "1.2.3.4-rc1+x"),
        ] {
            assert_eq!(Version::parse(text).unwrap().to_string(), written);
        }
    }
}
