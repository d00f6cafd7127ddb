//! Trusted resources from end to end: signed by OpenSSL, served over HTTP, verified before a run uses them.

mod support;

use axum::Router;
use axum::routing::get;
use kube::api::{DynamicObject, PostParams};
use serde_json::{Value, json};
use support::{Local, TASK, serve};

const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEQsZ8ynTlIX9eJ3rg1y0jbk7vZ90H\no2JZJ+9Qc+iXbZPZJ00YWQzkCYJ4k35/ukYaMjJbB0ChHSQczL3mmraEeA==\n-----END PUBLIC KEY-----\n";
/// What the key makes of the digest of [`TASK`].
const SIGNATURE: &str = "MEYCIQCUdJtMuUiIGUy7o58DnBAOjsIQJgyxJTjTa30PLTwf5AIhAOXgDq4K0xirNJoXH66Yv8w2hRGs+VJF96Icl+DJL6cC";

/// The Task with its signature, the same with another step, and one that says nothing.
fn site() -> Router {
    let signed = TASK.replace(
        "  name: remote\n",
        &format!("  name: remote\n  annotations: {{tekton.dev/signature: {SIGNATURE}}}\n"),
    );
    let changed = signed.replace("echo", "sh");
    Router::new()
        .route("/signed", get(|| async { signed }))
        .route("/changed", get(|| async { changed }))
        .route("/unsigned", get(|| async { TASK }))
}

async fn policy(local: &Local, name: &str, pattern: &str, mode: &str, key: Value) {
    let policy = json!({
        "apiVersion": "tekton.dev/v1alpha1", "kind": "VerificationPolicy", "metadata": {"name": name},
        "spec": {"resources": [{"pattern": pattern}], "authorities": [{"name": "a", "key": key}], "mode": mode},
    });
    local
        .api("default", "tekton.dev", "v1alpha1", "VerificationPolicy")
        .create(
            &PostParams::default(),
            &serde_json::from_value(policy).expect("an object"),
        )
        .await
        .expect("created");
}

/// The conditions of a run of the Task at `url`, once the Task was looked at; Succeeded and TrustedResourcesVerified.
async fn run(local: &Local, name: &str, url: &str) -> (Value, Value) {
    let runs = local.api("default", "tekton.dev", "v1", "TaskRun");
    let run = json!({
        "apiVersion": "tekton.dev/v1", "kind": "TaskRun", "metadata": {"name": name},
        "spec": {"taskRef": {"resolver": "http", "params": [{"name": "url", "value": url}]}},
    });
    let run: DynamicObject = serde_json::from_value(run).expect("an object");
    runs.create(&PostParams::default(), &run)
        .await
        .expect("created");
    for _ in 0..3000 {
        let found = runs.get(name).await.expect("the run is there");
        let conditions = found.data["status"]["conditions"].as_array().cloned();
        let condition = |kind: &str| {
            let mut all = conditions.iter().flatten();
            all.find(|condition| condition["type"] == kind)
                .cloned()
                .unwrap_or_default()
        };
        let succeeded = condition("Succeeded");
        let waits = succeeded["reason"] == "ResolvingTaskRef" || succeeded["reason"] == "Started";
        if !succeeded.is_null() && !waits {
            return (succeeded, condition("TrustedResourcesVerified"));
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{name} does not get anywhere: {:#?}", runs.get(name).await);
}

async fn start() -> (Local, String) {
    let local = Local::start().await;
    let base = format!("http://{}", serve(site()).await);
    (local, base)
}

/// T-393, T-394, T-395, T-396, P-361, P-365, P-366, P-367
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_signed_by_a_trusted_key_does_not_run() {
    let (local, base) = start().await;
    policy(
        &local,
        "p",
        "http://127.0.0.1.*",
        "enforce",
        json!({"data": KEY}),
    )
    .await;
    let (succeeded, verified) = run(&local, "signed", &format!("{base}/signed")).await;
    assert_ne!(succeeded["status"], "False", "{succeeded:#}");
    assert_eq!(verified["status"], "True", "{verified:#}");
    let text = "resource verification failed: resource remote in namespace  fails verification";
    for path in ["changed", "unsigned"] {
        let (succeeded, verified) = run(&local, path, &format!("{base}/{path}")).await;
        assert_eq!(
            (
                &succeeded["status"],
                &succeeded["reason"],
                &succeeded["message"]
            ),
            (
                &json!("False"),
                &json!("ResourceVerificationFailed"),
                &json!(text)
            )
        );
        assert_eq!(
            (&verified["status"], &verified["message"]),
            (&json!("False"), &json!(text))
        );
    }
}

/// T-395, T-396, P-363, P-364
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn warnings_and_what_no_policy_is_about_let_a_run_go_on() {
    let (local, base) = start().await;
    let (_, verified) = run(&local, "ignored", &format!("{base}/unsigned")).await;
    assert_eq!(verified, Value::Null);
    local
        .create(
            "tekton-pipelines",
            "ConfigMap",
            "feature-flags",
            json!({"data": {"trusted-resources-verification-no-match-policy": "fail"}}),
        )
        .await;
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let (succeeded, _) = run(&local, "unmatched", &format!("{base}/unsigned")).await;
    assert_eq!(
        succeeded["message"],
        format!(
            "failed to get matched policies: no policies are matched: no matching policies are found for resource: remote against source: {base}/unsigned"
        )
    );
    policy(&local, "w", ".*/unsigned", "warn", json!({"data": KEY})).await;
    let (succeeded, verified) = run(&local, "warned", &format!("{base}/unsigned")).await;
    assert_ne!(succeeded["status"], "False", "{succeeded:#}");
    assert_eq!(
        (&verified["status"], &verified["message"]),
        (
            &json!("False"),
            &json!(
                "resource verification failed: resource remote in namespace  fails verification"
            )
        )
    );
}

/// P-367
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_come_from_secrets_with_one_entry() {
    let (local, base) = start().await;
    local
        .create(
            "default",
            "Secret",
            "key",
            json!({"stringData": {"cosign.pub": KEY}}),
        )
        .await;
    local
        .create(
            "default",
            "Secret",
            "two",
            json!({"stringData": {"a": KEY, "b": KEY}}),
        )
        .await;
    let secret = |name: &str| json!({"secretRef": {"name": name, "namespace": "default"}});
    policy(&local, "good", ".*/signed", "enforce", secret("key")).await;
    let (_, verified) = run(&local, "signed", &format!("{base}/signed")).await;
    assert_eq!(verified["status"], "True", "{verified:#}");
    for (name, key, expected) in [
        (
            "two",
            secret("two"),
            "failed to get verifiers from policy: failed to get verifier from secret: secret \"k8s://default/two\" contains multiple data entries, only one is supported. secret contains multiple data",
        ),
        (
            "gone",
            secret("gone"),
            "failed to get verifiers from policy: failed to get verifier from secret: failed to get secret: secret not found: secrets \"gone\" not found",
        ),
        (
            "kms",
            json!({"kms": "gcpkms://x"}),
            "failed to get verifiers from policy: failed to get verifier from kms: gcpkms://x: keys of key management services are not supported: put the public key into data or secretRef",
        ),
    ] {
        policy(&local, name, &format!(".*/signed[?]{name}"), "enforce", key).await;
        let (succeeded, _) = run(&local, name, &format!("{base}/signed?{name}")).await;
        assert_eq!(succeeded["message"], expected);
    }
}
