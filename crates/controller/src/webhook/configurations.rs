//! The objects that tell the API server of the webhooks (T-015, T-016, P-012, P-013, P-015).

use base64::Engine as _;
use serde_json::{Value, json};

use super::WEBHOOK_SERVICE;

/// Group, version and plurals of the kinds that are defaulted and validated.
const HANDLED: [(&str, &str, &[&str]); 5] = [
    ("resolution.tekton.dev", "v1alpha1", &["resolutionrequests"]),
    ("resolution.tekton.dev", "v1beta1", &["resolutionrequests"]),
    (
        "tekton.dev",
        "v1",
        &["pipelineruns", "pipelines", "taskruns", "tasks"],
    ),
    (
        "tekton.dev",
        "v1alpha1",
        &["stepactions", "verificationpolicies"],
    ),
    (
        "tekton.dev",
        "v1beta1",
        &[
            "customruns",
            "pipelineruns",
            "pipelines",
            "stepactions",
            "taskruns",
            "tasks",
        ],
    ),
];

/// The MutatingWebhookConfiguration and ValidatingWebhookConfigurations, with upstream's names and rules.
///
/// `ca_bundle` is the PEM certificate authority of the webhook service, where that is reached by TLS.
pub fn webhook_configurations(ca_bundle: Option<&str>) -> Vec<Value> {
    let rules = rules();
    vec![
        configuration(
            "MutatingWebhookConfiguration",
            "webhook.pipeline.tekton.dev",
            "/defaulting",
            ca_bundle,
            json!({"rules": rules, "reinvocationPolicy": "IfNeeded", "namespaceSelector": not_excluded()}),
        ),
        configuration(
            "ValidatingWebhookConfiguration",
            "validation.webhook.pipeline.tekton.dev",
            "/resource-validation",
            ca_bundle,
            json!({"rules": rules, "namespaceSelector": not_excluded()}),
        ),
        configuration(
            "ValidatingWebhookConfiguration",
            "config.webhook.pipeline.tekton.dev",
            "/config-validation",
            ca_bundle,
            json!({
                "rules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"],
                    "resources": ["configmaps/*"], "scope": "Namespaced"}],
                "objectSelector": {"matchLabels": {"app.kubernetes.io/part-of": "tekton-pipelines"}},
            }),
        ),
    ]
}

/// Unlike upstream's they leave `/status` out (P-013): the webhooks let it pass unread, and each status write would cost the
/// API server two calls with the whole object.
fn rules() -> Value {
    HANDLED
        .iter()
        .flat_map(|(group, version, plurals)| {
            plurals.iter().map(move |plural| {
                json!({"operations": ["CREATE", "UPDATE"], "apiGroups": [group], "apiVersions": [version],
                    "resources": [plural], "scope": "*"})
            })
        })
        .collect()
}

fn not_excluded() -> Value {
    json!({"matchExpressions": [{"key": "webhooks.knative.dev/exclude", "operator": "DoesNotExist"}]})
}

fn configuration(
    kind: &str,
    name: &str,
    path: &str,
    ca_bundle: Option<&str>,
    more: Value,
) -> Value {
    let (namespace, service) = WEBHOOK_SERVICE;
    let mut webhook = json!({
        "name": name,
        "admissionReviewVersions": ["v1"],
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "clientConfig": {"service": {"namespace": namespace, "name": service, "path": path, "port": 443}},
    });
    if let Some(pem) = ca_bundle {
        webhook["clientConfig"]["caBundle"] =
            json!(base64::engine::general_purpose::STANDARD.encode(pem));
    }
    json_patch::merge(&mut webhook, &more);
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {
            "name": name,
            "labels": {
                "app.kubernetes.io/component": "webhook",
                "app.kubernetes.io/instance": "default",
                "app.kubernetes.io/part-of": "tekton-pipelines",
                "pipeline.tekton.dev/release": "devel",
            },
        },
        "webhooks": [webhook],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::admissionregistration::v1::{
        MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
    };

    // T-015, P-012, P-013
    #[test]
    fn the_configurations_have_upstreams_names_paths_and_policies() {
        let [mutating, validating, config] =
            webhook_configurations(Some("PEM")).try_into().unwrap();
        let mutating: MutatingWebhookConfiguration = serde_json::from_value(mutating).unwrap();
        let webhook = &mutating.webhooks.as_ref().unwrap()[0];
        assert_eq!(webhook.name, "webhook.pipeline.tekton.dev");
        assert_eq!(webhook.reinvocation_policy.as_deref(), Some("IfNeeded"));
        assert_eq!(webhook.failure_policy.as_deref(), Some("Fail"));
        assert_eq!(webhook.client_config.ca_bundle.as_ref().unwrap().0, b"PEM");
        for rule in webhook.rules.as_ref().unwrap() {
            assert_eq!(rule.operations.as_deref().unwrap(), ["CREATE", "UPDATE"]);
            assert!(!rule.resources.as_ref().unwrap()[0].contains('/'));
        }
        for (value, name, path) in [
            (
                validating,
                "validation.webhook.pipeline.tekton.dev",
                "/resource-validation",
            ),
            (
                config,
                "config.webhook.pipeline.tekton.dev",
                "/config-validation",
            ),
        ] {
            let value: ValidatingWebhookConfiguration = serde_json::from_value(value).unwrap();
            let webhook = &value.webhooks.unwrap()[0];
            assert_eq!(
                (value.metadata.name.as_deref(), webhook.name.as_str()),
                (Some(name), name)
            );
            let service = webhook.client_config.service.as_ref().unwrap();
            assert_eq!(
                (service.name.as_str(), service.path.as_deref()),
                ("tekton-pipelines-webhook", Some(path))
            );
            assert_eq!(
                (
                    webhook.failure_policy.as_deref(),
                    webhook.side_effects.as_str()
                ),
                (Some("Fail"), "None")
            );
        }
    }
}
