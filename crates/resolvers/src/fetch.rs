//! HTTP to servers that requests name: only to addresses the policy permits, bounded in size, time and redirects.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, NoProxy, Proxy, Request, Url};
use tektite_oci::{Fetched, with_causes};

use crate::address::AddressPolicy;
use crate::framework::ResolveError;

/// Redirects that are followed.
const REDIRECTS: usize = 10;
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(20);
/// How long a connection is kept for the next request of the same fetch.
const IDLE: Duration = Duration::from_secs(10);

/// Proxies as the usual variables name them. Never used for this machine's own addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// `HTTP_PROXY`.
    pub http: Option<String>,
    /// `HTTPS_PROXY`.
    pub https: Option<String>,
    /// `NO_PROXY`.
    pub except: String,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum FetchError {
    /// The URL is none, or not one for HTTP.
    Url(String),
    /// No answer came in time.
    TimedOut(String),
    /// The body is longer than was asked for; the bytes that are allowed.
    TooLarge(u64),
    /// Anything else, with all causes.
    Failed(String),
}

impl From<FetchError> for ResolveError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Url(text) | FetchError::Failed(text) => Self::Failed(text),
            FetchError::TimedOut(text) => Self::Transient(text),
            FetchError::TooLarge(limit) => Self::Failed(format!(
                "response body exceeds maximum allowed size of {limit} bytes"
            )),
        }
    }
}

/// The client all resolvers share.
pub(crate) struct Fetcher {
    policy: AddressPolicy,
    client: OnceLock<Result<Client, String>>,
    proxies: Proxies,
}

impl Fetcher {
    pub(crate) fn new(policy: AddressPolicy, proxies: Proxies) -> Self {
        Self {
            policy,
            client: OnceLock::new(),
            proxies,
        }
    }

    /// The policy it keeps.
    pub(crate) fn policy(&self) -> &AddressPolicy {
        &self.policy
    }

    /// Built when first needed: reading the system's certificates takes longer than a whole run.
    fn client(&self) -> Result<&Client, FetchError> {
        let built = self.client.get_or_init(|| {
            build(&self.policy, &self.proxies).map_err(|error| with_causes(&error))
        });
        built
            .as_ref()
            .map_err(|text| FetchError::Failed(text.clone()))
    }

    /// A request to be filled in and [sent](Self::send).
    pub(crate) fn request(
        &self,
        method: reqwest::Method,
        url: &str,
    ) -> Result<reqwest::RequestBuilder, FetchError> {
        let url = Url::parse(url).map_err(|error| FetchError::Url(format!("{url}: {error}")))?;
        Ok(self.client()?.request(method, url))
    }

    /// Sends the request and reads an answer of at most `limit` bytes.
    pub(crate) async fn send(
        &self,
        request: reqwest::RequestBuilder,
        limit: u64,
    ) -> Result<Fetched, FetchError> {
        let request: Request = request
            .build()
            .map_err(|error| FetchError::Url(with_causes(&error)))?;
        check_url(request.url(), &self.policy).map_err(FetchError::Failed)?;
        let response = self.client()?.execute(request).await.map_err(failed)?;
        let fetched = Fetched::read(response, limit).await.map_err(failed)?;
        fetched.ok_or(FetchError::TooLarge(limit))
    }
}

/// Fetchers by policy: a changed policy holds for every request that begins after it.
pub(crate) struct Fetchers {
    proxies: Proxies,
    last: Mutex<Option<Arc<Fetcher>>>,
}

impl Fetchers {
    pub(crate) fn new(proxies: Proxies) -> Self {
        Self {
            proxies,
            last: Mutex::new(None),
        }
    }

    pub(crate) fn with(&self, policy: AddressPolicy) -> Arc<Fetcher> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(fetcher) if fetcher.policy == policy => Arc::clone(fetcher),
            _ => {
                let fetcher = Arc::new(Fetcher::new(policy, self.proxies.clone()));
                *last = Some(Arc::clone(&fetcher));
                fetcher
            }
        }
    }
}

fn build(policy: &AddressPolicy, proxies: &Proxies) -> Result<Client, reqwest::Error> {
    // Another part of the program may have chosen a provider; either will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let redirects = policy.clone();
    let follow = Policy::custom(move |attempt| {
        if attempt.previous().len() > REDIRECTS {
            return attempt.error(format!("stopped after {REDIRECTS} redirects"));
        }
        match check_url(attempt.url(), &redirects) {
            Ok(()) => attempt.follow(),
            Err(text) => attempt.error(text),
        }
    });
    let mut builder = Client::builder()
        .user_agent(concat!("tektite/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(PermittedNames(policy.clone()))
        .redirect(follow)
        .connect_timeout(CONNECT)
        .pool_idle_timeout(IDLE)
        .no_proxy();
    let except = format!("localhost,127.0.0.0/8,::1,{}", proxies.except);
    let except = NoProxy::from_string(&except);
    if let Some(proxy) = &proxies.http {
        builder = builder.proxy(Proxy::http(proxy.as_str())?.no_proxy(except.clone()));
    }
    if let Some(proxy) = &proxies.https {
        builder = builder.proxy(Proxy::https(proxy.as_str())?.no_proxy(except));
    }
    builder.build()
}

fn failed(error: reqwest::Error) -> FetchError {
    let text = with_causes(&error);
    if error.is_timeout() {
        FetchError::TimedOut(text)
    } else {
        FetchError::Failed(text)
    }
}

/// Whether a URL may be asked, as far as can be said before its name is looked up.
fn check_url(url: &Url, policy: &AddressPolicy) -> Result<(), String> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("{url}: only http and https are fetched"));
    }
    let host = url.host_str().unwrap_or_default();
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    match literal.parse::<IpAddr>() {
        Ok(address) if !policy.permits(address) => Err(forbidden(host)),
        _ => Ok(()),
    }
}

/// What is said of a host that may not be reached.
pub(crate) fn forbidden(host: &str) -> String {
    format!(
        "connections to {host} are forbidden by the address policy (ConfigMap resolver-address-policy)"
    )
}

/// The permitted addresses of a host.
///
/// # Errors
/// If the name is not known, or only by forbidden addresses.
pub(crate) async fn look_up(
    host: &str,
    port: u16,
    policy: &AddressPolicy,
) -> std::io::Result<Vec<SocketAddr>> {
    let found: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    let none = found.is_empty();
    let permitted: Vec<SocketAddr> = found
        .into_iter()
        .filter(|address| policy.permits(address.ip()))
        .collect();
    if permitted.is_empty() && !none {
        return Err(std::io::Error::new(
            std::io::ErrorKind::PermissionDenied,
            forbidden(host),
        ));
    }
    Ok(permitted)
}

/// Looks names up, and leaves out what the policy forbids: the connection goes to an address that was checked.
struct PermittedNames(AddressPolicy);

impl Resolve for PermittedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.0.clone();
        Box::pin(async move {
            let permitted = look_up(name.as_str(), 0, &policy).await?;
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}
