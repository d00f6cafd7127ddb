//! `tektite controller`: the controllers alone, against any cluster that has the CRDs.

use tektite_controller::{Acting, Controller, ControllerOptions, LeaderElection};
use tektite_engine::taskrun::pod::EntrypointDelivery;
use tektite_resolvers::{AddressPolicy, Resolvers};
use tokio_util::sync::CancellationToken;

use crate::arguments;
use crate::connect::connect;
use crate::exit::{Exit, Failure, Outcome};
use crate::resolving::resolver_options;
use crate::terminal::print_error;

/// Works until it is told to stop.
pub async fn run(arguments: arguments::Controller) -> Outcome {
    let connection = connect(&arguments.target).await?;
    let mut options = ControllerOptions {
        namespace: arguments.target.namespace.clone(),
        acting: Acting::Elected(LeaderElection::anyone()),
        ..ControllerOptions::default()
    };
    let image = arguments.entrypoint_image.clone();
    let pods = &mut options.pod_options;
    pods.nop_image.clone_from(&image);
    pods.sidecar_log_results_image.clone_from(&image);
    pods.entrypoint = EntrypointDelivery::InitContainer { image };
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let mut requests = super::StopRequests::listen()?;
    tokio::spawn(async move {
        requests.next().await;
        stop.cancel();
    });
    print_error("controller running\n");
    let resolving = resolver_options(AddressPolicy::cluster(), options.namespace.clone());
    let resolvers = Resolvers::run(connection.client.clone(), resolving, shutdown.child_token());
    tokio::spawn(resolvers);
    match Controller::run(connection.client, options, shutdown).await {
        Ok(()) => Ok(Exit::Success),
        Err(error) => Err(Failure::new(Exit::Failed, error.to_string())
            .hint("`tektite crds | kubectl apply --server-side -f -` installs the CRDs")),
    }
}
