//! Keeping what was fetched for the next who asks the same (P-324 to P-328).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};
use sha2::{Digest as _, Sha256};
use tektite_api::v1::{Param, ParamValue};
use tokio::time::Instant;

use crate::framework::{Caching, ResolveError, Resolved, hex};
use crate::params::Params;
use crate::settings::{Map, parse_duration};

const MODES: [&str; 3] = ["always", "never", "auto"];

/// Refuses a mode that is none (P-324).
pub(crate) fn check_mode(params: &Params) -> Result<(), String> {
    match params.filled("cache") {
        Some(mode) if !MODES.contains(&mode) => Err(format!(
            "invalid cache mode '{mode}', must be one of: [{}] (or empty for default)",
            MODES.join(" ")
        )),
        _ => Ok(()),
    }
}

/// Whether an answer is kept and looked for: by the param, else by the resolver's ConfigMap, else by what it is about.
pub(crate) fn is_used(params: &Params, config: &Map, caching: Caching) -> bool {
    let Caching::Immutable(immutable) = caching else {
        return false;
    };
    let configured = config.get("default-cache-mode").map(String::as_str);
    match params.filled("cache").or(configured) {
        Some("always") => true,
        Some("never") => false,
        _ => immutable,
    }
}

/// The name of a wish. Wishes of different namespaces differ: they are granted with different secrets.
pub(crate) fn key(resolver: &str, namespace: &str, params: &[Param]) -> String {
    let mut given: Vec<&Param> = params
        .iter()
        .filter(|param| param.name != "cache")
        .collect();
    given.sort_by(|a, b| a.name.cmp(&b.name));
    let mut text = format!("{resolver}:{namespace}:");
    for param in given {
        let value = match &param.value {
            ParamValue::String(value) => value.clone(),
            ParamValue::Array(values) => {
                let mut values = values.clone();
                values.sort();
                values.join(",")
            }
            ParamValue::Object(values) => {
                let pairs = values.iter().map(|(key, value)| format!("{key}:{value}"));
                pairs.collect::<Vec<_>>().join(",")
            }
        };
        text.push_str(&format!("{}={value};", param.name));
    }
    hex(&Sha256::digest(text))
}

/// How much is kept, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) entries: usize,
    pub(crate) ttl: Duration,
}

impl Limits {
    /// From the map `resolver-cache-config`; what makes no sense counts as not given (P-327).
    pub(crate) fn read(map: &Map) -> Self {
        let entries = map
            .get("max-size")
            .and_then(|text| text.parse::<usize>().ok());
        Self {
            entries: entries.filter(|entries| *entries > 0).unwrap_or(1000),
            ttl: ttl(map).unwrap_or(Duration::from_secs(5 * 60)),
        }
    }
}

/// How long, if a map says so.
pub(crate) fn ttl(map: &Map) -> Option<Duration> {
    let text = map.get("ttl")?;
    parse_duration(text).ok().filter(|ttl| !ttl.is_zero())
}

type Fetch = Shared<BoxFuture<'static, Result<Resolved, ResolveError>>>;

/// What was fetched lately, and what is being fetched.
#[derive(Default)]
pub(crate) struct Cache {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    limits: Option<Limits>,
    kept: HashMap<String, Kept>,
    fetches: HashMap<String, WeakShared<BoxFuture<'static, Result<Resolved, ResolveError>>>>,
}

struct Kept {
    resolved: Resolved,
    until: Instant,
    used: Instant,
}

impl Cache {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept under `key`, else what `fetch` gives. Those who ask at the same time share one fetch; if all of them
    /// give up, it ends.
    pub(crate) async fn get(
        &self,
        key: String,
        resolver: &str,
        limits: Limits,
        ttl: Duration,
        fetch: impl FnOnce() -> BoxFuture<'static, Result<Resolved, ResolveError>>,
    ) -> Result<Resolved, ResolveError> {
        let fetch = match self.find(&key, limits, fetch) {
            Ok(kept) => return Ok(annotated(kept, resolver, "retrieve")),
            Err(fetch) => fetch,
        };
        let outcome = fetch.await;
        let mut inner = self.lock();
        inner.fetches.remove(&key);
        let resolved = annotated(outcome?, resolver, "store");
        inner.keep(key, resolved.clone(), limits, ttl);
        Ok(resolved)
    }

    fn find(
        &self,
        key: &str,
        limits: Limits,
        fetch: impl FnOnce() -> BoxFuture<'static, Result<Resolved, ResolveError>>,
    ) -> Result<Resolved, Fetch> {
        let mut inner = self.lock();
        if inner.limits.is_some_and(|before| before != limits) {
            inner.kept.clear();
        }
        inner.limits = Some(limits);
        let now = Instant::now();
        if let Some(kept) = inner.kept.get_mut(key).filter(|kept| kept.until > now) {
            kept.used = now;
            return Ok(kept.resolved.clone());
        }
        if let Some(fetch) = inner.fetches.get(key).and_then(WeakShared::upgrade) {
            return Err(fetch);
        }
        let fetch = fetch().shared();
        if let Some(weak) = fetch.downgrade() {
            inner.fetches.retain(|_, fetch| fetch.upgrade().is_some());
            inner.fetches.insert(key.to_owned(), weak);
        }
        Err(fetch)
    }
}

impl Inner {
    fn keep(&mut self, key: String, resolved: Resolved, limits: Limits, ttl: Duration) {
        let now = Instant::now();
        if !self.kept.contains_key(&key) && self.kept.len() >= limits.entries {
            self.kept.retain(|_, kept| kept.until > now);
            let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.used);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone())
                && self.kept.len() >= limits.entries
            {
                self.kept.remove(&oldest);
            }
        }
        let kept = Kept {
            resolved,
            until: now + ttl,
            used: now,
        };
        self.kept.insert(key, kept);
    }
}

/// Says that the cache had a part in it (P-328).
fn annotated(mut resolved: Resolved, resolver: &str, operation: &str) -> Resolved {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    for (name, value) in [
        ("cached", "true"),
        ("cache-timestamp", &now.to_string()),
        ("cache-resolver-type", resolver),
        ("cache-operation", operation),
    ] {
        resolved
            .annotations
            .insert(format!("resolution.tekton.dev/{name}"), value.to_owned());
    }
    resolved
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const LIMITS: Limits = Limits {
        entries: 2,
        ttl: Duration::from_secs(60),
    };

    fn map(entries: &[(&str, &str)]) -> Map {
        entries
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect()
    }

    /// P-324, P-325
    #[test]
    fn the_mode_comes_from_the_param_the_map_and_what_is_asked_for() {
        let none = Params::from([]);
        let with = |mode| Params::from([("cache", mode)]);
        for (params, configured, immutable, used) in [
            (&none, "", true, true),
            (&none, "", false, false),
            (&none, "always", false, true),
            (&none, "never", true, false),
            (&none, "sometimes", true, true),
            (&with("always"), "never", false, true),
            (&with("never"), "always", true, false),
            (&with("auto"), "always", false, false),
            (&with(""), "always", false, true),
        ] {
            let config = map(&[("default-cache-mode", configured)]);
            let caching = Caching::Immutable(immutable);
            assert_eq!(
                is_used(params, &config, caching),
                used,
                "{params:?} {configured}"
            );
            assert!(!is_used(params, &config, Caching::Never));
        }
        assert_eq!(
            check_mode(&with("x")).unwrap_err(),
            "invalid cache mode 'x', must be one of: [always never auto] (or empty for default)"
        );
        assert!(check_mode(&with("")).is_ok() && check_mode(&with("auto")).is_ok());
    }

    /// P-326
    #[test]
    fn equal_wishes_have_one_key_in_whatever_order_they_are_written() {
        let param = |name: &str, value: ParamValue| Param {
            name: name.into(),
            value,
        };
        let text = |text: &str| ParamValue::String(text.into());
        let list = |items: &[&str]| ParamValue::Array(items.iter().map(|i| (*i).into()).collect());
        let one = [
            param("a", text("1")),
            param("b", list(&["x", "y"])),
            param("cache", text("always")),
        ];
        let other = [param("b", list(&["y", "x"])), param("a", text("1"))];
        assert_eq!(key("git", "ns", &one), key("git", "ns", &other));
        for different in [
            key("bundles", "ns", &one),
            key("git", "elsewhere", &one),
            key("git", "ns", &one[..1]),
        ] {
            assert_ne!(key("git", "ns", &one), different);
        }
    }

    /// P-327
    #[test]
    fn limits_that_make_no_sense_count_as_not_given() {
        let default = Limits {
            entries: 1000,
            ttl: Duration::from_secs(300),
        };
        assert_eq!(Limits::read(&map(&[])), default);
        assert_eq!(
            Limits::read(&map(&[("max-size", "0"), ("ttl", "-1s")])),
            default
        );
        assert_eq!(
            Limits::read(&map(&[("max-size", "many"), ("ttl", "0s")])),
            default
        );
        let read = Limits::read(&map(&[("max-size", "7"), ("ttl", "1h")]));
        assert_eq!((read.entries, read.ttl), (7, Duration::from_secs(3600)));
    }

    /// Gets `key`, counting fetches.
    async fn get(cache: &Cache, key: &str, limits: Limits, count: &Arc<AtomicUsize>) -> Resolved {
        let count = Arc::clone(count);
        let fetch = move || {
            async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                count.fetch_add(1, Ordering::Relaxed);
                Ok(Resolved::default())
            }
            .boxed()
        };
        cache
            .get(key.into(), "git", limits, limits.ttl, fetch)
            .await
            .unwrap()
    }

    /// P-327, P-328
    #[tokio::test(start_paused = true)]
    async fn fetches_are_shared_and_kept_for_a_while() {
        let (cache, count) = (Cache::default(), Arc::new(AtomicUsize::new(0)));
        let fetched = || count.load(Ordering::Relaxed);
        let (one, other) = tokio::join!(
            get(&cache, "a", LIMITS, &count),
            get(&cache, "a", LIMITS, &count)
        );
        assert_eq!(fetched(), 1);
        let operation = |resolved: &Resolved| {
            resolved.annotations["resolution.tekton.dev/cache-operation"].clone()
        };
        assert_eq!(
            (operation(&one), operation(&other)),
            ("store".into(), "store".into())
        );
        let kept = get(&cache, "a", LIMITS, &count).await;
        assert_eq!((operation(&kept), fetched()), ("retrieve".into(), 1));
        assert_eq!(kept.annotations["resolution.tekton.dev/cached"], "true");
        assert_eq!(
            kept.annotations["resolution.tekton.dev/cache-resolver-type"],
            "git"
        );
        tokio::time::advance(LIMITS.ttl).await;
        get(&cache, "a", LIMITS, &count).await;
        assert_eq!(fetched(), 2);
        // The one that was used last stays.
        get(&cache, "b", LIMITS, &count).await;
        tokio::time::advance(Duration::from_millis(1)).await;
        get(&cache, "a", LIMITS, &count).await;
        get(&cache, "c", LIMITS, &count).await;
        assert_eq!(fetched(), 4);
        get(&cache, "a", LIMITS, &count).await;
        assert_eq!(fetched(), 4);
        get(&cache, "b", LIMITS, &count).await;
        assert_eq!(fetched(), 5);
        // Other limits are another cache.
        let more = Limits {
            entries: 3,
            ..LIMITS
        };
        get(&cache, "b", more, &count).await;
        assert_eq!(fetched(), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_that_nobody_waits_for_any_more_is_begun_anew() {
        let (cache, count) = (Cache::default(), Arc::new(AtomicUsize::new(0)));
        let given_up =
            tokio::time::timeout(Duration::from_millis(10), get(&cache, "a", LIMITS, &count));
        assert!(given_up.await.is_err());
        get(&cache, "a", LIMITS, &count).await;
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }
}
