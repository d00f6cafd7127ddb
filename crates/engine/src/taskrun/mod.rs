//! The life of a TaskRun: from what is seen of it to what should happen next.

mod condition;
mod ending;
mod failure;
mod pass;
pub mod pod;
mod pod_creation;
mod resolve;
mod restore;
mod results;
mod status;
mod step_action;
pub mod termination;
mod validate;
pub mod workspaces;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tektite_api::Duration;
use tektite_api::config::Config;
use tektite_api::names::MANAGED_BY_TEKTON;
use tektite_api::v1::{TaskRun, TaskRunStatus};

use crate::decision::{Answers, Decision, Refusal};
use pod::PodOptions;

pub use validate::params as validate_params;

/// What a controller has seen around a TaskRun.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Every pod of the run's namespace with label `tekton.dev/taskRun=<name>`, and the one named in
    /// `status.podName` (T-154). The engine ignores those it does not control.
    pub pods: Vec<Arc<Pod>>,
    /// Answers to the `needs` of earlier decisions of this reconcile.
    pub answers: Answers,
    /// Effects of the previous decision of this reconcile that the API refused.
    pub refusals: Vec<Refusal>,
    /// How pods are to be built here.
    pub pod_options: Arc<PodOptions>,
}

/// Decides what should happen to `run`, given what has been `seen`.
///
/// Not for runs that another controller manages: see [`is_ours`].
pub fn reconcile(
    run: &TaskRun,
    seen: &Observed,
    config: &Config,
    now: Timestamp,
) -> Decision<TaskRunStatus> {
    pass::Pass::new(run, seen, config, now).run()
}

/// Whether the run is for this controller (T-146): `managedBy` is unset or names Tekton.
pub fn is_ours(run: &TaskRun) -> bool {
    run.spec
        .managed_by
        .as_deref()
        .is_none_or(|by| by == MANAGED_BY_TEKTON)
}

/// How long one attempt may take; zero is no limit (T-090, T-129).
pub fn timeout(run: &TaskRun, config: &Config) -> Duration {
    run.spec
        .timeout
        .unwrap_or_else(|| config.defaults.timeout())
}

/// Name of a step's container: `step-<name>`, or by index if the step has no name (T-220, uncut).
pub fn step_container_name(name: &str, index: usize) -> String {
    if name.is_empty() {
        format!("step-unnamed-{index}")
    } else {
        format!("step-{name}")
    }
}
