//! PATCH in its four forms (sections 5 and 6).

use std::sync::Arc;

use http::StatusCode;
use serde_json::Value;

use super::input::{WriteOptions, conform_object, write_options};
use super::update::Before;
use super::write::Failure;
use super::{Answer, Call, meta};
use crate::accept::content_type;
use crate::decode;
use crate::error::{ApiError, Cause};
use crate::patch;
use crate::registry::{Backing, Resource};
use crate::server::Inner;
use crate::target::Path;

const ATTEMPTS: usize = 20;

impl Inner {
    /// `PATCH`.
    pub(super) async fn patch(
        self: &Arc<Self>,
        call: &Call,
        resource: &Arc<Resource>,
        path: &Path,
    ) -> Answer {
        let options = write_options(call)?;
        let media = content_type(&call.head.headers);
        let custom = resource.custom().is_some();
        let kind = match media {
            "application/json-patch+json" => Kind::Json,
            "application/merge-patch+json" => Kind::Merge,
            "application/strategic-merge-patch+json" if !custom => Kind::Strategic,
            "application/apply-patch+yaml" => Kind::Apply,
            _ => {
                let strategic = if custom {
                    ""
                } else {
                    ", application/strategic-merge-patch+json"
                };
                return Err(ApiError::unsupported_media_type(&format!(
                    "application/json-patch+json, application/merge-patch+json{strategic}, application/apply-patch+yaml"
                )));
            }
        };
        if options.force && kind != Kind::Apply {
            let cause = Cause::forbidden("force", "may not be specified for non-apply patch");
            return Err(ApiError::invalid(
                "meta.k8s.io",
                "PatchOptions",
                "",
                vec![cause],
            ));
        }
        let decoded = if kind == Kind::Apply {
            decode::yaml(&call.body)
        } else {
            decode::json(&call.body)
        };
        let decoded = decoded
            .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
        if kind == Kind::Apply {
            return self
                .apply(
                    call,
                    resource,
                    path,
                    decoded.value,
                    decoded.duplicates,
                    &options,
                )
                .await;
        }
        if kind != Kind::Json && !decoded.value.is_object() {
            return Err(ApiError::bad_request(
                "error decoding patch: the patch is not an object",
            ));
        }
        let pinned = kind != Kind::Json
            && decoded
                .value
                .pointer("/metadata/resourceVersion")
                .and_then(Value::as_str)
                .is_some_and(|text| !text.is_empty());
        for _ in 0..ATTEMPTS {
            let current = self
                .storage
                .get(&resource.storage, &path.namespace, &path.name)
                .ok_or_else(|| ApiError::not_found(resource.about(), &path.name))?;
            let old = self.load_shared(resource, &current).await?;
            let mut new = Value::clone(&old);
            match kind {
                Kind::Json => patch::json::apply(&mut new, &decoded.value)?,
                Kind::Merge => patch::merge::apply(&mut new, decoded.value.clone()),
                Kind::Strategic | Kind::Apply => {
                    if let Backing::BuiltIn(_, shape) = &resource.backing {
                        patch::strategic::apply(&mut new, decoded.value.clone(), shape)?;
                    }
                }
            }
            if new.pointer("/metadata/uid") != old.pointer("/metadata/uid")
                && new.pointer("/metadata/uid").is_some()
            {
                let uid = new.pointer("/metadata/uid").cloned().unwrap_or_default();
                let cause = Cause::invalid("metadata.uid", &uid, "field is immutable");
                return Err(ApiError::invalid(
                    &resource.group,
                    &resource.kind,
                    &path.name,
                    vec![cause],
                ));
            }
            if new.pointer("/metadata/name") != old.pointer("/metadata/name") {
                return Err(ApiError::bad_request(format!(
                    "the name of the object ({}) does not match the name on the URL ({})",
                    meta::text(&new, "name"),
                    path.name
                )));
            }
            // What a merge does not name was brought into form when it was written.
            let untouched = match kind {
                Kind::Merge => take_untouched(&mut new, &decoded.value),
                _ => Vec::new(),
            };
            conform_object(
                &mut new,
                resource,
                decoded.duplicates.clone(),
                options.validation,
                call,
            )?;
            if let Some(new) = new.as_object_mut() {
                new.extend(untouched);
            }
            let before = Before {
                stored: &current,
                value: &old,
            };
            match self
                .replace(call, resource, path, before, new, &options)
                .await
            {
                Ok(outcome) => return self.answer(call, resource, outcome, StatusCode::OK).await,
                Err(Failure::Refused(error)) => return Err(error),
                Err(Failure::Raced) if pinned => {
                    return Err(ApiError::modified(resource.about(), &path.name));
                }
                Err(Failure::Raced) => {}
            }
        }
        Err(ApiError::modified(resource.about(), &path.name))
    }

    /// `PATCH` with `application/apply-patch+yaml` (K-113, K-114).
    async fn apply(
        self: &Arc<Self>,
        call: &Call,
        resource: &Arc<Resource>,
        path: &Path,
        mut body: Value,
        duplicates: Vec<String>,
        options: &WriteOptions,
    ) -> Answer {
        if call.query.text("fieldManager").is_none() {
            let cause = Cause::required("fieldManager", "is required for apply patch");
            return Err(ApiError::invalid(
                "meta.k8s.io",
                "PatchOptions",
                "",
                vec![cause],
            ));
        }
        let found = |key: &str| {
            body.get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        if found("kind") != resource.kind || found("apiVersion") != resource.api_version() {
            return Err(ApiError::bad_request(format!(
                "invalid object type: {}, Kind={}",
                found("apiVersion"),
                found("kind")
            )));
        }
        if body
            .pointer("/metadata/managedFields")
            .and_then(Value::as_array)
            .is_some_and(|list| !list.is_empty())
        {
            return Err(ApiError::bad_request("metadata.managedFields must be nil"));
        }
        conform_object(&mut body, resource, duplicates, options.validation, call)?;
        meta::place(&mut body, resource, &path.namespace)?;
        let name = meta::text(&body, "name").to_owned();
        if !name.is_empty() && name != path.name {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                path.name
            )));
        }
        for _ in 0..ATTEMPTS {
            let Some(current) = self
                .storage
                .get(&resource.storage, &path.namespace, &path.name)
            else {
                if !path.subresource.is_empty() {
                    return Err(ApiError::not_found(resource.about(), &path.name));
                }
                if name.is_empty() {
                    let text = format!("{} was undeterminable: name must be provided", path.name);
                    return Err(ApiError::bad_request(text));
                }
                let mut object = body.clone();
                patch::apply::own_all(&mut object, &body, resource, &options.manager);
                match self
                    .create_object(call, resource, &path.namespace, object, options)
                    .await
                {
                    Ok(outcome) => {
                        return self
                            .answer(call, resource, outcome, StatusCode::CREATED)
                            .await;
                    }
                    Err(error) if error.reason == "AlreadyExists" => continue,
                    Err(error) => return Err(error),
                }
            };
            let old = self.load_shared(resource, &current).await?;
            let new = patch::apply::merge(&old, &body, resource, options, &path.subresource)?;
            let before = Before {
                stored: &current,
                value: &old,
            };
            match self
                .replace(call, resource, path, before, new, options)
                .await
            {
                Ok(outcome) => return self.answer(call, resource, outcome, StatusCode::OK).await,
                Err(Failure::Refused(error)) => return Err(error),
                Err(Failure::Raced) => {}
            }
        }
        Err(ApiError::modified(resource.about(), &path.name))
    }
}

/// Takes the members out of `object` of which a merge patch says nothing, but for those that identify it.
fn take_untouched(object: &mut Value, patch: &Value) -> Vec<(String, Value)> {
    let Some(object) = object.as_object_mut() else {
        return Vec::new();
    };
    let stays =
        |key: &str| matches!(key, "apiVersion" | "kind" | "metadata") || patch.get(key).is_some();
    let keys: Vec<String> = object.keys().filter(|key| !stays(key)).cloned().collect();
    keys.into_iter()
        .filter_map(|key| object.remove_entry(&key))
        .collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Merge,
    Strategic,
    Apply,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_a_merge_names_is_brought_into_form_again() {
        let mut object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": {"a": 1}, "status": {"b": 2}});
        let whole = object.clone();
        let taken = take_untouched(&mut object, &json!({"status": {"b": 3}}));
        assert_eq!(taken, [("spec".to_owned(), json!({"a": 1}))]);
        let left: Vec<&str> = object
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(left, ["apiVersion", "kind", "metadata", "status"]);
        object.as_object_mut().unwrap().extend(taken);
        assert_eq!(object, whole);
    }
}
