//! The launcher: a single-threaded process that makes, watches and kills containers.
//!
//! libcontainer forks and runs code in the child before it executes the container's program, which is only sound in a
//! process with one thread. The launcher is such a process: this program, started again under [`LAUNCH_ARGUMENT`]. For each
//! container it forks a worker, so that several are made at once; containers become children of the launcher itself,
//! which waits for them and writes down how they ended.
#![allow(
    unsafe_code,
    reason = "fork and signal dispositions; each use states why it is sound"
)]

mod cgroup;
mod client;
mod executor;
mod hierarchy;
mod mount_points;
mod nat;
pub(crate) mod network;
pub(crate) mod protocol;
mod reactor;
mod sandbox;
mod scratch;
mod uplink;
mod user_namespace;
mod worker;

use std::path::{Path, PathBuf};

pub(crate) use client::{Ended, Launch, Launcher};
pub(crate) use hierarchy::limits_not_kept;
use reactor::Purpose;
pub(crate) use user_namespace::{SINGLE_USER, single_user};

/// First argument of the program that makes it the launcher.
pub const LAUNCH_ARGUMENT: &str = "__launch";

/// The launcher ends with the process that started it, however that ends.
const BOUND_ARGUMENT: &str = "--bound";
/// The next argument is a directory that a bound launcher removes when it ends.
const SCRAP_ARGUMENT: &str = "--scrap";

/// Runs the launcher and ends the process. To be called first of all in `main`, while there is one thread, if the first
/// argument is [`LAUNCH_ARGUMENT`].
pub fn launcher_main() -> ! {
    let mut arguments = std::env::args_os().skip(2).map(PathBuf::from);
    let code = match arguments.next() {
        Some(directory) => match reactor::serve(&directory, purpose(arguments)) {
            Ok(()) => 0,
            Err(error) => {
                // Read by the node that started it.
                eprintln!("{error}");
                1
            }
        },
        None => {
            eprintln!("{LAUNCH_ARGUMENT} is for the program's own use");
            2
        }
    };
    std::process::exit(code)
}

/// What the launcher is for, from its arguments.
fn purpose(mut arguments: impl Iterator<Item = PathBuf>) -> Purpose {
    let mut purpose = Purpose::default();
    while let Some(argument) = arguments.next() {
        if argument == Path::new(BOUND_ARGUMENT) {
            purpose.bound = true;
        } else if argument == Path::new(SCRAP_ARGUMENT) {
            purpose.scrap.extend(arguments.next());
        } else {
            purpose.hidden.push(argument);
        }
    }
    purpose
}

/// A process id and when that process began, so that a reused id is not mistaken for it.
pub(crate) fn identity(pid: i32) -> String {
    format!("{pid} {}", began(pid).unwrap_or_default())
}

/// Whether the process that [`identity`] described still lives.
pub(crate) fn lives(identity: &str) -> Option<i32> {
    let (pid, start) = identity.trim().split_once(' ')?;
    let pid: i32 = pid.parse().ok()?;
    (began(pid)? == start).then_some(pid)
}

/// Start time of a process in clock ticks, as text.
fn began(pid: i32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command may hold spaces and parentheses; the fields after it do not. State is field 3, start time field 22.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if fields.first() == Some(&"Z") {
        return None;
    }
    fields.get(19).map(|text| (*text).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_process_id_is_not_mistaken_for_the_process_that_had_it() {
        let own = std::process::id() as i32;
        assert_eq!(lives(&identity(own)), Some(own));
        assert_eq!(lives(&format!("{own} 1")), None);
        assert_eq!(lives("junk"), None);
    }
}
