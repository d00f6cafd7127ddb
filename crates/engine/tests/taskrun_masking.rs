//! What a TaskRun's pod tells its steps of the secrets they see, and that it tells nobody their values.

mod world;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tektite_engine::taskrun::pod::PodOptions;
use world::*;

fn masking(mut world: World) -> World {
    world.seen.pod_options = Arc::new(PodOptions {
        masks_secrets: true,
        ..PodOptions::default()
    });
    world
}

/// The values of a flag of a step's entrypoint, in order.
fn flags(pod: &Value, container: usize, flag: &str) -> Vec<String> {
    let args: Vec<String> =
        serde_json::from_value(pod["spec"]["containers"][container]["args"].clone()).unwrap();
    let end = args.iter().position(|a| a == "--").unwrap();
    let pairs = args[..end].windows(2).filter(|pair| pair[0] == flag);
    pairs.map(|pair| pair[1].clone()).collect()
}

const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

#[test]
fn each_step_masks_the_secrets_it_sees() {
    let spec = json!({
        "params": [],
        "workspaces": [{"name": "keys", "secret": {"secretName": "in-workspace"}}],
        "podTemplate": {"env": [{"name": "FROM_TEMPLATE", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
        "taskSpec": {
            "workspaces": [{"name": "keys", "mountPath": "/keys"}],
            "volumes": [
                {"name": "all", "secret": {"secretName": "in-volume"}},
                {"name": "config", "configMap": {"name": "c"}},
                {"name": "vault", "csi": {"driver": "secrets-store.csi.k8s.io"}},
                {"name": "some", "projected": {"sources": [
                    {"secret": {"name": "listed", "items": [{"key": "k", "path": "dir/k"}, {"key": "l", "path": "l"}]}},
                    {"configMap": {"name": "c"}},
                    {"serviceAccountToken": {"path": "token"}}]}},
                {"name": "whole", "projected": {"sources": [{"secret": {"name": "unlisted"}}]}},
            ],
            "steps": [
                {"name": "a", "image": "i", "command": ["x"],
                 "env": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                         {"name": "OTHER", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
                         {"name": "PLAIN", "value": "v"}],
                 "envFrom": [{"prefix": "P_", "secretRef": {"name": "in-env"}}, {"configMapRef": {"name": "c"}}],
                 "volumeMounts": [{"name": "all", "mountPath": "/all"}, {"name": "config", "mountPath": "/config"},
                                  {"name": "vault", "mountPath": "/vault"}]},
                {"name": "b", "image": "i", "command": ["x"],
                 "envFrom": [{"secretRef": {"name": "in-env"}}],
                 "volumeMounts": [{"name": "some", "mountPath": "/some/"}, {"name": "some", "mountPath": "/part", "subPath": "dir"},
                                  {"name": "some", "mountPath": "/file", "subPath": "token"}, {"name": "whole", "mountPath": "/whole"}]},
            ],
        },
    });
    let mut world = masking(World::new(run(spec.clone())));
    let pod = world.pod();
    assert_eq!(flags(&pod, 0, "-mask_env"), ["FROM_TEMPLATE", "PASSWORD"]);
    assert_eq!(
        flags(&pod, 0, "-mask_file"),
        ["/all", "/keys", "/tekton/masking/in-env", TOKEN, "/vault"]
    );
    assert_eq!(flags(&pod, 1, "-mask_env"), ["FROM_TEMPLATE"]);
    assert_eq!(
        flags(&pod, 1, "-mask_file"),
        [
            "/file",
            "/keys",
            "/part/k",
            "/some/dir/k",
            "/some/l",
            "/some/token",
            "/tekton/masking/in-env",
            "/tekton/masking/unlisted",
            TOKEN
        ]
    );
    // Mounted where the step sees the values anyway, and nowhere else.
    let volumes: Vec<&Value> = pod["spec"]["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|v| {
            v["name"]
                .as_str()
                .unwrap()
                .starts_with("tekton-internal-masking")
        })
        .collect();
    assert_eq!(
        volumes,
        [
            &json!({"name": "tekton-internal-masking-0", "secret": {"secretName": "in-env", "optional": true}}),
            &json!({"name": "tekton-internal-masking-1", "secret": {"secretName": "unlisted", "optional": true}})
        ]
    );
    let mounts = |container: usize| -> Vec<&Value> {
        let mounts = pod["spec"]["containers"][container]["volumeMounts"].as_array();
        mounts
            .unwrap()
            .iter()
            .filter(|m| {
                m["mountPath"]
                    .as_str()
                    .unwrap()
                    .starts_with("/tekton/masking")
            })
            .collect()
    };
    assert_eq!(
        mounts(0),
        [
            &json!({"name": "tekton-internal-masking-0", "mountPath": "/tekton/masking/in-env", "readOnly": true})
        ]
    );
    assert_eq!(mounts(1).len(), 2);

    // Without it the pod is as if it did not exist.
    let plain = World::new(run(spec)).pod().to_string();
    assert!(!plain.contains("mask"), "{plain}");
}

#[test]
fn the_feature_flag_overrules_the_controllers_default() {
    for (default, flag, expected) in [
        (true, None, true),
        (true, Some("false"), false),
        (false, Some("true"), true),
        (false, None, false),
    ] {
        let mut world = World::new(one_step());
        world.seen.pod_options = Arc::new(PodOptions {
            masks_secrets: default,
            ..PodOptions::default()
        });
        let data = flag.map(|text| ("enable-secret-masking".to_owned(), text.to_owned()));
        let data = data.into_iter().collect();
        world.config.update("feature-flags", &data).unwrap();
        let masked = !flags(&world.pod(), 0, "-mask_file").is_empty();
        assert_eq!(masked, expected, "{default} {flag:?}");
    }
}

#[test]
fn a_pod_without_a_token_does_not_look_for_one() {
    let spec = json!({"podTemplate": {"automountServiceAccountToken": false},
        "taskSpec": {"steps": [{"image": "i", "command": ["x"]}]}});
    let pod = masking(World::new(run(spec))).pod();
    assert!(flags(&pod, 0, "-mask_file").is_empty());
}

#[test]
fn no_value_of_a_secret_stands_in_a_pod() {
    // Everything that looks into a Secret on the way to a pod: credentials of the account, checked keys, types.
    const VALUE: &str = "the-value-of-a-secret";
    let secret = |name: &str, type_: &str, keys: &[&str]| {
        let data: serde_json::Map<String, Value> = keys
            .iter()
            .map(|key| {
                (
                    (*key).to_owned(),
                    json!(STANDARD.encode(format!("{VALUE}-{key}"))),
                )
            })
            .collect();
        json!({"kind": "Secret", "type": format!("kubernetes.io/{type_}"), "data": data, "metadata": {"name": name,
            "annotations": {"tekton.dev/git-0": "https://git.example", "tekton.dev/docker-0": "https://registry.example"}}})
    };
    let spec = json!({
        "serviceAccountName": "bot",
        "workspaces": [{"name": "w", "secret": {"secretName": "basic"}}],
        "params": [{"name": "name", "value": "basic"}],
        "taskSpec": {
            "params": [{"name": "name"}],
            "workspaces": [{"name": "w"}],
            "results": [{"name": "r"}],
            "volumes": [{"name": "v", "secret": {"secretName": "$(params.name)"}}],
            "sidecars": [{"name": "s", "image": "i", "script": "echo", "envFrom": [{"secretRef": {"name": "basic"}}]}],
            "steps": [{"name": "a", "image": "i", "script": "echo $PASSWORD $(params.name) $(workspaces.w.path)",
                "env": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "basic", "key": "password"}}}],
                "envFrom": [{"secretRef": {"name": "basic"}}],
                "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        },
    });
    for masks_secrets in [true, false] {
        let account = json!({"kind": "ServiceAccount", "metadata": {"name": "bot"},
            "secrets": [{"name": "basic"}, {"name": "ssh"}, {"name": "json"}, {"name": "cfg"}],
            "imagePullSecrets": [{"name": "json"}]});
        let mut world = World::new(run(spec.clone()))
            .with(account)
            .with(secret("basic", "basic-auth", &["username", "password"]))
            .with(secret(
                "ssh",
                "ssh-auth",
                &["ssh-privatekey", "known_hosts"],
            ))
            .with(secret("json", "dockerconfigjson", &[".dockerconfigjson"]))
            .with(secret("cfg", "dockercfg", &[".dockercfg"]));
        world.seen.pod_options = Arc::new(PodOptions {
            masks_secrets,
            ..PodOptions::default()
        });
        let pod = world.pod().to_string();
        assert!(
            pod.contains("creds-secrets/ssh"),
            "the secrets were looked at: {pod}"
        );
        // Scripts stand there in base64, and so might anything else.
        for offset in 0..3 {
            let text = format!("{}{VALUE}", " ".repeat(offset));
            let encoded = STANDARD.encode(text);
            let core = &encoded[4..encoded.len() - 4];
            assert!(!pod.contains(core), "{core} in {pod}");
        }
        assert!(!pod.contains(VALUE), "{pod}");
    }
}
