//! Whether this machine can run containers, and what it lacks.

use std::fs;
use std::path::Path;

/// What the machine permits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether this process is root (else containers run in a user namespace).
    pub root: bool,
    /// What will not work as usual, each a sentence for one warning.
    pub degraded: Vec<String>,
}

/// Why the machine cannot run containers at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this machine cannot run containers: {}", what.join("; "))]
pub struct Missing {
    /// What is missing, each a sentence.
    pub what: Vec<String>,
}

/// What is read of the machine.
struct Machine {
    root: bool,
    filesystems: String,
    status: String,
    namespaces: [bool; 5],
    user_namespaces: bool,
}

/// Finds out whether containers can run here, without making one.
///
/// # Errors
/// What is missing, if they cannot.
pub fn preflight() -> Result<Capabilities, Missing> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let limited = |path: &str| read(path).trim() == "0";
    judge(&Machine {
        root: nix::unistd::geteuid().is_root(),
        filesystems: read("/proc/filesystems"),
        status: read("/proc/self/status"),
        namespaces: NAMESPACES.map(|name| Path::new("/proc/self/ns").join(name).exists()),
        user_namespaces: Path::new("/proc/self/ns/user").exists()
            && !limited("/proc/sys/user/max_user_namespaces")
            && !limited("/proc/sys/kernel/unprivileged_userns_clone"),
    })
}

const NAMESPACES: [&str; 5] = ["mnt", "pid", "net", "ipc", "uts"];
const SYS_ADMIN: u32 = 21;

fn judge(machine: &Machine) -> Result<Capabilities, Missing> {
    let mut what = Vec::new();
    let mut degraded = Vec::new();
    // A kernel that loads overlayfs as a module lists it only once it is in use, so its absence here is no proof.
    let overlay = machine
        .filesystems
        .lines()
        .any(|line| line.trim_start_matches("nodev").trim() == "overlay");
    if !overlay && !machine.root {
        degraded.push("overlayfs is not loaded, and only root can load it".to_string());
    }
    for (name, present) in NAMESPACES.iter().zip(machine.namespaces) {
        if !present {
            what.push(format!("the kernel has no {name} namespaces"));
        }
    }
    let permitted = machine
        .status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default();
    if machine.root && permitted & (1 << SYS_ADMIN) == 0 {
        what.push(
            "root lacks CAP_SYS_ADMIN here (inside a container, run that one privileged)"
                .to_string(),
        );
    }
    if !machine.root && !machine.user_namespaces {
        what.push("ordinary users may not make user namespaces (sysctl user.max_user_namespaces or kernel.unprivileged_userns_clone): run as root or allow them".to_string());
    }
    if what.is_empty() {
        Ok(Capabilities {
            root: machine.root,
            degraded,
        })
    } else {
        Err(Missing { what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let machine = |root, capabilities: &str, user_namespaces| Machine {
            root,
            filesystems: "nodev\tproc\nnodev\toverlay\n".into(),
            status: format!("CapEff:\t{capabilities}\n"),
            namespaces: [true; 5],
            user_namespaces,
        };
        assert!(judge(&machine(true, "0000000000200000", false)).is_ok());
        assert!(judge(&machine(false, "0", true)).is_ok());
        let missing = judge(&machine(true, "0", true)).expect_err("no CAP_SYS_ADMIN");
        assert!(missing.to_string().contains("CAP_SYS_ADMIN"));
        let missing = judge(&machine(false, "0", false)).expect_err("no user namespaces");
        assert!(missing.to_string().contains("user namespaces"));
        let old = Machine {
            namespaces: [true, false, true, true, true],
            ..machine(true, "0000000000200000", true)
        };
        assert_eq!(
            judge(&old).expect_err("no pid namespaces").what,
            ["the kernel has no pid namespaces"]
        );
    }
}
