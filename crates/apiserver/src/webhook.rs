//! Calling webhooks: services registered in this process, or HTTPS.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use serde::Serialize;
use serde_json::Value;
use tower::{BoxError, Service, ServiceExt};

use crate::storage::Storage;

type Call = Arc<
    dyn Fn(Request<Full<Bytes>>) -> BoxFuture<'static, Result<Response<Bytes>, BoxError>>
        + Send
        + Sync,
>;

/// Services that webhooks reach without a socket.
pub struct Webhooks {
    services: RwLock<HashMap<(String, String), Call>>,
    storage: Arc<Storage>,
}

/// Where a `clientConfig` leads.
struct Destination {
    service: Option<(String, String)>,
    url: String,
}

impl Webhooks {
    /// No services yet; Service objects are looked up in `storage`.
    pub fn new(storage: Arc<Storage>) -> Self {
        Self {
            services: RwLock::default(),
            storage,
        }
    }

    /// See [`crate::ApiServer::register_service`].
    pub fn register<S, B>(&self, namespace: &str, name: &str, service: S)
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<BoxError>,
    {
        let call: Call = Arc::new(move |request| {
            let service = service.clone();
            Box::pin(async move {
                let response = service.oneshot(request).await.map_err(Into::into)?;
                let (head, body) = response.into_parts();
                let body = body.collect().await.map_err(Into::into)?.to_bytes();
                Ok(Response::from_parts(head, body))
            })
        });
        let mut services = self
            .services
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        services.insert((namespace.into(), name.into()), call);
    }

    /// Posts `review` and returns the review that comes back; the error is the text after `failed to call webhook: `.
    pub async fn post(
        &self,
        config: &Value,
        review: &impl Serialize,
        timeout: Duration,
    ) -> Result<Value, String> {
        let destination = destination(config);
        let url = format!("{}?timeout={}s", destination.url, timeout.as_secs());
        let fail = |why: String| format!("Post \"{url}\": {why}");
        let body = serde_json::to_vec(review).map_err(|error| fail(error.to_string()))?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(&url)
            .header(CONTENT_TYPE, "application/json")
            .header("accept", "application/json, */*")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| fail(error.to_string()))?;
        let in_process = destination.service.as_ref().and_then(|key| {
            let services = self
                .services
                .read()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            services.get(key).cloned()
        });
        let call = async {
            match in_process {
                Some(call) => call(request).await.map_err(|error| error.to_string()),
                None => crate::https::send(config, request, self.resolve(config)).await,
            }
        };
        let response = match tokio::time::timeout(timeout, call).await {
            Err(_) => return Err(fail("context deadline exceeded".into())),
            Ok(Err(error)) => return Err(fail(error)),
            Ok(Ok(response)) => response,
        };
        if !response.status().is_success() {
            let text = String::from_utf8_lossy(response.body());
            return Err(format!(
                "an error on the server (\"{}\") has prevented the request from succeeding",
                text.trim()
            ));
        }
        serde_json::from_slice(response.body()).map_err(|error| error.to_string())
    }
}

impl Webhooks {
    /// Where a Service's port leads: a ready endpoint, else its cluster IP (K-191).
    fn resolve(&self, config: &Value) -> Option<(String, u16)> {
        let wanted = config.get("service")?;
        let text = |value: &Value, pointer: &str| {
            value
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let (namespace, name) = (text(wanted, "/namespace"), text(wanted, "/name"));
        let number = wanted.get("port").and_then(Value::as_u64).unwrap_or(443);
        let service = self.storage.get("services", &namespace, &name)?.value();
        let ports = service.pointer("/spec/ports").and_then(Value::as_array)?;
        let port = ports
            .iter()
            .find(|port| port.get("port").and_then(Value::as_u64) == Some(number))?;
        let port_name = text(port, "/name");
        let (slices, _) = self
            .storage
            .list("endpointslices.discovery.k8s.io", Some(&namespace));
        let own = slices
            .iter()
            .filter(|slice| slice.label("kubernetes.io/service-name") == Some(name.as_str()));
        for slice in own.map(|slice| slice.value()) {
            let list = |key: &str| {
                slice
                    .get(key)
                    .and_then(Value::as_array)
                    .cloned()
                    .unwrap_or_default()
            };
            let target = list("ports")
                .iter()
                .find(|port| text(port, "/name") == port_name)
                .and_then(|port| port.get("port")?.as_u64());
            let ready = list("endpoints").into_iter().find(|endpoint| {
                endpoint
                    .pointer("/conditions/ready")
                    .and_then(Value::as_bool)
                    .unwrap_or(true)
            });
            if let (Some(target), Some(endpoint)) = (target, ready) {
                return Some((text(&endpoint, "/addresses/0"), u16::try_from(target).ok()?));
            }
        }
        let ip = text(&service, "/spec/clusterIP");
        (!ip.is_empty() && ip != "None").then_some((ip, u16::try_from(number).ok()?))
    }
}

fn destination(config: &Value) -> Destination {
    let Some(service) = config.get("service").filter(|service| service.is_object()) else {
        let url = config
            .get("url")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        return Destination { service: None, url };
    };
    let text = |key: &str| service.get(key).and_then(Value::as_str).unwrap_or_default();
    let port = service.get("port").and_then(Value::as_u64).unwrap_or(443);
    let path = text("path");
    let slash = if path.starts_with('/') { "" } else { "/" };
    let url = format!(
        "https://{}.{}.svc:{port}{slash}{path}",
        text("name"),
        text("namespace")
    );
    Destination {
        service: Some((text("namespace").into(), text("name").into())),
        url,
    }
}
