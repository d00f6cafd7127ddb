//! A Kubernetes-compatible API over an embedded store: a `tower` service in process, HTTPS for everybody else.
//!
//! The crate knows the built-in kinds that pipelines need and whatever CustomResourceDefinitions bring; it knows no
//! Tekton kind. [`ApiServer`] is the way in. Behaviour follows `parity/kubernetes.md` (the `K-` rows).
#![forbid(unsafe_code)]

mod accept;
mod admission;
mod authorization;
mod bootstrap;
mod builtin;
mod certificate;
mod crd;
mod decode;
mod discovery;
mod error;
mod handler;
mod https;
mod identity;
mod jsonpath;
mod kubelet;
mod listen;
mod openapi;
mod patch;
mod protobuf;
mod quantity;
mod registry;
mod selector;
mod server;
mod storage;
mod table;
mod target;
mod tokens;
mod webhook;
mod websocket;

pub use certificate::not_after;
pub use error::{ApiError, Cause, Details};
pub use identity::Identity;
pub use kubelet::{Kubelet, LogError, LogOptions};
pub use server::{ApiServer, Body, ClientService, Options, StartError, Store};
