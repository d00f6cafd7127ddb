//! POST, PUT and PATCH: decode, default, admit, validate, store (K-184).

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::input::{FieldValidation, WriteOptions, conform_object, decode_body, write_options};
use super::{Answer, Call, meta};
use crate::accept::content_type;
use crate::admission::{Operation, Review};
use crate::builtin::{defaults, events, prepare, validate};
use crate::crd::{self, convert, structure};
use crate::decode;
use crate::error::{ApiError, Cause};
use crate::patch;
use crate::registry::{Backing, Resource};
use crate::server::Inner;
use crate::storage::{Draft, Pairs, Refused, Stored};
use crate::target::Path;

const NAME_ATTEMPTS: usize = 8;
const PATCH_ATTEMPTS: usize = 20;

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
                structure::drop_nulls(&mut object, &version.schema);
                structure::default(&mut object, &version.schema);
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
            let draft = self.draft(resource, object.clone()).await?;
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
    fn redefault(
        &self,
        call: &Call,
        resource: &Resource,
        object: &mut Value,
    ) -> Result<(), ApiError> {
        conform_object(object, resource, Vec::new(), FieldValidation::Ignore, call)?;
        match &resource.backing {
            Backing::BuiltIn(kind, _) => defaults::apply(kind, object),
            Backing::Custom(kind, index) => {
                structure::default(object, &kind.versions[*index].schema)
            }
        }
        Ok(())
    }

    fn validate(
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
                crd::check::check(object, &kind.versions[*index].schema, &mut causes)
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

    /// The object in its storage version, ready to be stored.
    pub(super) async fn draft(
        &self,
        resource: &Resource,
        mut object: Value,
    ) -> Result<Draft, ApiError> {
        let mut fields: Vec<(String, String)> = Vec::new();
        match &resource.backing {
            Backing::BuiltIn(kind, _) => {
                if !kind.storage.is_empty() {
                    events::to_core(&mut object);
                }
                let names = match kind.storage {
                    "events" => crate::builtin::kinds::KINDS
                        .iter()
                        .find(|kind| kind.is("", "events"))
                        .map_or(&[][..], |kind| kind.fields),
                    _ => kind.fields,
                };
                for name in names {
                    if let Some(text) = field_text(kind.plural, &object, name) {
                        fields.push(((*name).to_owned(), text));
                    }
                }
            }
            Backing::Custom(kind, _) => {
                if kind.storage_version != resource.version {
                    let mut converted =
                        convert::convert(&self.webhooks, kind, vec![object], &kind.storage_version)
                            .await?;
                    object = converted.pop().unwrap_or_default();
                    if let Some(version) = kind.version(&kind.storage_version) {
                        structure::prune(&mut object, &version.schema, &mut Vec::new());
                        structure::default(&mut object, &version.schema);
                    }
                }
                let version = kind.version(&kind.storage_version);
                for path in version.iter().flat_map(|version| &version.selectable) {
                    let path = path.trim_start_matches('.');
                    let value = path.split('.').try_fold(&object, |at, key| at.get(key));
                    if let Some(text) = value.and_then(plain) {
                        fields.push((path.to_owned(), text));
                    }
                }
            }
        }
        let fields = Pairs::new(
            fields
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str())),
        );
        Ok(Draft::new(&object, fields))
    }

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
        for _ in 0..PATCH_ATTEMPTS {
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
            match self
                .replace(call, resource, path, &current, object.clone(), &options)
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
        current: &Arc<Stored>,
        mut new: Value,
        options: &WriteOptions,
    ) -> Result<Outcome, Failure> {
        let old = self.load(resource, current).await?;
        let given = meta::text(&new, "resourceVersion");
        if !given.is_empty() && *given != current.revision.to_string() && given != "0" {
            return Err(ApiError::modified(resource.about(), &path.name).into());
        }
        meta::preserve(&mut new, &old)?;
        if meta::merge_owners(&mut new) {
            call.warn(".metadata.ownerReferences contains duplicate entries; API server dedups owner references");
        }
        self.prepare_update(resource, &path.subresource, &mut new, &old);
        self.allocate(resource, &mut new, Some(&old)).await?;
        let review = Review {
            operation: Operation::Update,
            resource,
            subresource: &path.subresource,
            namespace: &path.namespace,
            old: Some(&old),
            dry_run: options.dry_run,
            identity: &call.identity,
            options: json!({"kind": "UpdateOptions", "apiVersion": "meta.k8s.io/v1"}),
        };
        if path.subresource.is_empty() {
            self.admit_built_in(&review, &mut new).await?;
        }
        if self.mutate(call, &review, &mut new).await? {
            self.redefault(call, resource, &mut new)?;
            meta::preserve(&mut new, &old)?;
            self.prepare_update(resource, &path.subresource, &mut new, &old);
        }
        if path.subresource.is_empty() || resource.custom().is_some() {
            self.validate(resource, &new, Some(&old))?;
        }
        self.validate_by_webhooks(call, &review, &new).await?;
        self.bump_generation(resource, &path.subresource, &mut new, &old);
        if resource.is("apiextensions.k8s.io", crate::builtin::kinds::CRDS)
            && path.subresource.is_empty()
        {
            let clash = self.clash(&new);
            crd::definition::establish(&mut new, clash, &meta::now());
        }
        patch::apply::track_update(&mut new, &old, resource, options, &path.subresource);
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
        if same(&new, &old) && resource.is_stored_form(current.revision) {
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
                    let status = new.get("status").cloned();
                    let fields = new.pointer("/metadata/managedFields").cloned();
                    *new = old.clone();
                    if let Some(map) = new.as_object_mut() {
                        match status {
                            Some(status) => map.insert("status".into(), status),
                            None => map.remove("status"),
                        };
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
                structure::drop_nulls(new, &version.schema);
                structure::default(new, &version.schema);
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

    /// `PATCH`.
    pub(super) async fn patch(
        self: &Arc<Self>,
        call: &Call,
        resource: &Arc<Resource>,
        path: &Path,
    ) -> Answer {
        let options = write_options(call)?;
        let media = content_type(&call.head.headers);
        let custom = resource.custom().is_some();
        let kind = match media {
            "application/json-patch+json" => Kind::Json,
            "application/merge-patch+json" => Kind::Merge,
            "application/strategic-merge-patch+json" if !custom => Kind::Strategic,
            "application/apply-patch+yaml" => Kind::Apply,
            _ => {
                let strategic = if custom {
                    ""
                } else {
                    ", application/strategic-merge-patch+json"
                };
                return Err(ApiError::unsupported_media_type(&format!(
                    "application/json-patch+json, application/merge-patch+json{strategic}, application/apply-patch+yaml"
                )));
            }
        };
        if options.force && kind != Kind::Apply {
            let cause = Cause::forbidden("force", "may not be specified for non-apply patch");
            return Err(ApiError::invalid(
                "meta.k8s.io",
                "PatchOptions",
                "",
                vec![cause],
            ));
        }
        let decoded = if kind == Kind::Apply {
            decode::yaml(&call.body)
        } else {
            decode::json(&call.body)
        };
        let decoded = decoded
            .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
        if kind == Kind::Apply {
            return self
                .apply(
                    call,
                    resource,
                    path,
                    decoded.value,
                    decoded.duplicates,
                    &options,
                )
                .await;
        }
        if kind != Kind::Json && !decoded.value.is_object() {
            return Err(ApiError::bad_request(
                "error decoding patch: the patch is not an object",
            ));
        }
        let pinned = kind != Kind::Json
            && decoded
                .value
                .pointer("/metadata/resourceVersion")
                .and_then(Value::as_str)
                .is_some_and(|text| !text.is_empty());
        for _ in 0..PATCH_ATTEMPTS {
            let current = self
                .storage
                .get(&resource.storage, &path.namespace, &path.name)
                .ok_or_else(|| ApiError::not_found(resource.about(), &path.name))?;
            let old = self.load(resource, &current).await?;
            let mut new = old.clone();
            match kind {
                Kind::Json => patch::json::apply(&mut new, &decoded.value)?,
                Kind::Merge => patch::merge::apply(&mut new, decoded.value.clone()),
                Kind::Strategic | Kind::Apply => {
                    if let Backing::BuiltIn(_, shape) = &resource.backing {
                        patch::strategic::apply(&mut new, decoded.value.clone(), shape)?;
                    }
                }
            }
            if new.pointer("/metadata/uid") != old.pointer("/metadata/uid")
                && new.pointer("/metadata/uid").is_some()
            {
                let uid = new.pointer("/metadata/uid").cloned().unwrap_or_default();
                let cause = Cause::invalid("metadata.uid", &uid, "field is immutable");
                return Err(ApiError::invalid(
                    &resource.group,
                    &resource.kind,
                    &path.name,
                    vec![cause],
                ));
            }
            if new.pointer("/metadata/name") != old.pointer("/metadata/name") {
                return Err(ApiError::bad_request(format!(
                    "the name of the object ({}) does not match the name on the URL ({})",
                    meta::text(&new, "name"),
                    path.name
                )));
            }
            conform_object(
                &mut new,
                resource,
                decoded.duplicates.clone(),
                options.validation,
                call,
            )?;
            match self
                .replace(call, resource, path, &current, new, &options)
                .await
            {
                Ok(outcome) => return self.answer(call, resource, outcome, StatusCode::OK).await,
                Err(Failure::Refused(error)) => return Err(error),
                Err(Failure::Raced) if pinned => {
                    return Err(ApiError::modified(resource.about(), &path.name));
                }
                Err(Failure::Raced) => {}
            }
        }
        Err(ApiError::modified(resource.about(), &path.name))
    }

    /// `PATCH` with `application/apply-patch+yaml` (K-113, K-114).
    async fn apply(
        self: &Arc<Self>,
        call: &Call,
        resource: &Arc<Resource>,
        path: &Path,
        mut body: Value,
        duplicates: Vec<String>,
        options: &WriteOptions,
    ) -> Answer {
        if call.query.text("fieldManager").is_none() {
            let cause = Cause::required("fieldManager", "is required for apply patch");
            return Err(ApiError::invalid(
                "meta.k8s.io",
                "PatchOptions",
                "",
                vec![cause],
            ));
        }
        let found = |key: &str| {
            body.get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        if found("kind") != resource.kind || found("apiVersion") != resource.api_version() {
            return Err(ApiError::bad_request(format!(
                "invalid object type: {}, Kind={}",
                found("apiVersion"),
                found("kind")
            )));
        }
        if body
            .pointer("/metadata/managedFields")
            .and_then(Value::as_array)
            .is_some_and(|list| !list.is_empty())
        {
            return Err(ApiError::bad_request("metadata.managedFields must be nil"));
        }
        conform_object(&mut body, resource, duplicates, options.validation, call)?;
        meta::place(&mut body, resource, &path.namespace)?;
        let name = meta::text(&body, "name").to_owned();
        if !name.is_empty() && name != path.name {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                path.name
            )));
        }
        for _ in 0..PATCH_ATTEMPTS {
            let Some(current) = self
                .storage
                .get(&resource.storage, &path.namespace, &path.name)
            else {
                if !path.subresource.is_empty() {
                    return Err(ApiError::not_found(resource.about(), &path.name));
                }
                if name.is_empty() {
                    let text = format!("{} was undeterminable: name must be provided", path.name);
                    return Err(ApiError::bad_request(text));
                }
                let mut object = body.clone();
                patch::apply::own_all(&mut object, &body, resource, &options.manager);
                match self
                    .create_object(call, resource, &path.namespace, object, options)
                    .await
                {
                    Ok(outcome) => {
                        return self
                            .answer(call, resource, outcome, StatusCode::CREATED)
                            .await;
                    }
                    Err(error) if error.reason == "AlreadyExists" => continue,
                    Err(error) => return Err(error),
                }
            };
            let old = self.load(resource, &current).await?;
            let new = patch::apply::merge(&old, &body, resource, options, &path.subresource)?;
            match self
                .replace(call, resource, path, &current, new, options)
                .await
            {
                Ok(outcome) => return self.answer(call, resource, outcome, StatusCode::OK).await,
                Err(Failure::Refused(error)) => return Err(error),
                Err(Failure::Raced) => {}
            }
        }
        Err(ApiError::modified(resource.about(), &path.name))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Merge,
    Strategic,
    Apply,
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

/// A scalar as field selectors compare it.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    }
}

/// The text of a selectable field (K-127 to K-129).
fn field_text(plural: &str, object: &Value, name: &str) -> Option<String> {
    let get = |path: &str| path.split('.').try_fold(object, |at, key| at.get(key));
    match (plural, name) {
        ("events", "source") => {
            let component = get("source.component")
                .and_then(plain)
                .filter(|text| !text.is_empty());
            component.or_else(|| get("reportingComponent").and_then(plain))
        }
        ("nodes", "spec.unschedulable") => {
            Some(get(name).and_then(plain).unwrap_or_else(|| "false".into()))
        }
        ("pods", "spec.hostNetwork") => {
            Some(get(name).and_then(plain).unwrap_or_else(|| "false".into()))
        }
        ("pods", "status.podIPs") => {
            let list = get(name)?.as_array()?;
            Some(
                list.iter()
                    .filter_map(|ip| ip.get("ip").and_then(Value::as_str))
                    .collect::<Vec<_>>()
                    .join(","),
            )
        }
        ("jobs", "status.successful") => Some(
            get("status.succeeded")
                .and_then(plain)
                .unwrap_or_else(|| "0".into()),
        ),
        // The default scheduler's name is on every pod: not worth the memory.
        _ => get(name).and_then(plain).filter(|text| !text.is_empty()),
    }
}
