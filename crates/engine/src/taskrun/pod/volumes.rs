//! Volumes and mounts that every pod has (T-229 to T-236).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, DownwardAPIVolumeSource, EmptyDirVolumeSource,
    ImageVolumeSource, ObjectFieldSelector, Volume, VolumeMount,
};
use tektite_api::names::annotation;

use super::EntrypointDelivery;

/// The implicit volumes in their order, with where they are mounted; `/tekton/steps` is read-only in steps (T-229).
const IMPLICIT: [(&str, &str, bool); 5] = [
    ("tekton-internal-workspace", "/workspace", false),
    ("tekton-internal-home", "/tekton/home", false),
    ("tekton-internal-results", "/tekton/results", false),
    ("tekton-internal-steps", "/tekton/steps", true),
    ("tekton-internal-artifacts", "/tekton/artifacts", false),
];

/// An empty directory.
pub(crate) fn empty_dir(name: impl Into<String>) -> Volume {
    Volume {
        name: name.into(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    }
}

pub(crate) fn mount(
    name: impl Into<String>,
    path: impl Into<String>,
    read_only: bool,
) -> VolumeMount {
    VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

pub(crate) fn implicit_volumes() -> Vec<Volume> {
    IMPLICIT.iter().map(|(name, ..)| empty_dir(*name)).collect()
}

/// The volume that holds the entrypoint.
pub(crate) fn bin_volume(delivery: &EntrypointDelivery) -> Volume {
    match delivery {
        EntrypointDelivery::InitContainer { .. } => empty_dir("tekton-internal-bin"),
        EntrypointDelivery::ImageVolume { image } => Volume {
            name: "tekton-internal-bin".into(),
            image: Some(ImageVolumeSource {
                reference: Some(image.clone()),
                pull_policy: None,
            }),
            ..Volume::default()
        },
    }
}

/// The annotations that steps watch (T-234).
pub(crate) fn downward_volume(keep_on_cancel: bool) -> Volume {
    let item = |path: &str, annotation: &str| DownwardAPIVolumeFile {
        path: path.into(),
        field_ref: Some(ObjectFieldSelector {
            api_version: None,
            field_path: format!("metadata.annotations['{annotation}']"),
        }),
        ..DownwardAPIVolumeFile::default()
    };
    let mut items = vec![item("ready", annotation::READY)];
    if keep_on_cancel {
        items.push(item("cancel", annotation::CANCEL));
    }
    Volume {
        name: "tekton-internal-downward".into(),
        downward_api: Some(DownwardAPIVolumeSource {
            items: Some(items),
            ..DownwardAPIVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// A step's own memory-backed directory for credentials (T-232).
pub(crate) fn credentials_volume(step: usize) -> Volume {
    let memory = EmptyDirVolumeSource {
        medium: Some("Memory".into()),
        ..EmptyDirVolumeSource::default()
    };
    Volume {
        name: format!("tekton-creds-init-home-{step}"),
        empty_dir: Some(memory),
        ..Volume::default()
    }
}

/// Adds what every step mounts, in its order, and leaves out where the step mounts something itself (T-231 to T-233).
pub(crate) fn mount_in_step(
    container: &mut Container,
    step: usize,
    steps: usize,
    with_credentials: bool,
    secrets: &[VolumeMount],
    delivery: &EntrypointDelivery,
) {
    let mounts = container.volume_mounts.get_or_insert_default();
    if with_credentials {
        mounts.push(mount(
            format!("tekton-creds-init-home-{step}"),
            "/tekton/creds",
            false,
        ));
    }
    mounts.extend((0..steps).map(|i| run_mount(i, i != step)));
    let shared = shared_mounts(secrets, |m| {
        if let (EntrypointDelivery::ImageVolume { .. }, "tekton-internal-steps") =
            (delivery, m.name.as_str())
        {
            // Nothing has run before the step that could have laid out this directory: the step's entrypoint does it,
            // in a part that no other step sees.
            m.read_only = None;
            m.sub_path = (steps > 1).then(|| step.to_string());
        }
    });
    add_unless_mounted(mounts, shared);
}

/// Adds what the results sidecar mounts (T-316).
pub(crate) fn mount_in_results_sidecar(
    container: &mut Container,
    steps: usize,
    secrets: &[VolumeMount],
) {
    let mounts = container.volume_mounts.get_or_insert_default();
    mounts.extend((0..steps).map(|i| run_mount(i, true)));
    add_unless_mounted(mounts, shared_mounts(secrets, |_| {}));
}

fn run_mount(step: usize, read_only: bool) -> VolumeMount {
    mount(
        format!("tekton-internal-run-{step}"),
        format!("/tekton/run/{step}"),
        read_only,
    )
}

fn shared_mounts(secrets: &[VolumeMount], change: impl Fn(&mut VolumeMount)) -> Vec<VolumeMount> {
    let mut shared = vec![mount("tekton-internal-bin", "/tekton/bin", true)];
    shared.extend(
        IMPLICIT
            .iter()
            .map(|(name, path, read_only)| mount(*name, *path, *read_only)),
    );
    shared.extend(secrets.iter().cloned());
    shared.iter_mut().for_each(change);
    shared
}

fn add_unless_mounted(mounts: &mut Vec<VolumeMount>, more: Vec<VolumeMount>) {
    let taken: BTreeSet<String> = mounts.iter().map(|m| clean_path(&m.mount_path)).collect();
    mounts.extend(
        more.into_iter()
            .filter(|m| !taken.contains(&clean_path(&m.mount_path))),
    );
}

/// The shortest spelling of a path, as Go's `filepath.Clean` writes it.
pub(crate) fn clean_path(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            other => parts.push(other),
        }
    }
    match (absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_go_cleans_them() {
        for (path, clean) in [
            ("", "."),
            ("/", "/"),
            ("/a//b/./c/", "/a/b/c"),
            ("/a/../../b", "/b"),
            ("a/../..", ".."),
            ("./a/..", "."),
        ] {
            assert_eq!(clean_path(path), clean, "{path}");
        }
    }

    #[test]
    fn a_step_that_mounts_an_implicit_path_itself_keeps_its_own() {
        // T-233
        let mut container = Container {
            volume_mounts: Some(vec![mount("mine", "/tekton/home/", false)]),
            ..Container::default()
        };
        let delivery = EntrypointDelivery::InitContainer { image: "i".into() };
        mount_in_step(&mut container, 0, 1, true, &[], &delivery);
        let homes: Vec<String> = container
            .volume_mounts
            .unwrap()
            .into_iter()
            .filter(|m| clean_path(&m.mount_path) == "/tekton/home")
            .map(|m| m.name)
            .collect();
        assert_eq!(homes, ["mine"]);
    }
}
