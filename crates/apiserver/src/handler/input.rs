//! What a request says beyond its path: options in the query, and the object in the body.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Call;
use crate::accept::content_type;
use crate::builtin::conform::conform;
use crate::builtin::events;
use crate::builtin::kinds::{BuiltIn, KINDS};
use crate::builtin::shape::definition;
use crate::crd::structure;
use crate::decode::{self, Decoded};
use crate::error::{ApiError, Cause};
use crate::protobuf;
use crate::registry::{Backing, Resource};
use crate::selector::{Fields, Labels};
use crate::server::Inner;
use crate::target::Query;

/// Options of every write.
#[derive(Clone, Debug)]
pub(crate) struct WriteOptions {
    pub dry_run: bool,
    pub validation: FieldValidation,
    pub manager: String,
    pub force: bool,
}

/// `fieldValidation` (K-076).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Strict,
    Warn,
    Ignore,
}

/// Reads the options of a write; wrong ones are 422 (K-075, K-076, K-079).
pub(crate) fn write_options(call: &Call) -> Result<WriteOptions, ApiError> {
    let refuse =
        |kind: &str, cause: Cause| Err(ApiError::invalid("meta.k8s.io", kind, "", vec![cause]));
    let kind = match call.head.method.as_str() {
        "POST" => "CreateOptions",
        "PUT" => "UpdateOptions",
        "PATCH" => "PatchOptions",
        _ => "DeleteOptions",
    };
    let mut dry_run = false;
    for value in call.query.all("dryRun").filter(|value| !value.is_empty()) {
        if value != "All" {
            return refuse(
                kind,
                Cause::not_supported("dryRun", &json!([value]), &["All"]),
            );
        }
        dry_run = true;
    }
    let validation = match call.query.text("fieldValidation") {
        None | Some("Warn") => FieldValidation::Warn,
        Some("Strict") => FieldValidation::Strict,
        Some("Ignore") => FieldValidation::Ignore,
        Some(other) => {
            let allowed = ["", "Ignore", "Strict", "Warn"];
            return refuse(
                kind,
                Cause::not_supported("fieldValidation", &other.into(), &allowed),
            );
        }
    };
    let manager = match call.query.text("fieldManager") {
        Some(name) if name.len() > 128 => {
            let cause = Cause {
                reason: "FieldValueTooLong",
                message: "Too long: may not be more than 128 bytes".into(),
                field: "fieldManager".into(),
            };
            return refuse(kind, cause);
        }
        Some(name) if name.chars().any(char::is_control) => {
            let cause = Cause::invalid(
                "fieldManager",
                &name.into(),
                "should only contain printable characters",
            );
            return refuse(kind, cause);
        }
        Some(name) => name.to_owned(),
        None => {
            let agent = call
                .head
                .headers
                .get(http::header::USER_AGENT)
                .and_then(|value| value.to_str().ok());
            agent
                .unwrap_or("unknown")
                .split('/')
                .next()
                .unwrap_or_default()
                .to_owned()
        }
    };
    Ok(WriteOptions {
        dry_run,
        validation,
        manager,
        force: call.query.flag("force"),
    })
}

/// Decodes a body by its content type.
pub(crate) fn decode_body(call: &Call) -> Result<Decoded, ApiError> {
    let result = match content_type(&call.head.headers) {
        "" | "application/json" => decode::json(&call.body),
        "application/yaml" | "application/x-yaml" => decode::yaml(&call.body),
        protobuf::MEDIA => {
            let decoded = protobuf::decode(&call.body, definition_of);
            decoded.map(|value| Decoded {
                value,
                duplicates: Vec::new(),
            })
        }
        _ => {
            return Err(ApiError::unsupported_media_type(
                "application/json, application/yaml",
            ));
        }
    };
    result.map_err(|error| {
        ApiError::bad_request(format!(
            "couldn't get version/kind; json parse error: {error}"
        ))
    })
}

/// The OpenAPI definition of a kind that a protobuf body may hold.
fn definition_of(api_version: &str, kind: &str) -> Option<String> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let stored = KINDS
        .iter()
        .find(|own| own.group == group && own.version == version && own.kind == kind);
    let elsewhere = match (group, kind) {
        (_, "DeleteOptions") => "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
        ("authentication.k8s.io", "TokenRequest") => "io.k8s.api.authentication.v1.TokenRequest",
        ("autoscaling", "Scale") => "io.k8s.api.autoscaling.v1.Scale",
        ("policy", "Eviction") => "io.k8s.api.policy.v1.Eviction",
        _ => return stored.map(BuiltIn::definition),
    };
    Some(elsewhere.to_owned())
}

/// Checks `apiVersion` and `kind` of a body against the URL (K-078).
fn check_type(object: &mut Value, resource: &Resource) -> Result<(), ApiError> {
    let Some(map) = object.as_object_mut() else {
        return Err(ApiError::bad_request(
            "couldn't get version/kind; json parse error: the body is not an object",
        ));
    };
    let expected = resource.api_version();
    for (key, wanted) in [
        ("kind", resource.kind.as_str()),
        ("apiVersion", expected.as_str()),
    ] {
        let found = map
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if found.is_empty() {
            if resource.custom().is_some() {
                let label = if key == "kind" { "Kind" } else { "apiVersion" };
                return Err(ApiError::bad_request(format!(
                    "Object '{label}' is missing in '{}'",
                    json!(map)
                )));
            }
            map.insert(key.into(), wanted.into());
        } else if found != wanted && key == "apiVersion" {
            return Err(ApiError::bad_request(format!(
                "the API version in the data ({found}) does not match the expected API version ({expected})"
            )));
        } else if found != wanted {
            if resource.custom().is_some() {
                let name = map
                    .get("metadata")
                    .and_then(|m| m.get("name"))
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                let cause = Cause::invalid("kind", &found.into(), &format!("must be {wanted}"));
                return Err(ApiError::invalid(
                    &resource.group,
                    &resource.kind,
                    name,
                    vec![cause],
                ));
            }
            return Err(ApiError::bad_request(format!(
                "{} in version \"{}\" cannot be handled as a {}: no kind \"{found}\" is registered for version \"{expected}\"",
                resource.kind, resource.version, resource.kind
            )));
        }
    }
    Ok(())
}

/// Brings an object into the form of its kind: types checked, unknown fields gone and reported (K-076, K-077, K-172).
pub(crate) fn conform_object(
    object: &mut Value,
    resource: &Resource,
    duplicates: Vec<String>,
    validation: FieldValidation,
    call: &Call,
) -> Result<(), ApiError> {
    check_type(object, resource)?;
    let mut unknown = Vec::new();
    let result = match &resource.backing {
        Backing::BuiltIn(_, shape) => conform(object, shape, &mut unknown),
        Backing::Custom(kind, index) => {
            structure::prune(object, kind.versions[*index].schema(), &mut unknown);
            structure::conform_metadata(object, &mut unknown)
        }
    };
    let failed = |why: &str| {
        let (kind, version) = (&resource.kind, &resource.version);
        ApiError::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"
        ))
    };
    result.map_err(|error| failed(&error))?;
    if validation == FieldValidation::Ignore {
        return Ok(());
    }
    let problems = unknown
        .iter()
        .map(|path| format!("unknown field \"{path}\""));
    let problems: Vec<String> = problems
        .chain(
            duplicates
                .iter()
                .map(|path| format!("duplicate field \"{path}\"")),
        )
        .collect();
    if problems.is_empty() {
        return Ok(());
    }
    if validation == FieldValidation::Strict {
        return Err(failed(&format!(
            "strict decoding error: {}",
            problems.join(", ")
        )));
    }
    problems.into_iter().for_each(|problem| call.warn(problem));
    Ok(())
}

/// `DeleteOptions` from the body, else from the query (K-068).
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub grace: Option<i64>,
    pub policy: Option<String>,
    pub dry_run: bool,
    pub uid: Option<String>,
    pub revision: Option<String>,
}

impl DeleteOptions {
    /// Reads and checks them.
    pub fn read(call: &Call) -> Result<Self, ApiError> {
        let mut value = json!({});
        if !call.body.is_empty() {
            value = decode_body(call)?.value;
            if let Some(shape) = definition("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions") {
                conform(&mut value, shape, &mut Vec::new()).map_err(ApiError::bad_request)?;
            }
        } else {
            if let Some(seconds) = call.query.text("gracePeriodSeconds") {
                let seconds: i64 = seconds
                    .parse()
                    .map_err(|_| ApiError::bad_request("invalid gracePeriodSeconds"))?;
                value["gracePeriodSeconds"] = seconds.into();
            }
            for key in ["propagationPolicy", "dryRun", "orphanDependents"] {
                if let Some(text) = call.query.text(key) {
                    value[key] = match key {
                        "dryRun" => json!([text]),
                        "orphanDependents" => (text == "true").into(),
                        _ => text.into(),
                    };
                }
            }
        }
        let mut causes = Vec::new();
        let mut policy = value
            .get("propagationPolicy")
            .and_then(Value::as_str)
            .map(str::to_owned);
        if let Some(name) = policy
            .as_deref()
            .filter(|name| !matches!(*name, "Foreground" | "Background" | "Orphan"))
        {
            let allowed = ["Foreground", "Background", "Orphan", "nil"];
            causes.push(Cause::not_supported(
                "propagationPolicy",
                &name.into(),
                &allowed,
            ));
        }
        if let Some(orphan) = value.get("orphanDependents").and_then(Value::as_bool) {
            if policy.is_some() {
                let text = "orphanDependents and deletionPropagation cannot be both set";
                causes.push(Cause::invalid("propagationPolicy", &json!(policy), text));
            }
            policy = Some(if orphan { "Orphan" } else { "Background" }.into());
        }
        let runs = value
            .get("dryRun")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        if runs.iter().any(|run| run != "All") {
            causes.push(Cause::not_supported(
                "dryRun",
                &runs.clone().into(),
                &["All"],
            ));
        }
        if !causes.is_empty() {
            return Err(ApiError::invalid("", "DeleteOptions", "", causes));
        }
        let text = |pointer: &str| {
            value
                .pointer(pointer)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        Ok(Self {
            grace: value.get("gracePeriodSeconds").and_then(Value::as_i64),
            policy,
            dry_run: !runs.is_empty(),
            uid: text("/preconditions/uid"),
            revision: text("/preconditions/resourceVersion"),
        })
    }
}

/// The selectors of a list, watch or deletecollection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    pub labels: Labels,
    pub fields: Fields,
}

impl Selection {
    /// Whether nothing is left out.
    pub fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether an object is selected.
    pub fn matches(&self, object: &crate::storage::Stored) -> bool {
        (self.labels.is_empty() || self.labels.matches(|key| object.label(key)))
            && (self.fields.is_empty() || self.fields.matches(object))
    }
}

/// The name that `fieldSelector=metadata.name=<name>` asks for, empty for none.
pub(crate) fn exact_name(query: &Query) -> String {
    let fields = query
        .text("fieldSelector")
        .and_then(|text| Fields::parse(text).ok());
    fields
        .and_then(|fields| fields.exact_name().map(str::to_owned))
        .unwrap_or_default()
}

impl Inner {
    /// Parses the selectors; unsupported fields are 400 (K-125).
    pub(crate) fn selection(
        &self,
        query: &Query,
        resource: &Arc<Resource>,
    ) -> Result<Selection, ApiError> {
        let labels = Labels::parse(query.text("labelSelector").unwrap_or_default())
            .map_err(ApiError::bad_request)?;
        let mut fields = Fields::parse(query.text("fieldSelector").unwrap_or_default())
            .map_err(ApiError::bad_request)?;
        for name in fields.names() {
            let known = match name {
                "metadata.name" => true,
                "metadata.namespace" => resource.namespaced,
                _ => match &resource.backing {
                    Backing::BuiltIn(kind, _) => kind.fields.contains(&name),
                    Backing::Custom(kind, index) => kind.versions[*index]
                        .selectable
                        .iter()
                        .any(|path| path.trim_start_matches('.') == name),
                },
            };
            if !known {
                let own_fields = resource
                    .built_in()
                    .is_some_and(|kind| !kind.fields.is_empty());
                return Err(ApiError::bad_request(
                    if own_fields || resource.custom().is_some() {
                        format!("field label not supported: {name}")
                    } else {
                        format!(
                            "\"{name}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
                        )
                    },
                ));
            }
        }
        if resource.group == "events.k8s.io" {
            fields = fields.renamed(events::core_field);
        }
        Ok(Selection { labels, fields })
    }
}
