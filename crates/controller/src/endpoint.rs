//! Servers outside the cluster that something is posted to: again and later each time while they may yet take it.

use std::time::Duration;

use http::{Request, StatusCode, Uri, header};
use http_body_util::BodyExt;
use kube::client::Body;

/// The unit of the delays: the first retry comes after two, each further one after twice the time.
const PERIOD: Duration = Duration::from_millis(10);
/// How often a failed attempt is repeated.
const RETRIES: u32 = 10;
/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The server in use; a new one when the configuration names another.
pub(crate) struct Endpoints {
    /// What it is called in errors.
    what: &'static str,
    current: Option<(String, Endpoint)>,
}

impl Endpoints {
    pub(crate) fn of(what: &'static str) -> Self {
        Self {
            what,
            current: None,
        }
    }

    /// The one at `url`.
    ///
    /// # Errors
    /// Why it is no URL that something can be posted to.
    pub(crate) fn get(&mut self, url: &str) -> Result<Endpoint, String> {
        if let Some((known, endpoint)) = &self.current
            && known == url
        {
            return Ok(endpoint.clone());
        }
        let endpoint = Endpoint::new(url)
            .map_err(|cause| format!("the {} {url:?} cannot be used: {cause}", self.what))?;
        self.current = Some((url.to_owned(), endpoint.clone()));
        Ok(endpoint)
    }
}

/// Where to post.
#[derive(Clone)]
pub(crate) struct Endpoint {
    client: kube::Client,
    /// Path and query of its URL.
    target: Uri,
}

/// What came of an attempt.
enum Attempt {
    Taken,
    /// Again may help.
    Failed(String),
    /// Again will not help.
    Refused(String),
}

impl Endpoint {
    fn new(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("{error}"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err("it is no http or https URL".into());
        }
        let target = uri.path_and_query().cloned();
        let mut parts = uri.into_parts();
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
        let origin = Uri::from_parts(parts).map_err(|error| error.to_string())?;
        // The client of the API is an HTTP client with TLS like any other.
        let mut config = kube::Config::new(origin);
        config.default_retry = false;
        let client = kube::Client::try_from(config).map_err(|error| error.to_string())?;
        Ok(Self {
            client,
            target: target.map_or_else(|| Uri::from_static("/"), Uri::from),
        })
    }

    /// Posts JSON until it is taken, refused for good or was tried often enough.
    ///
    /// # Errors
    /// What the last attempt came to, and how often it was repeated.
    pub(crate) async fn post(
        &self,
        headers: &[(&'static str, &str)],
        json: &[u8],
    ) -> Result<(), String> {
        with_retries(|| self.attempt(headers, json)).await
    }

    async fn attempt(&self, headers: &[(&'static str, &str)], json: &[u8]) -> Attempt {
        let mut request = Request::post(self.target.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "close");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = match request.body(Body::from(json.to_vec())) {
            Ok(request) => request,
            Err(error) => return Attempt::Refused(error.to_string()),
        };
        let answer = tokio::time::timeout(PATIENCE, async {
            let response = self.client.send(request).await?;
            let status = response.status();
            // Read to its end, so that the connection is done with.
            let _ = response.into_body().collect().await;
            Ok::<_, kube::Error>(status)
        });
        match answer.await {
            Ok(Ok(status)) => judge(status),
            Ok(Err(error)) => Attempt::Failed(full_cause(&error)),
            Err(_) => Attempt::Failed(format!("no answer within {} seconds", PATIENCE.as_secs())),
        }
    }
}

/// An error with all that caused it.
fn full_cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

fn judge(status: StatusCode) -> Attempt {
    let code = status.as_u16();
    match code {
        _ if status.is_success() => Attempt::Taken,
        404 | 413 | 425 | 429 | 502..=504 => Attempt::Failed(format!("{code}: ")),
        _ => Attempt::Refused(format!("{code}: ")),
    }
}

async fn with_retries<F: Future<Output = Attempt>>(
    mut attempt: impl FnMut() -> F,
) -> Result<(), String> {
    let mut retries = 0;
    loop {
        let last = match attempt().await {
            Attempt::Taken => return Ok(()),
            Attempt::Failed(cause) if retries < RETRIES => {
                tracing::debug!(cause, retries, "posting again");
                None
            }
            Attempt::Failed(cause) | Attempt::Refused(cause) => Some(cause),
        };
        match last {
            Some(cause) if retries == 0 => return Err(cause),
            Some(cause) => return Err(format!("{cause} ({retries}x)")),
            None => {}
        }
        retries += 1;
        tokio::time::sleep(PERIOD * 2_u32.pow(retries)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn tried(answers: &[u16]) -> (Result<(), String>, Vec<u128>) {
        let start = tokio::time::Instant::now();
        let mut times = Vec::new();
        let mut answers = answers.iter();
        let mut last = 503;
        let result = with_retries(|| {
            times.push(start.elapsed().as_millis());
            last = answers.next().copied().unwrap_or(last);
            std::future::ready(judge(StatusCode::from_u16(last).unwrap()))
        });
        let result = result.await;
        (result, times)
    }

    /// T-408, P-386
    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_may_yet_succeed_is_repeated_ten_times_ever_later() {
        let (result, times) = tried(&[503, 429, 202]).await;
        assert_eq!((result, times), (Ok(()), vec![0, 20, 60]));
        let (result, times) = tried(&[]).await;
        assert_eq!(result, Err("503:  (10x)".into()));
        assert_eq!(times.len(), 11);
        assert_eq!(times[10], (1..=10).map(|n| 10 << n).sum::<u128>());
        for code in [400, 401, 500] {
            let (result, times) = tried(&[code]).await;
            assert_eq!((result, times.len()), (Err(format!("{code}: ")), 1));
        }
        let (result, _) = tried(&[404, 400]).await;
        assert_eq!(result, Err("400:  (1x)".into()));
    }

    #[test]
    fn what_is_no_url_is_told_of() {
        for url in ["", "sink", "ftp://sink", "http//sink"] {
            let error = Endpoints::of("sink").get(url).err().unwrap_or_default();
            assert!(
                error.starts_with(&format!("the sink {url:?} cannot be used: ")),
                "{error}"
            );
        }
    }
}
