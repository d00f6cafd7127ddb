//! Image names: `[registry/]repository[:tag][@digest]`, normalised as Docker and Kubernetes do (K-325).

use std::fmt;
use std::str::FromStr;

use crate::Error;
use crate::digest::Digest;

/// A normalised image name: registry and repository are always present, and a tag or a digest.
///
/// ```
/// let name: tektite_oci::Reference = "alpine".parse().unwrap();
/// assert_eq!(name.to_string(), "docker.io/library/alpine:latest");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry's host with its port, `docker.io` by default.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path within the registry; official Docker Hub images begin with `library/`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `latest` if neither tag nor digest was given, none if only a digest was.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, which wins over the tag.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_ref().map(Digest::as_str)
    }

    /// `registry/repository` without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// Where the registry answers: Docker Hub by its old name, as upstream asks it.
    pub fn registry_host(&self) -> &str {
        match self.registry.as_str() {
            "docker.io" => "index.docker.io",
            other => other,
        }
    }

    /// [`name`](Self::name) as upstream writes it: Docker Hub by its old name.
    pub fn upstream_name(&self) -> String {
        format!("{}/{}", self.registry_host(), self.repository)
    }

    /// The same repository at a digest, without a tag.
    pub(crate) fn at(&self, digest: &Digest) -> Reference {
        Reference {
            tag: None,
            digest: Some(digest.clone()),
            ..self.clone()
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map_err(|reason| Error::InvalidReference {
            reference: text.to_owned(),
            reason,
        })
    }
}

/// As whole, `library/` included.
const LONGEST_REPOSITORY: usize = 255;

fn parse(text: &str) -> Result<Reference, &'static str> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (
            rest,
            Some(Digest::parse(digest).ok_or("the digest is not sha256:<64 hex digits>")?),
        ),
        None => (text, None),
    };
    // A colon after the last slash begins the tag; one before it belongs to the registry's port.
    let last_slash = rest.rfind('/').map_or(0, |at| at + 1);
    let (path, tag) = match rest[last_slash..].find(':') {
        Some(at) => (&rest[..last_slash + at], Some(&rest[last_slash + at + 1..])),
        None => (rest, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err("invalid tag");
    }
    let (registry, repository) = match path.split_once('/') {
        Some((first, repository)) if is_registry(first) => (first, repository),
        _ => ("docker.io", path),
    };
    let registry = match registry {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    };
    let host = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
    if registry.split('.').any(str::is_empty) || !registry.bytes().all(host) {
        return Err("invalid registry");
    }
    if repository.is_empty() || !repository.split('/').all(is_path_component) {
        return Err("repository must be lowercase words joined by '/', '.', '_' or '-'");
    }
    let repository = match registry {
        "docker.io" if !repository.contains('/') => format!("library/{repository}"),
        _ => repository.to_owned(),
    };
    if repository.len() > LONGEST_REPOSITORY {
        return Err("repository must not be longer than 255 characters");
    }
    let tag = match (tag, &digest) {
        (Some(tag), _) => Some(tag.to_owned()),
        (None, Some(_)) => None,
        (None, None) => Some("latest".to_owned()),
    };
    Ok(Reference {
        registry: registry.to_owned(),
        repository,
        tag,
        digest,
    })
}

/// Docker's rule for telling a registry from the first part of a repository.
fn is_registry(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':'])
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_tag(tag: &str) -> bool {
    let mut bytes = tag.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && tag.len() <= 128
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// Alphanumeric runs joined by one `.`, one or two `_`, or any number of `-`.
fn is_path_component(component: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    alphanumeric(first)
        && alphanumeric(last)
        && bytes
            .iter()
            .all(|&b| alphanumeric(b) || b"._-".contains(&b))
        && component
            .split(|c: char| c.is_ascii_alphanumeric())
            .all(|joint| matches!(joint, "" | "." | "_" | "__") || joint.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn names_are_normalised_to_registry_repository_and_tag_or_digest() {
        // K-325
        let cases = [
            ("alpine", "docker.io/library/alpine:latest".to_owned()),
            ("alpine:3.20", "docker.io/library/alpine:3.20".to_owned()),
            (
                "index.docker.io/library/alpine",
                "docker.io/library/alpine:latest".to_owned(),
            ),
            ("bitnami/git", "docker.io/bitnami/git:latest".to_owned()),
            ("localhost/a", "localhost/a:latest".to_owned()),
            ("localhost:5000/a/b:c", "localhost:5000/a/b:c".to_owned()),
            (
                "gcr.io/tekton-releases/git__init",
                "gcr.io/tekton-releases/git__init:latest".to_owned(),
            ),
            (
                &format!("alpine@{DIGEST}"),
                format!("docker.io/library/alpine@{DIGEST}"),
            ),
            (&format!("a.b/c:1@{DIGEST}"), format!("a.b/c:1@{DIGEST}")),
        ];
        for (given, expected) in cases {
            assert_eq!(
                given.parse::<Reference>().unwrap().to_string(),
                expected,
                "{given}"
            );
        }
    }

    #[test]
    fn a_repository_is_as_long_with_what_is_put_before_it() {
        let short = "x".repeat(LONGEST_REPOSITORY - "library/".len());
        let read: Reference = short.parse().unwrap();
        assert_eq!(read.to_string().parse::<Reference>().unwrap(), read);
        let error = format!("{short}x").parse::<Reference>().unwrap_err();
        assert!(error.to_string().contains("255 characters"), "{error}");
        assert!(format!("a.b/{short}xxxxxxxx").parse::<Reference>().is_ok());
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        let long = "a".repeat(256);
        for given in [
            "",
            "Alpine",
            "a b",
            "alpine:",
            "alpine:-x",
            "a//b",
            "/a",
            "a/",
            "a@sha256:12",
            "a..b",
            "a___b",
            "-a",
            "../a",
            &long,
        ] {
            assert!(given.parse::<Reference>().is_err(), "{given:?}");
        }
    }
}
