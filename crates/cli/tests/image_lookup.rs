//! What images run by themselves, seen from outside: by `tektite controller` on a cluster, and on one machine with a store.

#[path = "../../oci/tests/docker_registry/mod.rs"]
mod docker_registry;
mod support;

use std::fs;
use std::path::Path;

use docker_registry::{DockerRegistry, LOGIN};
use serde_json::{Value, json};
use support::component::{Component, LIMIT};
use support::{Up, eventually, has, skip};

const REPOSITORY: &str = "team/app";
const BUSYBOX: &str = "/bin/busybox";

/// Says what is missing for `test`, or starts a registry.
fn registry(test: &str, login: Option<&str>) -> Option<DockerRegistry> {
    if !has("kubectl") {
        skip(
            test,
            "no kubectl on this machine (Debian: kubernetes-client)",
        );
        return None;
    }
    if !Path::new(BUSYBOX).is_file() {
        skip(
            test,
            "no /bin/busybox on this machine (Debian: busybox-static)",
        );
        return None;
    }
    DockerRegistry::start(test, login)
}

fn here() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}

/// An index of a busybox that says `words` on this platform, and of an image that is nowhere on another; gives its digest.
fn push(registry: &DockerRegistry, tag: &str, words: &str) -> String {
    push_parts(registry, tag, words, true)
}

/// The same; unless it is whole, there is no layer for this platform either.
fn push_parts(registry: &DockerRegistry, tag: &str, words: &str, whole: bool) -> String {
    let mut layer = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    let program = fs::read(BUSYBOX).expect("a program");
    header.set_size(program.len() as u64);
    header.set_mode(0o755);
    layer
        .append_data(&mut header, "bin/busybox", program.as_slice())
        .expect("a file");
    let layer = layer.into_inner().expect("a layer");
    let layer_type = "application/vnd.oci.image.layer.v1.tar";
    let blob = registry.blob(REPOSITORY, layer_type, &layer);
    let absent = docker_registry::described(layer_type, b"nowhere");
    let image = |architecture: &str, layer: &Value| {
        let config = json!({"os": "linux", "architecture": architecture,
            "config": {"Entrypoint": ["/bin/busybox", "echo"], "Cmd": [words]},
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}});
        let config = registry.blob(
            REPOSITORY,
            "application/vnd.oci.image.config.v1+json",
            config.to_string().as_bytes(),
        );
        let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": [layer]});
        let mut entry = registry.manifest(REPOSITORY, None, &manifest);
        entry["platform"] = json!({"os": "linux", "architecture": architecture, "variant": "v8"});
        entry
    };
    let mut own = image(here(), if whole { &blob } else { &absent });
    own["platform"] = json!({"os": "linux", "architecture": here()});
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [image("ppc64le", &absent), own]});
    let index = registry.manifest(REPOSITORY, Some(tag), &index);
    index["digest"].as_str().expect("a digest").to_owned()
}

fn run(up: &Up, name: &str, image: &str) {
    let run = json!({"apiVersion": "tekton.dev/v1", "kind": "TaskRun", "metadata": {"name": name},
        "spec": {"taskSpec": {"steps": [{"name": "say", "image": image}]}}});
    up.kubectl_with(&["create", "-f", "-"], &run.to_string());
}

fn get(up: &Up, object: &str) -> Value {
    let json = up.kubectl(&["get", object, "-o", "json"]);
    serde_json::from_str(&json).expect("JSON")
}

/// Waits for the run's end, and gives the step's image and what its platforms run.
fn succeeded(up: &Up, name: &str, words: &str) -> (String, Value) {
    let run = format!("tr/{name}");
    up.kubectl(&["wait", &run, "--for=condition=Succeeded", "--timeout=60s"]);
    let log = up.kubectl(&["logs", &format!("{name}-pod"), "-c", "step-say"]);
    assert_eq!(log, format!("{words}\n"));
    let step = &get(up, &format!("pod/{name}-pod"))["spec"]["containers"][0];
    let env = step["env"].as_array().into_iter().flatten();
    let commands = env
        .filter(|it| it["name"] == "TEKTON_PLATFORM_COMMANDS")
        .find_map(|it| serde_json::from_str(it["value"].as_str()?).ok());
    let image = step["image"].as_str().expect("an image");
    (image.to_owned(), commands.expect("commands"))
}

fn by_platform(words: &str) -> Value {
    let command = json!(["/bin/busybox", "echo", words]);
    json!({"linux/ppc64le/v8": command, format!("linux/{}", here()): command})
}

/// T-257, T-258, T-260, T-263: the controller of a cluster has no store. It reads what it must with the logins of the run's
/// account, else with its own, and leaves pulling to the node.
#[test]
fn a_clusters_controller_looks_images_up_without_pulling_them() {
    const TEST: &str = "a_clusters_controller_looks_images_up_without_pulling_them";
    let Some(registry) = registry(TEST, Some(LOGIN)) else {
        return;
    };
    let digest = push(&registry, "1", "hello");
    let address = &registry.address;
    let image = format!("{address}/{REPOSITORY}");
    let up = Up::start(&["--no-controller"]);
    let home = tempfile::tempdir().expect("a directory");
    let config = tempfile::tempdir().expect("a directory");
    let path = |directory: &tempfile::TempDir| directory.path().display().to_string();
    let environment = [
        ("HOME", path(&home)),
        ("TEKTITE_DATA_DIR", path(&home)),
        ("DOCKER_CONFIG", path(&config)),
        ("PROBES_PORT", "0".to_owned()),
    ];
    let environment: Vec<(&str, &str)> = environment
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let arguments = [
        "controller",
        "-entrypoint-image",
        "tektite/entrypoint",
        "-disable-ha=true",
        "-no-resolvers",
    ];
    let _controller = Component::start(&up, &arguments, &environment);

    run(&up, "refused", &format!("{image}:1"));
    let message = eventually("the run is refused", LIMIT, || {
        let condition = &get(&up, "tr/refused")["status"]["conditions"][0];
        (condition["reason"] == "PodCreationFailed").then(|| condition["message"].to_string())
    });
    let said = format!(
        "translating TaskSpec to Pod: GET http://{address}/v2/{REPOSITORY}/manifests/1: UNAUTHORIZED: authentication required; "
    );
    assert!(message.contains(&said), "{message}");

    // With the controller's own login it gets as far as the node, which has none.
    let login = json!({"auths": {address: {"username": "user", "password": "pass"}}}).to_string();
    fs::write(config.path().join("config.json"), &login).expect("a file");
    run(&up, "own", &format!("{image}:1"));
    let pod = eventually("the pod is made", LIMIT, || {
        let pod = get(&up, "pods")["items"][0].take();
        (pod["metadata"]["name"] == "own-pod").then_some(pod)
    });
    let pinned = format!("{image}@{digest}");
    assert_eq!(pod["spec"]["containers"][0]["image"], pinned);
    up.kubectl(&["delete", "tr/own"]);
    fs::remove_file(config.path().join("config.json")).expect("it goes");

    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"},
        "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": login}});
    up.kubectl_with(&["create", "-f", "-"], &secret.to_string());
    let account = r#"{"imagePullSecrets": [{"name": "login"}]}"#;
    up.kubectl(&["patch", "serviceaccount", "default", "-p", account]);
    run(&up, "tagged", &format!("{image}:1"));
    let found = succeeded(&up, "tagged", "hello");
    assert_eq!(found, (pinned, by_platform("hello")));

    let left: Vec<_> = fs::read_dir(home.path()).expect("a directory").collect();
    assert!(left.is_empty(), "nothing was stored: {left:?}");
}

/// T-258, T-260, T-262: on one machine a pulled image does not hide that `latest` moved; other tags are as stored, and all
/// are where the registry is out of reach or lacks what it promises.
#[test]
fn on_one_machine_latest_is_resolved_again_and_what_is_stored_will_do() {
    const TEST: &str = "on_one_machine_latest_is_resolved_again_and_what_is_stored_will_do";
    let Some(mut registry) = registry(TEST, None) else {
        return;
    };
    let up = Up::start(&[]);
    let image = format!("{}/{REPOSITORY}", registry.address);
    let before = push(&registry, "latest", "before");
    push(&registry, "1", "before");
    for (name, tag) in [("first", "latest"), ("first-tagged", "1")] {
        run(&up, name, &format!("{image}:{tag}"));
        let (pinned, commands) = succeeded(&up, name, "before");
        assert_eq!(pinned, format!("{image}@{before}"));
        assert_eq!(commands, by_platform("before"));
    }
    let after = push(&registry, "latest", "after");
    push(&registry, "1", "after");
    run(&up, "moved", &image);
    let (pinned, commands) = succeeded(&up, "moved", "after");
    assert_eq!(pinned, format!("{image}@{after}"));
    assert_eq!(commands, by_platform("after"));
    run(&up, "stored", &format!("{image}:1"));
    let (pinned, _) = succeeded(&up, "stored", "before");
    assert_eq!(pinned, format!("{image}@{before}"));

    push_parts(&registry, "latest", "broken", false);
    let only = json!({format!("linux/{}", here()): ["/bin/busybox", "echo", "after"]});
    for name in ["broken", "offline"] {
        run(&up, name, &format!("{image}:latest"));
        let (pinned, commands) = succeeded(&up, name, "after");
        assert_eq!(pinned, format!("{image}@{after}"));
        assert_eq!(commands, only, "the store has the image of this platform");
        registry.end();
    }
}
