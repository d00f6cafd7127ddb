//! OpenAPI v3, one document per group and version, built when somebody asks (K-013 to K-018).

use std::collections::BTreeSet;
use std::io::Read as _;

use serde_json::{Map, Value, json};

use crate::registry::{Backing, Registry, Resource};

/// The definitions of the built-in kinds; see `examples/generate_schemas.rs`.
static SCHEMAS: &[u8] = include_bytes!("builtin/schemas.json.gz");
const REF: &str = "#/components/schemas/";
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

fn definitions() -> Map<String, Value> {
    let mut text = Vec::new();
    // The data is part of the program.
    let _ = flate2::read::GzDecoder::new(SCHEMAS).read_to_end(&mut text);
    serde_json::from_slice(&text).unwrap_or_default()
}

/// `/openapi/v3`
pub(crate) fn index(registry: &Registry) -> Value {
    let mut paths = Map::new();
    for (group, versions) in registry.groups() {
        for (version, resources) in versions {
            let path = if group.is_empty() {
                format!("api/{version}")
            } else {
                format!("apis/{group}/{version}")
            };
            // Definitions change with their revision; built-in kinds never do.
            let stamp: u64 = resources
                .iter()
                .filter_map(|r| r.custom())
                .map(|(kind, _)| kind.revision)
                .sum();
            let url = format!("/openapi/v3/{path}?hash={:X}{stamp:X}", SCHEMAS.len());
            paths.insert(path, json!({"serverRelativeURL": url}));
        }
    }
    json!({"paths": paths})
}

/// The document of one group and version.
pub(crate) fn document(registry: &Registry, group: &str, version: &str) -> Option<Vec<u8>> {
    let (_, resources) = registry
        .groups()
        .get(group)?
        .iter()
        .find(|(name, _)| name == version)?;
    let mut available = definitions();
    let mut paths = Map::new();
    let mut wanted = BTreeSet::new();
    for resource in resources {
        let name = definition_name(resource);
        if let Backing::Custom(kind, index) = &resource.backing {
            let mut schema = kind.versions[*index].source();
            strip(&mut schema);
            if !schema.is_object() {
                schema = json!({"type": "object"});
            }
            let properties = schema
                .as_object_mut()?
                .entry("properties")
                .or_insert_with(|| json!({}));
            let describe = |text: &str| json!({"description": text, "type": "string"});
            properties["apiVersion"] = describe(
                "APIVersion defines the versioned schema of this representation of an object.",
            );
            properties["kind"] = describe(
                "Kind is a string value representing the REST resource this object represents.",
            );
            properties["metadata"] = json!({
                "description": "Standard object's metadata.",
                "allOf": [{"$ref": format!("{REF}{OBJECT_META}")}],
            });
            available.insert(name.clone(), schema);
        }
        if let Some(schema) = available.get_mut(&name) {
            schema["x-kubernetes-group-version-kind"] = json!([{"group": resource.group, "version": resource.version, "kind": resource.kind}]);
        }
        add_paths(&mut paths, resource, &name);
        reach(&available, &name, &mut wanted);
    }
    let schemas: Map<String, Value> = wanted
        .into_iter()
        .filter_map(|name| available.remove(&name).map(|schema| (name, schema)))
        .collect();
    let document = json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.36.0"},
        "paths": paths,
        "components": {"schemas": schemas},
    });
    serde_json::to_vec(&document).ok()
}

fn definition_name(resource: &Resource) -> String {
    match &resource.backing {
        Backing::BuiltIn(_, object) => object.name.to_owned(),
        Backing::Custom(kind, _) => {
            let reversed: Vec<&str> = kind.group.split('.').rev().collect();
            format!(
                "{}.{}.{}",
                reversed.join("."),
                resource.version,
                resource.kind
            )
        }
    }
}

/// Validation that OpenAPI clients cannot use.
fn strip(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else {
        return;
    };
    map.remove("x-kubernetes-validations");
    for key in ["properties", "items", "additionalProperties"] {
        match map.get_mut(key) {
            Some(Value::Object(below)) if key == "properties" => below.values_mut().for_each(strip),
            Some(below) => strip(below),
            None => {}
        }
    }
}

fn reach(definitions: &Map<String, Value>, name: &str, wanted: &mut BTreeSet<String>) {
    if !wanted.insert(name.to_owned()) {
        return;
    }
    if let Some(schema) = definitions.get(name) {
        refs(schema, &mut |target| reach(definitions, target, wanted));
    }
}

fn refs(value: &Value, found: &mut dyn FnMut(&str)) {
    match value {
        Value::Object(map) => {
            for (key, below) in map {
                match below.as_str().filter(|_| key == "$ref") {
                    Some(target) => found(target.trim_start_matches(REF)),
                    None => refs(below, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|below| refs(below, found)),
        _ => {}
    }
}

/// The operations kubectl looks at (K-015, K-016).
fn add_paths(paths: &mut Map<String, Value>, resource: &Resource, name: &str) {
    let root = if resource.group.is_empty() {
        format!("/api/{}", resource.version)
    } else {
        format!("/apis/{}/{}", resource.group, resource.version)
    };
    let base = if resource.namespaced {
        format!("{root}/namespaces/{{namespace}}")
    } else {
        root
    };
    let gvk = json!({"group": resource.group, "version": resource.version, "kind": resource.kind});
    let schema = json!({"schema": {"$ref": format!("{REF}{name}")}});
    let parameters: Vec<Value> = ["dryRun", "fieldManager", "fieldValidation"]
        .iter()
        .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}}))
        .collect();
    let mut patch_parameters = parameters.clone();
    patch_parameters.push(
        json!({"name": "force", "in": "query", "schema": {"type": "boolean", "uniqueItems": true}}),
    );
    let operation = |action: &str, parameters: &[Value], types: &[&str]| {
        let content: Map<String, Value> = types
            .iter()
            .map(|media| ((*media).to_owned(), schema.clone()))
            .collect();
        let mut operation = json!({
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": gvk,
            "parameters": parameters,
            "responses": {"200": {"description": "OK", "content": {"application/json": schema}}},
        });
        if !types.is_empty() {
            operation["requestBody"] = json!({"content": content});
        }
        operation
    };
    let mut patches = vec![
        "application/apply-patch+yaml",
        "application/json-patch+json",
        "application/merge-patch+json",
    ];
    if resource.custom().is_none() {
        patches.push("application/strategic-merge-patch+json");
    }
    let body = ["application/json", "application/yaml"];
    let mut collection = Map::new();
    let mut item = Map::new();
    for verb in resource.verbs() {
        match *verb {
            "create" => {
                drop(collection.insert("post".into(), operation("post", &parameters, &body)))
            }
            "list" => drop(collection.insert("get".into(), operation("list", &[], &[]))),
            "deletecollection" => {
                drop(collection.insert("delete".into(), operation("deletecollection", &[], &[])))
            }
            "get" => drop(item.insert("get".into(), operation("get", &[], &[]))),
            "update" => drop(item.insert("put".into(), operation("put", &parameters, &body))),
            "patch" => drop(item.insert(
                "patch".into(),
                operation("patch", &patch_parameters, &patches),
            )),
            "delete" => {
                drop(item.insert("delete".into(), operation("delete", &parameters[..1], &[])))
            }
            _ => {}
        }
    }
    paths.insert(
        format!("{base}/{}", resource.plural),
        Value::Object(collection),
    );
    if !item.is_empty() {
        paths.insert(
            format!("{base}/{}/{{name}}", resource.plural),
            Value::Object(item),
        );
    }
}
