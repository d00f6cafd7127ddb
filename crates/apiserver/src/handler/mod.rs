//! From a request to its response: who may do it, which resource it means, what it does there.

mod delete;
mod draft;
mod form;
mod input;
mod logs;
mod meta;
mod patching;
mod read;
mod reviews;
mod scale;
mod update;
mod watch;
mod write;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode, request};
use http_body_util::{BodyExt, Full};

use crate::accept::{Form, negotiate};
use crate::authorization::Attributes;
use crate::error::ApiError;
use crate::identity::Identity;
use crate::registry::{Registry, Resource};
use crate::server::{Body, Inner};
use crate::target::{Path, Query, Target, verb};
use crate::websocket;

pub(crate) use form::partial;
pub(crate) use input::WriteOptions;
pub(crate) use meta::{generate_name, now};

const MAX_BODY: usize = 3 << 20;
const MAX_WARNINGS: usize = 4096;

/// One request on its way.
pub(crate) struct Call {
    pub identity: Arc<Identity>,
    pub head: request::Parts,
    pub body: Bytes,
    pub query: Query,
    pub form: Form,
    warnings: Mutex<Vec<String>>,
}

impl Call {
    /// Adds a `Warning` header to the answer, once (K-092).
    pub fn warn(&self, text: impl Into<String>) {
        let mut warnings = self
            .warnings
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let text = text.into();
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    /// A request the server makes for itself.
    pub fn internal() -> Self {
        let (head, ()) = Request::new(()).into_parts();
        Self {
            identity: Arc::new(Identity::admin()),
            head,
            body: Bytes::new(),
            query: Query::default(),
            form: Form::Json,
            warnings: Mutex::default(),
        }
    }
}

/// A body from bytes.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A response with a body of the given type.
pub(crate) fn reply(
    code: StatusCode,
    content_type: &'static str,
    bytes: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(full(bytes));
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The response of an error.
pub(crate) fn refuse(error: &ApiError) -> Response<Body> {
    let mut response = reply(
        error.code,
        "application/json",
        error.to_status().to_string(),
    );
    if let Some(seconds) = error
        .details
        .as_ref()
        .and_then(|details| details.retry_after_seconds)
    {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

pub(crate) type Answer = Result<Response<Body>, ApiError>;

impl Inner {
    /// Answers one request of a client in this process.
    pub(crate) fn respond(
        self: Arc<Self>,
        identity: Arc<Identity>,
        request: Request<Bytes>,
    ) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async move { self.handle(identity, request).await })
    }

    /// Answers one request.
    pub(crate) async fn handle(
        self: &Arc<Self>,
        identity: Arc<Identity>,
        request: Request<Bytes>,
    ) -> Response<Body> {
        let (head, body) = request.into_parts();
        let query = Query::parse(&head.uri);
        let form = negotiate(&head.headers);
        let mut call = Call {
            identity,
            head,
            body,
            query,
            form: form.as_ref().cloned().unwrap_or(Form::Json),
            warnings: Mutex::default(),
        };
        let answer = match form {
            Err(error) if !call.head.uri.path().ends_with("/log") => Err(error),
            _ => self.dispatch(&mut call).await,
        };
        let mut response = answer.unwrap_or_else(|error| refuse(&error));
        let warnings = call
            .warnings
            .into_inner()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut total = 0;
        for warning in warnings {
            total += warning.len();
            let text = warning
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace(['\n', '\r'], " ");
            if let (true, Ok(value)) = (
                total <= MAX_WARNINGS,
                HeaderValue::from_bytes(format!("299 - \"{text}\"").as_bytes()),
            ) {
                response
                    .headers_mut()
                    .append(HeaderName::from_static("warning"), value);
            }
        }
        response
    }

    async fn dispatch(self: &Arc<Self>, call: &mut Call) -> Answer {
        if call.body.len() > MAX_BODY {
            return Err(ApiError::too_large(format!(
                "Request entity too large: limit is {MAX_BODY}"
            )));
        }
        self.impersonate(call)?;
        match Target::parse(&call.head.uri) {
            Target::Other(path) => self.other(call, &path),
            Target::Resource(path) => self.resource(call, path).await,
        }
    }

    async fn resource(self: &Arc<Self>, call: &mut Call, path: Path) -> Answer {
        let watching = call.query.flag("watch");
        let mut verb = verb(&call.head.method, &path, watching);
        // A single object is watched through its collection.
        let mut path = path;
        if watching
            && !path.name.is_empty()
            && path.subresource.is_empty()
            && call.head.method == Method::GET
        {
            verb = "watch";
        }
        if !call.identity.is_master() {
            let name =
                if path.name.is_empty() && matches!(verb, "list" | "watch" | "deletecollection") {
                    input::exact_name(&call.query)
                } else {
                    path.name.clone()
                };
            self.authorize(
                &call.identity,
                &Attributes {
                    verb,
                    group: &path.group,
                    resource: &path.plural,
                    subresource: &path.subresource,
                    namespace: &path.namespace,
                    name: &name,
                },
            )?;
        }
        let registry = self.registry();
        let Some(resource) = registry
            .get(&path.group, &path.version, &path.plural)
            .cloned()
        else {
            return if Registry::is_built_in_group(&path.group) {
                Err(ApiError::no_such_resource())
            } else {
                Ok(not_a_page())
            };
        };
        if !resource.serves(&path.subresource) {
            return Err(ApiError::no_such_resource());
        }
        if let Some(text) = resource
            .custom()
            .and_then(|(_, version)| version.deprecation.as_ref())
        {
            call.warn(text.as_str());
        }
        if resource.namespaced && path.namespace.is_empty() && !path.name.is_empty() {
            return Err(ApiError::no_such_resource());
        }
        if !resource.namespaced {
            if !path.namespace.is_empty() {
                return Err(ApiError::no_such_resource());
            }
            path.namespace.clear();
        }
        match path.subresource.as_str() {
            "" | "status" | "finalize" | "ephemeralcontainers" => {}
            _ => return self.subresource(call, &resource, &path).await,
        }
        if resource.built_in().is_some_and(|kind| kind.virtual_kind) {
            return match verb {
                "create" => self.review(call, &resource, &path).await,
                _ => Err(ApiError::method_not_allowed()),
            };
        }
        if !path.subresource.is_empty() && !matches!(verb, "get" | "update" | "patch") {
            return Err(ApiError::method_not_allowed());
        }
        match verb {
            "get" => self.get(call, &resource, &path).await,
            "list" => self.list(call, &resource, &path).await,
            "watch" => {
                let response = self.watch(call, &resource, &path).await?;
                if websocket::wanted(&call.head) {
                    websocket::lines(&mut call.head, response)
                } else {
                    Ok(response)
                }
            }
            "create" if path.name.is_empty() => self.create(call, &resource, &path).await,
            "update" if !path.name.is_empty() => self.put(call, &resource, &path).await,
            "patch" if !path.name.is_empty() => self.patch(call, &resource, &path).await,
            "delete" => self.delete(call, &resource, &path).await,
            "deletecollection" => self.delete_collection(call, &resource, &path).await,
            _ => Err(ApiError::method_not_allowed()),
        }
    }

    async fn subresource(
        self: &Arc<Self>,
        call: &Call,
        resource: &Arc<Resource>,
        path: &Path,
    ) -> Answer {
        match (path.subresource.as_str(), call.head.method.as_str()) {
            ("log", "GET") => self.logs(call, resource, path).await,
            ("binding", "POST") => self.bind(call, resource, path).await,
            ("eviction", "POST") => self.evict(call, resource, path).await,
            ("scale", "GET" | "PUT" | "PATCH") => self.scale(call, resource, path).await,
            ("token", "POST") => self.token(call, resource, path).await,
            ("exec" | "attach" | "portforward" | "proxy", _) => Err(ApiError::unavailable(
                format!("{} is not available on this server", path.subresource),
            )),
            _ => Err(ApiError::method_not_allowed()),
        }
    }
}

/// The plain 404 of paths that belong to nobody (K-021).
pub(crate) fn not_a_page() -> Response<Body> {
    reply(
        StatusCode::NOT_FOUND,
        "text/plain; charset=utf-8",
        "404 page not found\n",
    )
}
