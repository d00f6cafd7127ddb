//! Volumes of a pod: what each needs, where it lives on this machine, and what its files hold (K-302 to K-312).

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, PersistentVolume, PersistentVolumeClaim, Pod, PodSpec,
    Volume, VolumeProjection,
};

use crate::environment::{Facts, Names, Objects, field, resource};
use crate::quantity;

/// A file of a volume made from objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VolumeFile {
    pub bytes: Vec<u8>,
    pub mode: u32,
}

/// Files by their path in the volume.
pub(crate) type Files = BTreeMap<PathBuf, VolumeFile>;

/// What the API must be asked for before the volumes can be set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct VolumeNeeds {
    pub names: Names,
    pub claims: Vec<String>,
    /// Audience (empty for the API's own) and lifetime in seconds.
    pub tokens: Vec<(String, i64)>,
    /// References of image volumes by volume.
    pub images: BTreeMap<String, (String, Option<String>)>,
}

/// Answers to them.
#[derive(Clone, Debug, Default)]
pub(crate) struct VolumeAnswers {
    pub objects: Objects,
    /// Claim and the volume it is bound to; `None` for what does not exist.
    pub claims: BTreeMap<String, Option<(PersistentVolumeClaim, Option<PersistentVolume>)>>,
    pub tokens: BTreeMap<(String, i64), String>,
}

/// Where a volume lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// A fresh directory in the pod's own on disk.
    Empty,
    /// A fresh directory in memory, a file system of its own if it has a limit in bytes.
    Memory(Option<u64>),
    /// Files made from objects: on disk, or in memory for what may be secret.
    Files { files: Files, in_memory: bool },
    /// An existing path of this machine. `make` says what to do if it is absent.
    Existing {
        path: PathBuf,
        read_only: bool,
        check: HostPathType,
    },
    /// An image's files.
    Image,
}

/// `hostPath.type` (K-309).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostPathType {
    Unchecked,
    Directory,
    DirectoryOrCreate,
    File,
    FileOrCreate,
    Socket,
    CharDevice,
    BlockDevice,
}

/// Volumes some container mounts; the others are never set up (K-306).
pub(crate) fn mounted(spec: &PodSpec) -> impl Iterator<Item = &Volume> {
    spec.volumes.iter().flatten().filter(|volume| {
        let containers = spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten());
        containers
            .flat_map(|container| container.volume_mounts.iter().flatten())
            .any(|mount| mount.name == volume.name)
    })
}

/// What the volumes of a pod need.
pub(crate) fn needs(spec: &PodSpec) -> VolumeNeeds {
    let mut needs = VolumeNeeds::default();
    for volume in mounted(spec) {
        if let Some(source) = &volume.config_map {
            needs.names.config_maps.insert(source.name.clone());
        }
        if let Some(name) = volume
            .secret
            .as_ref()
            .and_then(|source| source.secret_name.as_ref())
        {
            needs.names.secrets.insert(name.clone());
        }
        for source in volume
            .projected
            .iter()
            .flat_map(|projected| projected.sources.iter().flatten())
        {
            needs
                .names
                .config_maps
                .extend(source.config_map.as_ref().map(|source| source.name.clone()));
            needs
                .names
                .secrets
                .extend(source.secret.as_ref().map(|source| source.name.clone()));
            if let Some(token) = &source.service_account_token {
                needs.tokens.push(token_key(
                    token.audience.as_deref(),
                    token.expiration_seconds,
                ));
            }
        }
        if let Some(claim) = &volume.persistent_volume_claim {
            needs.claims.push(claim.claim_name.clone());
        }
        if let Some(image) = &volume.image {
            let reference = image.reference.clone().unwrap_or_default();
            needs
                .images
                .insert(volume.name.clone(), (reference, image.pull_policy.clone()));
        }
    }
    needs
}

fn token_key(audience: Option<&str>, expiration: Option<i64>) -> (String, i64) {
    (
        audience.unwrap_or_default().to_string(),
        expiration.unwrap_or(3600).max(600),
    )
}

/// Where a volume lives and what it holds.
///
/// # Errors
/// The reason of a `FailedMount`; it is tried again (K-306).
pub(crate) fn plan(
    pod: &Pod,
    volume: &Volume,
    answers: &VolumeAnswers,
    facts: &Facts,
) -> Result<Plan, String> {
    if let Some(source) = &volume.empty_dir {
        let limit = source
            .size_limit
            .as_ref()
            .and_then(|limit| quantity::units(&limit.0))
            .and_then(|limit| u64::try_from(limit).ok());
        return Ok(match source.medium.as_deref() {
            Some("Memory") => Plan::Memory(limit.filter(|limit| *limit > 0)),
            _ => Plan::Empty,
        });
    }
    if let Some(source) = &volume.config_map {
        let files = config_map_files(
            &source.name,
            source.items.as_deref(),
            source.optional,
            source.default_mode,
            answers,
        )?;
        return Ok(Plan::Files {
            files,
            in_memory: false,
        });
    }
    if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        let files = secret_files(
            name,
            source.items.as_deref(),
            source.optional,
            source.default_mode,
            answers,
        )?;
        return Ok(Plan::Files {
            files,
            in_memory: true,
        });
    }
    if let Some(source) = &volume.downward_api {
        let files = downward_files(source.items.as_deref(), source.default_mode, pod, facts)?;
        return Ok(Plan::Files {
            files,
            in_memory: true,
        });
    }
    if let Some(source) = &volume.projected {
        let mut files = Files::new();
        for part in source.sources.iter().flatten() {
            files.extend(projected_files(
                part,
                source.default_mode,
                pod,
                answers,
                facts,
            )?);
        }
        return Ok(Plan::Files {
            files,
            in_memory: true,
        });
    }
    if let Some(source) = &volume.persistent_volume_claim {
        return claim_plan(&source.claim_name, source.read_only == Some(true), answers);
    }
    if let Some(source) = &volume.host_path {
        let check = match source.type_.as_deref().unwrap_or_default() {
            "" => HostPathType::Unchecked,
            "Directory" => HostPathType::Directory,
            "DirectoryOrCreate" => HostPathType::DirectoryOrCreate,
            "File" => HostPathType::File,
            "FileOrCreate" => HostPathType::FileOrCreate,
            "Socket" => HostPathType::Socket,
            "CharDevice" => HostPathType::CharDevice,
            "BlockDevice" => HostPathType::BlockDevice,
            other => return Err(format!("hostPath type check failed: unknown type {other}")),
        };
        return Ok(Plan::Existing {
            path: PathBuf::from(&source.path),
            read_only: false,
            check,
        });
    }
    if volume.image.is_some() {
        return Ok(Plan::Image);
    }
    let sources = serde_json::to_value(volume).unwrap_or_default();
    match sources
        .as_object()
        .and_then(|map| map.keys().find(|key| *key != "name"))
    {
        Some(kind) => Err(format!(
            "volumes of kind {kind} are not supported by this node"
        )),
        // K-260: a volume with no source is an emptyDir.
        None => Ok(Plan::Empty),
    }
}

fn claim_plan(name: &str, read_only: bool, answers: &VolumeAnswers) -> Result<Plan, String> {
    let Some(Some((claim, bound))) = answers.claims.get(name) else {
        return Err(format!("persistentvolumeclaim \"{name}\" not found"));
    };
    let phase = claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending");
    let (true, Some(volume)) = (phase == "Bound", bound) else {
        return Err(format!(
            "PVC is not bound: persistentvolumeclaim \"{name}\" is {phase}"
        ));
    };
    let spec = volume.spec.as_ref();
    let host = spec
        .and_then(|spec| spec.host_path.as_ref())
        .map(|source| &source.path);
    let local = spec
        .and_then(|spec| spec.local.as_ref())
        .map(|source| &source.path);
    let path = host.or(local).ok_or_else(|| {
        format!(
            "persistentvolume \"{}\" is not a directory of this node",
            volume.metadata.name.as_deref().unwrap_or_default()
        )
    })?;
    Ok(Plan::Existing {
        path: PathBuf::from(path),
        read_only,
        check: HostPathType::DirectoryOrCreate,
    })
}

fn config_map_files(
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    default_mode: Option<i32>,
    answers: &VolumeAnswers,
) -> Result<Files, String> {
    let Some(Some(map)) = answers.objects.config_maps.get(name) else {
        return absent(optional, || format!("configmap \"{name}\" not found"));
    };
    let text = map
        .data
        .iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.as_bytes()));
    let binary = map
        .binary_data
        .iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.0.as_slice()));
    keyed(
        "configmap",
        text.chain(binary).collect(),
        items,
        optional,
        default_mode,
    )
}

fn secret_files(
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    default_mode: Option<i32>,
    answers: &VolumeAnswers,
) -> Result<Files, String> {
    let Some(Some(secret)) = answers.objects.secrets.get(name) else {
        return absent(optional, || format!("secret \"{name}\" not found"));
    };
    let data = secret
        .data
        .iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.0.as_slice()));
    keyed("secret", data.collect(), items, optional, default_mode)
}

fn absent(optional: Option<bool>, message: impl FnOnce() -> String) -> Result<Files, String> {
    if optional == Some(true) {
        Ok(Files::new())
    } else {
        Err(message())
    }
}

fn keyed(
    kind: &str,
    data: BTreeMap<&str, &[u8]>,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    default_mode: Option<i32>,
) -> Result<Files, String> {
    let mut files = Files::new();
    let items = items.unwrap_or_default();
    if items.is_empty() {
        for (key, bytes) in data {
            files.insert(
                inside(key)?,
                VolumeFile {
                    bytes: bytes.to_vec(),
                    mode: mode(None, default_mode),
                },
            );
        }
        return Ok(files);
    }
    for item in items {
        match data.get(item.key.as_str()) {
            Some(bytes) => {
                files.insert(
                    inside(&item.path)?,
                    VolumeFile {
                        bytes: bytes.to_vec(),
                        mode: mode(item.mode, default_mode),
                    },
                );
            }
            None if optional == Some(true) => {}
            None => {
                return Err(format!(
                    "{kind} references non-existent {} key: {}",
                    if kind == "secret" { "secret" } else { "config" },
                    item.key
                ));
            }
        }
    }
    Ok(files)
}

fn downward_files(
    items: Option<&[DownwardAPIVolumeFile]>,
    default_mode: Option<i32>,
    pod: &Pod,
    facts: &Facts,
) -> Result<Files, String> {
    let mut files = Files::new();
    for item in items.unwrap_or_default() {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(reference), _) => field(reference, pod, facts)?,
            (None, Some(reference)) => resource(reference, pod, None, facts)?,
            (None, None) => String::new(),
        };
        files.insert(
            inside(&item.path)?,
            VolumeFile {
                bytes: text.into_bytes(),
                mode: mode(item.mode, default_mode),
            },
        );
    }
    Ok(files)
}

fn projected_files(
    source: &VolumeProjection,
    default_mode: Option<i32>,
    pod: &Pod,
    answers: &VolumeAnswers,
    facts: &Facts,
) -> Result<Files, String> {
    if let Some(source) = &source.config_map {
        return config_map_files(
            &source.name,
            source.items.as_deref(),
            source.optional,
            default_mode,
            answers,
        );
    }
    if let Some(source) = &source.secret {
        return secret_files(
            &source.name,
            source.items.as_deref(),
            source.optional,
            default_mode,
            answers,
        );
    }
    if let Some(source) = &source.downward_api {
        return downward_files(source.items.as_deref(), default_mode, pod, facts);
    }
    if let Some(source) = &source.service_account_token {
        let key = token_key(source.audience.as_deref(), source.expiration_seconds);
        let token = answers.tokens.get(&key).ok_or("failed to fetch token")?;
        // K-307: nobody but the owner where one group or user is known to need it.
        let file = VolumeFile {
            bytes: token.clone().into_bytes(),
            mode: mode(None, default_mode),
        };
        return Ok([(inside(&source.path)?, file)].into());
    }
    Err("this kind of projection is not supported by this node".to_string())
}

fn mode(item: Option<i32>, default: Option<i32>) -> u32 {
    item.or(default)
        .and_then(|mode| u32::try_from(mode).ok())
        .unwrap_or(0o644)
        & 0o7777
}

/// A path from a pod or object as one below the volume.
///
/// # Errors
/// If it leads out of it.
pub(crate) fn inside(path: &str) -> Result<PathBuf, String> {
    let parts: Vec<Component<'_>> = Path::new(path).components().collect();
    let plain = !parts.is_empty()
        && parts
            .iter()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let reserved = path.starts_with("..");
    if plain && !reserved && !path.contains('\0') {
        Ok(parts.into_iter().collect())
    } else {
        Err(format!(
            "invalid path {path:?}: it must be relative and must not contain '..'"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn answers() -> VolumeAnswers {
        let claim = |phase: &str| {
            serde_json::from_value(json!({"status": {"phase": phase}})).expect("a claim")
        };
        let volume = serde_json::from_value(json!({"spec": {"hostPath": {"path": "/pv"}}}))
            .expect("a volume");
        VolumeAnswers {
            objects: Objects {
                config_maps: [
                    (
                        "m".to_string(),
                        serde_json::from_value(
                            json!({"data": {"a": "1", "b": "2"}, "binaryData": {"c": "AA=="}}),
                        )
                        .ok(),
                    ),
                    (
                        "bad".to_string(),
                        serde_json::from_value(json!({"data": {"../x": "1"}})).ok(),
                    ),
                ]
                .into(),
                secrets: [(
                    "s".to_string(),
                    serde_json::from_value(json!({"data": {"k": "dg=="}})).ok(),
                )]
                .into(),
            },
            claims: [
                ("bound".to_string(), Some((claim("Bound"), Some(volume)))),
                ("waiting".to_string(), Some((claim("Pending"), None))),
            ]
            .into(),
            tokens: [((String::new(), 3600), "tok".to_string())].into(),
        }
    }

    fn planned(volume: Value) -> Result<Plan, String> {
        let pod: Pod = serde_json::from_value(
            json!({"metadata": {"name": "p", "annotations": {"ready": "yes"}}}),
        )
        .expect("a pod");
        let mut volume = volume;
        volume["name"] = "v".into();
        plan(
            &pod,
            &serde_json::from_value(volume).expect("a volume"),
            &answers(),
            &Facts::default(),
        )
    }

    fn files(plan: Result<Plan, String>) -> Vec<(String, String, u32)> {
        match plan {
            Ok(Plan::Files { files, .. }) => files
                .into_iter()
                .map(|(path, file)| {
                    (
                        path.display().to_string(),
                        String::from_utf8_lossy(&file.bytes).into_owned(),
                        file.mode,
                    )
                })
                .collect(),
            other => panic!("no files: {other:?}"),
        }
    }

    fn one(path: &str, text: &str, mode: u32) -> (String, String, u32) {
        (path.to_string(), text.to_string(), mode)
    }

    // K-302, K-308, K-309
    #[test]
    fn volumes_live_where_their_source_says() {
        let existing = |path: &str, read_only, check| {
            Ok(Plan::Existing {
                path: path.into(),
                read_only,
                check,
            })
        };
        let cases = [
            (json!({}), Ok(Plan::Empty)),
            (json!({"emptyDir": {}}), Ok(Plan::Empty)),
            (
                json!({"emptyDir": {"medium": "Memory"}}),
                Ok(Plan::Memory(None)),
            ),
            (
                json!({"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}),
                Ok(Plan::Memory(Some(1 << 20))),
            ),
            (
                json!({"hostPath": {"path": "/x"}}),
                existing("/x", false, HostPathType::Unchecked),
            ),
            (
                json!({"hostPath": {"path": "/x", "type": "Socket"}}),
                existing("/x", false, HostPathType::Socket),
            ),
            (
                json!({"persistentVolumeClaim": {"claimName": "bound", "readOnly": true}}),
                existing("/pv", true, HostPathType::DirectoryOrCreate),
            ),
            (
                json!({"persistentVolumeClaim": {"claimName": "waiting"}}),
                Err("PVC is not bound: persistentvolumeclaim \"waiting\" is Pending".to_string()),
            ),
            (
                json!({"persistentVolumeClaim": {"claimName": "none"}}),
                Err("persistentvolumeclaim \"none\" not found".to_string()),
            ),
            (json!({"image": {"reference": "i"}}), Ok(Plan::Image)),
            (
                json!({"nfs": {"server": "s", "path": "/"}}),
                Err("volumes of kind nfs are not supported by this node".to_string()),
            ),
        ];
        for (volume, expected) in cases {
            assert_eq!(planned(volume.clone()), expected, "{volume}");
        }
    }

    // K-303, K-304, K-307
    #[test]
    fn object_volumes_hold_their_keys_under_the_chosen_paths_and_modes() {
        assert_eq!(
            files(planned(json!({"configMap": {"name": "m"}}))),
            [
                one("a", "1", 0o644),
                one("b", "2", 0o644),
                one("c", "\0", 0o644)
            ]
        );
        assert_eq!(
            files(planned(
                json!({"configMap": {"name": "m", "defaultMode": 256, "items": [{"key": "b", "path": "d/e"}, {"key": "a", "path": "f", "mode": 511}]}})
            )),
            [one("d/e", "2", 0o400), one("f", "1", 0o777)]
        );
        assert_eq!(
            files(planned(
                json!({"secret": {"secretName": "no", "optional": true}})
            )),
            []
        );
        assert_eq!(
            files(planned(json!({"downwardAPI": {"items": [
                {"path": "ready", "fieldRef": {"fieldPath": "metadata.annotations['ready']"}},
                {"path": "none", "fieldRef": {"fieldPath": "metadata.annotations['x']"}}]}}))),
            [one("none", "", 0o644), one("ready", "yes", 0o644)]
        );
        assert_eq!(
            files(planned(json!({"projected": {"sources": [
                {"secret": {"name": "s"}},
                {"serviceAccountToken": {"path": "token"}}]}}))),
            [one("k", "v", 0o644), one("token", "tok", 0o644)]
        );
    }

    // K-306
    #[test]
    fn what_is_missing_is_named_as_the_kubelet_names_it() {
        let cases = [
            (
                json!({"configMap": {"name": "x"}}),
                "configmap \"x\" not found",
            ),
            (
                json!({"secret": {"secretName": "x"}}),
                "secret \"x\" not found",
            ),
            (
                json!({"configMap": {"name": "m", "items": [{"key": "k", "path": "k"}]}}),
                "configmap references non-existent config key: k",
            ),
        ];
        for (volume, expected) in cases {
            assert_eq!(planned(volume), Err(expected.to_string()));
        }
    }

    #[test]
    fn no_path_of_a_pod_or_object_leads_out_of_its_volume() {
        for path in ["", "/", "/etc", "..", "../x", "a/../b", "..data", "a\0b"] {
            assert!(inside(path).is_err(), "{path:?}");
        }
        assert_eq!(inside("a/./b"), Ok(PathBuf::from("a/b")));
        assert!(planned(json!({"configMap": {"name": "bad"}})).is_err());
        assert!(
            planned(
                json!({"configMap": {"name": "m", "items": [{"key": "a", "path": "../../x"}]}})
            )
            .is_err()
        );
    }

    #[test]
    fn a_volume_nobody_mounts_needs_nothing() {
        let spec: PodSpec = serde_json::from_value(json!({
            "containers": [{"name": "c", "volumeMounts": [{"name": "used", "mountPath": "/m"}]}],
            "volumes": [{"name": "used", "configMap": {"name": "m"}}, {"name": "idle", "secret": {"secretName": "s"}}]
        }))
        .expect("a spec");
        let needs = needs(&spec);
        assert!(needs.names.config_maps.contains("m") && needs.names.secrets.is_empty());
    }
}
