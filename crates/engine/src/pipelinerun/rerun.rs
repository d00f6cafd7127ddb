//! Reruns: what a run takes over from an earlier one. Tasks that need not run again keep the children, and so the outcome
//! and the results, that they had there.

use std::collections::{BTreeMap, BTreeSet};

use tektite_api::v1::{
    ChildStatusReference, Condition, PipelineRun, PipelineSpec, PipelineTask, SkippedTask,
};

use super::facts::Skip;
use super::substitute::{self, Pass};
use super::task::CONTINUE;
use super::{defaults, params};
use crate::annotations;
use crate::references;

/// The reason of a rerun that cannot take over from the earlier run.
pub const REFUSED: &str = "RerunRefused";

/// What a rerun takes over, and what it does itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// References to the children of the tasks that are taken over.
    pub inherited: Vec<ChildStatusReference>,
    /// Names of the tasks that will run, as far as their conditions let them, in the order of the pipeline.
    pub to_run: Vec<String>,
}

impl Plan {
    /// The tasks that are taken over, in the order of their names.
    #[must_use]
    pub fn tasks(&self) -> BTreeSet<&str> {
        let tasks = self.inherited.iter();
        tasks
            .map(|child| child.pipeline_task_name.as_str())
            .collect()
    }
}

/// The earlier run that `run` is a rerun of.
#[must_use]
pub fn earlier(run: &PipelineRun) -> Option<&str> {
    annotation(run, annotations::RERUN_OF)
}

/// What `rerun` takes over from `earlier`. `pipeline` is the pipeline as it is now, before anything is filled in, called
/// `name`; `conditions` gives those of a child of the earlier run, or nothing if the child is gone.
///
/// # Errors
/// Why nothing can be taken over, in words for the user.
pub fn plan<'c>(
    rerun: &PipelineRun,
    earlier: &PipelineRun,
    pipeline: &PipelineSpec,
    name: &str,
    conditions: impl Fn(&ChildStatusReference) -> Option<&'c [Condition]>,
) -> Result<Plan, String> {
    let called = earlier.metadata.name.as_deref().unwrap_or_default();
    let uid = annotation(rerun, annotations::RERUN_OF_UID);
    if uid.is_some() && uid != earlier.metadata.uid.as_deref() {
        return Err(format!(
            "PipelineRun {called:?} is not the one that was meant: it was deleted and made again"
        ));
    }
    if !earlier.is_done() {
        return Err(format!(
            "PipelineRun {called:?} has not ended: wait for it or cancel it"
        ));
    }
    let Some(before) = &earlier.status.pipeline_spec else {
        return Err(format!(
            "PipelineRun {called:?} ended before it had a pipeline: start a new run"
        ));
    };
    let now = as_in(earlier, rerun, pipeline, name)?;
    let from: BTreeSet<&str> = annotation(rerun, annotations::RERUN_FROM)
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|task| !task.is_empty())
        .collect();
    if let Some(unknown) = from
        .iter()
        .find(|task| !now.tasks.iter().any(|it| it.name == **task))
    {
        return Err(format!(
            "the pipeline has no task {unknown:?} to start from"
        ));
    }
    let mut children: BTreeMap<&str, Vec<&ChildStatusReference>> = BTreeMap::new();
    for child in &earlier.status.child_references {
        children
            .entry(&child.pipeline_task_name)
            .or_default()
            .push(child);
    }
    let finished = |task: &PipelineTask| {
        let children = children.get(task.name.as_str());
        children.is_some_and(|children| {
            children.iter().all(|child| {
                let condition = conditions(child).and_then(Condition::succeeded);
                condition.is_some_and(|it| {
                    it.status == "True" || (it.status == "False" && task.on_error == CONTINUE)
                })
            })
        })
    };
    // What its own conditions kept from running is asked again, and answers the same unless its inputs change.
    let passed_over = |name: &str| {
        let when = |it: &SkippedTask| it.name == name && it.reason == Skip::When.reason();
        earlier.status.skipped_tasks.iter().any(when)
    };
    let mut again: BTreeSet<&str> = now
        .tasks
        .iter()
        .filter(|task| {
            from.contains(task.name.as_str()) || (!finished(task) && !passed_over(&task.name))
        })
        .map(|task| task.name.as_str())
        .collect();
    // What depends on something that runs again runs again.
    loop {
        let known = again.len();
        for task in &now.tasks {
            if references::dependencies(task)
                .iter()
                .any(|on| again.contains(on.as_str()))
            {
                again.insert(&task.name);
            }
        }
        if again.len() == known {
            break;
        }
    }
    let mut plan = Plan::default();
    for task in &now.tasks {
        if again.contains(task.name.as_str()) || !finished(task) {
            plan.to_run.push(task.name.clone());
            continue;
        }
        let old = before.tasks.iter().find(|it| it.name == task.name);
        if !old.is_some_and(|old| same(old, task)) {
            return Err(format!(
                "task {:?} has changed since PipelineRun {called:?} ran it: name it with --from, or start a new run",
                task.name
            ));
        }
        let own = children.get(task.name.as_str()).into_iter().flatten();
        plan.inherited.extend(own.map(|child| (*child).clone()));
    }
    if again.is_empty() && earlier.succeeded().is_some_and(|it| it.status == "True") {
        return Err(format!(
            "PipelineRun {called:?} has nothing that failed: say with --from where to start"
        ));
    }
    lost_files(rerun, &now, &again, &plan)?;
    Ok(plan)
}

/// The pipeline as the earlier run would have it with the rerun's params, so that the two can be compared.
fn as_in(
    earlier: &PipelineRun,
    rerun: &PipelineRun,
    pipeline: &PipelineSpec,
    name: &str,
) -> Result<PipelineSpec, String> {
    let mut spec = pipeline.clone();
    defaults::pipeline(&mut spec);
    let values = params::of_run_and_defaults(&spec.params, &rerun.spec.params)?;
    Pass::new(values).pipeline(&mut spec);
    substitute::apply_contexts(&mut spec, name, earlier);
    substitute::apply_workspaces(&mut spec, rerun);
    Ok(spec)
}

/// Whether a task does what it did; how long it may take and what it is called do not matter.
fn same(old: &PipelineTask, new: &PipelineTask) -> bool {
    let essence = |task: &PipelineTask| PipelineTask {
        display_name: String::new(),
        description: String::new(),
        timeout: None,
        retries: 0,
        on_error: String::new(),
        ..task.clone()
    };
    essence(old) == essence(new)
}

/// A workspace that is made anew for the rerun lacks the files of the tasks that are taken over.
fn lost_files(
    rerun: &PipelineRun,
    now: &PipelineSpec,
    again: &BTreeSet<&str>,
    plan: &Plan,
) -> Result<(), String> {
    let uses = |task: &PipelineTask, workspace: &str| {
        let mut bound = task.workspaces.iter();
        bound.any(|it| {
            it.workspace == workspace || (it.workspace.is_empty() && it.name == workspace)
        })
    };
    let inherited = plan.tasks();
    for binding in &rerun.spec.workspaces {
        if binding.volume_claim_template.is_none() {
            continue;
        }
        let used_by = |names: &dyn Fn(&str) -> bool| {
            let mut tasks = now.tasks.iter().filter(|task| names(&task.name));
            tasks.any(|task| uses(task, &binding.name))
        };
        if used_by(&|name| inherited.contains(name)) && used_by(&|name| again.contains(name)) {
            return Err(format!(
                "workspace {:?} would be a new, empty volume, without the files of the tasks that are taken over: bind it \
                 to the earlier run's claim",
                binding.name
            ));
        }
    }
    Ok(())
}

/// The name of the claim that `run` made of a workspace's template, where that lasts as long as the run (P-239).
#[must_use]
pub fn claim_of(run: &PipelineRun, binding: &tektite_api::v1::WorkspaceBinding) -> String {
    super::names::claim(binding, run.metadata.uid.as_deref().unwrap_or_default())
}

fn annotation<'r>(run: &'r PipelineRun, key: &str) -> Option<&'r str> {
    let value = run.metadata.annotations.as_ref()?.get(key)?;
    (!value.is_empty()).then_some(value)
}
