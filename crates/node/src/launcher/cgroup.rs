//! Cgroups of containers: made only for those with limits, since on cgroup v1 each controller costs milliseconds.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::protocol::Limits;

/// The hierarchies of this machine, held open, because the launcher hides `/sys/fs/cgroup` from libcontainer.
pub(super) struct Hierarchies {
    memory: Option<PathBuf>,
    cpu: Option<PathBuf>,
    unified: bool,
    /// Name of the directory all containers of this launcher live in.
    parent: String,
}

/// The cgroup of one container.
#[derive(Clone, Debug)]
pub(super) struct Group {
    directories: Vec<PathBuf>,
    memory: Option<PathBuf>,
    unified: bool,
}

impl Hierarchies {
    /// Opens what is mounted at `/sys/fs/cgroup`. The descriptors stay open as long as the process lives, so the paths
    /// kept here go through `/proc/self/fd`.
    pub fn open(parent: String) -> Self {
        let root = Path::new("/sys/fs/cgroup");
        let unified = root.join("cgroup.controllers").exists();
        let hold = |path: PathBuf| -> Option<PathBuf> {
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
        };
        if unified {
            let held = hold(root.to_path_buf());
            return Self {
                memory: held.clone(),
                cpu: held,
                unified,
                parent,
            };
        }
        let own = |name: &str| {
            root.join(name)
                .join("cgroup.procs")
                .exists()
                .then(|| root.join(name))
        };
        Self {
            memory: own("memory").and_then(hold),
            cpu: own("cpu").or_else(|| own("cpu,cpuacct")).and_then(hold),
            unified,
            parent,
        }
    }

    /// Makes the cgroup of a container and applies its limits; `None` if it has none.
    pub fn create(&self, container: &str, limits: &Limits) -> io::Result<Option<Group>> {
        if limits.is_none() {
            return Ok(None);
        }
        let missing =
            |what: &str| io::Error::other(format!("this machine has no {what} cgroup controller"));
        let mut group = Group {
            directories: Vec::new(),
            memory: None,
            unified: self.unified,
        };
        if self.unified {
            let root = self.memory.as_ref().ok_or_else(|| missing("unified"))?;
            let parent = root.join(&self.parent);
            fs::create_dir_all(&parent)?;
            for directory in [root, &parent] {
                for controller in ["+memory", "+cpu"] {
                    // Refused where a controller is absent or already on; the limit's own write decides.
                    let _ = fs::write(directory.join("cgroup.subtree_control"), controller);
                }
            }
            let own = parent.join(container);
            fs::create_dir_all(&own)?;
            group.directories.push(own.clone());
            if let Some(bytes) = limits.memory {
                fs::write(own.join("memory.max"), bytes.to_string())?;
                let _ = fs::write(own.join("memory.swap.max"), "0");
                group.memory = Some(own.clone());
            }
            if let Some(quota) = limits.cpu_quota {
                fs::write(own.join("cpu.max"), format!("{quota} 100000"))?;
            }
            if let Some(shares) = limits.cpu_shares {
                fs::write(own.join("cpu.weight"), weight(shares).to_string())?;
            }
            return Ok(Some(group));
        }
        if let Some(bytes) = limits.memory {
            let own = self
                .memory
                .as_ref()
                .ok_or_else(|| missing("memory"))?
                .join(&self.parent)
                .join(container);
            fs::create_dir_all(&own)?;
            group.directories.push(own.clone());
            fs::write(own.join("memory.limit_in_bytes"), bytes.to_string())?;
            let _ = fs::write(own.join("memory.memsw.limit_in_bytes"), bytes.to_string());
            group.memory = Some(own);
        }
        // Requests alone are not worth a cgroup on v1: the move into one waits for a grace period of the kernel.
        if let Some(quota) = limits.cpu_quota {
            let own = self
                .cpu
                .as_ref()
                .ok_or_else(|| missing("cpu"))?
                .join(&self.parent)
                .join(container);
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

    #[test]
    fn a_container_without_limits_gets_no_cgroup() {
        let none = Hierarchies {
            memory: None,
            cpu: None,
            unified: false,
            parent: "p".into(),
        };
        assert!(
            none.create("c", &Limits::default())
                .expect("nothing to do")
                .is_none()
        );
        let limited = Limits {
            memory: Some(1),
            ..Limits::default()
        };
        assert!(
            none.create("c", &limited).is_err(),
            "a limit that cannot be kept is an error"
        );
    }
}
