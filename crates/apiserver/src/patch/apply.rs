//! Server-side apply, and who owns which field (section 6).
//!
//! Ownership is tracked from an object's first apply on; before it, nobody but the writers of the time could tell
//! the difference (K-118).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::builtin::conform::format_seconds;
use crate::builtin::shape::{ListType as StaticList, Shape};
use crate::crd::schema::{ListType as CustomList, Schema};
use crate::error::{ApiError, Cause};
use crate::handler::WriteOptions;
use crate::registry::{Backing, Resource};

/// The manager that owns what was there before the first apply.
const BEFORE: &str = "before-first-apply";
/// Metadata that is the server's, hence nobody's.
const SYSTEM: &[&str] = &[
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
enum Form<'a> {
    Static(Shape),
    Custom(&'a Schema),
    Unknown,
}

enum Members<'a> {
    Atomic,
    Set,
    Keyed(Vec<&'a str>),
}

impl<'a> Form<'a> {
    fn of(resource: &'a Resource) -> Self {
        match &resource.backing {
            Backing::BuiltIn(_, object) => Self::Static(Shape::Object(object)),
            Backing::Custom(kind, index) => Self::Custom(&kind.versions[*index].schema),
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
            Self::Custom(schema) => schema
                .properties
                .get(key)
                .or(schema.additional.as_deref())
                .map_or(Self::Unknown, Self::Custom),
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
fn item_key(item: &Value, keys: &[&str]) -> String {
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
fn fields_of(value: &Value, form: Form<'_>, top: bool) -> Value {
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

fn is_leaf(fields: &Value) -> bool {
    fields
        .as_object()
        .is_none_or(|map| map.keys().all(|key| key == "."))
}

/// All paths of a `fieldsV1`, as lists of its keys; leaves and items themselves.
fn leaves(fields: &Value, path: &mut Vec<String>, out: &mut Vec<Vec<String>>) {
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

fn owned(fields: &Value, path: &[String]) -> bool {
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

fn disown(fields: &mut Value, path: &[String]) {
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

fn own(fields: &mut Value, path: &[String]) {
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
fn lookup<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
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

fn find_item(items: &[Value], key: &str) -> Option<usize> {
    let wanted: Value = serde_json::from_str(key.strip_prefix("k:")?).ok()?;
    let keys: Vec<&str> = wanted.as_object()?.keys().map(String::as_str).collect();
    items.iter().position(|item| item_key(item, &keys) == key)
}

/// Removes the value at a path, and the containers that thereby become empty.
fn remove(value: &mut Value, path: &[String]) {
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
fn merge_into(live: &mut Value, applied: &Value, form: Form<'_>, top: bool) {
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

fn entry(
    manager: &str,
    operation: &str,
    resource: &Resource,
    subresource: &str,
    fields: Value,
) -> Value {
    let mut entry = json!({
        "manager": manager,
        "operation": operation,
        "apiVersion": resource.api_version(),
        "time": format_seconds(jiff::Timestamp::now()),
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    });
    if !subresource.is_empty() {
        entry["subresource"] = subresource.into();
    }
    entry
}

fn is_entry(entry: &Value, manager: &str, operation: &str, subresource: &str) -> bool {
    entry["manager"] == manager
        && entry["operation"] == operation
        && entry
            .get("subresource")
            .and_then(Value::as_str)
            .unwrap_or_default()
            == subresource
}

/// Records that `manager` owns all of a newly applied object.
pub(crate) fn own_all(object: &mut Value, applied: &Value, resource: &Resource, manager: &str) {
    let fields = fields_of(applied, Form::of(resource), true);
    object["metadata"]["managedFields"] = json!([entry(manager, "Apply", resource, "", fields)]);
}

/// A path as conflicts name it: `.spec.ports[port=80].name`.
fn render(path: &[String]) -> String {
    let mut out = String::new();
    for key in path {
        if let Some(field) = key.strip_prefix("f:") {
            out.push('.');
            out.push_str(field);
        } else if let Some(item) = key.strip_prefix("k:") {
            let map: BTreeMap<String, Value> = serde_json::from_str(item).unwrap_or_default();
            let parts: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            out.push_str(&format!("[{}]", parts.join(",")));
        } else if let Some(item) = key.strip_prefix("v:") {
            out.push_str(&format!("[={item}]"));
        }
    }
    out
}

/// The live object after an apply; 409 if somebody else owns a value it would change (K-114, K-115).
pub(crate) fn merge(
    live: &Value,
    applied: &Value,
    resource: &Resource,
    options: &WriteOptions,
    subresource: &str,
) -> Result<Value, ApiError> {
    let form = Form::of(resource);
    let mut managers = live
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    if managers.is_empty() {
        managers.push(entry(
            BEFORE,
            "Update",
            resource,
            "",
            fields_of(live, form, true),
        ));
    }
    let mut wanted = applied.clone();
    if let Some(metadata) = wanted.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| {
            !SYSTEM.contains(&key.as_str()) || key == "resourceVersion" || key == "uid"
        });
    }
    let fields = fields_of(&wanted, form, true);
    let mut paths = Vec::new();
    leaves(&fields, &mut Vec::new(), &mut paths);
    let changes: Vec<&Vec<String>> = paths
        .iter()
        .filter(|path| path.last().is_none_or(|last| last != "."))
        .filter(|path| lookup(live, path).is_some() && lookup(live, path) != lookup(&wanted, path))
        .collect();
    let mut conflicts = Vec::new();
    for other in managers.iter_mut() {
        if is_entry(other, &options.manager, "Apply", subresource) {
            continue;
        }
        for path in &changes {
            if !owned(&other["fieldsV1"], path) {
                continue;
            }
            if options.force {
                disown(&mut other["fieldsV1"], path);
            } else {
                conflicts.push((other.clone(), render(path)));
            }
        }
    }
    if !conflicts.is_empty() {
        return Err(conflict(&conflicts));
    }
    let mut new = live.clone();
    let before = managers
        .iter()
        .find(|entry| is_entry(entry, &options.manager, "Apply", subresource))
        .cloned();
    // K-114: what this manager no longer applies and nobody else owns goes.
    if let Some(before) = &before {
        let mut old_paths = Vec::new();
        leaves(&before["fieldsV1"], &mut Vec::new(), &mut old_paths);
        for path in old_paths.iter().filter(|path| !owned(&fields, path)) {
            let shared = managers.iter().any(|other| {
                !is_entry(other, &options.manager, "Apply", subresource)
                    && owned(&other["fieldsV1"], path)
            });
            if !shared {
                remove(&mut new, path);
            }
        }
    }
    merge_into(&mut new, &wanted, form, true);
    managers.retain(|entry| !is_entry(entry, &options.manager, "Apply", subresource));
    managers.retain(|entry| {
        entry["fieldsV1"]
            .as_object()
            .is_some_and(|map| !map.is_empty())
    });
    let mut mine = entry(&options.manager, "Apply", resource, subresource, fields);
    if let Some(before) = before.filter(|before| before["fieldsV1"] == mine["fieldsV1"]) {
        mine["time"] = before["time"].clone();
    }
    managers.insert(0, mine);
    new["metadata"]["managedFields"] = Value::Array(managers);
    Ok(new)
}

fn conflict(conflicts: &[(Value, String)]) -> ApiError {
    let name = |entry: &Value| {
        let manager = entry["manager"].as_str().unwrap_or_default();
        if entry["operation"] == "Update" {
            format!(
                "conflict with \"{manager}\" using {}",
                entry["apiVersion"].as_str().unwrap_or_default()
            )
        } else {
            format!("conflict with \"{manager}\"")
        }
    };
    let causes: Vec<Cause> = conflicts
        .iter()
        .map(|(entry, path)| Cause {
            reason: "FieldManagerConflict",
            message: name(entry),
            field: path.clone(),
        })
        .collect();
    let message = match conflicts {
        [(entry, path)] => format!("Apply failed with 1 conflict: {}: {path}", name(entry)),
        many => {
            let mut by_manager: BTreeMap<String, Vec<&str>> = BTreeMap::new();
            for (entry, path) in many {
                by_manager.entry(name(entry)).or_default().push(path);
            }
            let lines: Vec<String> = by_manager
                .iter()
                .map(|(manager, paths)| match paths.as_slice() {
                    [one] => format!("{manager}: {one}"),
                    several => format!("{manager}:\n- {}", several.join("\n- ")),
                })
                .collect();
            format!(
                "Apply failed with {} conflicts: {}",
                many.len(),
                lines.join("\n")
            )
        }
    };
    ApiError::apply_conflict(message, causes)
}

/// After an ordinary update of an object whose ownership is tracked: changed fields pass to the updater (K-111).
pub(crate) fn track_update(
    new: &mut Value,
    old: &Value,
    resource: &Resource,
    options: &WriteOptions,
    subresource: &str,
) {
    let managers = new
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let unchanged = old
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array)
        .is_some_and(|old| *old == managers);
    // An apply has just written them itself.
    if managers.is_empty() || !unchanged || options.manager.is_empty() {
        return;
    }
    let form = Form::of(resource);
    let (now, before) = (fields_of(new, form, true), fields_of(old, form, true));
    let collect = |fields: &Value| {
        let mut paths = Vec::new();
        leaves(fields, &mut Vec::new(), &mut paths);
        paths
    };
    let changed: Vec<Vec<String>> = collect(&now)
        .into_iter()
        .filter(|path| lookup(new, path) != lookup(old, path))
        .collect();
    let gone: Vec<Vec<String>> = collect(&before)
        .into_iter()
        .filter(|path| lookup(new, path).is_none())
        .collect();
    if changed.is_empty() && gone.is_empty() {
        return;
    }
    let mut managers = managers;
    for other in &mut managers {
        for path in changed.iter().chain(&gone) {
            disown(&mut other["fieldsV1"], path);
        }
    }
    let position = managers
        .iter()
        .position(|entry| is_entry(entry, &options.manager, "Update", subresource));
    let mut mine = match position {
        Some(index) => managers.remove(index),
        None => entry(&options.manager, "Update", resource, subresource, json!({})),
    };
    for path in &changed {
        own(&mut mine["fieldsV1"], path);
    }
    mine["time"] = format_seconds(jiff::Timestamp::now()).into();
    managers.push(mine);
    managers.retain(|entry| {
        entry["fieldsV1"]
            .as_object()
            .is_some_and(|map| !map.is_empty())
    });
    new["metadata"]["managedFields"] = Value::Array(managers);
}
