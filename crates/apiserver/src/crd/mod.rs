//! Kinds that CustomResourceDefinitions bring (section 9).

pub mod check;
pub mod convert;
pub mod definition;
pub mod schema;
pub mod structure;

use std::sync::Arc;

use serde_json::Value;

use crate::storage::Stored;
use schema::Schema;

/// A compiled CustomResourceDefinition.
#[derive(Debug)]
pub struct CustomKind {
    pub name: String,
    pub group: String,
    pub plural: String,
    pub singular: String,
    pub kind: String,
    pub list_kind: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub namespaced: bool,
    pub versions: Vec<Version>,
    pub storage_version: String,
    /// `spec.conversion.webhook`, when the strategy is `Webhook`.
    pub conversion: Option<Value>,
    /// Being deleted: no new objects (K-181).
    pub terminating: bool,
    /// The revision of the definition this was compiled from.
    pub revision: u64,
    /// The definition as stored: bytes that the store holds too, read again for the rare question what was written.
    stored: Arc<Stored>,
}

/// One version of a [`CustomKind`].
#[derive(Debug)]
pub struct Version {
    pub name: String,
    pub served: bool,
    pub schema: Arc<Schema>,
    pub status: bool,
    pub scale: Option<Scale>,
    pub columns: Vec<Column>,
    pub selectable: Vec<String>,
    /// The warning to send, if the version is deprecated.
    pub deprecation: Option<String>,
}

/// `subresources.scale`.
#[derive(Debug)]
pub struct Scale {
    pub spec_replicas: String,
    pub status_replicas: String,
    pub selector: Option<String>,
}

/// One of `additionalPrinterColumns`.
#[derive(Debug)]
pub struct Column {
    pub name: String,
    pub kind: String,
    pub format: String,
    pub description: String,
    pub priority: i64,
    pub path: String,
}

fn text(value: &Value, key: &str) -> String {
    value
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|item| item.as_str().map(str::to_owned))
        .collect()
}

impl CustomKind {
    /// Compiles a stored definition.
    pub fn compile(object: &Value, stored: Arc<Stored>) -> Result<Self, String> {
        let spec = object.get("spec").unwrap_or(&Value::Null);
        let names = spec.get("names").unwrap_or(&Value::Null);
        let group = text(spec, "group");
        let kind = text(names, "kind");
        let mut versions = Vec::new();
        let mut storage_version = String::new();
        for version in spec
            .get("versions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            if version.get("storage") == Some(&Value::Bool(true)) {
                storage_version = text(version, "name");
            }
            versions.push(compile_version(version, &group, &kind)?);
        }
        sort_versions(&mut versions, |version| &version.name);
        let conversion = spec
            .get("conversion")
            .filter(|conversion| text(conversion, "strategy") == "Webhook");
        Ok(Self {
            name: object
                .pointer("/metadata/name")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .into(),
            plural: text(names, "plural"),
            singular: text(names, "singular"),
            list_kind: text(names, "listKind"),
            short_names: strings(names.get("shortNames")),
            categories: strings(names.get("categories")),
            namespaced: text(spec, "scope") == "Namespaced",
            conversion: conversion
                .and_then(|conversion| conversion.get("webhook"))
                .cloned(),
            terminating: object.pointer("/metadata/deletionTimestamp").is_some(),
            group,
            kind,
            versions,
            storage_version,
            revision: stored.revision,
            stored,
        })
    }

    /// The schema of a version as written, for OpenAPI. As a tree it takes many times the memory of the compiled one.
    pub fn source(&self, version: &str) -> Value {
        let mut definition = self.stored.value();
        let versions = definition.pointer_mut("/spec/versions");
        let mut versions = versions.and_then(Value::as_array_mut).into_iter().flatten();
        versions
            .find(|candidate| candidate["name"] == version)
            .and_then(|found| found.pointer_mut("/schema/openAPIV3Schema"))
            .map(Value::take)
            .unwrap_or_default()
    }

    /// The version of this name.
    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.name == name)
    }
}

fn compile_version(version: &Value, group: &str, kind: &str) -> Result<Version, String> {
    let name = text(version, "name");
    let source = version
        .pointer("/schema/openAPIV3Schema")
        .unwrap_or(&Value::Null);
    let scale = version.pointer("/subresources/scale").map(|scale| Scale {
        spec_replicas: text(scale, "specReplicasPath"),
        status_replicas: text(scale, "statusReplicasPath"),
        selector: scale
            .get("labelSelectorPath")
            .and_then(Value::as_str)
            .map(str::to_owned),
    });
    let columns = version
        .get("additionalPrinterColumns")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let columns = columns
        .map(|column| Column {
            name: text(column, "name"),
            kind: text(column, "type"),
            format: text(column, "format"),
            description: text(column, "description"),
            priority: column.get("priority").and_then(Value::as_i64).unwrap_or(0),
            path: text(column, "jsonPath"),
        })
        .collect();
    let selectable = version
        .get("selectableFields")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let deprecation = (version.get("deprecated") == Some(&Value::Bool(true))).then(|| {
        let own = text(version, "deprecationWarning");
        if own.is_empty() {
            format!("{group}/{name} {kind} is deprecated")
        } else {
            own
        }
    });
    Ok(Version {
        served: version.get("served") == Some(&Value::Bool(true)),
        schema: Arc::new(Schema::compile(source)?),
        status: version.pointer("/subresources/status").is_some(),
        scale,
        columns,
        selectable: selectable.map(|field| text(field, "jsonPath")).collect(),
        deprecation,
        name,
    })
}

/// GA before beta before alpha, then by descending number (K-011).
pub fn sort_versions<T>(versions: &mut [T], name: impl Fn(&T) -> &str) {
    versions.sort_by(|a, b| {
        rank(name(b))
            .cmp(&rank(name(a)))
            .then_with(|| name(a).cmp(name(b)))
    });
}

fn rank(version: &str) -> (u8, u64, u64) {
    let parse = || {
        let rest = version.strip_prefix('v')?;
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let major: u64 = rest[..end].parse().ok()?;
        let (stage, minor) = match &rest[end..] {
            "" => (3, "0"),
            tail => match (tail.strip_prefix("beta"), tail.strip_prefix("alpha")) {
                (Some(minor), _) => (2, minor),
                (_, Some(minor)) => (1, minor),
                _ => return None,
            },
        };
        Some((stage, major, minor.parse().ok()?))
    };
    parse().unwrap_or((0, 0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_listed_from_the_most_stable_and_newest() {
        // K-011
        let mut versions = ["v1alpha1", "v1beta1", "v1", "foo", "v2", "v1beta2", "v10"];
        sort_versions(&mut versions, |name| name);
        assert_eq!(
            versions,
            ["v10", "v2", "v1", "v1beta2", "v1beta1", "v1alpha1", "foo"]
        );
    }
}
