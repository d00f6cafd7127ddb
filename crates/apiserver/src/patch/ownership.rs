//! `fieldsV1`: sets of field paths, and values at them (K-112, K-116).

use serde_json::{Map, Value, json};

use crate::builtin::shape::{ListType as StaticList, Shape};
use crate::crd::schema::{ListType as CustomList, Schema};
use crate::registry::{Backing, Resource};

/// Metadata that is the server's, hence nobody's.
pub(super) const SYSTEM: &[&str] = &[
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
    "generateName",
];

/// The form of a value, static or from a schema.
#[derive(Clone, Copy)]
pub(super) enum Form<'a> {
    Static(Shape),
    Custom(&'a Schema),
    Unknown,
}

pub(super) enum Members<'a> {
    Atomic,
    Set,
    Keyed(Vec<&'a str>),
}

impl<'a> Form<'a> {
    pub(super) fn of(resource: &'a Resource) -> Self {
        match &resource.backing {
            Backing::BuiltIn(_, object) => Self::Static(Shape::Object(object)),
            Backing::Custom(kind, index) => Self::Custom(kind.versions[*index].schema()),
        }
    }

    fn field(self, key: &str, top: bool) -> Self {
        if top && key == "metadata" {
            return crate::builtin::shape::definition(
                "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
            )
            .map_or(Self::Unknown, |object| Self::Static(Shape::Object(object)));
        }
        match self {
            Self::Static(Shape::Object(object)) => object
                .field(key)
                .map_or(Self::Unknown, |field| Self::Static(field.shape)),
            Self::Static(Shape::Map(of)) => Self::Static(of.values),
            Self::Custom(schema) => schema.below(key).map_or(Self::Unknown, Self::Custom),
            _ => Self::Unknown,
        }
    }

    fn items(self) -> Self {
        match self {
            Self::Static(Shape::List(list)) => Self::Static(list.items),
            Self::Custom(schema) => schema.items.as_deref().map_or(Self::Unknown, Self::Custom),
            _ => Self::Unknown,
        }
    }

    fn members(self) -> Members<'a> {
        match self {
            Self::Static(Shape::List(list)) => match list.apply {
                StaticList::Atomic => Members::Atomic,
                StaticList::Set => Members::Set,
                StaticList::Map(keys) => Members::Keyed(keys.to_vec()),
            },
            Self::Custom(schema) => match &schema.list_type {
                CustomList::Atomic => Members::Atomic,
                CustomList::Set => Members::Set,
                CustomList::Map(keys) => Members::Keyed(keys.iter().map(String::as_str).collect()),
            },
            _ => Members::Atomic,
        }
    }

    fn atomic_map(self) -> bool {
        match self {
            Self::Static(Shape::Object(object)) => object.atomic,
            Self::Static(Shape::Map(of)) => of.atomic,
            Self::Custom(schema) => schema.atomic_map,
            _ => false,
        }
    }
}

/// The identity of a list item, with defaulted keys (K-116).
pub(super) fn item_key(item: &Value, keys: &[&str]) -> String {
    let mut map = Map::new();
    for key in keys {
        let value = match item.get(*key) {
            Some(value) => value.clone(),
            None if *key == "protocol" => json!("TCP"),
            None => continue,
        };
        map.insert((*key).to_owned(), value);
    }
    format!("k:{}", Value::Object(map))
}

/// The `fieldsV1` of everything in `value` (K-112).
pub(super) fn fields_of(value: &Value, form: Form<'_>, top: bool) -> Value {
    match value {
        Value::Object(map) if !form.atomic_map() => {
            let mut out = Map::new();
            for (key, member) in map {
                if top && matches!(key.as_str(), "apiVersion" | "kind") {
                    continue;
                }
                let below = form.field(key, top);
                let mut fields = fields_of(member, below, false);
                if top
                    && key == "metadata"
                    && let Some(map) = fields.as_object_mut()
                {
                    map.retain(|key, _| !SYSTEM.contains(&key.trim_start_matches("f:")));
                    if map.keys().all(|key| key == ".") {
                        continue;
                    }
                }
                out.insert(format!("f:{key}"), fields);
            }
            // An empty map says nothing about its members.
            if out.is_empty() && !top {
                out.insert(".".into(), json!({}));
            }
            Value::Object(out)
        }
        Value::Array(items) => match form.members() {
            Members::Atomic => json!({}),
            Members::Set => Value::Object(
                items
                    .iter()
                    .map(|item| (format!("v:{item}"), json!({})))
                    .collect(),
            ),
            Members::Keyed(keys) => {
                let mut out = Map::new();
                for item in items {
                    let mut fields = fields_of(item, form.items(), false);
                    if let Some(map) = fields.as_object_mut() {
                        map.insert(".".into(), json!({}));
                    }
                    out.insert(item_key(item, &keys), fields);
                }
                Value::Object(out)
            }
        },
        _ => json!({}),
    }
}

pub(super) fn is_leaf(fields: &Value) -> bool {
    fields
        .as_object()
        .is_none_or(|map| map.keys().all(|key| key == "."))
}

/// All paths of a `fieldsV1`, as lists of its keys; leaves and items themselves.
pub(super) fn leaves(fields: &Value, path: &mut Vec<String>, out: &mut Vec<Vec<String>>) {
    let Some(map) = fields.as_object() else {
        return;
    };
    if map.is_empty() && !path.is_empty() {
        out.push(path.clone());
    }
    for (key, below) in map {
        path.push(key.clone());
        if key == "." {
            out.push(path.clone());
        } else {
            leaves(below, path, out);
        }
        path.pop();
    }
}

pub(super) fn owned(fields: &Value, path: &[String]) -> bool {
    let mut at = fields;
    for (index, key) in path.iter().enumerate() {
        match at.get(key) {
            Some(below) => at = below,
            // Whoever owns a whole owns its parts.
            None => return index > 0 && is_leaf(at) && at.as_object().is_some_and(Map::is_empty),
        }
    }
    true
}

pub(super) fn disown(fields: &mut Value, path: &[String]) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    let Some(map) = fields.as_object_mut() else {
        return;
    };
    if rest.is_empty() {
        if map.get(first).is_some_and(is_leaf) {
            map.remove(first);
        }
        return;
    }
    if let Some(below) = map.get_mut(first) {
        disown(below, rest);
        if below.as_object().is_some_and(Map::is_empty) {
            map.remove(first);
        }
    }
}

pub(super) fn own(fields: &mut Value, path: &[String]) {
    let mut at = fields;
    for key in path {
        if !at.is_object() {
            *at = json!({});
        }
        let Some(map) = at.as_object_mut() else {
            return;
        };
        at = map.entry(key.clone()).or_insert_with(|| json!({}));
    }
}

/// The value at a path of `fieldsV1` keys.
pub(super) fn lookup<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(value, |at, key| {
        if let Some(field) = key.strip_prefix("f:") {
            at.get(field)
        } else if let Some(item) = key.strip_prefix("v:") {
            let item: Value = serde_json::from_str(item).ok()?;
            at.as_array()?.iter().find(|candidate| **candidate == item)
        } else if key.starts_with("k:") {
            let index = find_item(at.as_array()?, key)?;
            at.get(index)
        } else {
            Some(at)
        }
    })
}

pub(super) fn find_item(items: &[Value], key: &str) -> Option<usize> {
    let wanted: Value = serde_json::from_str(key.strip_prefix("k:")?).ok()?;
    let keys: Vec<&str> = wanted.as_object()?.keys().map(String::as_str).collect();
    items.iter().position(|item| item_key(item, &keys) == key)
}

/// Removes the value at a path, and the containers that thereby become empty.
pub(super) fn remove(value: &mut Value, path: &[String]) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    if let Some(field) = first.strip_prefix("f:") {
        let Some(map) = value.as_object_mut() else {
            return;
        };
        if rest.is_empty() {
            map.remove(field);
        } else if let Some(below) = map.get_mut(field) {
            remove(below, rest);
            let empty = match below {
                Value::Object(map) => map.is_empty(),
                Value::Array(list) => list.is_empty(),
                _ => false,
            };
            if empty {
                map.remove(field);
            }
        }
    } else if let Some(items) = value.as_array_mut() {
        let index = match first.strip_prefix("v:") {
            Some(item) => serde_json::from_str::<Value>(item)
                .ok()
                .and_then(|item| items.iter().position(|i| *i == item)),
            None => find_item(items, first),
        };
        let Some(index) = index else { return };
        if rest.is_empty() || rest == ["."] {
            items.remove(index);
        } else {
            remove(&mut items[index], rest);
        }
    }
}

/// Merges an applied configuration into a live value.
pub(super) fn merge_into(live: &mut Value, applied: &Value, form: Form<'_>, top: bool) {
    match applied {
        Value::Object(map) if !form.atomic_map() => {
            if !live.is_object() {
                *live = json!({});
            }
            let Some(target) = live.as_object_mut() else {
                return;
            };
            for (key, member) in map {
                merge_into(
                    target.entry(key.clone()).or_insert(Value::Null),
                    member,
                    form.field(key, top),
                    false,
                );
            }
        }
        Value::Array(items) if !matches!(form.members(), Members::Atomic) => {
            if !live.is_array() {
                *live = json!([]);
            }
            let Some(target) = live.as_array_mut() else {
                return;
            };
            for item in items {
                match form.members() {
                    Members::Keyed(keys) => {
                        let key = item_key(item, &keys);
                        match target
                            .iter_mut()
                            .find(|candidate| item_key(candidate, &keys) == key)
                        {
                            Some(existing) => merge_into(existing, item, form.items(), false),
                            None => target.push(item.clone()),
                        }
                    }
                    _ if !target.contains(item) => target.push(item.clone()),
                    _ => {}
                }
            }
        }
        other => *live = other.clone(),
    }
}
