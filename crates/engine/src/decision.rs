//! The boundary between deciding and doing: what a decision may ask, what it may want done, and how it is told.
//!
//! A controller calls `taskrun::reconcile` or `pipelinerun::reconcile` with what it has seen. If the decision has
//! `needs`, the controller finds the answers (all at once, from its caches when it can) and calls again; nothing else
//! of such a decision counts. Otherwise it applies the effects in order and writes metadata and status if they
//! changed. An effect the API refuses is told back through `refusals`, and the engine decides again.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    ConfigMap, LimitRange, PersistentVolumeClaim, Pod, Secret, ServiceAccount,
};
use serde_json::Value;
use tektite_api::v1::{Param, Pipeline, PipelineRun, RefSource, Task, TaskRun};
use tektite_api::v1beta1::{CustomRun, StepAction};

/// What should be true of one run, and what should happen in the world so that it comes true.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision<S> {
    /// The whole new status; the controller writes it only if it differs from the stored one.
    pub status: S,
    /// Labels to add to the run's metadata (never removed; a value given here wins over the stored one).
    pub labels: BTreeMap<String, String>,
    /// Annotations to add to the run's metadata.
    pub annotations: BTreeMap<String, String>,
    /// What to do, in this order, before the status is written. Empty while `needs` is not.
    pub effects: Vec<Effect>,
    /// Kubernetes events to record on the run.
    pub events: Vec<Event>,
    /// When to look again even if nothing changes; the controller may look earlier.
    pub wake: Option<Timestamp>,
    /// What must be known before anything can be decided.
    pub needs: Vec<Query>,
}

impl<S> Decision<S> {
    /// A decision that changes nothing but, possibly, the status.
    pub fn settled(status: S) -> Self {
        Self {
            status,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            effects: Vec::new(),
            events: Vec::new(),
            wake: None,
            needs: Vec::new(),
        }
    }

    /// A decision that cannot be taken before `needs` are answered.
    pub fn unanswered(status: S, needs: Vec<Query>) -> Self {
        Self {
            needs,
            ..Self::settled(status)
        }
    }

    /// Asks to be called again at `at`, or at the earlier time already asked for.
    pub fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |w| w.min(at)));
    }
}

/// An event on the run; the controller adds the involved object, its source and the times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Normal or Warning.
    pub type_: EventType,
    /// A CamelCase reason such as `Started`.
    pub reason: String,
    /// The text; may be empty.
    pub message: String,
}

impl Event {
    /// A `Normal` event.
    pub fn normal(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            type_: EventType::Normal,
            reason: reason.into(),
            message: message.into(),
        }
    }

    /// A `Warning` event.
    pub fn warning(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            type_: EventType::Warning,
            reason: reason.into(),
            message: message.into(),
        }
    }
}

/// The two types of Kubernetes events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// All is as it should be.
    Normal,
    /// Somebody should know.
    Warning,
}

impl EventType {
    /// The text that goes into the event's `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// One change to the world. Every object lives in the run's namespace, carries its name, namespace and owner
/// references, and is named deterministically: a create answered by `AlreadyExists` is a success, as is a delete or a
/// patch answered by `NotFound`.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Create a pod.
    CreatePod(Box<Pod>),
    /// Delete a pod.
    DeletePod {
        /// The pod's name.
        name: String,
    },
    /// Change a pod.
    PatchPod {
        /// The pod's name.
        name: String,
        /// The change.
        patch: Patch,
    },
    /// Create a volume claim; one that exists already is used as it is.
    CreatePvc(Box<PersistentVolumeClaim>),
    /// Change a volume claim.
    PatchPvc {
        /// The claim's name.
        name: String,
        /// The change.
        patch: Patch,
    },
    /// Delete a volume claim.
    DeletePvc {
        /// The claim's name.
        name: String,
    },
    /// Create a TaskRun.
    CreateTaskRun(Box<TaskRun>),
    /// Change a TaskRun.
    PatchTaskRun {
        /// The run's name.
        name: String,
        /// The change.
        patch: Patch,
    },
    /// Delete a TaskRun.
    DeleteTaskRun {
        /// The run's name.
        name: String,
    },
    /// Create a CustomRun.
    CreateCustomRun(Box<CustomRun>),
    /// Change a CustomRun.
    PatchCustomRun {
        /// The run's name.
        name: String,
        /// The change.
        patch: Patch,
    },
    /// Create a child PipelineRun.
    CreatePipelineRun(Box<PipelineRun>),
    /// Change a child PipelineRun.
    PatchPipelineRun {
        /// The run's name.
        name: String,
        /// The change.
        patch: Patch,
    },
    /// Create a StatefulSet (the affinity assistant).
    CreateStatefulSet(Box<StatefulSet>),
    /// Delete a StatefulSet.
    DeleteStatefulSet {
        /// The set's name.
        name: String,
    },
}

/// The two kinds of patches the engine writes.
#[derive(Clone, Debug, PartialEq)]
pub enum Patch {
    /// RFC 6902: a list of operations.
    Json(Vec<Value>),
    /// RFC 7386: an object to merge in.
    Merge(Value),
}

/// A question whose answer the engine needs. Answers hold for one reconcile (and its repetitions), not longer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Query {
    /// A Task of the cluster; answered by [`Found::Task`] (as v1).
    Task {
        /// Where it lives.
        namespace: String,
        /// What it is called.
        name: String,
    },
    /// A Pipeline of the cluster; answered by [`Found::Pipeline`] (as v1).
    Pipeline {
        /// Where it lives.
        namespace: String,
        /// What it is called.
        name: String,
    },
    /// A PipelineRun; answered by [`Found::PipelineRun`].
    PipelineRun {
        /// Where it lives.
        namespace: String,
        /// What it is called.
        name: String,
    },
    /// The PipelineRuns of a namespace that have not ended; answered by [`Found::PipelineRuns`].
    PipelineRuns {
        /// The namespace.
        namespace: String,
    },
    /// A TaskRun; answered by [`Found::TaskRun`].
    TaskRun {
        /// Where it lives.
        namespace: String,
        /// What it is called.
        name: String,
    },
    /// A TaskRun of a namespace that has succeeded with this value of the label `tektite.dev/cache-key`, the youngest if
    /// there are several; answered by [`Found::TaskRun`].
    Cached {
        /// The namespace.
        namespace: String,
        /// The label's value.
        key: String,
    },
    /// A CustomRun; answered by [`Found::CustomRun`].
    CustomRun {
        /// Where it lives.
        namespace: String,
        /// What it is called.
        name: String,
    },
    /// A StepAction of the cluster; answered by [`Found::StepAction`] (as v1beta1).
    StepAction {
        /// Where it lives.
        namespace: String,
        /// What it is called.
        name: String,
    },
    /// Something a resolver fetches; answered by [`Found::Remote`], or `Pending` while the request is under way.
    Remote(RemoteRef),
    /// Answered by [`Found::ServiceAccount`].
    ServiceAccount {
        /// Where it lives.
        namespace: String,
        /// What it is called.
        name: String,
    },
    /// Answered by [`Found::Secret`].
    Secret {
        /// Where it lives.
        namespace: String,
        /// What it is called.
        name: String,
    },
    /// Answered by [`Found::ConfigMap`].
    ConfigMap {
        /// Where it lives.
        namespace: String,
        /// What it is called.
        name: String,
    },
    /// Answered by [`Found::Pvc`].
    Pvc {
        /// Where it lives.
        namespace: String,
        /// What it is called.
        name: String,
    },
    /// Every LimitRange of a namespace, in the order of a list; answered by [`Found::LimitRanges`] (possibly empty).
    LimitRanges {
        /// The namespace.
        namespace: String,
    },
    /// The commands in an image's configuration, for every platform it offers; answered by [`Found::Image`].
    ImageConfig(ImageRef),
    /// All that a container has printed so far; answered by [`Found::Log`].
    Log {
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        pod: String,
        /// The container's name.
        container: String,
    },
}

/// What a remote request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RemoteKind {
    /// A Task (T-158).
    Task,
    /// A StepAction (T-165).
    StepAction,
    /// A Pipeline.
    Pipeline,
}

/// A request to a resolver. The controller turns it into a ResolutionRequest named after a hash of these fields and
/// the run, owned by the run, and validates what comes back with a dry-run create (T-160, T-161).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RemoteRef {
    /// What is wanted.
    pub kind: RemoteKind,
    /// The namespace of the run.
    pub namespace: String,
    /// Name of the run whose request it is. A PipelineRun that asks for a task names the TaskRun it will make, so
    /// that the two share one request (P-305).
    pub run: String,
    /// The resolver's name, for example `git`.
    pub resolver: String,
    /// `name` of the reference; a URL with the concise syntax (T-049), else empty.
    pub url: String,
    /// The resolver's params, after substitution.
    pub params: Vec<Param>,
}

/// An image to look up, and what may help to log in to its registry (T-257).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageRef {
    /// The reference as the step has it.
    pub image: String,
    /// The run's namespace.
    pub namespace: String,
    /// The run's service account; its `imagePullSecrets` count.
    pub service_account: String,
    /// Names of the podTemplate's `imagePullSecrets`.
    pub pull_secrets: Vec<String>,
    /// The step's `imagePullPolicy`, or empty: whether a stored image will do, where there is a store.
    pub pull_policy: String,
}

/// The answer to a [`Query`].
#[derive(Clone, Debug)]
pub enum Answer {
    /// Here it is.
    Found(Found),
    /// There is none. The text is what the API said, for example `tasks.tekton.dev "x" not found`.
    Missing {
        /// The API's message.
        message: String,
    },
    /// It cannot be had, now or later; what may be had later is not answered but retried by the controller (T-162).
    Failed(Failure),
    /// Somebody is at work on it; the controller calls again when that ends.
    Pending,
}

/// Why something asked for cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which stage failed.
    pub kind: FailureKind,
    /// The whole text.
    pub message: String,
}

/// The stages that can fail, because they lead to different condition reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Fetching it.
    Resolution,
    /// It was fetched but admission refuses it (T-161).
    Validation,
    /// Its signature is missing or wrong (T-396).
    Verification,
}

/// Things that can be found.
#[derive(Clone, Debug)]
pub enum Found {
    /// For [`Query::Task`].
    Task(Arc<Task>),
    /// For [`Query::Pipeline`].
    Pipeline(Arc<Pipeline>),
    /// For [`Query::PipelineRun`].
    PipelineRun(Arc<PipelineRun>),
    /// For [`Query::PipelineRuns`].
    PipelineRuns(Arc<Vec<Arc<PipelineRun>>>),
    /// For [`Query::TaskRun`] and [`Query::Cached`].
    TaskRun(Arc<TaskRun>),
    /// For [`Query::CustomRun`].
    CustomRun(Arc<CustomRun>),
    /// For [`Query::StepAction`].
    StepAction(Arc<StepAction>),
    /// For [`Query::Remote`].
    Remote(Arc<Remote>),
    /// For [`Query::ServiceAccount`].
    ServiceAccount(Arc<ServiceAccount>),
    /// For [`Query::Secret`].
    Secret(Arc<Secret>),
    /// For [`Query::ConfigMap`].
    ConfigMap(Arc<ConfigMap>),
    /// For [`Query::Pvc`].
    Pvc(Arc<PersistentVolumeClaim>),
    /// For [`Query::LimitRanges`].
    LimitRanges(Arc<Vec<LimitRange>>),
    /// For [`Query::ImageConfig`].
    Image(Arc<ImageCommands>),
    /// For [`Query::Log`].
    Log(Arc<str>),
}

/// What a resolver brought, validated, defaulted and converted to the storage version.
#[derive(Clone, Debug, PartialEq)]
pub struct Remote {
    /// The object.
    pub object: RemoteObject,
    /// Where it came from, for `status.provenance`.
    pub source: Option<RefSource>,
    /// What the trusted-resources check said.
    pub verification: Verification,
}

/// The object of a remote request.
#[derive(Clone, Debug, PartialEq)]
pub enum RemoteObject {
    /// For [`RemoteKind::Task`].
    Task(Box<Task>),
    /// For [`RemoteKind::Pipeline`].
    Pipeline(Box<Pipeline>),
    /// For [`RemoteKind::StepAction`].
    StepAction(Box<StepAction>),
}

/// Outcome of verifying a remote object (T-396); a failure is an [`Answer::Failed`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Verification {
    /// No policy looked at it: no condition.
    #[default]
    Skipped,
    /// All policies that must pass do.
    Passed,
    /// Only warned about, with this text.
    Warned(String),
}

/// The commands an image brings, by platform (T-258 to T-260).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageCommands {
    /// `<registry>/<repository>@<digest>`; of an index the index's digest. The reference as it was asked for if it
    /// stands for something of the local machine.
    pub pinned: String,
    /// Entrypoint and arguments by platform: `os/arch` for a single image, the descriptor's platform for an index.
    pub platforms: BTreeMap<String, ImageCommand>,
}

/// What one platform's image runs by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageCommand {
    /// `ENTRYPOINT`.
    pub entrypoint: Vec<String>,
    /// `CMD`.
    pub cmd: Vec<String>,
}

/// An effect that the API refused for good, or that must be decided about (quota, admission, conflict).
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The effect that failed; those after it were not tried, except children created side by side with it.
    pub effect: Effect,
    /// HTTP status code.
    pub code: u16,
    /// The `reason` of the API's Status, for example `Forbidden`.
    pub reason: String,
    /// The `message` of the API's Status.
    pub message: String,
    /// `details.kind` of the API's Status, for example `resourcequotas`; empty if there is none.
    pub kind: String,
}

/// The answers known so far, together with the questions a decision still has.
///
/// Asking for something unknown notes the question and returns [`Known::Unasked`]; a decision collects all it can
/// before it gives up, so that the controller can look everything up at once.
#[derive(Debug)]
pub struct Inquiry<'a> {
    answers: &'a Answers,
    needs: Vec<Query>,
}

/// Answers by question.
pub type Answers = BTreeMap<Query, Answer>;

/// What is known about one question.
#[derive(Clone, Copy, Debug)]
pub enum Known<'a> {
    /// Here it is.
    Found(&'a Found),
    /// There is none; with the API's message.
    Missing(&'a str),
    /// It cannot be had.
    Failed(&'a Failure),
    /// Somebody is at work on it.
    Pending,
    /// Not asked before; it is now among the needs.
    Unasked,
}

impl<'a> Inquiry<'a> {
    /// Starts from what is known.
    pub fn new(answers: &'a Answers) -> Self {
        Self {
            answers,
            needs: Vec::new(),
        }
    }

    /// Looks `query` up, or notes it.
    pub fn ask(&mut self, query: Query) -> Known<'a> {
        match self.answers.get(&query) {
            Some(Answer::Found(found)) => Known::Found(found),
            Some(Answer::Missing { message }) => Known::Missing(message),
            Some(Answer::Failed(failure)) => Known::Failed(failure),
            Some(Answer::Pending) => Known::Pending,
            None => {
                if !self.needs.contains(&query) {
                    self.needs.push(query);
                }
                Known::Unasked
            }
        }
    }

    /// The questions noted so far.
    pub fn needs(&self) -> &[Query] {
        &self.needs
    }

    /// Ends the inquiry with the questions still open.
    pub fn into_needs(self) -> Vec<Query> {
        self.needs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(name: &str) -> Query {
        Query::Task {
            namespace: "ns".into(),
            name: name.into(),
        }
    }

    #[test]
    fn an_unknown_question_is_noted_once_and_a_known_one_is_answered() {
        let answers = Answers::from([(
            task("gone"),
            Answer::Missing {
                message: "not found".into(),
            },
        )]);
        let mut inquiry = Inquiry::new(&answers);
        assert!(matches!(
            inquiry.ask(task("gone")),
            Known::Missing("not found")
        ));
        assert!(matches!(inquiry.ask(task("new")), Known::Unasked));
        assert!(matches!(inquiry.ask(task("new")), Known::Unasked));
        assert_eq!(inquiry.into_needs(), vec![task("new")]);
    }

    #[test]
    fn the_earlier_of_two_wake_times_wins() {
        let mut decision = Decision::settled(());
        decision.wake_at(Timestamp::from_second(20).unwrap());
        decision.wake_at(Timestamp::from_second(10).unwrap());
        decision.wake_at(Timestamp::from_second(30).unwrap());
        assert_eq!(decision.wake, Some(Timestamp::from_second(10).unwrap()));
    }
}
