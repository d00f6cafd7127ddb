//! The task cache where it depends on what is in workspaces: the pod tells, before its first step may start, and the outcome
//! of an earlier TaskRun with the same contents is taken over. Off unless the PipelineRun asks for it.

use k8s_openapi::api::core::v1::Pod;
use tektite_api::v1::TaskRun;

use super::condition::{self, seconds};
use super::ending::is_released;
use super::failure::pod_status;
use super::pass::{Pass, Unanswered};
use super::pod::CACHE_INPUTS;
use crate::annotations;
use crate::cache;
use crate::decision::{Effect, Found, Known, Query};

/// What comes of looking for an earlier TaskRun.
pub(super) enum Restored {
    /// The run has its outcome, and has ended.
    Yes,
    /// The steps are to run.
    No,
    /// They are, and what is in the workspaces cannot be told for this reason.
    Unknown(String),
}

/// Takes over what an earlier TaskRun came to, if one did the same on the same contents.
pub(super) fn restore(pass: &mut Pass<'_>, pod: &Pod) -> Result<Restored, Unanswered> {
    let Some((basis, _)) = cache::told(&pass.run).filter(|_| !is_released(pod)) else {
        return Ok(Restored::No);
    };
    let digest = match told(pod) {
        None => return Ok(Restored::No),
        Some(Err(error)) => return Ok(Restored::Unknown(error)),
        Some(Ok(digest)) => digest,
    };
    let key = basis.with_contents(&digest);
    if key.labels(&pass.run.metadata) {
        // Looked for already.
        return Ok(Restored::No);
    }
    let query = Query::Cached {
        namespace: pass.namespace().to_owned(),
        key: key.0.clone(),
    };
    match pass.inquiry.ask(query) {
        Known::Unasked => Err(Unanswered),
        Known::Found(Found::TaskRun(earlier)) if key.is_met_by(earlier) => {
            let earlier = earlier.clone();
            take_over(pass, &earlier);
            Ok(Restored::Yes)
        }
        _ => {
            let labels = pass.run.metadata.labels.get_or_insert_default();
            labels.insert(annotations::CACHE_KEY.to_owned(), key.0);
            Ok(Restored::No)
        }
    }
}

/// The digest that the container left, or why there is none; nothing while it runs.
fn told(pod: &Pod) -> Option<Result<String, String>> {
    let statuses = pod_status(pod).init_container_statuses.as_deref()?;
    let own = statuses.iter().find(|it| it.name == CACHE_INPUTS)?;
    let ended = own.state.as_ref()?.terminated.as_ref()?;
    let message = ended.message.as_deref().unwrap_or_default().trim();
    Some(match message.strip_prefix("sha256:") {
        Some(digest) => Ok(digest.to_owned()),
        None if message.is_empty() => Err("the container left no word".to_owned()),
        None => Err(message.trim_start_matches("error: ").to_owned()),
    })
}

/// The steps, results and artifacts are the earlier run's, and so is the pod, which has their logs.
fn take_over(pass: &mut Pass<'_>, earlier: &TaskRun) {
    let name = earlier.metadata.name.clone().unwrap_or_default();
    let status = &mut pass.run.status;
    let own = std::mem::replace(&mut status.pod_name, earlier.status.pod_name.clone());
    status.steps.clone_from(&earlier.status.steps);
    status.sidecars.clone_from(&earlier.status.sidecars);
    status.results.clone_from(&earlier.status.results);
    status.artifacts.clone_from(&earlier.status.artifacts);
    let message = format!("Nothing ran: TaskRun {name:?} succeeded with the same inputs");
    status
        .annotations
        .insert(annotations::CACHED_FROM.to_owned(), name);
    condition::done_well(status, message, pass.now);
    status.completion_time = Some(seconds(pass.now));
    pass.effects.push(Effect::DeletePod { name: own });
}
