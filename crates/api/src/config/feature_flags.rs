//! The ConfigMap `feature-flags`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ConfigError, parse_bool, parse_int};
use crate::unset;

/// Which features are on. Serialises as it appears in `status.provenance.featureFlags`; a `false` is left out there,
/// so what is missing there reads as `false`, whatever the default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureFlags {
    /// Whether no credentials are laid out in steps' homes.
    #[serde(default, rename = "disableCredsInit", skip_serializing_if = "unset")]
    pub disable_creds_init: bool,
    /// Whether steps wait until sidecars that others inject are ready.
    #[serde(
        default,
        rename = "runningInEnvWithInjectedSidecars",
        skip_serializing_if = "unset"
    )]
    pub running_in_env_with_injected_sidecars: bool,
    /// Whether Git SSH secrets must name known hosts.
    #[serde(
        default,
        rename = "requireGitSSHSecretKnownHosts",
        skip_serializing_if = "unset"
    )]
    pub require_git_ssh_secret_known_hosts: bool,
    /// `stable`, `beta` or `alpha`.
    #[serde(default, rename = "enableAPIFields", skip_serializing_if = "unset")]
    pub enable_api_fields: String,
    /// Whether CustomRuns cause CloudEvents.
    #[serde(
        default,
        rename = "sendCloudEventsForRuns",
        skip_serializing_if = "unset"
    )]
    pub send_cloud_events_for_runs: bool,
    /// Whether steps wait for sidecars.
    #[serde(
        default,
        rename = "awaitSidecarReadiness",
        skip_serializing_if = "unset"
    )]
    pub await_sidecar_readiness: bool,
    /// `none` or `spire`.
    #[serde(
        default,
        rename = "enforceNonfalsifiability",
        skip_serializing_if = "unset"
    )]
    pub enforce_nonfalsifiability: String,
    /// Whether a cancelled run's pod stays.
    #[serde(
        default,
        rename = "enableKeepPodOnCancel",
        skip_serializing_if = "unset"
    )]
    pub enable_keep_pod_on_cancel: bool,
    /// `ignore`, `warn` or `fail`.
    #[serde(
        default,
        rename = "verificationNoMatchPolicy",
        skip_serializing_if = "unset"
    )]
    pub verification_no_match_policy: String,
    /// Whether status carries provenance.
    #[serde(
        default,
        rename = "enableProvenanceInStatus",
        skip_serializing_if = "unset"
    )]
    pub enable_provenance_in_status: bool,
    /// `termination-message` or `sidecar-logs`.
    #[serde(
        default,
        rename = "resultExtractionMethod",
        skip_serializing_if = "unset"
    )]
    pub result_extraction_method: String,
    /// Bytes of one result through sidecar logs.
    #[serde(default, rename = "maxResultSize", skip_serializing_if = "unset")]
    pub max_result_size: i64,
    /// Whether our own containers get a restricted security context.
    #[serde(default, rename = "setSecurityContext", skip_serializing_if = "unset")]
    pub set_security_context: bool,
    /// Whether that context also makes the root read-only.
    #[serde(
        default,
        rename = "setSecurityContextReadOnlyRootFilesystem",
        skip_serializing_if = "unset"
    )]
    pub set_security_context_read_only_root_filesystem: bool,
    /// `workspaces`, `pipelineruns`, `isolate-pipelinerun` or `disabled`.
    #[serde(default, rename = "coschedule", skip_serializing_if = "unset")]
    pub coschedule: String,
    /// Whether `when` may use CEL.
    #[serde(
        default,
        rename = "enableCELInWhenExpression",
        skip_serializing_if = "unset"
    )]
    pub enable_cel_in_when_expression: bool,
    /// Never set; kept for the wire form.
    #[serde(default, rename = "enableStepActions", skip_serializing_if = "unset")]
    pub enable_step_actions: bool,
    /// Whether params may list their values.
    #[serde(default, rename = "enableParamEnum", skip_serializing_if = "unset")]
    pub enable_param_enum: bool,
    /// Whether artifacts may be used.
    #[serde(default, rename = "enableArtifacts", skip_serializing_if = "unset")]
    pub enable_artifacts: bool,
    /// Kinds, by comma, whose specs may not be given inline.
    #[serde(default, rename = "disableInlineSpec", skip_serializing_if = "unset")]
    pub disable_inline_spec: String,
    /// Whether a reference's name may be a URL.
    #[serde(
        default,
        rename = "enableConciseResolverSyntax",
        skip_serializing_if = "unset"
    )]
    pub enable_concise_resolver_syntax: bool,
    /// Whether sidecars are native ones.
    #[serde(
        default,
        rename = "enableKubernetesSidecar",
        skip_serializing_if = "unset"
    )]
    pub enable_kubernetes_sidecar: bool,
    /// Whether waiting for a slow API server backs off.
    #[serde(
        default,
        rename = "enableWaitExponentialBackoff",
        skip_serializing_if = "unset"
    )]
    pub enable_wait_exponential_backoff: bool,
    /// Whether termination messages are compressed.
    #[serde(
        default,
        rename = "enableTerminationMessageCompression",
        skip_serializing_if = "unset"
    )]
    pub enable_termination_message_compression: bool,
    /// Deprecated; kept for the wire form.
    #[serde(
        default,
        rename = "enableTektonOCIBundles",
        skip_serializing_if = "unset"
    )]
    pub enable_tekton_oci_bundles: Option<bool>,
    /// Ours: whether secrets are masked in step logs; unset, the controller's own default holds.
    #[serde(default, rename = "enableSecretMasking", skip_serializing_if = "unset")]
    pub enable_secret_masking: Option<bool>,
}

impl Default for FeatureFlags {
    fn default() -> Self {
        FeatureFlags {
            disable_creds_init: false,
            running_in_env_with_injected_sidecars: true,
            require_git_ssh_secret_known_hosts: false,
            enable_api_fields: "beta".to_owned(),
            send_cloud_events_for_runs: true,
            await_sidecar_readiness: true,
            enforce_nonfalsifiability: "none".to_owned(),
            enable_keep_pod_on_cancel: false,
            verification_no_match_policy: "ignore".to_owned(),
            enable_provenance_in_status: true,
            result_extraction_method: "termination-message".to_owned(),
            max_result_size: 4096,
            set_security_context: false,
            set_security_context_read_only_root_filesystem: false,
            coschedule: "workspaces".to_owned(),
            enable_cel_in_when_expression: false,
            enable_step_actions: false,
            enable_param_enum: false,
            enable_artifacts: false,
            disable_inline_spec: String::new(),
            enable_concise_resolver_syntax: false,
            enable_kubernetes_sidecar: false,
            enable_wait_exponential_backoff: false,
            enable_termination_message_compression: false,
            enable_tekton_oci_bundles: None,
            enable_secret_masking: None,
        }
    }
}

impl FeatureFlags {
    /// Reads the ConfigMap's data; what it does not name keeps its default.
    ///
    /// # Errors
    /// The first value that does not parse, in upstream's words and order.
    pub fn from_data(data: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut flags = FeatureFlags::default();
        let plain = |key: &str, flag: &mut bool| set_flag(data, key, "", flag);
        let gated = |key: &str, flag: &mut bool| set_flag(data, key, key, flag);
        plain("disable-creds-init", &mut flags.disable_creds_init)?;
        plain(
            "running-in-environment-with-injected-sidecars",
            &mut flags.running_in_env_with_injected_sidecars,
        )?;
        plain(
            "await-sidecar-readiness",
            &mut flags.await_sidecar_readiness,
        )?;
        plain(
            "require-git-ssh-secret-known-hosts",
            &mut flags.require_git_ssh_secret_known_hosts,
        )?;
        set_choice(
            data,
            "enable-api-fields",
            &["alpha", "beta", "stable"],
            &mut flags.enable_api_fields,
        )?;
        plain(
            "send-cloudevents-for-runs",
            &mut flags.send_cloud_events_for_runs,
        )?;
        set_choice(
            data,
            "trusted-resources-verification-no-match-policy",
            &["fail", "warn", "ignore"],
            &mut flags.verification_no_match_policy,
        )?;
        plain(
            "enable-provenance-in-status",
            &mut flags.enable_provenance_in_status,
        )?;
        set_choice(
            data,
            "results-from",
            &["termination-message", "sidecar-logs"],
            &mut flags.result_extraction_method,
        )?;
        if let Some(text) = data.get("max-result-size") {
            flags.max_result_size = parse_int(text)?;
        }
        if flags.max_result_size >= MAX_RESULT_SIZE_LIMIT {
            // Upstream names the wrong key here; tools may match on it.
            return Err(ConfigError(format!(
                "invalid value for feature flag \"results-from\": \"{}\". This is exceeding the CRD limit",
                flags.max_result_size
            )));
        }
        gated("keep-pod-on-cancel", &mut flags.enable_keep_pod_on_cancel)?;
        set_choice(
            data,
            "enforce-nonfalsifiability",
            &["none", "spire"],
            &mut flags.enforce_nonfalsifiability,
        )?;
        plain("set-security-context", &mut flags.set_security_context)?;
        plain(
            "set-security-context-read-only-root-filesystem",
            &mut flags.set_security_context_read_only_root_filesystem,
        )?;
        set_choice(
            data,
            "coschedule",
            &[
                "disabled",
                "workspaces",
                "pipelineruns",
                "isolate-pipelinerun",
            ],
            &mut flags.coschedule,
        )?;
        gated(
            "enable-cel-in-whenexpression",
            &mut flags.enable_cel_in_when_expression,
        )?;
        gated("enable-param-enum", &mut flags.enable_param_enum)?;
        gated("enable-artifacts", &mut flags.enable_artifacts)?;
        if let Some(text) = data.get("disable-inline-spec") {
            flags.disable_inline_spec.clone_from(text);
        }
        gated(
            "enable-concise-resolver-syntax",
            &mut flags.enable_concise_resolver_syntax,
        )?;
        plain(
            "enable-kubernetes-sidecar",
            &mut flags.enable_kubernetes_sidecar,
        )?;
        plain(
            "enable-wait-exponential-backoff",
            &mut flags.enable_wait_exponential_backoff,
        )?;
        gated(
            "enable-termination-message-compression",
            &mut flags.enable_termination_message_compression,
        )?;
        if data.contains_key("enable-secret-masking") {
            let mut masking = false;
            gated("enable-secret-masking", &mut masking)?;
            flags.enable_secret_masking = Some(masking);
        }
        Ok(flags)
    }
}

/// What a custom resource can hold at most.
const MAX_RESULT_SIZE_LIMIT: i64 = 1_572_864;

/// Sets `flag` if the data has `key`. Upstream names the feature only in errors about flags of their own stability.
fn set_flag(
    data: &BTreeMap<String, String>,
    key: &str,
    feature: &str,
    flag: &mut bool,
) -> Result<(), ConfigError> {
    let Some(text) = data.get(key) else {
        return Ok(());
    };
    *flag = parse_bool(text).map_err(|cause| {
        let suffix = if feature.is_empty() {
            String::new()
        } else {
            format!(" for feature {feature}")
        };
        ConfigError(format!(
            "failed parsing feature flags config {text:?}: {cause}{suffix}"
        ))
    })?;
    Ok(())
}

/// Sets `choice` if the data has `key`; upper case is read as lower case.
fn set_choice(
    data: &BTreeMap<String, String>,
    key: &str,
    allowed: &[&str],
    choice: &mut String,
) -> Result<(), ConfigError> {
    let Some(text) = data.get(key) else {
        return Ok(());
    };
    let text = text.to_lowercase();
    if !allowed.contains(&text.as_str()) {
        return Err(ConfigError(format!(
            "invalid value for feature flag {key:?}: {text:?}"
        )));
    }
    *choice = text;
    Ok(())
}
