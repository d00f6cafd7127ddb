//! ResourceQuota: refusing what would exceed a hard limit (K-203).

use serde_json::Value;

use super::Review;
use crate::error::ApiError;
use crate::quantity::Quantity;
use crate::server::Inner;

fn amount(value: Option<&Value>) -> Option<Quantity> {
    value.and_then(Value::as_str).and_then(Quantity::parse)
}

/// What one object uses of a quota resource.
fn usage(plural: &str, group: &str, object: &Value, name: &str) -> Option<Quantity> {
    let counted = if group.is_empty() {
        format!("count/{plural}")
    } else {
        format!("count/{plural}.{group}")
    };
    if name == counted || group.is_empty() && name == plural {
        return Some(Quantity::whole(1));
    }
    match (plural, name) {
        ("pods", _) => {
            if matches!(
                object.pointer("/status/phase").and_then(Value::as_str),
                Some("Succeeded" | "Failed")
            ) {
                return None;
            }
            let (kind, resource) = match name.split_once('.') {
                Some(("requests", resource)) => ("requests", resource),
                Some(("limits", resource)) => ("limits", resource),
                _ if matches!(name, "cpu" | "memory") => ("requests", name),
                _ => return None,
            };
            let list = object
                .pointer("/spec/containers")
                .and_then(Value::as_array)?;
            let of = |container: &Value| {
                amount(container.pointer(&format!("/resources/{kind}/{resource}")))
            };
            Some(
                list.iter()
                    .filter_map(of)
                    .fold(Quantity::ZERO, Quantity::plus),
            )
        }
        ("persistentvolumeclaims", "requests.storage") => {
            amount(object.pointer("/spec/resources/requests/storage"))
        }
        _ => None,
    }
}

impl Inner {
    /// Refuses a new object that would exceed a quota of its namespace.
    pub(crate) fn check_quota(&self, review: &Review<'_>, object: &Value) -> Result<(), ApiError> {
        if review.namespace.is_empty() {
            return Ok(());
        }
        let (quotas, _) = self.storage.list("resourcequotas", Some(review.namespace));
        for quota in quotas {
            let value = quota.value();
            let hard = value
                .pointer("/spec/hard")
                .and_then(Value::as_object)
                .into_iter()
                .flatten();
            for (name, limit) in hard {
                let (plural, group) = (&review.resource.plural, &review.resource.group);
                let Some(wanted) = usage(plural, group, object, name) else {
                    continue;
                };
                let (objects, _) = self
                    .storage
                    .list(&review.resource.storage, Some(review.namespace));
                let used = objects
                    .iter()
                    .filter_map(|object| usage(plural, group, &object.value(), name))
                    .fold(Quantity::ZERO, Quantity::plus);
                let Some(most) = amount(Some(limit)) else {
                    continue;
                };
                if used.plus(wanted) > most {
                    let text = |quantity: Quantity| {
                        if name.contains("memory") || name.contains("storage") {
                            quantity.binary()
                        } else {
                            quantity.decimal()
                        }
                    };
                    let why = format!(
                        "exceeded quota: {}, requested: {name}={}, used: {name}={}, limited: {name}={}",
                        quota.name,
                        text(wanted),
                        text(used),
                        text(most)
                    );
                    let own = object
                        .pointer("/metadata/name")
                        .and_then(Value::as_str)
                        .unwrap_or_default();
                    return Err(ApiError::forbidden(review.resource.about(), own, &why));
                }
            }
        }
        Ok(())
    }
}
