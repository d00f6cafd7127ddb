//! The objects that tell the API server of the webhooks (T-015, T-016, P-012, P-013, P-015).

use base64::Engine as _;
use serde_json::{Value, json};

use super::WEBHOOK_SERVICE;

/// As what the webhooks are known to the API server (T-422).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookService {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub name: String,
    /// Name of the webhook that sets defaults; the others' are made of it.
    pub admission: String,
}

impl Default for WebhookService {
    fn default() -> Self {
        Self {
            namespace: WEBHOOK_SERVICE.0.into(),
            name: WEBHOOK_SERVICE.1.into(),
            admission: "webhook.pipeline.tekton.dev".into(),
        }
    }
}

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
pub fn webhook_configurations(service: &WebhookService, ca_bundle: Option<&str>) -> Vec<Value> {
    let rules = rules();
    let admission = &service.admission;
    let configuration = |kind: &str, name: &str, path: &str, more: Value| {
        configuration(kind, name, &client_config(service, path, ca_bundle), &more)
    };
    vec![
        configuration(
            "MutatingWebhookConfiguration",
            admission,
            "/defaulting",
            json!({"rules": rules, "reinvocationPolicy": "IfNeeded", "namespaceSelector": not_excluded()}),
        ),
        configuration(
            "ValidatingWebhookConfiguration",
            &format!("validation.{admission}"),
            "/resource-validation",
            json!({"rules": rules, "namespaceSelector": not_excluded()}),
        ),
        configuration(
            "ValidatingWebhookConfiguration",
            &format!("config.{admission}"),
            "/config-validation",
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

/// How the API server reaches `path` of the service.
fn client_config(service: &WebhookService, path: &str, ca_bundle: Option<&str>) -> Value {
    let WebhookService {
        namespace, name, ..
    } = service;
    let mut config =
        json!({"service": {"namespace": namespace, "name": name, "path": path, "port": 443}});
    if let Some(pem) = ca_bundle {
        config["caBundle"] = json!(base64::engine::general_purpose::STANDARD.encode(pem));
    }
    config
}

/// What a CRD that converts by webhook is to be patched with, so that it asks this service.
pub(crate) fn conversion_patch(service: &WebhookService, ca_bundle: &str) -> Value {
    let config = client_config(service, "/resource-conversion", Some(ca_bundle));
    json!({"spec": {"conversion": {"webhook": {"clientConfig": config}}}})
}

fn configuration(kind: &str, name: &str, client_config: &Value, more: &Value) -> Value {
    let mut webhook = json!({
        "name": name,
        "admissionReviewVersions": ["v1"],
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "clientConfig": client_config,
    });
    json_patch::merge(&mut webhook, more);
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
            webhook_configurations(&WebhookService::default(), Some("PEM"))
                .try_into()
                .unwrap();
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

    /// T-422
    #[test]
    fn another_service_and_another_name_are_named_everywhere() {
        let service = WebhookService {
            namespace: "ns".into(),
            name: "svc".into(),
            admission: "mine.example".into(),
        };
        let configurations = webhook_configurations(&service, Some("PEM"));
        let names: Vec<&str> = configurations
            .iter()
            .map(|configuration| configuration["metadata"]["name"].as_str().unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "mine.example",
                "validation.mine.example",
                "config.mine.example"
            ]
        );
        let conversion = conversion_patch(&service, "PEM");
        let mut configs: Vec<&Value> = configurations
            .iter()
            .map(|configuration| &configuration["webhooks"][0]["clientConfig"])
            .collect();
        configs.push(&conversion["spec"]["conversion"]["webhook"]["clientConfig"]);
        for config in configs {
            assert_eq!(config["caBundle"], "UEVN");
            assert_eq!(
                (&config["service"]["namespace"], &config["service"]["name"]),
                (&json!("ns"), &json!("svc"))
            );
        }
    }
}
