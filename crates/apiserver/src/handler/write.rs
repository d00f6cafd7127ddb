//! POST: decode, default, admit, validate, store (K-184).

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::input::{FieldValidation, WriteOptions, conform_object, decode_body, write_options};
use super::{Answer, Call, meta};
use crate::admission::{Operation, Review};
use crate::builtin::{defaults, prepare, validate};
use crate::crd::{self, structure};
use crate::error::{ApiError, Cause};
use crate::registry::{Backing, Resource};
use crate::server::Inner;
use crate::storage::{Refused, Stored};
use crate::target::Path;

const NAME_ATTEMPTS: usize = 8;

/// What became of a write.
pub(super) enum Outcome {
    /// Stored, or unchanged.
    Stored(Arc<Stored>),
    /// Dry run, or removed by the write: the object as it would be or was.
    Value(Value),
}

/// Why one attempt did not succeed.
pub(super) enum Failure {
    /// The object changed meanwhile.
    Raced,
    Refused(ApiError),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

impl Inner {
    /// `POST` of a new object.
    pub(super) async fn create(
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
        let outcome = self
            .create_object(call, resource, &path.namespace, object, &options)
            .await?;
        self.answer(call, resource, outcome, StatusCode::CREATED)
            .await
    }

    pub(super) async fn answer(
        &self,
        call: &Call,
        resource: &Resource,
        outcome: Outcome,
        code: StatusCode,
    ) -> Answer {
        match outcome {
            Outcome::Stored(object) => {
                self.storage
                    .durable(object.revision)
                    .await
                    .map_err(ApiError::internal)?;
                self.answer_stored(call, resource, &object, code).await
            }
            Outcome::Value(value) => self.answer_value(call, resource, value, code),
        }
    }

    /// Creates a decoded object.
    pub(super) async fn create_object(
        self: &Arc<Self>,
        call: &Call,
        resource: &Arc<Resource>,
        namespace: &str,
        mut object: Value,
        options: &WriteOptions,
    ) -> Result<Outcome, ApiError> {
        if resource.namespaced && namespace.is_empty() {
            return Err(ApiError::method_not_allowed());
        }
        meta::place(&mut object, resource, namespace)?;
        self.check_place(resource, namespace, meta::text(&object, "name"))?;
        let generated = meta::text(&object, "name").is_empty();
        meta::initialise(&mut object, resource)?;
        if meta::merge_owners(&mut object) {
            call.warn(".metadata.ownerReferences contains duplicate entries; API server dedups owner references");
        }
        match &resource.backing {
            Backing::BuiltIn(kind, _) => {
                defaults::apply(kind, &mut object);
                prepare::create(kind, &mut object);
            }
            Backing::Custom(kind, index) => {
                if kind.terminating {
                    let text = "create not allowed while custom resource definition is terminating";
                    return Err(ApiError::forbidden(
                        resource.about(),
                        meta::text(&object, "name"),
                        text,
                    ));
                }
                let version = &kind.versions[*index];
                if let Some(map) = object.as_object_mut().filter(|_| version.status) {
                    map.remove("status");
                }
                object["metadata"]["generation"] = 1.into();
                structure::drop_nulls(&mut object, version.schema());
                structure::default(&mut object, version.schema());
            }
        }
        self.allocate(resource, &mut object, None).await?;
        let review = Review {
            operation: Operation::Create,
            resource,
            subresource: "",
            namespace,
            old: None,
            dry_run: options.dry_run,
            identity: &call.identity,
            options: json!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"}),
        };
        self.admit_built_in(&review, &mut object).await?;
        if self.mutate(call, &review, &mut object).await? {
            self.redefault(call, resource, &mut object)?;
        }
        self.validate(resource, &object, None)?;
        self.validate_by_webhooks(call, &review, &object).await?;
        if resource.is("apiextensions.k8s.io", crate::builtin::kinds::CRDS) {
            let clash = self.clash(&object);
            crd::definition::establish(&mut object, clash, &meta::now());
        }
        self.check_quota(&review, &object)?;
        if options.dry_run {
            let name = meta::text(&object, "name").to_owned();
            if self
                .storage
                .get(&resource.storage, namespace, &name)
                .is_some()
            {
                return Err(ApiError::already_exists(resource.about(), &name, false));
            }
            return Ok(Outcome::Value(object));
        }
        for attempt in 1.. {
            // A name that was given is tried once.
            let tried = match generated {
                true => object.clone(),
                false => std::mem::take(&mut object),
            };
            let draft = self.draft(resource, tried).await?;
            match self.storage.create(&resource.storage, draft) {
                Ok(stored) => {
                    self.wrote(resource, &stored);
                    return Ok(Outcome::Stored(stored));
                }
                Err(Refused::Exists(_)) if generated && attempt < NAME_ATTEMPTS => {
                    let name = meta::generate_name(meta::text(&object, "generateName"));
                    object["metadata"]["name"] = name.into();
                }
                Err(Refused::Exists(existing)) => {
                    let error = ApiError::already_exists(
                        resource.about(),
                        &existing.name,
                        existing.deleting,
                    );
                    return Err(if generated {
                        error.retry_after(1)
                    } else {
                        error
                    });
                }
                Err(Refused::Missing | Refused::Conflict) => {
                    return Err(ApiError::internal("create failed"));
                }
            }
        }
        Err(ApiError::internal("create failed"))
    }

    /// NamespaceLifecycle (K-054, K-199).
    pub(super) fn check_place(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<(), ApiError> {
        if !resource.namespaced {
            return Ok(());
        }
        let about = crate::error::About {
            group: "",
            resource: "namespaces",
            kind: "Namespace",
        };
        let found = self
            .storage
            .get("namespaces", "", namespace)
            .ok_or_else(|| ApiError::not_found(about, namespace))?;
        if found.field("status.phase") == Some("Terminating") || found.deleting {
            let text = format!(
                "unable to create new content in namespace {namespace} because it is being terminated"
            );
            let mut error = ApiError::forbidden(resource.about(), name, &text);
            error.details.get_or_insert_default().causes.push(Cause {
                reason: "NamespaceTerminating",
                message: format!("namespace {namespace} is being terminated"),
                field: "metadata.namespace".into(),
            });
            return Err(error);
        }
        Ok(())
    }

    /// After webhooks changed an object it is decoded and defaulted again.
    pub(super) fn redefault(
        &self,
        call: &Call,
        resource: &Resource,
        object: &mut Value,
    ) -> Result<(), ApiError> {
        conform_object(object, resource, Vec::new(), FieldValidation::Ignore, call)?;
        match &resource.backing {
            Backing::BuiltIn(kind, _) => defaults::apply(kind, object),
            Backing::Custom(kind, index) => {
                structure::default(object, kind.versions[*index].schema())
            }
        }
        Ok(())
    }

    pub(super) fn validate(
        &self,
        resource: &Resource,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<(), ApiError> {
        let mut causes = Vec::new();
        validate::metadata(resource.built_in(), object, &mut causes);
        match &resource.backing {
            Backing::BuiltIn(kind, _) => {
                match old {
                    // What was accepted once is not checked again: only the change is.
                    Some(old) if kind.is("", "pods") => {
                        prepare::immutable(kind, object, old, &mut causes)
                    }
                    Some(old) => {
                        prepare::immutable(kind, object, old, &mut causes);
                        validate::object(kind, object, &mut causes);
                    }
                    None => validate::object(kind, object, &mut causes),
                }
                if resource.is("apiextensions.k8s.io", crate::builtin::kinds::CRDS) {
                    crd::definition::validate(object, old, &mut causes);
                }
            }
            Backing::Custom(kind, index) => {
                crd::check::check(object, kind.versions[*index].schema(), &mut causes)
            }
        }
        if let Some(old) = old.filter(|old| old.pointer("/metadata/deletionTimestamp").is_some()) {
            // K-067
            let before = meta::finalizers(old);
            let added: Vec<&Value> = meta::finalizers(object)
                .iter()
                .filter(|item| !before.contains(item))
                .collect();
            if !added.is_empty() {
                let text = format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers {}",
                    json!(added)
                );
                causes.push(Cause::forbidden("metadata.finalizers", &text));
            }
        }
        if causes.is_empty() {
            return Ok(());
        }
        Err(ApiError::invalid(
            &resource.group,
            &resource.kind,
            meta::text(object, "name"),
            causes,
        ))
    }
}
