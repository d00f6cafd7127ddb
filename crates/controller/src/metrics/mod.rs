//! What is counted and how Prometheus reads it (T-409 to T-417, P-387 to P-391).

mod exposition;
mod queues;
mod runs;
mod serving;

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use axum::Router;
use axum::http::header;
use axum::routing::get;
use k8s_openapi::api::core::v1::Pod;
use tektite_api::config::Config;
use tektite_api::v1::{Condition, PipelineRun, PipelineRunStatus, TaskRun, TaskRunStatus};

use crate::serving::probes_router;
use crate::world::World;
use exposition::{Labels, Page, Series};
pub use serving::MetricsAddress;
pub(crate) use serving::serve;

/// The counters of one process; clones share them.
#[derive(Clone, Default)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    series: Mutex<Series>,
    world: OnceLock<Weak<World>>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// `/metrics` in Prometheus' text form, and `/`, `/health`, `/readiness` that answer 200 (T-421).
pub fn metrics_router(metrics: Metrics) -> Router {
    let page = move || {
        let page = metrics.page();
        async move {
            (
                [(
                    header::CONTENT_TYPE,
                    "text/plain; version=0.0.4; charset=utf-8",
                )],
                page,
            )
        }
    };
    probes_router().route("/metrics", get(page))
}

const TASK_RUN_TOTAL: &str = "tekton_pipelines_controller_taskrun_total";
const TASK_RUN_DURATION: &str = "tekton_pipelines_controller_taskrun_duration_seconds";
const PIPELINE_TASK_RUN_DURATION: &str =
    "tekton_pipelines_controller_pipelinerun_taskrun_duration_seconds";
const PIPELINE_RUN_TOTAL: &str = "tekton_pipelines_controller_pipelinerun_total";
const PIPELINE_RUN_DURATION: &str = "tekton_pipelines_controller_pipelinerun_duration_seconds";

const POD_LATENCY: &str = "tekton_pipelines_controller_taskruns_pod_latency_milliseconds";

impl Metrics {
    /// Gauges are read from `world` from now on.
    pub(crate) fn observe(&self, world: &Arc<World>) {
        let _ = self.inner.world.set(Arc::downgrade(world));
    }

    /// Counts a TaskRun that has come to its end with `status` (T-409 to T-412).
    pub(crate) fn task_run_ended(&self, run: &TaskRun, status: &TaskRunStatus, config: &Config) {
        let Some(condition) = Condition::succeeded(&status.conditions) else {
            return;
        };
        let outcome = runs::task_run_outcome(condition);
        let (name, labels) = runs::task_run_labels(run, condition, outcome, &config.metrics);
        let seconds = runs::seconds(status.start_time.as_ref(), status.completion_time.as_ref());
        self.add(TASK_RUN_TOTAL, vec![("status", outcome.to_owned())]);
        self.duration(name, labels, seconds, &config.metrics.duration_taskrun_type);
    }

    /// Records how long the run's pod waited for a node, if it has one and its sidecars are ready (T-416).
    pub(crate) fn pod_seen(&self, run: &TaskRun, pod: &Pod, config: &Config) {
        if let Some(millis) = runs::scheduling_millis(pod).filter(|_| runs::sidecars_are_ready(pod))
        {
            let labels = runs::pod_labels(run, &config.metrics);
            self.lock().observe(POD_LATENCY, labels, millis);
        }
    }

    /// Counts a PipelineRun that has come to its end with `status` (P-387, P-388).
    pub(crate) fn pipeline_run_ended(
        &self,
        run: &PipelineRun,
        status: &PipelineRunStatus,
        config: &Config,
    ) {
        let Some(condition) = Condition::succeeded(&status.conditions) else {
            return;
        };
        let outcome = runs::pipeline_run_outcome(condition);
        let labels = runs::pipeline_run_labels(run, condition, outcome, &config.metrics);
        let seconds = runs::seconds(status.start_time.as_ref(), status.completion_time.as_ref());
        self.add(PIPELINE_RUN_TOTAL, vec![("status", outcome.to_owned())]);
        self.duration(
            PIPELINE_RUN_DURATION,
            labels,
            seconds,
            &config.metrics.duration_pipelinerun_type,
        );
    }

    fn add(&self, name: &'static str, labels: Labels) {
        self.lock().add(name, labels);
    }

    fn duration(&self, name: &'static str, labels: Labels, seconds: f64, kind: &str) {
        let mut series = self.lock();
        if kind == "lastvalue" {
            series.set(name, labels, seconds);
        } else {
            series.observe(name, labels, seconds);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Series> {
        self.inner
            .series
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything, as Prometheus reads it.
    fn page(&self) -> String {
        let mut page = Page::default();
        self.lock().write(&mut page);
        if let Some(world) = self.inner.world.get().and_then(Weak::upgrade) {
            runs::write_gauges(&world, &mut page);
            queues::write(&world, &mut page);
        }
        page.into_text()
    }
}
