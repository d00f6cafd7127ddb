//! `tektite controller`: the controllers alone, against any cluster that has the CRDs.

use std::num::NonZeroUsize;
use std::sync::Arc;

use tektite_controller::{
    Acting, ConfigHandle, ConfigMapNames, Controller, ControllerOptions, LeaderElection,
    MetricsAddress, StatefulSet,
};
use tektite_engine::taskrun::pod::{EntrypointDelivery, PodOptions};
use tektite_resolvers::AddressPolicy;
use tokio::task::JoinSet;

use crate::arguments::{Controller as Arguments, Images, Sharing};
use crate::connect::connect_component;
use crate::docker_config;
use crate::exit::{Exit, Failure, Outcome};
use crate::image_configs::RegistryConfigs;
use crate::probes;
use crate::resolving::{answer_requests, resolver_options};
use crate::terminal::print_error;

/// How many times the requests that one client may make the controllers and the resolvers make (T-420, P-397).
const TIMES: (u32, u32) = (2, 5);
/// How long the resolvers may take to give up what they lead, so that another need not wait for it.
const GIVING_UP: std::time::Duration = std::time::Duration::from_secs(1);
/// As many kinds are reconciled, each by threads of its own.
const KINDS: usize = 3;

/// Works until it is told to stop.
pub async fn run(arguments: Arguments) -> Outcome {
    let (target, access) = (&arguments.target, &arguments.access);
    let client = connect_component(target, access, TIMES.0).await?;
    let names = ConfigMapNames::from_environment(|variable| std::env::var(variable).ok());
    let defaults = ControllerOptions::default();
    let threads = arguments.threads_per_controller.map(NonZeroUsize::get);
    let options = ControllerOptions {
        namespace: target.namespace.clone().filter(|name| !name.is_empty()),
        system_namespace: access.system_namespace.clone(),
        config: ConfigHandle::named(names),
        acting: acting(&arguments.sharing)?,
        pod_options: pod_options(&arguments.images),
        image_configs: Arc::new(RegistryConfigs::new(docker_config::places())),
        parallelism: threads.map_or(defaults.parallelism, |threads| {
            threads.saturating_mul(KINDS)
        }),
        resync_period: jiff::SignedDuration::from(arguments.resync_period)
            .try_into()
            .unwrap_or_default(),
        metrics_address: Some(MetricsAddress {
            host: arguments.metrics_host.clone(),
            port: arguments.metrics_port,
        }),
        ..defaults
    };
    for flag in arguments.images.unused() {
        tracing::warn!(flag, "not used: the entrypoint does what that image is for");
    }
    let shutdown = super::stop_token()?;
    probes::answer(&arguments.probes, &shutdown).await?;
    print_error("controller running\n");
    let mut background = JoinSet::new();
    if !arguments.no_resolvers {
        let resolving = resolver_options(AddressPolicy::cluster(), options.namespace.clone());
        let client = connect_component(target, access, TIMES.1).await?;
        let election = match &options.acting {
            Acting::Elected(election) => Some(election.clone()),
            _ => None,
        };
        let answering = answer_requests(client, resolving, election, shutdown.child_token());
        background.spawn(answering);
    }
    let ended = Controller::run(client, options, shutdown).await;
    let _ = tokio::time::timeout(GIVING_UP, background.join_all()).await;
    match ended {
        Ok(()) => Ok(Exit::Success),
        Err(error) => Err(Failure::new(Exit::Failed, error.to_string())
            .hint("`tektite crds | kubectl apply --server-side -f -` installs the CRDs")),
    }
}

/// What pods run beside the steps' own images.
fn pod_options(images: &Images) -> PodOptions {
    let image = images.entrypoint_image.clone();
    let or_ours = |given: &Option<String>| given.clone().unwrap_or_else(|| image.clone());
    PodOptions {
        nop_image: or_ours(&images.nop_image),
        sidecar_log_results_image: or_ours(&images.sidecarlogresults_image),
        entrypoint: EntrypointDelivery::InitContainer {
            image: image.clone(),
        },
        ..PodOptions::default()
    }
}

/// When this process acts: always, by the place of its pod, or when elected (P-393, P-395).
fn acting(sharing: &Sharing) -> Result<Acting, Failure> {
    let config_map = sharing.leader_election.clone();
    if sharing.disable_ha {
        return Ok(Acting::Always);
    }
    let service = sharing.stateful_service.clone().unwrap_or_default();
    if let Some(pod) = &sharing.stateful_pod {
        let set = StatefulSet::of_pod(pod, service).map_err(|error| {
            Failure::new(Exit::Refused, error)
                .hint("STATEFUL_CONTROLLER_ORDINAL is the name of a StatefulSet's pod, such as controller-0")
        })?;
        return Ok(Acting::Assigned(StatefulSet {
            port: sharing.stateful_port.clone(),
            protocol: sharing.stateful_protocol.clone(),
            config_map,
            ..set
        }));
    }
    Ok(Acting::Elected(LeaderElection {
        config_map,
        ..LeaderElection::anyone()
    }))
}
