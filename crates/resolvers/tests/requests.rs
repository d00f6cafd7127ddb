//! Requests on a real API with the controllers at work: the protocol, the http and the cluster resolver.

mod support;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Redirect;
use axum::routing::get;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use support::{Local, TASK, data, failure, serve};
use tektite_resolvers::AddressPolicy;

fn site() -> Router {
    let guarded = |headers: HeaderMap| async move {
        match headers
            .get("authorization")
            .and_then(|value| value.to_str().ok())
        {
            // user:pass
            Some("Basic dXNlcjpwYXNz") => Ok(TASK),
            _ => Err(StatusCode::UNAUTHORIZED),
        }
    };
    Router::new()
        .route("/task.yaml", get(|| async { TASK }))
        .route("/guarded.yaml", get(guarded))
        .route(
            "/secret",
            get(|| async { "apiVersion: v1\nkind: Secret\n" }),
        )
        .route("/large", get(|| async { "x".repeat(1024 * 1024 + 1) }))
        .route("/hop", get(|| async { Redirect::temporary("/task.yaml") }))
        .route("/loop", get(|| async { Redirect::temporary("/loop") }))
        .route(
            "/out",
            get(|| async { Redirect::temporary("http://169.254.169.254/latest/meta-data") }),
        )
        .route(
            "/hang",
            get(|| async { std::future::pending::<&str>().await }),
        )
}

/// P-314, P-317, P-318, P-322, P-343, P-345, P-346
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_fetched_over_http() {
    let local = Local::start().await;
    let base = format!("http://{}", serve(site()).await);
    let digest = support_hex(&Sha256::digest(TASK));

    let status = local
        .resolve("plain", "http", json!({"url": format!("{base}/task.yaml")}))
        .await;
    assert_eq!(data(&status), TASK);
    let source = json!({"uri": format!("{base}/task.yaml"), "digest": {"sha256": digest}});
    assert_eq!(status["refSource"], source);
    assert_eq!(status["source"], source);
    let condition = &status["conditions"][0];
    assert_eq!(
        (condition.get("reason"), condition.get("message")),
        (None, None)
    );

    let status = local
        .resolve(
            "hop",
            "http",
            json!({"url": format!("{base}/hop"), "digest": format!("sha256:{digest}")}),
        )
        .await;
    assert_eq!(data(&status), TASK);

    for (name, path, extra, expected) in [
        (
            "absent",
            "/absent",
            json!({}),
            format!("error getting \"Http\" \"default/absent\": requested URL '{base}/absent' is not found"),
        ),
        (
            "secret",
            "/secret",
            json!({}),
            "error getting \"Http\" \"default/secret\": resolved resource validation error: resolved data is not of a supported type, must be of Group: tekton.dev, Kinds: [PipelineRun Pipeline TaskRun Task Run CustomRun StepAction]".into(),
        ),
        (
            "large",
            "/large",
            json!({}),
            "error getting \"Http\" \"default/large\": response body exceeds maximum allowed size of 1048576 bytes".into(),
        ),
        (
            "digest",
            "/task.yaml",
            json!({"digest": format!("sha256:{}", "0".repeat(64))}),
            format!("error getting \"Http\" \"default/digest\": error validating digest: SHA mismatch, expected {}, got {digest}", "0".repeat(64)),
        ),
        (
            "noname",
            "/task.yaml",
            json!({"http-username": "u"}),
            "invalid resource request \"default/noname\": missing required param http-password-secret when using http-username".into(),
        ),
    ] {
        let mut params = json!({"url": format!("{base}{path}")});
        for (key, value) in extra.as_object().into_iter().flatten() {
            params[key] = value.clone();
        }
        let status = local.resolve(name, "http", params).await;
        assert_eq!(failure(&status), ("ResolutionFailed", expected.as_str()));
        assert_eq!(status["data"], "", "{status:#}");
    }
    let status = local
        .resolve("loop", "http", json!({"url": format!("{base}/loop")}))
        .await;
    assert!(failure(&status).1.contains("redirect"), "{status:#}");
}

/// P-343, P-344
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_come_from_a_secret_of_the_requests_namespace() {
    let local = Local::start().await;
    let base = format!("http://{}", serve(site()).await);
    local
        .create(
            "default",
            "Secret",
            "login",
            json!({"stringData": {"password": "pass", "other": "no"}}),
        )
        .await;
    let ask = |name: &'static str, secret: &'static str, key: &'static str| {
        let params = json!({"url": format!("{base}/guarded.yaml"), "http-username": "user",
            "http-password-secret": secret, "http-password-secret-key": key});
        local.resolve(name, "http", params)
    };
    assert_eq!(data(&ask("right", "login", "").await), TASK);
    assert!(
        failure(&ask("wrong", "login", "other").await)
            .1
            .ends_with("is not found")
    );
    assert_eq!(
        failure(&ask("nokey", "login", "none").await).1,
        "error getting \"Http\" \"default/nokey\": cannot get API token, key none not found in secret login in namespace default"
    );
    assert_eq!(
        failure(&ask("nosecret", "none", "").await).1,
        "error getting \"Http\" \"default/nosecret\": cannot get API token, secret none not found in namespace default"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forbidden_addresses_are_reached_neither_directly_nor_by_redirect_nor_by_name() {
    let local = Local::start().await;
    let base = format!("http://{}", serve(site()).await);
    for (name, url) in [
        (
            "direct",
            "http://169.254.169.254/latest/meta-data".to_owned(),
        ),
        ("decimal", "http://2852039166/".to_owned()),
        ("mapped", "http://[::ffff:a9fe:a9fe]/".to_owned()),
        ("redirect", format!("{base}/out")),
    ] {
        let status = local.resolve(name, "http", json!({"url": url})).await;
        assert!(
            failure(&status)
                .1
                .contains("forbidden by the address policy"),
            "{name}: {status:#}"
        );
    }
    // In a cluster also by its name, and again once a map allows it.
    let strict = Local::with(AddressPolicy::cluster()).await;
    let port = base.rsplit(':').next().expect("a port");
    let url = format!("http://localhost:{port}/task.yaml");
    let status = strict.resolve("before", "http", json!({"url": url})).await;
    assert!(
        failure(&status)
            .1
            .contains("forbidden by the address policy"),
        "{status:#}"
    );
    strict
        .configure(
            "resolver-address-policy",
            json!({"allowed-addresses": "127.0.0.0/8, ::1"}),
        )
        .await;
    let status = strict.resolve("after", "http", json!({"url": url})).await;
    assert_eq!(data(&status), TASK);
}

/// P-315, P-321
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_holds_up_nobody_else_and_its_requests_time_out() {
    let local = Local::start().await;
    let base = format!("http://{}", serve(site()).await);
    local
        .create(
            "tekton-pipelines",
            "ConfigMap",
            "config-defaults",
            json!({"data": {"default-maximum-resolution-timeout": "2s"}}),
        )
        .await;
    local
        .configure("http-resolver-config", json!({"fetch-timeout": "300ms"}))
        .await;
    for number in 0..100 {
        local
            .ask(
                &format!("hung-{number}"),
                "http",
                json!({"url": format!("{base}/hang")}),
            )
            .await;
    }
    local
        .api("default", "tekton.dev", "v1", "Task")
        .create(
            &Default::default(),
            &serde_json::from_value(
                serde_json::to_value(
                    serde_yaml_ng::from_str::<serde_json::Value>(TASK).expect("YAML"),
                )
                .expect("JSON"),
            )
            .expect("an object"),
        )
        .await
        .expect("created");
    let status = local
        .resolve(
            "other",
            "cluster",
            json!({"name": "remote", "namespace": "default"}),
        )
        .await;
    assert!(data(&status).contains("kind: Task"));
    for number in [0, 50, 99] {
        let status = local.ended(&format!("hung-{number}")).await;
        assert_eq!(
            failure(&status),
            (
                "ResolutionTimedOut",
                "resolution took longer than global timeout of 2s"
            )
        );
    }
}

/// P-358, P-359, P-360
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_of_the_cluster_are_fetched_from_namespaces_that_are_allowed() {
    let local = Local::start().await;
    for namespace in ["shared", "closed"] {
        let object = serde_json::from_value(
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
        )
        .expect("an object");
        let namespaces: kube::Api<k8s_openapi::api::core::v1::Namespace> =
            kube::Api::all(local.client.clone());
        namespaces
            .create(&Default::default(), &object)
            .await
            .expect("created");
    }
    let task = json!({"apiVersion": "tekton.dev/v1", "kind": "Task",
        "metadata": {"name": "t", "labels": {"l": "v"}},
        "spec": {"steps": [{"name": "echo", "image": "ubuntu"}]}});
    let created = local
        .api("shared", "tekton.dev", "v1", "Task")
        .create(
            &Default::default(),
            &serde_json::from_value(task).expect("an object"),
        )
        .await
        .expect("created");
    let uid = created.metadata.uid.expect("a uid");

    let status = local
        .resolve(
            "shared",
            "cluster",
            json!({"name": "t", "namespace": "shared"}),
        )
        .await;
    let fetched: serde_json::Value = serde_yaml_ng::from_str(&data(&status)).expect("YAML");
    assert_eq!(
        (
            &fetched["kind"],
            &fetched["apiVersion"],
            &fetched["metadata"]["labels"]["l"]
        ),
        (&json!("Task"), &json!("tekton.dev/v1"), &json!("v"))
    );
    assert_eq!(
        status["refSource"]["uri"],
        format!("/apis/tekton.dev/v1/namespaces/shared/task/t@{uid}")
    );
    // What Go writes of it.
    let form = r#"{"kind":"Task","apiVersion":"tekton.dev/v1","metadata":{"name":"t","namespace":"shared","labels":{"l":"v"}},"spec":{"steps":[{"name":"echo","image":"ubuntu","computeResources":{}}]}}"#;
    assert_eq!(
        status["refSource"]["digest"]["sha256"],
        support_hex(&Sha256::digest(form))
    );
    assert_eq!(
        status["annotations"],
        json!({"resolution.tekton.dev/name": "t", "resolution.tekton.dev/namespace": "shared"})
    );

    let status = local
        .resolve(
            "absent",
            "cluster",
            json!({"name": "x", "namespace": "shared"}),
        )
        .await;
    assert_eq!(
        failure(&status).1,
        "error getting \"Cluster\" \"default/absent\": tasks.tekton.dev \"x\" not found"
    );
    local
        .configure(
            "cluster-resolver-config",
            json!({"default-kind": "task", "default-namespace": "shared", "blocked-namespaces": "closed"}),
        )
        .await;
    let status = local
        .resolve(
            "blocked",
            "cluster",
            json!({"name": "t", "namespace": "closed"}),
        )
        .await;
    assert_eq!(
        failure(&status).1,
        "invalid resource request \"default/blocked\": access to specified namespace closed is blocked"
    );
    let status = local
        .resolve("default", "cluster", json!({"name": "t"}))
        .await;
    assert!(data(&status).contains("kind: Task"));
}

/// P-319, P-323, P-329
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resolver_that_is_turned_off_refuses_and_others_requests_are_left_to_others() {
    let local = Local::start().await;
    local
        .configure(
            "resolvers-feature-flags",
            json!({"enable-http-resolver": "false"}),
        )
        .await;
    let status = local
        .resolve("off", "http", json!({"url": "http://127.0.0.1:1/"}))
        .await;
    assert_eq!(
        failure(&status).1,
        "invalid resource request \"default/off\": cannot handle resolution request, enable-http-resolver feature flag not true"
    );
    // Somebody else's resolver writes the same fields.
    local
        .ask("theirs", "demo", json!({"anything": "goes"}))
        .await;
    use base64::Engine as _;
    let answer =
        json!({"status": {"data": base64::engine::general_purpose::STANDARD.encode(TASK)}});
    local
        .requests()
        .patch_status(
            "theirs",
            &Default::default(),
            &kube::api::Patch::Merge(answer),
        )
        .await
        .expect("patched");
    assert_eq!(data(&local.ended("theirs").await), TASK);
}

fn support_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
