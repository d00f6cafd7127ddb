//! The HTTP client that images are looked up with.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::Client;
use reqwest::redirect::{Attempt, Policy};

use crate::error::with_causes;
use crate::repository::{Fetched, Get, Transport};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(30);
/// How long a whole answer may take: manifests and configurations are small.
const ANSWER: Duration = Duration::from_secs(60);
/// Redirects that are followed.
const REDIRECTS: usize = 10;

/// One client for all registries; proxies are those of the environment.
#[derive(Default)]
pub(crate) struct Http {
    client: OnceLock<Result<Client, String>>,
}

impl Http {
    /// Built when first needed: reading the system's certificates takes longer than a whole run.
    fn client(&self) -> Result<&Client, HttpError> {
        let built = self
            .client
            .get_or_init(|| build().map_err(|error| with_causes(&error)));
        built.as_ref().map_err(|text| HttpError {
            text: text.clone(),
            timed_out: false,
        })
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct HttpError {
    text: String,
    pub(crate) timed_out: bool,
}

impl From<reqwest::Error> for HttpError {
    fn from(error: reqwest::Error) -> Self {
        HttpError {
            text: with_causes(&error),
            // Who cannot be connected to in that time is not there.
            timed_out: error.is_timeout() && !error.is_connect(),
        }
    }
}

impl Transport for Http {
    type Error = HttpError;

    async fn get(&self, wanted: Get) -> Result<Fetched, HttpError> {
        let call = wanted.with_headers(self.client()?.get(&wanted.url));
        let fetched = Fetched::read(call.send().await?, wanted.limit).await?;
        fetched.ok_or_else(|| HttpError {
            text: format!("GET {}: longer than {} bytes", wanted.url, wanted.limit),
            timed_out: false,
        })
    }
}

fn build() -> Result<Client, reqwest::Error> {
    // Another part of the program may have chosen a provider; either will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .user_agent(concat!("tektite/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .timeout(ANSWER)
        .redirect(Policy::custom(|attempt| match refused(&attempt) {
            None => attempt.follow(),
            Some(text) => attempt.error(text),
        }))
        .build()
}

/// A registry that anybody may name must not lead the controller to its own machine, network or cloud's metadata.
fn refused(attempt: &Attempt<'_>) -> Option<String> {
    if attempt.previous().len() > REDIRECTS {
        return Some(format!("stopped after {REDIRECTS} redirects"));
    }
    let from = attempt.previous().first()?.host_str()?;
    let to = attempt.url().host_str()?;
    (from != to && is_inside(to)).then(|| {
        format!(
            "SSRF protection: redirect from \"{from}\" to private/link-local host \"{to}\" denied"
        )
    })
}

fn is_inside(host: &str) -> bool {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    match literal.parse::<IpAddr>() {
        Ok(IpAddr::V4(it)) => {
            it.is_loopback() || it.is_private() || it.is_link_local() || it.is_unspecified()
        }
        Ok(IpAddr::V6(it)) => {
            it.is_loopback()
                || it.is_unique_local()
                || it.is_unicast_link_local()
                || it.is_unspecified()
                || it
                    .to_ipv4_mapped()
                    .is_some_and(|it| is_inside(&it.to_string()))
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_strangers_must_not_lead_to_are_known() {
        for (host, inside) in [
            ("169.254.169.254", true),
            ("127.0.0.1", true),
            ("10.0.0.1", true),
            ("[fe80::1]", true),
            ("[fd00::1]", true),
            ("[::ffff:10.0.0.1]", true),
            ("8.8.8.8", false),
            ("cdn.example", false),
        ] {
            assert_eq!(is_inside(host), inside, "{host}");
        }
    }
}
