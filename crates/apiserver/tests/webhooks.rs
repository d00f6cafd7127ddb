//! Admission and conversion by webhooks that run in this process.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::routing::post as on_post;
use axum::{Json, Router};
use base64::Engine as _;
use kube::Client;
use serde_json::{Value, json};
use support::{WIDGETS, get, post, send, server, widget, widgets};
use tektite_apiserver::ApiServer;

const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

fn answer(review: &Value, response: Value) -> Json<Value> {
    let mut response = response;
    response["uid"] = review["request"]["uid"].clone();
    Json(
        json!({"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response}),
    )
}

/// Adds a label; size 13 is refused; every call is counted.
fn admission(calls: Arc<AtomicUsize>) -> Router {
    let mutate = move |Json(review): Json<Value>| async move {
        calls.fetch_add(1, Ordering::SeqCst);
        let patch = json!([{"op": "add", "path": "/metadata/labels", "value": {"seen": review["request"]["operation"]}}]);
        let patch = base64::engine::general_purpose::STANDARD.encode(patch.to_string());
        answer(
            &review,
            json!({"allowed": true, "patchType": "JSONPatch", "patch": patch}),
        )
    };
    let validate = |Json(review): Json<Value>| async move {
        let object = &review["request"]["object"];
        if object["spec"]["size"] == 13 {
            assert_eq!(object["metadata"]["labels"]["seen"], "CREATE");
            return answer(
                &review,
                json!({"allowed": false, "status": {"message": "thirteen is unlucky"}}),
            );
        }
        answer(
            &review,
            json!({"allowed": true, "warnings": ["watch your size"]}),
        )
    };
    Router::new()
        .route("/mutate", on_post(mutate))
        .route("/validate", on_post(validate))
}

fn configuration(kind: &str, name: &str, path: &str, extra: Value) -> Value {
    let mut hook = json!({
        "name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": {"namespace": "hooks", "name": "hook", "path": path}},
        "rules": [{
            "apiGroups": ["example.com"], "apiVersions": ["v1"], "resources": ["widgets"], "operations": ["CREATE", "UPDATE"],
        }],
    });
    for (key, value) in extra.as_object().unwrap() {
        hook[key] = value.clone();
    }
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "webhooks": [hook]})
}

async fn start(conversion: Value) -> (ApiServer, Client) {
    let server = server().await;
    let client = support::client(&server);
    let (code, body) = post(&client, DEFINITIONS, widgets(conversion)).await;
    assert_eq!(code, 201, "{body}");
    (server, client)
}

#[tokio::test]
async fn webhooks_change_refuse_and_warn() {
    // K-184, K-185, K-186, K-188, K-190, K-192, K-193, K-196
    let (server, client) = start(json!({"strategy": "None"})).await;
    let calls = Arc::new(AtomicUsize::new(0));
    server.register_service("hooks", "hook", admission(Arc::clone(&calls)));
    let (_, made) = post(
        &client,
        MUTATING,
        configuration(
            "MutatingWebhookConfiguration",
            "m.example.com",
            "/mutate",
            json!({}),
        ),
    )
    .await;
    let hook = &made["webhooks"][0];
    assert_eq!(
        (
            hook["failurePolicy"].as_str(),
            hook["timeoutSeconds"].as_i64()
        ),
        (Some("Fail"), Some(10))
    );
    post(
        &client,
        VALIDATING,
        configuration(
            "ValidatingWebhookConfiguration",
            "v.example.com",
            "/validate",
            json!({}),
        ),
    )
    .await;
    let (code, made) = post(&client, WIDGETS, widget("a", 1)).await;
    assert_eq!(
        (code, made["metadata"]["labels"]["seen"].as_str()),
        (201, Some("CREATE"))
    );
    let (code, refused) = post(&client, WIDGETS, widget("b", 13)).await;
    assert_eq!(code, 400);
    let expected = "admission webhook \"v.example.com\" denied the request: thirteen is unlucky";
    assert_eq!(refused["message"], expected);
    assert_eq!(get(&client, &format!("{WIDGETS}/b")).await.0, 404);
    let merge = "application/merge-patch+json";
    let (_, patched) = send(
        &client,
        "PATCH",
        &format!("{WIDGETS}/a"),
        merge,
        json!({"spec": {"size": 2}}),
    )
    .await;
    assert_eq!(patched["metadata"]["labels"]["seen"], "UPDATE");
    let before = calls.load(Ordering::SeqCst);
    // A rule for `widgets` does not name the status subresource.
    send(
        &client,
        "PATCH",
        &format!("{WIDGETS}/a/status"),
        merge,
        json!({"status": {"x": 1}}),
    )
    .await;
    assert_eq!(calls.load(Ordering::SeqCst), before);
    // The other version is the same resource (K-189).
    let mut old = widget("c", 3);
    old["apiVersion"] = json!("example.com/v1beta1");
    let (code, made) = post(
        &client,
        "/apis/example.com/v1beta1/namespaces/default/widgets",
        old,
    )
    .await;
    assert_eq!(
        (code, made["metadata"]["labels"]["seen"].as_str()),
        (201, Some("CREATE")),
        "{made}"
    );
    assert_eq!(made["apiVersion"], "example.com/v1beta1");
}

#[tokio::test]
async fn selectors_limit_whom_a_webhook_sees() {
    // K-186, K-187
    let (server, client) = start(json!({"strategy": "None"})).await;
    let calls = Arc::new(AtomicUsize::new(0));
    server.register_service("hooks", "hook", admission(Arc::clone(&calls)));
    let kind = "MutatingWebhookConfiguration";
    let none = json!({"namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["default"]}]}});
    post(
        &client,
        MUTATING,
        configuration(kind, "ns.example.com", "/mutate", none),
    )
    .await;
    let labelled = json!({"objectSelector": {"matchLabels": {"hook": "yes"}}});
    post(
        &client,
        MUTATING,
        configuration(kind, "object.example.com", "/mutate", labelled),
    )
    .await;
    post(
        &client,
        MUTATING,
        configuration(kind, "norules.example.com", "/mutate", json!({"rules": []})),
    )
    .await;
    post(&client, WIDGETS, widget("a", 1)).await;
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    let mut body = widget("b", 1);
    body["metadata"]["labels"] = json!({"hook": "yes"});
    post(&client, WIDGETS, body).await;
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn unreachable_webhooks_fail_or_are_ignored_and_dry_runs_need_consent() {
    // K-194, K-195
    let (_server, client) = start(json!({"strategy": "None"})).await;
    let kind = "ValidatingWebhookConfiguration";
    let elsewhere = json!({"service": {"namespace": "hooks", "name": "nobody", "path": "/x"}});
    let mut extra =
        json!({"failurePolicy": "Ignore", "clientConfig": elsewhere, "sideEffects": "Some"});
    post(
        &client,
        VALIDATING,
        configuration(kind, "v.example.com", "/x", extra.clone()),
    )
    .await;
    assert_eq!(post(&client, WIDGETS, widget("a", 1)).await.0, 201);
    let (code, refused) = post(&client, &format!("{WIDGETS}?dryRun=All"), widget("b", 1)).await;
    let expected = "admission webhook \"v.example.com\" does not support dry run";
    assert_eq!((code, refused["message"].as_str()), (400, Some(expected)));
    extra["failurePolicy"] = json!("Fail");
    post(
        &client,
        VALIDATING,
        configuration(kind, "w.example.com", "/x", extra),
    )
    .await;
    let (code, refused) = post(&client, WIDGETS, widget("b", 1)).await;
    assert_eq!(code, 500);
    let text = refused["message"].as_str().unwrap();
    let start = "Internal error occurred: failed calling webhook \"w.example.com\": failed to call webhook: Post \"https://nobody.hooks.svc:443/x?timeout=10s\"";
    assert!(text.starts_with(start), "{text}");
}

/// v1beta1 calls `size` what v1 calls `size`, plus a hundred; labels tell who converted.
fn converter(calls: Arc<AtomicUsize>) -> Router {
    let convert = move |Json(review): Json<Value>| async move {
        calls.fetch_add(1, Ordering::SeqCst);
        assert_eq!(review["apiVersion"], "apiextensions.k8s.io/v1beta1");
        let desired = review["request"]["desiredAPIVersion"].clone();
        let add = if desired == "example.com/v1" {
            -100
        } else {
            100
        };
        let objects: Vec<Value> = review["request"]["objects"]
            .as_array()
            .unwrap()
            .iter()
            .map(|object| {
                let mut object = object.clone();
                object["apiVersion"] = desired.clone();
                object["spec"]["size"] = (object["spec"]["size"].as_i64().unwrap() + add).into();
                object["metadata"]["annotations"] = json!({"converted": "yes"});
                object["metadata"]["generation"] = 99.into();
                object
            })
            .collect();
        Json(json!({
            "apiVersion": review["apiVersion"], "kind": "ConversionReview",
            "response": {"uid": review["request"]["uid"], "result": {"status": "Success"}, "convertedObjects": objects},
        }))
    };
    Router::new().route("/convert", on_post(convert))
}

#[tokio::test]
async fn objects_are_converted_between_versions_by_webhook() {
    // K-165, K-175, K-176, K-177, K-178
    let conversion = json!({"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v1beta1", "v1"],
        "clientConfig": {"service": {"namespace": "hooks", "name": "convert", "path": "/convert"}},
    }});
    let (server, client) = start(conversion).await;
    // While the webhook is down, the stored version works, the other does not.
    assert_eq!(post(&client, WIDGETS, widget("a", 1)).await.0, 201);
    let old = "/apis/example.com/v1beta1/namespaces/default/widgets";
    let (code, refused) = get(&client, &format!("{old}/a")).await;
    assert_eq!(code, 500);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .starts_with("conversion webhook for example.com/v1, Kind=Widget failed: Post")
    );
    let calls = Arc::new(AtomicUsize::new(0));
    server.register_service("hooks", "convert", converter(Arc::clone(&calls)));
    let (_, seen) = get(&client, &format!("{old}/a")).await;
    assert_eq!(
        (
            seen["spec"]["size"].as_i64(),
            seen["metadata"]["annotations"]["converted"].as_str()
        ),
        (Some(101), Some("yes"))
    );
    assert_eq!(seen["metadata"]["generation"], 1);
    let mut body = widget("b", 105);
    body["apiVersion"] = json!("example.com/v1beta1");
    let (code, made) = post(&client, old, body).await;
    assert_eq!(
        (code, made["spec"]["size"].as_i64()),
        (201, Some(105)),
        "{made}"
    );
    assert_eq!(
        get(&client, &format!("{WIDGETS}/b")).await.1["spec"]["size"],
        5
    );
    let before = calls.load(Ordering::SeqCst);
    let (_, list) = get(&client, old).await;
    let sizes: Vec<i64> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["spec"]["size"].as_i64().unwrap())
        .collect();
    assert_eq!(
        (sizes, calls.load(Ordering::SeqCst) - before),
        (vec![101, 105], 1)
    );
    let merge = "application/merge-patch+json";
    let (code, patched) = send(
        &client,
        "PATCH",
        &format!("{old}/b"),
        merge,
        json!({"spec": {"size": 110}}),
    )
    .await;
    assert_eq!(
        (code, patched["spec"]["size"].as_i64()),
        (200, Some(110)),
        "{patched}"
    );
    assert_eq!(
        get(&client, &format!("{WIDGETS}/b")).await.1["spec"]["size"],
        10
    );
}
