//! The sidecar that prints results for the controller to read from its log (T-314, T-315).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::EnvVar;
use tektite_api::config::Config;
use tektite_api::v1::{Sidecar, TaskSpec};

use super::{PodOptions, options};
use crate::taskrun::{results, step_container_name};

/// The sidecar, as if the task declared it.
pub(crate) fn sidecar(spec: &TaskSpec, config: &Config, options: &PodOptions) -> Sidecar {
    let names: Vec<&str> = spec.results.iter().map(|r| r.name.as_str()).collect();
    let writers: Vec<String> = spec
        .steps
        .iter()
        .filter(|s| results::artifacts_referenced_in(s))
        .map(|s| format!("step-{}", s.name))
        .collect();
    let by_step: BTreeMap<String, Vec<&str>> = spec
        .steps
        .iter()
        .enumerate()
        .filter(|(_, s)| !s.results.is_empty())
        .map(|(i, s)| {
            (
                step_container_name(&s.name, i),
                s.results.iter().map(|r| r.name.as_str()).collect(),
            )
        })
        .collect();
    let by_step = serde_json::to_string(&by_step).unwrap_or_else(|_| "{}".into());
    let command = [
        "/ko-app/sidecarlogresults".to_owned(),
        "-results-dir".to_owned(),
        "/tekton/results".to_owned(),
        "-result-names".to_owned(),
        names.join(","),
        "-step-names".to_owned(),
        writers.join(","),
        "-step-results".to_owned(),
        by_step,
    ];
    Sidecar {
        name: "tekton-log-results".into(),
        image: options.sidecar_log_results_image.clone(),
        command: command.to_vec(),
        env: vec![EnvVar {
            name: "SIDECAR_LOG_POLLING_INTERVAL".into(),
            value: Some(config.defaults.sidecar_log_polling_interval.to_string()),
            value_from: None,
        }],
        security_context: options::security_context(config),
        ..Sidecar::default()
    }
}
