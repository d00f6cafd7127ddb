//! Objects in the form a client asked for: its version, and JSON, YAML, a table or metadata only.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::{Answer, Call, reply};
use crate::accept::Form;
use crate::builtin::events;
use crate::crd::{convert, structure};
use crate::error::ApiError;
use crate::registry::{Backing, Resource};
use crate::server::{Body, Inner};
use crate::storage::Stored;
use crate::table;

impl Inner {
    /// Stored objects as values of the request's version, with defaults of custom schemas (K-174, K-175).
    pub(crate) async fn load_all(
        &self,
        resource: &Resource,
        objects: &[Arc<Stored>],
    ) -> Result<Vec<Value>, ApiError> {
        let mut values: Vec<Value> = objects.iter().map(|object| object.value()).collect();
        match &resource.backing {
            Backing::BuiltIn(kind, _) => {
                if !kind.storage.is_empty() {
                    values.iter_mut().for_each(events::from_core);
                }
            }
            Backing::Custom(kind, index) => {
                if !objects
                    .iter()
                    .all(|object| resource.is_stored_form(object.revision))
                {
                    values =
                        convert::convert(&self.webhooks, kind, values, &resource.version).await?;
                    let schema = kind.versions[*index].schema();
                    for value in &mut values {
                        structure::prune(value, schema, &mut Vec::new());
                        structure::default(value, schema);
                    }
                }
            }
        }
        Ok(values)
    }

    /// One stored object as a value of the request's version.
    pub(crate) async fn load(
        &self,
        resource: &Resource,
        object: &Arc<Stored>,
    ) -> Result<Value, ApiError> {
        let mut values = self
            .load_all(resource, std::slice::from_ref(object))
            .await?;
        values
            .pop()
            .ok_or_else(|| ApiError::internal("conversion lost an object"))
    }

    /// As [`Inner::load`], shared with whoever else reads it where that is possible.
    pub(crate) async fn load_shared(
        &self,
        resource: &Resource,
        object: &Arc<Stored>,
    ) -> Result<Arc<Value>, ApiError> {
        if resource.is_stored_form(object.revision) {
            return Ok(object.tree());
        }
        Ok(Arc::new(self.load(resource, object).await?))
    }

    /// One stored object as JSON of the request's version; the stored bytes themselves wherever possible.
    pub(crate) async fn bytes(
        &self,
        resource: &Resource,
        object: &Arc<Stored>,
    ) -> Result<Bytes, ApiError> {
        if resource.is_stored_form(object.revision) {
            return Ok(object.bytes());
        }
        Ok(self.load(resource, object).await?.to_string().into())
    }

    /// The answer that carries a stored object.
    pub(crate) async fn answer_stored(
        &self,
        call: &Call,
        resource: &Resource,
        object: &Arc<Stored>,
        code: StatusCode,
    ) -> Answer {
        match call.form {
            Form::Json | Form::Aggregated => Ok(reply(
                code,
                "application/json",
                self.bytes(resource, object).await?,
            )),
            _ => {
                let value = self.load(resource, object).await?;
                self.answer_value(call, resource, value, code)
            }
        }
    }

    /// The answer that carries an object not (or not only) in the store.
    pub(crate) fn answer_value(
        &self,
        call: &Call,
        resource: &Resource,
        value: Value,
        code: StatusCode,
    ) -> Answer {
        Ok(match call.form {
            Form::Json | Form::Aggregated => reply(code, "application/json", value.to_string()),
            Form::Yaml => yaml(code, &value),
            Form::Partial => reply(code, "application/json", partial(&value).to_string()),
            Form::Table => {
                let metadata =
                    json!({"resourceVersion": value.pointer("/metadata/resourceVersion")});
                let include = Include::from(call);
                let table = table::render(resource, &[value], metadata, include.as_str(), true);
                reply(code, "application/json", table.to_string())
            }
        })
    }
}

/// `includeObject` of a table (K-145).
#[derive(Clone, Debug)]
pub(crate) struct Include(String);

impl Include {
    /// Reads it from the query.
    pub fn from(call: &Call) -> Self {
        Self(
            call.query
                .text("includeObject")
                .unwrap_or("Metadata")
                .to_owned(),
        )
    }

    /// `None`, `Metadata` or `Object`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An answer in YAML.
pub(crate) fn yaml(code: StatusCode, value: &Value) -> Response<Body> {
    // Every JSON value has a YAML form.
    reply(
        code,
        "application/yaml",
        serde_yaml_ng::to_string(value).unwrap_or_default(),
    )
}

/// `PartialObjectMetadata` of an object in the form it is stored in, unread.
pub(crate) fn partial_bytes(object: &Stored) -> Bytes {
    const HEAD: &[u8] =
        b"{\"apiVersion\":\"meta.k8s.io/v1\",\"kind\":\"PartialObjectMetadata\",\"metadata\":";
    let metadata = object.metadata();
    let mut out = Vec::with_capacity(HEAD.len() + metadata.len() + 1);
    out.extend_from_slice(HEAD);
    out.extend_from_slice(&metadata);
    out.push(b'}');
    out.into()
}

/// `PartialObjectMetadata` (K-143).
pub(crate) fn partial(value: &Value) -> Value {
    let mut map = Map::new();
    map.insert("kind".into(), "PartialObjectMetadata".into());
    map.insert("apiVersion".into(), "meta.k8s.io/v1".into());
    map.insert(
        "metadata".into(),
        value.get("metadata").cloned().unwrap_or_default(),
    );
    Value::Object(map)
}
