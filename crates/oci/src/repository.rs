//! Reading one repository of a registry: manifests and blobs, bounded in size, over whatever client the caller trusts.

use std::future::Future;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use reqwest::{RequestBuilder, Response, Url};
use serde::Deserialize;

use crate::digest::Digest;
use crate::refusal;
use crate::{Credentials, Reference};

/// The longest manifest, in bytes.
const MANIFEST: u64 = 4 * 1024 * 1024;
/// The longest answer with a token, in bytes.
const TOKEN: u64 = 1024 * 1024;

/// Whoever carries the requests: the caller's client, with its own rules about addresses, proxies and time.
pub trait Transport: Sync {
    /// Why no answer came.
    type Error: Send;

    /// Follows redirects; answers with any status are answers.
    fn get(&self, wanted: Get) -> impl Future<Output = Result<Fetched, Self::Error>> + Send;
}

/// A GET request.
#[derive(Clone)]
pub struct Get {
    /// Where.
    pub url: String,
    /// The header `Accept`.
    pub accept: String,
    /// The header `Authorization`.
    pub authorization: Option<String>,
    /// A longer body is an error, in bytes.
    pub limit: u64,
}

impl Get {
    /// Puts the headers on a request.
    pub fn with_headers(&self, mut request: RequestBuilder) -> RequestBuilder {
        request = request.header(header::ACCEPT, &self.accept);
        match &self.authorization {
            Some(authorization) => request.header(header::AUTHORIZATION, authorization),
            None => request,
        }
    }
}

/// What was answered.
#[derive(Debug)]
pub struct Fetched {
    /// The answer's status.
    pub status: StatusCode,
    /// The answer's headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// Where it came from in the end.
    pub url: Url,
}

impl Fetched {
    /// Reads an answer to its end; nothing if its body is longer than `limit` bytes.
    ///
    /// # Errors
    /// If the connection breaks on the way.
    pub async fn read(mut response: Response, limit: u64) -> reqwest::Result<Option<Self>> {
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await? {
            if (body.len() + chunk.len()) as u64 > limit {
                return Ok(None);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Some(Self {
            status: response.status(),
            url: response.url().clone(),
            headers: std::mem::take(response.headers_mut()),
            body: body.freeze(),
        }))
    }
}

/// Why a repository did not give what was wanted.
#[derive(Debug, thiserror::Error)]
pub enum ReadError<E> {
    /// No answer came.
    #[error("{0}")]
    Transport(E),
    /// The registry refused.
    #[error("{text}")]
    Refused {
        /// With which status.
        status: StatusCode,
        /// `GET <url>: <what it said>`.
        text: String,
    },
    /// The answer makes no sense.
    #[error("{0}")]
    Invalid(String),
}

impl<E> ReadError<E> {
    /// Whether the registry's answer may be another one a moment later.
    pub fn is_passing(&self) -> bool {
        matches!(self, ReadError::Refused { status, .. }
            if matches!(status.as_u16(), 408 | 429 | 499 | 500 | 502 | 503 | 504 | 522))
    }
}

/// A manifest or index as the registry has it.
#[derive(Clone, Debug)]
pub struct RawManifest {
    /// Its digest, `sha256:…`.
    pub digest: String,
    /// What the registry says it is, without parameters; may be empty.
    pub media_type: String,
    /// Its text.
    pub content: Bytes,
}

/// One repository, and how we are known there.
pub struct Repository<'a, T> {
    transport: &'a T,
    reference: &'a Reference,
    base: String,
    authorization: Option<String>,
}

impl<'a, T: Transport> Repository<'a, T> {
    /// Finds out how the registry is reached, and which of the credentials it takes; the last try is without any.
    pub async fn open(
        transport: &'a T,
        reference: &'a Reference,
        credentials: &Credentials,
    ) -> Result<Self, ReadError<T::Error>> {
        let host = reference.registry_host();
        let mut problem = None;
        for scheme in schemes(host) {
            let base = format!("{scheme}://{host}/v2");
            let mut repository = Self {
                transport,
                reference,
                base: format!("{base}/{}", reference.repository()),
                authorization: None,
            };
            let hello = format!("{base}/");
            match repository.fetch(&hello, "*/*", TOKEN, None).await {
                Ok(answer) => {
                    repository.log_in(&hello, &answer, credentials).await?;
                    return Ok(repository);
                }
                Err(error) => problem = problem.or(Some(error)),
            }
        }
        Err(problem.unwrap_or_else(|| ReadError::Invalid(format!("{host}: there is no way to it"))))
    }

    async fn log_in(
        &mut self,
        hello: &str,
        answer: &Fetched,
        credentials: &Credentials,
    ) -> Result<(), ReadError<T::Error>> {
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(());
        }
        let challenge = answer
            .headers
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .find_map(Challenge::read);
        let fitting = credentials.fitting(self.reference);
        let logins = fitting.iter().map(|(user, password)| basic(user, password));
        self.authorization = match challenge {
            Some(Challenge::Basic) => self.first_taken(hello, logins.collect()).await?,
            Some(Challenge::Bearer { realm, service }) => {
                let attempts = logins.map(Some).chain([None]);
                Some(self.token(&realm, &service, attempts.collect()).await?)
            }
            None => {
                return Err(ReadError::Invalid(format!(
                    "{}: the registry wants to know who asks, but not in a way that is understood",
                    self.reference.registry()
                )));
            }
        };
        Ok(())
    }

    /// The first of several logins that the registry knows; if it knows none, the first, whose refusal is then reported.
    async fn first_taken(
        &self,
        hello: &str,
        logins: Vec<String>,
    ) -> Result<Option<String>, ReadError<T::Error>> {
        if logins.len() > 1 {
            for login in &logins {
                let answer = self.fetch(hello, "*/*", TOKEN, Some(login.clone())).await?;
                if answer.status != StatusCode::UNAUTHORIZED {
                    return Ok(Some(login.clone()));
                }
            }
        }
        Ok(logins.into_iter().next())
    }

    /// The header for the first of the attempts that gets a token, else the first refusal.
    async fn token(
        &self,
        realm: &str,
        service: &str,
        attempts: Vec<Option<String>>,
    ) -> Result<String, ReadError<T::Error>> {
        let mut refusal = None;
        for attempt in attempts {
            match self.one_token(realm, service, attempt).await {
                Ok(token) => return Ok(format!("Bearer {token}")),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        Err(refusal.unwrap_or_else(|| ReadError::Invalid(format!("{realm}: nobody asked"))))
    }

    async fn one_token(
        &self,
        realm: &str,
        service: &str,
        login: Option<String>,
    ) -> Result<String, ReadError<T::Error>> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Answer {
            token: String,
            access_token: String,
        }
        let invalid = |what: &dyn std::fmt::Display| ReadError::Invalid(format!("{realm}: {what}"));
        let scope = format!("repository:{}:pull", self.reference.repository());
        let mut url = Url::parse(realm).map_err(|error| invalid(&error))?;
        url.query_pairs_mut()
            .append_pair("scope", &scope)
            .append_pair("service", service);
        let fetched = self.fetch(url.as_str(), "*/*", TOKEN, login).await?;
        let fetched = accepted(fetched)?;
        let answer: Answer =
            serde_json::from_slice(&fetched.body).map_err(|error| invalid(&error))?;
        match (answer.token, answer.access_token) {
            (token, _) if !token.is_empty() => Ok(token),
            (_, token) if !token.is_empty() => Ok(token),
            _ => Err(invalid(&"no token in the answer")),
        }
    }

    async fn fetch(
        &self,
        url: &str,
        accept: &str,
        limit: u64,
        authorization: Option<String>,
    ) -> Result<Fetched, ReadError<T::Error>> {
        let wanted = Get {
            url: url.to_owned(),
            accept: accept.to_owned(),
            authorization,
            limit,
        };
        self.transport
            .get(wanted)
            .await
            .map_err(ReadError::Transport)
    }

    async fn get(
        &self,
        path: &str,
        accept: &str,
        limit: u64,
    ) -> Result<Fetched, ReadError<T::Error>> {
        let url = format!("{}/{path}", self.base);
        let authorization = self.authorization.clone();
        accepted(self.fetch(&url, accept, limit, authorization).await?)
    }

    /// The manifest or index of a tag or digest, of one of the media types. A digest is checked.
    pub async fn manifest(
        &self,
        version: &str,
        accept: &[&str],
    ) -> Result<RawManifest, ReadError<T::Error>> {
        let path = format!("manifests/{version}");
        let fetched = self.get(&path, &accept.join(","), MANIFEST).await?;
        let digest = Digest::of(&fetched.body).to_string();
        if version.contains(':') && version != digest {
            return Err(ReadError::Invalid(format!(
                "manifest digest: \"{digest}\" does not match requested digest: \"{version}\" for \"{}@{version}\"",
                self.reference.upstream_name()
            )));
        }
        let media_type = fetched.headers.get(header::CONTENT_TYPE);
        let media_type = media_type.and_then(|value| value.to_str().ok());
        let media_type = media_type.and_then(|text| text.split(';').next());
        Ok(RawManifest {
            digest,
            media_type: media_type.unwrap_or_default().trim().to_owned(),
            content: fetched.body,
        })
    }

    /// A blob as it is stored, of at most `limit` bytes. Its digest is checked.
    pub async fn blob(&self, digest: &str, limit: u64) -> Result<Bytes, ReadError<T::Error>> {
        let fetched = self.get(&format!("blobs/{digest}"), "*/*", limit).await?;
        let actual = Digest::of(&fetched.body);
        if actual.as_str() != digest {
            return Err(ReadError::Invalid(format!(
                "blob digest: \"{actual}\" does not match requested digest: \"{digest}\""
            )));
        }
        Ok(fetched.body)
    }
}

fn accepted<E>(fetched: Fetched) -> Result<Fetched, ReadError<E>> {
    match fetched.status {
        StatusCode::OK => Ok(fetched),
        status => Err(ReadError::Refused {
            status,
            text: refusal::text(&fetched),
        }),
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
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
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
