//! One task of a pipeline within a run: its children, what it was resolved to, and the state it is in.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use tektite_api::names::task_run_reason;
use tektite_api::v1::{Condition, PipelineRun, PipelineSpec, PipelineTask, TaskRun, TaskSpec};
use tektite_api::v1beta1::CustomRun;

use super::cache::{CacheKey, Caching};
use crate::annotations;
use crate::when::Evaluated;

/// `statusMessage` of a TaskRun that its PipelineRun timed out (P-191).
pub(super) const TASK_RUN_TIMED_OUT: &str =
    "TaskRun cancelled as the PipelineRun it belongs to has timed out.";
/// `statusMessage` of a CustomRun that its PipelineRun timed out (P-191).
pub(super) const CUSTOM_RUN_TIMED_OUT: &str =
    "CustomRun cancelled as the PipelineRun it belongs to has timed out.";
/// Reason of a cancelled CustomRun (P-228).
const CUSTOM_RUN_CANCELLED: &str = "CustomRunCancelled";

/// `onError` that lets the pipeline go on.
pub(super) const CONTINUE: &str = "continue";

/// What a pipeline task makes when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// TaskRuns.
    Task,
    /// CustomRuns (P-009).
    Custom,
    /// PipelineRuns (P-213).
    Pipeline,
}

impl Kind {
    /// What `task` makes.
    pub(super) fn of(task: &PipelineTask) -> Self {
        let custom_ref = task
            .task_ref
            .as_ref()
            .is_some_and(|it| !it.api_version.is_empty() && !it.kind.is_empty());
        let custom_spec = task
            .task_spec
            .as_ref()
            .is_some_and(|it| !it.api_version.is_empty() && !it.kind.is_empty());
        if task.pipeline_ref.is_some() || task.pipeline_spec.is_some() {
            Self::Pipeline
        } else if custom_ref || custom_spec {
            Self::Custom
        } else {
            Self::Task
        }
    }

    /// As references to children name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Task => "TaskRun",
            Self::Custom => "CustomRun",
            Self::Pipeline => "PipelineRun",
        }
    }

    /// The API version that references to children carry (P-298).
    pub(super) fn api_version(self) -> &'static str {
        match self {
            Self::Custom => "tekton.dev/v1beta1",
            Self::Task | Self::Pipeline => "tekton.dev/v1",
        }
    }
}

/// A child object.
#[derive(Clone, Debug)]
pub(super) enum Child {
    Task(Arc<TaskRun>),
    Custom(Arc<CustomRun>),
    Pipeline(Arc<PipelineRun>),
}

impl Child {
    fn metadata(&self) -> &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
        match self {
            Self::Task(run) => &run.metadata,
            Self::Custom(run) => &run.metadata,
            Self::Pipeline(run) => &run.metadata,
        }
    }

    pub(super) fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    pub(super) fn created(&self) -> Option<Timestamp> {
        self.metadata()
            .creation_timestamp
            .as_ref()
            .map(|time| time.0)
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Task(_) => Kind::Task,
            Self::Custom(_) => Kind::Custom,
            Self::Pipeline(_) => Kind::Pipeline,
        }
    }

    pub(super) fn conditions(&self) -> &[Condition] {
        match self {
            Self::Task(run) => &run.status.conditions,
            Self::Custom(run) => &run.status.conditions,
            Self::Pipeline(run) => &run.status.conditions,
        }
    }

    /// Whether nothing ran, as an earlier TaskRun had done the same on the same files.
    pub(super) fn is_restored(&self) -> bool {
        match self {
            Self::Task(run) => run
                .status
                .annotations
                .contains_key(annotations::CACHED_FROM),
            Self::Custom(_) | Self::Pipeline(_) => false,
        }
    }

    fn is(&self, status: &str) -> bool {
        Condition::succeeded(self.conditions()).is_some_and(|condition| condition.status == status)
    }

    pub(super) fn succeeded(&self) -> bool {
        self.is("True")
    }

    pub(super) fn failed(&self) -> bool {
        self.is("False")
    }

    pub(super) fn ended(&self) -> bool {
        self.succeeded() || self.failed()
    }

    fn reason(&self) -> Option<&str> {
        self.conditions()
            .first()
            .map(|condition| condition.reason.as_str())
    }

    fn cancelled(&self) -> bool {
        let reason = match self {
            Self::Task(_) => task_run_reason::CANCELLED,
            Self::Custom(_) => CUSTOM_RUN_CANCELLED,
            Self::Pipeline(_) => return false,
        };
        self.failed()
            && Condition::succeeded(self.conditions())
                .is_some_and(|condition| condition.reason == reason)
    }

    fn timed_out_by_pipeline(&self) -> bool {
        let told = match self {
            Self::Task(run) => run.spec.status_message == TASK_RUN_TIMED_OUT,
            Self::Custom(run) => run.spec.status_message == CUSTOM_RUN_TIMED_OUT,
            Self::Pipeline(_) => false,
        };
        told && self.cancelled()
    }
}

/// The Task behind a pipeline task.
#[derive(Clone, Debug)]
pub(super) enum ResolvedSpec {
    /// The one within the pipeline task.
    Inline,
    /// Another, or the inline one with what only this reconcile knows filled in.
    Other {
        /// Name of the referenced Task; empty for an inline one.
        name: String,
        spec: Box<TaskSpec>,
        /// What the referenced Task says about caching.
        caching: Caching,
    },
}

/// The Pipeline behind a pipeline task.
#[derive(Clone, Debug, Default)]
pub(super) struct ResolvedPipeline {
    /// Name of the referenced Pipeline; empty for an inline one.
    pub name: String,
    pub spec: PipelineSpec,
}

/// One task of the pipeline as this reconcile sees it.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    /// The task with what is known filled in.
    pub task: PipelineTask,
    pub kind: Kind,
    /// Names that its children have or will have.
    pub names: Vec<String>,
    /// Children that exist.
    pub children: Vec<Child>,
    pub spec: Option<ResolvedSpec>,
    pub pipeline: Option<ResolvedPipeline>,
    pub evaluated: Evaluated,
    /// Results of all children of a matrixed task, once somebody has asked for one of them (P-160).
    pub gathered: BTreeMap<String, Vec<String>>,
    /// Some of its children were made and others are still to be, because the controller died in between.
    pub interrupted: bool,
    /// Its children were made by another run, and this one has taken them over.
    pub adopted: Option<Adopted>,
    /// What its outcome follows from, hashed, if its Task may be cached and it is about to start.
    pub cache_key: Option<CacheKey>,
}

/// Why children of another run stand in for a task's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Adopted {
    /// The run is a rerun of the one that made them.
    Inherited,
    /// They did the same before.
    Cached,
}

impl Resolved {
    /// The Task behind it, if it has one.
    pub(super) fn task_spec(&self) -> Option<&TaskSpec> {
        match self.spec.as_ref()? {
            ResolvedSpec::Inline => self.task.task_spec.as_ref().map(|embedded| &embedded.task),
            ResolvedSpec::Other { spec, .. } => Some(spec),
        }
    }

    /// Name of the referenced Task; empty for an inline one and for other kinds.
    pub(super) fn task_name(&self) -> &str {
        match &self.spec {
            Some(ResolvedSpec::Other { name, .. }) => name,
            _ => "",
        }
    }

    /// What its Task says about caching.
    pub(super) fn caching(&self) -> Caching {
        match &self.spec {
            Some(ResolvedSpec::Other { name, caching, .. }) if !name.is_empty() => caching.clone(),
            Some(_) => {
                let embedded = self.task.task_spec.as_ref();
                Caching::of(embedded.map(|it| &it.metadata.annotations))
            }
            None => Caching::default(),
        }
    }

    pub(super) fn succeeded(&self) -> bool {
        !self.interrupted && !self.children.is_empty() && self.children.iter().all(Child::succeeded)
    }

    /// All children have ended and at least one failed (P-117, P-211).
    pub(super) fn failed(&self) -> bool {
        !self.interrupted && self.any_failed() && self.all_ended()
    }

    /// Has children still to be made.
    pub(super) fn may_start(&self) -> bool {
        self.interrupted || self.children.is_empty()
    }

    pub(super) fn finished(&self) -> bool {
        self.succeeded() || self.failed()
    }

    pub(super) fn any_failed(&self) -> bool {
        self.children.iter().any(Child::failed)
    }

    fn all_ended(&self) -> bool {
        self.children.iter().all(Child::ended)
    }

    pub(super) fn is_running(&self) -> bool {
        !self.children.is_empty() && !self.finished()
    }

    /// Has children that count: child PipelineRuns do not (P-221).
    pub(super) fn is_scheduled(&self) -> bool {
        self.kind != Kind::Pipeline && !self.children.is_empty()
    }

    pub(super) fn cancelled(&self) -> bool {
        !self.interrupted && self.all_ended() && self.children.iter().any(Child::cancelled)
    }

    pub(super) fn timed_out_by_pipeline(&self) -> bool {
        !self.interrupted
            && self.all_ended()
            && self.children.iter().any(Child::timed_out_by_pipeline)
    }

    pub(super) fn continues_on_error(&self) -> bool {
        self.task.on_error == CONTINUE
    }

    /// `tasks.<t>.reason` (P-177).
    pub(super) fn reason(&self) -> &str {
        let bad = self
            .children
            .iter()
            .filter(|child| !child.succeeded())
            .find_map(Child::reason);
        bad.or_else(|| self.children.first().and_then(Child::reason))
            .unwrap_or_default()
    }

    /// `tasks.<t>.status` (P-176).
    pub(super) fn state(&self) -> &'static str {
        if self.succeeded() {
            "Succeeded"
        } else if self.any_failed() {
            "Failed"
        } else {
            "None"
        }
    }

    /// Collects the results of a matrixed task in the order of its children's names (P-209).
    pub(super) fn gather(&mut self) {
        if !self.gathered.is_empty() {
            return;
        }
        self.children.sort_by(|a, b| a.name().cmp(b.name()));
        for child in &self.children {
            let Child::Task(run) = child else { continue };
            for result in &run.status.results {
                let text = result.value.as_str().unwrap_or_default().to_owned();
                self.gathered
                    .entry(result.name.clone())
                    .or_default()
                    .push(text);
            }
        }
    }
}
