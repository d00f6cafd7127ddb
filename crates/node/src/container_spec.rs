//! The OCI runtime specification of one container, from its pod, its image and where its volumes are. Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};
use serde_json::{Value, json};

use crate::environment::expand;
use crate::launcher::protocol::{Limits, SubPath};
use crate::quantity;
use crate::users::Identity;

/// Where a volume of the pod is on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub path: PathBuf,
    pub read_only: bool,
}

/// What a specification is made from.
pub(crate) struct Input<'a> {
    pub pod: &'a Pod,
    pub container: &'a Container,
    pub line: Vec<String>,
    pub environment: Vec<String>,
    pub identity: &'a Identity,
    pub image_working_dir: &'a str,
    pub places: &'a BTreeMap<String, Place>,
    /// Directory with `hosts`, `hostname` and `resolv.conf` of the pod.
    pub etc: &'a Path,
    /// The pod's `/dev/shm`.
    pub shm: &'a Path,
    /// The container's termination message file.
    pub termination: &'a Path,
    pub rootless: bool,
    pub single_user: bool,
    /// Whether the pod has a network namespace of its own.
    pub own_network: bool,
    /// Capabilities this process may pass on, as a bit mask.
    pub permitted: u64,
    /// Devices of this machine for privileged containers.
    pub devices: &'a [Device],
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Device {
    pub path: PathBuf,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub major: u64,
    pub minor: u64,
    pub file_mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// The devices of this machine, except terminals and what every container has anyway.
pub(crate) fn devices(directory: &Path) -> Vec<Device> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    const OWN: [&str; 12] = [
        "null", "zero", "full", "tty", "random", "urandom", "console", "ptmx", "pts", "shm",
        "mqueue", "fd",
    ];
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Ok(about) = entry.metadata() else {
            continue;
        };
        if OWN.iter().any(|own| name == *own) {
            continue;
        }
        let kind = about.file_type();
        if kind.is_dir() {
            found.extend(devices(&entry.path()));
        } else if kind.is_char_device() || kind.is_block_device() {
            found.push(Device {
                path: entry.path(),
                kind: if kind.is_char_device() { "c" } else { "b" },
                major: nix::sys::stat::major(about.rdev()),
                minor: nix::sys::stat::minor(about.rdev()),
                file_mode: about.mode() & 0o777,
                uid: about.uid(),
                gid: about.gid(),
            });
        }
    }
    found
}

/// A specification and the mounts below volumes it needs prepared.
#[derive(Debug)]
pub(crate) struct Made {
    pub spec: Value,
    pub sub_paths: Vec<SubPath>,
    pub limits: Limits,
}

/// Names of capabilities by number.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What containerd gives by default (K-317).
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// Makes the specification.
///
/// # Errors
/// The message of a `CreateContainerConfigError`.
pub(crate) fn make(input: &Input<'_>) -> Result<Made, String> {
    let container = input.container;
    let context = container.security_context.as_ref();
    let privileged = context.and_then(|context| context.privileged) == Some(true);
    let spec = input.pod.spec.as_ref().ok_or("the pod has no spec")?;
    let mut mounts = base_mounts(input, privileged);
    let own: Vec<&str> = container
        .volume_mounts
        .iter()
        .flatten()
        .map(|mount| mount.mount_path.as_str())
        .collect();
    let mut bind = |source: PathBuf, destination: &str| {
        if !own.contains(&destination) {
            mounts.push(json!({"destination": destination, "type": "bind", "source": source, "options": ["bind", "rprivate"]}));
        }
    };
    for file in ["hosts", "hostname", "resolv.conf"] {
        bind(input.etc.join(file), &format!("/etc/{file}"));
    }
    let message_path = container
        .termination_message_path
        .as_deref()
        .unwrap_or("/dev/termination-log");
    bind(input.termination.to_path_buf(), message_path);
    let mut sub_paths = Vec::new();
    let mut volume_mounts: Vec<(usize, &VolumeMount)> = container
        .volume_mounts
        .iter()
        .flatten()
        .enumerate()
        .collect();
    // K-314: outer mounts first, whatever the order in the pod.
    volume_mounts.sort_by_key(|(_, mount)| Path::new(&mount.mount_path).components().count());
    for (number, mount) in volume_mounts {
        let place = input
            .places
            .get(&mount.name)
            .ok_or_else(|| format!("volume \"{}\" not found", mount.name))?;
        let writable = !(place.read_only || mount.read_only == Some(true));
        let destination = if mount.mount_path.starts_with('/') {
            mount.mount_path.clone()
        } else {
            format!("/{}", mount.mount_path)
        };
        if let Some(path) = sub_path(mount, &input.environment)? {
            sub_paths.push(SubPath {
                mount: mounts.len(),
                volume: place.path.clone(),
                path,
                number,
            });
        }
        mounts.push(json!({
            "destination": destination, "type": "bind", "source": place.path,
            "options": ["rbind", "rprivate", if writable { "rw" } else { "ro" }],
        }));
    }
    let mut namespaces = vec![json!({"type": "mount"})];
    if spec.host_pid != Some(true) {
        namespaces.push(json!({"type": "pid"}));
    }
    let capabilities = capabilities(container, privileged, input.permitted);
    let working_dir = match container.working_dir.as_deref().unwrap_or_default() {
        "" if input.image_working_dir.is_empty() => "/",
        "" => input.image_working_dir,
        own => own,
    };
    let working_dir = if working_dir.starts_with('/') {
        working_dir.to_string()
    } else {
        format!("/{working_dir}")
    };
    let no_new_privileges =
        context.and_then(|context| context.allow_privilege_escalation) == Some(false);
    let mut user = json!({"uid": input.identity.uid, "gid": input.identity.gid});
    if input.single_user {
        user = json!({"uid": 0, "gid": 0});
    } else if !input.identity.groups.is_empty() {
        user["additionalGids"] = json!(input.identity.groups);
    }
    let mut linux = json!({"namespaces": namespaces});
    if privileged && !input.rootless {
        // K-318. Nodes of its own in a /dev of its own: the machine's /dev itself is never within reach.
        linux["devices"] = json!(input.devices);
    }
    if !privileged {
        linux["maskedPaths"] = json!([
            "/proc/acpi",
            "/proc/kcore",
            "/proc/keys",
            "/proc/latency_stats",
            "/proc/timer_list",
            "/proc/timer_stats",
            "/proc/sched_debug",
            "/proc/scsi",
            "/sys/firmware",
        ]);
        linux["readonlyPaths"] = json!([
            "/proc/bus",
            "/proc/fs",
            "/proc/irq",
            "/proc/sys",
            "/proc/sysrq-trigger"
        ]);
        if context.and_then(|context| context.proc_mount.as_deref()) == Some("Unmasked") {
            linux["maskedPaths"] = json!([]);
            linux["readonlyPaths"] = json!([]);
        }
    }
    let spec = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": user,
            "args": input.line,
            "env": input.environment,
            "cwd": working_dir,
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
                "inheritable": [], "ambient": [],
            },
            "noNewPrivileges": no_new_privileges,
        },
        "root": {"path": "rootfs", "readonly": context.and_then(|context| context.read_only_root_filesystem) == Some(true)},
        "mounts": mounts,
        "linux": linux,
    });
    Ok(Made {
        spec,
        sub_paths,
        limits: limits(container),
    })
}

fn base_mounts(input: &Input<'_>, privileged: bool) -> Vec<Value> {
    let sys_mode = if privileged { "rw" } else { "ro" };
    // A user namespace may mount sysfs only for a network namespace of its own.
    let sys = if input.rootless && !input.own_network {
        json!({"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "rprivate", "nosuid", "noexec", "nodev", sys_mode]})
    } else {
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", sys_mode]})
    };
    let mut terminals = vec![
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
    ];
    if !input.single_user {
        terminals.push("gid=5");
    }
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": terminals}),
        json!({"destination": "/dev/shm", "type": "bind", "source": input.shm, "options": ["bind", "rprivate", "nosuid", "noexec", "nodev"]}),
    ];
    mounts.push(sys);
    mounts
}

/// The path below a volume a mount asks for, checked (K-313).
fn sub_path(mount: &VolumeMount, environment: &[String]) -> Result<Option<PathBuf>, String> {
    let text = match (
        mount.sub_path.as_deref().unwrap_or_default(),
        mount.sub_path_expr.as_deref().unwrap_or_default(),
    ) {
        ("", "") => return Ok(None),
        ("", expression) => {
            let missing = std::cell::RefCell::new(None);
            let lookup = |name: &str| {
                let found = environment
                    .iter()
                    .rev()
                    .find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='));
                if found.is_none() {
                    missing.replace(Some(name.to_string()));
                }
                found
            };
            let expanded = expand(expression, lookup);
            if let Some(name) = missing.into_inner() {
                return Err(format!("missing value for \"{name}\""));
            }
            expanded
        }
        (plain, _) => plain.to_string(),
    };
    let path = Path::new(&text);
    let escapes = path.is_absolute()
        || path
            .components()
            .any(|part| matches!(part, std::path::Component::ParentDir));
    if escapes {
        return Err(format!(
            "failed to prepare subPath for volumeMount \"{}\" of container: {text:?} must not leave the volume",
            mount.name
        ));
    }
    Ok(Some(path.to_path_buf()))
}

fn capabilities(container: &Container, privileged: bool, permitted: u64) -> Vec<String> {
    let asked = container
        .security_context
        .as_ref()
        .and_then(|context| context.capabilities.as_ref());
    let normal = |names: Option<&Vec<String>>| -> Vec<String> {
        names
            .into_iter()
            .flatten()
            .map(|name| name.to_uppercase().trim_start_matches("CAP_").to_string())
            .collect()
    };
    let (add, drop) = (
        normal(asked.and_then(|asked| asked.add.as_ref())),
        normal(asked.and_then(|asked| asked.drop.as_ref())),
    );
    let has = |list: &[String], name: &str| list.iter().any(|entry| entry == name);
    CAPABILITIES
        .iter()
        .enumerate()
        .filter(|(number, _)| permitted & (1 << number) != 0)
        .map(|(_, name)| *name)
        .filter(|name| {
            if privileged {
                return true;
            }
            let default = DEFAULT_CAPABILITIES.contains(name) && !has(&drop, "ALL");
            (has(&add, "ALL") && !has(&drop, name))
                || has(&add, name)
                || (default && !has(&drop, name))
        })
        .map(|name| format!("CAP_{name}"))
        .collect()
}

/// K-320.
fn limits(container: &Container) -> Limits {
    let resources = container.resources.as_ref();
    let limit = |name: &str| {
        resources
            .and_then(|resources| resources.limits.as_ref())
            .and_then(|list| list.get(name))
    };
    let request = |name: &str| {
        resources
            .and_then(|resources| resources.requests.as_ref())
            .and_then(|list| list.get(name))
    };
    let cpu = limit("cpu")
        .and_then(|value| quantity::milli(&value.0))
        .filter(|milli| *milli > 0);
    let shares = request("cpu")
        .or(limit("cpu"))
        .and_then(|value| quantity::milli(&value.0));
    Limits {
        memory: limit("memory")
            .and_then(|value| quantity::units(&value.0))
            .filter(|bytes| *bytes > 0),
        cpu_quota: cpu.map(|milli| (milli * 100).max(1000)),
        cpu_shares: cpu
            .and(shares)
            .and_then(|milli| u64::try_from(milli * 1024 / 1000).ok())
            .map(|shares| shares.max(2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(container: Value) -> Result<Made, String> {
        let pod: Pod = serde_json::from_value(
            json!({"metadata": {"name": "p"}, "spec": {"containers": [container]}}),
        )
        .expect("a pod");
        let places = [
            (
                "v".to_string(),
                Place {
                    path: "/vol/v".into(),
                    read_only: false,
                },
            ),
            (
                "r".to_string(),
                Place {
                    path: "/vol/r".into(),
                    read_only: true,
                },
            ),
        ]
        .into();
        make(&Input {
            pod: &pod,
            container: &pod.spec.as_ref().expect("a spec").containers[0],
            line: vec!["sh".into()],
            environment: vec!["A=x".into()],
            identity: &Identity {
                uid: 1,
                gid: 2,
                groups: vec![3],
            },
            image_working_dir: "/work",
            places: &places,
            etc: Path::new("/pod/etc"),
            shm: Path::new("/pod/shm"),
            termination: Path::new("/pod/term"),
            rootless: false,
            single_user: false,
            own_network: true,
            permitted: !(1 << 24),
            devices: &[Device {
                path: "/dev/x".into(),
                kind: "c",
                major: 1,
                minor: 2,
                file_mode: 0o600,
                uid: 0,
                gid: 0,
            }],
        })
    }

    fn volume_mounts(made: &Made) -> Vec<(String, String, bool)> {
        let mounts = made.spec["mounts"].as_array().expect("mounts");
        mounts
            .iter()
            .filter(|mount| {
                mount["source"]
                    .as_str()
                    .is_some_and(|source| source.starts_with("/vol"))
            })
            .map(|mount| {
                let text = |key: &str| mount[key].as_str().unwrap_or_default().to_string();
                (
                    text("destination"),
                    text("source"),
                    mount["options"].to_string().contains("\"ro\""),
                )
            })
            .collect()
    }

    // K-308, K-313, K-314
    #[test]
    fn volumes_are_mounted_outermost_first_read_only_where_either_side_says_so() {
        let made = made(json!({"name": "c", "volumeMounts": [
            {"name": "v", "mountPath": "/a/b/c", "readOnly": true},
            {"name": "v", "mountPath": "a", "subPath": "s/t"},
            {"name": "r", "mountPath": "/a/b", "subPathExpr": "$(A)"}]}))
        .expect("a spec");
        let expected = [
            ("/a", "/vol/v", false),
            ("/a/b", "/vol/r", true),
            ("/a/b/c", "/vol/v", true),
        ]
        .map(|(destination, source, read_only)| {
            (destination.to_string(), source.to_string(), read_only)
        });
        assert_eq!(volume_mounts(&made), expected);
        let subs: Vec<(&Path, usize)> = made
            .sub_paths
            .iter()
            .map(|sub| (sub.path.as_path(), sub.number))
            .collect();
        assert_eq!(subs, [(Path::new("s/t"), 1), (Path::new("x"), 2)]);
        for sub in &made.sub_paths {
            assert_eq!(made.spec["mounts"][sub.mount]["source"], json!(sub.volume));
        }
    }

    // K-313
    #[test]
    fn a_sub_path_that_leaves_its_volume_is_refused() {
        for (key, value) in [
            ("subPath", "../x"),
            ("subPath", "/x"),
            ("subPathExpr", "$(A)/../.."),
            ("subPathExpr", "$(NONE)"),
        ] {
            let result = made(
                json!({"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/m", key: value}]}),
            );
            assert!(result.is_err(), "{value}");
        }
    }

    // K-315, K-317, K-318
    #[test]
    fn capabilities_start_from_the_runtimes_default_and_never_exceed_what_we_hold() {
        let count = |context: Value| {
            let made = made(json!({"name": "c", "securityContext": context})).expect("a spec");
            made.spec["process"]["capabilities"]["bounding"]
                .as_array()
                .map_or(0, Vec::len)
        };
        assert_eq!(count(json!({})), 14);
        assert_eq!(count(json!({"capabilities": {"drop": ["ALL"]}})), 0);
        assert_eq!(
            count(
                json!({"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE", "cap_kill"]}})
            ),
            2
        );
        assert_eq!(
            count(json!({"capabilities": {"add": ["SYS_ADMIN"], "drop": ["CHOWN"]}})),
            14
        );
        assert_eq!(count(json!({"capabilities": {"add": ["ALL"]}})), 40);
        assert_eq!(count(json!({"privileged": true})), 40);
    }

    // K-318
    #[test]
    fn a_privileged_container_gets_the_devices_but_never_the_machines_own_dev() {
        for (privileged, expected) in [(true, 1), (false, 0)] {
            let made = made(json!({"name": "c", "securityContext": {"privileged": privileged}}))
                .expect("a spec");
            assert_eq!(
                made.spec["linux"]["devices"].as_array().map_or(0, Vec::len),
                expected
            );
            assert_eq!(made.spec["linux"]["maskedPaths"].is_array(), !privileged);
            let mounts = made.spec["mounts"].as_array().expect("mounts");
            assert!(mounts.iter().all(|mount| mount["source"] != "/dev"));
        }
        assert!(
            devices(Path::new("/dev"))
                .iter()
                .all(|device| device.path != Path::new("/dev/null"))
        );
    }

    // K-300, K-315
    #[test]
    fn security_context_reaches_the_specification() {
        let made = made(
            json!({"name": "c", "workingDir": "/own", "securityContext": {
            "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false}}),
        )
        .expect("a spec");
        assert_eq!(made.spec["root"]["readonly"], true);
        assert_eq!(made.spec["process"]["noNewPrivileges"], true);
        assert_eq!(made.spec["process"]["cwd"], "/own");
        assert_eq!(
            made.spec["process"]["user"],
            json!({"uid": 1, "gid": 2, "additionalGids": [3]})
        );
    }

    // K-320
    #[test]
    fn limits_become_quota_shares_and_bytes() {
        let made = |resources: Value| {
            made(json!({"name": "c", "resources": resources}))
                .expect("a spec")
                .limits
        };
        assert_eq!(made(json!({})), Limits::default());
        assert_eq!(
            made(json!({"requests": {"cpu": "1", "memory": "1Gi"}})),
            Limits::default()
        );
        assert_eq!(
            made(json!({"limits": {"cpu": "250m", "memory": "64Mi"}, "requests": {"cpu": "100m"}})),
            Limits {
                memory: Some(64 << 20),
                cpu_quota: Some(25_000),
                cpu_shares: Some(102)
            }
        );
    }
}
