//! Which of several controllers acts: a Lease for each kind of run (P-392 to P-394, with one bucket).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::options::LeaderElection;
use crate::rest::{CallError, Resource, Rest};
use crate::world::{Kind, World};

/// Which kinds this process leads. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Leadership {
    leads: Option<Arc<[AtomicBool; Kind::ALL.len()]>>,
}

impl Leadership {
    /// Nothing, until elected.
    pub(crate) fn none() -> Self {
        Self {
            leads: Some(Arc::default()),
        }
    }

    /// Whether this process acts on runs of `kind`; always without an election.
    pub(crate) fn leads(&self, kind: Kind) -> bool {
        self.leads
            .as_ref()
            .is_none_or(|leads| leads[kind as usize].load(Ordering::Acquire))
    }

    /// Says whether that is news.
    fn set(&self, kind: Kind, leading: bool) -> bool {
        self.leads
            .as_ref()
            .is_some_and(|leads| leads[kind as usize].swap(leading, Ordering::AcqRel) != leading)
    }
}

/// Takes part in the elections until `stop`; then gives up what it leads.
pub(crate) fn elect(
    world: &Arc<World>,
    election: &LeaderElection,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Leadership {
    let leadership = Leadership::none();
    for kind in Kind::ALL {
        let candidate = Candidate {
            rest: world.rest.clone(),
            namespace: world.options.system_namespace.clone(),
            lease: lease_name(kind),
            election: election.clone(),
            told: None,
            seen: None,
        };
        let (world, leadership, stop) = (Arc::clone(world), leadership.clone(), stop.clone());
        tasks.spawn(async move { candidate.run(kind, &world, &leadership, &stop).await });
    }
    leadership
}

/// The Lease's name (P-392).
fn lease_name(kind: Kind) -> String {
    let package = match kind {
        Kind::TaskRun => "taskrun",
        Kind::PipelineRun => "pipelinerun",
        Kind::ResolutionRequest => "resolutionrequest",
    };
    format!(
        "tekton-pipelines-controller.github.com.tektoncd.pipeline.pkg.reconciler.{package}.reconciler.00-of-01"
    )
}

struct Candidate {
    rest: Rest,
    namespace: String,
    lease: String,
    election: LeaderElection,
    /// Whom the log has named as the leader.
    told: Option<String>,
    /// The lease's last seen version and since when it has been that: clocks of other machines are not trusted.
    seen: Option<(String, Instant)>,
}

impl Candidate {
    async fn run(
        mut self,
        kind: Kind,
        world: &World,
        leadership: &Leadership,
        stop: &CancellationToken,
    ) {
        let mut renewed = Instant::now();
        loop {
            match self.try_lead().await {
                Ok(true) => {
                    renewed = Instant::now();
                    if leadership.set(kind, true) {
                        tracing::info!(lease = self.lease, "leading");
                        world.queue_all(kind);
                    }
                }
                Ok(false) => self.step_down(kind, leadership),
                Err(error) => {
                    tracing::warn!(lease = self.lease, %error, "cannot renew the lease");
                    if renewed.elapsed() >= self.election.renew_deadline {
                        self.step_down(kind, leadership);
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(self.election.retry_period) => {}
            }
        }
        if leadership.leads(kind) {
            leadership.set(kind, false);
            if let Err(error) = self.release().await {
                tracing::debug!(lease = self.lease, %error, "cannot release the lease");
            }
        }
    }

    fn step_down(&self, kind: Kind, leadership: &Leadership) {
        if leadership.set(kind, false) {
            tracing::warn!(lease = self.lease, "no longer leading");
        }
    }

    /// Gets or keeps the lease, if nobody else has it.
    async fn try_lead(&mut self) -> Result<bool, CallError> {
        let path = Resource::LEASES.object(&self.namespace, &self.lease);
        let lease: Value = match self.rest.get(&path).await {
            Ok(body) => read(&body)?,
            Err(error) if error.is_not_found() => return self.found().await,
            Err(error) => return Err(error),
        };
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        if holder != self.election.identity && !holder.is_empty() && !self.has_lapsed(&lease) {
            if self.told.as_deref() != Some(holder) {
                tracing::info!(lease = self.lease, holder, "standing by: another leads");
                self.told = Some(holder.to_owned());
            }
            return Ok(false);
        }
        self.told = None;
        let taken_over = holder != self.election.identity;
        let mut lease = lease;
        let now = micro(Timestamp::now());
        let spec = &mut lease["spec"];
        if taken_over {
            spec["leaseTransitions"] = json!(spec["leaseTransitions"].as_i64().unwrap_or(0) + 1);
            spec["acquireTime"] = json!(now);
        }
        spec["holderIdentity"] = json!(self.election.identity);
        spec["leaseDurationSeconds"] = json!(self.election.lease_duration.as_secs().max(1));
        spec["renewTime"] = json!(now);
        self.replace(&path, &lease).await
    }

    /// Makes the lease, which nobody has made yet.
    async fn found(&self) -> Result<bool, CallError> {
        let now = micro(Timestamp::now());
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"namespace": self.namespace, "name": self.lease},
            "spec": {
                "holderIdentity": self.election.identity,
                "leaseDurationSeconds": self.election.lease_duration.as_secs().max(1),
                "acquireTime": now,
                "renewTime": now,
                "leaseTransitions": 0,
            },
        });
        let path = Resource::LEASES.collection(Some(&self.namespace));
        match self.rest.post(&path, lease.to_string().into_bytes()).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_already_exists() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the holder has been silent for longer than it may.
    fn has_lapsed(&mut self, lease: &Value) -> bool {
        let version = lease["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default();
        match &self.seen {
            Some((seen, since)) if seen == version => {
                let granted = lease["spec"]["leaseDurationSeconds"].as_u64();
                let granted = granted.map_or(self.election.lease_duration, Duration::from_secs);
                since.elapsed() > granted
            }
            _ => {
                self.seen = Some((version.to_owned(), Instant::now()));
                false
            }
        }
    }

    /// Lets the next one in without waiting.
    async fn release(&self) -> Result<(), CallError> {
        let path = Resource::LEASES.object(&self.namespace, &self.lease);
        let mut lease = read(&self.rest.get(&path).await?)?;
        if lease["spec"]["holderIdentity"] == self.election.identity.as_str() {
            lease["spec"]["holderIdentity"] = json!("");
            lease["spec"]["leaseDurationSeconds"] = json!(1);
            self.replace(&path, &lease).await?;
        }
        Ok(())
    }

    /// Writes the lease, unless somebody else did meanwhile.
    async fn replace(&self, path: &str, lease: &Value) -> Result<bool, CallError> {
        match self.rest.put(path, lease.to_string().into_bytes()).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn read(body: &[u8]) -> Result<Value, CallError> {
    serde_json::from_slice(body)
        .map_err(|error| CallError::Unreachable(format!("the lease cannot be read: {error}")))
}

/// A time as Kubernetes' MicroTime.
fn micro(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    // P-392
    #[test]
    fn leases_are_named_after_component_and_reconciler_in_lower_case() {
        for kind in Kind::ALL {
            let name = lease_name(kind);
            assert!(
                name.starts_with("tekton-pipelines-controller.") && name.ends_with(".00-of-01"),
                "{name}"
            );
            assert_eq!(name, name.to_lowercase());
        }
        assert!(lease_name(Kind::TaskRun).contains(".reconciler.taskrun.reconciler."));
    }

    #[test]
    fn without_an_election_a_process_leads_and_with_one_it_does_not_before_it_is_elected() {
        assert!(Leadership::default().leads(Kind::TaskRun));
        let leadership = Leadership::none();
        assert!(!leadership.leads(Kind::TaskRun));
        assert!(leadership.set(Kind::TaskRun, true));
        assert!(leadership.leads(Kind::TaskRun) && !leadership.leads(Kind::PipelineRun));
        assert!(!leadership.set(Kind::TaskRun, true));
    }
}
