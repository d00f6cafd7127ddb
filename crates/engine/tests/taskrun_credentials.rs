//! Credentials that a TaskRun's steps get from its service account.

mod world;

use serde_json::{Value, json};
use tektite_engine::decision::Effect;
use world::*;

fn args(pod: &Value, container: usize) -> Vec<String> {
    serde_json::from_value(pod["spec"]["containers"][container]["args"].clone()).expect("arguments")
}

fn mount<'a>(container: &'a Value, path: &str) -> Option<&'a Value> {
    container["volumeMounts"]
        .as_array()?
        .iter()
        .find(|m| m["mountPath"] == path)
}

#[test]
fn credentials_of_the_service_account_reach_every_step() {
    // T-265, T-267, T-268
    let secret = |name: &str, type_: &str, annotations: Value| json!({"kind": "Secret", "metadata": {"name": name, "annotations": annotations}, "type": format!("kubernetes.io/{type_}")});
    let account = json!({"kind": "ServiceAccount", "metadata": {"name": "default"}, "secrets": [
        {"name": "basic"}, {"name": ""}, {"name": "basic"}, {"name": "ssh"}, {"name": "json"}, {"name": "cfg"}, {"name": "plain"}]});
    let mut world = World::new(one_step())
        .with(account)
        .with(secret(
            "basic",
            "basic-auth",
            json!({"tekton.dev/git-1": "b", "tekton.dev/git-0": "c", "tekton.dev/docker-0": "a"}),
        ))
        .with(secret("ssh", "ssh-auth", json!({"tekton.dev/git-0": "h"})))
        .with(secret("json", "dockerconfigjson", json!({})))
        .with(secret("cfg", "dockercfg", json!({})))
        .with(secret("plain", "basic-auth", json!({})));
    let pod = world.pod();
    let args = args(&pod, 0);
    let from = args
        .iter()
        .position(|a| a.starts_with("-basic-docker"))
        .unwrap();
    assert_eq!(
        args[from..from + 6],
        [
            "-basic-docker=basic=a",
            "-basic-git=basic=b",
            "-basic-git=basic=c",
            "-ssh-git=ssh=h",
            "-docker-config=json",
            "-docker-cfg=cfg"
        ]
    );
    let container = &pod["spec"]["containers"][0];
    assert!(mount(container, "/tekton/creds-secrets/basic").is_some());
    assert!(mount(container, "/tekton/creds-secrets/plain").is_none());
    let secrets = pod["spec"]["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|v| v.get("secret").is_some())
        .count();
    assert_eq!(secrets, 4);
}

#[test]
fn a_missing_secret_is_reported_and_passed_over() {
    // T-266
    let account = json!({"kind": "ServiceAccount", "metadata": {"name": "default"}, "secrets": [{"name": "a"}, {"name": "b"}]});
    let decision = World::new(one_step()).with(account).decide();
    assert!(events(&decision).contains(
        &"! FailedToRetrieveSecret: Unable to retrieve some secrets (a, b); attempting to use them may not succeed.".to_owned()
    ));
    assert!(matches!(decision.effects[..], [Effect::CreatePod(_)]));
}

#[test]
fn known_hosts_can_be_required() {
    // T-269
    let account = json!({"kind": "ServiceAccount", "metadata": {"name": "default"}, "secrets": [{"name": "ssh"}]});
    let secret =
        json!({"kind": "Secret", "metadata": {"name": "ssh"}, "type": "kubernetes.io/ssh-auth"});
    let mut world = World::new(one_step()).with(account).with(secret);
    world
        .config
        .feature_flags
        .require_git_ssh_secret_known_hosts = true;
    assert_eq!(
        condition(&world.decide().status).1,
        "TaskRunValidationFailed"
    );
}

#[test]
fn creds_init_can_be_switched_off() {
    // T-108, T-232
    let mut world = World::new(one_step());
    assert!(mount(&world.pod()["spec"]["containers"][0], "/tekton/creds").is_some());
    world.config.feature_flags.disable_creds_init = true;
    assert!(mount(&world.pod()["spec"]["containers"][0], "/tekton/creds").is_none());
}
