//! PUT, and what every update of an object goes through (K-056 to K-064).

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::input::{WriteOptions, conform_object, decode_body, write_options};
use super::write::{Failure, Outcome};
use super::{Answer, Call, meta};
use crate::admission::{Operation, Review};
use crate::builtin::{defaults, prepare};
use crate::crd::{self, structure};
use crate::error::{ApiError, Cause};
use crate::patch;
use crate::registry::{Backing, Resource};
use crate::server::Inner;
use crate::storage::Stored;
use crate::target::Path;

const ATTEMPTS: usize = 20;

/// The object an update starts from: as stored, and as a value of the request's version.
#[derive(Clone, Copy)]
pub(super) struct Before<'a> {
    pub stored: &'a Arc<Stored>,
    pub value: &'a Value,
}

impl Inner {
    /// `PUT`.
    pub(super) async fn put(
        self: &Arc<Self>,
        call: &Call,
        resource: &Arc<Resource>,
        path: &Path,
    ) -> Answer {
        let options = write_options(call)?;
        let decoded = decode_body(call)?;
        let mut object = decoded.value;
        conform_object(
            &mut object,
            resource,
            decoded.duplicates,
            options.validation,
            call,
        )?;
        let name = meta::text(&object, "name").to_owned();
        if name.is_empty() {
            meta::metadata(&mut object)?.insert("name".into(), path.name.clone().into());
        } else if name != path.name {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                path.name
            )));
        }
        meta::place(&mut object, resource, &path.namespace)?;
        let given = meta::text(&object, "resourceVersion").to_owned();
        let strict = resource.built_in().is_none_or(|kind| kind.strict_update);
        for _ in 0..ATTEMPTS {
            let Some(current) = self
                .storage
                .get(&resource.storage, &path.namespace, &path.name)
            else {
                let upsert = resource.built_in().is_some_and(|kind| kind.upsert)
                    && path.subresource.is_empty();
                if upsert && given.is_empty() {
                    let outcome = self
                        .create_object(call, resource, &path.namespace, object, &options)
                        .await?;
                    return self
                        .answer(call, resource, outcome, StatusCode::CREATED)
                        .await;
                }
                return Err(ApiError::not_found(resource.about(), &path.name));
            };
            if given.is_empty() && strict {
                let mut cause = Cause::invalid(
                    "metadata.resourceVersion",
                    &json!(0),
                    "must be specified for an update",
                );
                cause.message = "Invalid value: 0x0: must be specified for an update".into();
                return Err(ApiError::invalid(
                    &resource.group,
                    &resource.plural,
                    &path.name,
                    vec![cause],
                ));
            }
            let uid = meta::text(&object, "uid");
            if !uid.is_empty() && *uid != *current.uid {
                let text = format!(
                    "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                    current.uid
                );
                return Err(ApiError::conflict(resource.about(), &path.name, &text));
            }
            let old = self.load_shared(resource, &current).await?;
            let before = Before {
                stored: &current,
                value: &old,
            };
            match self
                .replace(call, resource, path, before, object.clone(), &options)
                .await
            {
                Ok(outcome) => return self.answer(call, resource, outcome, StatusCode::OK).await,
                Err(Failure::Refused(error)) => return Err(error),
                Err(Failure::Raced) if !given.is_empty() => {
                    return Err(ApiError::modified(resource.about(), &path.name));
                }
                Err(Failure::Raced) => {}
            }
        }
        Err(ApiError::modified(resource.about(), &path.name))
    }

    /// One attempt to replace `current` by `new`, which has the form of the resource's kind.
    pub(super) async fn replace(
        self: &Arc<Self>,
        call: &Call,
        resource: &Arc<Resource>,
        path: &Path,
        before: Before<'_>,
        mut new: Value,
        options: &WriteOptions,
    ) -> Result<Outcome, Failure> {
        let Before {
            stored: current,
            value: old,
        } = before;
        let given = meta::text(&new, "resourceVersion");
        if !given.is_empty() && *given != current.revision.to_string() && given != "0" {
            return Err(ApiError::modified(resource.about(), &path.name).into());
        }
        meta::preserve(&mut new, old)?;
        if meta::merge_owners(&mut new) {
            call.warn(".metadata.ownerReferences contains duplicate entries; API server dedups owner references");
        }
        self.prepare_update(resource, &path.subresource, &mut new, old);
        self.allocate(resource, &mut new, Some(old)).await?;
        let review = Review {
            operation: Operation::Update,
            resource,
            subresource: &path.subresource,
            namespace: &path.namespace,
            old: Some(old),
            dry_run: options.dry_run,
            identity: &call.identity,
            options: json!({"kind": "UpdateOptions", "apiVersion": "meta.k8s.io/v1"}),
        };
        if path.subresource.is_empty() {
            self.admit_built_in(&review, &mut new).await?;
        }
        if self.mutate(call, &review, &mut new).await? {
            self.redefault(call, resource, &mut new)?;
            meta::preserve(&mut new, old)?;
            self.prepare_update(resource, &path.subresource, &mut new, old);
        }
        if path.subresource.is_empty() || resource.custom().is_some() {
            self.validate(resource, &new, Some(old))?;
        }
        self.validate_by_webhooks(call, &review, &new).await?;
        self.bump_generation(resource, &path.subresource, &mut new, old);
        if resource.is("apiextensions.k8s.io", crate::builtin::kinds::CRDS)
            && path.subresource.is_empty()
        {
            let clash = self.clash(&new);
            crd::definition::establish(&mut new, clash, &meta::now());
        }
        patch::apply::track_update(&mut new, old, resource, options, &path.subresource);
        let now_gone = current.deleting && is_finished(resource, &new);
        if options.dry_run {
            return Ok(Outcome::Value(new));
        }
        if now_gone {
            // The update that empties the finalizers removes the object (K-064).
            return match self.storage.delete(
                &resource.storage,
                &current.namespace,
                &current.name,
                current.revision,
            ) {
                Ok(gone) => {
                    self.storage
                        .durable(gone.revision)
                        .await
                        .map_err(ApiError::internal)?;
                    self.wrote(resource, &gone);
                    Ok(Outcome::Value(new))
                }
                Err(_) => Err(Failure::Raced),
            };
        }
        if same(&new, old) && resource.is_stored_form(current.revision) {
            return Ok(Outcome::Stored(Arc::clone(current)));
        }
        let draft = self.draft(resource, new).await?;
        match self
            .storage
            .update(&resource.storage, draft, current.revision)
        {
            Ok(stored) => {
                self.wrote(resource, &stored);
                Ok(Outcome::Stored(stored))
            }
            Err(_) => Err(Failure::Raced),
        }
    }

    /// Limits an update to what its endpoint may change.
    fn prepare_update(&self, resource: &Resource, subresource: &str, new: &mut Value, old: &Value) {
        match &resource.backing {
            Backing::BuiltIn(kind, _) => match subresource {
                "status" => prepare::update_status(kind, new, old),
                "finalize" => {
                    let finalizers = new.pointer("/spec/finalizers").cloned();
                    let mut kept = old.clone();
                    kept["spec"] =
                        finalizers.map_or_else(|| json!({}), |list| json!({"finalizers": list}));
                    *new = kept;
                }
                "ephemeralcontainers" => {
                    let list = new.pointer("/spec/ephemeralContainers").cloned();
                    let mut kept = old.clone();
                    if let Some(list) = list {
                        kept["spec"]["ephemeralContainers"] = list;
                    }
                    *new = kept;
                    defaults::apply(kind, new);
                }
                _ => {
                    prepare::update(kind, new, old);
                    defaults::apply(kind, new);
                }
            },
            Backing::Custom(kind, index) => {
                let version = &kind.versions[*index];
                if subresource == "status" {
                    // K-061: only the status, and nothing of the metadata.
                    let (Some(map), Some(kept)) = (new.as_object_mut(), old.as_object()) else {
                        return;
                    };
                    let fields = map
                        .get_mut("metadata")
                        .and_then(|metadata| metadata.get_mut("managedFields"))
                        .map(Value::take);
                    map.retain(|key, _| key == "status" || kept.contains_key(key));
                    for (key, value) in kept.iter().filter(|(key, _)| *key != "status") {
                        // Mostly it is the same already: comparing costs less than copying.
                        if map.get(key) != Some(value) {
                            map.insert(key.clone(), value.clone());
                        }
                    }
                    if let Some(fields) = fields {
                        new["metadata"]["managedFields"] = fields;
                    }
                } else if version.status
                    && let Some(map) = new.as_object_mut()
                {
                    match old.get("status") {
                        Some(status) => map.insert("status".into(), status.clone()),
                        None => map.remove("status"),
                    };
                }
                structure::drop_nulls(new, version.schema());
                structure::default(new, version.schema());
            }
        }
    }

    /// K-060
    fn bump_generation(
        &self,
        resource: &Resource,
        subresource: &str,
        new: &mut Value,
        old: &Value,
    ) {
        let changed = match &resource.backing {
            Backing::BuiltIn(kind, _) => {
                kind.generation
                    && subresource != "status"
                    && prepare::changes_generation(kind, new, old)
            }
            Backing::Custom(kind, index) => {
                let ignored = |key: &str| {
                    key == "metadata" || key == "status" && kind.versions[*index].status
                };
                let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else {
                    return;
                };
                new.iter()
                    .chain(old)
                    .any(|(key, _)| !ignored(key) && new.get(key) != old.get(key))
            }
        };
        if changed {
            let before = old
                .pointer("/metadata/generation")
                .and_then(Value::as_i64)
                .unwrap_or(0);
            new["metadata"]["generation"] = (before + 1).into();
        }
    }
}

/// Nothing holds a terminating object any longer.
fn is_finished(resource: &Resource, object: &Value) -> bool {
    let held = resource.is("", "namespaces")
        && object
            .pointer("/spec/finalizers")
            .and_then(Value::as_array)
            .is_some_and(|list| !list.is_empty());
    // Pods leave when their node says so.
    let grace = object
        .pointer("/metadata/deletionGracePeriodSeconds")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    meta::finalizers(object).is_empty() && !held && grace == 0
}

/// Equality but for the times in managedFields (K-059).
fn same(new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else {
        return new == old;
    };
    if new.len() != old.len() {
        return false;
    }
    new.iter().all(|(key, value)| {
        let before = old.get(key);
        if key != "metadata" {
            return before == Some(value);
        }
        let strip = |metadata: &Value| {
            let mut metadata = metadata.clone();
            for entry in metadata
                .get_mut("managedFields")
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                entry.as_object_mut().map(|entry| entry.remove("time"));
            }
            metadata
        };
        before.is_some_and(|before| before == value || strip(before) == strip(value))
    })
}
