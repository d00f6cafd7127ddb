//! The metrics of the work queues, with Knative's names (T-417).

use super::exposition::{Labels, Page};
use crate::queue::{BOUNDS, Durations, Standing};
use crate::world::{Kind, World};

/// What Knative's metrics name as their source.
const SCOPE: &str = "knative.dev/pkg/observability/metrics/k8s";

/// Writes what was counted of every queue, and how it stands.
pub(super) fn write(world: &World, page: &mut Page) {
    page.scope = SCOPE;
    let queues: Vec<(Labels, Standing)> = Kind::ALL
        .iter()
        .map(|kind| vec![("name", kind.queue().to_owned())])
        .zip(world.queue.standing())
        .collect();
    let mut simple = |name: &str, help: &str, kind: &str, value: fn(&Standing) -> f64| {
        page.head(name, help, kind);
        for (labels, standing) in &queues {
            page.sample(name, labels, None, value(standing));
        }
    };
    simple(
        "kn_workqueue_adds_total",
        "Number of items added to the queue",
        "counter",
        |standing| standing.record.adds as f64,
    );
    simple(
        "kn_workqueue_depth",
        "Number of current items in the queue",
        "gauge",
        |standing| standing.depth as f64,
    );
    simple(
        "kn_workqueue_longest_running_processor_seconds",
        "How long the longest work under way has taken so far",
        "gauge",
        |standing| standing.longest.as_secs_f64(),
    );
    simple(
        "kn_workqueue_retries_total",
        "Number of items re-added to the queue",
        "counter",
        |standing| standing.record.retries as f64,
    );
    simple(
        "kn_workqueue_unfinished_work_seconds",
        "How long all the work under way has taken so far",
        "gauge",
        |standing| standing.unfinished.as_secs_f64(),
    );
    let mut durations = |name: &str, help: &str, which: fn(&Standing) -> &Durations| {
        page.head(name, help, "histogram");
        for (labels, standing) in &queues {
            let durations = which(standing);
            let buckets = BOUNDS.into_iter().zip(durations.within);
            page.histogram(name, labels, buckets, durations.count, durations.sum);
        }
    };
    durations(
        "kn_workqueue_process_duration_seconds",
        "How long in seconds processing an item from workqueue takes",
        |standing| &standing.record.worked,
    );
    durations(
        "kn_workqueue_queue_duration_seconds",
        "How long an item stays in workqueue",
        |standing| &standing.record.waited,
    );
}
