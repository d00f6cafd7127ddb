//! What the installation's ConfigMaps may say: defaults, spellings, refusals.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tektite_api::config::{Config, Defaults, FeatureFlags};

fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// The flags as a run's provenance shows them, which leaves out what is false or empty.
fn flags(pairs: &[(&str, &str)]) -> Value {
    match FeatureFlags::from_data(&data(pairs)) {
        Ok(flags) => serde_json::to_value(flags).unwrap(),
        Err(error) => error.to_string().into(),
    }
}

/// T-107, T-110 to T-121, T-123 to T-125, P-372 to P-375
#[test]
fn feature_flags_that_are_not_named_have_their_defaults() {
    let defaults = json!({
        "runningInEnvWithInjectedSidecars": true,
        "enableAPIFields": "beta",
        "sendCloudEventsForRuns": true,
        "awaitSidecarReadiness": true,
        "enforceNonfalsifiability": "none",
        "verificationNoMatchPolicy": "ignore",
        "enableProvenanceInStatus": true,
        "resultExtractionMethod": "termination-message",
        "maxResultSize": 4096,
        "coschedule": "workspaces",
    });
    assert_eq!(flags(&[]), defaults);
    assert_eq!(flags(&[("_example", "anything")]), defaults);
    // Accepted, and nothing comes of it.
    for ignored in ["enable-step-actions", "enable-tekton-oci-bundles"] {
        assert_eq!(flags(&[(ignored, "true")]), defaults, "{ignored}");
    }
}

/// The boolean flags: key, name in the provenance, and whether errors name the feature.
const SWITCHES: [(&str, &str, bool); 16] = [
    ("disable-creds-init", "disableCredsInit", false),
    (
        "running-in-environment-with-injected-sidecars",
        "runningInEnvWithInjectedSidecars",
        false,
    ),
    ("await-sidecar-readiness", "awaitSidecarReadiness", false),
    (
        "require-git-ssh-secret-known-hosts",
        "requireGitSSHSecretKnownHosts",
        false,
    ),
    ("send-cloudevents-for-runs", "sendCloudEventsForRuns", false),
    (
        "enable-provenance-in-status",
        "enableProvenanceInStatus",
        false,
    ),
    ("keep-pod-on-cancel", "enableKeepPodOnCancel", true),
    ("set-security-context", "setSecurityContext", false),
    (
        "set-security-context-read-only-root-filesystem",
        "setSecurityContextReadOnlyRootFilesystem",
        false,
    ),
    (
        "enable-cel-in-whenexpression",
        "enableCELInWhenExpression",
        true,
    ),
    ("enable-param-enum", "enableParamEnum", true),
    ("enable-artifacts", "enableArtifacts", true),
    (
        "enable-concise-resolver-syntax",
        "enableConciseResolverSyntax",
        true,
    ),
    (
        "enable-kubernetes-sidecar",
        "enableKubernetesSidecar",
        false,
    ),
    (
        "enable-wait-exponential-backoff",
        "enableWaitExponentialBackoff",
        false,
    ),
    (
        "enable-termination-message-compression",
        "enableTerminationMessageCompression",
        true,
    ),
];

/// T-106, T-127, P-372, P-374, P-376
#[test]
fn switches_take_gos_spellings_and_nothing_else_switches_them() {
    for (key, field, named) in SWITCHES {
        for (on, spellings) in [
            (true, ["1", "t", "T", "TRUE", "true", "True"]),
            (false, ["0", "f", "F", "FALSE", "false", "False"]),
        ] {
            for spelling in spellings {
                let shown = &flags(&[(key, spelling)])[field];
                assert_eq!(shown.as_bool().unwrap_or(false), on, "{key}: {spelling}");
            }
        }
        for bad in ["yes", "", "tRUE", " true"] {
            let feature = if named {
                format!(" for feature {key}")
            } else {
                String::new()
            };
            let expected = format!(
                "failed parsing feature flags config {bad:?}: strconv.ParseBool: parsing {bad:?}: invalid syntax{feature}"
            );
            assert_eq!(flags(&[(key, bad)]), Value::from(expected));
        }
        // alpha switches on nothing that has a key of its own.
        let mut alpha = flags(&[("enable-api-fields", "alpha")]);
        alpha["enableAPIFields"] = "beta".into();
        assert_eq!(alpha[field], flags(&[])[field], "{key}");
        let both = flags(&[("enable-api-fields", "stable"), (key, "true")]);
        assert_eq!(both[field], true, "{key}");
    }
}

/// T-106, T-107, T-112, T-113, T-115, T-116, T-118, T-124, P-373, P-375, P-376
#[test]
fn choices_are_read_in_lower_case_and_others_are_refused() {
    for (key, field, choices) in [
        (
            "enable-api-fields",
            "enableAPIFields",
            &["stable", "beta", "alpha"][..],
        ),
        (
            "results-from",
            "resultExtractionMethod",
            &["termination-message", "sidecar-logs"],
        ),
        (
            "enforce-nonfalsifiability",
            "enforceNonfalsifiability",
            &["none", "spire"],
        ),
        (
            "trusted-resources-verification-no-match-policy",
            "verificationNoMatchPolicy",
            &["ignore", "warn", "fail"],
        ),
        (
            "coschedule",
            "coschedule",
            &[
                "workspaces",
                "pipelineruns",
                "isolate-pipelinerun",
                "disabled",
            ],
        ),
    ] {
        for choice in choices {
            assert_eq!(flags(&[(key, choice)])[field], *choice, "{key}");
            assert_eq!(
                flags(&[(key, &choice.to_uppercase())])[field],
                *choice,
                "{key}"
            );
        }
        for bad in ["Other", "", " beta"] {
            let expected = format!(
                "invalid value for feature flag {key:?}: {:?}",
                bad.to_lowercase()
            );
            assert_eq!(flags(&[(key, bad)]), Value::from(expected));
        }
    }
    assert_eq!(
        flags(&[("max-result-size", "1572863")])["maxResultSize"],
        1_572_863
    );
    assert_eq!(
        flags(&[("max-result-size", "1572864")]),
        "invalid value for feature flag \"results-from\": \"1572864\". This is exceeding the CRD limit"
    );
    assert_eq!(
        flags(&[("max-result-size", "4k")]),
        "strconv.Atoi: parsing \"4k\": invalid syntax"
    );
    // Taken as it is.
    let inline = " pipeline,taskrun";
    assert_eq!(
        flags(&[("disable-inline-spec", inline)])["disableInlineSpec"],
        inline
    );
}

/// T-105, P-376
#[test]
fn a_refused_map_leaves_the_values_in_force_and_a_missing_key_takes_its_default() {
    let mut config = Config::default();
    config
        .update(
            "feature-flags",
            &data(&[("enable-api-fields", "alpha"), ("coschedule", "disabled")]),
        )
        .unwrap();
    let before = config.clone();
    let bad = data(&[("enable-api-fields", "stable"), ("coschedule", "never")]);
    assert!(config.update("feature-flags", &bad).is_err());
    assert_eq!(config, before);
    config
        .update("feature-flags", &data(&[("enable-api-fields", "alpha")]))
        .unwrap();
    assert_eq!(config.feature_flags.coschedule, "workspaces");
}

/// T-129, T-130, T-132 to T-138, P-371
#[test]
fn defaults_are_upstreams_and_bad_values_are_refused_in_its_words() {
    let defaults = Defaults::from_data(&data(&[])).unwrap();
    assert_eq!(defaults.timeout().to_string(), "1h0m0s");
    assert_eq!(defaults.service_account, "default");
    assert_eq!(defaults.managed_by_label_value, "tekton-pipelines");
    assert_eq!(defaults.cloud_events_sink, "");
    assert_eq!(defaults.max_matrix_combinations_count, 256);
    assert_eq!(defaults.step_ref_concurrency_limit, 5);
    assert_eq!(defaults.forbidden_env, Vec::<String>::new());
    assert_eq!(defaults.resolver_type, "");
    assert!(defaults.container_resource_requirements.is_empty());
    assert!(defaults.image_pull_back_off_timeout.is_zero());
    assert!(defaults.create_container_error_timeout.is_zero());
    assert_eq!(defaults.maximum_resolution_timeout.to_string(), "1m0s");
    assert_eq!(defaults.sidecar_log_polling_interval.to_string(), "100ms");
    assert!(defaults.pod_template.is_none() && defaults.affinity_assistant_pod_template.is_none());
    let zero = Defaults::from_data(&data(&[("default-timeout-minutes", "0")])).unwrap();
    assert!(zero.timeout().is_zero());
    let forbidden = Defaults::from_data(&data(&[("default-forbidden-env", "B , A,B")])).unwrap();
    assert_eq!(forbidden.forbidden_env, ["A", "B"]);
    for (key, bad, said) in [
        ("default-timeout-minutes", "1h", "default-timeout-minutes\""),
        (
            "default-max-matrix-combinations-count",
            "many",
            "default-max-matrix-combinations-count\"",
        ),
        (
            "default-step-ref-concurrency-limit",
            "",
            "default-step-ref-concurrency-limit\"",
        ),
        (
            "default-imagepullbackoff-timeout",
            "5",
            "default-imagepullbackoff-timeout\"",
        ),
        (
            "default-create-container-error-timeout",
            "5",
            "default-create-container-error-timeout\": time: missing unit in duration \"5\"",
        ),
        (
            "default-maximum-resolution-timeout",
            "soon",
            "default-maximum-resolution-timeout\"",
        ),
        ("default-sidecar-log-polling-interval", "soon", "soon\""),
    ] {
        let error = Defaults::from_data(&data(&[(key, bad)])).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("failed parsing default config \"{said}")
        );
    }
    for key in [
        "default-pod-template",
        "default-affinity-assistant-pod-template",
        "default-container-resource-requirements",
    ] {
        let error = Defaults::from_data(&data(&[(key, "- 1")])).unwrap_err();
        assert_eq!(error.to_string(), "failed to unmarshal - 1", "{key}");
    }
}

/// T-128, T-131, T-136
#[test]
fn templates_are_yaml_of_which_unknown_fields_are_let_through() {
    let read = Defaults::from_data(&data(&[
        ("default-pod-template", "hostNetwork: true\nnonsense: 1\n"),
        ("default-affinity-assistant-pod-template", "nodeSelector: {disk: ssd}"),
        ("default-task-run-workspace-binding", "emptyDir: {}"),
        (
            "default-container-resource-requirements",
            "default: {requests: {cpu: 1}}\nprefix-scripts: {limits: {memory: 1Gi}}\nplace-scripts: {}",
        ),
    ]))
    .unwrap();
    let template = serde_json::to_value(&read.pod_template).unwrap();
    assert_eq!(template, json!({"hostNetwork": true}));
    let template = serde_json::to_value(&read.affinity_assistant_pod_template).unwrap();
    assert_eq!(template, json!({"nodeSelector": {"disk": "ssd"}}));
    assert_eq!(read.task_run_workspace_binding, "emptyDir: {}");
    let requirements = serde_json::to_value(&read.container_resource_requirements).unwrap();
    assert_eq!(requirements["default"]["requests"]["cpu"], "1");
    assert_eq!(requirements["prefix-scripts"]["limits"]["memory"], "1Gi");
    assert_eq!(requirements["place-scripts"], json!({}));
}

/// T-139, T-142, T-143, P-302, P-378
#[test]
fn events_tracing_and_backoff_have_their_defaults_and_refusals() {
    let mut config = Config::default();
    assert_eq!(config.events.sink, "");
    assert_eq!(Vec::from_iter(&config.events.formats), ["tektonv1"]);
    let events = data(&[("sink", "http://sink"), ("formats", "tektonv1")]);
    config.update("config-events", &events).unwrap();
    assert_eq!(config.events.sink, "http://sink");
    for (formats, said) in [
        ("", "formats cannot be empty"),
        ("cdevents", "invalid format: cdevents"),
        ("tektonv1,tektonv1", "duplicate format: tektonv1"),
    ] {
        let error = config.update("config-events", &data(&[("formats", formats)]));
        assert_eq!(error.unwrap_err().to_string(), said);
    }
    assert!(!config.tracing.enabled);
    assert_eq!(
        config.tracing.endpoint,
        "http://jaeger-collector.jaeger.svc.cluster.local:4318/v1/traces"
    );
    assert_eq!(config.tracing.credentials_secret, "");
    let tracing = data(&[
        ("enabled", "true"),
        ("endpoint", "http://collector"),
        ("credentialsSecret", "s"),
    ]);
    config.update("config-tracing", &tracing).unwrap();
    let tracing = &config.tracing;
    assert_eq!(
        (
            tracing.enabled,
            &*tracing.endpoint,
            &*tracing.credentials_secret
        ),
        (true, "http://collector", "s")
    );
    let backoff = &config.wait_exponential_backoff;
    assert_eq!(
        (
            backoff.duration.to_string(),
            backoff.factor,
            backoff.jitter,
            backoff.steps,
            backoff.cap.to_string()
        ),
        ("1s".to_owned(), 2.0, 0.0, 10, "1m0s".to_owned())
    );
}

/// T-140, T-141
#[test]
fn metrics_switches_are_on_unless_they_say_false() {
    let mut config = Config::default();
    let levels = |config: &Config| {
        let metrics = &config.metrics;
        [
            metrics.taskrun_level.clone(),
            metrics.duration_taskrun_type.clone(),
            metrics.pipelinerun_level.clone(),
            metrics.duration_pipelinerun_type.clone(),
            metrics.running_pipelinerun_level.clone(),
        ]
    };
    assert_eq!(
        levels(&config),
        ["task", "histogram", "pipeline", "histogram", ""]
    );
    assert!(!config.metrics.count_with_reason && !config.metrics.throttle_with_namespace);
    let all = data(&[
        ("metrics.taskrun.level", "namespace"),
        ("metrics.taskrun.duration-type", "lastvalue"),
        ("metrics.pipelinerun.level", "pipelinerun"),
        ("metrics.pipelinerun.duration-type", "lastvalue"),
        ("metrics.running-pipelinerun.level", "namespace"),
    ]);
    config.update("config-observability", &all).unwrap();
    assert_eq!(
        levels(&config),
        [
            "namespace",
            "lastvalue",
            "pipelinerun",
            "lastvalue",
            "namespace"
        ]
    );
    for (value, on) in [
        ("true", true),
        ("False", true),
        ("", true),
        ("false", false),
    ] {
        let both = data(&[
            ("metrics.count.enable-reason", value),
            ("metrics.taskrun.throttle.enable-namespace", value),
        ]);
        config.update("config-observability", &both).unwrap();
        assert_eq!(config.metrics.count_with_reason, on, "{value:?}");
        assert_eq!(config.metrics.throttle_with_namespace, on, "{value:?}");
    }
}
