//! Whether this machine can run containers, and what it lacks: asked of the kernel's own files, without making one.

use std::fs;
use std::path::Path;

use crate::degraded::{Degraded, Lack};
use crate::launcher::{SINGLE_USER, limits_not_kept, single_user};

/// What the machine permits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether this process is root (else containers run in a user namespace).
    pub root: bool,
    /// What will not work as usual.
    pub degraded: Vec<Degraded>,
}

/// Why the machine cannot run containers at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this machine cannot run containers: {}", what.join("; "))]
pub struct Missing {
    /// What is missing and what to do, each a sentence.
    pub what: Vec<String>,
}

/// What is read of the machine.
#[derive(Clone)]
struct Machine {
    root: bool,
    filesystems: String,
    status: String,
    /// Which of [`NAMESPACES`] the kernel has.
    namespaces: [bool; 6],
    /// Which of them may be made: the number in `/proc/sys/user/max_<name>_namespaces` is not 0.
    permitted: [bool; 6],
    /// `kernel.unprivileged_userns_clone`, of kernels patched by Debian, is 0.
    clone_forbidden: bool,
    /// `kernel.apparmor_restrict_unprivileged_userns` is 1, and no AppArmor profile exempts this process.
    confined: bool,
    /// Whether this process sees a root other than its mount namespace's: there no user namespace can be made.
    chroot: bool,
    /// Why containers will have one user only, if they will.
    single_user: Option<String>,
    /// What of limits will not be kept, and why.
    limits_not_kept: Option<String>,
}

/// Names in `/proc/self/ns`, and in `/proc/sys/user`.
const NAMESPACES: [(&str, &str); 6] = [
    ("user", "user"),
    ("mnt", "mnt"),
    ("pid", "pid"),
    ("net", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
];
const SYS_ADMIN: u32 = 21;

/// Finds out whether containers can run here, without making one.
///
/// # Errors
/// What is missing, if they cannot.
pub fn preflight() -> Result<Capabilities, Missing> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let is = |path: &str, value: &str| read(path).trim() == value;
    let root = nix::unistd::geteuid().is_root();
    judge(&Machine {
        root,
        filesystems: read("/proc/filesystems"),
        status: read("/proc/self/status"),
        namespaces: NAMESPACES.map(|(name, _)| Path::new("/proc/self/ns").join(name).exists()),
        permitted: NAMESPACES
            .map(|(_, name)| !is(&format!("/proc/sys/user/max_{name}_namespaces"), "0")),
        clone_forbidden: is("/proc/sys/kernel/unprivileged_userns_clone", "0"),
        confined: is(
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
        ) && read("/proc/self/attr/current").trim() == "unconfined",
        chroot: chroot(&read("/proc/self/mountinfo")),
        single_user: (!root).then(single_user).flatten(),
        limits_not_kept: (!root).then(|| limits_not_kept(root)).flatten(),
    })
}

/// Whether the root directory of this process is no mount point, as only in a chroot.
fn chroot(mountinfo: &str) -> bool {
    !mountinfo.is_empty()
        && !mountinfo
            .lines()
            .any(|line| line.split(' ').nth(4) == Some("/"))
}

fn judge(machine: &Machine) -> Result<Capabilities, Missing> {
    let mut what = Vec::new();
    if machine.status.is_empty() {
        return Err(Missing {
            what: vec!["/proc is not mounted: mount it".to_string()],
        });
    }
    // A kernel that loads overlayfs as a module lists it only once it is in use; root's first mount loads it.
    let overlay = machine
        .filesystems
        .lines()
        .any(|line| line.trim_start_matches("nodev").trim() == "overlay");
    if !overlay && !machine.root {
        what.push(
            "overlayfs is not loaded, and only root can load it (`modprobe overlay`)".to_string(),
        );
    }
    for (((kernel, sysctl), present), permitted) in NAMESPACES
        .iter()
        .zip(machine.namespaces)
        .zip(machine.permitted)
    {
        if *kernel == "user" && machine.root {
            continue;
        }
        if !present {
            what.push(format!("the kernel has no {kernel} namespaces"));
        } else if !permitted {
            what.push(format!(
                "no {kernel} namespaces may be made here: raise the sysctl user.max_{sysctl}_namespaces, which is 0"
            ));
        }
    }
    let effective = machine
        .status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default();
    let admin = effective & (1 << SYS_ADMIN) != 0;
    if machine.root && !admin {
        what.push(
            "root lacks CAP_SYS_ADMIN here (inside a container, run that one privileged)"
                .to_string(),
        );
    }
    if !machine.root && machine.clone_forbidden {
        what.push(
            "ordinary users may not make user namespaces: set the sysctl kernel.unprivileged_userns_clone to 1, or run as root"
                .to_string(),
        );
    }
    if !machine.root && machine.confined {
        what.push(
            "AppArmor lets ordinary users do nothing in user namespaces: set the sysctl kernel.apparmor_restrict_unprivileged_userns to 0, give this program a profile with `userns`, or run as root"
                .to_string(),
        );
    }
    if !machine.root && machine.chroot {
        what.push(
            "no user namespaces can be made in a chroot: leave it, or run as root".to_string(),
        );
    }
    if !what.is_empty() {
        return Err(Missing { what });
    }
    let mut degraded = Vec::new();
    if !machine.root {
        if let Some(why) = &machine.single_user {
            degraded.push(Degraded::new(
                Lack::Users,
                format!("{SINGLE_USER}, since {why}"),
            ));
        }
        degraded.push(Degraded::new(
            Lack::Network,
            "pods share this machine's network",
        ));
        // Root hears of it when a container wants limits.
        if let Some(text) = &machine.limits_not_kept {
            degraded.push(Degraded::new(Lack::Limits, text));
        }
    }
    Ok(Capabilities {
        root: machine.root,
        degraded,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> Machine {
        Machine {
            root: false,
            filesystems: "nodev\tproc\nnodev\toverlay\n".into(),
            status: "CapEff:\t0000000000000000\n".into(),
            namespaces: [true; 6],
            permitted: [true; 6],
            clone_forbidden: false,
            confined: false,
            chroot: false,
            single_user: None,
            limits_not_kept: None,
        }
    }

    fn root() -> Machine {
        Machine {
            root: true,
            status: "CapEff:\t0000000000200000\n".into(),
            ..user()
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        type Change = fn(&mut Machine);
        let cases: [(Machine, Change, Option<&str>); 13] = [
            (root(), |_| {}, None),
            (root(), |m| m.permitted[0] = false, None),
            (root(), |m| m.filesystems.clear(), None),
            (
                root(),
                |m| m.permitted[1] = false,
                Some("user.max_mnt_namespaces"),
            ),
            (
                root(),
                |m| m.namespaces[2] = false,
                Some("no pid namespaces"),
            ),
            (
                root(),
                |m| m.status = "CapEff:\t0\n".into(),
                Some("CAP_SYS_ADMIN"),
            ),
            (root(), |m| m.status.clear(), Some("/proc")),
            (user(), |_| {}, None),
            (
                user(),
                |m| m.permitted[0] = false,
                Some("user.max_user_namespaces"),
            ),
            (
                user(),
                |m| m.clone_forbidden = true,
                Some("unprivileged_userns_clone"),
            ),
            (user(), |m| m.confined = true, Some("AppArmor")),
            (user(), |m| m.filesystems.clear(), Some("modprobe overlay")),
            (user(), |m| m.chroot = true, Some("chroot")),
        ];
        for (mut machine, change, expected) in cases {
            change(&mut machine);
            match (judge(&machine), expected) {
                (Ok(_), None) => {}
                (Err(missing), Some(part)) => {
                    assert_eq!(missing.what.len(), 1, "{missing}");
                    assert!(missing.to_string().contains(part), "{missing}: {part}");
                }
                (found, expected) => panic!("{found:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn only_what_this_user_really_lacks_is_called_degraded() {
        let lacks = |machine: &Machine| -> Vec<Lack> {
            let degraded = judge(machine).expect("containers run").degraded;
            degraded.into_iter().map(|one| one.lack).collect()
        };
        assert_eq!(lacks(&root()), []);
        assert_eq!(lacks(&user()), [Lack::Network]);
        let poor = Machine {
            single_user: Some("newuidmap is missing".into()),
            limits_not_kept: Some("limits on CPU are not kept".into()),
            ..user()
        };
        assert_eq!(lacks(&poor), [Lack::Users, Lack::Network, Lack::Limits]);
    }

    #[test]
    fn a_root_directory_that_is_no_mount_point_is_a_chroot() {
        assert!(!chroot("20 1 254:0 / / rw - ext4 /dev/vda rw\n"));
        assert!(chroot("21 20 0:5 / /proc rw - proc proc rw\n"));
        assert!(!chroot(""));
    }
}
