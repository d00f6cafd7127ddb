//! The API server, the node and the built-in controllers as one local cluster.
//!
//! [`Cluster::start`] is the way in: in memory for `tektite run`, durable and on a port for `tektite up`. The crate knows
//! no Tekton kind.
#![forbid(unsafe_code)]

mod authority;
mod cluster;
mod controllers;
mod directories;
mod images;
mod kubeconfig;
mod lock;
mod logs;
mod private;

pub use authority::{AuthorityError, ServerCertificate};
pub use cluster::{Cluster, ClusterOptions, StartError};
pub use lock::holder;
pub use private::PrivateDirectory;
