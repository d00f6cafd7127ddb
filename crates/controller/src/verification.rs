//! Checking what resolvers bring against the VerificationPolicies of the run's namespace: finds policies and keys, and
//! leaves the decision to the engine (T-393 to T-396, P-361 to P-367).

use base64::Engine as _;
use k8s_openapi::api::core::v1::{Secret, SecretReference};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tektite_api::v1alpha1::{Authority, VerificationPolicy};
use tektite_engine::decision::Verification;
use tektite_engine::trusted::{Subject, judge, matching, unmatched};

use crate::rest::{CallError, Resource};
use crate::signature::{Hash, Key};
use crate::world::World;

/// Where the signature is (P-365).
const SIGNATURE: &str = "tekton.dev/signature";

/// Checks an object with its defaults filled in. The inner error is the text for the run.
pub(crate) async fn verify(
    world: &World,
    namespace: &str,
    object: &Value,
    source: &str,
) -> Result<Result<Verification, String>, CallError> {
    let metadata = &object["metadata"];
    let text = |field: &str| metadata[field].as_str().unwrap_or_default();
    let subject = Subject {
        name: text("name"),
        namespace: text("namespace"),
        source,
    };
    let policies = policies(world, namespace).await?;
    let matched = match matching(subject, &policies) {
        Ok(matched) if matched.is_empty() => {
            let config = world.options.config.current();
            let flag = &config.feature_flags.verification_no_match_policy;
            return Ok(unmatched(subject, flag));
        }
        Ok(matched) => matched,
        Err(error) => return Ok(Err(error)),
    };
    let signature = match metadata["annotations"][SIGNATURE].as_str() {
        Some(encoded) => match base64::engine::general_purpose::STANDARD.decode(encoded) {
            Ok(signature) => signature,
            Err(error) => return Ok(Err(format!("illegal base64 data: {error}"))),
        },
        None => Vec::new(),
    };
    let message = match tektite_api::signed_form(object) {
        Ok(form) => Sha256::digest(form),
        Err(error) => return Ok(Err(error)),
    };
    let mut verdicts = Vec::new();
    for policy in matched {
        let verdict = keys(world, policy)
            .await?
            .map(|keys| keys.iter().any(|key| key.verifies(&message, &signature)));
        verdicts.push((policy, verdict));
    }
    let outcome = judge(subject, verdicts);
    if let Ok(Verification::Warned(warning)) | Err(warning) = &outcome {
        tracing::warn!(namespace, warning, "trusted resources");
    }
    Ok(outcome)
}

/// The namespace's policies, by name.
async fn policies(world: &World, namespace: &str) -> Result<Vec<VerificationPolicy>, CallError> {
    #[derive(Deserialize)]
    struct List {
        items: Vec<VerificationPolicy>,
    }
    let path = Resource::VERIFICATION_POLICIES.collection(Some(namespace));
    let body = world.rest.get(&path).await?;
    let list: List = serde_json::from_slice(&body)
        .map_err(|error| CallError::Unreachable(format!("{path}: {error}")))?;
    let mut policies = list.items;
    policies.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    Ok(policies)
}

/// All keys of a policy; one that cannot be had spoils the policy.
async fn keys(
    world: &World,
    policy: &VerificationPolicy,
) -> Result<Result<Vec<Key>, String>, CallError> {
    let mut keys = Vec::new();
    for authority in &policy.spec.authorities {
        match key(world, authority).await? {
            Ok(key) => keys.push(key),
            Err(error) => return Ok(Err(error)),
        }
    }
    if keys.is_empty() {
        return Ok(Err("no public keys are founded".into()));
    }
    Ok(Ok(keys))
}

async fn key(world: &World, authority: &Authority) -> Result<Result<Key, String>, CallError> {
    let of = authority.key.clone().unwrap_or_default();
    let hash = match Hash::read(&of.hash_algorithm) {
        Ok(hash) => hash,
        Err(error) => {
            return Ok(Err(format!(
                "authority {:?} contains an invalid hash algorithm: {error}",
                authority.name
            )));
        }
    };
    let from_data = |pem: &[u8], what: &str| {
        Key::read(pem, hash).map_err(|error| format!("failed to get verifier from {what}: {error}"))
    };
    Ok(match (of.data.as_str(), &of.secret_ref, of.kms.as_str()) {
        ("", None, "") => Err("key doesn't contain data or keyRef".into()),
        ("", None, kms) => Err(format!(
            "failed to get verifier from kms: {kms}: keys of key management services are not supported: put the public key into data or secretRef"
        )),
        ("", Some(reference), _) => match secret_entry(world, reference).await? {
            Ok(pem) => from_data(&pem, "secret: failed to get verifier from secret data"),
            Err(error) => Err(format!("failed to get verifier from secret: {error}")),
        },
        (data, ..) => from_data(data.as_bytes(), "data"),
    })
}

/// The one entry of a secret (P-367).
async fn secret_entry(
    world: &World,
    reference: &SecretReference,
) -> Result<Result<Vec<u8>, String>, CallError> {
    let namespace = reference.namespace.as_deref().unwrap_or_default();
    let name = reference.name.as_deref().unwrap_or_default();
    let said = format!("k8s://{namespace}/{name}");
    if namespace.is_empty() || name.is_empty() {
        return Ok(Err(
            "failed to get secret: kubernetes specification should be in the format k8s://<namespace>/<secret>"
                .into(),
        ));
    }
    let body = match world
        .rest
        .get(&Resource::SECRETS.object(namespace, name))
        .await
    {
        Ok(body) => body,
        Err(error) if error.is_transient() => return Err(error),
        Err(error) => {
            return Ok(Err(format!(
                "failed to get secret: secret not found: {error}"
            )));
        }
    };
    let secret: Secret = match serde_json::from_slice(&body) {
        Ok(secret) => secret,
        Err(error) => return Ok(Err(format!("failed to get secret: {error}"))),
    };
    let mut entries = secret.data.unwrap_or_default().into_values();
    Ok(match (entries.next(), entries.next()) {
        (None, _) => Err(format!(
            "secret {said:?} contains no data secret data is empty"
        )),
        (Some(entry), None) => Ok(entry.0),
        (Some(_), Some(_)) => Err(format!(
            "secret {said:?} contains multiple data entries, only one is supported. secret contains multiple data"
        )),
    })
}
