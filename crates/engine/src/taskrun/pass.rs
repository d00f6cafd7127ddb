//! One pass over a TaskRun, in upstream's order (T-147).

use std::collections::BTreeMap;

use jiff::Timestamp;
use tektite_api::config::Config;
use tektite_api::names::{annotation, label, task_run_reason as reason};
use tektite_api::v1::{
    Condition, PodTemplate, Provenance, TaskRun, TaskRunSpec, TaskRunStatus, TaskSpec,
    WorkspaceBinding,
};

use super::condition::{self, seconds};
use super::resolve::{self, Resolved, Unresolved};
use super::{Observed, ending, pod_creation, timeout, validate, workspaces};
use crate::decision::{Decision, Effect, Event, Inquiry, Query, Verification};
use crate::substitution::{self, Replacements};
use crate::trace;

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The run as this pass has it so far, and what is to be done.
pub(super) struct Pass<'a> {
    /// As stored.
    stored: &'a TaskRun,
    /// With what the pass has changed, in memory.
    pub run: TaskRun,
    pub seen: &'a Observed,
    pub config: &'a Config,
    pub now: Timestamp,
    pub inquiry: Inquiry<'a>,
    pub effects: Vec<Effect>,
    pub events: Vec<Event>,
    pub wake: Option<Timestamp>,
}

/// A pass that cannot go on before questions are answered.
pub(super) struct Unanswered;

impl<'a> Pass<'a> {
    pub fn new(run: &'a TaskRun, seen: &'a Observed, config: &'a Config, now: Timestamp) -> Self {
        Self {
            stored: run,
            run: run.clone(),
            seen,
            config,
            now,
            inquiry: Inquiry::new(&seen.answers),
            effects: Vec::new(),
            events: Vec::new(),
            wake: None,
        }
    }

    pub fn run(mut self) -> Decision<TaskRunStatus> {
        match self.step() {
            Ok(()) => self.decision(),
            Err(Unanswered) => {
                Decision::unanswered(self.stored.status.clone(), self.inquiry.into_needs())
            }
        }
    }

    fn decision(self) -> Decision<TaskRunStatus> {
        let added = |now: Option<BTreeMap<String, String>>,
                     before: &Option<BTreeMap<String, String>>| {
            let stored = |k: &str| before.as_ref().and_then(|b| b.get(k));
            now.into_iter()
                .flatten()
                .filter(|(k, v)| stored(k) != Some(v))
                .collect::<BTreeMap<_, _>>()
        };
        Decision {
            labels: added(self.run.metadata.labels, &self.stored.metadata.labels),
            annotations: added(
                self.run.metadata.annotations,
                &self.stored.metadata.annotations,
            ),
            status: self.run.status,
            effects: self.effects,
            events: self.events,
            wake: self.wake,
            needs: Vec::new(),
        }
    }

    fn step(&mut self) -> Result<(), Unanswered> {
        if !self.run.is_done() {
            // T-148: a finished run keeps the release that ran it.
            let release = self.seen.pod_options.release.clone();
            self.run
                .metadata
                .annotations
                .get_or_insert_default()
                .insert(annotation::RELEASE.into(), release);
        }
        if !self.run.is_done() {
            trace::adopt(
                &mut self.run.status.span_context,
                &self.run.metadata,
                annotation::TASK_RUN_SPAN_CONTEXT,
                &self.config.tracing,
            );
        }
        let before = self.succeeded();
        let pending = self.run.spec.status == TaskRunSpec::PENDING;
        if self.run.status.start_time.is_none() && !pending && !self.run.is_done() {
            self.start();
        }
        if self.run.is_done() {
            ending::stop_sidecars(self);
            self.finish(before);
            return Ok(());
        }
        if self.run.is_cancelled() {
            let message = format!(
                "TaskRun {:?} was cancelled. {}",
                self.name(),
                self.run.spec.status_message
            );
            ending::fail(
                self,
                reason::CANCELLED,
                &ending::with_previous(before.as_ref(), message),
            );
            self.finish(before);
            return Ok(());
        }
        if pending {
            let message = format!("TaskRun {:?} is pending", self.name());
            condition::ongoing(&mut self.run.status, reason::PENDING, message, self.now);
            self.finish(before);
            return Ok(());
        }
        if ending::has_timed_out(self) {
            ending::refresh_steps(self);
            let limit = timeout(&self.run, self.config);
            let message = format!(
                "TaskRun {:?} failed to finish within \"{limit}\"",
                self.name()
            );
            ending::fail(
                self,
                reason::TIMED_OUT,
                &ending::with_previous(before.as_ref(), message),
            );
            self.finish(before);
            return Ok(());
        }
        if let Some((class, message)) = ending::container_failure(self) {
            ending::fail(self, class, &message);
            self.finish(before);
            return Ok(());
        }
        if let Some(resolved) = self.prepare()? {
            let before = self.succeeded();
            pod_creation::follow_or_create(self, &resolved)?;
            if self.run.is_done() {
                ending::stop_sidecars(self);
            }
            self.finish(before);
            self.wake_at_timeout();
        }
        Ok(())
    }

    pub fn name(&self) -> &str {
        self.run.metadata.name.as_deref().unwrap_or_default()
    }

    pub fn namespace(&self) -> &str {
        self.run.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub fn succeeded(&self) -> Option<Condition> {
        self.run.succeeded().cloned()
    }

    /// T-149, T-150
    fn start(&mut self) {
        let before = self.succeeded();
        let now = seconds(self.now);
        let created = self.run.metadata.creation_timestamp.clone();
        let start = created.filter(|c| c.0 > now.0).unwrap_or(now);
        self.run.status.start_time = Some(start);
        let message = before.map(|c| c.message).unwrap_or_default();
        condition::ongoing(&mut self.run.status, reason::STARTED, message, self.now);
        self.events.push(Event::normal("Started", ""));
    }

    /// Retries a failed attempt if it may be, and records what changed about the condition (T-388, T-398).
    pub fn finish(&mut self, before: Option<Condition>) {
        let may_retry = i64::try_from(self.run.status.retries_status.len())
            .is_ok_and(|n| n < self.run.spec.retries);
        if let Some(failed) = self
            .succeeded()
            .filter(|c| c.status == "False" && may_retry && !self.run.is_cancelled())
        {
            ending::retry(self, failed.message);
        }
        let after = self.succeeded();
        if after == before {
            return;
        }
        let Some(after) = after else { return };
        self.events.push(match (after.status.as_str(), before) {
            ("True", _) => Event::normal("Succeeded", after.message),
            ("False", _) => Event::warning("Failed", after.message),
            (_, None) => Event::normal("Started", ""),
            _ => Event::normal(after.reason, after.message),
        });
    }

    /// Ends the run for a reason found before or beside its pod; the pod, if any, is left alone (T-191).
    pub fn give_up(&mut self, reason: &str, message: String) {
        condition::failed(&mut self.run.status, reason, message.clone(), self.now);
        self.events.push(Event::warning("InternalError", message));
    }

    /// Asks to be called again after `delay`.
    pub fn wake_after(&mut self, delay: jiff::SignedDuration) {
        let at = self.now.saturating_add(delay).unwrap_or(self.now);
        self.wake = Some(self.wake.map_or(at, |w| w.min(at)));
    }

    /// T-153; exceeded is strictly more, so a little later.
    fn wake_at_timeout(&mut self) {
        let limit = timeout(&self.run, self.config);
        let Some(start) = self.run.status.start_time.as_ref().map(|t| t.0) else {
            return;
        };
        if limit.is_zero() || self.run.is_done() {
            return;
        }
        let left = start.duration_until(self.now);
        let left = jiff::SignedDuration::from(limit).saturating_sub(left);
        self.wake_after(left.saturating_add(jiff::SignedDuration::from_millis(1)));
    }

    /// Defaults, resolves and checks; `None` if that has decided about the run or it must wait.
    fn prepare(&mut self) -> Result<Option<Prepared>, Unanswered> {
        self.set_defaults();
        let resolved = match resolve::resolve(&self.run, self.config, &mut self.inquiry) {
            Ok(resolved) => resolved,
            Err(Unresolved::Unanswered) => {
                self.ask_ahead();
                return Err(Unanswered);
            }
            Err(Unresolved::Pending(reason, message)) => {
                condition::ongoing(&mut self.run.status, reason, message, self.now);
                self.finish(None);
                self.wake_after(jiff::SignedDuration::from_secs(1));
                return Ok(None);
            }
            Err(Unresolved::Failed {
                reason,
                message,
                verification,
            }) => {
                if verification {
                    self.verified("False", message.clone());
                }
                self.give_up(reason, message);
                self.finish(None);
                return Ok(None);
            }
        };
        self.store(&resolved);
        match &resolved.verification {
            Verification::Skipped => {}
            Verification::Passed => self.verified("True", String::new()),
            Verification::Warned(message) => self.verified("False", message.clone()),
        }
        match self.check(&resolved) {
            Ok(bindings) => Ok(Some(Prepared {
                spec: resolved.spec,
                name: resolved.name,
                bindings,
            })),
            Err(invalid) => {
                self.give_up(invalid.reason, invalid.message);
                self.finish(None);
                Ok(None)
            }
        }
    }

    /// What the pod will need is the same whatever the task turns out to be: ask for it with the first questions.
    fn ask_ahead(&mut self) {
        let namespace = self.namespace().to_owned();
        if !self.config.feature_flags.disable_creds_init {
            let name = self.run.spec.service_account_name.clone();
            let name = if name.is_empty() {
                "default".to_owned()
            } else {
                name
            };
            self.inquiry.ask(Query::ServiceAccount {
                namespace: namespace.clone(),
                name,
            });
        }
        self.inquiry.ask(Query::LimitRanges { namespace });
    }

    fn check(&self, resolved: &Resolved) -> Result<Vec<WorkspaceBinding>, validate::Invalid> {
        let (run, spec) = (&self.run, &resolved.spec);
        validate::params_and_resources(run, spec, &resolved.name, self.config)?;
        let bindings = self.bindings(spec)?;
        validate::workspaces_and_overrides(run, spec, &bindings, self.config)?;
        Ok(bindings)
    }

    /// T-210
    fn bindings(&self, spec: &TaskSpec) -> Result<Vec<WorkspaceBinding>, validate::Invalid> {
        let text = &self.config.defaults.task_run_workspace_binding;
        let bindings = self.run.spec.workspaces.clone();
        if text.is_empty() {
            return Ok(bindings);
        }
        let default = workspaces::parse_binding(text).ok_or_else(|| validate::Invalid {
            reason: reason::FAILED_RESOLUTION,
            message: format!("failed to unmarshal {text}"),
        })?;
        Ok(workspaces::with_default(
            bindings,
            &spec.workspaces,
            &default,
        ))
    }

    /// T-094: of these only a missing label is written back.
    fn set_defaults(&mut self) {
        let defaults = &self.config.defaults;
        let labels = self.run.metadata.labels.get_or_insert_default();
        labels
            .entry(label::MANAGED_BY.into())
            .or_insert_with(|| defaults.managed_by_label_value.clone());
        let spec = &mut self.run.spec;
        if spec.service_account_name.is_empty() {
            spec.service_account_name
                .clone_from(&defaults.service_account);
        }
        if let Some(reference) = spec
            .task_ref
            .as_mut()
            .filter(|r| r.name.is_empty() && r.resolver.is_empty())
        {
            reference.resolver.clone_from(&defaults.resolver_type);
        }
        if let Some(template) = &defaults.pod_template {
            merge_pod_template(spec.pod_template.get_or_insert_default(), template);
        }
    }

    /// Records the resolved task and its metadata (T-163, T-348, T-391, T-392).
    fn store(&mut self, resolved: &Resolved) {
        let run = &mut self.run;
        if run.status.task_spec.is_none() {
            run.status.task_spec = Some(resolved.spec.clone());
            let annotations = run.metadata.annotations.get_or_insert_default();
            for (key, value) in resolved
                .annotations
                .iter()
                .filter(|(k, _)| *k != LAST_APPLIED)
            {
                annotations
                    .entry(key.clone())
                    .or_insert_with(|| value.clone());
            }
            let labels = run.metadata.labels.get_or_insert_default();
            for (key, value) in &resolved.labels {
                labels.entry(key.clone()).or_insert_with(|| value.clone());
            }
            if run.spec.task_ref.is_some() {
                labels.insert(label::TASK.into(), resolved.name.clone());
            }
        }
        if self.config.feature_flags.enable_provenance_in_status {
            let provenance: &mut Provenance = run.status.provenance.get_or_insert_default();
            provenance.feature_flags = Some(self.config.feature_flags.clone());
            if provenance.ref_source.is_none() {
                provenance.ref_source.clone_from(&resolved.source);
            }
        }
        resolve::note_step_sources(
            &mut run.status.steps,
            &resolved.spec.steps,
            &resolved.step_sources,
        );
    }

    /// T-396
    fn verified(&mut self, status: &str, message: String) {
        let verified = Condition {
            type_: "TrustedResourcesVerified".into(),
            status: status.into(),
            message,
            ..Condition::default()
        };
        condition::set(&mut self.run.status.conditions, verified, self.now);
    }
}

/// A run that may have a pod.
pub(super) struct Prepared {
    /// The resolved spec, before substitution.
    pub spec: TaskSpec,
    pub name: String,
    pub bindings: Vec<WorkspaceBinding>,
}

impl Prepared {
    /// The spec with everything known about this run in place (T-179), and the bindings as they are used.
    pub fn substitute(&self, run: &TaskRun, bindings: &mut [WorkspaceBinding]) -> TaskSpec {
        let params = Replacements::of_params(&self.spec.params, &run.spec.params);
        bindings
            .iter_mut()
            .for_each(|b| params.apply_workspace_binding(b));
        let mut spec = self.spec.clone();
        params.apply_task_spec(&mut spec);
        substitution::context(run, &self.name).apply_task_spec(&mut spec);
        substitution::result_paths(&mut spec);
        substitution::artifact_paths(&mut spec);
        substitution::exit_code_paths(&mut spec);
        workspaces::declare_bound(&mut spec, bindings);
        let volumes = workspaces::volumes(bindings);
        workspaces::substitute(&mut spec, bindings, &volumes);
        spec
    }
}

/// Fills what the run's podTemplate lacks from the installation's (T-091).
fn merge_pod_template(own: &mut PodTemplate, default: &PodTemplate) {
    fn fill<T: Default + PartialEq + Clone>(own: &mut T, default: &T) {
        if *own == T::default() {
            own.clone_from(default);
        }
    }
    fill(&mut own.node_selector, &default.node_selector);
    fill(&mut own.tolerations, &default.tolerations);
    fill(&mut own.affinity, &default.affinity);
    fill(&mut own.security_context, &default.security_context);
    fill(&mut own.runtime_class_name, &default.runtime_class_name);
    fill(
        &mut own.automount_service_account_token,
        &default.automount_service_account_token,
    );
    fill(&mut own.dns_policy, &default.dns_policy);
    fill(&mut own.dns_config, &default.dns_config);
    fill(&mut own.enable_service_links, &default.enable_service_links);
    fill(&mut own.priority_class_name, &default.priority_class_name);
    fill(&mut own.scheduler_name, &default.scheduler_name);
    fill(&mut own.image_pull_secrets, &default.image_pull_secrets);
    fill(&mut own.host_aliases, &default.host_aliases);
    fill(&mut own.host_network, &default.host_network);
    fill(&mut own.host_users, &default.host_users);
    fill(
        &mut own.topology_spread_constraints,
        &default.topology_spread_constraints,
    );
    for env in &default.env {
        if !own.env.iter().any(|e| e.name == env.name) {
            own.env.push(env.clone());
        }
    }
    for volume in &default.volumes {
        if !own.volumes.iter().any(|v| v.name == volume.name) {
            own.volumes.push(volume.clone());
        }
    }
}
