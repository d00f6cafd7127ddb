//! Registry credentials from Docker configurations, chosen by registry and path (K-324).

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::{Error, Reference};

/// User names and passwords for registries; cheap to make from the values of pull Secrets.
#[derive(Clone, Default)]
pub struct Credentials {
    entries: Vec<Entry>,
}

#[derive(Clone)]
struct Entry {
    /// Entries of a lower rank count first.
    rank: usize,
    host: String,
    path: String,
    user: String,
    password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(
                self.entries
                    .iter()
                    .map(|entry| format!("{}/{}", entry.host, entry.path)),
            )
            .finish()
    }
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
}

#[derive(Deserialize)]
struct Auth {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
}

impl Credentials {
    /// No credentials: everything is pulled anonymously.
    pub fn none() -> Self {
        Self::default()
    }

    /// The logins that the first of these files that exists holds, a Docker configuration; none if it cannot be read,
    /// as a warning says. Credential helpers that it names are not asked.
    pub fn of_first_file(places: &[PathBuf]) -> Self {
        let mut credentials = Self::none();
        for place in places {
            let added = match std::fs::read(place) {
                Err(error) if is_absent(&error) => continue,
                Err(error) => Err(error.to_string()),
                Ok(json) => credentials
                    .add_docker_config_json(&json)
                    .map_err(|error| error.to_string()),
            };
            if let Err(error) = added {
                let file = place.display();
                tracing::warn!(%file, error, "registry logins are left out");
            }
            break;
        }
        credentials
    }

    /// Adds the content of a `kubernetes.io/dockerconfigjson` Secret (`{"auths": {…}}`).
    pub fn add_docker_config_json(&mut self, json: &[u8]) -> Result<(), Error> {
        let config: DockerConfig = serde_json::from_slice(json)
            .map_err(|error| Error::malformed(".dockerconfigjson", error.to_string()))?;
        self.add(config.auths);
        Ok(())
    }

    /// Adds the content of a `kubernetes.io/dockercfg` Secret (the map alone).
    pub fn add_docker_cfg(&mut self, json: &[u8]) -> Result<(), Error> {
        let auths = serde_json::from_slice(json)
            .map_err(|error| Error::malformed(".dockercfg", error.to_string()))?;
        self.add(auths);
        Ok(())
    }

    /// Adds one user for a registry, or for a path below it.
    pub fn add_basic(&mut self, registry: &str, user: &str, password: &str) {
        let (host, path) = split(registry);
        self.entries.push(Entry {
            rank: 0,
            host,
            path,
            user: user.to_owned(),
            password: password.to_owned(),
        });
    }

    fn add(&mut self, auths: BTreeMap<String, Auth>) {
        for (registry, auth) in auths {
            let decoded = STANDARD
                .decode(auth.auth.trim())
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok());
            let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
            let (user, password) = match pair {
                Some((user, password)) if auth.username.is_empty() => (user, password),
                _ => (auth.username.as_str(), auth.password.as_str()),
            };
            if !user.is_empty() {
                self.add_basic(&registry, user, password);
            }
        }
    }

    /// These, and after all of them the others (T-257).
    pub fn before(mut self, others: Credentials) -> Self {
        let ranks = self.entries.iter().map(|entry| entry.rank + 1).max();
        let ranks = ranks.unwrap_or_default();
        self.entries
            .extend(others.entries.into_iter().map(|entry| Entry {
                rank: entry.rank + ranks,
                ..entry
            }));
        self
    }

    /// The pairs that fit the image, the most specific path first.
    pub fn fitting(&self, reference: &Reference) -> Vec<(String, String)> {
        let mut fitting: Vec<&Entry> = self
            .entries
            .iter()
            .filter(|entry| {
                host_fits(&entry.host, reference.registry())
                    && path_fits(&entry.path, reference.repository())
            })
            .collect();
        fitting.sort_by_key(|entry| (entry.rank, std::cmp::Reverse(entry.path.len())));
        fitting
            .into_iter()
            .map(|entry| (entry.user.clone(), entry.password.clone()))
            .collect()
    }
}

fn is_absent(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | IsADirectory)
}

/// Splits `https://host/v1/path` into host and path; `/v1` and `/v2` are no part of the path.
fn split(registry: &str) -> (String, String) {
    let bare = registry
        .strip_prefix("https://")
        .or_else(|| registry.strip_prefix("http://"))
        .unwrap_or(registry);
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let path = path.trim_end_matches('/');
    let path = match path.split_once('/') {
        Some(("v1" | "v2", rest)) => rest,
        None if matches!(path, "v1" | "v2") => "",
        _ => path,
    };
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    };
    (host.to_owned(), path.to_owned())
}

/// Globs match label by label and never span a dot; a port must be equal.
fn host_fits(pattern: &str, host: &str) -> bool {
    let (pattern, pattern_port) = port(pattern);
    let (host, host_port) = port(host);
    let (patterns, labels): (Vec<_>, Vec<_>) =
        (pattern.split('.').collect(), host.split('.').collect());
    pattern_port == host_port
        && patterns.len() == labels.len()
        && patterns.iter().zip(&labels).all(|(p, l)| glob(p, l))
}

fn port(host: &str) -> (&str, &str) {
    host.rsplit_once(':').unwrap_or((host, ""))
}

fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, rest)) => text.strip_prefix(head).is_some_and(|text| {
            (0..=text.len())
                .filter(|&at| text.is_char_boundary(at))
                .any(|at| glob(rest, &text[at..]))
        }),
    }
}

fn path_fits(prefix: &str, repository: &str) -> bool {
    prefix.is_empty() || repository.starts_with(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_matched_by_host_glob_and_path_most_specific_first() {
        // K-324
        let mut credentials = Credentials::none();
        credentials
            .add_docker_config_json(
                br#"{"auths":{
                    "https://index.docker.io/v1/":{"auth":"aHViOnNlY3JldDpwYXNz"},
                    "*.example.com":{"username":"star","password":"p"},
                    "r.example.com/team":{"username":"team","password":"p"},
                    "local:5000":{"username":"port","password":"p"},
                    "empty.io":{}}}"#,
            )
            .unwrap();
        let users = |name: &str| -> Vec<String> {
            let fitting = credentials.fitting(&name.parse().unwrap());
            fitting.into_iter().map(|(user, _)| user).collect()
        };
        assert_eq!(
            credentials.fitting(&"alpine".parse().unwrap()),
            [("hub".into(), "secret:pass".into())]
        );
        assert_eq!(users("r.example.com/team/app"), ["team", "star"]);
        assert_eq!(users("r.example.com/other"), ["star"]);
        assert_eq!(users("a.b.example.com/x"), [""; 0]);
        assert_eq!(users("local:5000/x"), ["port"]);
        assert_eq!(users("local:5001/x"), [""; 0]);
        assert_eq!(users("empty.io/x"), [""; 0]);
    }

    #[test]
    fn the_first_file_that_exists_counts_even_if_it_cannot_be_read() {
        // T-257
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            std::fs::write(dir.path().join(name), content).unwrap();
        };
        file(
            "a",
            r#"{"auths":{"r.example":{"username":"a","password":"p"}},"credsStore":"x"}"#,
        );
        file(
            "b",
            r#"{"auths":{"r.example":{"username":"b","password":"p"}}}"#,
        );
        file("bad", "{");
        for (places, expected) in [
            (&["a", "b"][..], Some("a")),
            (&["gone", "a/below", "", "b"], Some("b")),
            (&["bad", "b"], None),
            (&[], None),
        ] {
            let places: Vec<_> = places.iter().map(|name| dir.path().join(name)).collect();
            let credentials = Credentials::of_first_file(&places);
            let fitting = credentials.fitting(&"r.example/x".parse().unwrap());
            let user = fitting.first().map(|(user, _)| user.as_str());
            assert_eq!(user, expected, "{places:?}");
        }
    }

    #[test]
    fn what_comes_before_counts_first_however_unspecific() {
        // T-257
        let of = |user: &str, place: &str| {
            let mut credentials = Credentials::none();
            credentials.add_basic(place, user, "p");
            credentials
        };
        let credentials = of("a", "*.example.com")
            .before(of("b", "r.example.com/team"))
            .before(of("c", "r.example.com/team/app"));
        let fitting = credentials.fitting(&"r.example.com/team/app".parse().unwrap());
        let users: Vec<_> = fitting.iter().map(|(user, _)| user.as_str()).collect();
        assert_eq!(users, ["a", "b", "c"]);
    }
}
