//! The `scale` subresource (K-083).

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::input::decode_body;
use super::write::Outcome;
use super::{Answer, Call, reply};
use crate::accept::content_type;
use crate::error::ApiError;
use crate::patch;
use crate::registry::Resource;
use crate::server::Inner;
use crate::target::Path;

struct Paths {
    spec: String,
    status: String,
    selector: String,
}

fn paths(resource: &Resource) -> Paths {
    match resource
        .custom()
        .and_then(|(_, version)| version.scale.as_ref())
    {
        Some(scale) => Paths {
            spec: scale.spec_replicas.replace('.', "/"),
            status: scale.status_replicas.replace('.', "/"),
            selector: scale.selector.clone().unwrap_or_default().replace('.', "/"),
        },
        None => Paths {
            spec: "/spec/replicas".into(),
            status: "/status/replicas".into(),
            selector: "/spec/selector".into(),
        },
    }
}

/// A label selector as text.
fn selector_text(selector: &Value) -> String {
    if let Some(text) = selector.as_str() {
        return text.to_owned();
    }
    let labels = selector
        .get("matchLabels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    labels
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect::<Vec<_>>()
        .join(",")
}

fn scale_of(object: &Value, paths: &Paths) -> Value {
    let metadata = object.get("metadata").cloned().unwrap_or_default();
    let replicas = |path: &str| object.pointer(path).cloned().unwrap_or_else(|| json!(0));
    let mut kept = json!({});
    for key in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
    ] {
        if let Some(value) = metadata.get(key) {
            kept[key] = value.clone();
        }
    }
    let mut status = json!({"replicas": replicas(&paths.status)});
    if let Some(selector) = object
        .pointer(&paths.selector)
        .filter(|_| !paths.selector.is_empty())
    {
        status["selector"] = selector_text(selector).into();
    }
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": kept,
        "spec": {"replicas": replicas(&paths.spec)}, "status": status,
    })
}

impl Inner {
    /// `GET`, `PUT` and `PATCH` of the scale.
    pub(super) async fn scale(
        self: &Arc<Self>,
        call: &Call,
        resource: &Arc<Resource>,
        path: &Path,
    ) -> Answer {
        let paths = paths(resource);
        let current = self
            .storage
            .get(&resource.storage, &path.namespace, &path.name)
            .ok_or_else(|| ApiError::not_found(resource.about(), &path.name))?;
        let scale = scale_of(&self.load(resource, &current).await?, &paths);
        if call.head.method == http::Method::GET {
            return Ok(reply(StatusCode::OK, "application/json", scale.to_string()));
        }
        let mut wanted = scale.clone();
        if call.head.method == http::Method::PUT {
            wanted = decode_body(call)?.value;
        } else {
            let body: Value = serde_json::from_slice(&call.body)
                .map_err(|error| ApiError::bad_request(error.to_string()))?;
            match content_type(&call.head.headers) {
                "application/json-patch+json" => patch::json::apply(&mut wanted, &body)?,
                _ => patch::merge::apply(&mut wanted, body),
            }
        }
        let given = wanted
            .pointer("/metadata/resourceVersion")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if !given.is_empty() && given != current.revision.to_string() {
            return Err(ApiError::modified(resource.about(), &path.name));
        }
        let replicas = wanted
            .pointer("/spec/replicas")
            .and_then(Value::as_i64)
            .unwrap_or(0);
        let parent = Path {
            subresource: String::new(),
            ..path.clone()
        };
        let outcome = self
            .modify(call, resource, &parent, |object| {
                if object.pointer(&paths.spec).is_none()
                    && let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
                {
                    let key = paths.spec.rsplit('/').next().unwrap_or_default();
                    spec.insert(key.to_owned(), replicas.into());
                }
                if let Some(value) = object.pointer_mut(&paths.spec) {
                    *value = replicas.into();
                }
                Ok(())
            })
            .await?;
        let value = match outcome {
            Outcome::Stored(object) => {
                self.storage
                    .durable(object.revision)
                    .await
                    .map_err(ApiError::internal)?;
                self.load(resource, &object).await?
            }
            Outcome::Value(value) => value,
        };
        Ok(reply(
            StatusCode::OK,
            "application/json",
            scale_of(&value, &paths).to_string(),
        ))
    }
}
