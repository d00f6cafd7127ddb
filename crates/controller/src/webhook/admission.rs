//! AdmissionReview: defaulting as a JSON patch, validation as a refusal, and the check of our ConfigMaps.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tektite_api::admission::{self, Operation, Request};

use crate::config::{ConfigHandle, ConfigMapNames};

/// Which of the webhooks is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Webhook {
    Defaulting,
    Validation,
    Config,
}

#[derive(Deserialize)]
struct Review<'a> {
    #[serde(borrow)]
    request: Asked<'a>,
}

/// What is read of a request; the objects only if it comes to that.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked<'a> {
    #[serde(borrow)]
    uid: Cow<'a, str>,
    #[serde(borrow)]
    kind: GroupVersionKind<'a>,
    #[serde(borrow, default)]
    sub_resource: Cow<'a, str>,
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    namespace: Cow<'a, str>,
    #[serde(borrow)]
    operation: Cow<'a, str>,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
    #[serde(borrow, default)]
    old_object: Option<&'a RawValue>,
    #[serde(default)]
    user_info: UserInfo,
}

#[derive(Deserialize)]
struct GroupVersionKind<'a> {
    #[serde(borrow, default)]
    group: Cow<'a, str>,
    #[serde(borrow)]
    version: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct UserInfo {
    username: String,
}

/// What a webhook says.
enum Verdict {
    Allowed {
        patch: Option<Vec<u8>>,
        warnings: Vec<String>,
    },
    Denied {
        code: u16,
        message: String,
    },
}

impl Verdict {
    const YES: Verdict = Verdict::Allowed {
        patch: None,
        warnings: Vec::new(),
    };
}

/// Answers an AdmissionReview.
///
/// # Errors
/// The body is not an AdmissionReview.
pub(super) fn review(
    body: &[u8],
    config: &ConfigHandle,
    webhook: Webhook,
) -> Result<Value, serde_json::Error> {
    let Review { request } = serde_json::from_slice(body)?;
    let verdict = judge(&request, config, webhook)?;
    let mut response = json!({ "uid": request.uid });
    match verdict {
        Verdict::Allowed { patch, warnings } => {
            response["allowed"] = json!(true);
            if let Some(patch) = patch {
                response["patchType"] = json!("JSONPatch");
                response["patch"] = json!(base64::engine::general_purpose::STANDARD.encode(patch));
            }
            if !warnings.is_empty() {
                response["warnings"] = json!(warnings);
            }
        }
        Verdict::Denied { code, message } => {
            let reason = if code == 400 { "BadRequest" } else { "Invalid" };
            response["allowed"] = json!(false);
            response["status"] =
                json!({"status": "Failure", "message": message, "reason": reason, "code": code});
        }
    }
    Ok(
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}),
    )
}

fn judge(
    asked: &Asked<'_>,
    config: &ConfigHandle,
    webhook: Webhook,
) -> Result<Verdict, serde_json::Error> {
    let operation = match &*asked.operation {
        "CREATE" => Operation::Create,
        "UPDATE" => Operation::Update,
        // Anything else passes (T-021).
        _ => return Ok(Verdict::YES),
    };
    // A write to the status leaves the spec as it is, which was admitted before; the status is the controllers' own.
    if asked.sub_resource == "status" {
        return Ok(Verdict::YES);
    }
    let Some(object) = asked.object else {
        return Ok(Verdict::YES);
    };
    let object: Value = serde_json::from_str(object.get())?;
    if webhook == Webhook::Config {
        return Ok(match config_error(&object, config.names()) {
            Some(error) => Verdict::Denied {
                code: 400,
                message: format!("validation failed: {error}"),
            },
            None => Verdict::YES,
        });
    }
    let old_object: Option<Value> = asked
        .old_object
        .map(|old| serde_json::from_str(old.get()))
        .transpose()?;
    let request = Request {
        group: &asked.kind.group,
        version: &asked.kind.version,
        kind: &asked.kind.kind,
        operation,
        name: &asked.name,
        namespace: &asked.namespace,
        object: &object,
        old_object: old_object.as_ref().filter(|old| !old.is_null()),
        subresource: &asked.sub_resource,
        user: &asked.user_info.username,
    };
    let config = &config.current();
    let judged = match webhook {
        Webhook::Defaulting => {
            admission::default(&request, config).map(|defaulted| Verdict::Allowed {
                patch: patch(&object, &defaulted),
                warnings: Vec::new(),
            })
        }
        Webhook::Validation | Webhook::Config => {
            admission::validate(&request, config).map(|warnings| Verdict::Allowed {
                patch: None,
                warnings: warnings.into_iter().map(|warning| warning.0).collect(),
            })
        }
    };
    Ok(judged.unwrap_or_else(|refusal| Verdict::Denied {
        code: refusal.code,
        message: refusal.message,
    }))
}

/// The RFC 6902 patch between two objects; none if they are equal.
fn patch(from: &Value, to: &Value) -> Option<Vec<u8>> {
    if from == to {
        return None;
    }
    let patch = json_patch::diff(from, to);
    // Operations are plain data: they always serialise.
    serde_json::to_vec(&patch).ok()
}

/// Why a ConfigMap is refused (T-016, P-019); none for what is fine or none of ours.
fn config_error(object: &Value, names: &ConfigMapNames) -> Option<String> {
    let name = names.usual(object["metadata"]["name"].as_str()?)?;
    let data: BTreeMap<String, String> = match object.get("data") {
        None | Some(Value::Null) => BTreeMap::new(),
        Some(data) => match BTreeMap::deserialize(data) {
            Ok(data) => data,
            Err(error) => return Some(format!("cannot decode incoming new object: {error}")),
        },
    };
    tektite_api::config::check(name, &data)
        .err()
        .map(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(webhook: Webhook, request: Value) -> Value {
        let mut full = json!({"uid": "u-1", "operation": "CREATE", "name": "x", "namespace": "ns",
            "kind": {"group": "tekton.dev", "version": "v1", "kind": "TaskRun"}, "userInfo": {"username": "me"}});
        json_patch::merge(&mut full, &request);
        let body = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": full});
        let answer = review(
            body.to_string().as_bytes(),
            &ConfigHandle::default(),
            webhook,
        )
        .unwrap();
        assert_eq!(
            (&answer["kind"], &answer["response"]["uid"]),
            (&json!("AdmissionReview"), &json!("u-1"))
        );
        answer["response"].clone()
    }

    fn task_run() -> Value {
        json!({"apiVersion": "tekton.dev/v1", "kind": "TaskRun", "metadata": {"name": "x", "namespace": "ns"},
            "spec": {"taskRef": {"name": "t"}}})
    }

    // T-015, T-090
    #[test]
    fn defaulting_answers_with_a_patch_that_gives_the_defaulted_object() {
        let answer = ask(Webhook::Defaulting, json!({"object": task_run()}));
        assert_eq!(
            (&answer["allowed"], &answer["patchType"]),
            (&json!(true), &json!("JSONPatch"))
        );
        let patch = base64::engine::general_purpose::STANDARD
            .decode(answer["patch"].as_str().unwrap())
            .unwrap();
        let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
        let mut object = task_run();
        json_patch::patch(&mut object, &patch).unwrap();
        assert_eq!(object["spec"]["timeout"], "1h0m0s");
        assert_eq!(object["spec"]["serviceAccountName"], "default");
        let again = ask(Webhook::Defaulting, json!({"object": object}));
        assert_eq!(
            (&again["allowed"], again.get("patch")),
            (&json!(true), None)
        );
    }

    // T-021
    #[test]
    fn what_is_neither_created_nor_updated_and_the_status_pass_unread() {
        for request in [
            json!({"operation": "DELETE", "object": null, "oldObject": task_run()}),
            json!({"operation": "UPDATE", "subResource": "status", "object": {"spec": {"nonsense": 1}}}),
        ] {
            for webhook in [Webhook::Defaulting, Webhook::Validation] {
                let answer = ask(webhook, request.clone());
                assert_eq!(
                    (&answer["allowed"], answer.get("patch")),
                    (&json!(true), None),
                    "{request}"
                );
            }
        }
    }

    // T-016, P-019
    #[test]
    fn only_known_config_maps_are_checked_and_bad_ones_are_refused_with_400() {
        let map = |name: &str, data: Value| {
            json!({"kind": {"group": "", "version": "v1", "kind": "ConfigMap"},
                "object": {"metadata": {"name": name}, "data": data}})
        };
        let answer = ask(
            Webhook::Config,
            map("feature-flags", json!({"enable-api-fields": "gamma"})),
        );
        assert_eq!(answer["allowed"], false);
        assert_eq!(answer["status"]["code"], 400);
        assert_eq!(
            answer["status"]["message"],
            r#"validation failed: invalid value for feature flag "enable-api-fields": "gamma""#
        );
        for (name, data) in [
            ("feature-flags", json!({"enable-api-fields": "alpha"})),
            ("feature-flags", Value::Null),
            ("config-events", json!({"formats": "nonsense"})),
            ("other", json!({"enable-api-fields": "gamma"})),
        ] {
            assert_eq!(
                ask(Webhook::Config, map(name, data))["allowed"],
                true,
                "{name}"
            );
        }
    }

    #[test]
    fn a_body_that_is_no_review_is_an_error() {
        for body in ["", "{}", "[]", r#"{"request": {"uid": 1}}"#] {
            assert!(
                review(
                    body.as_bytes(),
                    &ConfigHandle::default(),
                    Webhook::Defaulting
                )
                .is_err(),
                "{body}"
            );
        }
    }
}
