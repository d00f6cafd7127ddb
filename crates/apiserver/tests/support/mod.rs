//! What the suites share: a server in memory and clients of it.
#![allow(dead_code)]

pub mod https;

use kube::Client;
use kube::api::ApiResource;
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use tektite_apiserver::{ApiServer, Identity, Options};

pub async fn server() -> ApiServer {
    ApiServer::start(Options {
        root_ca: Some("PEM".into()),
        ..Options::default()
    })
    .await
    .unwrap()
}

pub fn client(server: &ApiServer) -> Client {
    Client::new(server.client_service(Identity::admin()), "default")
}

pub fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

/// A raw request; status and body.
pub async fn send(
    client: &Client,
    method: &str,
    uri: &str,
    media: &str,
    body: Value,
) -> (u16, Value) {
    let body = if body.is_null() {
        Vec::new()
    } else {
        body.to_string().into_bytes()
    };
    let mut request = http::Request::builder().method(method).uri(uri);
    if !media.is_empty() {
        request = request.header("content-type", media);
    }
    let response = client
        .send(request.body(kube::client::Body::from(body)).unwrap())
        .await
        .unwrap();
    let code = response.status().as_u16();
    let bytes = http_body_util::BodyExt::collect(response.into_body())
        .await
        .unwrap()
        .to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

pub async fn get(client: &Client, uri: &str) -> (u16, Value) {
    send(client, "GET", uri, "", Value::Null).await
}

pub async fn post(client: &Client, uri: &str, body: Value) -> (u16, Value) {
    send(client, "POST", uri, "application/json", body).await
}

/// A definition of `widgets.example.com` with versions v1 (stored) and v1beta1.
pub fn widgets(conversion: Value) -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": {"type": "object", "required": ["size"], "properties": {
            "size": {"type": "integer", "minimum": 1},
            "color": {"type": "string", "default": "red"},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }}});
    let version = |name: &str, storage: bool| {
        json!({
            "name": name, "served": true, "storage": storage, "schema": schema, "subresources": {"status": {}},
            "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
        })
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"], "categories": ["all"]},
            "versions": [version("v1beta1", false), version("v1", true)],
            "conversion": conversion,
        },
    })
}

pub const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

pub async fn with_widgets() -> (ApiServer, Client) {
    let server = server().await;
    let client = client(&server);
    let (code, body) = post(
        &client,
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        widgets(json!({"strategy": "None"})),
    )
    .await;
    assert_eq!(code, 201, "{body}");
    (server, client)
}

pub fn widget(name: &str, size: i64) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": {"size": size}})
}

pub fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": "busybox:1"}]},
    })
}
