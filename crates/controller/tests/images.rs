//! What the controller asks about images, with which logins, and what becomes of the answer.

mod fake;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use fake::FakeApi;
use fake::cluster::{Running, TASK_RUNS, condition, eventually, one_step, pod_of};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tektite_controller::{ControllerOptions, DockerConfig, ImageConfigs, ImageError, Keychain};
use tektite_engine::decision::{ImageCommand, ImageCommands, ImageRef};

/// Knows every image but `gone`, and remembers what it was asked for and with which logins.
#[derive(Default)]
struct Registry {
    asked: Mutex<Vec<(ImageRef, Vec<DockerConfig>)>>,
}

impl ImageConfigs for Registry {
    fn look_up<'a>(
        &'a self,
        image: &'a ImageRef,
        logins: &'a dyn Keychain,
    ) -> BoxFuture<'a, Result<ImageCommands, ImageError>> {
        Box::pin(async move {
            let logins = logins.docker_configs().await;
            self.asked.lock().unwrap().push((image.clone(), logins));
            if image.image == "gone" {
                return Err(ImageError("GET https://r/v2/: NO: such image".into()));
            }
            let command = ImageCommand {
                entrypoint: vec!["run".into()],
                cmd: Vec::new(),
            };
            Ok(ImageCommands {
                pinned: format!("registry.example/image@{DIGEST}"),
                platforms: BTreeMap::from([("linux/amd64".to_owned(), command)]),
            })
        })
    }
}

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn start(api: &FakeApi) -> (Running, Arc<Registry>) {
    let registry = Arc::new(Registry::default());
    let options = ControllerOptions {
        image_configs: registry.clone(),
        ..ControllerOptions::default()
    };
    (Running::start(api, options), registry)
}

fn run_of(name: &str, steps: Value) -> Value {
    let mut run = one_step(name);
    run["spec"]["taskSpec"]["steps"] = steps;
    run
}

#[tokio::test]
async fn a_reference_is_looked_up_once_for_each_pod() {
    // T-258, T-262
    let api = FakeApi::new();
    let (controller, registry) = start(&api);
    for run in ["r1", "r2"] {
        let steps = json!([
            {"name": "a", "image": "image:1", "imagePullPolicy": "Always"},
            {"name": "b", "image": "image:1", "args": ["x"]},
            {"name": "c", "image": "image:1", "command": ["other"]},
        ]);
        api.create(TASK_RUNS, run_of(run, steps));
        let pod = pod_of(&api, run).await;
        let images: Vec<&Value> = pod["spec"]["containers"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|container| &container["image"])
            .collect();
        let pinned = format!("registry.example/image@{DIGEST}");
        assert_eq!(images, [pinned.as_str(), &pinned, "image:1"]);
    }
    controller.stop().await;
    let asked = registry.asked.lock().unwrap();
    let asked: Vec<_> = asked
        .iter()
        .map(|(image, _)| (image.image.as_str(), image.pull_policy.as_str()))
        .collect();
    assert_eq!(asked, [("image:1", "Always"); 2]);
}

#[tokio::test]
async fn the_logins_are_those_of_the_pod_template_and_then_of_the_account() {
    // T-257
    let api = FakeApi::new();
    let secret = |name: &str, kind: &str, key: &str, content: &str| {
        let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "ns", "name": name},
            "type": kind, "data": {key: content}});
        api.create("/api/v1/secrets", object);
    };
    let whole = ("kubernetes.io/dockerconfigjson", ".dockerconfigjson");
    // "1" to "4" in base64.
    secret("of-template", whole.0, whole.1, "MQ==");
    secret(
        "of-account",
        "kubernetes.io/dockercfg",
        ".dockercfg",
        "Mg==",
    );
    secret("no-login", "Opaque", ".dockerconfigjson", "Mw==");
    secret("mounted", whole.0, whole.1, "NA==");
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": "ns", "name": "puller"},
        "imagePullSecrets": [{"name": "missing"}, {"name": "no-login"}, {"name": "of-account"}], "secrets": [{"name": "mounted"}]});
    api.create("/api/v1/serviceaccounts", account);
    let (controller, registry) = start(&api);
    let mut run = run_of("r", json!([{"name": "a", "image": "image:1"}]));
    run["spec"]["serviceAccountName"] = json!("puller");
    run["spec"]["podTemplate"] = json!({"imagePullSecrets": [{"name": "of-template"}]});
    api.create(TASK_RUNS, run);
    pod_of(&api, "r").await;
    controller.stop().await;
    let asked = registry.asked.lock().unwrap();
    let logins = asked.iter().map(|(_, logins)| logins);
    let logins: Vec<&DockerConfig> = logins.flatten().collect();
    let expected = [
        DockerConfig::Whole(b"1".to_vec()),
        DockerConfig::Auths(b"2".to_vec()),
    ];
    assert!(logins == expected.iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn what_cannot_be_looked_up_fails_the_run_with_the_registrys_words() {
    // T-263
    let api = FakeApi::new();
    let (controller, _) = start(&api);
    api.create(
        TASK_RUNS,
        run_of("r", json!([{"name": "a", "image": "gone"}])),
    );
    let ended = eventually(&api, "the end of the run", || {
        let run = api.get(TASK_RUNS, "ns", "r")?;
        (condition(&run).0 == "False").then_some(run)
    })
    .await;
    let condition = &ended["status"]["conditions"][0];
    assert_eq!(condition["reason"], "PodCreationFailed");
    assert_eq!(
        condition["message"],
        "failed to create task run pod \"r\": translating TaskSpec to Pod: GET https://r/v2/: NO: such image. Maybe invalid TaskSpec"
    );
    controller.stop().await;
}
