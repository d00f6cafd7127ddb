//! What is not a resource: discovery in both forms, version, health, OpenAPI (section 1).

use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::accept::Form;
use crate::error::ApiError;
use crate::handler::{Answer, Call, not_a_page, reply};
use crate::registry::{Registry, Resource};
use crate::server::{Body, Inner};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const VERSION: (&str, &str, &str) = ("1", "36", "v1.36.0");
const RW: [&str; 3] = ["get", "patch", "update"];

type Versions = [(String, Vec<Arc<Resource>>)];

impl Inner {
    /// Answers a request to a path that is no resource.
    pub(crate) fn other(self: &Arc<Self>, call: &Call, path: &str) -> Answer {
        let path = if path.len() > 1 {
            path.trim_end_matches('/')
        } else {
            path
        };
        if !self.allows_path(&call.identity, "get", path) {
            let verb = call.head.method.as_str().to_lowercase();
            return Err(ApiError::forbidden_path(&call.identity.user, &verb, path));
        }
        let registry = self.registry();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let json_reply =
            |value: Value| Ok(reply(StatusCode::OK, "application/json", value.to_string()));
        match parts.as_slice() {
            ["version"] => json_reply(version()),
            ["healthz" | "livez" | "readyz", ..] => Ok(health(call)),
            ["api"] if call.form == Form::Aggregated => {
                let core = registry.groups().get("").map_or(&[][..], Vec::as_slice);
                Ok(aggregated(call, vec![group_discovery("", core)]))
            }
            ["apis"] if call.form == Form::Aggregated => {
                let groups = registry
                    .groups()
                    .iter()
                    .filter(|(name, _)| !name.is_empty());
                Ok(aggregated(
                    call,
                    groups
                        .map(|(name, versions)| group_discovery(name, versions))
                        .collect(),
                ))
            }
            ["api"] => json_reply(json!({
                "kind": "APIVersions", "versions": ["v1"],
                "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}],
            })),
            ["apis"] => {
                let groups: Vec<Value> = registry
                    .groups()
                    .iter()
                    .filter(|(name, _)| !name.is_empty())
                    .map(|(name, versions)| group(name, versions))
                    .collect();
                json_reply(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
            }
            ["apis", name] => match registry.groups().get(*name) {
                Some(versions) if !name.is_empty() => {
                    let mut value = group(name, versions);
                    value["kind"] = "APIGroup".into();
                    value["apiVersion"] = "v1".into();
                    json_reply(value)
                }
                _ => Ok(not_a_page()),
            },
            ["api", version] => list(&registry, "", version),
            ["apis", group, version] => list(&registry, group, version),
            ["openapi", "v3"] => json_reply(crate::openapi::index(&registry)),
            ["openapi", "v3", "api", version] => self.openapi(call, "", version),
            ["openapi", "v3", "apis", group, version] => self.openapi(call, group, version),
            _ => Ok(not_a_page()),
        }
    }

    fn openapi(&self, call: &Call, group: &str, version: &str) -> Answer {
        let registry = self.registry();
        let Some(document) = crate::openapi::document(&registry, group, version) else {
            return Ok(not_a_page());
        };
        Ok(tagged(
            call,
            "application/json",
            document,
            "no-cache, private",
        ))
    }
}

fn list(registry: &Registry, group: &str, version: &str) -> Answer {
    let versions = registry.groups().get(group);
    let found = versions.and_then(|versions| versions.iter().find(|(name, _)| name == version));
    let Some((_, resources)) = found else {
        return if Registry::is_built_in_group(group) {
            Err(ApiError::no_such_resource())
        } else {
            Ok(not_a_page())
        };
    };
    let entries: Vec<Value> = resources
        .iter()
        .flat_map(|resource| entries(resource))
        .collect();
    let name = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    let list = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": entries});
    Ok(reply(StatusCode::OK, "application/json", list.to_string()))
}

/// One subresource: its name, the group and version of its kind where they are not the parent's, kind and verbs.
struct Subresource {
    name: String,
    elsewhere: Option<(String, String)>,
    kind: String,
    verbs: &'static [&'static str],
}

fn subresources(resource: &Resource) -> Vec<Subresource> {
    let own = |name: &str, elsewhere, kind: &str| Subresource {
        name: name.into(),
        elsewhere,
        kind: kind.into(),
        verbs: &RW,
    };
    let mut out = Vec::new();
    if resource.has_status() {
        out.push(own("status", None, &resource.kind));
    }
    if resource.custom().is_some() && resource.has_scale() {
        out.push(own(
            "scale",
            Some(("autoscaling".into(), "v1".into())),
            "Scale",
        ));
    }
    for sub in resource.subresources() {
        let elsewhere = (sub.group != resource.group || sub.version != resource.version)
            .then(|| (sub.group.to_owned(), sub.version.to_owned()));
        out.push(Subresource {
            verbs: sub.verbs,
            ..own(sub.name, elsewhere, sub.kind)
        });
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    out
}

/// Entries of an `APIResourceList` (K-006).
fn entries(resource: &Resource) -> Vec<Value> {
    let mut main = json!({
        "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
        "kind": resource.kind, "verbs": resource.verbs(),
    });
    for (key, list) in [
        ("shortNames", &resource.short_names),
        ("categories", &resource.categories),
    ] {
        if !list.is_empty() {
            main[key] = json!(list);
        }
    }
    let mut out = vec![main];
    for Subresource {
        name,
        elsewhere,
        kind,
        verbs,
    } in subresources(resource)
    {
        let mut entry = json!({
            "name": format!("{}/{name}", resource.plural), "singularName": "", "namespaced": resource.namespaced,
            "kind": kind, "verbs": verbs,
        });
        if let Some((group, version)) = elsewhere {
            entry["group"] = group.into();
            entry["version"] = version.into();
        }
        out.push(entry);
    }
    out
}

fn group(name: &str, versions: &Versions) -> Value {
    let list: Vec<Value> = versions
        .iter()
        .map(
            |(version, _)| json!({"groupVersion": format!("{name}/{version}"), "version": version}),
        )
        .collect();
    json!({"name": name, "versions": list, "preferredVersion": list.first()})
}

/// One `APIGroupDiscovery` (K-008).
fn group_discovery(name: &str, versions: &Versions) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|(version, resources)| {
            let resources: Vec<Value> = resources
                .iter()
                .map(|resource| resource_discovery(resource))
                .collect();
            json!({"version": version, "freshness": "Current", "resources": resources})
        })
        .collect();
    let metadata = if name.is_empty() {
        json!({})
    } else {
        json!({"name": name})
    };
    json!({"metadata": metadata, "versions": versions})
}

fn resource_discovery(resource: &Resource) -> Value {
    let kind = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let mut out = json!({
        "resource": resource.plural,
        "responseKind": kind(&resource.group, &resource.version, &resource.kind),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs(),
    });
    for (key, list) in [
        ("shortNames", &resource.short_names),
        ("categories", &resource.categories),
    ] {
        if !list.is_empty() {
            out[key] = json!(list);
        }
    }
    let subs: Vec<Value> = subresources(resource)
        .into_iter()
        .map(|Subresource { name, elsewhere, kind: sub, verbs }| {
            let (group, version) = elsewhere.unwrap_or_else(|| (resource.group.clone(), resource.version.clone()));
            json!({"subresource": name, "responseKind": kind(&group, &version, &sub), "verbs": verbs})
        })
        .collect();
    if !subs.is_empty() {
        out["subresources"] = subs.into();
    }
    out
}

fn aggregated(call: &Call, items: Vec<Value>) -> Response<Body> {
    let list = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items,
    });
    let mut response = tagged(call, AGGREGATED, list.to_string().into_bytes(), "public");
    response
        .headers_mut()
        .insert(VARY, HeaderValue::from_static("Accept"));
    response
}

/// An answer with an ETag, or 304 if the client has it (K-010).
fn tagged(
    call: &Call,
    content_type: &'static str,
    body: Vec<u8>,
    cache: &'static str,
) -> Response<Body> {
    let digest = ring::digest::digest(&ring::digest::SHA256, &body);
    let hex: String = digest
        .as_ref()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02X}"))
        .collect();
    let tag = format!("\"{hex}\"");
    let known = call
        .head
        .headers
        .get(IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok());
    let mut response = if known == Some(tag.as_str()) {
        let mut response = Response::new(crate::handler::full(""));
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        reply(StatusCode::OK, content_type, body)
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(ETAG, tag);
    }
    response
}

/// K-004
fn version() -> Value {
    let (major, minor, full) = VERSION;
    json!({
        "major": major, "minor": minor, "gitVersion": full, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

/// K-020
fn health(call: &Call) -> Response<Body> {
    let text = if call.query.get("verbose").is_some() {
        "[+]ping ok\n[+]store ok\nhealthz check passed\n"
    } else {
        "ok"
    };
    reply(StatusCode::OK, "text/plain; charset=utf-8", text)
}
