//! The bundles resolver against a real registry (Debian's docker-registry).

#[path = "../../oci/tests/docker_registry/mod.rs"]
mod docker_registry;
mod support;

use docker_registry::{DockerRegistry, LOGIN};
use serde_json::{Value, json};
use support::{Local, TASK, data, failure};

/// Puts a bundle into the registry; gives its digest.
fn push(registry: &DockerRegistry, name: &str, layers: &[(Vec<u8>, Value)]) -> String {
    let config = registry.blob(name, "application/vnd.oci.image.config.v1+json", b"{}");
    let layers: Vec<Value> = layers
        .iter()
        .map(|(content, annotations)| {
            let mut layer = registry.blob(name, "application/vnd.oci.image.layer.v1.tar", content);
            layer["annotations"] = annotations.clone();
            layer
        })
        .collect();
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": layers});
    let pushed = registry.manifest(name, Some("1.0"), &manifest);
    pushed["digest"].as_str().expect("a digest").to_owned()
}

fn layer(name: &str, kind: &str, content: Vec<u8>) -> (Vec<u8>, Value) {
    let annotations = json!({"dev.tekton.image.apiVersion": "v1", "dev.tekton.image.name": name, "dev.tekton.image.kind": kind});
    (content, annotations)
}

fn archived(content: &str) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    let zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(zipped);
    archive
        .append_data(&mut header, "object", content.as_bytes())
        .expect("an entry");
    archive
        .into_inner()
        .and_then(flate2::write::GzEncoder::finish)
        .expect("an archive")
}

/// A cluster that does not wait long before it asks a registry again.
async fn impatient() -> Local {
    let local = Local::start().await;
    local
        .configure(
            "bundleresolver-config",
            json!({"default-service-account": "default", "default-kind": "task", "backoff-duration": "10ms"}),
        )
        .await;
    local
}

/// P-328, P-353, P-354, P-355, P-356, P-357
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_found_in_a_bundle_by_kind_and_name() {
    const TEST: &str = "objects_are_found_in_a_bundle_by_kind_and_name";
    let Some(registry) = DockerRegistry::start(TEST, None) else {
        return;
    };
    let pipeline = "apiVersion: tekton.dev/v1\nkind: Pipeline\nmetadata:\n  name: p\n";
    let layers = [
        layer("remote", "task", archived(TASK)),
        layer("p", "pipeline", pipeline.as_bytes().to_vec()),
    ];
    let sum = push(&registry, "team/bundle", &layers);
    let odd = [layer("remote", "Task", archived(TASK))];
    push(&registry, "team/odd", &odd);
    let local = impatient().await;
    let repository = format!("{}/team/bundle", registry.address);
    let ask = async |request: &str, bundle: String, name: &str, extra: Value| {
        let mut params = json!({"bundle": bundle, "name": name});
        for (key, value) in extra.as_object().into_iter().flatten() {
            params[key] = value.clone();
        }
        local.resolve(request, "bundles", params).await
    };
    let status = ask("tag", format!("{repository}:1.0"), "remote", json!({})).await;
    assert_eq!(data(&status), TASK);
    assert_eq!(
        status["refSource"],
        json!({"uri": repository, "digest": {"sha256": sum.trim_start_matches("sha256:")}, "entryPoint": "remote"})
    );
    assert_eq!(
        status["annotations"],
        json!({"resolution.tekton.dev/dev.tekton.image.kind": "task", "resolution.tekton.dev/dev.tekton.image.name": "remote",
            "resolution.tekton.dev/dev.tekton.image.apiVersion": "v1"})
    );
    // By digest it can be kept.
    for (request, operation) in [("first", "store"), ("second", "retrieve")] {
        let status = ask(
            request,
            format!("{repository}@{sum}"),
            "p",
            json!({"kind": "Pipeline"}),
        )
        .await;
        assert_eq!(data(&status), pipeline);
        assert_eq!(
            status["annotations"]["resolution.tekton.dev/cache-operation"],
            operation
        );
    }
    let error = |request: &str, text: &str| {
        format!("error getting \"bundleresolver\" \"default/{request}\": {text}")
    };
    let status = ask("absent", format!("{repository}:1.0"), "p", json!({})).await;
    assert_eq!(
        failure(&status).1,
        error(
            "absent",
            "could not find object in image with kind: task and name: p"
        )
    );
    let odd = format!("{}/team/odd:1.0", registry.address);
    let status = ask("odd", odd.clone(), "remote", json!({})).await;
    assert_eq!(
        failure(&status).1,
        error(
            "odd",
            &format!(
                "invalid tekton bundle {odd}, error: the layer 0 the annotation dev.tekton.image.kind must be lowercased and singular, found Task"
            )
        )
    );
    let status = ask("tagless", format!("{repository}:9"), "p", json!({})).await;
    let message = failure(&status).1;
    assert!(
        message.starts_with(&error(
            "tagless",
            "cannot retrieve the oci image: GET http://"
        )) && message.contains("MANIFEST_UNKNOWN: manifest unknown"),
        "{message}"
    );
    let status = ask("metadata", "169.254.169.254/x:1".into(), "p", json!({})).await;
    assert!(
        failure(&status)
            .1
            .contains("forbidden by the address policy"),
        "{status:#}"
    );
}

/// P-353
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_registry_is_opened_by_the_secrets_of_the_request_and_its_account() {
    const TEST: &str = "a_closed_registry_is_opened_by_the_secrets_of_the_request_and_its_account";
    let Some(registry) = DockerRegistry::start(TEST, Some(LOGIN)) else {
        return;
    };
    let layers = [layer("remote", "task", archived(TASK))];
    push(&registry, "closed", &layers);
    let local = impatient().await;
    for (name, password) in [("right", "pass"), ("wrong", "no")] {
        let login =
            json!({"auths": {(&registry.address): {"username": "user", "password": password}}});
        local
            .create(
                "default",
                "Secret",
                name,
                json!({"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": login.to_string()}}),
            )
            .await;
    }
    local
        .create(
            "default",
            "ServiceAccount",
            "puller",
            json!({"imagePullSecrets": [{"name": "right"}, {"name": "gone"}]}),
        )
        .await;
    let bundle = format!("{}/closed:1.0", registry.address);
    for (request, extra, opens) in [
        ("secret", json!({"secret": "right"}), true),
        ("account", json!({"serviceAccount": "puller"}), true),
        ("anonymous", json!({}), false),
        ("wrong", json!({"secret": "wrong"}), false),
    ] {
        let mut params = json!({"bundle": bundle, "name": "remote"});
        for (key, value) in extra.as_object().into_iter().flatten() {
            params[key] = value.clone();
        }
        let status = local.resolve(request, "bundles", params).await;
        if opens {
            assert_eq!(data(&status), TASK, "{request}");
        } else {
            assert!(
                failure(&status).1.contains("UNAUTHORIZED"),
                "{request}: {status:#}"
            );
        }
    }
}
