//! The resolver `http`: a file at a URL (P-343 to P-346).

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::{Method, StatusCode, Url};
use sha2::{Digest as _, Sha256, Sha512};
use tektite_api::v1::RefSource;

use crate::fetch::FetchError;
use crate::framework::{
    Identity, Request, ResolveError, Resolved, Resolver, Surroundings, TIMEOUT, hex,
};
use crate::params::Params;
use crate::secrets::{SecretKey, read_secret};
use crate::settings::{Map, duration};

/// The longest file (P-346).
const LIMIT: u64 = 1024 * 1024;

const URL: &str = "url";
const USERNAME: &str = "http-username";
const SECRET: &str = "http-password-secret";
const SECRET_KEY: &str = "http-password-secret-key";

pub(crate) struct Http;

impl Resolver for Http {
    fn identity(&self) -> &'static Identity {
        &Identity {
            label: "http",
            title: "Http",
            config_map: "http-resolver-config",
            flag: "enable-http-resolver",
        }
    }

    fn validate(&self, request: &Request) -> Result<(), String> {
        check(&request.params)
    }

    fn resolve<'a>(
        &'a self,
        request: &'a Request,
        with: &'a Surroundings,
    ) -> BoxFuture<'a, Result<Resolved, ResolveError>> {
        Box::pin(resolve(request, with))
    }
}

fn check(params: &Params) -> Result<(), String> {
    if let Some(url) = params.get(URL) {
        let parsed = Url::parse(url).map_err(|error| format!("cannot parse url {url}: {error}"))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(format!("url {url} is not a valid http(s) url"));
        }
    }
    for (one, other) in [(USERNAME, SECRET), (SECRET, USERNAME)] {
        if let Some(value) = params.get(one) {
            if params.get(other).is_none() {
                return Err(format!("missing required param {other} when using {one}"));
            }
            if value.is_empty() {
                return Err(format!("value {one} cannot be empty"));
            }
        }
    }
    match params.get(URL) {
        Some(_) => Ok(()),
        None => Err("missing required http resolver params: url".into()),
    }
}

fn timeout(config: &Map) -> Result<Duration, String> {
    let given = duration(config, "fetch-timeout").map_err(|error| {
        let value = config.get("fetch-timeout").map_or("", String::as_str);
        format!("error parsing timeout value {value}: {error}")
    })?;
    Ok(given.unwrap_or(TIMEOUT))
}

async fn resolve(request: &Request, with: &Surroundings) -> Result<Resolved, ResolveError> {
    let params = &request.params;
    let timeout = timeout(&request.config)?;
    let url = params.get(URL).unwrap_or_default();
    let doing = |error: FetchError| ResolveError::from(error).doing("error fetching URL");
    let mut call = with
        .fetcher
        .request(Method::GET, url)
        .map_err(doing)?
        .timeout(timeout);
    if let Some(secret) = params.get(SECRET) {
        let password = SecretKey {
            namespace: request.namespace.clone(),
            name: secret.to_owned(),
            key: params.filled(SECRET_KEY).unwrap_or("password").to_owned(),
        };
        let password = read_secret(with, &password).await?;
        let password = String::from_utf8_lossy(&password).into_owned();
        call = call.basic_auth(params.get(USERNAME).unwrap_or_default(), Some(password));
    }
    let fetched = match with.fetcher.send(call, LIMIT).await {
        Err(too_large @ FetchError::TooLarge(_)) => return Err(too_large.into()),
        other => other.map_err(doing)?,
    };
    if fetched.status != StatusCode::OK {
        return Err(ResolveError::Failed(format!(
            "requested URL '{url}' is not found"
        )));
    }
    if let Some(digest) = params.get("digest") {
        check_digest(digest, &fetched.body)
            .map_err(|error| format!("error validating digest: {error}"))?;
    }
    let digest = BTreeMap::from([("sha256".to_owned(), hex(&Sha256::digest(&fetched.body)))]);
    Ok(Resolved {
        source: RefSource {
            uri: url.to_owned(),
            digest,
            entry_point: String::new(),
        },
        data: fetched.body.to_vec(),
        ..Resolved::default()
    })
}

/// Compares with a digest as the param has it (P-345).
fn check_digest(digest: &str, body: &[u8]) -> Result<(), String> {
    let (algorithm, expected) = digest
        .split_once(':')
        .ok_or_else(|| format!("invalid digest format: {digest}"))?;
    let actual = match algorithm {
        "sha256" => hex(&Sha256::digest(body)),
        "sha512" => hex(&Sha512::digest(body)),
        other => return Err(format!("invalid digest algorithm: {other}")),
    };
    if expected.len() != actual.len() {
        return Err(format!(
            "invalid {algorithm} digest value, expected length: {}, got: {}",
            actual.len(),
            expected.len()
        ));
    }
    if !expected.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!(
            "error decoding expected SHA string: {expected} is not hexadecimal"
        ));
    }
    // Digests are no secrets: whoever can see the time a comparison takes has the file too.
    if !expected.eq_ignore_ascii_case(&actual) {
        return Err(format!("SHA mismatch, expected {expected}, got {actual}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P-343, P-344
    #[test]
    fn params_are_checked_with_upstreams_texts() {
        let url = ("url", "https://example.com/task.yaml");
        for (params, expected) in [
            (Params::from([url]), Ok(())),
            (Params::from([url, (USERNAME, "u"), (SECRET, "s")]), Ok(())),
            (
                Params::from([]),
                Err("missing required http resolver params: url"),
            ),
            (
                Params::from([("url", "ftp://example.com")]),
                Err("url ftp://example.com is not a valid http(s) url"),
            ),
            (
                Params::from([("url", "file:///etc/passwd")]),
                Err("url file:///etc/passwd is not a valid http(s) url"),
            ),
            (
                Params::from([("url", "")]),
                Err("cannot parse url : relative URL without a base"),
            ),
            (
                Params::from([url, (USERNAME, "u")]),
                Err("missing required param http-password-secret when using http-username"),
            ),
            (
                Params::from([url, (SECRET, "s")]),
                Err("missing required param http-username when using http-password-secret"),
            ),
            (
                Params::from([url, (USERNAME, ""), (SECRET, "s")]),
                Err("value http-username cannot be empty"),
            ),
            (
                Params::from([url, (USERNAME, "u"), (SECRET, "")]),
                Err("value http-password-secret cannot be empty"),
            ),
        ] {
            assert_eq!(
                check(&params).as_ref().map_err(String::as_str),
                expected.as_ref().copied().map(|_| &()).map_err(|e| *e),
                "{params:?}"
            );
        }
    }

    /// P-345
    #[test]
    fn digests_are_compared_and_their_form_is_checked() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for (digest, expected) in [
            (format!("sha256:{abc}"), None),
            (format!("sha256:{}", abc.to_uppercase()), None),
            (format!("sha512:{}", hex(&Sha512::digest(b"abc"))), None),
            (
                abc.to_owned(),
                Some(format!("invalid digest format: {abc}")),
            ),
            (
                format!("md5:{abc}"),
                Some("invalid digest algorithm: md5".to_owned()),
            ),
            (
                "sha256:ab".to_owned(),
                Some("invalid sha256 digest value, expected length: 64, got: 2".to_owned()),
            ),
            (
                format!("sha512:{abc}"),
                Some("invalid sha512 digest value, expected length: 128, got: 64".to_owned()),
            ),
            (
                format!("sha256:{}", "0".repeat(64)),
                Some(format!(
                    "SHA mismatch, expected {}, got {abc}",
                    "0".repeat(64)
                )),
            ),
        ] {
            assert_eq!(check_digest(&digest, b"abc").err(), expected, "{digest}");
        }
    }
}
