//! What a request is about: its path and query taken apart (K-216).

use http::{Method, Uri};

/// The parsed path of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `/api/v1/..` or `/apis/<group>/<version>/..` with a resource.
    Resource(Path),
    /// Anything else.
    Other(String),
}

/// A path to a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path {
    pub group: String,
    pub version: String,
    pub plural: String,
    /// Empty for cluster-scoped resources and for all namespaces.
    pub namespace: String,
    pub name: String,
    pub subresource: String,
    /// What follows a subresource, as in `proxy/metrics`.
    pub rest: String,
}

impl Target {
    /// Parses the path of a URI.
    pub fn parse(uri: &Uri) -> Self {
        let text = uri.path();
        let parts: Vec<String> = text.trim_matches('/').split('/').map(decode).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
            ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
            _ => return Self::Other(text.to_owned()),
        };
        let mut path = Path {
            group: group.into(),
            version: version.into(),
            ..Path::default()
        };
        let rest = match rest {
            // `namespaces/x/status` and `namespaces/x/finalize` are subresources of the namespace itself.
            ["namespaces", _, "status" | "finalize"] => rest,
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => {
                path.namespace = (*namespace).into();
                rest
            }
            _ => rest,
        };
        let mut rest = rest.iter();
        let mut next = || {
            rest.next()
                .map(|part| (*part).to_owned())
                .unwrap_or_default()
        };
        path.plural = next();
        path.name = next();
        path.subresource = next();
        path.rest = rest.copied().collect::<Vec<_>>().join("/");
        Self::Resource(path)
    }
}

fn decode(part: &str) -> String {
    percent_encoding::percent_decode_str(part)
        .decode_utf8_lossy()
        .into_owned()
}

/// The query parameters.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Parses the query of a URI.
    pub fn parse(uri: &Uri) -> Self {
        let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        Self(
            pairs
                .map(|(key, value)| (key.into_owned(), value.into_owned()))
                .collect(),
        )
    }

    /// The first value of a parameter.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// A parameter that is set and not empty.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|value| !value.is_empty())
    }

    /// A boolean parameter; `1`, `true` and an empty value count as true.
    pub fn flag(&self, key: &str) -> bool {
        self.get(key)
            .is_some_and(|value| !matches!(value, "false" | "0" | "False"))
    }
}

/// The verb authorization decides by.
pub fn verb(method: &Method, path: &Path, watch: bool) -> &'static str {
    match (method.as_str(), path.name.is_empty()) {
        ("GET" | "HEAD", true) if watch => "watch",
        ("GET" | "HEAD", true) => "list",
        ("GET" | "HEAD", false) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "deletecollection",
        ("DELETE", false) => "delete",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart_as_kubernetes_does() {
        // K-216
        let cases = [
            (
                "/api/v1/namespaces/a/pods/b/log",
                ["", "v1", "pods", "a", "b", "log", ""],
            ),
            (
                "/api/v1/namespaces/a",
                ["", "v1", "namespaces", "", "a", "", ""],
            ),
            (
                "/api/v1/namespaces/a/finalize",
                ["", "v1", "namespaces", "", "a", "finalize", ""],
            ),
            ("/api/v1/pods", ["", "v1", "pods", "", "", "", ""]),
            (
                "/apis/g.io/v2/things/x%2Fy/status",
                ["g.io", "v2", "things", "", "x/y", "status", ""],
            ),
            (
                "/api/v1/namespaces/a/pods/b:90/proxy/m/n",
                ["", "v1", "pods", "a", "b:90", "proxy", "m/n"],
            ),
        ];
        for (uri, expected) in cases {
            let Target::Resource(path) = Target::parse(&uri.parse().unwrap()) else {
                panic!("{uri}")
            };
            let found = [
                path.group,
                path.version,
                path.plural,
                path.namespace,
                path.name,
                path.subresource,
                path.rest,
            ];
            assert_eq!(found, expected, "{uri}");
        }
        assert_eq!(
            Target::parse(&"/apis/g.io/v2".parse().unwrap()),
            Target::Other("/apis/g.io/v2".into())
        );
    }
}
