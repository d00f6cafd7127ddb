//! A Kubernetes-compatible API over an embedded store: a `tower` service in process, HTTPS for everybody else.
//!
//! The crate knows the built-in kinds that pipelines need and whatever CustomResourceDefinitions bring; it knows no
//! Tekton kind. [`ApiServer`] is the way in. Behaviour follows `parity/kubernetes.md` (the `K-` rows).
#![forbid(unsafe_code)]

mod error;
mod identity;
mod kubelet;
mod server;

pub use error::ApiError;
pub use identity::Identity;
pub use kubelet::{Kubelet, LogError, LogOptions};
pub use server::{ApiServer, Body, ClientService, Options, StartError, Store};
