//! The ConfigMaps `config-observability`, `config-events`, `config-tracing` and `config-spire`.

use std::collections::{BTreeMap, BTreeSet};

use super::{ConfigError, parse_bool};

/// How metrics are labelled and aggregated.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// How metrics are handed on: `prometheus`, `grpc`, `http/protobuf` or `none`.
    pub protocol: String,
    /// `host:port` to serve them on or send them to; empty for the protocol's own.
    pub endpoint: String,
    /// `taskrun`, `task` or `namespace`.
    pub taskrun_level: String,
    /// `pipelinerun`, `pipeline` or `namespace`.
    pub pipelinerun_level: String,
    /// As above or empty, for the gauge of running PipelineRuns.
    pub running_pipelinerun_level: String,
    /// `histogram` or `lastvalue`.
    pub duration_taskrun_type: String,
    /// `histogram` or `lastvalue`.
    pub duration_pipelinerun_type: String,
    /// Whether counts carry the reason.
    pub count_with_reason: bool,
    /// Whether throttling metrics carry the namespace.
    pub throttle_with_namespace: bool,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            protocol: "none".to_owned(),
            endpoint: String::new(),
            taskrun_level: "task".to_owned(),
            pipelinerun_level: "pipeline".to_owned(),
            running_pipelinerun_level: String::new(),
            duration_taskrun_type: "histogram".to_owned(),
            duration_pipelinerun_type: "histogram".to_owned(),
            count_with_reason: false,
            throttle_with_namespace: false,
        }
    }
}

impl Metrics {
    /// Reads the ConfigMap's data. Anything goes; a switch is on unless it says `false`.
    pub fn from_data(data: &BTreeMap<String, String>) -> Self {
        let mut read = Metrics::default();
        for (key, field) in [
            ("metrics-protocol", &mut read.protocol),
            ("metrics-endpoint", &mut read.endpoint),
            ("metrics.taskrun.level", &mut read.taskrun_level),
            ("metrics.pipelinerun.level", &mut read.pipelinerun_level),
            (
                "metrics.running-pipelinerun.level",
                &mut read.running_pipelinerun_level,
            ),
            (
                "metrics.taskrun.duration-type",
                &mut read.duration_taskrun_type,
            ),
            (
                "metrics.pipelinerun.duration-type",
                &mut read.duration_pipelinerun_type,
            ),
        ] {
            if let Some(text) = data.get(key) {
                field.clone_from(text);
            }
        }
        let on = |key: &str| data.get(key).is_some_and(|text| text != "false");
        read.count_with_reason = on("metrics.count.enable-reason");
        read.throttle_with_namespace = on("metrics.taskrun.throttle.enable-namespace");
        read
    }
}

/// Where CloudEvents go.
#[derive(Clone, Debug, PartialEq)]
pub struct Events {
    /// URL of the sink; empty means none.
    pub sink: String,
    /// Formats to send; `tektonv1` is the only one.
    pub formats: BTreeSet<String>,
}

impl Default for Events {
    fn default() -> Self {
        Events {
            sink: String::new(),
            formats: BTreeSet::from(["tektonv1".to_owned()]),
        }
    }
}

impl Events {
    /// Reads the ConfigMap's data.
    ///
    /// # Errors
    /// An empty, unknown or repeated format.
    pub fn from_data(data: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut read = Events::default();
        if let Some(text) = data.get("formats") {
            if text.is_empty() {
                return Err(ConfigError("formats cannot be empty".to_owned()));
            }
            let mut formats = BTreeSet::new();
            for format in text.split(',') {
                if format != "tektonv1" {
                    return Err(ConfigError(format!("invalid format: {format}")));
                }
                if !formats.insert(format.to_owned()) {
                    return Err(ConfigError(format!("duplicate format: {format}")));
                }
            }
            read.formats = formats;
        }
        if let Some(text) = data.get("sink") {
            read.sink.clone_from(text);
        }
        Ok(read)
    }
}

/// Where traces go.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracing {
    /// Whether traces are sent.
    pub enabled: bool,
    /// Collector.
    pub endpoint: String,
    /// Secret with the collector's credentials; empty means none.
    pub credentials_secret: String,
}

impl Default for Tracing {
    fn default() -> Self {
        Tracing {
            enabled: false,
            endpoint: "http://jaeger-collector.jaeger.svc.cluster.local:4318/v1/traces".to_owned(),
            credentials_secret: String::new(),
        }
    }
}

impl Tracing {
    /// Reads the ConfigMap's data.
    ///
    /// # Errors
    /// `enabled` is not a boolean.
    pub fn from_data(data: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut read = Tracing::default();
        if let Some(text) = data.get("endpoint") {
            read.endpoint.clone_from(text);
        }
        if let Some(text) = data.get("credentialsSecret") {
            read.credentials_secret.clone_from(text);
        }
        if let Some(text) = data.get("enabled") {
            read.enabled = parse_bool(text).map_err(|cause| {
                ConfigError(format!("failed parsing tracing config {text:?}: {cause}"))
            })?;
        }
        Ok(read)
    }
}
