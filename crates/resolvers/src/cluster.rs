//! The resolver `cluster`: an object of this cluster, also of another namespace (P-358 to P-360).

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tektite_api::v1::RefSource;

use crate::framework::{
    Caching, Identity, Request, ResolveError, Resolved, Resolver, Surroundings, hex,
};
use crate::params::Params;
use crate::secrets::api_error;
use crate::settings::Map;

pub(crate) struct Cluster;

impl Resolver for Cluster {
    fn identity(&self) -> &'static Identity {
        &Identity {
            label: "cluster",
            title: "Cluster",
            config_map: "cluster-resolver-config",
            flag: "enable-cluster-resolver",
        }
    }

    fn caching(&self, _params: &Params) -> Caching {
        // Objects of the cluster change.
        Caching::Immutable(false)
    }

    fn validate(&self, request: &Request) -> Result<(), String> {
        wanted(&request.params, &request.config).map(drop)
    }

    fn resolve<'a>(
        &'a self,
        request: &'a Request,
        with: &'a Surroundings,
    ) -> BoxFuture<'a, Result<Resolved, ResolveError>> {
        Box::pin(async move {
            let wanted = wanted(&request.params, &request.config)?;
            let get = http_get(&wanted.path())?;
            let object: Value = with
                .client
                .request(get)
                .await
                .map_err(|error| api_error(&error))?;
            resolved(&wanted, object).map_err(ResolveError::Failed)
        })
    }
}

fn http_get(path: &str) -> Result<::http::Request<Vec<u8>>, ResolveError> {
    ::http::Request::get(path)
        .body(Vec::new())
        .map_err(|error| ResolveError::Failed(format!("{path}: {error}")))
}

/// What the cluster can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Task,
    Pipeline,
    StepAction,
}

impl Kind {
    fn read(text: &str) -> Option<Self> {
        match text {
            "task" => Some(Self::Task),
            "pipeline" => Some(Self::Pipeline),
            "stepaction" => Some(Self::StepAction),
            _ => None,
        }
    }

    /// The kind as the param has it, its version and its name.
    fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Task => ("task", "tekton.dev/v1", "Task"),
            Self::Pipeline => ("pipeline", "tekton.dev/v1", "Pipeline"),
            Self::StepAction => ("stepaction", "tekton.dev/v1beta1", "StepAction"),
        }
    }
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    kind: Kind,
    namespace: String,
    name: String,
}

impl Wanted {
    fn path(&self) -> String {
        let (plural, version, _) = self.kind.names();
        format!(
            "/apis/{version}/namespaces/{}/{plural}s/{}",
            self.namespace, self.name
        )
    }
}

fn wanted(params: &Params, config: &Map) -> Result<Wanted, String> {
    let given = |param: &str, default: &str| {
        let default = config.get(default).map(String::as_str);
        params.filled(param).or(default)
    };
    let kind = match given("kind", "default-kind") {
        Some(text) => Some(
            Kind::read(text)
                .ok_or_else(|| format!("unknown or unsupported resource kind '{text}'"))?,
        ),
        None => None,
    };
    let name = params.filled("name");
    let namespace = given("namespace", "default-namespace").filter(|ns| !ns.trim().is_empty());
    let (Some(kind), Some(name), Some(namespace)) = (kind, name, namespace) else {
        let missing: Vec<&str> = [
            (kind.is_none(), "kind"),
            (name.is_none(), "name"),
            (namespace.is_none(), "namespace"),
        ]
        .into_iter()
        .filter_map(|(missing, param)| missing.then_some(param))
        .collect();
        return Err(format!(
            "missing required cluster resolver params: {}",
            missing.join(", ")
        ));
    };
    check_namespace(namespace, config)?;
    for (param, value) in [("name", name), ("namespace", namespace)] {
        // It becomes part of a path of the API, which must stay that of one object.
        if !value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
            || value.starts_with('.')
        {
            return Err(format!(
                "invalid {param} {value:?}: it is no name of an object"
            ));
        }
    }
    Ok(Wanted {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}

/// Whether objects of a namespace may be asked for (P-359).
fn check_namespace(namespace: &str, config: &Map) -> Result<(), String> {
    let list = |key: &str| config.get(key).map_or("", String::as_str);
    let lists = |list: &str, entry: &str| list.split(',').any(|item| item.trim() == entry);
    let (blocked, allowed) = (list("blocked-namespaces"), list("allowed-namespaces"));
    if lists(blocked, namespace) {
        return Err(format!(
            "access to specified namespace {namespace} is blocked"
        ));
    }
    if lists(allowed, namespace) {
        return Ok(());
    }
    if lists(blocked, "*") {
        return Err("only explicit allowed access to namespaces is allowed".into());
    }
    if !allowed.is_empty() {
        return Err(format!(
            "access to specified namespace {namespace} is not allowed"
        ));
    }
    Ok(())
}

fn resolved(wanted: &Wanted, mut object: Value) -> Result<Resolved, String> {
    let (kind, version, name) = wanted.kind.names();
    object["apiVersion"] = version.into();
    object["kind"] = name.into();
    let message = tektite_api::signed_form(&object)?;
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
    // Quirk: v1 whatever the version is.
    let uri = format!(
        "/apis/tekton.dev/v1/namespaces/{}/{kind}/{}@{uid}",
        wanted.namespace, wanted.name
    );
    let data = serde_yaml_ng::to_string(&object).map_err(|error| error.to_string())?;
    let annotation =
        |key: &str, value: &str| (format!("resolution.tekton.dev/{key}"), value.into());
    Ok(Resolved {
        data: data.into_bytes(),
        annotations: BTreeMap::from([
            annotation("name", &wanted.name),
            annotation("namespace", &wanted.namespace),
        ]),
        source: RefSource {
            uri,
            digest: BTreeMap::from([("sha256".to_owned(), hex(&Sha256::digest(message)))]),
            entry_point: String::new(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(entries: &[(&str, &str)]) -> Map {
        let mut map = crate::settings::Settings::default().map("cluster-resolver-config");
        for (key, value) in entries {
            map.insert((*key).into(), (*value).into());
        }
        map
    }

    /// P-358
    #[test]
    fn params_are_filled_from_the_config_map_and_checked() {
        let full = Params::from([("kind", "pipeline"), ("name", "n"), ("namespace", "ns")]);
        let error = |params: Params, config: &Map| wanted(&params, config).unwrap_err();
        assert_eq!(
            wanted(&full, &config(&[])).unwrap().path(),
            "/apis/tekton.dev/v1/namespaces/ns/pipelines/n"
        );
        let defaults = config(&[("default-kind", "stepaction"), ("default-namespace", "d")]);
        assert_eq!(
            wanted(&Params::from([("name", "n"), ("kind", "")]), &defaults)
                .unwrap()
                .path(),
            "/apis/tekton.dev/v1beta1/namespaces/d/stepactions/n"
        );
        assert_eq!(
            error(Params::from([]), &config(&[])),
            "missing required cluster resolver params: name, namespace"
        );
        assert_eq!(
            error(Params::from([]), &Map::new()),
            "missing required cluster resolver params: kind, name, namespace"
        );
        assert_eq!(
            error(Params::from([("kind", "secret")]), &config(&[])),
            "unknown or unsupported resource kind 'secret'"
        );
        for name in ["a/../../secrets", "..", "a?x=y", "a#b", "a%2fb"] {
            let params = Params::from([("name", name), ("namespace", "ns")]);
            assert!(
                error(params, &config(&[])).starts_with("invalid name"),
                "{name}"
            );
        }
    }

    /// P-359
    #[test]
    fn namespaces_are_allowed_and_blocked_in_upstreams_order() {
        for (blocked, allowed, expected) in [
            ("", "", None),
            (
                "a, ns",
                "",
                Some("access to specified namespace ns is blocked"),
            ),
            (
                "ns",
                "ns",
                Some("access to specified namespace ns is blocked"),
            ),
            ("*", "a,ns", None),
            (
                "*",
                "a",
                Some("only explicit allowed access to namespaces is allowed"),
            ),
            (
                "",
                "a,b",
                Some("access to specified namespace ns is not allowed"),
            ),
            ("a", "", None),
        ] {
            let config = config(&[
                ("blocked-namespaces", blocked),
                ("allowed-namespaces", allowed),
            ]);
            assert_eq!(
                check_namespace("ns", &config).err().as_deref(),
                expected,
                "{blocked:?} {allowed:?}"
            );
        }
    }
}
