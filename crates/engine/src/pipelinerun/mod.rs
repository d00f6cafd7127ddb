//! The life of a PipelineRun: from what is seen of it and its children to what should happen next.

mod adopted;
mod affinity;
mod cache;
mod children;
pub mod concurrency;
mod condition;
mod defaults;
mod facts;
mod names;
mod observed;
mod outcome;
mod params;
mod patches;
mod pipeline;
mod pod_template;
pub mod rerun;
mod resolve;
mod results;
mod schedule;
mod stop;
mod substitute;
mod task;
mod texts;
mod timeouts;
mod work;
mod workspaces;

use jiff::Timestamp;
use tektite_api::config::Config;
use tektite_api::v1::{PipelineRun, PipelineRunStatus};

use crate::decision::Decision;
pub use observed::Observed;

/// Decides what should happen to `run`, given what has been `seen`.
///
/// Not for runs that another controller manages: see [`is_ours`].
pub fn reconcile(
    run: &PipelineRun,
    seen: &Observed,
    config: &Config,
    now: Timestamp,
) -> Decision<PipelineRunStatus> {
    work::decide(run, seen, config, now)
}

/// Whether the run is for this controller (P-396): `managedBy` is unset or names Tekton.
#[must_use]
pub fn is_ours(run: &PipelineRun) -> bool {
    run.spec
        .managed_by
        .as_deref()
        .is_none_or(|by| by == tektite_api::names::MANAGED_BY_TEKTON)
}
