//! Remote tasks and pipelines: answers ResolutionRequests for the resolvers git, http, hub, bundles and cluster.
//!
//! [`Resolvers::run`] watches the requests that carry one of those values in label `resolution.tekton.dev/type`, fetches
//! what their params ask for, and writes it to their status. Requests for other resolvers are left to whoever handles
//! their label (P-329).
//!
//! Each resolver is one module behind one trait, [`framework::Resolver`]; what it decides (which params, which URL, what
//! an answer means) is a function of values, and what it does goes through [`fetch`], which reaches no address that the
//! [`AddressPolicy`] forbids.
#![forbid(unsafe_code)]

mod address;
mod answering;
mod bundle;
mod cache;
mod cluster;
mod fetch;
mod framework;
mod git;
mod http;
mod hub;
mod params;
mod secrets;
mod settings;

pub use address::{AddressPolicy, NetworkError};
pub use answering::{Leads, ResolverOptions, Resolvers, Share};
pub use fetch::Proxies;
pub use hub::HubUrls;
