//! Annotations by which runs ask for what Tekton does not have, and by which we say what came of it. Plain Tekton ignores
//! them all.

/// What they all begin with.
pub const PREFIX: &str = "tektite.dev/";
/// All of those below.
pub const ALL: [&str; 15] = [
    RERUN_OF,
    RERUN_OF_UID,
    RERUN_FROM,
    INHERITED,
    CONCURRENCY_KEY,
    CONCURRENCY_LIMIT,
    CONCURRENCY_POLICY,
    CONCURRENCY_PRIORITY,
    MAX_PARALLEL_TASKS,
    CACHE,
    CACHE_INPUTS,
    CACHE_WORKSPACES,
    CACHE_BASIS,
    CACHED_FROM,
    CACHED,
];
/// On a PipelineRun: the name of the PipelineRun of which it is a rerun.
pub const RERUN_OF: &str = "tektite.dev/rerun-of";
/// On a rerun: the UID of that run.
pub const RERUN_OF_UID: &str = "tektite.dev/rerun-of-uid";
/// On a rerun: tasks to run again even though they have succeeded, separated by commas; what depends on them runs too.
pub const RERUN_FROM: &str = "tektite.dev/rerun-from";
/// In the status of a rerun: tasks taken over from the earlier run, separated by commas.
pub const INHERITED: &str = "tektite.dev/inherited";

/// On a PipelineRun: the key that it shares with runs beside which it may not run; may hold `$(params.…)`,
/// `$(context.…)` and `$(labels.…)`. Keys are compared within a namespace.
pub const CONCURRENCY_KEY: &str = "tektite.dev/concurrency-key";
/// How many runs of the key may run at once; 1 unless given.
pub const CONCURRENCY_LIMIT: &str = "tektite.dev/concurrency-limit";
/// What happens when there are more: `queue` (unless given), `cancel-previous` or `cancel-new`.
pub const CONCURRENCY_POLICY: &str = "tektite.dev/concurrency-policy";
/// Who of the queue comes first: a whole number, the higher the earlier; 0 unless given.
pub const CONCURRENCY_PRIORITY: &str = "tektite.dev/concurrency-priority";
/// How many tasks of the run may run at once.
pub const MAX_PARALLEL_TASKS: &str = "tektite.dev/max-parallel-tasks";

/// On a Task, or in the metadata of an inline one: `true` says that its outcome follows from its definition, its params,
/// its images and what [`CACHE_INPUTS`] declares, so that it need not run where it has succeeded before.
pub const CACHE: &str = "tektite.dev/cache";
/// On such a Task: what its outcome follows from besides, such as a commit; may hold `$(params.…)`.
pub const CACHE_INPUTS: &str = "tektite.dev/cache-inputs";
/// On such a Task: what of its workspaces its outcome follows from, as a list of `<workspace>` and `<workspace>/<path>`; may
/// hold `$(params.…)`. On a TaskRun made of it, with the params filled in.
pub const CACHE_WORKSPACES: &str = "tektite.dev/cache-workspaces";
/// On a TaskRun: what its outcome follows from, but for the contents of its workspaces, hashed.
pub const CACHE_BASIS: &str = "tektite.dev/cache-basis";
/// In the status of a TaskRun: the earlier one whose outcome it has.
pub const CACHED_FROM: &str = "tektite.dev/cached-from";
/// Label of a TaskRun that may stand in for others: what its outcome follows from, hashed.
pub const CACHE_KEY: &str = "tektite.dev/cache-key";
/// In the status of a PipelineRun: tasks whose outcome is that of an earlier TaskRun, separated by commas.
pub const CACHED: &str = "tektite.dev/cached";
