//! Reading a manifest and a blob from a registry, over the resolvers' guarded client: the registry, where it sends us and
//! where it says that tokens are to be had are all named by others.

use reqwest::{Method, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tektite_oci::{Credentials, Reference};

use crate::fetch::{FetchError, Fetched, Fetcher};
use crate::framework::{ResolveError, hex};

/// The longest manifest.
const MANIFEST: u64 = 4 * 1024 * 1024;
/// The longest layer as it is sent.
const LAYER: u64 = 8 * 1024 * 1024;
/// The longest answer with a token.
const TOKEN: u64 = 1024 * 1024;

const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, \
                        application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// Why the registry did not give what was wanted.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) error: ResolveError,
    /// Whether another try may help.
    pub(super) passing: bool,
}

impl Refusal {
    fn of_answer(text: String, status: StatusCode) -> Self {
        Self {
            error: ResolveError::Failed(text),
            passing: matches!(
                status.as_u16(),
                408 | 429 | 499 | 500 | 502 | 503 | 504 | 522
            ),
        }
    }

    pub(super) fn last(text: impl Into<String>) -> Self {
        Self {
            error: ResolveError::Failed(text.into()),
            passing: false,
        }
    }
}

impl From<FetchError> for Refusal {
    fn from(error: FetchError) -> Self {
        Self {
            passing: matches!(error, FetchError::TimedOut(_) | FetchError::Failed(_)),
            error: error.into(),
        }
    }
}

/// One repository of a registry, and how we are known there.
pub(super) struct Repository<'a> {
    fetcher: &'a Fetcher,
    reference: &'a Reference,
    base: String,
    authorization: Option<String>,
}

/// A manifest with its digest.
pub(super) struct Manifest {
    pub(super) digest: String,
    pub(super) content: Value,
}

impl<'a> Repository<'a> {
    /// Finds out how the registry is reached, and which of the credentials it takes; the last try is without any.
    pub(super) async fn open(
        fetcher: &'a Fetcher,
        reference: &'a Reference,
        credentials: &Credentials,
    ) -> Result<Self, Refusal> {
        let host = host(reference.registry());
        let mut problem = None;
        for scheme in schemes(host) {
            let base = format!("{scheme}://{host}/v2");
            let hello = fetcher.request(Method::GET, &format!("{base}/"))?;
            let hello = match fetcher.send(hello, TOKEN).await {
                Ok(hello) => hello,
                Err(error) => {
                    problem = problem.or(Some(error));
                    continue;
                }
            };
            let mut repository = Self {
                fetcher,
                reference,
                base: format!("{base}/{}", reference.repository()),
                authorization: None,
            };
            repository.log_in(&hello, credentials).await?;
            return Ok(repository);
        }
        Err(problem.map_or_else(
            || Refusal::last(format!("{host}: there is no way to it")),
            Refusal::from,
        ))
    }

    async fn log_in(&mut self, hello: &Fetched, credentials: &Credentials) -> Result<(), Refusal> {
        if hello.status != StatusCode::UNAUTHORIZED {
            return Ok(());
        }
        let challenge = hello
            .headers
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .find_map(Challenge::read);
        let fitting = credentials.fitting(self.reference);
        match challenge {
            Some(Challenge::Basic) => {
                self.authorization = fitting
                    .first()
                    .map(|(user, password)| basic(user, password));
                Ok(())
            }
            Some(Challenge::Bearer { realm, service }) => {
                let mut attempts: Vec<Option<(String, String)>> =
                    fitting.into_iter().map(Some).collect();
                attempts.push(None);
                let mut refusal = None;
                for attempt in attempts {
                    match self.token(&realm, &service, attempt).await {
                        Ok(token) => {
                            self.authorization = Some(format!("Bearer {token}"));
                            return Ok(());
                        }
                        Err(error) => refusal = refusal.or(Some(error)),
                    }
                }
                Err(refusal.unwrap_or_else(|| Refusal::last("no credentials")))
            }
            None => Err(Refusal::last(format!(
                "{}: the registry wants to know who asks, but not in a way that is understood",
                self.reference.registry()
            ))),
        }
    }

    async fn token(
        &self,
        realm: &str,
        service: &str,
        login: Option<(String, String)>,
    ) -> Result<String, Refusal> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Answer {
            token: String,
            access_token: String,
        }
        let scope = format!("repository:{}:pull", self.reference.repository());
        let mut url = reqwest::Url::parse(realm)
            .map_err(|error| Refusal::last(format!("realm {realm}: {error}")))?;
        url.query_pairs_mut()
            .append_pair("scope", &scope)
            .append_pair("service", service);
        let mut call = self.fetcher.request(Method::GET, url.as_str())?;
        if let Some((user, password)) = login {
            call = call.header(header::AUTHORIZATION, basic(&user, &password));
        }
        let fetched = self.fetcher.send(call, TOKEN).await?;
        if fetched.status != StatusCode::OK {
            return Err(refused(&fetched));
        }
        let answer: Answer = serde_json::from_slice(&fetched.body)
            .map_err(|error| Refusal::last(format!("{realm}: {error}")))?;
        match (answer.token, answer.access_token) {
            (token, _) if !token.is_empty() => Ok(token),
            (_, token) if !token.is_empty() => Ok(token),
            _ => Err(Refusal::last(format!("{realm}: no token in the answer"))),
        }
    }

    async fn get(&self, path: &str, accept: &str, limit: u64) -> Result<Fetched, Refusal> {
        let url = format!("{}/{path}", self.base);
        let mut call = self
            .fetcher
            .request(Method::GET, &url)?
            .header(header::ACCEPT, accept);
        if let Some(authorization) = &self.authorization {
            call = call.header(header::AUTHORIZATION, authorization);
        }
        let fetched = self.fetcher.send(call, limit).await?;
        if fetched.status != StatusCode::OK {
            return Err(refused(&fetched));
        }
        Ok(fetched)
    }

    /// The image's manifest; of an index that for Linux on amd64, as upstream's resolver takes it.
    pub(super) async fn manifest(&self) -> Result<Manifest, Refusal> {
        let wanted = self.reference.digest().or(self.reference.tag());
        let manifest = self.manifest_at(wanted.unwrap_or("latest")).await?;
        let Some(children) = manifest.content["manifests"].as_array() else {
            return Ok(manifest);
        };
        let fits = |child: &&Value| {
            child["platform"]["os"] == "linux" && child["platform"]["architecture"] == "amd64"
        };
        let child = children
            .iter()
            .find(fits)
            .and_then(|child| child["digest"].as_str())
            .ok_or_else(|| {
                Refusal::last("no child with platform linux/amd64 in index".to_owned())
            })?;
        self.manifest_at(child).await
    }

    async fn manifest_at(&self, reference: &str) -> Result<Manifest, Refusal> {
        let fetched = self
            .get(&format!("manifests/{reference}"), ACCEPTED, MANIFEST)
            .await?;
        let digest = format!("sha256:{}", hex(&Sha256::digest(&fetched.body)));
        if reference.contains(':') && reference != digest {
            return Err(Refusal::last(format!(
                "manifest digest: \"{digest}\" does not match requested digest: \"{reference}\""
            )));
        }
        let content = serde_json::from_slice(&fetched.body)
            .map_err(|error| Refusal::last(format!("could not parse image manifest: {error}")))?;
        Ok(Manifest { digest, content })
    }

    /// A layer's bytes as they are stored.
    pub(super) async fn blob(&self, digest: &str) -> Result<bytes::Bytes, Refusal> {
        let fetched = self.get(&format!("blobs/{digest}"), "*/*", LAYER).await?;
        let actual = format!("sha256:{}", hex(&Sha256::digest(&fetched.body)));
        if actual != digest {
            return Err(Refusal::last(format!(
                "layer digest: \"{actual}\" does not match requested digest: \"{digest}\""
            )));
        }
        Ok(fetched.body)
    }
}

/// Where Docker Hub answers.
fn host(registry: &str) -> &str {
    match registry {
        "docker.io" => "registry-1.docker.io",
        other => other,
    }
}

/// Plain HTTP is for registries of this machine, of private networks by address, and of the local domain; TLS goes first.
fn schemes(host: &str) -> &'static [&'static str] {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    let private = match name.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(v4)) => v4.is_private() || v4.is_loopback(),
        Ok(std::net::IpAddr::V6(v6)) => v6.is_loopback(),
        Err(_) => false,
    };
    if private || name == "localhost" || name.ends_with(".local") || name.ends_with(".localhost") {
        &["https", "http"]
    } else {
        &["https"]
    }
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("Basic {pair}")
}

/// What a registry says of a request it refuses: `GET <url>: CODE: message; …`.
fn refused(fetched: &Fetched) -> Refusal {
    let body: Value = serde_json::from_slice(&fetched.body).unwrap_or_default();
    let errors: Vec<String> = body["errors"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|error| {
            let text = |field: &str| error[field].as_str().unwrap_or_default().to_owned();
            format!("{}: {}", text("code"), text("message"))
        })
        .collect();
    let said = if errors.is_empty() {
        format!("unexpected status code {}", fetched.status)
    } else {
        errors.join("; ")
    };
    Refusal::of_answer(format!("GET {}: {said}", fetched.url), fetched.status)
}

/// What a registry wants before it answers.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: String },
}

impl Challenge {
    fn read(header: &str) -> Option<Self> {
        let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let value = |name: &str| {
            let (_, after) = rest.split_once(&format!("{name}=\""))?;
            after.split('"').next().map(str::to_owned)
        };
        Some(Self::Bearer {
            realm: value("realm")?,
            service: value("service").unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        for (header, expected) in [
            ("Basic realm=\"x\"", Some(Challenge::Basic)),
            (
                "Bearer realm=\"https://auth.example/token\",service=\"reg\",scope=\"a,b\"",
                Some(Challenge::Bearer {
                    realm: "https://auth.example/token".into(),
                    service: "reg".into(),
                }),
            ),
            ("Bearer service=\"reg\"", None),
            ("Negotiate", None),
        ] {
            assert_eq!(Challenge::read(header), expected, "{header}");
        }
    }

    #[test]
    fn plain_http_is_only_for_what_is_near() {
        for (host, plain) in [
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("[::1]:5000", true),
            ("10.1.2.3", true),
            ("registry.local", true),
            ("ghcr.io", false),
            ("8.8.8.8:5000", false),
            ("notlocalhost:5000", false),
        ] {
            assert_eq!(schemes(host).contains(&"http"), plain, "{host}");
        }
    }
}
