//! The bundles resolver against a real registry (Debian's docker-registry).

mod support;

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use support::{Local, TASK, data, failure};

/// A registry with a directory of its own, ended when dropped.
struct Registry {
    child: Child,
    address: String,
    _directory: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    /// Starts one; `login` is a line of an htpasswd file.
    async fn start(login: Option<&str>) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).find(|dir| dir.join("docker-registry").is_file())?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port")
            .port();
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
            at("data").display()
        );
        if let Some(line) = login {
            write(&at("htpasswd"), line.as_bytes());
            config.push_str(&format!(
                "auth: {{htpasswd: {{realm: closed, path: {}}}}}\n",
                at("htpasswd").display()
            ));
        }
        write(&at("config.yml"), config.as_bytes());
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(at("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the registry starts");
        let address = format!("127.0.0.1:{port}");
        for _ in 0..600 {
            if tokio::net::TcpStream::connect(&address).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Some(Self {
            child,
            address,
            _directory: directory,
        })
    }

    /// Pushes blobs and a manifest; gives its digest.
    async fn push(
        &self,
        name: &str,
        layers: &[(Vec<u8>, Value)],
        login: Option<(&str, &str)>,
    ) -> String {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client");
        let base = format!("http://{}/v2/{name}", self.address);
        let call = |method: reqwest::Method, url: &str| {
            let call = client.request(method, url);
            match login {
                Some((user, password)) => call.basic_auth(user, Some(password)),
                None => call,
            }
        };
        let mut described = Vec::new();
        let config = (b"{}".to_vec(), json!({}));
        for (content, annotations) in layers.iter().chain([&config]) {
            let digest = digest(content);
            let upload = call(reqwest::Method::POST, &format!("{base}/blobs/uploads/"))
                .send()
                .await
                .expect("an upload");
            assert_eq!(upload.status().as_u16(), 202, "{upload:?}");
            let location = upload.headers()["location"].to_str().expect("text");
            let mut url = reqwest::Url::parse(&base)
                .and_then(|base| base.join(location))
                .expect("a URL");
            url.query_pairs_mut().append_pair("digest", &digest);
            let put = call(reqwest::Method::PUT, url.as_str())
                .header("content-type", "application/octet-stream")
                .body(content.clone())
                .send()
                .await
                .expect("a blob");
            assert_eq!(put.status().as_u16(), 201, "{put:?}");
            described.push(
                json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest,
                "size": content.len(), "annotations": annotations}),
            );
        }
        let mut config = described.pop().expect("the configuration");
        config["mediaType"] = json!("application/vnd.oci.image.config.v1+json");
        let manifest =
            json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": described})
            .to_string();
        let put = call(reqwest::Method::PUT, &format!("{base}/manifests/1.0"))
            .header("content-type", "application/vnd.oci.image.manifest.v1+json")
            .body(manifest.clone())
            .send()
            .await
            .expect("a manifest");
        assert_eq!(put.status().as_u16(), 201, "{put:?}");
        digest(manifest.as_bytes())
    }
}

fn write(path: &Path, content: &[u8]) {
    std::fs::File::create(path)
        .and_then(|mut file| file.write_all(content))
        .expect("a file");
}

fn digest(content: &[u8]) -> String {
    let hex: String = Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
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

fn skip(test: &str) {
    let _ = writeln!(
        std::io::stderr(),
        "skipped: {test}: docker-registry is missing"
    );
}

/// P-328, P-353, P-354, P-355, P-356, P-357
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_found_in_a_bundle_by_kind_and_name() {
    let Some(registry) = Registry::start(None).await else {
        return skip("objects_are_found_in_a_bundle_by_kind_and_name");
    };
    let pipeline = "apiVersion: tekton.dev/v1\nkind: Pipeline\nmetadata:\n  name: p\n";
    let layers = [
        layer("remote", "task", archived(TASK)),
        layer("p", "pipeline", pipeline.as_bytes().to_vec()),
    ];
    let sum = registry.push("team/bundle", &layers, None).await;
    registry
        .push("team/odd", &[layer("remote", "Task", archived(TASK))], None)
        .await;
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
    // user:pass, as htpasswd -B writes it.
    let line = "user:$2y$05$abcdefghijklmnopqrstuuZFBUbfXoM8LFiPx8LYlO/sXZB/Cwk3K\n";
    let Some(registry) = Registry::start(Some(line)).await else {
        return skip("a_closed_registry_is_opened_by_the_secrets_of_the_request_and_its_account");
    };
    let layers = [layer("remote", "task", archived(TASK))];
    registry
        .push("closed", &layers, Some(("user", "pass")))
        .await;
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
