//! A user namespace for a launcher that is not root: all of the user's subordinate ids if the machine lets us map them,
//! else the user alone as root.

use std::fs;
use std::io;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{ForkResult, Gid, Pid, Uid, User, fork, getegid, geteuid, pipe, setgid, setuid};

/// Whether more than one user exists in the namespace.
pub(super) enum Users {
    Many,
    One,
}

/// Which ids containers of this user get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mapping {
    /// The user's subordinate ids, mapped by `newuidmap` and `newgidmap`.
    Tools,
    /// The user alone.
    Single,
}

/// Which ids there will be, as far as this machine's files tell.
pub(crate) fn mapping() -> Mapping {
    match ranges(geteuid()) {
        Some(_) => Mapping::Tools,
        None => Mapping::Single,
    }
}

/// Enters a new user namespace as its root. The process must have one thread.
pub(super) fn enter() -> io::Result<Users> {
    let (uid, gid) = (geteuid(), getegid());
    let many = match ranges(uid) {
        Some(ranges) => map_with_tools(uid, gid, ranges)?,
        None => false,
    };
    if !many {
        unshare(CloneFlags::CLONE_NEWUSER)?;
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
        fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    }
    setgid(Gid::from_raw(0))?;
    setuid(Uid::from_raw(0))?;
    Ok(if many { Users::Many } else { Users::One })
}

type Range = (u32, u32);

/// The user's subordinate user and group ids, if there are both and the tools to map them. Both files name users.
fn ranges(uid: Uid) -> Option<(Range, Range)> {
    let installed = |tool: &str| {
        ["/usr/bin", "/bin", "/usr/local/bin"]
            .iter()
            .any(|directory| fs::metadata(format!("{directory}/{tool}")).is_ok())
    };
    if !installed("newuidmap") || !installed("newgidmap") {
        return None;
    }
    let name = User::from_uid(uid)
        .ok()
        .flatten()
        .map_or_else(String::new, |user| user.name);
    let range = |file: &str| {
        fs::read_to_string(file)
            .ok()
            .and_then(|text| subordinate(&text, &name, uid.as_raw()))
    };
    Some((range("/etc/subuid")?, range("/etc/subgid")?))
}

/// Unshares with `newuidmap` and `newgidmap`, which act from outside: a forked child calls them.
fn map_with_tools(uid: Uid, gid: Gid, (uids, gids): (Range, Range)) -> io::Result<bool> {
    let (wait, ready) = pipe()?;
    let own = Pid::this();
    // SAFETY: the launcher has one thread, so the child may do anything the parent may.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(ready);
            let mut byte = [0];
            let _ = nix::unistd::read(&wait, &mut byte);
            let map = |tool: &str, id: u32, (start, count): (u32, u32)| {
                let ids = [
                    own.to_string(),
                    "0".into(),
                    id.to_string(),
                    "1".into(),
                    "1".into(),
                    start.to_string(),
                    count.to_string(),
                ];
                Command::new(tool)
                    .args(ids)
                    .status()
                    .is_ok_and(|status| status.success())
            };
            let done = map("newuidmap", uid.as_raw(), uids) && map("newgidmap", gid.as_raw(), gids);
            std::process::exit(i32::from(!done))
        }
        ForkResult::Parent { child } => {
            drop(wait);
            let unshared = unshare(CloneFlags::CLONE_NEWUSER);
            drop(ready);
            let status = nix::sys::wait::waitpid(child, None)?;
            unshared?;
            match status {
                nix::sys::wait::WaitStatus::Exited(_, 0) => Ok(true),
                _ => Err(io::Error::other(
                    "newuidmap or newgidmap refused the user's subordinate ids",
                )),
            }
        }
    }
}

/// First range of a user in `/etc/subuid` or `/etc/subgid`.
fn subordinate(text: &str, name: &str, id: u32) -> Option<(u32, u32)> {
    text.lines().find_map(|line| {
        let mut parts = line.split(':');
        let owner = parts.next()?;
        let range = (
            parts.next()?.parse().ok()?,
            parts.next()?.trim().parse().ok()?,
        );
        (owner == name || owner == id.to_string()).then_some(range)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ids_are_found_by_name_or_number() {
        let text = "root:100000:65536\nann:200000:65536\n1002:300000:1000\nbroken";
        assert_eq!(subordinate(text, "ann", 1001), Some((200_000, 65_536)));
        assert_eq!(subordinate(text, "ben", 1002), Some((300_000, 1000)));
        assert_eq!(subordinate(text, "eve", 1003), None);
    }
}
