//! A user namespace for a launcher that is not root: all of the user's subordinate ids if the machine lets us map them,
//! else the user alone as root.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{ForkResult, Gid, Pid, Uid, User, fork, getegid, geteuid, pipe, setgid, setuid};

/// Which users exist in the namespace.
pub(super) enum Users {
    Many,
    /// The user alone, and why.
    One(String),
}

/// What follows from there being one user only.
pub(crate) const SINGLE_USER: &str =
    "every user inside containers is you (runAsUser, runAsGroup and fsGroup are ignored)";

/// Why containers of this user will have one user only, as far as this machine's files tell.
pub(crate) fn single_user() -> Option<String> {
    subordinates(geteuid()).err()
}

/// Enters a new user namespace as its root. The process must have one thread.
pub(super) fn enter() -> io::Result<Users> {
    let (uid, gid) = (geteuid(), getegid());
    let mapped = subordinates(uid).and_then(|ids| enter_mapped(uid, gid, &ids));
    let users = match mapped {
        Ok(()) => Users::Many,
        Err(why) => {
            unshare(CloneFlags::CLONE_NEWUSER)?;
            fs::write("/proc/self/setgroups", "deny")?;
            fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
            fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
            Users::One(why)
        }
    };
    setgid(Gid::from_raw(0))?;
    setuid(Uid::from_raw(0))?;
    Ok(users)
}

type Range = (u32, u32);

/// A tool, and the range it is to map.
struct Map {
    tool: PathBuf,
    range: Range,
}

/// The user's subordinate user and group ids, with the tools to map them; else what is missing.
fn subordinates(uid: Uid) -> Result<[Map; 2], String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let tool = |name: &str| {
        let usual = ["/usr/bin", "/bin", "/usr/local/bin"].map(PathBuf::from);
        std::env::split_paths(&path)
            .chain(usual)
            .map(|directory| directory.join(name))
            .find(|tool| tool.is_file())
            .ok_or_else(|| format!("{name} (package uidmap) is missing"))
    };
    let name = User::from_uid(uid)
        .ok()
        .flatten()
        .map_or_else(String::new, |user| user.name);
    let range = |file: &str| {
        fs::read_to_string(file)
            .ok()
            .and_then(|text| subordinate(&text, &name, uid.as_raw()))
            .ok_or_else(|| format!("{file} has no range of yours (root adds one with `usermod`)"))
    };
    // Both files name users.
    Ok([
        Map {
            tool: tool("newuidmap")?,
            range: range("/etc/subuid")?,
        },
        Map {
            tool: tool("newgidmap")?,
            range: range("/etc/subgid")?,
        },
    ])
}

/// Enters a namespace with all of the user's ids. It is made by a child, so that nothing has happened to this process if
/// the tools, which act from outside, refuse; the error says why.
fn enter_mapped(uid: Uid, gid: Gid, [users, groups]: &[Map; 2]) -> Result<(), String> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: Errno| format!("cannot {what}: {}", error.desc())
    };
    let (made, tell) = pipe().map_err(failed("make a pipe"))?;
    let (wait, done) = pipe().map_err(failed("make a pipe"))?;
    // SAFETY: the launcher has one thread, so the child may do anything the parent may.
    let child = match unsafe { fork() }.map_err(failed("fork"))? {
        ForkResult::Child => {
            drop((made, done));
            if unshare(CloneFlags::CLONE_NEWUSER).is_ok() {
                let _ = nix::unistd::write(&tell, &[1]);
                let _ = nix::unistd::read(&wait, &mut [0]);
            }
            // SAFETY: _exit ends the process at once; nothing of the parent's may be run or flushed here.
            unsafe { nix::libc::_exit(0) }
        }
        ForkResult::Parent { child } => child,
    };
    drop((tell, wait));
    let entered = (|| {
        match nix::unistd::read(&made, &mut [0]) {
            Ok(1) => {}
            _ => return Err("no user namespace can be made".to_owned()),
        }
        map(users, child, uid.as_raw(), "uid_map")?;
        map(groups, child, gid.as_raw(), "gid_map")?;
        let namespace = fs::File::open(format!("/proc/{child}/ns/user"))
            .map_err(|error| format!("cannot open the user namespace: {error}"))?;
        setns(namespace, CloneFlags::CLONE_NEWUSER).map_err(failed("enter the user namespace"))
    })();
    drop(done);
    let _ = nix::sys::wait::waitpid(child, None);
    entered
}

/// Maps 0 to the user's own id, and 1 and up to the range.
fn map(map: &Map, process: Pid, id: u32, file: &str) -> Result<(), String> {
    let (start, count) = map.range;
    let name = map.tool.file_name().unwrap_or_default().to_string_lossy();
    let ids = [process.as_raw() as u32, 0, id, 1, 1, start, count].map(|number| number.to_string());
    let output = Command::new(&map.tool)
        .args(ids)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{name} cannot be run: {error}"))?;
    if output.status.success() {
        let mapped = fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
        return match mapped.trim().is_empty() {
            true => Err(format!("{name} mapped nothing")),
            false => Ok(()),
        };
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(match said.lines().find(|line| !line.trim().is_empty()) {
        Some(line) => format!("{name} refused: {}", line.trim()),
        None => format!("{name} refused ({})", output.status),
    })
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
