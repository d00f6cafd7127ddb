//! What a controller has seen around a PipelineRun.

use std::collections::BTreeMap;
use std::sync::Arc;

use tektite_api::v1::{PipelineRun, TaskRun};
use tektite_api::v1beta1::CustomRun;

use crate::decision::{Answers, Refusal};

/// What a controller has seen around a PipelineRun.
///
/// Caches may lag, with two limits. The run and its children are at least as new as what this very controller has
/// written or made; after a start it has listed everything. And a child that `status.childReferences` names but no cache
/// holds has been looked up in the API, since one that is missing here counts as deleted and is made again (P-399).
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Every TaskRun of the run's namespace with labels `tekton.dev/pipelineRun=<name>` and
    /// `tekton.dev/pipelineRunUID=<uid>` or named in `status.childReferences`, in the order of their names. After a
    /// create answered by `AlreadyExists` of somebody else's TaskRun, that one too: it counts as the child (P-265).
    pub task_runs: Vec<Arc<TaskRun>>,
    /// The same for CustomRuns.
    pub custom_runs: Vec<Arc<CustomRun>>,
    /// The same for child PipelineRuns; and the PipelineRuns up the chain of controllers of this one, which a child is
    /// compared with so that no pipeline runs within itself (P-216).
    pub pipeline_runs: Vec<Arc<PipelineRun>>,
    /// TaskRuns among them that seem to have failed by an eviction and of which the API would not say whether it is so, by
    /// name, with what it said instead (P-107).
    pub unconfirmed: BTreeMap<String, String>,
    /// Answers to the `needs` of earlier decisions of this reconcile.
    pub answers: Answers,
    /// Effects of the previous decisions of this reconcile that the API refused.
    pub refusals: Vec<Refusal>,
    /// An image whose program never ends when told `tekton_run_indefinitely`: the affinity assistant's (P-248).
    pub nop_image: String,
}
