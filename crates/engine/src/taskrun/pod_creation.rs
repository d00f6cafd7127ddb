//! The run's pod: found, or created; what comes of it goes into the status (T-154, T-352 to T-358, T-379 to T-381).

use k8s_openapi::api::core::v1::Pod;
use tektite_api::names::task_run_reason as reason;
use tektite_api::v1::{TaskResult, TaskRun, TaskSpec, WorkspaceBinding};

use super::condition;
use super::ending::{self, named_pod};
use super::failure::{self, phase};
use super::pass::{Pass, Prepared, Unanswered};
use super::pod::CacheInputs;
use super::restore::{self, Restored};
use super::status::{self, RESULTS_SIDECAR, Sources, from_sidecar_logs};
use super::termination::{Entry, Kind};
use super::{pod, results, workspaces};
use crate::cache;
use crate::decision::{Effect, Event, Found, Known, Query, Refusal};
use crate::substitution::Replacements;

/// Follows the run's pod, or creates it.
pub(super) fn follow_or_create(pass: &mut Pass<'_>, prepared: &Prepared) -> Result<(), Unanswered> {
    let existing = find(pass);
    let mut bindings = prepared.bindings.clone();
    let mut claims = Vec::new();
    if existing.is_none() {
        let owner = pod::owner(&pass.run);
        claims.extend(
            bindings
                .iter()
                .filter_map(|b| workspaces::claim(b, pass.namespace(), &owner)),
        );
        bindings = bindings
            .iter()
            .map(|b| workspaces::with_claim(b, &owner.uid))
            .collect();
        if let Some(refusal) = refused(pass, |e| matches!(e, Effect::CreatePvc(_))) {
            let claim = match &refusal.effect {
                Effect::CreatePvc(claim) => claim.metadata.name.clone().unwrap_or_default(),
                _ => String::new(),
            };
            let quota = refusal.code == 403 && refusal.message.contains("exceeded quota");
            let retryable = if quota || refusal.code == 409 {
                ", retryable"
            } else {
                ""
            };
            let message = format!(
                "failed to create PVC for TaskRun {}/{} workspaces correctly: PVC creation error{retryable} for {claim}: {}",
                pass.namespace(),
                pass.name(),
                refusal.message
            );
            pass.give_up("CouldntCreateWorkspacePVC", message);
            return Ok(());
        }
    }
    let spec = prepared.substitute(&pass.run, &mut bindings);
    pass.run.status.task_spec = Some(spec.clone());
    match existing {
        Some(pod) => follow(pass, prepared, pod),
        None => {
            pass.effects
                .extend(claims.into_iter().map(|c| Effect::CreatePvc(Box::new(c))));
            create(pass, spec, &bindings)
        }
    }
}

fn refused<'p>(pass: &Pass<'p>, test: impl Fn(&Effect) -> bool) -> Option<&'p Refusal> {
    let seen = pass.seen;
    seen.refusals.iter().find(|r| test(&r.effect))
}

/// The pod named in status, or one of this run that is neither failed nor of an earlier attempt (T-154).
fn find<'p>(pass: &Pass<'p>) -> Option<&'p Pod> {
    let run_status = &pass.run.status;
    if !run_status.pod_name.is_empty() {
        return named_pod(pass);
    }
    let uid = pass.run.metadata.uid.as_deref().unwrap_or_default();
    let seen = pass.seen;
    seen.pods.iter().map(AsRef::as_ref).rfind(|pod| {
        let owners = pod.metadata.owner_references.iter().flatten();
        let ours = owners
            .into_iter()
            .any(|o| o.controller == Some(true) && o.uid == uid);
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        ours && !failure::has_failed(pod)
            && !run_status.retries_status.iter().any(|r| r.pod_name == name)
    })
}

fn follow(pass: &mut Pass<'_>, prepared: &Prepared, pod: &Pod) -> Result<(), Unanswered> {
    let logged = match logged_results(pass, prepared, pod)? {
        Ok(logged) => logged,
        Err(too_large) => {
            let message = format!(
                "[User error]  TaskRun \"{:?}\" failed: {too_large}",
                pass.name()
            );
            pass.run.status.pod_name = pod.metadata.name.clone().unwrap_or_default();
            ending::fail(pass, reason::RESULT_LARGER_THAN_ALLOWED_LIMIT, &message);
            return Ok(());
        }
    };
    if failure::exceeds_node_resources(pod) {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        pass.events.push(Event::warning(
            "ExceededNodeResources",
            format!("Insufficient resources to schedule pod {name:?}"),
        ));
    }
    let restored = restore::restore(pass, pod)?;
    if let Restored::Yes = restored {
        return Ok(());
    }
    let released = ending::release_first_step(pass, pod);
    if let (Restored::Unknown(why), true) = (restored, released) {
        pass.events.push(Event::warning(
            "CacheInputsUnknown",
            format!("what is in the workspaces cannot be told, so nothing is looked for: {why}"),
        ));
    }
    let from = Sources {
        spec: &prepared.spec,
        logged: &logged,
        config: pass.config,
        now: pass.now,
    };
    let mut run_status = std::mem::take(&mut pass.run.status);
    let errors = status::follow_pod(&mut run_status, &pass.run, pod, &from);
    pass.run.status = run_status;
    if !errors.is_empty() {
        pass.events
            .push(Event::warning("InternalError", errors.join("\n")));
        return Ok(());
    }
    let inline: Vec<TaskResult> = pass
        .run
        .spec
        .task_spec
        .as_ref()
        .map(|s| s.results.clone())
        .unwrap_or_default();
    let declared: Vec<&TaskResult> = inline.iter().chain(&prepared.spec.results).collect();
    if let Err(message) = results::check(&mut pass.run.status.results, &declared) {
        pass.give_up(reason::FAILED_VALIDATION, message);
    }
    Ok(())
}

/// Entries of the results sidecar's log, or why they are too many (T-317 to T-319).
fn logged_results(
    pass: &mut Pass<'_>,
    prepared: &Prepared,
    pod: &Pod,
) -> Result<Result<Vec<Entry>, String>, Unanswered> {
    let wanted =
        !prepared.spec.results.is_empty() || results::artifacts_referenced(&prepared.spec.steps);
    if !from_sidecar_logs(pass.config) || !wanted || matches!(phase(pod), "Pending" | "") {
        return Ok(Ok(Vec::new()));
    }
    let query = Query::Log {
        namespace: pass.namespace().to_owned(),
        pod: pod.metadata.name.clone().unwrap_or_default(),
        container: RESULTS_SIDECAR.to_owned(),
    };
    match pass.inquiry.ask(query) {
        Known::Found(Found::Log(text)) => {
            Ok(read_log(text, pass.config.feature_flags.max_result_size))
        }
        Known::Unasked => Err(Unanswered),
        _ => Ok(Ok(Vec::new())),
    }
}

fn read_log(text: &str, largest: i64) -> Result<Vec<Entry>, String> {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Line {
        name: String,
        value: String,
        #[serde(rename = "type")]
        kind: String,
    }
    let mut entries = Vec::new();
    for line in text.lines().filter(|l| !l.is_empty()) {
        let size = i64::try_from(line.len()).unwrap_or(i64::MAX);
        if size > largest {
            return Err(format!(
                "{size} bytes results size exceeds configured limit of {largest} bytes"
            ));
        }
        let Ok(line) = serde_json::from_str::<Line>(line) else {
            continue;
        };
        let kind = match line.kind.as_str() {
            "task" => Kind::TaskResult,
            "step" => Kind::StepResult,
            "stepArtifact" => Kind::StepArtifacts,
            "taskArtifact" => Kind::TaskArtifacts,
            _ => continue,
        };
        entries.push(Entry {
            key: line.name,
            value: line.value,
            kind,
        });
    }
    Ok(entries)
}

fn create(
    pass: &mut Pass<'_>,
    mut spec: TaskSpec,
    bindings: &[WorkspaceBinding],
) -> Result<(), Unanswered> {
    if let Some(refusal) = refused(pass, |e| matches!(e, Effect::CreatePod(_))) {
        refuse(pass, refusal);
        pass.effects.clear();
        return Ok(());
    }
    let wrong = tektite_api::admission::resolved_task(&spec, pass.config);
    if !wrong.is_empty() {
        pass.effects.clear();
        cannot_create(pass, &wrong.to_string());
        return Ok(());
    }
    let volumes = workspaces::volumes(bindings);
    workspaces::mount(&mut spec, bindings, &volumes);
    let cache_inputs = cache::told(&pass.run)
        .map(|(_, contents)| CacheInputs::new(&contents, &spec, bindings, &volumes));
    Replacements::of_strings([("credentials.path", "/tekton/creds")]).apply_task_spec(&mut spec);
    let mut run: TaskRun = pass.run.clone();
    if let Some(template) = &mut run.spec.pod_template {
        Replacements::of_params(&spec.params, &run.spec.params).apply_pod_template(template);
    }
    let seen = pass.seen;
    match pod::build(
        &run,
        &spec,
        cache_inputs,
        pass.config,
        &seen.pod_options,
        &mut pass.inquiry,
    ) {
        Ok(None) => return Err(Unanswered),
        Ok(Some(built)) => {
            let name = built.pod.metadata.name.clone().unwrap_or_default();
            if !built.missing_secrets.is_empty() {
                let missing = built.missing_secrets.join(", ");
                pass.events.push(Event::warning(
                    "FailedToRetrieveSecret",
                    format!("Unable to retrieve some secrets ({missing}); attempting to use them may not succeed."),
                ));
            }
            if built.affinity_overwritten {
                pass.events.push(Event::warning(
                    "PodAffinityOverwrite",
                    format!("Pod template affinity is overwritten by affinity assistant for pod {name:?}"),
                ));
            }
            pass.run.status.pod_name = name;
            // The API server gives every new pod this phase, with nothing more to say about it (T-353).
            condition::ongoing(&mut pass.run.status, "Pending", "Pending", pass.now);
            pass.effects.push(Effect::CreatePod(Box::new(built.pod)));
        }
        Err(error) if error.0.contains("TaskRun validation failed") => {
            pass.effects.clear();
            pass.give_up(
                reason::FAILED_VALIDATION,
                format!("translating TaskSpec to Pod: {error}"),
            );
        }
        Err(error) => {
            pass.effects.clear();
            cannot_create(pass, &format!("translating TaskSpec to Pod: {error}"));
        }
    }
    Ok(())
}

/// The API refused the pod.
fn refuse(pass: &mut Pass<'_>, refusal: &Refusal) {
    let message = refusal.message.as_str();
    let forbidden = refusal.code == 403;
    let run_status = &mut pass.run.status;
    if refusal.code == 409 && refusal.kind == "resourcequotas" {
        run_status.start_time = None;
        let text = "tried to create pod, but it failed with ResourceQuotaConflictError";
        condition::ongoing(run_status, "Pending", text, pass.now);
        pass.wake_after(jiff::SignedDuration::from_secs(1));
    } else if forbidden && message.contains("exceeded quota") {
        run_status.start_time = None;
        let text = format!("TaskRun Pod exceeded available resources: {message}");
        condition::ongoing(run_status, "ExceededResourceQuota", text, pass.now);
        pass.wake_after(jiff::SignedDuration::from_mins(1));
    } else if message.contains("TaskRun validation failed") {
        pass.give_up(reason::FAILED_VALIDATION, message.to_owned());
    } else if refusal.reason == "AlreadyExists" {
        condition::ongoing(
            run_status,
            "Pending",
            "tried to create pod, but it already exists",
            pass.now,
        );
        pass.wake_after(jiff::SignedDuration::from_secs(1));
    } else if forbidden
        && (message.contains("violates PodSecurity")
            || message.contains("security context constraint"))
    {
        pass.give_up("PodAdmissionFailed", message.to_owned());
    } else {
        cannot_create(pass, message);
    }
}

/// T-379
fn cannot_create(pass: &mut Pass<'_>, error: &str) {
    let what = match &pass.run.spec.task_ref {
        Some(reference) => format!(
            "missing or invalid Task {}/{}",
            pass.namespace(),
            reference.name
        ),
        None => "invalid TaskSpec".to_owned(),
    };
    let message = format!(
        "failed to create task run pod {:?}: {error}. Maybe {what}",
        pass.name()
    );
    pass.give_up(reason::POD_CREATION_FAILED, message);
}
