//! Requests to the Kubernetes API: bodies as bytes, refusals as values. Decoding is left to who needs it.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use kube::client::Body;
use serde::Deserialize;

/// Where a kind is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    /// `/api/v1` or `/apis/<group>/<version>`.
    pub(crate) prefix: &'static str,
    /// The plural of the kind.
    pub(crate) plural: &'static str,
}

macro_rules! resources {
    ($($name:ident = $prefix:literal $plural:literal;)*) => {
        impl Resource {
            $(pub(crate) const $name: Resource = Resource { prefix: $prefix, plural: $plural };)*
        }
    };
}

resources! {
    CONFIG_MAPS = "/api/v1" "configmaps";
    EVENTS = "/api/v1" "events";
    LIMIT_RANGES = "/api/v1" "limitranges";
    PODS = "/api/v1" "pods";
    PVCS = "/api/v1" "persistentvolumeclaims";
    SECRETS = "/api/v1" "secrets";
    SERVICE_ACCOUNTS = "/api/v1" "serviceaccounts";
    STATEFUL_SETS = "/apis/apps/v1" "statefulsets";
    LEASES = "/apis/coordination.k8s.io/v1" "leases";
    CUSTOM_RUNS = "/apis/tekton.dev/v1beta1" "customruns";
    PIPELINES = "/apis/tekton.dev/v1" "pipelines";
    PIPELINE_RUNS = "/apis/tekton.dev/v1" "pipelineruns";
    RESOLUTION_REQUESTS = "/apis/resolution.tekton.dev/v1beta1" "resolutionrequests";
    STEP_ACTIONS = "/apis/tekton.dev/v1beta1" "stepactions";
    TASKS = "/apis/tekton.dev/v1" "tasks";
    TASK_RUNS = "/apis/tekton.dev/v1" "taskruns";
    VERIFICATION_POLICIES = "/apis/tekton.dev/v1alpha1" "verificationpolicies";
}

impl Resource {
    /// The path of the collection in a namespace, or across all.
    pub(crate) fn collection(self, namespace: Option<&str>) -> String {
        let Resource { prefix, plural } = self;
        match namespace {
            Some(namespace) => format!("{prefix}/namespaces/{namespace}/{plural}"),
            None => format!("{prefix}/{plural}"),
        }
    }

    /// The path of one namespaced object.
    pub(crate) fn object(self, namespace: &str, name: &str) -> String {
        let Resource { prefix, plural } = self;
        format!("{prefix}/namespaces/{namespace}/{plural}/{name}")
    }

    /// The path of one namespaced object's status.
    pub(crate) fn status(self, namespace: &str, name: &str) -> String {
        let Resource { prefix, plural } = self;
        format!("{prefix}/namespaces/{namespace}/{plural}/{name}/status")
    }
}

/// Why a call gave no result.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The API answered with an error.
    #[error("{}", .0.message)]
    Refused(Box<Refused>),
    /// The API did not answer, or not in a way that can be read.
    #[error("{0}")]
    Unreachable(String),
}

/// What the API's Status said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refused {
    /// HTTP status code.
    pub(crate) code: u16,
    /// `reason`, for example `NotFound`.
    pub(crate) reason: String,
    /// `message`.
    pub(crate) message: String,
    /// `details.kind`.
    pub(crate) kind: String,
    /// `details.retryAfterSeconds`.
    pub(crate) retry_after: u64,
}

/// What an API server says, as an error of its own, of what will soon be over (P-108).
const PASSING: [&str; 2] = ["etcdserver: leader changed", "context deadline exceeded"];

impl CallError {
    /// The code of a refusal.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            CallError::Refused(refused) => Some(refused.code),
            CallError::Unreachable(_) => None,
        }
    }

    /// Whether there is no such object.
    pub(crate) fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// Whether an object of that name exists.
    pub(crate) fn is_already_exists(&self) -> bool {
        matches!(self, CallError::Refused(refused) if refused.reason == "AlreadyExists")
    }

    /// Whether the object has changed since it was read.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, CallError::Refused(refused) if refused.code == 409 && refused.reason != "AlreadyExists")
    }

    /// Whether an admission webhook did not answer in time.
    pub(crate) fn is_webhook_timeout(&self) -> bool {
        matches!(self, CallError::Refused(refused) if refused.code == 500 && refused.message.contains("timeout"))
    }

    /// Whether the same call may succeed a little later without anybody changing anything.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            CallError::Refused(refused) => {
                matches!(refused.code, 408 | 429 | 502 | 503 | 504)
                    || refused.reason == "ServerTimeout"
                    || PASSING.iter().any(|text| refused.message.contains(text))
            }
            CallError::Unreachable(_) => true,
        }
    }
}

impl From<kube::Error> for CallError {
    fn from(error: kube::Error) -> Self {
        CallError::Unreachable(error.to_string())
    }
}

/// How a patch is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchType {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
}

impl PatchType {
    fn content_type(self) -> &'static str {
        match self {
            PatchType::Json => "application/json-patch+json",
            PatchType::Merge => "application/merge-patch+json",
        }
    }
}

/// The API, as one client sees it.
#[derive(Clone)]
pub(crate) struct Rest {
    client: kube::Client,
}

impl Rest {
    pub(crate) fn new(client: kube::Client) -> Self {
        Self { client }
    }

    /// Reads `path`.
    pub(crate) async fn get(&self, path: &str) -> Result<Bytes, CallError> {
        self.call(Method::GET, path, None, Vec::new()).await
    }

    /// Posts an object to a collection.
    pub(crate) async fn post(&self, path: &str, body: Vec<u8>) -> Result<Bytes, CallError> {
        self.call(Method::POST, path, Some("application/json"), body)
            .await
    }

    /// Replaces an object.
    pub(crate) async fn put(&self, path: &str, body: Vec<u8>) -> Result<Bytes, CallError> {
        self.call(Method::PUT, path, Some("application/json"), body)
            .await
    }

    /// Changes an object.
    pub(crate) async fn patch(
        &self,
        path: &str,
        kind: PatchType,
        body: Vec<u8>,
    ) -> Result<Bytes, CallError> {
        self.call(Method::PATCH, path, Some(kind.content_type()), body)
            .await
    }

    /// Deletes an object.
    pub(crate) async fn delete(&self, path: &str) -> Result<Bytes, CallError> {
        self.call(Method::DELETE, path, None, Vec::new()).await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Vec<u8>,
    ) -> Result<Bytes, CallError> {
        let response = self.send(method, path, content_type, body).await?;
        let body = response.into_body().collect().await.map_err(unreadable)?;
        Ok(body.to_bytes())
    }

    /// Reads `path` piece by piece.
    pub(crate) async fn stream(&self, path: &str) -> Result<Body, CallError> {
        let response = self.send(Method::GET, path, None, Vec::new()).await?;
        Ok(response.into_body())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Vec<u8>,
    ) -> Result<Response<Body>, CallError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::ACCEPT, "application/json");
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let request = request
            .body(Body::from(body))
            .map_err(|error| CallError::Unreachable(format!("{path}: {error}")))?;
        let response = self.client.send(request).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(unreadable)?
            .to_bytes();
        Err(CallError::Refused(Box::new(read_refusal(code, &body))))
    }
}

fn unreadable(error: kube::Error) -> CallError {
    CallError::Unreachable(error.to_string())
}

/// Reads the Status in an error response; proxies answer with other things.
pub(crate) fn read_refusal(code: StatusCode, body: &[u8]) -> Refused {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Details {
        kind: String,
        retry_after_seconds: u64,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Status {
        message: String,
        reason: String,
        code: u16,
        details: Option<Details>,
    }
    let status = serde_json::from_slice::<Status>(body).unwrap_or_else(|_| Status {
        message: String::from_utf8_lossy(body).trim().to_owned(),
        ..Status::default()
    });
    let details = status.details.unwrap_or_default();
    Refused {
        code: if status.code == 0 {
            code.as_u16()
        } else {
            status.code
        },
        reason: status.reason,
        message: if status.message.is_empty() {
            code.to_string()
        } else {
            status.message
        },
        kind: details.kind,
        retry_after: details.retry_after_seconds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_carries_what_the_status_says_and_other_answers_their_text() {
        let status = br#"{"kind":"Status","status":"Failure","message":"pods \"x\" is forbidden: exceeded quota",
            "reason":"Forbidden","details":{"name":"x","kind":"pods"},"code":403}"#;
        let refused = read_refusal(StatusCode::FORBIDDEN, status);
        assert_eq!(
            (refused.code, refused.reason.as_str(), refused.kind.as_str()),
            (403, "Forbidden", "pods")
        );
        let refused = read_refusal(StatusCode::BAD_GATEWAY, b"upstream is down\n");
        assert_eq!(
            (refused.code, refused.message.as_str()),
            (502, "upstream is down")
        );
        let refused = read_refusal(StatusCode::BAD_GATEWAY, b"");
        assert_eq!(refused.message, "502 Bad Gateway");
    }

    /// P-108
    #[test]
    fn which_errors_are_worth_a_retry() {
        let refused = |code, reason: &str| {
            CallError::Refused(Box::new(Refused {
                code,
                reason: reason.into(),
                ..Refused::default()
            }))
        };
        let saying = |message: &str| {
            CallError::Refused(Box::new(Refused {
                code: 500,
                message: message.into(),
                ..Refused::default()
            }))
        };
        for (error, transient) in [
            (saying("rpc error: etcdserver: leader changed"), true),
            (saying("context deadline exceeded"), true),
            (saying("no"), false),
            (refused(504, "Timeout"), true),
            (CallError::Unreachable("broken pipe".into()), true),
            (refused(429, "TooManyRequests"), true),
            (refused(503, "ServiceUnavailable"), true),
            (refused(500, "ServerTimeout"), true),
            (refused(500, "InternalError"), false),
            (refused(409, "Conflict"), false),
            (refused(403, "Forbidden"), false),
        ] {
            assert_eq!(error.is_transient(), transient, "{error:?}");
        }
        assert!(refused(409, "AlreadyExists").is_already_exists());
        assert!(!refused(409, "AlreadyExists").is_conflict());
        assert!(refused(409, "Conflict").is_conflict());
    }
}
