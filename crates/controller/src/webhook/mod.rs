//! The webhooks as an HTTP service (T-015, P-011).

mod admission;
mod configurations;
mod conversion;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::Value;

pub(crate) use configurations::conversion_patch;
pub use configurations::{WebhookService, webhook_configurations};

use crate::config::ConfigHandle;
use crate::serving::probes_router;

/// Namespace and name of the service as which the API server reaches the webhooks (T-422).
pub const WEBHOOK_SERVICE: (&str, &str) = (
    tektite_api::names::NAMESPACE,
    tektite_api::names::WEBHOOK_SERVICE,
);

/// The routes `/defaulting`, `/resource-validation`, `/config-validation` and `/resource-conversion`, and the probes.
///
/// Serve it by TLS on a cluster, or hand it to an in-process API server as it is.
pub fn webhook_router(config: ConfigHandle) -> Router {
    Router::new()
        .route("/defaulting", post(defaulting))
        .route("/resource-validation", post(validation))
        .route("/config-validation", post(config_validation))
        .route("/resource-conversion", post(resource_conversion))
        .with_state(config)
        .merge(probes_router())
}

async fn defaulting(State(config): State<ConfigHandle>, body: Bytes) -> Response {
    answer(admission::review(
        &body,
        &config,
        admission::Webhook::Defaulting,
    ))
}

async fn validation(State(config): State<ConfigHandle>, body: Bytes) -> Response {
    answer(admission::review(
        &body,
        &config,
        admission::Webhook::Validation,
    ))
}

async fn config_validation(State(config): State<ConfigHandle>, body: Bytes) -> Response {
    answer(admission::review(
        &body,
        &config,
        admission::Webhook::Config,
    ))
}

async fn resource_conversion(State(config): State<ConfigHandle>, body: Bytes) -> Response {
    answer(conversion::review(&body, &config.current()))
}

/// A review that cannot be read is the API server's fault and answered by 400.
fn answer(review: Result<Value, serde_json::Error>) -> Response {
    match review {
        Ok(review) => (
            [(header::CONTENT_TYPE, "application/json")],
            review.to_string(),
        )
            .into_response(),
        Err(error) => (
            StatusCode::BAD_REQUEST,
            format!("could not decode body: {error}"),
        )
            .into_response(),
    }
}
