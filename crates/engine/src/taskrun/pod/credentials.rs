//! Credentials of the run's service account, as arguments, volumes and mounts of steps (T-265 to T-269).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Secret, SecretVolumeSource, Volume, VolumeMount};
use tektite_api::config::Config;
use tektite_api::names::annotation;

use super::BuildError;
use crate::decision::{Found, Inquiry, Known, Query};
use crate::taskrun::workspaces::hashed_name;

/// What the steps of a pod need to log in to registries and repositories.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Credentials {
    /// Arguments of the entrypoint.
    pub args: Vec<String>,
    pub volumes: Vec<Volume>,
    pub mounts: Vec<VolumeMount>,
    /// Secrets of the account that are not there (T-266).
    pub missing: Vec<String>,
}

/// Looks the account's secrets up; `None` while not everything is known.
pub(crate) fn find(
    namespace: &str,
    account: &str,
    config: &Config,
    inquiry: &mut Inquiry<'_>,
) -> Result<Option<Credentials>, BuildError> {
    if config.feature_flags.disable_creds_init {
        return Ok(Some(Credentials::default()));
    }
    let name = if account.is_empty() {
        "default"
    } else {
        account
    };
    let account = match inquiry.ask(Query::ServiceAccount {
        namespace: namespace.into(),
        name: name.into(),
    }) {
        Known::Found(Found::ServiceAccount(account)) => account,
        Known::Missing(message) => return Err(BuildError(message.to_owned())),
        Known::Failed(failure) => return Err(BuildError(failure.message.clone())),
        _ => return Ok(None),
    };
    let mut seen = BTreeSet::new();
    let mut secrets = Vec::new();
    let mut credentials = Credentials::default();
    let mut complete = true;
    for reference in account.secrets.iter().flatten() {
        let Some(name) = reference.name.as_deref().filter(|n| !n.is_empty()) else {
            continue;
        };
        if !seen.insert(name) {
            continue;
        }
        match inquiry.ask(Query::Secret {
            namespace: namespace.into(),
            name: name.into(),
        }) {
            Known::Found(Found::Secret(secret)) => secrets.push((name, secret)),
            Known::Missing(_) => credentials.missing.push(name.to_owned()),
            Known::Failed(failure) => return Err(BuildError(failure.message.clone())),
            _ => complete = false,
        }
    }
    if !complete {
        return Ok(None);
    }
    let mut used = BTreeSet::new();
    for (name, secret) in secrets {
        if config.feature_flags.require_git_ssh_secret_known_hosts && lacks_known_hosts(secret) {
            return Err(BuildError(
                "TaskRun validation failed. Git SSH Secret must have \"known_hosts\" included when feature flag \
                 \"require-git-ssh-secret-known-hosts\" is set to true"
                    .to_owned(),
            ));
        }
        let args = arguments(name, secret);
        if args.is_empty() {
            continue;
        }
        credentials.args.extend(args);
        let mut volume = hashed_name("tekton-creds", name, 8);
        while !used.insert(volume.clone()) {
            volume = hashed_name("tekton-creds", &format!("{volume}$"), 8);
        }
        credentials.mounts.push(VolumeMount {
            name: volume.clone(),
            mount_path: format!("/tekton/creds-secrets/{name}"),
            ..VolumeMount::default()
        });
        credentials.volumes.push(Volume {
            name: volume,
            secret: Some(SecretVolumeSource {
                secret_name: Some(name.to_owned()),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        });
    }
    Ok(Some(credentials))
}

fn lacks_known_hosts(secret: &Secret) -> bool {
    secret.type_.as_deref() == Some("kubernetes.io/ssh-auth")
        && !secret
            .data
            .as_ref()
            .is_some_and(|d| d.contains_key("known_hosts"))
}

/// T-267
fn arguments(name: &str, secret: &Secret) -> Vec<String> {
    let values = |prefix: &str| {
        let mut values: Vec<&str> = secret
            .metadata
            .annotations
            .iter()
            .flatten()
            .filter(|(key, _)| key.starts_with(prefix))
            .map(|(_, value)| value.as_str())
            .collect();
        values.sort_unstable();
        values
    };
    let flags = |flag: &str, prefix: &str| {
        values(prefix)
            .iter()
            .map(|v| format!("-{flag}={name}={v}"))
            .collect::<Vec<_>>()
    };
    match secret.type_.as_deref().unwrap_or_default() {
        "kubernetes.io/basic-auth" => {
            let mut all = flags("basic-docker", annotation::DOCKER_CREDENTIALS_PREFIX);
            all.extend(flags("basic-git", annotation::GIT_CREDENTIALS_PREFIX));
            all
        }
        "kubernetes.io/ssh-auth" => flags("ssh-git", annotation::GIT_CREDENTIALS_PREFIX),
        "kubernetes.io/dockerconfigjson" => vec![format!("-docker-config={name}")],
        "kubernetes.io/dockercfg" => vec![format!("-docker-cfg={name}")],
        _ => Vec::new(),
    }
}
