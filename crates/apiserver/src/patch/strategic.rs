//! Strategic merge patch: lists of built-in kinds merge by key or as sets, with directives (K-106 to K-109).

use serde_json::{Map, Value};

use crate::builtin::shape::{Merge, Object, Shape};
use crate::error::ApiError;

const DIRECTIVE: &str = "$patch";
const ORDER: &str = "$setElementOrder/";
const DELETE_ITEMS: &str = "$deleteFromPrimitiveList/";
const RETAIN: &str = "$retainKeys";

/// Merges `patch` into `target`, an object of the given form.
pub fn apply(target: &mut Value, patch: Value, object: &'static Object) -> Result<(), ApiError> {
    let Value::Object(patch) = patch else {
        return Err(ApiError::bad_request(
            "error decoding patch: json: cannot unmarshal into Go value of type map[string]interface {}",
        ));
    };
    merge_map(target, patch, Some(Shape::Object(object)))
}

fn child(shape: Option<Shape>, key: &str) -> Option<Shape> {
    match shape? {
        Shape::Object(object) => object.field(key).map(|field| field.shape),
        Shape::Map(of) => Some(of.values),
        _ => None,
    }
}

fn merge_map(
    target: &mut Value,
    mut patch: Map<String, Value>,
    shape: Option<Shape>,
) -> Result<(), ApiError> {
    match patch
        .remove(DIRECTIVE)
        .as_ref()
        .map(|value| value.as_str().unwrap_or_default())
    {
        None | Some("merge") => {}
        Some("replace") => {
            *target = Value::Object(patch);
            return Ok(());
        }
        Some("delete") => {
            *target = Value::Object(Map::new());
            return Ok(());
        }
        Some(other) => return Err(ApiError::internal(format!("unknown patch type: {other}"))),
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(map) = target else {
        return Ok(());
    };
    if let Some(retained) = patch.remove(RETAIN) {
        let Value::Array(retained) = retained else {
            return Err(ApiError::bad_request(
                "invalid patch format: $retainKeys must be a list",
            ));
        };
        map.retain(|key, _| retained.iter().any(|kept| kept == key.as_str()));
    }
    let mut orders = Map::new();
    let mut removals = Map::new();
    patch.retain(|key, value| {
        if let Some(field) = key.strip_prefix(ORDER) {
            orders.insert(field.to_owned(), value.take());
            false
        } else if let Some(field) = key.strip_prefix(DELETE_ITEMS) {
            removals.insert(field.to_owned(), value.take());
            false
        } else {
            true
        }
    });
    for (field, values) in removals {
        let Value::Array(values) = values else {
            return Err(ApiError::bad_request(
                "invalid patch format: primitive list expected",
            ));
        };
        if let Some(Value::Array(list)) = map.get_mut(&field) {
            list.retain(|item| !values.contains(item));
        }
    }
    for (key, value) in patch {
        let shape = child(shape, &key);
        match value {
            Value::Null => {
                map.remove(&key);
            }
            Value::Object(below) => merge_map(map.entry(key).or_insert(Value::Null), below, shape)?,
            Value::Array(items) => {
                let order = orders.remove(&key);
                let list = map.entry(key).or_insert(Value::Null);
                merge_list(list, items, shape, order)?;
            }
            scalar => {
                map.insert(key, scalar);
            }
        }
    }
    // An order without changes only sorts what is there.
    for (key, order) in orders {
        if let (Some(list), Some(Shape::List(of))) = (map.get_mut(&key), child(shape, &key)) {
            sort(list, &order, of.patch)?;
        }
    }
    Ok(())
}

fn merge_list(
    target: &mut Value,
    patch: Vec<Value>,
    shape: Option<Shape>,
    order: Option<Value>,
) -> Result<(), ApiError> {
    let (merge, item_shape) = match shape {
        Some(Shape::List(list)) => (list.patch, Some(list.items)),
        _ => (Merge::Replace, None),
    };
    let Value::Array(list) = target else {
        let mut fresh = Value::Array(Vec::new());
        if merge == Merge::Replace {
            fresh = Value::Array(patch);
        } else {
            merge_list(&mut fresh, patch, shape, order)?;
        }
        *target = fresh;
        return Ok(());
    };
    match merge {
        Merge::Replace => *list = patch,
        Merge::Set => {
            for item in patch {
                if !list.contains(&item) {
                    list.push(item);
                }
            }
        }
        Merge::Key(key) => {
            if patch.iter().any(|item| {
                item.get(DIRECTIVE).and_then(Value::as_str) == Some("replace")
                    && item.get(key).is_none()
            }) {
                *list = patch
                    .into_iter()
                    .filter(|item| item.get(DIRECTIVE).is_none())
                    .collect();
                return Ok(());
            }
            for item in patch {
                merge_item(list, item, key, item_shape)?;
            }
        }
    }
    match order {
        Some(order) => sort(target, &order, merge),
        None => Ok(()),
    }
}

fn merge_item(
    list: &mut Vec<Value>,
    item: Value,
    key: &str,
    shape: Option<Shape>,
) -> Result<(), ApiError> {
    let Value::Object(mut item) = item else {
        return Err(ApiError::unprocessable(
            "patch: Invalid value: list item is not a map",
        ));
    };
    let Some(id) = item.get(key).cloned() else {
        return Err(ApiError::internal(format!(
            "map: {} does not contain declared merge key: {key}",
            Value::Object(item)
        )));
    };
    let position = list
        .iter()
        .position(|existing| existing.get(key) == Some(&id));
    match item
        .get(DIRECTIVE)
        .map(|value| value.as_str().unwrap_or_default().to_owned())
        .as_deref()
    {
        Some("delete") => {
            list.retain(|existing| existing.get(key) != Some(&id));
            return Ok(());
        }
        Some("replace") => {
            item.remove(DIRECTIVE);
            match position {
                Some(at) => list[at] = Value::Object(item),
                None => list.push(Value::Object(item)),
            }
            return Ok(());
        }
        Some("merge") | None => {
            item.remove(DIRECTIVE);
        }
        Some(other) => return Err(ApiError::internal(format!("unknown patch type: {other}"))),
    }
    match position {
        Some(at) => merge_map(&mut list[at], item, shape),
        None => {
            let mut fresh = Value::Object(Map::new());
            merge_map(&mut fresh, item, shape)?;
            list.push(fresh);
            Ok(())
        }
    }
}

/// Brings the items named by `$setElementOrder` into that order; others keep their place after their predecessor.
fn sort(target: &mut Value, order: &Value, merge: Merge) -> Result<(), ApiError> {
    let Value::Array(order) = order else {
        return Err(ApiError::bad_request(
            "invalid patch format: $setElementOrder must be a list",
        ));
    };
    let Value::Array(list) = target else {
        return Ok(());
    };
    let rank = |item: &Value| match merge {
        Merge::Key(key) => order
            .iter()
            .position(|wanted| wanted.get(key) == item.get(key)),
        _ => order.iter().position(|wanted| wanted == item),
    };
    let mut last = 0;
    let mut ranked: Vec<(usize, Value)> = Vec::with_capacity(list.len());
    for item in list.drain(..) {
        let own = rank(&item);
        // Items that the patch does not name stay behind the one they followed.
        last = own.unwrap_or(last);
        ranked.push((own.unwrap_or(last), item));
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    list.extend(ranked.into_iter().map(|(_, item)| item));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::shape::definition;
    use serde_json::json;

    #[test]
    fn lists_of_pods_merge_by_key_as_sets_or_not_at_all() {
        // K-106, K-107, K-108, K-109
        let pod = definition("io.k8s.api.core.v1.Pod").unwrap();
        let start = json!({
            "metadata": {"finalizers": ["a"], "labels": {"x": "1"}},
            "spec": {
                "containers": [{"name": "a", "image": "1", "args": ["x"]}, {"name": "b", "image": "2"}],
                "tolerations": [{"key": "k"}],
                "volumes": [{"name": "v", "emptyDir": {}}],
            },
        });
        for (patch, pointer, expected) in [
            (
                json!({"metadata": {"finalizers": ["b"]}}),
                "/metadata/finalizers",
                json!(["a", "b"]),
            ),
            (
                json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}),
                "/metadata/finalizers",
                json!([]),
            ),
            (
                json!({"metadata": {"labels": {"x": null}}}),
                "/metadata/labels",
                json!({}),
            ),
            (
                json!({"spec": {"containers": [{"name": "b", "image": "3"}]}}),
                "/spec/containers",
                json!([{"name": "a", "image": "1", "args": ["x"]}, {"name": "b", "image": "3"}]),
            ),
            (
                json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}),
                "/spec/containers",
                json!([{"name": "b", "image": "2"}]),
            ),
            (
                json!({"spec": {"containers": [{"name": "a", "args": ["y"]}]}}),
                "/spec/containers/0/args",
                json!(["y"]),
            ),
            (
                json!({"spec": {"tolerations": [{"key": "l"}]}}),
                "/spec/tolerations",
                json!([{"key": "l"}]),
            ),
            (
                json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "secret"], "secret": {"secretName": "s"}}]}}),
                "/spec/volumes",
                json!([{"name": "v", "secret": {"secretName": "s"}}]),
            ),
            (
                json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}),
                "/spec/containers/0/name",
                json!("b"),
            ),
        ] {
            let mut target = start.clone();
            apply(&mut target, patch.clone(), pod).unwrap();
            assert_eq!(target.pointer(pointer), Some(&expected), "{patch}");
        }
        let bad = json!({"spec": {"containers": [{"image": "x"}]}});
        let error = apply(&mut start.clone(), bad, pod).unwrap_err();
        assert!(
            error
                .message
                .contains("does not contain declared merge key: name"),
            "{}",
            error.message
        );
    }
}
