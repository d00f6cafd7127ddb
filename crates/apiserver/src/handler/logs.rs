//! Subresources of pods that the node or the scheduler uses: log, binding, eviction (section 15).

use std::sync::Arc;

use futures::StreamExt as _;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};

use super::input::{DeleteOptions, FieldValidation, WriteOptions, decode_body, write_options};
use super::update::Before;
use super::write::Failure;
use super::{Answer, Call, delete, full, reply};
use crate::error::{ApiError, Cause};
use crate::kubelet::{LogError, LogOptions};
use crate::registry::Resource;
use crate::server::{Body, Inner};
use crate::target::Path;

impl Inner {
    /// `GET pods/<name>/log` (K-326 to K-331).
    pub(super) async fn logs(&self, call: &Call, resource: &Arc<Resource>, path: &Path) -> Answer {
        let options = log_options(call)?;
        let pod = self
            .storage
            .get(&resource.storage, &path.namespace, &path.name)
            .ok_or_else(|| ApiError::not_found(resource.about(), &path.name))?;
        let value = pod.value();
        let container = container(&value, &path.name, call.query.text("container"))?;
        if pod.field("spec.nodeName").unwrap_or_default().is_empty() {
            // K-327
            let mut response = Response::new(full(""));
            *response.status_mut() = StatusCode::NO_CONTENT;
            return Ok(response);
        }
        let kubelet = self
            .kubelet()
            .ok_or_else(|| ApiError::unavailable("no node is connected to this server"))?;
        let stream = kubelet
            .logs(&path.namespace, &path.name, &pod.uid, &container, options)
            .await;
        let stream = stream.map_err(|error| match error {
            LogError::Waiting { .. } | LogError::NoPrevious { .. } => {
                ApiError::bad_request(error.to_string())
            }
            LogError::NotFound(text) => ApiError::with_code(404, "NotFound", text),
            LogError::Failed(text) => ApiError::internal(text),
        })?;
        let frames = stream.map(|chunk| chunk.map(Frame::data));
        let mut response: Response<Body> = Response::new(StreamBody::new(frames).boxed_unsync());
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Ok(response)
    }

    /// `POST pods/<name>/binding` (K-340).
    pub(super) async fn bind(
        self: &Arc<Self>,
        call: &Call,
        resource: &Arc<Resource>,
        path: &Path,
    ) -> Answer {
        let binding = decode_body(call)?.value;
        let node = binding
            .pointer("/target/name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if node.is_empty() {
            return Err(ApiError::invalid(
                "",
                "Binding",
                &path.name,
                vec![Cause::required("target.name", "")],
            ));
        }
        loop {
            let current = self
                .storage
                .get(&resource.storage, &path.namespace, &path.name)
                .ok_or_else(|| ApiError::not_found(resource.about(), &path.name))?;
            let mut pod = current.value();
            if let Some(bound) = current
                .field("spec.nodeName")
                .filter(|bound| !bound.is_empty())
            {
                let text = format!("pod {} is already assigned to node \"{bound}\"", path.name);
                return Err(ApiError::conflict(resource.about(), &path.name, &text));
            }
            pod["spec"]["nodeName"] = node.as_str().into();
            for key in ["annotations", "labels"] {
                for (name, value) in binding
                    .pointer(&format!("/metadata/{key}"))
                    .and_then(Value::as_object)
                    .into_iter()
                    .flatten()
                {
                    pod["metadata"][key][name] = value.clone();
                }
            }
            let condition = json!({
                "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": super::now(),
            });
            let conditions = pod["status"]
                .as_object_mut()
                .map(|status| status.entry("conditions").or_insert_with(|| json!([])));
            if let Some(list) = conditions.and_then(Value::as_array_mut) {
                list.retain(|condition| condition["type"] != "PodScheduled");
                list.push(condition);
            }
            let draft = self.draft(resource, pod).await?;
            if let Ok(stored) = self
                .storage
                .update(&resource.storage, draft, current.revision)
            {
                self.storage
                    .durable(stored.revision)
                    .await
                    .map_err(ApiError::internal)?;
                let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
                return Ok(reply(
                    StatusCode::CREATED,
                    "application/json",
                    status.to_string(),
                ));
            }
        }
    }

    /// `POST pods/<name>/eviction`: a deletion, as no disruption budget limits it here.
    pub(super) async fn evict(
        self: &Arc<Self>,
        call: &Call,
        resource: &Arc<Resource>,
        path: &Path,
    ) -> Answer {
        let eviction = decode_body(call)?.value;
        let named = eviction
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or(&path.name);
        if named != path.name {
            return Err(delete::wrong_name(resource, named, &path.name));
        }
        let grace = eviction
            .pointer("/deleteOptions/gracePeriodSeconds")
            .and_then(Value::as_i64);
        let options = DeleteOptions {
            grace,
            dry_run: write_options(call)?.dry_run,
            ..DeleteOptions::default()
        };
        self.delete_object(call, resource, &path.namespace, &path.name, &options)
            .await?;
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        Ok(reply(
            StatusCode::CREATED,
            "application/json",
            status.to_string(),
        ))
    }

    /// Changes one stored object by a function, as the server's own controllers do.
    pub(super) async fn modify(
        self: &Arc<Self>,
        call: &Call,
        resource: &Arc<Resource>,
        path: &Path,
        change: impl Fn(&mut Value) -> Result<(), ApiError>,
    ) -> Result<super::write::Outcome, ApiError> {
        let options = WriteOptions {
            dry_run: false,
            validation: FieldValidation::Ignore,
            manager: String::new(),
            force: false,
        };
        loop {
            let current = self
                .storage
                .get(&resource.storage, &path.namespace, &path.name)
                .ok_or_else(|| ApiError::not_found(resource.about(), &path.name))?;
            let old = self.load(resource, &current).await?;
            let mut new = old.clone();
            change(&mut new)?;
            let before = Before {
                stored: &current,
                value: &old,
            };
            match self
                .replace(call, resource, path, before, new, &options)
                .await
            {
                Ok(outcome) => return Ok(outcome),
                Err(Failure::Refused(error)) => return Err(error),
                Err(Failure::Raced) => {}
            }
        }
    }
}

/// Checks the query of a log request (K-329).
fn log_options(call: &Call) -> Result<LogOptions, ApiError> {
    let query = &call.query;
    let bad = |key: &str, text: &str| {
        ApiError::bad_request(format!(
            "strconv.ParseInt: parsing {text:?}: invalid syntax ({key})"
        ))
    };
    let number = |key: &str| -> Result<Option<i64>, ApiError> {
        query
            .text(key)
            .map(|text| text.parse().map_err(|_| bad(key, text)))
            .transpose()
    };
    let mut causes = Vec::new();
    let mut checked = |key: &str, least: i64, text: &str| -> Result<Option<u64>, ApiError> {
        let value = number(key)?;
        if let Some(value) = value.filter(|value| *value < least) {
            causes.push(Cause::invalid(key, &value.into(), text));
        }
        Ok(value.map(|value| value.max(0).unsigned_abs()))
    };
    let tail_lines = checked("tailLines", 0, "must be greater than or equal to 0")?;
    let since_seconds = checked("sinceSeconds", 1, "must be greater than 0")?;
    let limit_bytes = checked("limitBytes", 1, "must be greater than 0")?;
    let since_time = query
        .text("sinceTime")
        .map(|text| text.parse().map_err(|_| bad("sinceTime", text)))
        .transpose()?;
    if since_seconds.is_some() && since_time.is_some() {
        causes.push(Cause::forbidden(
            "",
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        ));
    }
    if query.text("stream").is_some() {
        causes.push(Cause::forbidden("stream", "may not be specified"));
    }
    if !causes.is_empty() {
        return Err(ApiError::invalid("", "PodLogOptions", "", causes));
    }
    Ok(LogOptions {
        follow: query.flag("follow"),
        previous: query.flag("previous"),
        timestamps: query.flag("timestamps"),
        tail_lines,
        since_seconds,
        since_time,
        limit_bytes,
    })
}

/// The container a request means (K-326).
pub(super) fn container(pod: &Value, name: &str, asked: Option<&str>) -> Result<String, ApiError> {
    let names = |key: &str| -> Vec<String> {
        let list = pod
            .pointer(&format!("/spec/{key}"))
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        list.filter_map(|container| {
            container
                .get("name")
                .and_then(Value::as_str)
                .map(str::to_owned)
        })
        .collect()
    };
    let (init, regular, ephemeral) = (
        names("initContainers"),
        names("containers"),
        names("ephemeralContainers"),
    );
    match asked {
        Some(asked)
            if init
                .iter()
                .chain(&regular)
                .chain(&ephemeral)
                .any(|name| name == asked) =>
        {
            Ok(asked.to_owned())
        }
        Some(asked) => Err(ApiError::bad_request(format!(
            "container {asked} is not valid for pod {name}"
        ))),
        None => match regular.as_slice() {
            [only] => Ok(only.clone()),
            _ => {
                let all: Vec<String> = init.into_iter().chain(regular).collect();
                Err(ApiError::bad_request(format!(
                    "a container name must be specified for pod {name}, choose one of: [{}]",
                    all.join(" ")
                )))
            }
        },
    }
}
