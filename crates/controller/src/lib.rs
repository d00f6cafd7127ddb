//! The thin shell round the engine: watches and caches, asks it for decisions, applies them; admission webhooks.
//!
//! - [`Controller::run`] keeps TaskRuns and PipelineRuns going through a `kube::Client` and nothing else.
//! - [`webhook_router`] answers the API server's admission and conversion reviews.
//! - [`install`] puts the CRDs and webhook configurations into a cluster.
//! - [`metrics_router`] serves `/metrics` and the probes.
#![forbid(unsafe_code)]

mod answers;
mod cloud_events;
mod config;
mod controller;
mod definitions;
mod effects;
mod endpoint;
mod events;
mod images;
mod install;
mod leader;
mod metrics;
mod options;
mod pipeline_run;
mod pull_secrets;
mod queue;
mod remote;
mod resolution_request;
mod rest;
mod run;
mod serving;
mod signature;
mod spans;
mod status_patch;
mod store;
mod task_run;
mod verification;
mod watch;
mod webhook;
mod world;

pub use config::{ConfigHandle, ConfigMapNames};
pub use controller::{Controller, Following, RunError};
pub use images::{DockerConfig, ImageConfigs, ImageError, Keychain};
pub use install::{InstallError, InstallOptions, install, register_webhooks};
pub use leader::Election;
pub use metrics::{Metrics, MetricsAddress, metrics_router};
pub use options::{Acting, ControllerOptions, LeaderElection, StatefulSet};
pub use serving::{listen, probes_router, serve};
pub use webhook::{WEBHOOK_SERVICE, WebhookService, webhook_configurations, webhook_router};
