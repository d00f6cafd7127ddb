//! `tektite webhook`: admission and conversion for any cluster (P-011, T-422).

use std::time::Duration;

use tektite_cluster::ServerCertificate;
use tektite_controller::{
    ConfigHandle, ConfigMapNames, Controller, ControllerOptions, WebhookService, listen,
    register_webhooks, webhook_router,
};
use tokio::sync::watch;

use crate::arguments::Webhook as Arguments;
use crate::connect::connect_component;
use crate::exit::{Exit, Failure, Outcome};
use crate::terminal::print_error;
use crate::webhook_certificate::Certificates;
use crate::{probes, tls};

/// How often to see whether the certificates have been renewed, here or by another process.
const LOOK: Duration = Duration::from_secs(5);
/// How often to see to it, also, that the API server knows of the webhooks: somebody may have applied the CRDs anew.
const REGISTER: u32 = 12;

/// Answers until it is told to stop.
pub async fn run(arguments: Arguments) -> Outcome {
    let access = &arguments.access;
    let client = connect_component(&arguments.target, access, 1).await?;
    let service = WebhookService {
        namespace: access.system_namespace.clone(),
        name: arguments.service.clone(),
        admission: arguments.admission.clone(),
    };
    let certificates = Certificates::new(&client, &service, &arguments.secret);
    let certificate = certificates.current().await?;
    let names = ConfigMapNames::from_environment(|variable| std::env::var(variable).ok());
    let config = ConfigHandle::named(names);
    let shutdown = super::stop_token()?;
    let listener = listen("", arguments.port).await.map_err(|error| {
        Failure::new(
            Exit::Refused,
            format!("cannot listen on port {}: {error}", arguments.port),
        )
        .hint("--port or WEBHOOK_PORT names another; 0 takes any that is free")
    })?;
    let (secured, security) = watch::channel(server_config(&certificate)?);
    // The configuration first: nothing is admitted without it.
    let options = ControllerOptions {
        system_namespace: access.system_namespace.clone(),
        config: config.clone(),
        ..ControllerOptions::default()
    };
    let following = Controller::follow_configuration(client.clone(), options, shutdown.clone());
    let _following = following
        .await
        .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    probes::answer(&arguments.probes, &shutdown).await?;
    if let Ok(address) = listener.local_addr() {
        print_error(&format!("webhooks answering on port {}\n", address.port()));
    }
    let served = tls::serve(listener, security, webhook_router(config));
    let kept = async {
        let mut known = certificate;
        // In how many rounds the API server is to be told again.
        let mut again = 0;
        let mut told = false;
        loop {
            if again == 0 {
                match register_webhooks(&client, &service, &known.authority).await {
                    Ok(()) => {
                        if !std::mem::replace(&mut told, true) {
                            tracing::info!(
                                service = service.name,
                                "the API server knows of the webhooks"
                            );
                        }
                        again = REGISTER;
                    }
                    Err(error) => {
                        told = false;
                        tracing::warn!(%error, "the API server does not know of the webhooks; trying again");
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
            again = again.saturating_sub(1);
            let current = match certificates.current().await {
                Ok(current) if current != known => current,
                Ok(_) => continue,
                Err(failure) => {
                    tracing::warn!(?failure, "cannot look after the certificates");
                    continue;
                }
            };
            match server_config(&current) {
                Ok(config) => {
                    tracing::info!("using renewed certificates");
                    secured.send_replace(config);
                    known = current;
                    (again, told) = (0, false);
                }
                Err(failure) => tracing::error!(?failure, "the certificates are of no use"),
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => Ok(Exit::Success),
        () = served => Ok(Exit::Success),
        () = kept => Ok(Exit::Success),
    }
}

fn server_config(
    certificate: &ServerCertificate,
) -> Result<std::sync::Arc<tls::ServerConfig>, Failure> {
    certificate
        .server_config()
        .map_err(|error| Failure::new(Exit::Failed, error.to_string()))
}
