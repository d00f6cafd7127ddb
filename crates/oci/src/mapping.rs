//! `images.yaml`: other names for images (mirrors, offline stand-ins, the machine itself).

use std::collections::BTreeMap;
use std::path::Path;

use crate::{Error, HOST, Reference};

/// Rules from one name to another, applied once, before a name is looked up or pulled.
///
/// The file is a YAML map. A key is
/// - a name with a tag or digest: exactly that image;
/// - a name without: every tag and digest of the repository;
/// - a name with one `*`, which stands for any text: every image whose normalised or short name it covers. A `*` in the
///   value repeats that text.
///
/// A value is a name or `host`. A value without a tag keeps the tag that was asked for, unless the key had one. Exact
/// keys win over repositories, those over patterns, and among patterns the longest wins.
///
/// ```yaml
/// alpine: host
/// golang:1.22: docker.io/library/golang:1.23
/// gcr.io/tekton-releases/*: mirror.example/tekton/*
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameMapping {
    exact: BTreeMap<String, String>,
    repositories: BTreeMap<String, String>,
    patterns: Vec<(String, String)>,
}

impl NameMapping {
    /// Reads the file; a file that does not exist maps nothing.
    pub fn read(path: &Path) -> Result<NameMapping, Error> {
        match std::fs::read_to_string(path) {
            Ok(text) => NameMapping::parse(&text).map_err(|reason| Error::Mapping {
                path: path.to_owned(),
                reason,
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(NameMapping::default())
            }
            Err(error) => Err(Error::Mapping {
                path: path.to_owned(),
                reason: error.to_string(),
            }),
        }
    }

    /// Reads the text of such a file.
    pub fn parse(text: &str) -> Result<NameMapping, String> {
        let rules: Option<BTreeMap<String, String>> =
            serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?;
        NameMapping::from_rules(rules.unwrap_or_default())
    }

    /// Builds a mapping from pairs.
    pub fn from_rules(
        rules: impl IntoIterator<Item = (String, String)>,
    ) -> Result<NameMapping, String> {
        let mut mapping = NameMapping::default();
        for (from, to) in rules {
            match from.matches('*').count() {
                0 => {
                    let name: Reference = from.parse().map_err(|error: Error| error.to_string())?;
                    if has_version(&from) {
                        mapping.exact.insert(name.to_string(), to);
                    } else {
                        mapping.repositories.insert(name.name(), to);
                    }
                }
                1 => mapping.patterns.push((from, to)),
                _ => return Err(format!("{from:?}: only one '*' is allowed")),
            }
        }
        mapping
            .patterns
            .sort_by_key(|(from, _)| std::cmp::Reverse(from.len()));
        Ok(mapping)
    }

    /// The name to use for `reference`; [`HOST`] stays itself.
    pub fn apply(&self, reference: &str) -> Result<String, Error> {
        if reference == HOST {
            return Ok(HOST.to_owned());
        }
        let name: Reference = reference.parse()?;
        let normal = name.to_string();
        if let Some(to) = self.exact.get(&normal) {
            return target(to, None);
        }
        if let Some(to) = self.repositories.get(&name.name()) {
            return target(to, Some(&name));
        }
        for (from, to) in &self.patterns {
            // The invariant of `patterns`: exactly one star.
            let Some((head, tail)) = from.split_once('*') else {
                continue;
            };
            let covered = |text: &str| {
                text.strip_prefix(head)
                    .and_then(|text| text.strip_suffix(tail))
                    .map(str::to_owned)
            };
            if let Some(text) = short_forms(&normal).find_map(covered) {
                return target(&to.replace('*', &text), Some(&name));
            }
        }
        Ok(normal)
    }
}

/// The normalised name and the ways Docker lets people shorten it.
fn short_forms(normal: &str) -> impl Iterator<Item = &str> {
    let hub = normal.strip_prefix("docker.io/");
    [
        Some(normal),
        hub,
        hub.and_then(|name| name.strip_prefix("library/")),
    ]
    .into_iter()
    .flatten()
}

fn has_version(text: &str) -> bool {
    text.contains('@')
        || text
            .rsplit('/')
            .next()
            .is_some_and(|last| last.contains(':'))
}

fn target(to: &str, asked: Option<&Reference>) -> Result<String, Error> {
    if to == HOST {
        return Ok(HOST.to_owned());
    }
    let suffix = match asked {
        Some(asked) if !has_version(to) => match (asked.digest(), asked.tag()) {
            (Some(digest), _) => format!("@{digest}"),
            (None, Some(tag)) => format!(":{tag}"),
            (None, None) => String::new(),
        },
        _ => String::new(),
    };
    Ok(format!("{to}{suffix}").parse::<Reference>()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_mapped_exactly_by_repository_or_by_pattern() {
        let mapping = NameMapping::parse(
            "alpine: host\n\
             alpine:3.19: docker.io/library/alpine:3.20\n\
             quay.io/a/b: mirror.example/b\n\
             gcr.io/tekton-releases/*: mirror.example/tekton/*\n\
             gcr.io/tekton-releases/special*: host\n\
             'golang:*': host\n",
        )
        .unwrap();
        let cases = [
            ("alpine", "host"),
            ("docker.io/library/alpine:3.18", "host"),
            ("alpine:3.19", "docker.io/library/alpine:3.20"),
            ("quay.io/a/b:7", "mirror.example/b:7"),
            (
                "gcr.io/tekton-releases/x/y:v1",
                "mirror.example/tekton/x/y:v1",
            ),
            ("gcr.io/tekton-releases/special:v1", "host"),
            ("golang:1.22", "host"),
            ("busybox", "docker.io/library/busybox:latest"),
            ("host", "host"),
        ];
        for (from, to) in cases {
            assert_eq!(mapping.apply(from).unwrap(), to, "{from}");
        }
        assert!(mapping.apply("Not A Name").is_err());
    }

    #[test]
    fn a_mapping_that_cannot_be_read_says_why() {
        for text in ["- a", "a: [b]", "'a*b*': host", "'A B': host"] {
            assert!(NameMapping::parse(text).is_err(), "{text}");
        }
        assert_eq!(NameMapping::parse("").unwrap(), NameMapping::default());
    }
}
