//! What the webhooks say to an object: the defaults it gets and the reasons it is refused for.
//!
//! A real request passes the API server (names, pruning), [`default`], the API server again (schema, name) and
//! [`validate`]. [`admit`] plays all of it for those who have no API server, such as `tektite lint`.

mod admit;
mod defaulting;
mod field_error;
mod kinds;
mod locate;
mod object_name;
mod pod_template;
mod schema_pass;

use serde_json::Value;

pub use admit::{admit, unknown_fields};
pub use defaulting::default;
pub(crate) use defaulting::set_defaults;
pub use field_error::{FieldError, FieldErrors};
pub(crate) use kinds::shape_of;
pub use validation::{resolved_task, validate};

mod validation;

/// What a client wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new object.
    Create,
    /// A changed object.
    Update,
    /// An object to go.
    Delete,
}

/// A request as the API server puts it to a webhook.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// API group of the object.
    pub group: &'a str,
    /// Version of the object as given.
    pub version: &'a str,
    /// Kind of the object.
    pub kind: &'a str,
    /// What is asked for.
    pub operation: Operation,
    /// Name of the object; empty while it is to be generated.
    pub name: &'a str,
    /// Namespace of the object.
    pub namespace: &'a str,
    /// The object as it would become.
    pub object: &'a Value,
    /// The object as it is, on update.
    pub old_object: Option<&'a Value>,
    /// `status` or the like; empty for the object itself.
    pub subresource: &'a str,
    /// Who asks.
    pub user: &'a str,
}

impl<'a> Request<'a> {
    /// A request to create `object`, which names its own kind and version.
    pub fn create(object: &'a Value) -> Self {
        let text = |value: &'a Value| value.as_str().unwrap_or_default();
        let (group, version) = text(&object["apiVersion"])
            .split_once('/')
            .unwrap_or_default();
        Request {
            group,
            version,
            kind: text(&object["kind"]),
            operation: Operation::Create,
            name: text(&object["metadata"]["name"]),
            namespace: text(&object["metadata"]["namespace"]),
            object,
            old_object: None,
            subresource: "",
            user: "",
        }
    }
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// HTTP status: 400, or 422 for what the API server itself finds.
    pub code: u16,
    /// The webhook's own text, without what the API server puts in front.
    pub message: String,
    /// The findings one by one, where there are any.
    pub errors: Vec<FieldError>,
}

impl Refusal {
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Refusal {
            code: 400,
            message: message.into(),
            errors: vec![],
        }
    }
}

/// Something to tell the client although the request is fine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(pub String);
