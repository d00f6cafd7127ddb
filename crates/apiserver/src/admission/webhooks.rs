//! Mutating and validating webhooks (K-185 to K-196).

use std::borrow::Cow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Operation, Review};
use crate::crd::convert;
use crate::error::ApiError;
use crate::handler::Call;
use crate::patch;
use crate::registry::{Backing, Resource};
use crate::selector::Labels;
use crate::server::Inner;

const MUTATING: &str = "mutatingwebhookconfigurations.admissionregistration.k8s.io";
const VALIDATING: &str = "validatingwebhookconfigurations.admissionregistration.k8s.io";

/// The parsed webhook configurations, renewed when one changes.
#[derive(Default)]
pub(crate) struct Hooks {
    mutating: Mutex<Cached>,
    validating: Mutex<Cached>,
}

#[derive(Default)]
struct Cached {
    /// Number of configurations and their highest revision.
    stamp: (usize, u64),
    hooks: Arc<Vec<Hook>>,
}

/// One webhook of a configuration.
struct Hook {
    name: String,
    rules: Vec<Rule>,
    namespaces: Labels,
    objects: Labels,
    ignore_failure: bool,
    equivalent: bool,
    reinvoke: bool,
    dry_run: bool,
    timeout: Duration,
    version: String,
    config: Value,
}

struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    scope: String,
}

fn strings(value: Option<&Value>) -> Vec<String> {
    value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|item| item.as_str().map(str::to_owned))
        .collect()
}

fn parse(hook: &Value) -> Hook {
    let text = |key: &str| hook.get(key).and_then(Value::as_str).unwrap_or_default();
    let rules = hook
        .get("rules")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let selector = |key: &str| hook.get(key).map(Labels::from_object).unwrap_or_default();
    let versions = strings(hook.get("admissionReviewVersions"));
    Hook {
        name: text("name").into(),
        rules: rules
            .map(|rule| Rule {
                operations: strings(rule.get("operations")),
                groups: strings(rule.get("apiGroups")),
                versions: strings(rule.get("apiVersions")),
                resources: strings(rule.get("resources")),
                scope: rule
                    .get("scope")
                    .and_then(Value::as_str)
                    .unwrap_or("*")
                    .into(),
            })
            .collect(),
        namespaces: selector("namespaceSelector"),
        objects: selector("objectSelector"),
        ignore_failure: text("failurePolicy") == "Ignore",
        equivalent: text("matchPolicy") != "Exact",
        reinvoke: text("reinvocationPolicy") == "IfNeeded",
        dry_run: matches!(text("sideEffects"), "None" | "NoneOnDryRun"),
        timeout: Duration::from_secs(
            hook.get("timeoutSeconds")
                .and_then(Value::as_u64)
                .unwrap_or(10),
        ),
        version: versions
            .into_iter()
            .find(|version| version == "v1" || version == "v1beta1")
            .unwrap_or_else(|| "v1".into()),
        config: hook.get("clientConfig").cloned().unwrap_or_default(),
    }
}

fn any(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

impl Rule {
    fn matches(&self, operation: Operation, resource: &Resource, subresource: &str) -> bool {
        let scope = match self.scope.as_str() {
            "Namespaced" => resource.namespaced,
            "Cluster" => !resource.namespaced,
            _ => true,
        };
        // Most rules are for other groups, which is quickly seen.
        let named = || {
            self.resources
                .iter()
                .any(|item| match item.split_once('/') {
                    None => subresource.is_empty() && (item == "*" || *item == resource.plural),
                    Some((own, sub)) => {
                        (own == "*" || own == resource.plural)
                            && if sub == "*" { true } else { sub == subresource }
                    }
                })
        };
        scope
            && any(&self.groups, &resource.group)
            && any(&self.versions, &resource.version)
            && any(&self.operations, operation.name())
            && named()
    }
}

/// What a webhook answered.
struct Verdict {
    patch: Option<Value>,
    warnings: Vec<String>,
}

impl Inner {
    fn hooks(&self, collection: &str, cache: &Mutex<Cached>) -> Arc<Vec<Hook>> {
        let (configurations, _) = self.storage.list(collection, None);
        let newest = configurations
            .iter()
            .map(|object| object.revision)
            .max()
            .unwrap_or(0);
        let stamp = (configurations.len(), newest);
        let mut cached = cache
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if cached.stamp != stamp {
            let values: Vec<Value> = configurations.iter().map(|object| object.value()).collect();
            let hooks = values
                .iter()
                .flat_map(|value| value.get("webhooks").and_then(Value::as_array))
                .flatten();
            cached.hooks = Arc::new(hooks.map(parse).collect());
            cached.stamp = stamp;
        }
        Arc::clone(&cached.hooks)
    }

    /// The resource a webhook wants to see this request as, if any (K-186, K-189).
    fn matching<'a>(
        &self,
        hook: &Hook,
        review: &'a Review<'a>,
        object: &Value,
    ) -> Option<Arc<Resource>> {
        let resource = review.resource;
        if resource.group == "admissionregistration.k8s.io" {
            return None;
        }
        let registry = self.registry();
        let direct = hook
            .rules
            .iter()
            .any(|rule| rule.matches(review.operation, resource, review.subresource));
        let target = if direct {
            registry
                .get(&resource.group, &resource.version, &resource.plural)
                .cloned()
        } else if let (true, Backing::Custom(kind, _)) = (hook.equivalent, &resource.backing) {
            kind.versions.iter().find_map(|version| {
                let other = registry.get(&resource.group, &version.name, &resource.plural)?;
                let hit = hook
                    .rules
                    .iter()
                    .any(|rule| rule.matches(review.operation, other, review.subresource));
                hit.then(|| Arc::clone(other))
            })
        } else {
            None
        }?;
        if !hook.namespaces.is_empty() {
            let namespace = if resource.is("", "namespaces") {
                if !hook.namespaces.matches_value(if object.is_null() {
                    review.old.unwrap_or(object)
                } else {
                    object
                }) {
                    return None;
                }
                None
            } else if resource.namespaced {
                self.storage.get("namespaces", "", review.namespace)
            } else {
                None
            };
            if namespace
                .is_some_and(|namespace| !hook.namespaces.matches(|key| namespace.label(key)))
            {
                return None;
            }
        }
        let selected = hook.objects.is_empty()
            || !object.is_null() && hook.objects.matches_value(object)
            || review
                .old
                .is_some_and(|old| hook.objects.matches_value(old));
        selected.then_some(target)
    }

    /// Runs the mutating webhooks in order; says whether one changed the object.
    pub(crate) async fn mutate(
        &self,
        call: &Call,
        review: &Review<'_>,
        object: &mut Value,
    ) -> Result<bool, ApiError> {
        let hooks = self.hooks(MUTATING, &self.hooks.mutating);
        let mut changed = false;
        let mut called: Vec<usize> = Vec::new();
        let mut changed_by = None;
        for (index, hook) in hooks.iter().enumerate() {
            let Some(target) = self.matching(hook, review, object) else {
                continue;
            };
            if self.mutate_by(call, review, hook, &target, object).await? {
                changed = true;
                changed_by = Some(index);
            }
            called.push(index);
        }
        // K-185: earlier ones may look again at what a later one changed.
        let again = called.iter().filter(|index| {
            changed_by.is_some_and(|last| **index < last) && hooks[**index].reinvoke
        });
        for index in again {
            if let Some(target) = self.matching(&hooks[*index], review, object) {
                changed |= self
                    .mutate_by(call, review, &hooks[*index], &target, object)
                    .await?;
            }
        }
        Ok(changed)
    }

    async fn mutate_by(
        &self,
        call: &Call,
        review: &Review<'_>,
        hook: &Hook,
        target: &Arc<Resource>,
        object: &mut Value,
    ) -> Result<bool, ApiError> {
        let before = self.as_version(review.resource, target, object).await?;
        let Some(verdict) = self.call_hook(call, review, hook, target, &before).await? else {
            return Ok(false);
        };
        let Some(patch) = verdict.patch else {
            return Ok(false);
        };
        let mut seen = Value::clone(&before);
        patch::json::apply(&mut seen, &patch).map_err(|error| {
            ApiError::internal(format!(
                "admission webhook \"{}\" returned an unusable patch: {error}",
                hook.name
            ))
        })?;
        if !seen.is_object() {
            return Err(ApiError::internal(format!(
                "admission webhook \"{}\" replaced the object by none",
                hook.name
            )));
        }
        if seen == *before {
            return Ok(false);
        }
        *object = match self.as_version(target, review.resource, &seen).await? {
            Cow::Owned(converted) => converted,
            Cow::Borrowed(_) => seen,
        };
        Ok(true)
    }

    /// Asks the validating webhooks, all at once; the first denial in order counts.
    pub(crate) async fn validate_by_webhooks(
        &self,
        call: &Call,
        review: &Review<'_>,
        object: &Value,
    ) -> Result<(), ApiError> {
        let hooks = self.hooks(VALIDATING, &self.hooks.validating);
        let asked = hooks.iter().filter_map(|hook| {
            let target = self.matching(hook, review, object)?;
            Some(async move {
                let seen = self.as_version(review.resource, &target, object).await?;
                self.call_hook(call, review, hook, &target, &seen)
                    .await
                    .map(drop)
            })
        });
        for result in futures::future::join_all(asked).await {
            result?;
        }
        Ok(())
    }

    async fn as_version<'a>(
        &self,
        from: &Resource,
        to: &Resource,
        object: &'a Value,
    ) -> Result<Cow<'a, Value>, ApiError> {
        let Backing::Custom(kind, _) = &to.backing else {
            return Ok(Cow::Borrowed(object));
        };
        if from.version == to.version || object.is_null() {
            return Ok(Cow::Borrowed(object));
        }
        let mut converted =
            convert::convert(&self.webhooks, kind, vec![object.clone()], &to.version).await?;
        Ok(Cow::Owned(converted.pop().unwrap_or_default()))
    }

    /// One call; `None` if it failed and that is to be ignored.
    async fn call_hook(
        &self,
        call: &Call,
        review: &Review<'_>,
        hook: &Hook,
        target: &Arc<Resource>,
        object: &Value,
    ) -> Result<Option<Verdict>, ApiError> {
        if review.dry_run && !hook.dry_run {
            let text = format!(
                "admission webhook \"{}\" does not support dry run",
                hook.name
            );
            return Err(ApiError::bad_request(text));
        }
        let old = match review.old {
            Some(old) => self.as_version(review.resource, target, old).await?,
            None => Cow::Owned(Value::Null),
        };
        let uid = uuid::Uuid::new_v4().to_string();
        let body = AdmissionReview {
            kind: "AdmissionReview",
            api_version: format!("admission.k8s.io/{}", hook.version),
            request: Request {
                head: head(
                    review,
                    target,
                    &uid,
                    if object.is_null() { &old } else { object },
                ),
                object,
                old_object: &old,
            },
        };
        let answer = match self
            .webhooks
            .post(&hook.config, &body, hook.timeout)
            .await
            .and_then(|answer| read(answer, &uid))
        {
            Ok(answer) => answer,
            Err(_) if hook.ignore_failure => return Ok(None),
            Err(why) => {
                let text = format!(
                    "failed calling webhook \"{}\": failed to call webhook: {why}",
                    hook.name
                );
                return Err(ApiError::internal(text));
            }
        };
        let warnings = strings(answer.get("warnings"));
        warnings
            .iter()
            .for_each(|warning| call.warn(warning.as_str()));
        if answer.get("allowed") != Some(&Value::Bool(true)) {
            return Err(denial(&hook.name, answer.get("status")));
        }
        let patch = match answer
            .get("patch")
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
        {
            None => None,
            Some(text) => {
                let bytes = base64::engine::general_purpose::STANDARD
                    .decode(text)
                    .map_err(ApiError::internal)?;
                Some(serde_json::from_slice(&bytes).map_err(ApiError::internal)?)
            }
        };
        Ok(Some(Verdict { patch, warnings }).inspect(|verdict| {
            tracing::trace!(hook = %hook.name, warnings = verdict.warnings.len(), "webhook called");
        }))
    }
}

/// The AdmissionReview to send (K-190); the objects in it are written, not copied.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AdmissionReview<'a> {
    kind: &'static str,
    api_version: String,
    request: Request<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    #[serde(flatten)]
    head: Map<String, Value>,
    object: &'a Value,
    old_object: &'a Value,
}

/// All of a request but the objects; `named` is the one it is about.
fn head(review: &Review<'_>, target: &Resource, uid: &str, named: &Value) -> Map<String, Value> {
    let asked = review.resource;
    let kind = |resource: &Resource| json!({"group": resource.group, "version": resource.version, "kind": resource.kind});
    let plural = |resource: &Resource| json!({"group": resource.group, "version": resource.version, "resource": resource.plural});
    let name = named
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let mut user = json!({"username": review.identity.user, "groups": review.identity.groups});
    if !review.identity.uid.is_empty() {
        user["uid"] = review.identity.uid.as_str().into();
    }
    if !review.identity.extra.is_empty() {
        user["extra"] = json!(review.identity.extra);
    }
    let mut head = Map::new();
    let mut say = |key: &str, value: Value| head.insert(key.to_owned(), value);
    say("uid", uid.into());
    say("kind", kind(target));
    say("resource", plural(target));
    say("requestKind", kind(asked));
    say("requestResource", plural(asked));
    say("name", name.into());
    say("operation", review.operation.name().into());
    say("userInfo", user);
    say("dryRun", review.dry_run.into());
    say("options", review.options.clone());
    if !review.namespace.is_empty() {
        say("namespace", review.namespace.into());
    } else if asked.is("", "namespaces") {
        say("namespace", name.into());
    }
    if !review.subresource.is_empty() {
        say("subResource", review.subresource.into());
        say("requestSubResource", review.subresource.into());
    }
    head
}

/// The `response` of a review that answers ours (K-192).
fn read(mut answer: Value, uid: &str) -> Result<Value, String> {
    let response = answer
        .get_mut("response")
        .map(Value::take)
        .filter(Value::is_object);
    let response = response.ok_or("webhook response is missing")?;
    match response.get("uid").and_then(Value::as_str) {
        Some(found) if found == uid => Ok(response),
        found => Err(format!(
            "expected response.uid={uid:?}, got {:?}",
            found.unwrap_or_default()
        )),
    }
}

/// K-193
fn denial(hook: &str, status: Option<&Value>) -> ApiError {
    let text = |key: &str| {
        status
            .and_then(|status| status.get(key))
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let code = status
        .and_then(|status| status.get("code"))
        .and_then(Value::as_u64)
        .filter(|code| *code >= 400);
    let code = u16::try_from(code.unwrap_or(400)).unwrap_or(400);
    let message = match (text("message"), text("reason")) {
        ("", "") => format!("admission webhook \"{hook}\" denied the request without explanation"),
        ("", why) | (why, _) => format!("admission webhook \"{hook}\" denied the request: {why}"),
    };
    ApiError::with_code(code, text("reason"), message)
}
