//! Where cgroups for containers can be made on this machine: decided from what the kernel's files say, before anything is
//! made (K-320).
//!
//! On cgroup v1 the tops of the mounted hierarchies are used, which takes root. On v2 root uses the top of the tree;
//! everybody else needs a part of it that was *delegated*: by systemd's user manager, or by `Delegate=yes`. A cgroup with
//! processes in it cannot have children with limits, so either a cgroup above is used that already has such children, or
//! this program's processes move out of the way, into a leaf of their own. The latter only if nobody else's are there.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

/// The cgroup that this program's own processes move to.
pub(super) const LEAF: &str = "tektite-supervisor";

/// What will not be kept of containers' limits on this machine, and why.
pub(crate) fn limits_not_kept(root: bool) -> Option<String> {
    find(root).not_kept()
}

/// Where containers' cgroups go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hierarchy {
    /// Tops of the v1 hierarchies that are there.
    Legacy {
        memory: Option<PathBuf>,
        cpu: Option<PathBuf>,
    },
    /// A cgroup of v2 and the controllers its children get.
    Unified {
        base: PathBuf,
        memory: bool,
        cpu: bool,
        /// Whether this program's processes must leave `base` for its child [`LEAF`].
        make_way: bool,
    },
    /// None can be made: why, and what to do.
    Nowhere(String),
}

/// What there is to know about a cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// `cgroup.controllers`: what it could give its children; empty on v1.
    pub controllers: String,
    /// `cgroup.subtree_control`: what it gives them.
    pub given: String,
    /// Whether this user may make children and move processes here.
    pub writable: bool,
    /// Whether it is the top of the machine's tree, which may have both processes and children.
    pub top: bool,
    /// Whether other programs' processes are in it.
    pub shared: bool,
}

/// A mounted cgroup file system.
struct Mounted<'a> {
    unified: bool,
    /// Which cgroup is seen at `point`.
    root: &'a str,
    point: &'a str,
    read_only: bool,
    /// Controllers of a v1 hierarchy, and other options.
    options: Vec<&'a str>,
}

/// What this machine has for this process, which must not have entered a user namespace yet: from inside one cannot tell
/// one's own processes from others'.
pub(super) fn find(root: bool) -> Hierarchy {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    Hierarchy::choose(
        root,
        &read("/proc/self/cgroup"),
        &read("/proc/self/mountinfo"),
        look,
    )
}

fn look(path: &Path) -> Option<Seen> {
    let read = |name: &str| fs::read_to_string(path.join(name));
    let processes = read("cgroup.procs").ok()?;
    let writable = |path: &Path| access(path, AccessFlags::W_OK).is_ok();
    let given = path.join("cgroup.subtree_control");
    let own = fs::read_link("/proc/self/exe").ok();
    let is_own = |pid: &str| own.is_some() && fs::read_link(format!("/proc/{pid}/exe")).ok() == own;
    Some(Seen {
        controllers: read("cgroup.controllers").unwrap_or_default(),
        given: read("cgroup.subtree_control").unwrap_or_default(),
        writable: writable(path)
            && writable(&path.join("cgroup.procs"))
            && (!given.exists() || writable(&given)),
        top: !path.join("cgroup.type").exists(),
        shared: !processes.lines().all(is_own),
    })
}

const SCOPE: &str = "run it as `systemd-run --user --scope -p Delegate=yes tektite …`";

impl Hierarchy {
    /// Decides. `own` and `mountinfo` are the texts of `/proc/self/cgroup` and `/proc/self/mountinfo`; `look` answers for
    /// directories of cgroups.
    pub fn choose(
        root: bool,
        own: &str,
        mountinfo: &str,
        look: impl Fn(&Path) -> Option<Seen>,
    ) -> Self {
        let mounts: Vec<Mounted<'_>> = mountinfo.lines().filter_map(mounted).collect();
        let legacy = |controller: &str| {
            mounts
                .iter()
                .find(|mount| !mount.unified && mount.options.contains(&controller))
        };
        if legacy("memory").is_some() || legacy("cpu").is_some() {
            return choose_legacy(root, legacy("memory"), legacy("cpu"), look);
        }
        let Some(mount) = mounts.iter().find(|mount| mount.unified) else {
            return Self::Nowhere("no cgroup file system is mounted at /sys/fs/cgroup".into());
        };
        choose_unified(root, own, mount, look)
    }

    /// What will not be kept of limits, and why; `None` if all will.
    pub fn not_kept(&self) -> Option<String> {
        let (memory, cpu, why) = match self {
            Self::Legacy { memory, cpu } => (
                memory.is_some(),
                cpu.is_some(),
                "this machine has no such cgroup controller",
            ),
            Self::Unified { memory, cpu, .. } => (
                *memory,
                *cpu,
                "the cgroup controller is not delegated to this user",
            ),
            Self::Nowhere(why) => (false, false, why.as_str()),
        };
        let what = match (memory, cpu) {
            (true, true) => return None,
            (false, true) => "memory",
            (true, false) => "CPU",
            (false, false) => "memory and CPU",
        };
        Some(format!("limits on {what} are not kept: {why}"))
    }
}

fn choose_legacy(
    root: bool,
    memory: Option<&Mounted<'_>>,
    cpu: Option<&Mounted<'_>>,
    look: impl Fn(&Path) -> Option<Seen>,
) -> Hierarchy {
    let usable = |mount: Option<&Mounted<'_>>| {
        let mount = mount.filter(|mount| !mount.read_only)?;
        let path = PathBuf::from(mount.point);
        look(&path)
            .is_some_and(|seen| seen.writable)
            .then_some(path)
    };
    let read_only = [memory, cpu].into_iter().flatten().any(|m| m.read_only);
    match (usable(memory), usable(cpu)) {
        (None, None) if read_only => Hierarchy::Nowhere(READ_ONLY.into()),
        (None, None) if root => {
            Hierarchy::Nowhere("the cgroups of this machine cannot be written to".into())
        }
        (None, None) => {
            Hierarchy::Nowhere("this machine has cgroup v1, where only root may make them".into())
        }
        (memory, cpu) => Hierarchy::Legacy { memory, cpu },
    }
}

const READ_ONLY: &str =
    "cgroups are mounted read-only here (inside a container, run that one privileged)";

fn choose_unified(
    root: bool,
    own: &str,
    mount: &Mounted<'_>,
    look: impl Fn(&Path) -> Option<Seen>,
) -> Hierarchy {
    if mount.read_only {
        return Hierarchy::Nowhere(READ_ONLY.into());
    }
    let top = PathBuf::from(mount.point);
    let has = |list: &str, name: &str| list.split_whitespace().any(|one| one == name);
    let unified = |base: &Path, list: &str, make_way: bool| {
        let (memory, cpu) = (has(list, "memory"), has(list, "cpu"));
        (memory || cpu).then(|| Hierarchy::Unified {
            base: base.to_path_buf(),
            memory,
            cpu,
            make_way,
        })
    };
    // Root of the whole machine.
    if root
        && let Some(seen) = look(&top).filter(|seen| seen.top && seen.writable)
        && let Some(found) = unified(&top, &seen.controllers, false)
    {
        return found;
    }
    let own = own.lines().find_map(|line| line.strip_prefix("0::"));
    let below = own.and_then(|own| {
        let below = Path::new(own).strip_prefix(mount.root).ok()?;
        let inside = !below.components().any(|part| part.as_os_str() == "..");
        inside.then(|| below.to_path_buf())
    });
    let Some(below) = below else {
        return Hierarchy::Nowhere(
            "this process is in a cgroup that cannot be seen from here".into(),
        );
    };
    let own = if below.as_os_str().is_empty() {
        top.clone()
    } else {
        top.join(below)
    };
    let Some(seen) = look(&own) else {
        return Hierarchy::Nowhere(format!("the cgroup {} cannot be read", own.display()));
    };
    let in_leaf = own.file_name().is_some_and(|name| name == LEAF);
    if seen.writable
        && !seen.shared
        && !in_leaf
        && let Some(found) = unified(&own, &seen.controllers, true)
    {
        return found;
    }
    let above = own
        .ancestors()
        .skip(1)
        .take_while(|path| path.starts_with(&top));
    for path in above {
        // Processes are moved by whoever may write to the cgroup above both ends; higher up nobody delegates any more.
        let Some(above) = look(path).filter(|seen| seen.writable) else {
            break;
        };
        if let Some(found) = unified(path, &above.given, false) {
            return found;
        }
    }
    let own = own.display();
    Hierarchy::Nowhere(match (seen.writable, root) {
        (false, true) => format!("the cgroup {own} cannot be written to"),
        (false, false) => {
            format!("the cgroup {own} is not delegated to this user: where systemd runs, {SCOPE}")
        }
        (true, _) if seen.shared => {
            format!("other programs are in the cgroup {own} too: where systemd runs, {SCOPE}")
        }
        (true, _) => format!("the cgroup {own} has neither memory nor cpu among its controllers"),
    })
}

/// One line of `mountinfo`, if it is about cgroups.
fn mounted(line: &str) -> Option<Mounted<'_>> {
    let (left, right) = line.split_once(" - ")?;
    let mut right = right.split(' ');
    let unified = match right.next()? {
        "cgroup2" => true,
        "cgroup" => false,
        _ => return None,
    };
    let options: Vec<&str> = right.nth(1).unwrap_or_default().split(',').collect();
    let left: Vec<&str> = left.split(' ').collect();
    let [_, _, _, root, point, how, ..] = left[..] else {
        return None;
    };
    Some(Mounted {
        unified,
        root,
        point,
        read_only: how.split(',').any(|option| option == "ro") || options.contains(&"ro"),
        options,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str = "34 24 0:29 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot";
    const UNIFIED_READ_ONLY: &str = "812 811 0:29 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate";
    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
32 31 0:29 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw,nsdelegate
33 31 0:30 / /sys/fs/cgroup/systemd rw,nosuid - cgroup cgroup rw,xattr,name=systemd
34 31 0:31 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory
35 31 0:32 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct";
    const LEGACY_CONTAINER: &str = "\
700 699 0:31 /docker/4f2 /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory
701 699 0:32 /docker/4f2 /sys/fs/cgroup/cpu,cpuacct ro,nosuid - cgroup cgroup rw,cpu,cpuacct";
    /// v2 with one v1 hierarchy beside it that has nothing to do with limits, as some VPN clients mount it.
    const UNIFIED_AND_NET_CLS: &str = "\
34 24 0:29 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw
90 24 0:60 / /opt/net_cls rw,relatime - cgroup cgroup rw,net_cls";

    const ALL: &str = "cpuset cpu io memory pids";

    fn seen(controllers: &str, given: &str, flags: &str) -> Seen {
        Seen {
            controllers: controllers.into(),
            given: given.into(),
            writable: flags.contains('w'),
            top: flags.contains('t'),
            shared: flags.contains('s'),
        }
    }

    struct Case {
        name: &'static str,
        root: bool,
        own: &'static str,
        mounts: &'static str,
        /// Below `/sys/fs/cgroup`: controllers, subtree control, and w(ritable), t(op), s(hared).
        groups: &'static [(&'static str, &'static str, &'static str, &'static str)],
        expected: Result<(&'static str, bool, bool, bool), &'static str>,
    }

    const MANAGER: &str = "user.slice/user-1000.slice/user@1000.service";

    // K-320
    #[test]
    fn real_layouts_lead_to_the_cgroup_that_is_delegated_or_to_a_reason() {
        let cases = [
            Case {
                name: "a terminal of a desktop session: its scope holds a shell too, the slice above is the user's",
                root: false,
                own: "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-term.scope\n",
                mounts: UNIFIED,
                groups: &[
                    (
                        "user.slice/user-1000.slice/user@1000.service/app.slice/app-term.scope",
                        "memory pids",
                        "",
                        "ws",
                    ),
                    (
                        "user.slice/user-1000.slice/user@1000.service/app.slice",
                        "cpu memory pids",
                        "memory pids",
                        "w",
                    ),
                    (MANAGER, "cpu memory pids", "cpu memory pids", "w"),
                    ("user.slice/user-1000.slice", ALL, "cpu memory pids", "s"),
                ],
                expected: Ok((
                    "user.slice/user-1000.slice/user@1000.service/app.slice",
                    true,
                    false,
                    false,
                )),
            },
            Case {
                name: "a scope of its own with Delegate=yes: the processes make way",
                root: false,
                own: "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-r1.scope\n",
                mounts: UNIFIED,
                groups: &[
                    (
                        "user.slice/user-1000.slice/user@1000.service/app.slice/run-r1.scope",
                        "cpu memory pids",
                        "",
                        "w",
                    ),
                    (
                        "user.slice/user-1000.slice/user@1000.service/app.slice",
                        "cpu memory pids",
                        "cpu memory pids",
                        "w",
                    ),
                ],
                expected: Ok((
                    "user.slice/user-1000.slice/user@1000.service/app.slice/run-r1.scope",
                    true,
                    true,
                    true,
                )),
            },
            Case {
                name: "the same after its processes have made way",
                root: false,
                own: "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-r1.scope/tektite-supervisor\n",
                mounts: UNIFIED,
                groups: &[
                    (
                        "user.slice/user-1000.slice/user@1000.service/app.slice/run-r1.scope/tektite-supervisor",
                        "cpu memory pids",
                        "",
                        "w",
                    ),
                    (
                        "user.slice/user-1000.slice/user@1000.service/app.slice/run-r1.scope",
                        "cpu memory pids",
                        "cpu memory",
                        "w",
                    ),
                ],
                expected: Ok((
                    "user.slice/user-1000.slice/user@1000.service/app.slice/run-r1.scope",
                    true,
                    true,
                    false,
                )),
            },
            Case {
                name: "a login over ssh: the session's scope belongs to root",
                root: false,
                own: "0::/user.slice/user-1000.slice/session-3.scope\n",
                mounts: UNIFIED,
                groups: &[
                    (
                        "user.slice/user-1000.slice/session-3.scope",
                        "memory pids",
                        "",
                        "s",
                    ),
                    ("user.slice/user-1000.slice", ALL, "memory pids", "s"),
                ],
                expected: Err("systemd-run --user --scope -p Delegate=yes"),
            },
            Case {
                name: "a service with User= and Delegate=yes",
                root: false,
                own: "0::/system.slice/ci.service\n",
                mounts: UNIFIED,
                groups: &[
                    ("system.slice/ci.service", "cpu memory pids", "", "w"),
                    ("system.slice", ALL, "cpu memory pids", ""),
                ],
                expected: Ok(("system.slice/ci.service", true, true, true)),
            },
            Case {
                name: "a delegated service whose agent is in the same cgroup",
                root: false,
                own: "0::/system.slice/ci.service\n",
                mounts: UNIFIED,
                groups: &[
                    ("system.slice/ci.service", "cpu memory pids", "", "ws"),
                    ("system.slice", ALL, "cpu memory pids", ""),
                ],
                expected: Err(
                    "other programs are in the cgroup /sys/fs/cgroup/system.slice/ci.service too",
                ),
            },
            Case {
                name: "a user manager that was given pids only",
                root: false,
                own: "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-r1.scope\n",
                mounts: UNIFIED,
                groups: &[
                    (
                        "user.slice/user-1000.slice/user@1000.service/app.slice/run-r1.scope",
                        "pids",
                        "",
                        "w",
                    ),
                    (
                        "user.slice/user-1000.slice/user@1000.service/app.slice",
                        "pids",
                        "pids",
                        "w",
                    ),
                    (MANAGER, "pids", "pids", "w"),
                    ("user.slice/user-1000.slice", ALL, "pids", ""),
                ],
                expected: Err("neither memory nor cpu"),
            },
            Case {
                name: "an ordinary user on cgroup v1",
                root: false,
                own: "4:memory:/user.slice\n0::/user.slice/user-1000.slice/session-1.scope\n",
                mounts: HYBRID,
                groups: &[("memory", "", "", "s"), ("cpu,cpuacct", "", "", "s")],
                expected: Err("cgroup v1, where only root"),
            },
            Case {
                name: "a container with read-only cgroups",
                root: true,
                own: "0::/\n",
                mounts: UNIFIED_READ_ONLY,
                groups: &[("", ALL, "", "s")],
                expected: Err("read-only"),
            },
            Case {
                name: "a container on cgroup v1 with read-only cgroups",
                root: true,
                own: "4:memory:/docker/4f2\n",
                mounts: LEGACY_CONTAINER,
                groups: &[("memory", "", "", "s")],
                expected: Err("read-only"),
            },
            Case {
                name: "root of a machine",
                root: true,
                own: "0::/user.slice/user-0.slice/session-1.scope\n",
                mounts: UNIFIED,
                groups: &[("", ALL, "cpu memory", "wts")],
                expected: Ok(("", true, true, false)),
            },
            Case {
                name: "root of a machine with a hierarchy of v1 for something else",
                root: true,
                own: "1:net_cls:/\n0::/\n",
                mounts: UNIFIED_AND_NET_CLS,
                groups: &[("", ALL, "", "wts")],
                expected: Ok(("", true, true, false)),
            },
            Case {
                name: "root of a privileged container that runs nothing else",
                root: true,
                own: "0::/\n",
                mounts: UNIFIED,
                groups: &[("", ALL, "", "w")],
                expected: Ok(("", true, true, true)),
            },
            Case {
                name: "root of a privileged container with a shell",
                root: true,
                own: "0::/\n",
                mounts: UNIFIED,
                groups: &[("", ALL, "", "ws")],
                expected: Err("other programs"),
            },
            Case {
                name: "a cgroup namespace entered from outside",
                root: false,
                own: "0::/../other\n",
                mounts: UNIFIED,
                groups: &[("", ALL, "", "w")],
                expected: Err("cannot be seen"),
            },
            Case {
                name: "no cgroups at all",
                root: true,
                own: "",
                mounts: "20 1 254:0 / / rw - ext4 /dev/vda rw",
                groups: &[],
                expected: Err("no cgroup file system"),
            },
        ];
        for case in cases {
            let top = Path::new("/sys/fs/cgroup");
            let look = |path: &Path| {
                let (_, controllers, given, flags) = case
                    .groups
                    .iter()
                    .find(|(name, ..)| Path::new(name) == path.strip_prefix(top).expect("below"))?;
                Some(seen(controllers, given, flags))
            };
            let found = Hierarchy::choose(case.root, case.own, case.mounts, look);
            match (found, case.expected) {
                (
                    Hierarchy::Unified {
                        base,
                        memory,
                        cpu,
                        make_way,
                    },
                    Ok((path, has_memory, has_cpu, way)),
                ) => {
                    assert_eq!(base.strip_prefix(top), Ok(Path::new(path)), "{}", case.name);
                    assert_eq!(
                        (memory, cpu, make_way),
                        (has_memory, has_cpu, way),
                        "{}",
                        case.name
                    );
                }
                (Hierarchy::Nowhere(why), Err(part)) => {
                    assert!(why.contains(part), "{}: {why}", case.name);
                }
                (found, _) => panic!("{}: {found:?}", case.name),
            }
        }
    }

    #[test]
    fn root_on_cgroup_v1_has_the_tops_of_the_hierarchies() {
        let look = |_: &Path| Some(seen("", "", "ws"));
        let expected = Hierarchy::Legacy {
            memory: Some("/sys/fs/cgroup/memory".into()),
            cpu: Some("/sys/fs/cgroup/cpu,cpuacct".into()),
        };
        assert_eq!(
            Hierarchy::choose(true, "4:memory:/\n0::/\n", HYBRID, look),
            expected
        );
        assert_eq!(expected.not_kept(), None);
    }

    #[test]
    fn what_is_not_kept_is_named() {
        let unified = |memory, cpu| Hierarchy::Unified {
            base: "/x".into(),
            memory,
            cpu,
            make_way: false,
        };
        assert_eq!(unified(true, true).not_kept(), None);
        let said = unified(true, false).not_kept().unwrap_or_default();
        assert!(said.starts_with("limits on CPU are not kept"), "{said}");
        let said = Hierarchy::Nowhere("because".into())
            .not_kept()
            .unwrap_or_default();
        assert_eq!(said, "limits on memory and CPU are not kept: because");
    }
}
