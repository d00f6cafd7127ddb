//! What every resolver is: a name, checks of params, a fetch, and what comes of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kube::Client;
use serde::Deserialize;
use tektite_api::v1::RefSource;

use crate::fetch::Fetcher;
use crate::params::Params;
use crate::settings::{Map, parse_duration};

/// How long a fetch may take unless the resolver's ConfigMap says otherwise (P-321).
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// How a resolver is called, by whom.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The value of label `resolution.tekton.dev/type`.
    pub(crate) label: &'static str,
    /// Its name in messages.
    pub(crate) title: &'static str,
    /// Its ConfigMap.
    pub(crate) config_map: &'static str,
    /// The flag that turns it off.
    pub(crate) flag: &'static str,
}

/// One wish.
pub(crate) struct Request {
    /// The request's namespace: secrets and service accounts are read there.
    pub(crate) namespace: String,
    pub(crate) params: Params,
    /// The resolver's ConfigMap as it was when the work began.
    pub(crate) config: Map,
}

#[cfg(test)]
impl Request {
    /// With these params, and a resolver's ConfigMap of which these keys are set otherwise than by default.
    pub(crate) fn example<const N: usize>(
        map: &str,
        params: [(&str, &str); N],
        config: &[(&str, &str)],
    ) -> Self {
        let mut map = crate::settings::Settings::default().map(map);
        for (key, value) in config {
            map.insert((*key).into(), (*value).into());
        }
        Self {
            namespace: "ns".into(),
            params: Params::from(params),
            config: map,
        }
    }
}

/// What resolvers work with.
pub(crate) struct Surroundings {
    pub(crate) client: Client,
    pub(crate) fetcher: Arc<Fetcher>,
}

/// What was fetched.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Resolved {
    pub(crate) data: Vec<u8>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) source: RefSource,
}

/// Why nothing was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ResolveError {
    /// It is in the request or at the source: the request fails with this text.
    Failed(String),
    /// It may pass: the request stays in progress and is tried again (P-321).
    Transient(String),
}

impl ResolveError {
    /// The same, told with what was being done.
    pub(crate) fn doing(self, what: &str) -> Self {
        match self {
            Self::Failed(text) => Self::Failed(format!("{what}: {text}")),
            Self::Transient(text) => Self::Transient(format!("{what}: {text}")),
        }
    }
}

impl From<String> for ResolveError {
    fn from(text: String) -> Self {
        Self::Failed(text)
    }
}

/// Whether answers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caching {
    /// Not even on demand.
    Never,
    /// On demand; without one, if what the params name can never change.
    Immutable(bool),
}

/// How failed fetches are repeated (P-341, P-356).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Backoff {
    /// The first wait.
    pub(crate) duration: Duration,
    /// How much longer each next one is.
    pub(crate) factor: f64,
    /// How much of a wait may be added by chance.
    pub(crate) jitter: f64,
    /// Tries in all.
    pub(crate) steps: u32,
    /// The longest wait.
    pub(crate) cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(2),
            factor: 2.0,
            jitter: 0.1,
            steps: 2,
            cap: Duration::from_secs(10),
        }
    }
}

impl Backoff {
    /// Takes a key of a ConfigMap; other keys change nothing.
    ///
    /// # Errors
    /// If the value is none, or makes no sense.
    pub(crate) fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let number = || match value.parse::<f64>() {
            Ok(number) if number >= 0.0 && number.is_finite() => Ok(number),
            Ok(_) => Err("must not be negative".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        match key {
            "backoff-duration" => self.duration = parse_duration(value)?,
            "backoff-cap" => self.cap = parse_duration(value)?,
            "backoff-factor" => self.factor = number()?,
            "backoff-jitter" => self.jitter = number()?,
            "backoff-steps" => match value.parse() {
                Ok(0) => return Err("must be at least 1".into()),
                Ok(steps) => self.steps = steps,
                Err(error) => return Err(error.to_string()),
            },
            _ => {}
        }
        Ok(())
    }

    /// The waits between tries; `chance` gives numbers from 0 to 1.
    fn waits(self, mut chance: impl FnMut() -> f64) -> impl Iterator<Item = Duration> {
        let mut next = self.duration;
        (1..self.steps).map(move |_| {
            let wait = next.min(self.cap);
            next = scaled(wait, self.factor);
            scaled(wait, 1.0 + self.jitter * chance())
        })
    }
}

fn scaled(duration: Duration, by: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * by).unwrap_or(Duration::MAX)
}

/// Tries until it works, it is not worth it, the tries are used up, or whoever waits gives up.
pub(crate) async fn with_retries<T, E, F>(
    backoff: &Backoff,
    worth_it: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> F,
) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut waits = backoff.waits(rand::random::<f64>);
    loop {
        let error = match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        match waits.next().filter(|_| worth_it(&error)) {
            Some(wait) => tokio::time::sleep(wait).await,
            None => return Err(error),
        }
    }
}

/// One way to get at definitions.
pub(crate) trait Resolver: Send + Sync {
    fn identity(&self) -> &'static Identity;

    /// How long one fetch may take.
    fn timeout(&self, _request: &Request) -> Result<Duration, String> {
        Ok(TIMEOUT)
    }

    /// How many requests it works on at once: servers that hang hold up those of their resolver only, and only so many.
    fn parallel(&self) -> usize {
        32
    }

    /// Which of its answers may be kept for the next who asks the same (P-325).
    fn caching(&self, _params: &Params) -> Caching {
        Caching::Never
    }

    /// Checks the params.
    fn validate(&self, request: &Request) -> Result<(), String>;

    /// Fetches what the params ask for. Dropping the future ends the work.
    fn resolve<'a>(
        &'a self,
        request: &'a Request,
        with: &'a Surroundings,
    ) -> BoxFuture<'a, Result<Resolved, ResolveError>>;
}

/// Hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The kinds that may come back (P-322).
const KINDS: [&str; 7] = [
    "PipelineRun",
    "Pipeline",
    "TaskRun",
    "Task",
    "Run",
    "CustomRun",
    "StepAction",
];

/// Refuses what is no Tekton object, so that requests, which many may read, do not carry secrets out (P-322).
pub(crate) fn check_data(data: &[u8]) -> Result<(), String> {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Head {
        api_version: String,
        kind: String,
    }
    // A file may hold several documents: like upstream's decoder, only the first is looked at.
    let first = serde_yaml_ng::Deserializer::from_slice(data).next();
    let head = match first {
        Some(document) => Option::<Head>::deserialize(document)
            .map_err(|error| format!("decoding error: {error}"))?
            .unwrap_or_default(),
        None => Head::default(),
    };
    let group = head.api_version.split_once('/').map(|(group, _)| group);
    if group != Some("tekton.dev") || !KINDS.contains(&head.kind.as_str()) {
        return Err(format!(
            "resolved data is not of a supported type, must be of Group: tekton.dev, Kinds: [{}]",
            KINDS.join(" ")
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P-341, P-356
    #[test]
    fn waits_grow_up_to_the_cap_and_are_one_fewer_than_the_tries() {
        let backoff = Backoff {
            steps: 5,
            ..Backoff::default()
        };
        let seconds = |chance: f64| -> Vec<f64> {
            let waits = backoff.waits(|| chance);
            waits.map(|wait| wait.as_secs_f64()).collect()
        };
        assert_eq!(seconds(0.0), [2.0, 4.0, 8.0, 10.0]);
        assert_eq!(seconds(1.0), [2.2, 4.4, 8.8, 11.0]);
        assert_eq!(Backoff::default().waits(|| 0.0).count(), 1);
    }

    /// P-322
    #[test]
    fn only_tekton_objects_come_back() {
        for (data, fine) in [
            ("apiVersion: tekton.dev/v1\nkind: Task\n", true),
            (
                r#"{"apiVersion": "tekton.dev/v1beta1", "kind": "StepAction"}"#,
                true,
            ),
            ("apiVersion: v1\nkind: Secret\n", false),
            (
                "apiVersion: tekton.dev/v1\nkind: VerificationPolicy\n",
                false,
            ),
            ("apiVersion: evil.dev/v1\nkind: Task\n", false),
            ("tekton.dev", false),
            ("- a\n", false),
            ("", false),
            ("\x00\x01", false),
        ] {
            let checked = check_data(data.as_bytes());
            assert_eq!(checked.is_ok(), fine, "{data:?}: {checked:?}");
        }
        let error = check_data(b"kind: Task\n").unwrap_err();
        assert_eq!(
            error,
            "resolved data is not of a supported type, must be of Group: tekton.dev, Kinds: [PipelineRun Pipeline TaskRun Task Run CustomRun StepAction]"
        );
    }
}
