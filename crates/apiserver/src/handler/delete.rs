//! DELETE of one object and of a collection (K-064 to K-075).

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::input::DeleteOptions;
use super::{Answer, Call, meta, reply};
use crate::admission::{Operation, Review};
use crate::builtin::conform::format_seconds;
use crate::builtin::kinds::CRDS;
use crate::crd::definition;
use crate::error::{ApiError, Cause};
use crate::registry::Resource;
use crate::server::Inner;
use crate::storage::Stored;
use crate::target::Path;

const ATTEMPTS: usize = 20;
/// Ten years, in seconds: beyond it, times would overflow.
const LONGEST_GRACE: i64 = 10 * 365 * 24 * 3600;
const PROTECTED: [&str; 3] = ["default", "kube-system", "kube-public"];

/// What a deletion left behind.
pub(super) enum Deleted {
    /// Gone; the last state.
    Gone(Arc<Stored>),
    /// Marked; finalizers, the node or a controller will finish it.
    Marked(Arc<Stored>),
}

impl Inner {
    /// `DELETE` of an item.
    pub(super) async fn delete(
        self: &Arc<Self>,
        call: &Call,
        resource: &Arc<Resource>,
        path: &Path,
    ) -> Answer {
        let options = DeleteOptions::read(call)?;
        match self
            .delete_object(call, resource, &path.namespace, &path.name, &options)
            .await?
        {
            Deleted::Marked(object) => {
                self.storage
                    .durable(object.revision)
                    .await
                    .map_err(ApiError::internal)?;
                self.answer_stored(call, resource, &object, StatusCode::OK)
                    .await
            }
            Deleted::Gone(object) => {
                if !options.dry_run {
                    self.storage
                        .durable(object.revision)
                        .await
                        .map_err(ApiError::internal)?;
                }
                if resource.built_in().is_some_and(|kind| kind.returns_object) {
                    return self
                        .answer_stored(call, resource, &object, StatusCode::OK)
                        .await;
                }
                let mut details =
                    json!({"name": &*object.name, "kind": resource.plural, "uid": &*object.uid});
                if !resource.group.is_empty() {
                    details["group"] = resource.group.as_str().into();
                }
                let status = json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
                });
                Ok(reply(
                    StatusCode::OK,
                    "application/json",
                    status.to_string(),
                ))
            }
        }
    }

    /// `DELETE` of a collection (K-074).
    pub(super) async fn delete_collection(
        self: &Arc<Self>,
        call: &Call,
        resource: &Arc<Resource>,
        path: &Path,
    ) -> Answer {
        if resource.namespaced && path.namespace.is_empty() || resource.is("", "namespaces") {
            return Err(ApiError::method_not_allowed());
        }
        let options = DeleteOptions::read(call)?;
        let selection = self.selection(&call.query, resource)?;
        let namespace = resource.namespaced.then_some(path.namespace.as_str());
        let (items, _) = self.storage.list(&resource.storage, namespace);
        let mut deleted = Vec::new();
        for object in items.into_iter().filter(|object| selection.matches(object)) {
            match self
                .delete_object(call, resource, &object.namespace, &object.name, &options)
                .await
            {
                Ok(Deleted::Gone(object) | Deleted::Marked(object)) => deleted.push(object),
                Err(error) if error.code == StatusCode::NOT_FOUND => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(last) = deleted
            .iter()
            .map(|object| object.revision)
            .max()
            .filter(|_| !options.dry_run)
        {
            self.storage
                .durable(last)
                .await
                .map_err(ApiError::internal)?;
        }
        let items = self.load_all(resource, &deleted).await?;
        let list = json!({
            "kind": resource.list_kind,
            "apiVersion": resource.api_version(),
            "metadata": {"resourceVersion": self.storage.revision().to_string()},
            "items": items,
        });
        Ok(reply(StatusCode::OK, "application/json", list.to_string()))
    }

    /// Deletes by the object's own rules.
    pub(super) async fn delete_object(
        self: &Arc<Self>,
        call: &Call,
        resource: &Arc<Resource>,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, ApiError> {
        if resource.is("", "namespaces") && PROTECTED.contains(&name) {
            return Err(ApiError::forbidden(
                resource.about(),
                name,
                "this namespace may not be deleted",
            ));
        }
        for _ in 0..ATTEMPTS {
            let current = self
                .storage
                .get(&resource.storage, namespace, name)
                .ok_or_else(|| ApiError::not_found(resource.about(), name))?;
            self.check_preconditions(resource, &current, options)?;
            let old = self.load(resource, &current).await?;
            let review = Review {
                operation: Operation::Delete,
                resource,
                subresource: "",
                namespace,
                old: Some(&old),
                dry_run: options.dry_run,
                identity: &call.identity,
                options: json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"}),
            };
            self.mutate(call, &review, &mut Value::Null).await?;
            self.validate_by_webhooks(call, &review, &Value::Null)
                .await?;
            let marked = mark(resource, &old, options);
            if options.dry_run {
                return Ok(if marked.is_some() {
                    Deleted::Marked(current)
                } else {
                    Deleted::Gone(current)
                });
            }
            match marked {
                Some(new) if new == old => return Ok(Deleted::Marked(current)),
                Some(new) => {
                    let draft = self.draft(resource, new).await?;
                    if let Ok(stored) =
                        self.storage
                            .update(&resource.storage, draft, current.revision)
                    {
                        self.wrote(resource, &stored);
                        return Ok(Deleted::Marked(stored));
                    }
                }
                None => {
                    if let Ok(gone) =
                        self.storage
                            .delete(&resource.storage, namespace, name, current.revision)
                    {
                        self.wrote(resource, &gone);
                        return Ok(Deleted::Gone(gone));
                    }
                }
            }
        }
        Err(ApiError::modified(resource.about(), name))
    }

    fn check_preconditions(
        &self,
        resource: &Resource,
        current: &Stored,
        options: &DeleteOptions,
    ) -> Result<(), ApiError> {
        let about = crate::error::About {
            group: &resource.group,
            resource: &resource.kind,
            kind: &resource.kind,
        };
        let mismatch = |what: &str, wanted: &str, found: &str| {
            let text = format!(
                "the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). \
                 The object might have been deleted and then recreated"
            );
            let mut error = ApiError::conflict(resource.about(), &current.name, &text);
            error.details.get_or_insert_default().kind = about.kind.to_owned();
            error
        };
        if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != &*current.uid) {
            return Err(mismatch("UID", uid, &current.uid));
        }
        let found = current.revision.to_string();
        if let Some(revision) = options
            .revision
            .as_deref()
            .filter(|revision| *revision != found)
        {
            return Err(mismatch("ResourceVersion", revision, &found));
        }
        Ok(())
    }

    /// Deletes all instances of a terminating definition, then lets it go (K-181).
    pub(crate) async fn clean_up_definition(self: Arc<Self>, name: String) {
        let call = Call::internal();
        let options = DeleteOptions {
            policy: Some("Background".into()),
            ..DeleteOptions::default()
        };
        loop {
            let registry = self.registry();
            let Some(kind) = registry.custom().get(&name) else {
                break;
            };
            let resource = kind
                .versions
                .iter()
                .find_map(|version| registry.get(&kind.group, &version.name, &kind.plural));
            let Some(resource) = resource.cloned() else {
                break;
            };
            let collection: Arc<str> = name.as_str().into();
            let (items, _, mut watcher) = self.storage.list_and_watch(&collection, None);
            if items.is_empty() {
                break;
            }
            for object in items.iter().filter(|object| !object.deleting) {
                if let Err(error) = self
                    .delete_object(&call, &resource, &object.namespace, &object.name, &options)
                    .await
                {
                    tracing::warn!(%error, object = %object.name, "cannot delete an instance of a terminating definition");
                }
            }
            tokio::select! {
                _ = watcher.next() => {}
                () = self.closing() => return,
            }
        }
        let Some(resource) = self
            .registry()
            .get("apiextensions.k8s.io", "v1", CRDS)
            .cloned()
        else {
            return;
        };
        for _ in 0..ATTEMPTS {
            let Some(current) = self
                .storage
                .get(&resource.storage, "", &name)
                .filter(|object| object.deleting)
            else {
                return;
            };
            let mut object = current.value();
            definition::finish_cleanup(&mut object);
            if meta::finalizers(&object).is_empty() {
                if let Ok(gone) =
                    self.storage
                        .delete(&resource.storage, "", &name, current.revision)
                {
                    self.wrote(&resource, &gone);
                    return;
                }
            } else if let Ok(draft) = self.draft(&resource, object).await
                && self
                    .storage
                    .update(&resource.storage, draft, current.revision)
                    .is_ok()
            {
                return;
            }
        }
    }
}

/// The object marked for deletion; `None` if it goes at once.
fn mark(resource: &Resource, old: &Value, options: &DeleteOptions) -> Option<Value> {
    let mut new = old.clone();
    let policy = options.policy.as_deref();
    let orphan_by_default = policy.is_none() && resource.is("batch", "jobs");
    let wanted = match policy {
        Some("Foreground") => Some("foregroundDeletion"),
        Some("Orphan") => Some("orphan"),
        _ if orphan_by_default => Some("orphan"),
        _ => None,
    };
    let list = new["metadata"]
        .as_object_mut()?
        .entry("finalizers")
        .or_insert_with(|| json!([]))
        .as_array_mut()?;
    // K-069
    list.retain(|item| {
        Some(item.as_str().unwrap_or_default()) == wanted
            || (item != "foregroundDeletion" && item != "orphan")
            || policy.is_none()
    });
    if let Some(finalizer) = wanted.filter(|finalizer| !list.iter().any(|item| item == *finalizer))
    {
        list.push(finalizer.into());
    }
    let finalizers = !list.is_empty();
    if !finalizers {
        new["metadata"].as_object_mut()?.remove("finalizers");
    }
    let grace = grace(resource, old, options);
    let namespace = resource.is("", "namespaces")
        && old
            .pointer("/spec/finalizers")
            .and_then(Value::as_array)
            .is_some_and(|list| !list.is_empty());
    if !finalizers && grace == 0 && !namespace {
        return None;
    }
    let already = old.pointer("/metadata/deletionTimestamp").is_some();
    let before = old
        .pointer("/metadata/deletionGracePeriodSeconds")
        .and_then(Value::as_i64);
    // A later deletion may only shorten the time that is left.
    if !already || before.is_some_and(|before| grace < before) {
        let time = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(grace);
        new["metadata"]["deletionTimestamp"] = format_seconds(time).into();
        new["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        if let Some(generation) = old
            .pointer("/metadata/generation")
            .and_then(Value::as_i64)
            .filter(|_| !already)
        {
            new["metadata"]["generation"] = (generation + 1).into();
        }
    }
    if resource.is("", "namespaces") {
        new["metadata"]
            .as_object_mut()?
            .remove("deletionGracePeriodSeconds");
        new["status"]["phase"] = "Terminating".into();
    }
    if resource.is("apiextensions.k8s.io", CRDS) {
        definition::terminate(&mut new, &meta::now());
    }
    Some(new)
}

/// Pods on a node get time to stop; everything else goes at once.
fn grace(resource: &Resource, old: &Value, options: &DeleteOptions) -> i64 {
    if !resource.is("", "pods") {
        return 0;
    }
    let text = |pointer: &str| {
        old.pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    if text("/spec/nodeName").is_empty() || matches!(text("/status/phase"), "Succeeded" | "Failed")
    {
        return 0;
    }
    let own = old
        .pointer("/spec/terminationGracePeriodSeconds")
        .and_then(Value::as_i64)
        .unwrap_or(30);
    options.grace.unwrap_or(own).clamp(0, LONGEST_GRACE)
}

/// 422 of a pod eviction that names another pod.
pub(super) fn wrong_name(resource: &Resource, found: &str, wanted: &str) -> ApiError {
    let cause = Cause::invalid("metadata.name", &found.into(), &format!("must be {wanted}"));
    ApiError::invalid(&resource.group, &resource.kind, found, vec![cause])
}
