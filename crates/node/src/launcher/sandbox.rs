//! The namespaces a pod's containers share, made by a forked worker and held by the launcher as open descriptors.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sched::{CloneFlags, unshare};

use super::network;
use super::protocol::{Failure, Interface, SandboxRequest};

/// A pod's namespaces. They vanish when this is dropped and the last process in them is gone.
pub(super) struct Sandbox {
    /// `None` for the host's.
    pub network: Option<OwnedFd>,
    pub ipc: Option<OwnedFd>,
    pub uts: OwnedFd,
    pub interface: Option<Interface>,
    /// Mount points to be undone.
    pub tmpfs: Vec<std::path::PathBuf>,
}

impl Sandbox {
    /// Paths by which forks of the launcher enter the namespaces: kind, path.
    pub fn paths(&self) -> impl Iterator<Item = (&'static str, String)> {
        let path = |descriptor: &OwnedFd| format!("/proc/self/fd/{}", descriptor.as_raw_fd());
        [
            ("network", self.network.as_ref().map(path)),
            ("ipc", self.ipc.as_ref().map(path)),
            ("uts", Some(path(&self.uts))),
        ]
        .into_iter()
        .filter_map(|(kind, path)| path.map(|path| (kind, path)))
    }
}

/// Makes the namespaces and answers with them, network first if it is wanted; runs in a forked process.
pub(super) fn make(request: &SandboxRequest) -> Result<Vec<OwnedFd>, Failure> {
    let failed =
        |what: &str, error: &dyn std::fmt::Display| Failure::new(format!("cannot {what}: {error}"));
    let mut flags = CloneFlags::CLONE_NEWUTS;
    // The socket stays in the network namespace it was opened in: the host's.
    let host = match &request.network {
        Some(_) => {
            flags |= CloneFlags::CLONE_NEWNET;
            Some(network::Route::open().map_err(|error| failed("open a route socket", &error))?)
        }
        None => None,
    };
    if !request.host_ipc {
        flags |= CloneFlags::CLONE_NEWIPC;
    }
    unshare(flags).map_err(|error| failed("make the pod's namespaces", &error))?;
    nix::unistd::sethostname(&request.hostname)
        .map_err(|error| failed("set the hostname", &error))?;
    let open = |name: &str| -> Result<OwnedFd, Failure> {
        std::fs::File::open(format!("/proc/self/ns/{name}"))
            .map(OwnedFd::from)
            .map_err(|error| failed("open a namespace", &error))
    };
    let mut made = Vec::new();
    if let (Some(host), Some(interface)) = (host, &request.network) {
        let own = open("net")?;
        connect(host, &own, interface)
            .map_err(|error| failed("connect the pod to the network", &error))?;
        made.push(own);
    }
    if !request.host_ipc {
        made.push(open("ipc")?);
    }
    made.push(open("uts")?);
    Ok(made)
}

fn connect(mut host: network::Route, own: &OwnedFd, interface: &Interface) -> io::Result<()> {
    host.add_veth(
        &interface.host_name,
        interface.bridge,
        "eth0",
        own.as_raw_fd(),
    )?;
    network::up("lo")?;
    network::address("eth0", interface.address, interface.prefix)?;
    network::up("eth0")?;
    network::default_route(interface.gateway)
}
