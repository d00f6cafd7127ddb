//! The core side of a ResolutionRequest's life: it begins, it ends when data is there, it times out (P-313 to P-316).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tektite_api::resolution::ResolutionRequest;
use tektite_api::v1::Condition;

use crate::effects::encode;
use crate::rest::{PatchType, Resource};
use crate::run::{Outcome, ReconcileError};
use crate::store::Slot;
use crate::world::{Key, World};

/// What is to be written, and when to look again.
#[derive(Debug, PartialEq)]
struct Step {
    condition: Option<(&'static str, &'static str, String)>,
    wake: Option<SignedDuration>,
}

/// Decides about a request of this status and age.
fn decide(
    request: &ResolutionRequest,
    age: SignedDuration,
    timeout: tektite_api::Duration,
) -> Step {
    let condition = Condition::succeeded(&request.status.conditions);
    if condition.is_some_and(Condition::is_done) {
        return Step {
            condition: None,
            wake: None,
        };
    }
    if !request.status.data.is_empty() {
        return Step {
            condition: Some(("True", "", String::new())),
            wake: None,
        };
    }
    let left = SignedDuration::from_nanos(timeout.as_nanos()) - age;
    if left.is_negative() || left.is_zero() {
        let message = format!("resolution took longer than global timeout of {timeout}");
        return Step {
            condition: Some(("False", "ResolutionTimedOut", message)),
            wake: None,
        };
    }
    let begin = (
        "Unknown",
        "ResolutionInProgress",
        "waiting for resolver".to_owned(),
    );
    Step {
        condition: condition.is_none().then_some(begin),
        wake: Some(left),
    }
}

/// Reconciles the request that `key` names.
pub(crate) async fn reconcile(world: &World, key: &Key) -> Result<Outcome, ReconcileError> {
    let Slot::Here(request) = world.resolution_requests.get(&key.name) else {
        return Ok(Outcome::default());
    };
    let config = world.options.config.current();
    let now = Timestamp::now();
    let age = request
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(SignedDuration::ZERO, |created| {
            now.duration_since(created.0)
        });
    let step = decide(&request, age, config.defaults.maximum_resolution_timeout);
    let mut outcome = Outcome {
        again: false,
        wake: step.wake.and_then(|left| Duration::try_from(left).ok()),
    };
    if let Some((status, reason, message)) = step.condition {
        let mut condition = json!({"type": Condition::SUCCEEDED, "status": status,
            "lastTransitionTime": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()});
        for (field, text) in [("reason", reason), ("message", message.as_str())] {
            if !text.is_empty() {
                condition[field] = json!(text);
            }
        }
        // Only these two, and only on this version: the resolver's data must survive (P-316).
        let patch = json!({
            "metadata": {"resourceVersion": request.metadata.resource_version},
            "status": {"conditions": [condition], "observedGeneration": request.metadata.generation},
        });
        let path = Resource::RESOLUTION_REQUESTS.status(&key.name.namespace, &key.name.name);
        match world
            .rest
            .patch(&path, PatchType::Merge, encode(&patch)?)
            .await
        {
            Ok(written) => {
                // The runs that wait for it are told by the store's change.
                world.heard::<ResolutionRequest>(written, key)?;
                outcome.again = true;
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(outcome)
}
