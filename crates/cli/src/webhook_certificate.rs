//! The webhooks' certificates, in a Secret that all processes of the installation share (T-422).
//!
//! Nobody is elected to renew them: whoever finds them wanting writes new ones on the version it has seen, and who comes
//! second takes what the first has written.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, Client};
use tektite_cluster::ServerCertificate;
use tektite_controller::WebhookService;

use crate::connect::api_failure;
use crate::exit::{Exit, Failure};

/// Keys of the Secret, upstream's.
const KEY: &str = "server-key.pem";
const CERTIFICATE: &str = "server-cert.pem";
const AUTHORITY: &str = "ca-cert.pem";
/// How long certificates are good for, and how long before their end they are renewed; upstream's.
const VALID: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const BEFORE: SignedDuration = SignedDuration::from_hours(24);
/// How often to be second before something else must be wrong.
const ATTEMPTS: usize = 10;

/// The Secret.
pub struct Certificates {
    api: Api<Secret>,
    name: String,
    /// Names by which the API server may call the service.
    names: Vec<String>,
}

impl Certificates {
    /// In Secret `name`, for `service`.
    pub fn new(client: &Client, service: &WebhookService, name: &str) -> Self {
        let WebhookService {
            namespace,
            name: host,
            ..
        } = service;
        Self {
            api: Api::namespaced(client.clone(), namespace),
            name: name.to_owned(),
            names: vec![
                host.clone(),
                format!("{host}.{namespace}"),
                format!("{host}.{namespace}.svc"),
                format!("{host}.{namespace}.svc.cluster.local"),
            ],
        }
    }

    /// Those in the Secret, or new ones in their place if they are missing or about to end.
    pub async fn current(&self) -> Result<ServerCertificate, Failure> {
        let what = format!("Secret {}", self.name);
        for _ in 0..ATTEMPTS {
            let found = self.api.get_opt(&self.name).await;
            let found = found.map_err(|error| api_failure(&what, error))?;
            let why = match found
                .as_ref()
                .map(|secret| standing(secret, Timestamp::now()))
            {
                Some(Ok(certificate)) => return Ok(certificate),
                Some(Err(why)) => why,
                None => "there is no such Secret",
            };
            tracing::info!(secret = self.name, why, "making certificates");
            let issued = ServerCertificate::issue(self.names.clone(), VALID)
                .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
            let parameters = PostParams::default();
            let written = match found {
                Some(secret) => {
                    let secret = filled(secret, &issued);
                    self.api.replace(&self.name, &parameters, &secret).await
                }
                None => {
                    let mut secret = Secret::default();
                    secret.metadata.name = Some(self.name.clone());
                    self.api.create(&parameters, &filled(secret, &issued)).await
                }
            };
            match written {
                Ok(_) => return Ok(issued),
                // Another was faster.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(api_failure(&what, error)),
            }
        }
        Err(Failure::new(
            Exit::Failed,
            format!("{what}: it changes all the time"),
        ))
    }
}

/// The certificates of a Secret, or why they will not do.
fn standing(secret: &Secret, now: Timestamp) -> Result<ServerCertificate, &'static str> {
    let read = |key: &str| {
        let value = secret.data.as_ref()?.get(key)?;
        String::from_utf8(value.0.clone()).ok()
    };
    let (Some(key), Some(certificate), Some(authority)) =
        (read(KEY), read(CERTIFICATE), read(AUTHORITY))
    else {
        return Err("the Secret has not all of server-key.pem, server-cert.pem and ca-cert.pem");
    };
    let found = ServerCertificate {
        certificate,
        key,
        authority,
    };
    if found.server_config().is_err() {
        return Err("what is in the Secret is no certificate with its key");
    }
    match found.end() {
        Some(end) if now + BEFORE < end => Ok(found),
        _ => Err("the certificate ends within a day"),
    }
}

fn filled(mut secret: Secret, issued: &ServerCertificate) -> Secret {
    let data = [
        (KEY, &issued.key),
        (CERTIFICATE, &issued.certificate),
        (AUTHORITY, &issued.authority),
    ];
    let data = data.map(|(key, value)| {
        let value = k8s_openapi::ByteString(value.clone().into_bytes());
        (key.to_owned(), value)
    });
    secret.data = Some(data.into());
    secret
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T-422
    #[test]
    fn certificates_are_renewed_when_they_are_missing_broken_or_about_to_end() {
        let names = vec!["svc.ns.svc".to_owned()];
        let issued = ServerCertificate::issue(names, VALID).expect("issued");
        let secret = filled(Secret::default(), &issued);
        let now = Timestamp::now();
        assert_eq!(standing(&secret, now), Ok(issued));
        let late = now + SignedDuration::from_hours(6 * 24 + 1);
        assert_eq!(
            standing(&secret, late),
            Err("the certificate ends within a day")
        );
        assert!(standing(&Secret::default(), now).is_err());
        for key in [KEY, CERTIFICATE, AUTHORITY] {
            let mut secret = secret.clone();
            secret.data.as_mut().expect("data").remove(key);
            assert!(standing(&secret, now).is_err(), "{key}");
        }
        let mut broken = secret;
        let data = broken.data.as_mut().expect("data");
        data.insert(CERTIFICATE.into(), k8s_openapi::ByteString(b"x".to_vec()));
        assert!(standing(&broken, now).is_err());
    }
}
