//! The resolvers' ConfigMaps: what is in force at one moment.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tektite_api::names::RESOLVERS_NAMESPACE;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::address::AddressPolicy;

/// Which addresses resolvers may connect to; ours, not upstream's.
const ADDRESSES: &str = "resolver-address-policy";
/// Which resolvers answer (P-323).
const FEATURE_FLAGS: &str = "resolvers-feature-flags";

/// The content of one ConfigMap.
pub(crate) type Map = BTreeMap<String, String>;

/// What the ConfigMaps hold where nobody has put any: upstream's as they are shipped.
const SHIPPED: &[(&str, &[(&str, &str)])] = &[
    (
        "bundleresolver-config",
        &[
            ("default-service-account", "default"),
            ("default-kind", "task"),
        ],
    ),
    (
        "cluster-resolver-config",
        &[
            ("default-kind", "task"),
            ("default-namespace", ""),
            ("allowed-namespaces", ""),
            ("blocked-namespaces", ""),
        ],
    ),
    (
        "git-resolver-config",
        &[
            ("fetch-timeout", "1m"),
            ("default-url", "https://github.com/tektoncd/catalog.git"),
            ("default-revision", "main"),
            ("scm-type", "github"),
            ("server-url", ""),
            ("api-token-secret-name", ""),
            ("api-token-secret-key", ""),
            ("api-token-secret-namespace", "default"),
            ("default-org", ""),
        ],
    ),
    ("http-resolver-config", &[("fetch-timeout", "1m")]),
    (
        "hubresolver-config",
        &[
            ("default-tekton-hub-catalog", "Tekton"),
            ("default-artifact-hub-task-catalog", "tekton-catalog-tasks"),
            (
                "default-artifact-hub-pipeline-catalog",
                "tekton-catalog-pipelines",
            ),
            ("default-kind", "task"),
            ("default-type", "artifact"),
        ],
    ),
];

/// All ConfigMaps of one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Settings {
    maps: BTreeMap<String, Map>,
}

impl Settings {
    /// The map of that name: as it is in the cluster, else as it is shipped.
    pub(crate) fn map(&self, name: &str) -> Map {
        if let Some(map) = self.maps.get(name) {
            return map.clone();
        }
        let shipped = SHIPPED.iter().find(|(shipped, _)| *shipped == name);
        shipped
            .map_or(&[][..], |(_, entries)| entries)
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    /// Whether a resolver answers: unless its flag says otherwise.
    pub(crate) fn enabled(&self, flag: &str) -> bool {
        self.maps
            .get(FEATURE_FLAGS)
            .and_then(|flags| flags.get(flag))
            .is_none_or(|value| !is_false(value))
    }

    /// The policy in force: `default`, as far as the ConfigMap does not replace it.
    pub(crate) fn addresses(&self, default: &AddressPolicy) -> AddressPolicy {
        let Some(map) = self.maps.get(ADDRESSES) else {
            return default.clone();
        };
        let read = |key: &str| map.get(key).map(String::as_str);
        match default
            .clone()
            .with(read("denied-addresses"), read("allowed-addresses"))
        {
            Ok(policy) => policy,
            Err(error) => {
                tracing::error!(config_map = ADDRESSES, %error, "the ConfigMap is refused; the default policy is in force");
                default.clone()
            }
        }
    }
}

/// What Go's ParseBool takes for false.
fn is_false(text: &str) -> bool {
    matches!(text, "0" | "f" | "F" | "false" | "FALSE" | "False")
}

/// A duration in a map.
///
/// # Errors
/// With Go's text, if it is there and no duration.
pub(crate) fn duration(map: &Map, key: &str) -> Result<Option<Duration>, String> {
    map.get(key).map(|text| parse_duration(text)).transpose()
}

pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let parsed: tektite_api::Duration = text
        .parse()
        .map_err(|error: tektite_api::ParseDurationError| error.to_string())?;
    parsed.to_std().ok_or_else(|| format!("{text} is negative"))
}

/// The settings in force; clones share them.
#[derive(Clone, Default)]
pub(crate) struct SettingsHandle(Arc<RwLock<Arc<Settings>>>);

impl SettingsHandle {
    /// The settings of this moment.
    pub(crate) fn current(&self) -> Arc<Settings> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, settings: Settings) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }
}

/// Keeps `handle` current until `stop`; `known` turns true once the ConfigMaps were read.
pub(crate) async fn follow(
    client: Client,
    handle: SettingsHandle,
    known: watch::Sender<bool>,
    stop: CancellationToken,
) {
    let api: Api<ConfigMap> = Api::namespaced(client, RESOLVERS_NAMESPACE);
    let mut events = watcher(api, watcher::Config::default())
        .default_backoff()
        .boxed();
    let mut listed = BTreeMap::new();
    let mut maps = BTreeMap::new();
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = events.next() => event,
        };
        let read = |map: ConfigMap| {
            let name = map.metadata.name.unwrap_or_default();
            (name, map.data.unwrap_or_default())
        };
        match event {
            Some(Ok(Event::Init)) => {
                listed.clear();
                continue;
            }
            Some(Ok(Event::InitApply(map))) => {
                listed.extend([read(map)]);
                continue;
            }
            Some(Ok(Event::InitDone)) => maps = std::mem::take(&mut listed),
            Some(Ok(Event::Apply(map))) => maps.extend([read(map)]),
            Some(Ok(Event::Delete(map))) => {
                maps.remove(&read(map).0);
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "cannot follow the resolvers' ConfigMaps; trying again");
                continue;
            }
            None => return,
        }
        let settings = Settings { maps: maps.clone() };
        if *handle.current() != settings {
            handle.set(settings);
        }
        known.send_replace(true);
    }
}
