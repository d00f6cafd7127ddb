//! The ConfigMap `config-defaults`.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ResourceRequirements;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ConfigError;
use crate::{
    Duration,
    v1::{AffinityAssistantTemplate, PodTemplate},
};

/// What runs get when they say nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Defaults {
    /// Timeout of runs, in minutes; zero means none.
    pub timeout_minutes: i64,
    /// Account that pods run as.
    pub service_account: String,
    /// Value of the label `app.kubernetes.io/managed-by`.
    pub managed_by_label_value: String,
    /// Parts of every run's pod.
    pub pod_template: Option<PodTemplate>,
    /// Parts of the affinity assistant's pod.
    pub affinity_assistant_pod_template: Option<AffinityAssistantTemplate>,
    /// Deprecated home of the CloudEvents sink; `config-events` wins.
    pub cloud_events_sink: String,
    /// YAML of the binding for workspaces that a TaskRun leaves out.
    pub task_run_workspace_binding: String,
    /// Most combinations a matrix may have.
    pub max_matrix_combinations_count: i64,
    /// Environment variables that a pod template may not set, sorted.
    pub forbidden_env: Vec<String>,
    /// Resolver of references that name none.
    pub resolver_type: String,
    /// Resources by container name, name prefix (`prefix-…`) or `default`.
    pub container_resource_requirements: BTreeMap<String, ResourceRequirements>,
    /// How long an image may fail to be pulled.
    pub image_pull_back_off_timeout: Duration,
    /// How long a container may fail to be created.
    pub create_container_error_timeout: Duration,
    /// How long a resolver may take.
    pub maximum_resolution_timeout: Duration,
    /// How often the results sidecar looks.
    pub sidecar_log_polling_interval: Duration,
    /// How many step references are resolved at a time.
    pub step_ref_concurrency_limit: i64,
}

impl Default for Defaults {
    fn default() -> Self {
        Defaults {
            timeout_minutes: 60,
            service_account: "default".to_owned(),
            managed_by_label_value: "tekton-pipelines".to_owned(),
            pod_template: None,
            affinity_assistant_pod_template: None,
            cloud_events_sink: String::new(),
            task_run_workspace_binding: String::new(),
            max_matrix_combinations_count: 256,
            forbidden_env: Vec::new(),
            resolver_type: String::new(),
            container_resource_requirements: BTreeMap::new(),
            image_pull_back_off_timeout: Duration::ZERO,
            create_container_error_timeout: Duration::ZERO,
            maximum_resolution_timeout: Duration::from_minutes(1),
            sidecar_log_polling_interval: Duration::from_millis(100),
            step_ref_concurrency_limit: 5,
        }
    }
}

impl Defaults {
    /// Timeout of runs that name none.
    pub fn timeout(&self) -> Duration {
        Duration::from_minutes(self.timeout_minutes)
    }

    /// Reads the ConfigMap's data; what it does not name keeps its default.
    ///
    /// # Errors
    /// The first value that does not parse, in upstream's words and order.
    pub fn from_data(data: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut read = Defaults::default();
        set_int(data, "default-timeout-minutes", &mut read.timeout_minutes)?;
        set_text(data, "default-service-account", &mut read.service_account);
        set_text(
            data,
            "default-managed-by-label-value",
            &mut read.managed_by_label_value,
        );
        if let Some(text) = data.get("default-pod-template") {
            read.pod_template = Some(yaml(text)?);
        }
        if let Some(text) = data.get("default-affinity-assistant-pod-template") {
            read.affinity_assistant_pod_template = Some(yaml(text)?);
        }
        set_text(
            data,
            "default-cloud-events-sink",
            &mut read.cloud_events_sink,
        );
        set_text(
            data,
            "default-task-run-workspace-binding",
            &mut read.task_run_workspace_binding,
        );
        set_int(
            data,
            "default-max-matrix-combinations-count",
            &mut read.max_matrix_combinations_count,
        )?;
        if let Some(text) = data.get("default-forbidden-env") {
            let names: BTreeSet<_> = text.split(',').map(|name| name.trim().to_owned()).collect();
            read.forbidden_env = names.into_iter().collect();
        }
        set_text(data, "default-resolver-type", &mut read.resolver_type);
        if let Some(text) = data.get("default-container-resource-requirements") {
            read.container_resource_requirements = yaml(text)?;
        }
        // Upstream names the key in most of these errors, the value in one, and the cause in one.
        let failed = |what: &str| ConfigError(format!("failed parsing default config {what:?}"));
        let key = "default-imagepullbackoff-timeout";
        if let Some(text) = data.get(key) {
            read.image_pull_back_off_timeout = text.parse().map_err(|_| failed(key))?;
        }
        let key = "default-create-container-error-timeout";
        if let Some(text) = data.get(key) {
            let parsed = text.parse::<Duration>();
            read.create_container_error_timeout = parsed.map_err(|cause| {
                ConfigError(format!("failed parsing default config {key:?}: {cause}"))
            })?;
        }
        let key = "default-maximum-resolution-timeout";
        if let Some(text) = data.get(key) {
            read.maximum_resolution_timeout = text.parse().map_err(|_| failed(key))?;
        }
        if let Some(text) = data.get("default-sidecar-log-polling-interval") {
            read.sidecar_log_polling_interval = text.parse().map_err(|_| failed(text))?;
        }
        set_int(
            data,
            "default-step-ref-concurrency-limit",
            &mut read.step_ref_concurrency_limit,
        )?;
        Ok(read)
    }
}

impl Defaults {
    /// What the values in YAML say that means nothing, and that [`Defaults::from_data`] passes over: `key: path`.
    pub fn unknown_fields(data: &BTreeMap<String, String>) -> Vec<String> {
        let mut unknown = Vec::new();
        let mut look = |key: &str, read: fn(&str) -> Option<Value>| {
            let Some(text) = data.get(key) else { return };
            if let (Ok(given), Some(read)) = (serde_yaml_ng::from_str(text), read(text)) {
                left_out(&given, &read, key.to_owned() + ":", &mut unknown);
            }
        };
        look("default-pod-template", reread::<PodTemplate>);
        look(
            "default-affinity-assistant-pod-template",
            reread::<AffinityAssistantTemplate>,
        );
        look(
            "default-container-resource-requirements",
            reread::<BTreeMap<String, ResourceRequirements>>,
        );
        unknown
    }
}

/// The text as this type has it.
fn reread<T: DeserializeOwned + Serialize>(text: &str) -> Option<Value> {
    serde_json::to_value(yaml::<T>(text).ok()?).ok()
}

/// The fields of `given` that `read` lacks; empty ones are nothing to tell of.
fn left_out(given: &Value, read: &Value, at: String, found: &mut Vec<String>) {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    match (given, read) {
        (Value::Object(given), Value::Object(read)) => {
            for (name, value) in given {
                let at = format!("{at} {name}");
                match read.get(name) {
                    Some(read) => left_out(value, read, at, found),
                    None if is_empty(value) => {}
                    None => found.push(at),
                }
            }
        }
        (Value::Array(given), Value::Array(read)) => {
            for (place, (value, read)) in given.iter().zip(read).enumerate() {
                left_out(value, read, format!("{at} [{place}]"), found);
            }
        }
        _ => {}
    }
}

fn set_text(data: &BTreeMap<String, String>, key: &str, text: &mut String) {
    if let Some(given) = data.get(key) {
        text.clone_from(given);
    }
}

fn set_int(
    data: &BTreeMap<String, String>,
    key: &str,
    number: &mut i64,
) -> Result<(), ConfigError> {
    if let Some(given) = data.get(key) {
        *number = given
            .parse()
            .map_err(|_| ConfigError(format!("failed parsing default config {key:?}")))?;
    }
    Ok(())
}

/// YAML in a ConfigMap's value; unknown fields are let through.
fn yaml<T: DeserializeOwned>(text: &str) -> Result<T, ConfigError> {
    serde_yaml_ng::from_str(text).map_err(|_| ConfigError(format!("failed to unmarshal {text}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T-128: unknown fields do not spoil a value, but are told of.
    #[test]
    fn a_value_in_yaml_may_have_unknown_fields_which_are_named() {
        let data = |key: &str, text: &str| BTreeMap::from([(key.to_owned(), text.to_owned())]);
        for (key, text, unknown) in [
            (
                "default-pod-template",
                "nodeSelektor: {a: b}\nnodeSelector: {c: d}\ntolerations: [{key: k, wert: v}]",
                &[
                    "default-pod-template: nodeSelektor",
                    "default-pod-template: tolerations [0] wert",
                ][..],
            ),
            ("default-pod-template", "nodeSelector: {}\nenv: []", &[]),
            (
                "default-affinity-assistant-pod-template",
                "env: [{name: A}]",
                &["default-affinity-assistant-pod-template: env"],
            ),
            (
                "default-container-resource-requirements",
                "default: {limit: {cpu: 1}, requests: {cpu: 1}}",
                &["default-container-resource-requirements: default limit"],
            ),
            ("default-service-account", "unknown: field", &[]),
        ] {
            let data = data(key, text);
            Defaults::from_data(&data).unwrap();
            assert_eq!(Defaults::unknown_fields(&data), unknown, "{text}");
        }
    }
}
