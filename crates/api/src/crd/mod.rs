//! The CustomResourceDefinitions of every kind (T-001 to T-003).

mod definition;
mod describe;
mod schema;

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use serde_json::Value;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

pub use definition::{definitions, makers};

/// Every definition, typed. [`definitions`] is cheaper where JSON will do.
///
/// # Panics
/// Never on input: there is none. The definitions are constants, and a test converts them.
pub fn crds() -> Vec<CustomResourceDefinition> {
    definitions()
        .into_iter()
        .map(|json| {
            serde_json::from_value(json)
                .expect("our own definitions are well formed, which a test checks")
        })
        .collect()
}

/// The schema of one shape, made once.
pub(crate) fn schema_of(shape: &'static str) -> Arc<Value> {
    static MADE: LazyLock<Mutex<HashMap<&'static str, Arc<Value>>>> = LazyLock::new(Mutex::default);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry(shape)
        .or_insert_with(|| Arc::new(schema::of_kind(shape, &|_, _| None)))
        .clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T-001, T-002, T-003, P-001 to P-005
    #[test]
    fn definitions_carry_upstreams_names_versions_and_columns() {
        let mut lines = Vec::new();
        for crd in crds() {
            let names = &crd.spec.names;
            let versions: Vec<_> = crd
                .spec
                .versions
                .iter()
                .map(|v| {
                    let columns = v
                        .additional_printer_columns
                        .iter()
                        .flatten()
                        .map(|c| c.name.as_str());
                    let status = v.subresources.as_ref().is_some_and(|s| s.status.is_some());
                    let schema = v
                        .schema
                        .as_ref()
                        .and_then(|s| s.open_api_v3_schema.as_ref());
                    let description = schema.and_then(|s| s.description.as_deref());
                    let deprecated = description.is_some_and(|d| d.contains("deprecated"));
                    format!(
                        "{}{}{}{}{}[{}]",
                        v.name,
                        if v.storage { "*" } else { "" },
                        if deprecated { "-old" } else { "" },
                        if v.deprecated == Some(true) {
                            "-flagged"
                        } else {
                            ""
                        },
                        if status { "+status" } else { "" },
                        columns.collect::<Vec<_>>().join(" ")
                    )
                })
                .collect();
            lines.push(format!(
                "{} {} {:?} {:?} {} {}",
                crd.metadata.name.as_deref().unwrap_or_default(),
                names.kind,
                names.short_names.as_deref().unwrap_or_default(),
                names.categories.as_deref().unwrap_or_default(),
                crd.spec
                    .conversion
                    .as_ref()
                    .map_or("None", |c| c.strategy.as_str()),
                versions.join(" "),
            ));
        }
        insta::assert_snapshot!(lines.join("\n"));
    }

    /// T-017, P-006: closed where upstream's schema is, open where it is not.
    #[test]
    fn schemas_are_open_only_where_upstreams_are() {
        let mut open = Vec::new();
        for crd in definitions() {
            for version in crd["spec"]["versions"].as_array().unwrap() {
                let path = format!(
                    "{}/{}",
                    crd["spec"]["names"]["kind"].as_str().unwrap(),
                    version["name"].as_str().unwrap()
                );
                collect_open(&version["schema"]["openAPIV3Schema"], &path, &mut open);
            }
        }
        insta::assert_snapshot!(open.join("\n"));
    }

    fn collect_open(schema: &serde_json::Value, path: &str, open: &mut Vec<String>) {
        if schema.get("x-kubernetes-preserve-unknown-fields").is_some() {
            open.push(path.to_owned());
        }
        for (name, below) in schema["properties"].as_object().into_iter().flatten() {
            collect_open(below, &format!("{path}.{name}"), open);
        }
        for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
            if let Some(below) = schema.get(key).filter(|b| b.is_object()) {
                collect_open(below, &format!("{path}{mark}"), open);
            }
        }
    }
}
