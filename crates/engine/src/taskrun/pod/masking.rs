//! Which secrets a step can see, told to its entrypoint by place: names of variables and paths of files, never values.
//!
//! A step's entrypoint reads them where the step does, so a step is shown no secret that it does not have already; see
//! `docs/decisions/0003-secrets-are-masked-where-they-are-seen.md`.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    Container, KeyToPath, SecretVolumeSource, Volume, VolumeMount, VolumeProjection,
};

use super::volumes;

/// Where Kubernetes mounts the token of the pod's service account, without the pod's spec saying so.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Tells every step's entrypoint what to mask. Secrets whose keys nobody knows here (`envFrom`, whole projections) are
/// mounted once more, in the steps that have them, so that their values can be read; the volumes for that are returned.
pub(crate) fn mask(
    steps: &mut [Container],
    volumes: &[Volume],
    token_is_mounted: bool,
) -> Vec<Volume> {
    let by_name: BTreeMap<&str, &Volume> = volumes.iter().map(|v| (v.name.as_str(), v)).collect();
    let mut unlisted: Vec<String> = Vec::new();
    for step in steps {
        let mut places = Places::default();
        if token_is_mounted {
            places.files.insert(TOKEN.to_owned());
        }
        places.environment(step);
        for mount in step.volume_mounts.iter().flatten() {
            if let Some(volume) = by_name.get(mount.name.as_str()) {
                places.mounted(mount, volume);
            }
        }
        for secret in places.unlisted {
            let known = unlisted.iter().position(|known| *known == secret);
            let index = known.unwrap_or(unlisted.len());
            let path = format!("/tekton/masking/{secret}");
            let mount = volumes::mount(volume_name(index), &path, true);
            step.volume_mounts.get_or_insert_default().push(mount);
            places.files.insert(path);
            if known.is_none() {
                unlisted.push(secret);
            }
        }
        let variables = places
            .variables
            .into_iter()
            .flat_map(|name| ["-mask_env".to_owned(), name]);
        let files = places
            .files
            .into_iter()
            .flat_map(|path| ["-mask_file".to_owned(), path]);
        let flags: Vec<String> = variables.chain(files).collect();
        step.args.get_or_insert_default().splice(0..0, flags);
    }
    let volume = |(index, secret)| Volume {
        name: volume_name(index),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            // Whether it may be missing is for the step's own reference to say.
            optional: Some(true),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    unlisted.into_iter().enumerate().map(volume).collect()
}

fn volume_name(index: usize) -> String {
    format!("tekton-internal-masking-{index}")
}

#[derive(Default)]
struct Places {
    variables: BTreeSet<String>,
    files: BTreeSet<String>,
    /// Secrets of which the step sees every key, under names that are not known here.
    unlisted: BTreeSet<String>,
}

impl Places {
    fn environment(&mut self, step: &Container) {
        for variable in step.env.iter().flatten() {
            let source = variable.value_from.as_ref();
            // The last of a name is what the step sees.
            match source.is_some_and(|source| source.secret_key_ref.is_some()) {
                true => self.variables.insert(variable.name.clone()),
                false => self.variables.remove(&variable.name),
            };
        }
        let secrets = step.env_from.iter().flatten();
        let secrets = secrets.filter_map(|source| source.secret_ref.as_ref());
        self.unlisted
            .extend(secrets.map(|reference| reference.name.clone()));
    }

    fn mounted(&mut self, mount: &VolumeMount, volume: &Volume) {
        // Vaults mount theirs by the driver for secrets.
        let driver = volume.csi.as_ref().map(|csi| csi.driver.as_str());
        if volume.secret.is_some() || driver.is_some_and(|name| name.starts_with("secrets-store."))
        {
            self.files.insert(mount.mount_path.clone());
        }
        let projected = volume.projected.iter().flat_map(|p| &p.sources).flatten();
        for source in projected {
            self.projected(mount, source);
        }
    }

    fn projected(&mut self, mount: &VolumeMount, source: &VolumeProjection) {
        if let Some(token) = &source.service_account_token {
            self.files.extend(path_of(mount, &token.path));
        }
        let Some(secret) = &source.secret else {
            return;
        };
        match &secret.items {
            Some(items) => {
                let paths = items
                    .iter()
                    .filter_map(|item: &KeyToPath| path_of(mount, &item.path));
                self.files.extend(paths);
            }
            None => {
                self.unlisted.insert(secret.name.clone());
            }
        }
    }
}

/// Where a file of a volume is in the step, if the mount shows it.
fn path_of(mount: &VolumeMount, file: &str) -> Option<String> {
    let root = mount.mount_path.trim_end_matches('/');
    if mount
        .sub_path_expr
        .as_deref()
        .is_some_and(|e| !e.is_empty())
    {
        // What it will be is not known here: all of it.
        return Some(mount.mount_path.clone());
    }
    match mount
        .sub_path
        .as_deref()
        .map(volumes::clean_path)
        .as_deref()
    {
        None | Some("" | ".") => Some(format!("{root}/{file}")),
        Some(part) if part == file => Some(mount.mount_path.clone()),
        Some(part) => {
            let below = file.strip_prefix(part)?.strip_prefix('/')?;
            Some(format!("{root}/{below}"))
        }
    }
}
