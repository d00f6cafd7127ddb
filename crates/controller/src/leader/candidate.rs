//! Standing for one Lease: getting it, keeping it, giving it up (P-392, P-393).

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::options::LeaderElection;
use crate::rest::{CallError, Resource, Rest};

pub(super) struct Candidate {
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
    pub(super) fn new(
        rest: Rest,
        namespace: String,
        lease: String,
        election: LeaderElection,
    ) -> Self {
        Self {
            rest,
            namespace,
            lease,
            election,
            told: None,
            seen: None,
        }
    }

    /// Stands until `stop`; then gives up the lease. `set` hears how it stands and says whether that is news, `begins` is
    /// called when a lead begins.
    pub(super) async fn run(
        mut self,
        set: impl Fn(bool) -> bool,
        begins: impl Fn(),
        stop: &CancellationToken,
    ) {
        let mut renewed = Instant::now();
        let mut leads = false;
        loop {
            match self.try_lead().await {
                Ok(true) => {
                    renewed = Instant::now();
                    leads = true;
                    if set(true) {
                        tracing::info!(lease = self.lease, "leading");
                        begins();
                    }
                }
                Ok(false) => {
                    leads = false;
                    self.step_down(&set);
                }
                Err(error) => {
                    tracing::warn!(lease = self.lease, %error, "cannot renew the lease");
                    if renewed.elapsed() >= self.election.renew_deadline {
                        leads = false;
                        self.step_down(&set);
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(self.election.retry_period) => {}
            }
        }
        if leads {
            set(false);
            if let Err(error) = self.release().await {
                tracing::debug!(lease = self.lease, %error, "cannot release the lease");
            }
        }
    }

    fn step_down(&self, set: &impl Fn(bool) -> bool) {
        if set(false) {
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
