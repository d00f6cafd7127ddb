//! Cgroups of containers: made only for those with limits, since on cgroup v1 each controller costs milliseconds.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::hierarchy::{Hierarchy, LEAF};
use super::protocol::Limits;

/// The hierarchies of this machine, held open, because the launcher hides `/sys/fs/cgroup` from libcontainer.
pub(super) struct Hierarchies {
    memory: Option<PathBuf>,
    cpu: Option<PathBuf>,
    unified: bool,
    /// Name of the directory all containers of this launcher live in.
    parent: String,
    /// What of limits will not be kept, and why.
    not_kept: Option<String>,
}

/// The cgroup of one container.
#[derive(Clone, Debug)]
pub(super) struct Group {
    directories: Vec<PathBuf>,
    memory: Option<PathBuf>,
    unified: bool,
}

impl Hierarchies {
    /// Opens what was chosen. The descriptors stay open as long as the process lives, so the paths kept here go through
    /// `/proc/self/fd`.
    pub fn open(hierarchy: Hierarchy, parent: String) -> Self {
        let not_kept = hierarchy.not_kept();
        let (memory, cpu, unified) = match hierarchy {
            Hierarchy::Legacy { memory, cpu } => (memory, cpu, false),
            Hierarchy::Unified {
                base,
                memory,
                cpu,
                make_way,
            } => {
                if make_way && let Err(error) = make_room(&base) {
                    let why = format!(
                        "limits on memory and CPU are not kept: cannot leave the cgroup {}: {error}",
                        base.display()
                    );
                    return Self::none(parent, Some(why));
                }
                let own = base.join(&parent);
                let mut wanted = vec![(memory, "+memory"), (cpu, "+cpu")];
                wanted.retain(|(has, _)| *has);
                let enable = |directory: &Path| {
                    for (_, controller) in &wanted {
                        // Already on where somebody else decides; the limit's own write tells.
                        let _ = fs::write(directory.join("cgroup.subtree_control"), controller);
                    }
                };
                enable(&base);
                if let Err(error) = fs::create_dir_all(&own) {
                    let why = format!(
                        "limits on memory and CPU are not kept: cannot make {}: {error}",
                        own.display()
                    );
                    return Self::none(parent, Some(why));
                }
                enable(&own);
                let base = Some(base);
                (base.clone().filter(|_| memory), base.filter(|_| cpu), true)
            }
            Hierarchy::Nowhere(_) => (None, None, false),
        };
        Self {
            memory: memory.and_then(hold),
            cpu: cpu.and_then(hold),
            unified,
            parent,
            not_kept,
        }
    }

    fn none(parent: String, not_kept: Option<String>) -> Self {
        Self {
            memory: None,
            cpu: None,
            unified: false,
            parent,
            not_kept,
        }
    }

    /// Makes the cgroup of a container and applies its limits as far as it can; answers with it, if there is any need,
    /// and with what of the limits is not kept.
    pub fn create(&self, container: &str, limits: &Limits) -> (Option<Group>, Option<String>) {
        let not_kept = || {
            let missing = (limits.memory.is_some() && self.memory.is_none())
                || (limits.cpu_quota.is_some() && self.cpu.is_none());
            self.not_kept.clone().filter(|_| missing)
        };
        let made = match self.unified {
            true => self.create_unified(container, limits),
            false => self.create_legacy(container, limits),
        };
        match made {
            Ok(group) => (group, not_kept()),
            Err(error) => (None, Some(format!("limits are not kept: {error}"))),
        }
    }

    fn create_unified(&self, container: &str, limits: &Limits) -> io::Result<Option<Group>> {
        let memory = limits.memory.zip(self.memory.as_ref());
        let quota = limits.cpu_quota.zip(self.cpu.as_ref());
        let shares = limits.cpu_shares.zip(self.cpu.as_ref());
        let Some(base) = self
            .memory
            .as_ref()
            .or(self.cpu.as_ref())
            .filter(|_| memory.is_some() || quota.is_some() || shares.is_some())
        else {
            return Ok(None);
        };
        let own = base.join(&self.parent).join(container);
        fs::create_dir_all(&own)?;
        if let Some((bytes, _)) = memory {
            fs::write(own.join("memory.max"), bytes.to_string())?;
            let _ = fs::write(own.join("memory.swap.max"), "0");
        }
        if let Some((quota, _)) = quota {
            fs::write(own.join("cpu.max"), format!("{quota} 100000"))?;
        }
        if let Some((shares, _)) = shares {
            fs::write(own.join("cpu.weight"), weight(shares).to_string())?;
        }
        Ok(Some(Group {
            memory: memory.map(|_| own.clone()),
            directories: vec![own],
            unified: true,
        }))
    }

    fn create_legacy(&self, container: &str, limits: &Limits) -> io::Result<Option<Group>> {
        let mut group = Group {
            directories: Vec::new(),
            memory: None,
            unified: false,
        };
        if let Some((bytes, base)) = limits.memory.zip(self.memory.as_ref()) {
            let own = base.join(&self.parent).join(container);
            fs::create_dir_all(&own)?;
            group.directories.push(own.clone());
            fs::write(own.join("memory.limit_in_bytes"), bytes.to_string())?;
            let _ = fs::write(own.join("memory.memsw.limit_in_bytes"), bytes.to_string());
            group.memory = Some(own);
        }
        // Requests alone are not worth a cgroup on v1: the move into one waits for a grace period of the kernel.
        if let Some((quota, base)) = limits.cpu_quota.zip(self.cpu.as_ref()) {
            let own = base.join(&self.parent).join(container);
            fs::create_dir_all(&own)?;
            group.directories.push(own.clone());
            fs::write(own.join("cpu.cfs_period_us"), "100000")?;
            fs::write(own.join("cpu.cfs_quota_us"), quota.to_string())?;
            if let Some(shares) = limits.cpu_shares {
                let _ = fs::write(own.join("cpu.shares"), shares.to_string());
            }
        }
        Ok((!group.directories.is_empty()).then_some(group))
    }

    /// Removes the directory of all containers, once the last is gone.
    pub fn remove(&self) {
        for root in [&self.memory, &self.cpu].into_iter().flatten() {
            let _ = fs::remove_dir(root.join(&self.parent));
        }
    }
}

fn hold(path: PathBuf) -> Option<PathBuf> {
    use nix::fcntl::{OFlag, open};
    use std::os::fd::IntoRawFd;
    let descriptor = open(
        &path,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    )
    .ok()?;
    Some(PathBuf::from(format!(
        "/proc/self/fd/{}",
        descriptor.into_raw_fd()
    )))
}

/// Moves the processes of a cgroup, which are all this program's, into a leaf below it, so that its other children can
/// have limits.
fn make_room(base: &Path) -> io::Result<()> {
    let leaf = base.join(LEAF);
    fs::create_dir_all(&leaf)?;
    for process in fs::read_to_string(base.join("cgroup.procs"))?.lines() {
        match fs::write(leaf.join("cgroup.procs"), process) {
            // It has ended.
            Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => {}
            other => other?,
        }
    }
    Ok(())
}

/// cgroup v2 weight (1 to 10000) of v1 shares (2 to 262144), as runc converts them.
fn weight(shares: u64) -> u64 {
    1 + ((shares.clamp(2, 262_144) - 2) * 9999) / 262_142
}

impl Group {
    /// Moves a process in.
    pub fn join(&self, pid: i32) -> io::Result<()> {
        for directory in &self.directories {
            fs::write(directory.join("cgroup.procs"), pid.to_string())?;
        }
        Ok(())
    }

    /// Whether the kernel killed a process for the memory limit (K-320).
    pub fn oom_killed(&self) -> bool {
        let Some(memory) = &self.memory else {
            return false;
        };
        let file = memory.join(if self.unified {
            "memory.events"
        } else {
            "memory.oom_control"
        });
        fs::read_to_string(file).is_ok_and(|text| {
            text.lines().any(|line| {
                line.strip_prefix("oom_kill ")
                    .is_some_and(|count| count.trim() != "0")
            })
        })
    }

    /// Removes the directories; those still busy with exiting processes are tried a few times.
    pub fn remove(&self) -> bool {
        let mut gone = true;
        for directory in &self.directories {
            gone &= match fs::remove_dir(directory) {
                Ok(()) => true,
                Err(error) => error.kind() == io::ErrorKind::NotFound,
            };
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_keep_the_ends_of_the_scale() {
        for (shares, expected) in [
            (0, 1),
            (2, 1),
            (1024, 39),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ] {
            assert_eq!(weight(shares), expected, "{shares}");
        }
    }

    fn limits(memory: Option<i64>, cpu_quota: Option<i64>) -> Limits {
        Limits {
            memory,
            cpu_quota,
            cpu_shares: None,
        }
    }

    #[test]
    fn a_container_without_limits_gets_no_cgroup_and_no_complaint() {
        let none = Hierarchies::open(Hierarchy::Nowhere("why".into()), "p".into());
        let (group, not_kept) = none.create("c", &Limits::default());
        assert!(group.is_none() && not_kept.is_none());
        let (group, not_kept) = none.create("c", &limits(Some(1), None));
        assert!(group.is_none());
        assert_eq!(
            not_kept.as_deref(),
            Some("limits on memory and CPU are not kept: why")
        );
    }

    /// K-320: in plain files that stand for a delegated cgroup of v2 with the memory controller alone.
    #[test]
    fn a_delegated_cgroup_keeps_what_it_can_and_its_processes_make_way() {
        let base = tempfile::tempdir().expect("a directory");
        let at = |path: &str| base.path().join(path);
        fs::write(at("cgroup.procs"), "123\n").expect("written");
        let hierarchy = Hierarchy::Unified {
            base: base.path().to_path_buf(),
            memory: true,
            cpu: false,
            make_way: true,
        };
        let hierarchies = Hierarchies::open(hierarchy, "parent".into());
        let read = |path: &str| fs::read_to_string(at(path)).unwrap_or_default();
        assert_eq!(read("tektite-supervisor/cgroup.procs"), "123");
        assert_eq!(read("cgroup.subtree_control"), "+memory");
        assert_eq!(read("parent/cgroup.subtree_control"), "+memory");
        let (group, not_kept) = hierarchies.create("c", &limits(Some(4096), None));
        assert_eq!(not_kept, None);
        assert_eq!(read("parent/c/memory.max"), "4096");
        let group = group.expect("a cgroup");
        group.join(7).expect("joined");
        assert_eq!(read("parent/c/cgroup.procs"), "7");
        assert!(!group.oom_killed());
        fs::write(at("parent/c/memory.events"), "oom 1\noom_kill 2\n").expect("written");
        assert!(group.oom_killed());
        let (_, not_kept) = hierarchies.create("d", &limits(None, Some(50_000)));
        assert!(not_kept.is_some_and(|why| why.starts_with("limits on CPU are not kept")));
    }
}
