//! GET of one object and of a collection (section 7).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::form::{Include, partial, yaml};
use super::input::Selection;
use super::{Answer, Call, reply};
use crate::accept::Form;
use crate::error::{ApiError, Cause};
use crate::registry::Resource;
use crate::server::Inner;
use crate::storage::Stored;
use crate::table;
use crate::target::Path;

/// One page of a collection.
struct Page {
    items: Vec<Arc<Stored>>,
    revision: u64,
    next: Option<String>,
    remaining: Option<usize>,
}

fn invalid_options(cause: Cause) -> ApiError {
    ApiError::invalid("meta.k8s.io", "ListOptions", "", vec![cause])
}

/// A `resourceVersion` parameter: `None` if unset.
pub(super) fn revision(call: &Call) -> Result<Option<u64>, ApiError> {
    match call.query.text("resourceVersion") {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| {
            ApiError::bad_request(format!("invalid resource version \"{text}\": strconv.ParseUint: parsing \"{text}\": invalid syntax"))
        }),
    }
}

impl Inner {
    /// `GET` of an item.
    pub(super) async fn get(&self, call: &Call, resource: &Arc<Resource>, path: &Path) -> Answer {
        let object = self
            .storage
            .get(&resource.storage, &path.namespace, &path.name)
            .ok_or_else(|| ApiError::not_found(resource.about(), &path.name))?;
        self.answer_stored(call, resource, &object, StatusCode::OK)
            .await
    }

    fn page(
        &self,
        call: &Call,
        resource: &Arc<Resource>,
        path: &Path,
        selection: &Selection,
    ) -> Result<Page, ApiError> {
        let namespace = (!path.namespace.is_empty()).then_some(path.namespace.as_str());
        let asked = revision(call)?;
        let exact = match call.query.text("resourceVersionMatch") {
            None => false,
            Some(mode) => {
                if asked.is_none() {
                    let text =
                        "resourceVersionMatch is forbidden unless resourceVersion is provided";
                    return Err(invalid_options(Cause::forbidden(
                        "resourceVersionMatch",
                        text,
                    )));
                }
                match mode {
                    "NotOlderThan" => false,
                    "Exact" if asked == Some(0) => {
                        let text =
                            "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                        return Err(invalid_options(Cause::forbidden(
                            "resourceVersionMatch",
                            text,
                        )));
                    }
                    "Exact" => true,
                    other => {
                        let allowed = ["Exact", "NotOlderThan", ""];
                        let cause =
                            Cause::not_supported("resourceVersionMatch", &other.into(), &allowed);
                        return Err(invalid_options(cause));
                    }
                }
            }
        };
        if call.query.text("sendInitialEvents").is_some() {
            let text = "sendInitialEvents is forbidden for list";
            return Err(invalid_options(Cause::forbidden("sendInitialEvents", text)));
        }
        let limit = match call.query.text("limit") {
            None => 0,
            Some(text) => text
                .parse::<usize>()
                .map_err(|_| ApiError::bad_request(format!("invalid limit {text:?}")))?,
        };
        // A read from cache ignores the limit (K-120).
        let limit = if asked == Some(0) { 0 } else { limit };
        let token = call.query.text("continue").map(Token::decode).transpose()?;
        let at = match (&token, exact) {
            (Some(token), _) => Some(token.revision),
            (None, true) => asked,
            _ => None,
        };
        let (mut items, revision) = match at {
            Some(at) => {
                self.not_in_future(at)?;
                let items = self.storage.list_at(&resource.storage, namespace, at).map_err(|_| {
                    let mut error = ApiError::expired(
                        "The provided continue parameter is too old to display a consistent list result. You can start \
                         a new list without the continue parameter.",
                    );
                    if let Some(token) = &token {
                        let fresh = Token { revision: self.storage.revision(), after: token.after.clone() };
                        error.continue_token = Some(fresh.encode());
                    }
                    error
                })?;
                (items, at)
            }
            None => {
                self.not_in_future(asked.unwrap_or(0))?;
                self.storage.list(&resource.storage, namespace)
            }
        };
        if let Some(token) = &token {
            items.retain(|object| {
                (&*object.namespace, &*object.name)
                    > (token.after.0.as_str(), token.after.1.as_str())
            });
        }
        if !selection.is_everything() {
            items.retain(|object| selection.matches(object));
        }
        let mut page = Page {
            items,
            revision,
            next: None,
            remaining: None,
        };
        if limit > 0 && page.items.len() > limit {
            let rest = page.items.len() - limit;
            page.items.truncate(limit);
            if let Some(last) = page.items.last() {
                let after = (last.namespace.to_string(), last.name.to_string());
                page.next = Some(Token { revision, after }.encode());
            }
            page.remaining = selection.is_everything().then_some(rest);
        }
        Ok(page)
    }

    fn not_in_future(&self, revision: u64) -> Result<(), ApiError> {
        let current = self.storage.revision();
        if revision > current {
            Err(ApiError::too_large_revision(revision, current))
        } else {
            Ok(())
        }
    }

    /// `GET` of a collection.
    pub(super) async fn list(&self, call: &Call, resource: &Arc<Resource>, path: &Path) -> Answer {
        let selection = self.selection(&call.query, resource)?;
        let page = self.page(call, resource, path, &selection)?;
        let mut metadata = Map::new();
        metadata.insert("resourceVersion".into(), page.revision.to_string().into());
        if let Some(next) = page.next {
            metadata.insert("continue".into(), next.into());
        }
        if let Some(remaining) = page.remaining {
            metadata.insert("remainingItemCount".into(), remaining.into());
        }
        let metadata = Value::Object(metadata);
        if matches!(call.form, Form::Json | Form::Aggregated)
            && page
                .items
                .iter()
                .all(|object| resource.is_stored_form(object.revision))
        {
            return Ok(reply(
                StatusCode::OK,
                "application/json",
                join(resource, &metadata, &page.items),
            ));
        }
        let values = self.load_all(resource, &page.items).await?;
        Ok(match call.form {
            Form::Table => {
                let include = Include::from(call);
                let table = table::render(resource, &values, metadata, include.as_str(), true);
                reply(StatusCode::OK, "application/json", table.to_string())
            }
            Form::Partial => {
                let items: Vec<Value> = values.iter().map(partial).collect();
                let list = json!({
                    "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                    "metadata": metadata, "items": items,
                });
                reply(StatusCode::OK, "application/json", list.to_string())
            }
            Form::Yaml => yaml(StatusCode::OK, &whole(resource, metadata, values)),
            _ => reply(
                StatusCode::OK,
                "application/json",
                whole(resource, metadata, values).to_string(),
            ),
        })
    }
}

fn whole(resource: &Resource, metadata: Value, items: Vec<Value>) -> Value {
    json!({"kind": resource.list_kind, "apiVersion": resource.api_version(), "metadata": metadata, "items": items})
}

/// A list put together from stored bytes.
fn join(resource: &Resource, metadata: &Value, items: &[Arc<Stored>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(items.len() * 1024 + 256);
    let head = format!(
        "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{metadata},\"items\":[",
        json!(resource.list_kind),
        json!(resource.api_version())
    );
    out.extend_from_slice(head.as_bytes());
    for (index, object) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&object.bytes());
    }
    out.extend_from_slice(b"]}");
    out
}

/// What a `continue` token says: the snapshot, and the last key already sent.
struct Token {
    revision: u64,
    after: (String, String),
}

impl Token {
    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(
            json!({"v": 1, "rv": self.revision, "after": [self.after.0, self.after.1]}).to_string(),
        )
    }

    fn decode(text: &str) -> Result<Self, ApiError> {
        let bad = || ApiError::bad_request("invalid continue token: the continue key is not valid");
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad())?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|_| bad())?;
        let revision = value.get("rv").and_then(Value::as_u64).ok_or_else(bad)?;
        let part = |index: usize| {
            value["after"][index]
                .as_str()
                .map(str::to_owned)
                .ok_or_else(bad)
        };
        Ok(Self {
            revision,
            after: (part(0)?, part(1)?),
        })
    }
}
