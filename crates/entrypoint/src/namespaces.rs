//! Hermetic steps: the child starts without a network, in namespaces of its own (T-291).

use alloc::format;
use alloc::vec::Vec;

use rustix::process::Pid;

use crate::path::Path;
use crate::system::process::{ALL_NAMESPACES, Command, variable};
use crate::system::{Result, fs};

/// Whether the environment asks for it.
pub(crate) fn wanted(environment: &[(Vec<u8>, Vec<u8>)]) -> bool {
    variable(environment, "TEKTON_HERMETIC") == Some(b"1")
        && variable(environment, "TEKTON_RESOURCE_NAME").is_none_or(<[u8]>::is_empty)
}

/// Starts the command in new mount, process, network and user namespaces in which every user and group is itself.
pub(crate) fn spawn(command: Command) -> Result<Pid> {
    command.spawn(ALL_NAMESPACES, map)
}

fn map(pid: Pid) -> Result<()> {
    let file = |name: &str| Path::new(format!("/proc/{}/{name}", pid.as_raw_nonzero()));
    fs::write(&file("setgroups"), "allow")?;
    for kind in ["uid_map", "gid_map"] {
        fs::write(&file(kind), format!("0 0 {}\n", u32::MAX))?;
    }
    Ok(())
}
