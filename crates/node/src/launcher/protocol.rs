//! What the node and its launcher say to each other: JSON values, one a line, over a Unix socket.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::degraded::Degraded;

/// Version of this protocol; a node finding another one behind the socket ends that launcher.
pub(crate) const VERSION: u32 = 3;

/// Line from the node.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    pub id: u64,
    pub request: Request,
}

/// What the node wants.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// First on every connection. With `bound` the launcher ends, and everything with it, when the connection does.
    Hello { version: u32, bound: bool },
    /// Makes the bridge for pods with a network of their own, or answers with the one there is.
    Network { name: String },
    /// Makes the namespaces that the containers of a pod share.
    Sandbox(SandboxRequest),
    /// Drops them and unmounts the pod's tmpfs volumes.
    RemoveSandbox { pod: String },
    /// Creates and starts a container.
    Run(Box<RunRequest>),
    /// Sends a signal to a container's first process.
    Signal { container: String, signal: i32 },
    /// Runs a process in a running container and answers when it has ended.
    Exec(ExecRequest),
    /// Removes directories of ended pods, with the launcher's rights over the ids of its user namespace.
    Remove { paths: Vec<PathBuf> },
    /// Kills everything and ends the launcher once it is gone.
    Shutdown,
}

/// A pod's sandbox.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SandboxRequest {
    pub pod: String,
    pub hostname: String,
    /// A network namespace of its own, and how it is connected; `None` for the host's.
    pub network: Option<Interface>,
    /// Share the host's IPC namespace.
    pub host_ipc: bool,
    /// `emptyDir` volumes with `medium: Memory` and a limit: directory and size in bytes.
    pub tmpfs: Vec<(PathBuf, u64)>,
}

/// The pod's end of a veth pair.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Interface {
    /// Name of the host's end.
    pub host_name: String,
    /// Index of the bridge it is attached to.
    pub bridge: u32,
    pub address: std::net::Ipv4Addr,
    pub prefix: u8,
    pub gateway: std::net::Ipv4Addr,
}

/// The bridge of the pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Uplink {
    /// Index of the interface.
    pub bridge: u32,
    pub gateway: std::net::Ipv4Addr,
    pub prefix: u8,
    /// Why pods do not reach beyond the machine, if they do not.
    pub no_way_out: Option<String>,
}

/// A container to create and start.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RunRequest {
    pub container: String,
    pub pod: String,
    /// The OCI runtime specification; its root path is filled in by the launcher.
    pub spec: serde_json::Value,
    pub root: Root,
    /// Read-write, appended by stdout and stderr.
    pub log: PathBuf,
    /// Written when the container has ended.
    pub exit_file: PathBuf,
    /// Written when it has started.
    pub pid_file: PathBuf,
    pub limits: Limits,
    pub sub_paths: Vec<SubPath>,
}

/// A mount whose source is below a volume's root (K-313).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SubPath {
    /// Which of the specification's mounts.
    pub mount: usize,
    /// The volume's root: nothing outside it is ever reached.
    pub volume: PathBuf,
    /// Below it; a missing directory is made.
    pub path: PathBuf,
    /// For messages: number of the volumeMount.
    pub number: usize,
}

/// How a container's root file system is put together.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Root {
    /// Lower directories, bottom first; empty for the machine's own root.
    pub lowers: Vec<PathBuf>,
    /// Directory for the private writable layer; `upper` and `work` are made in it.
    pub writable: PathBuf,
    /// Image volumes: mount point below the scratch directory and lower directories, bottom first.
    pub images: Vec<(String, Vec<PathBuf>)>,
}

/// Cgroup limits; all absent means no cgroup is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// Bytes.
    pub memory: Option<i64>,
    /// CFS quota in microseconds per 100 ms.
    pub cpu_quota: Option<i64>,
    /// cgroup v1 shares.
    pub cpu_shares: Option<u64>,
}

/// A process to run in a container.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExecRequest {
    pub container: String,
    pub command: Vec<String>,
    /// stdout and stderr go here.
    pub output: PathBuf,
    /// Killed after so many milliseconds.
    pub timeout_ms: u64,
}

/// Line from the launcher.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    Reply {
        id: u64,
        result: Result<Reply, Failure>,
    },
    /// A container has ended.
    Exited { container: String, exit: Exit },
}

/// Answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Hello(Greeting),
    Done,
    Network(Uplink),
    Started { pid: i32, warnings: Vec<Degraded> },
    ExecEnded { code: i32, timed_out: bool },
}

/// What the launcher is and has.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Greeting {
    pub version: u32,
    pub pid: i32,
    /// Running containers and their process ids.
    pub containers: BTreeMap<String, i32>,
    /// Pods with a sandbox.
    pub sandboxes: BTreeMap<String, Option<Interface>>,
    /// What does not work here.
    pub warnings: Vec<Degraded>,
    /// Whether containers live in a user namespace with one user only.
    pub single_user: bool,
    /// Whether the launcher is not root in the first user namespace.
    pub rootless: bool,
    /// The launcher's private tmpfs, as it sees it.
    pub scratch: PathBuf,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub message: String,
}

impl Failure {
    pub fn new(message: impl ToString) -> Self {
        Self {
            message: message.to_string(),
        }
    }
}

/// How a container ended; also the contents of its exit file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    /// Exit code, or 128 plus the signal (K-275).
    pub code: i32,
    /// The kernel killed a process of it for its memory limit.
    pub oom: bool,
    /// Nanoseconds since 1970.
    pub at: i64,
}
