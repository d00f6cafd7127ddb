//! The hub resolver against stand-ins for both kinds of hubs.

mod support;

use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use support::{Local, TASK, data, failure, serve};

/// A hub of both kinds with one task in several versions, each named after its version.
fn hub() -> Router {
    let named = |version: &str| TASK.replace("name: remote", &format!("name: v{version}"));
    let artifact = move |Path(version): Path<String>| async move {
        match version.as_str() {
            "0.5.0" | "0.6.1" | "latest" => {
                Ok(Json(json!({"data": {"manifestRaw": named(&version)}})))
            }
            _ => Err(StatusCode::NOT_FOUND),
        }
    };
    let tekton = move |Path(version): Path<String>| async move {
        Json(json!({"data": {"yaml": named(&version)}}))
    };
    Router::new()
        .route(
            "/api/v1/packages/tekton-task/tekton-catalog-tasks/t",
            get(|| async {
                Json(
                    json!({"available_versions": [{"version": "0.6.1"}, {"version": "0.5.0"},
                    {"version": "0.7.0", "prerelease": true}]}),
                )
            }),
        )
        .route(
            "/api/v1/packages/tekton-task/tekton-catalog-tasks/t/{version}",
            get(artifact),
        )
        .route(
            "/v1/resource/Tekton/task/t",
            get(|| async {
                Json(json!({"data": {"versions": [{"version": "0.1"}, {"version": "0.2"}]}}))
            }),
        )
        .route("/v1/resource/Tekton/task/t/{version}/yaml", get(tekton))
        .route("/v1/resource/Tekton/task/odd", get(|| async { "not JSON" }))
}

/// P-348, P-349, P-350, P-351, P-352
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_version_that_fits_is_fetched_from_the_hub_that_answers() {
    let local = Local::start().await;
    let hub = format!("http://{}", serve(hub()).await);
    let dead = "http://127.0.0.1:1";
    local
        .configure(
            "hubresolver-config",
            json!({"default-tekton-hub-catalog": "Tekton", "default-artifact-hub-task-catalog": "tekton-catalog-tasks",
                "default-artifact-hub-pipeline-catalog": "p", "default-kind": "task", "default-type": "artifact",
                "artifact-hub-urls": format!("- {dead}\n- {hub}/\n"), "tekton-hub-urls": format!("- {hub}")}),
        )
        .await;
    let ask = async |name: &str, version: &str, extra: Value| {
        let mut params = json!({"name": "t", "version": version});
        for (key, value) in extra.as_object().into_iter().flatten() {
            params[key] = value.clone();
        }
        local.resolve(name, "hub", params).await
    };
    let artifact = format!("{hub}/api/v1/packages/tekton-task/tekton-catalog-tasks/t");
    let tekton = format!("{hub}/v1/resource/Tekton/task/t");
    for (name, version, extra, expected, uri) in [
        (
            "exact",
            "0.5.0",
            json!({}),
            "v0.5.0",
            format!("{artifact}/0.5.0"),
        ),
        (
            "short",
            "0.5",
            json!({}),
            "v0.5.0",
            format!("{artifact}/0.5.0"),
        ),
        (
            "range",
            ">= 0.5.0",
            json!({}),
            "v0.6.1",
            format!("{artifact}/0.6.1"),
        ),
        (
            "word",
            "latest",
            json!({}),
            "vlatest",
            format!("{artifact}/latest"),
        ),
        (
            "tekton",
            "~> 0.1",
            json!({"type": "tekton"}),
            "v0.2",
            format!("{tekton}/0.2/yaml"),
        ),
        (
            "url",
            "0.6.1",
            json!({"url": format!("{hub}//")}),
            "v0.6.1",
            format!("{artifact}/0.6.1"),
        ),
    ] {
        let status = ask(name, version, extra).await;
        assert!(
            data(&status).contains(&format!("name: {expected}\n")),
            "{name}: {status:#}"
        );
        assert_eq!(status["refSource"]["uri"], uri);
        assert_eq!(status["annotations"], json!({}), "{name}");
    }
    let error =
        |name: &str, text: &str| format!("error getting \"Hub\" \"default/{name}\": {text}");
    let status = ask("none", "> 1", json!({})).await;
    assert_eq!(
        failure(&status).1,
        error("none", "no version found for constraint > 1")
    );
    let status = ask("absent", "x", json!({"url": hub})).await;
    assert_eq!(
        failure(&status).1,
        error(
            "absent",
            &format!(
                "fail to fetch Artifact Hub resource: requested resource '{artifact}/x' not found on hub"
            )
        )
    );
    let status = ask("all", "x", json!({})).await;
    let message = failure(&status).1;
    assert!(
        message.starts_with(&error("all", "failed to fetch resource from any configured hub URL: fail to fetch Artifact Hub resource: requesting resource from Hub: "))
            && message.ends_with(&format!("requested resource '{artifact}/x' not found on hub")),
        "{message}"
    );
    let status = local
        .resolve(
            "odd",
            "hub",
            json!({"name": "odd", "version": "1", "type": "tekton"}),
        )
        .await;
    assert!(
        failure(&status)
            .1
            .contains("fail to fetch Tekton Hub resource: error unmarshalling json response: "),
        "{status:#}"
    );
}
