//! Runs pods as OCI containers on this machine: a small kubelet that speaks only `kube::Client`.
//!
//! [`Node`] watches pods, binds and runs those that have no other node, and reports their status. It never forks:
//! containers are made by the *launcher*, a single-threaded process that is this very program started again, so a
//! program that embeds a node calls [`launcher_main`] first of all, before it starts any thread:
//!
//! ```no_run
//! if std::env::args_os().nth(1).is_some_and(|argument| argument == tektite_node::LAUNCH_ARGUMENT) {
//!     tektite_node::launcher_main();
//! }
//! // … the rest of the program
//! ```
//!
//! The crate knows no Tekton kind. Behaviour follows `parity/kubernetes.md`, sections 13 to 15 (the `K-` rows).
#![deny(unsafe_op_in_unsafe_fn)]

mod container_spec;
mod degraded;
mod environment;
mod images;
mod launcher;
mod log_files;
mod logs;
mod memory;
mod network;
mod node;
mod options;
mod pod;
mod preflight;
mod quantity;
mod remove;
mod shared;
mod status;
mod store_images;
mod users;
mod volume_files;
mod volumes;

pub use degraded::{Degraded, Lack};
pub use images::{
    ImageConfig, ImageError, ImageRequest, Images, PullPolicy, ResolvedImage, RootFilesystem,
};
pub use launcher::{LAUNCH_ARGUMENT, launcher_main};
pub use logs::{LogError, LogOptions, LogStream};
pub use node::Node;
pub use options::{
    Disposition, Lifetime, NetworkMode, NodeOptions, RemoveError, ServiceAddress, StartError,
};
pub use preflight::{Capabilities, Missing, preflight};
