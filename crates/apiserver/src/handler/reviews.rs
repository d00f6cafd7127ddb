//! Requests that are answered and never stored: access and token reviews, token requests (K-212, K-213, K-220, K-221).

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::input::{conform_object, decode_body, write_options};
use super::{Answer, Call};
use crate::authorization::Attributes;
use crate::builtin::conform::{conform, format_seconds};
use crate::builtin::shape::definition;
use crate::error::{ApiError, Cause};
use crate::identity::Identity;
use crate::registry::Resource;
use crate::server::Inner;
use crate::target::Path;
use crate::tokens::{Claims, ISSUER};

const LEAST_LIFETIME: i64 = 600;
const MOST_LIFETIME: i64 = 1 << 32;
const DEFAULT_LIFETIME: i64 = 3600;

fn strings(value: Option<&Value>) -> Vec<String> {
    value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|item| item.as_str().map(str::to_owned))
        .collect()
}

fn user_info(identity: &Identity) -> Value {
    let mut user = json!({"username": identity.user, "groups": identity.groups});
    if !identity.uid.is_empty() {
        user["uid"] = identity.uid.as_str().into();
    }
    if !identity.extra.is_empty() {
        user["extra"] = json!(identity.extra);
    }
    user
}

impl Inner {
    /// `POST` of a review.
    pub(super) async fn review(
        self: &Arc<Self>,
        call: &Call,
        resource: &Arc<Resource>,
        path: &Path,
    ) -> Answer {
        let options = write_options(call)?;
        let decoded = decode_body(call)?;
        let mut review = decoded.value;
        conform_object(
            &mut review,
            resource,
            decoded.duplicates,
            options.validation,
            call,
        )?;
        let spec = review.get("spec").cloned().unwrap_or_default();
        let status = match resource.kind.as_str() {
            "SelfSubjectAccessReview" => self.access(&call.identity, &spec)?,
            "SubjectAccessReview" | "LocalSubjectAccessReview" => {
                let identity = Identity {
                    user: spec
                        .get("user")
                        .and_then(Value::as_str)
                        .unwrap_or_default()
                        .into(),
                    groups: strings(spec.get("groups")),
                    ..Identity::default()
                };
                self.access(&identity, &spec)?
            }
            "SelfSubjectRulesReview" => {
                let namespace = spec
                    .get("namespace")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                self.rules_review(&call.identity, namespace)
            }
            "SelfSubjectReview" => json!({"userInfo": user_info(&call.identity)}),
            "TokenReview" => {
                let token = spec
                    .get("token")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                match self.authenticate(token, &strings(spec.get("audiences"))) {
                    Some((identity, audiences)) => {
                        json!({"authenticated": true, "user": user_info(&identity), "audiences": audiences})
                    }
                    None => {
                        json!({"user": {}, "error": "[invalid bearer token, token lookup failed]"})
                    }
                }
            }
            "Binding" => {
                let name = review
                    .pointer("/metadata/name")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned();
                let pods = self
                    .registry()
                    .get("", "v1", "pods")
                    .cloned()
                    .ok_or_else(ApiError::no_such_resource)?;
                return self
                    .bind(
                        call,
                        &pods,
                        &Path {
                            name,
                            ..path.clone()
                        },
                    )
                    .await;
            }
            _ => return Err(ApiError::method_not_allowed()),
        };
        review["status"] = status;
        review["metadata"] = review
            .get("metadata")
            .cloned()
            .filter(Value::is_object)
            .unwrap_or_else(|| json!({}));
        self.answer_value(call, resource, review, StatusCode::CREATED)
    }

    fn access(&self, identity: &Identity, spec: &Value) -> Result<Value, ApiError> {
        let allowed = if let Some(attributes) = spec.get("resourceAttributes") {
            let text = |key: &str| {
                attributes
                    .get(key)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            };
            self.allows(
                identity,
                &Attributes {
                    verb: text("verb"),
                    group: text("group"),
                    resource: text("resource"),
                    subresource: text("subresource"),
                    namespace: text("namespace"),
                    name: text("name"),
                },
            )
        } else if let Some(attributes) = spec.get("nonResourceAttributes") {
            let text = |key: &str| {
                attributes
                    .get(key)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            };
            self.allows_path(identity, text("verb"), text("path"))
        } else {
            return Err(ApiError::invalid(
                "authorization.k8s.io",
                "SelfSubjectAccessReview",
                "",
                vec![Cause::invalid(
                    "spec.resourceAttributes",
                    &Value::Null,
                    "exactly one of nonResourceAttributes or resourceAttributes must be specified",
                )],
            ));
        };
        Ok(json!({"allowed": allowed}))
    }

    fn rules_review(&self, identity: &Identity, namespace: &str) -> Value {
        let mut rules = self.rules(identity, namespace);
        if identity.is_master() {
            rules.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
            rules.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
        }
        let (paths, resources): (Vec<Value>, Vec<Value>) = rules
            .into_iter()
            .partition(|rule| rule.get("nonResourceURLs").is_some());
        json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false})
    }

    /// `POST serviceaccounts/<name>/token` (K-212).
    pub(super) async fn token(&self, call: &Call, resource: &Arc<Resource>, path: &Path) -> Answer {
        let account = self
            .storage
            .get(&resource.storage, &path.namespace, &path.name)
            .ok_or_else(|| ApiError::not_found(resource.about(), &path.name))?;
        let mut request = decode_body(call)?.value;
        if let Some(shape) = definition("io.k8s.api.authentication.v1.TokenRequest") {
            conform(&mut request, shape, &mut Vec::new()).map_err(ApiError::bad_request)?;
        }
        let lifetime = request
            .pointer("/spec/expirationSeconds")
            .and_then(Value::as_i64)
            .unwrap_or(DEFAULT_LIFETIME);
        if !(LEAST_LIFETIME..=MOST_LIFETIME).contains(&lifetime) {
            let text = if lifetime < LEAST_LIFETIME {
                "may not specify a duration less than 10 minutes"
            } else {
                "may not specify a duration larger than 2^32 seconds"
            };
            let cause = Cause::invalid("spec.expirationSeconds", &lifetime.into(), text);
            return Err(ApiError::invalid(
                "authentication.k8s.io",
                "TokenRequest",
                &path.name,
                vec![cause],
            ));
        }
        let mut audiences = strings(request.pointer("/spec/audiences"));
        if audiences.is_empty() {
            audiences.push(ISSUER.into());
        }
        let bound = request
            .pointer("/spec/boundObjectRef")
            .map(|bound| self.bound(bound, &path.namespace))
            .transpose()?;
        let claims = Claims {
            namespace: path.namespace.clone(),
            account: path.name.clone(),
            account_uid: account.uid.to_string(),
            bound,
            audiences: audiences.clone(),
            lifetime,
        };
        let (token, expires) = self.signer.issue(&claims).map_err(ApiError::internal)?;
        let mut answer = json!({
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": path.name, "namespace": path.namespace, "creationTimestamp": super::now()},
            "spec": {"audiences": audiences, "expirationSeconds": lifetime, "boundObjectRef": null},
            "status": {"token": token, "expirationTimestamp": format_seconds(expires)},
        });
        if let Some(bound) = request.pointer("/spec/boundObjectRef") {
            answer["spec"]["boundObjectRef"] = bound.clone();
        }
        self.answer_value(call, resource, answer, StatusCode::CREATED)
    }

    /// Kind, name and UID of what a token is to be bound to.
    fn bound(
        &self,
        reference: &Value,
        namespace: &str,
    ) -> Result<(String, String, String), ApiError> {
        let text = |key: &str| {
            reference
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let (collection, place) = match text("kind") {
            "Pod" => ("pods", namespace),
            "Secret" => ("secrets", namespace),
            "Node" => ("nodes", ""),
            other => {
                return Err(ApiError::bad_request(format!(
                    "cannot bind token for serviceaccount to object of type {other}"
                )));
            }
        };
        let registry = self.registry();
        let resource = registry
            .get("", "v1", collection)
            .ok_or_else(ApiError::no_such_resource)?;
        let object = self
            .storage
            .get(collection, place, text("name"))
            .ok_or_else(|| ApiError::not_found(resource.about(), text("name")))?;
        let uid = text("uid");
        if !uid.is_empty() && *uid != *object.uid {
            let why = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            );
            return Err(ApiError::conflict(resource.about(), text("name"), &why));
        }
        Ok((
            text("kind").to_lowercase(),
            text("name").to_owned(),
            object.uid.to_string(),
        ))
    }
}
