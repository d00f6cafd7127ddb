//! From an object in a request's version to what is stored: converted, with its selectable fields picked out.

use serde_json::Value;

use crate::builtin::events;
use crate::builtin::kinds::KINDS;
use crate::crd::{convert, structure};
use crate::error::ApiError;
use crate::registry::{Backing, Resource};
use crate::server::Inner;
use crate::storage::{Draft, Pairs};

impl Inner {
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
                    "events" => KINDS
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
                        structure::prune(&mut object, version.schema(), &mut Vec::new());
                        structure::default(&mut object, version.schema());
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
        // What has a status is written several times, by whoever looks after it.
        let is_rewritten = match &resource.backing {
            Backing::BuiltIn(kind, _) => kind.namespaced && kind.status,
            Backing::Custom(kind, index) => resource.namespaced && kind.versions[*index].status,
        };
        let fields = Pairs::new(
            fields
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str())),
        );
        let draft = Draft::new(&object, fields);
        Ok(match is_rewritten {
            true => draft.with_tree(object),
            false => draft,
        })
    }
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
