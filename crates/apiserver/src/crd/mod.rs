//! Kinds that CustomResourceDefinitions bring (section 9).

pub mod check;
pub mod convert;
pub mod definition;
pub mod schema;
pub mod structure;

use std::sync::{Arc, OnceLock};

use serde::Deserialize;
use serde_json::Value;

use crate::storage::Stored;
use schema::Schema;

/// A CustomResourceDefinition that is served.
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
    /// The revision of the definition this was read from.
    pub revision: u64,
}

/// One version of a [`CustomKind`].
#[derive(Debug)]
pub struct Version {
    pub name: String,
    pub served: bool,
    pub status: bool,
    pub scale: Option<Scale>,
    pub columns: Vec<Column>,
    pub selectable: Vec<String>,
    /// The warning to send, if the version is deprecated.
    pub deprecation: Option<String>,
    schema: OnceLock<Schema>,
    /// The definition as stored: bytes that the store holds too.
    stored: Arc<Stored>,
}

/// `subresources.scale`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scale {
    #[serde(rename = "specReplicasPath")]
    pub spec_replicas: String,
    #[serde(rename = "statusReplicasPath")]
    pub status_replicas: String,
    #[serde(rename = "labelSelectorPath")]
    pub selector: Option<String>,
}

/// One of `additionalPrinterColumns`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub format: String,
    pub description: String,
    pub priority: i64,
    #[serde(rename = "jsonPath")]
    pub path: String,
}

/// What is read of a definition at once: all but its schemas, which are most of it and often not needed.
#[derive(Deserialize)]
struct Outline {
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    conditions: Vec<Condition>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec {
    group: String,
    names: Names,
    scope: String,
    versions: Vec<VersionOutline>,
    conversion: Option<Conversion>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Names {
    plural: String,
    singular: String,
    kind: String,
    list_kind: String,
    short_names: Vec<String>,
    categories: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Conversion {
    strategy: String,
    webhook: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct VersionOutline {
    name: String,
    served: bool,
    storage: bool,
    deprecated: bool,
    deprecation_warning: String,
    subresources: Subresources,
    additional_printer_columns: Vec<Column>,
    selectable_fields: Vec<SelectableField>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Subresources {
    status: Option<Value>,
    scale: Option<Scale>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SelectableField {
    json_path: String,
}

impl CustomKind {
    /// Reads a stored definition; `None` if its kind is not to be served.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(stored: Arc<Stored>) -> Result<Option<Self>, serde_json::Error> {
        let Outline { spec, status } = serde_json::from_slice(&stored.bytes())?;
        let established =
            |condition: &Condition| condition.kind == "Established" && condition.status == "True";
        if !status.conditions.iter().any(established) {
            return Ok(None);
        }
        let Spec { group, names, .. } = spec;
        let mut storage_version = String::new();
        let mut versions = Vec::new();
        for version in spec.versions {
            if version.storage {
                storage_version.clone_from(&version.name);
            }
            versions.push(Version::read(version, &group, &names.kind, &stored));
        }
        sort_versions(&mut versions, |version| &version.name);
        Ok(Some(Self {
            name: stored.name.to_string(),
            plural: names.plural,
            singular: names.singular,
            kind: names.kind,
            list_kind: names.list_kind,
            short_names: names.short_names,
            categories: names.categories,
            namespaced: spec.scope == "Namespaced",
            conversion: spec
                .conversion
                .filter(|conversion| conversion.strategy == "Webhook")
                .and_then(|conversion| conversion.webhook),
            terminating: stored.deleting,
            revision: stored.revision,
            group,
            versions,
            storage_version,
        }))
    }

    /// The version of this name.
    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.name == name)
    }
}

impl Version {
    fn read(outline: VersionOutline, group: &str, kind: &str, stored: &Arc<Stored>) -> Self {
        let name = outline.name;
        let deprecation = outline
            .deprecated
            .then(|| match outline.deprecation_warning {
                own if own.is_empty() => format!("{group}/{name} {kind} is deprecated"),
                own => own,
            });
        let selectable = outline.selectable_fields.into_iter();
        Self {
            served: outline.served,
            status: outline.subresources.status.is_some(),
            scale: outline.subresources.scale,
            columns: outline.additional_printer_columns,
            selectable: selectable.map(|field| field.json_path).collect(),
            deprecation,
            schema: OnceLock::new(),
            stored: Arc::clone(stored),
            name,
        }
    }

    /// The compiled schema; made when it is first asked for, since many versions are never written.
    pub fn schema(&self) -> &Schema {
        self.schema.get_or_init(|| {
            Schema::compile(&self.source()).unwrap_or_else(|error| {
                // It was compiled when it was accepted: by another version of this program, then.
                let definition = &self.stored.name;
                tracing::error!(%definition, version = self.name, error, "a stored schema cannot be used; nothing is checked");
                Schema::anything()
            })
        })
    }

    /// The schema as written, for OpenAPI. As a tree it takes many times the memory of the compiled one.
    pub fn source(&self) -> Value {
        let mut definition = self.stored.value();
        let versions = definition.pointer_mut("/spec/versions");
        let mut versions = versions.and_then(Value::as_array_mut).into_iter().flatten();
        versions
            .find(|candidate| candidate["name"] == self.name)
            .and_then(|found| found.pointer_mut("/schema/openAPIV3Schema"))
            .map(Value::take)
            .unwrap_or_default()
    }
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
