//! RBAC: who may do what (K-215 to K-223).

use std::sync::Arc;

use serde_json::Value;

use crate::error::{About, ApiError};
use crate::handler::Call;
use crate::identity::{AUTHENTICATED, Identity};
use crate::server::Inner;
use crate::storage::Stored;

/// What is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attributes<'a> {
    pub verb: &'a str,
    pub group: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
}

fn contains(rule: &Value, key: &str, wanted: &str) -> bool {
    let list = rule
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    list.filter_map(Value::as_str)
        .any(|item| item == "*" || item == wanted)
}

fn rule_allows(rule: &Value, ask: &Attributes<'_>) -> bool {
    if !contains(rule, "verbs", ask.verb) || !contains(rule, "apiGroups", ask.group) {
        return false;
    }
    let resources = rule
        .get("resources")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let hit = resources.into_iter().any(|item| {
        if ask.subresource.is_empty() {
            return item == "*" || item == ask.resource;
        }
        match item.split_once('/') {
            Some(("*", subresource)) => subresource == ask.subresource,
            Some((resource, subresource)) => {
                resource == ask.resource && subresource == ask.subresource
            }
            None => item == "*",
        }
    });
    let names = rule
        .get("resourceNames")
        .and_then(Value::as_array)
        .filter(|names| !names.is_empty());
    hit && names
        .is_none_or(|names| !ask.name.is_empty() && names.iter().any(|name| name == ask.name))
}

fn rule_allows_path(rule: &Value, verb: &str, path: &str) -> bool {
    contains(rule, "verbs", verb)
        && rule
            .get("nonResourceURLs")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .any(|url| {
                url == "*"
                    || url == path
                    || url
                        .strip_suffix('*')
                        .is_some_and(|prefix| path.starts_with(prefix))
            })
}

fn binds(binding: &Value, namespace: &str, identity: &Identity) -> bool {
    let subjects = binding.get("subjects").and_then(Value::as_array);
    subjects.into_iter().flatten().any(|subject| {
        let text = |key: &str| subject.get(key).and_then(Value::as_str).unwrap_or_default();
        match text("kind") {
            "User" => text("name") == identity.user,
            "Group" => identity.groups.iter().any(|group| group == text("name")),
            "ServiceAccount" => {
                let own = text("namespace");
                let namespace = if own.is_empty() { namespace } else { own };
                identity
                    .user
                    .strip_prefix("system:serviceaccount:")
                    .and_then(|rest| rest.split_once(':'))
                    == Some((namespace, text("name")))
            }
            _ => false,
        }
    })
}

impl Inner {
    /// The rules that apply to an identity, cluster-wide and in one namespace.
    pub(crate) fn rules(&self, identity: &Identity, namespace: &str) -> Vec<Value> {
        let mut rules = Vec::new();
        let mut collect = |bindings: Vec<Arc<Stored>>| {
            for stored in bindings {
                let binding = stored.value();
                if !binds(&binding, &stored.namespace, identity) {
                    continue;
                }
                let text = |pointer: &str| {
                    binding
                        .pointer(pointer)
                        .and_then(Value::as_str)
                        .unwrap_or_default()
                };
                let (collection, place) = match text("/roleRef/kind") {
                    "Role" => ("roles.rbac.authorization.k8s.io", &*stored.namespace),
                    _ => ("clusterroles.rbac.authorization.k8s.io", ""),
                };
                if let Some(role) = self.storage.get(collection, place, text("/roleRef/name")) {
                    rules.extend(self.role_rules(&role.value()));
                }
            }
        };
        collect(
            self.storage
                .list("clusterrolebindings.rbac.authorization.k8s.io", None)
                .0,
        );
        if !namespace.is_empty() {
            collect(
                self.storage
                    .list("rolebindings.rbac.authorization.k8s.io", Some(namespace))
                    .0,
            );
        }
        rules
    }

    /// A role's own rules and those it aggregates (K-217).
    fn role_rules(&self, role: &Value) -> Vec<Value> {
        let mut rules = role
            .get("rules")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let selectors = role
            .pointer("/aggregationRule/clusterRoleSelectors")
            .and_then(Value::as_array);
        for selector in selectors.into_iter().flatten() {
            let selector = crate::selector::Labels::from_object(selector);
            let (roles, _) = self
                .storage
                .list("clusterroles.rbac.authorization.k8s.io", None);
            for other in roles
                .iter()
                .filter(|other| selector.matches(|key| other.label(key)))
            {
                // A role selected may itself aggregate; one level deep is what the default roles need.
                let other = other.value();
                rules.extend(
                    other
                        .get("rules")
                        .and_then(Value::as_array)
                        .cloned()
                        .unwrap_or_default(),
                );
                let nested = other
                    .pointer("/aggregationRule/clusterRoleSelectors")
                    .and_then(Value::as_array);
                for selector in nested
                    .into_iter()
                    .flatten()
                    .map(crate::selector::Labels::from_object)
                {
                    for third in roles
                        .iter()
                        .filter(|third| selector.matches(|key| third.label(key)))
                    {
                        rules.extend(
                            third
                                .value()
                                .get("rules")
                                .and_then(Value::as_array)
                                .cloned()
                                .unwrap_or_default(),
                        );
                    }
                }
            }
        }
        rules
    }

    /// Whether RBAC allows it.
    pub(crate) fn allows(&self, identity: &Identity, ask: &Attributes<'_>) -> bool {
        identity.is_master()
            || self
                .rules(identity, ask.namespace)
                .iter()
                .any(|rule| rule_allows(rule, ask))
    }

    /// Whether RBAC allows a request to a path that is no resource.
    pub(crate) fn allows_path(&self, identity: &Identity, verb: &str, path: &str) -> bool {
        // Health, version and discovery are what everybody may see (K-218).
        let public = ["/healthz", "/livez", "/readyz", "/version"];
        let discovery = ["/api", "/apis", "/openapi"];
        let below = |root: &&str| {
            path == *root
                || path
                    .strip_prefix(*root)
                    .is_some_and(|rest| rest.starts_with('/'))
        };
        identity.is_master()
            || verb == "get" && public.iter().any(&below)
            || verb == "get"
                && identity.groups.iter().any(|group| group == AUTHENTICATED)
                && discovery.iter().any(below)
            || self
                .rules(identity, "")
                .iter()
                .any(|rule| rule_allows_path(rule, verb, path))
    }

    /// 403 unless RBAC allows it (K-089).
    pub(crate) fn authorize(
        &self,
        identity: &Identity,
        ask: &Attributes<'_>,
    ) -> Result<(), ApiError> {
        if self.allows(identity, ask) {
            return Ok(());
        }
        let resource = if ask.subresource.is_empty() {
            ask.resource.to_owned()
        } else {
            format!("{}/{}", ask.resource, ask.subresource)
        };
        let place = if ask.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace \"{}\"", ask.namespace)
        };
        let why = format!(
            "User \"{}\" cannot {} resource \"{resource}\" in API group \"{}\" {place}",
            identity.user, ask.verb, ask.group
        );
        let why = why
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;");
        let about = About {
            group: ask.group,
            resource: ask.resource,
            kind: "",
        };
        Err(ApiError::forbidden(about, ask.name, &why))
    }

    /// Replaces the caller by whom it may impersonate (K-222).
    pub(crate) fn impersonate(&self, call: &mut Call) -> Result<(), ApiError> {
        let headers = &call.head.headers;
        if !headers
            .keys()
            .any(|name| name.as_str().starts_with("impersonate-"))
        {
            return Ok(());
        }
        let text = |name: &str| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned()
        };
        let user = text("impersonate-user");
        if user.is_empty() {
            return Err(ApiError::bad_request(
                "requested impersonation without impersonating a user",
            ));
        }
        let asker = Arc::clone(&call.identity);
        let check =
            |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
                self.authorize(
                    &asker,
                    &Attributes {
                        verb: "impersonate",
                        group,
                        resource,
                        subresource,
                        namespace,
                        name,
                    },
                )
            };
        let mut identity = Identity {
            user: user.clone(),
            ..Identity::default()
        };
        match user
            .strip_prefix("system:serviceaccount:")
            .and_then(|rest| rest.split_once(':'))
        {
            Some((namespace, name)) => {
                check("", "serviceaccounts", "", namespace, name)?;
                identity = Identity::service_account(namespace, name);
            }
            None => check("", "users", "", "", &user)?,
        }
        let groups: Vec<String> = headers
            .get_all("impersonate-group")
            .iter()
            .filter_map(|value| value.to_str().ok().map(str::to_owned))
            .collect();
        if !groups.is_empty() {
            identity.groups.clear();
        }
        for group in groups {
            check("", "groups", "", "", &group)?;
            identity.groups.push(group);
        }
        let uid = text("impersonate-uid");
        if !uid.is_empty() {
            check("authentication.k8s.io", "uids", "", "", &uid)?;
            identity.uid = uid;
        }
        for (name, value) in headers {
            let Some(key) = name.as_str().strip_prefix("impersonate-extra-") else {
                continue;
            };
            let key = percent_encoding::percent_decode_str(key)
                .decode_utf8_lossy()
                .into_owned();
            let value = value.to_str().unwrap_or_default();
            check("authentication.k8s.io", "userextras", &key, "", value)?;
            identity
                .extra
                .entry(key)
                .or_default()
                .push(value.to_owned());
        }
        if user != "system:anonymous" && !identity.groups.iter().any(|group| group == AUTHENTICATED)
        {
            identity.groups.push(AUTHENTICATED.into());
        }
        call.identity = Arc::new(identity);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_match_by_verb_group_resource_subresource_and_name() {
        // K-215
        let rule = json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log", "*/status"]});
        let named =
            json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "resourceNames": ["a"]});
        let ask = |verb, resource, subresource, name| Attributes {
            verb,
            resource,
            subresource,
            name,
            ..Attributes::default()
        };
        for (rule, ask, expected) in [
            (&rule, ask("get", "pods", "", "x"), true),
            (&rule, ask("delete", "pods", "", "x"), false),
            (&rule, ask("get", "pods", "log", "x"), true),
            (&rule, ask("get", "pods", "exec", "x"), false),
            (&rule, ask("get", "services", "status", "x"), true),
            (&rule, ask("get", "services", "", "x"), false),
            (&named, ask("update", "pods", "", "a"), true),
            (&named, ask("update", "pods", "", "b"), false),
            (&named, ask("create", "pods", "", ""), false),
            (&named, ask("list", "pods", "", "a"), true),
        ] {
            assert_eq!(rule_allows(rule, &ask), expected, "{ask:?}");
        }
        let paths = json!({"verbs": ["get"], "nonResourceURLs": ["/metrics", "/logs/*"]});
        for (path, expected) in [("/metrics", true), ("/metrics/x", false), ("/logs/a", true)] {
            assert_eq!(rule_allows_path(&paths, "get", path), expected, "{path}");
        }
    }
}
