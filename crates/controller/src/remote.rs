//! The asking side of remote resolution: one ResolutionRequest per thing wanted, and what comes of it (P-303 to P-311).

use std::sync::Arc;

use base64::Engine as _;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tektite_api::admission;
use tektite_api::config::Config;
use tektite_api::convert::convert;
use tektite_api::names::label;
use tektite_api::resolution::ResolutionRequest;
use tektite_api::v1::{Condition, ParamValue, RefSource};
use tektite_engine::decision::{
    Answer, Failure, FailureKind, Found, Remote, RemoteKind, RemoteObject, RemoteRef, Verification,
};

use crate::effects::encode;
use crate::rest::{CallError, Resource};
use crate::store::{Name, Slot};
use crate::verification::verify;
use crate::world::{Cached, Key, Kind, World};

/// The longest name of a request.
const NAME_LENGTH: usize = 63;

/// Asks for `reference`, or reads what has become of it.
pub(crate) async fn answer(
    world: &World,
    key: &Key,
    run_uid: &str,
    reference: &RemoteRef,
) -> Result<Answer, CallError> {
    let base = format!("{}/{}", reference.namespace, reference.run);
    let name = Name::new(reference.namespace.as_str(), request_name(reference, &base));
    let request = match world.resolution_requests.get(&name) {
        Slot::Here(request) => request,
        _ => {
            submit(world, key, run_uid, reference, &name).await?;
            world.wait_for(name, key.clone());
            return Ok(Answer::Pending);
        }
    };
    let condition = Condition::succeeded(&request.status.conditions);
    match condition.map(|condition| condition.status.as_str()) {
        Some("True") => read(world, reference, &request).await,
        Some("False") => {
            let message = condition
                .map(|condition| condition.message.clone())
                .unwrap_or_default();
            Ok(failed(FailureKind::Resolution, message))
        }
        _ => {
            world.wait_for(name, key.clone());
            Ok(Answer::Pending)
        }
    }
}

fn failed(kind: FailureKind, message: String) -> Answer {
    Answer::Failed(Failure { kind, message })
}

/// The request's name: the same for the same wish of the same run (P-304).
fn request_name(reference: &RemoteRef, base: &str) -> String {
    let mut hash = Fnv128::default();
    hash.write(base.as_bytes());
    let mut params: Vec<_> = reference.params.iter().collect();
    params.sort_by(|a, b| a.name.cmp(&b.name));
    for param in params {
        hash.write(param.name.as_bytes());
        match &param.value {
            ParamValue::String(text) => hash.write(text.as_bytes()),
            other => hash.write(&serde_json::to_vec(other).unwrap_or_default()),
        }
    }
    hash.write(reference.url.as_bytes());
    let hash = format!("{:032x}", hash.0);
    let mut prefix = reference.resolver.as_str();
    while prefix.len() > NAME_LENGTH - hash.len() - 1 {
        // Resolvers' names are labels, so every byte is a character; others are cut at one.
        let end = prefix.char_indices().next_back().map_or(0, |(at, _)| at);
        prefix = &prefix[..end];
    }
    format!("{prefix}-{hash}")
}

/// FNV-1a of 128 bits.
struct Fnv128(u128);

impl Default for Fnv128 {
    fn default() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }
}

impl Fnv128 {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 ^= u128::from(*byte);
            self.0 = self.0.wrapping_mul(0x0100_0000_0000_0000_0000_013b);
        }
    }
}

async fn submit(
    world: &World,
    key: &Key,
    run_uid: &str,
    reference: &RemoteRef,
    name: &Name,
) -> Result<(), CallError> {
    let kind = match key.kind {
        Kind::TaskRun => "TaskRun",
        Kind::PipelineRun => "PipelineRun",
        Kind::ResolutionRequest => return Ok(()),
    };
    let mut spec = json!({ "params": reference.params });
    if !reference.url.is_empty() {
        spec["url"] = json!(reference.url);
    }
    let request = json!({
        "apiVersion": "resolution.tekton.dev/v1beta1",
        "kind": "ResolutionRequest",
        "metadata": {
            "namespace": &*name.namespace,
            "name": &*name.name,
            "labels": {label::RESOLVER_TYPE: reference.resolver},
            "ownerReferences": [{
                "apiVersion": "tekton.dev/v1",
                "kind": kind,
                "name": &*key.name.name,
                "uid": run_uid,
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        },
        "spec": spec,
    });
    let path = Resource::RESOLUTION_REQUESTS.collection(Some(&name.namespace));
    match world.rest.post(&path, encode(&request)?).await {
        Ok(created) => world.written::<ResolutionRequest>(created, key).map(drop),
        // Somebody asked for the same: wait for that (P-306).
        Err(exists) if exists.is_already_exists() => {
            let path = ResolutionRequest::RESOURCE.object(&name.namespace, &name.name);
            let existing = world.rest.get(&path).await?;
            world.written::<ResolutionRequest>(existing, key).map(drop)
        }
        Err(error) => Err(error),
    }
}

/// Reads, checks and defaults what the resolver brought.
async fn read(
    world: &World,
    reference: &RemoteRef,
    request: &ResolutionRequest,
) -> Result<Answer, CallError> {
    let object = match decode(&request.status.data) {
        Ok(object) => object,
        Err(message) => return Ok(failed(FailureKind::Resolution, message)),
    };
    let Some(resource) = resource_of(reference.kind, &object) else {
        return Ok(failed(
            FailureKind::Resolution,
            wrong_kind(reference.kind).into(),
        ));
    };
    let metadata = {
        let mut metadata = object["metadata"].clone();
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.remove("ownerReferences");
        }
        metadata
    };
    let source = request
        .status
        .ref_source
        .clone()
        .or_else(|| request.status.source.clone());
    let verification = match reference.kind {
        RemoteKind::Task | RemoteKind::Pipeline => {
            let uri = source.as_ref().map_or("", |source| source.uri.as_str());
            let mut signed = object.clone();
            signed["metadata"] = metadata.clone();
            let config = world.options.config.current();
            match admission::default(&admission::Request::create(&signed), &config) {
                Ok(signed) => verify(world, &reference.namespace, &signed, uri).await?,
                // Then the dry run refuses it too, and says why.
                Err(_) => Ok(Verification::Skipped),
            }
        }
        RemoteKind::StepAction => Ok(Verification::Skipped),
    };
    let mut checked = match dry_run(world, resource, &reference.namespace, object).await? {
        Ok(checked) => checked,
        Err(failure) => return Ok(Answer::Failed(failure)),
    };
    // Acted on only now: what is no Task is told so first (P-310).
    let verification = match verification {
        Ok(verification) => verification,
        Err(message) => return Ok(failed(FailureKind::Verification, message)),
    };
    checked["metadata"] = metadata;
    Ok(
        match stored_form(reference.kind, checked, &world.options.config.current()) {
            Ok(object) => Answer::Found(Found::Remote(Arc::new(Remote {
                object,
                source: source.filter(|source| *source != RefSource::default()),
                verification,
            }))),
            Err(message) => failed(FailureKind::Resolution, message),
        },
    )
}

/// The object in a request's data (P-309).
fn decode(data: &str) -> Result<Value, String> {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(data)
        .map_err(|error| format!("invalid runtime object: {error}"))?;
    serde_yaml_ng::from_slice(&bytes).map_err(|error| format!("invalid runtime object: {error}"))
}

fn resource_of(kind: RemoteKind, object: &Value) -> Option<Resource> {
    let version = object["apiVersion"].as_str()?;
    let (wanted, plural) = match kind {
        RemoteKind::Task => ("Task", "tasks"),
        RemoteKind::Pipeline => ("Pipeline", "pipelines"),
        RemoteKind::StepAction => ("StepAction", "stepactions"),
    };
    if object["kind"] != wanted {
        return None;
    }
    let prefix = match (kind, version) {
        (RemoteKind::Task | RemoteKind::Pipeline, "tekton.dev/v1") => "/apis/tekton.dev/v1",
        (_, "tekton.dev/v1beta1") => "/apis/tekton.dev/v1beta1",
        (RemoteKind::StepAction, "tekton.dev/v1alpha1") => "/apis/tekton.dev/v1alpha1",
        _ => return None,
    };
    Some(Resource { prefix, plural })
}

fn wrong_kind(kind: RemoteKind) -> &'static str {
    match kind {
        RemoteKind::Task => "resource is not a task",
        RemoteKind::Pipeline => "resource is not a pipeline",
        RemoteKind::StepAction => "resource is not a StepAction",
    }
}

/// Lets admission look at the object, as if it were created in the run's namespace (T-160, T-161, P-310, P-311).
async fn dry_run(
    world: &World,
    resource: Resource,
    namespace: &str,
    mut object: Value,
) -> Result<Result<Value, Failure>, CallError> {
    let name = object["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|key, _| matches!(key.as_str(), "labels" | "annotations"));
    }
    object["metadata"]["name"] = json!(uuid::Uuid::new_v4().to_string());
    object["metadata"]["namespace"] = json!(namespace);
    let path = format!("{}?dryRun=All", resource.collection(Some(namespace)));
    match world.rest.post(&path, encode(&object)?).await {
        Ok(body) => serde_json::from_slice(&body)
            .map(Ok)
            .map_err(|error| CallError::Unreachable(error.to_string())),
        Err(CallError::Refused(refused)) => {
            let prefix = match (refused.code, refused.reason.as_str()) {
                (400, _) => "validation failed for referenced object",
                (_, "Invalid" | "MethodNotAllowed") => {
                    "[User error] permanent error validating referenced object"
                }
                _ => return Err(CallError::Refused(refused)),
            };
            Ok(Err(Failure {
                kind: FailureKind::Validation,
                message: format!("{prefix} {name}: {}", refused.message),
            }))
        }
        Err(error) => Err(error),
    }
}

/// The object in the version that the engine works with.
fn stored_form(kind: RemoteKind, object: Value, config: &Config) -> Result<RemoteObject, String> {
    fn typed<T: DeserializeOwned>(object: Value) -> Result<Box<T>, String> {
        serde_json::from_value(object)
            .map(Box::new)
            .map_err(|error| format!("invalid runtime object: {error}"))
    }
    let wanted = match kind {
        RemoteKind::Task | RemoteKind::Pipeline => "tekton.dev/v1",
        RemoteKind::StepAction => "tekton.dev/v1beta1",
    };
    let object = if object["apiVersion"] == wanted {
        object
    } else {
        convert(object, wanted, config).map_err(|error| error.to_string())?
    };
    Ok(match kind {
        RemoteKind::Task => RemoteObject::Task(typed(object)?),
        RemoteKind::Pipeline => RemoteObject::Pipeline(typed(object)?),
        RemoteKind::StepAction => RemoteObject::StepAction(typed(object)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tektite_api::v1::Param;

    fn reference(resolver: &str, params: Vec<Param>) -> RemoteRef {
        RemoteRef {
            kind: RemoteKind::Task,
            namespace: "ns".into(),
            run: "run".into(),
            resolver: resolver.into(),
            url: String::new(),
            params,
        }
    }

    // P-304: FNV-1a of 128 bits; the values are those of the published test vectors.
    #[test]
    fn the_hash_is_fnv_1a_of_128_bits() {
        for (text, expected) in [
            ("", "6c62272e07bb014262b821756295c58d"),
            ("a", "d228cb696f1a8caf78912b704e4a8964"),
            ("foobar", "343e1662793c64bf6f0d3597ba446f18"),
        ] {
            let mut hash = Fnv128::default();
            hash.write(text.as_bytes());
            assert_eq!(format!("{:032x}", hash.0), expected, "{text}");
        }
    }

    // P-304
    #[test]
    fn a_requests_name_is_the_same_for_the_same_wish_and_at_most_63_characters() {
        let params = vec![Param::new("url", "x"), Param::new("path", "y")];
        let turned = vec![Param::new("path", "y"), Param::new("url", "x")];
        let name = request_name(&reference("git", params.clone()), "ns/run");
        assert_eq!(name, request_name(&reference("git", turned), "ns/run"));
        assert_ne!(
            name,
            request_name(&reference("git", params.clone()), "ns/other")
        );
        assert_ne!(name, request_name(&reference("git", vec![]), "ns/run"));
        assert_eq!(name.len(), "git-".len() + 32);
        let long = request_name(&reference(&"r".repeat(60), params), "ns/run");
        assert_eq!(long.len(), 63);
        assert!(long.starts_with(&format!("{}-", "r".repeat(30))));
    }

    // P-309
    #[test]
    fn data_is_base64_of_yaml_and_only_the_wanted_kind_is_taken() {
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let object = decode(&encode(
            "apiVersion: tekton.dev/v1\nkind: Task\nmetadata: {name: t}\n",
        ))
        .unwrap();
        assert_eq!(
            resource_of(RemoteKind::Task, &object).map(|r| r.plural),
            Some("tasks")
        );
        assert_eq!(resource_of(RemoteKind::Pipeline, &object), None);
        for data in ["%%%".to_owned(), encode("a: [")] {
            let error = decode(&data).unwrap_err();
            assert!(error.starts_with("invalid runtime object: "), "{error}");
        }
    }
}
