//! Keeping a store true: one list, then a watch from there, for ever.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use http_body_util::BodyExt;
use kube::client::Body;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use crate::rest::{CallError, Resource, Rest};
use crate::store::{Change, Head, Name, Store};

/// How many objects a page of a list has.
const PAGE: usize = 500;
/// When the server is to end a watch, so that a connection that died unnoticed is not waited on for ever.
const WATCH_SECONDS: u32 = 290;
/// How long to wait before the connection is tried again, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(30));

/// What to watch.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    pub(crate) resource: Resource,
    pub(crate) namespace: Option<String>,
    /// A label selector, percent-encoded; may be empty.
    pub(crate) selector: &'static str,
}

impl Watched {
    fn path(&self, query: &str) -> String {
        let mut path = self.resource.collection(self.namespace.as_deref());
        path.push('?');
        path.push_str(query);
        if !self.selector.is_empty() {
            path.push_str("&labelSelector=");
            path.push_str(self.selector);
        }
        path
    }
}

/// Why a list could not be made a cache.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the list cannot be read: {0}")]
    Decode(#[from] serde_json::Error),
    /// The version asked for is gone; a new list is needed.
    #[error("the watch fell behind")]
    Expired,
}

/// Lists everything into `store` and returns the version of the list; `changed` hears of what is new.
pub(crate) async fn list<K: DeserializeOwned>(
    rest: &Rest,
    watched: &Watched,
    store: &Store<K>,
    changed: &(impl Fn(Change) + Sync),
) -> Result<String, WatchError> {
    #[derive(Deserialize)]
    struct Page<'a> {
        metadata: PageMeta,
        #[serde(borrow, default)]
        items: Vec<&'a RawValue>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct PageMeta {
        resource_version: String,
        r#continue: Option<String>,
    }
    let mut names: Vec<Name> = Vec::new();
    let mut query = format!("limit={PAGE}");
    loop {
        let body = rest.get(&watched.path(&query)).await?;
        let page: Page<'_> = serde_json::from_slice(&body)?;
        for item in page.items {
            let item = Bytes::copy_from_slice(item.get().as_bytes());
            names.push(Head::read(&item, "")?.name);
            match store.observe(item)? {
                Change::Stale => {}
                change => changed(change),
            }
        }
        match page.metadata.r#continue.filter(|next| !next.is_empty()) {
            Some(next) => query = format!("limit={PAGE}&continue={}", percent_encode(&next)),
            None => {
                let version = page.metadata.resource_version;
                for change in store.replace(&names, version.parse().unwrap_or(u64::MAX)) {
                    changed(change);
                }
                return Ok(version);
            }
        }
    }
}

/// Follows the watch after a first list, listing anew when it must, until `shutdown`.
pub(crate) async fn follow<K: DeserializeOwned>(
    rest: &Rest,
    watched: &Watched,
    store: &Store<K>,
    changed: &(impl Fn(Change) + Sync),
    mut version: String,
    shutdown: &CancellationToken,
) {
    let mut delay = BACKOFF.0;
    loop {
        let ended = tokio::select! {
            () = shutdown.cancelled() => return,
            ended = watch(rest, watched, store, changed, &mut version) => ended,
        };
        match ended {
            Ok(()) => delay = BACKOFF.0,
            Err(error) => {
                tracing::debug!(resource = watched.resource.plural, %error, "watch ended")
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(delay) => {}
        }
        delay = (delay * 2).min(BACKOFF.1);
        if version.is_empty() {
            match list(rest, watched, store, changed).await {
                Ok(listed) => {
                    version = listed;
                    delay = BACKOFF.0;
                }
                Err(error) => {
                    tracing::warn!(resource = watched.resource.plural, %error, "cannot list")
                }
            }
        }
    }
}

/// One watch, from `version` until it ends. An empty `version` afterwards asks for a new list.
async fn watch<K: DeserializeOwned>(
    rest: &Rest,
    watched: &Watched,
    store: &Store<K>,
    changed: &(impl Fn(Change) + Sync),
    version: &mut String,
) -> Result<(), WatchError> {
    if version.is_empty() {
        return Err(WatchError::Expired);
    }
    let query = format!(
        "watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={version}"
    );
    let body = match rest.stream(&watched.path(&query)).await {
        Ok(body) => body,
        Err(error) => {
            if error.code() == Some(410) {
                version.clear();
            }
            return Err(error.into());
        }
    };
    let mut lines = std::pin::pin!(lines(body));
    while let Some(line) = lines.next().await {
        let line = line?;
        match apply(&line, store, version) {
            Ok(Change::Stale) => {}
            Ok(change) => changed(change),
            Err(error) => {
                // What cannot be understood may have been important: begin anew.
                version.clear();
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Applies one line of a watch.
fn apply<K: DeserializeOwned>(
    line: &Bytes,
    store: &Store<K>,
    version: &mut String,
) -> Result<Change, WatchError> {
    let (r#type, object) = match split(line) {
        Some(split) => split,
        None => parse(line)?,
    };
    let object = line.slice_ref(object);
    let change = match r#type {
        "ADDED" | "MODIFIED" => store.observe(object)?,
        "DELETED" => store.forget(&object)?,
        "BOOKMARK" => {
            #[derive(Deserialize)]
            #[serde(rename_all = "camelCase")]
            struct Meta {
                resource_version: String,
            }
            #[derive(Deserialize)]
            struct Bookmark {
                metadata: Meta,
            }
            *version = serde_json::from_slice::<Bookmark>(&object)?
                .metadata
                .resource_version;
            return Ok(Change::Stale);
        }
        _ => return Err(WatchError::Expired),
    };
    match &change {
        Change::Newer(head, _) if head.version != 0 => *version = head.version.to_string(),
        _ => {}
    }
    Ok(change)
}

/// Type and object of a line as every known server writes it, unread: the object is yet to be read, once.
fn split(line: &[u8]) -> Option<(&str, &[u8])> {
    let rest = line.strip_prefix(b"{\"type\":\"")?;
    let end = rest.iter().position(|byte| *byte == b'"')?;
    let (kind, rest) = rest.split_at(end);
    let object = rest.strip_prefix(b"\",\"object\":")?.strip_suffix(b"}")?;
    Some((std::str::from_utf8(kind).ok()?, object))
}

/// Type and object of any line.
fn parse(line: &[u8]) -> Result<(&str, &[u8]), serde_json::Error> {
    #[derive(Deserialize)]
    struct Line<'a> {
        r#type: &'a str,
        #[serde(borrow)]
        object: &'a RawValue,
    }
    let Line { r#type, object } = serde_json::from_slice(line)?;
    Ok((r#type, object.get().as_bytes()))
}

/// Splits a streamed body into lines.
fn lines(body: Body) -> impl Stream<Item = Result<Bytes, CallError>> {
    stream::unfold(
        (body, BytesMut::new(), 0),
        |(mut body, mut buffer, mut searched)| async move {
            loop {
                if let Some(end) = buffer[searched..].iter().position(|byte| *byte == b'\n') {
                    let line = buffer.split_to(searched + end).freeze();
                    buffer.advance(1);
                    searched = 0;
                    if line.is_empty() {
                        continue;
                    }
                    return Some((Ok(line), (body, buffer, searched)));
                }
                searched = buffer.len();
                match body.frame().await? {
                    Ok(frame) => {
                        if let Ok(data) = frame.into_data() {
                            buffer.extend_from_slice(&data);
                        }
                    }
                    Err(error) => {
                        let error = CallError::Unreachable(error.to_string());
                        return Some((Err(error), (Body::empty(), BytesMut::new(), 0)));
                    }
                }
            }
        },
    )
}

/// Encodes what may not stand in a query's value.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Slot;
    use serde_json::{Value, json};

    fn line(kind: &str, version: u64) -> Bytes {
        json!({"type": kind, "object": {"metadata": {"namespace": "ns", "name": "a", "uid": "u",
            "resourceVersion": version.to_string()}}})
        .to_string()
        .into()
    }

    #[test]
    fn lines_of_a_watch_change_the_store_and_move_the_version_on() {
        let store = Store::<Value>::new("");
        let mut version = "1".to_owned();
        let name = Name::new("ns", "a");
        assert!(matches!(
            apply(&line("ADDED", 2), &store, &mut version),
            Ok(Change::Newer(..))
        ));
        assert!(matches!(
            apply(&line("MODIFIED", 3), &store, &mut version),
            Ok(Change::Newer(..))
        ));
        assert_eq!(version, "3");
        assert!(matches!(
            apply(&line("BOOKMARK", 7), &store, &mut version),
            Ok(Change::Stale)
        ));
        assert_eq!(version, "7");
        assert!(matches!(store.get(&name), Slot::Here(_)));
        assert!(matches!(
            apply(&line("DELETED", 9), &store, &mut version),
            Ok(Change::Gone(_))
        ));
        assert!(matches!(store.get(&name), Slot::Absent));
        assert!(matches!(
            apply(&line("ERROR", 9), &store, &mut version),
            Err(WatchError::Expired)
        ));
    }

    #[test]
    fn lines_of_any_layout_are_understood() {
        let usual = r#"{"type":"ADDED","object":{"a":"}"}}"#;
        for line in [
            usual,
            r#" { "object" : {"a":"}"}, "type" : "ADDED" } "#,
            r#"{"type":"ADDED", "object":{"a":"}"}}"#,
        ] {
            let found = split(line.as_bytes());
            assert_eq!(found.is_some(), line == usual, "{line}");
            let read = parse(line.as_bytes()).unwrap();
            assert_eq!(read, ("ADDED", br#"{"a":"}"}"#.as_slice()), "{line}");
            assert_eq!(found.unwrap_or(read), read, "{line}");
        }
        assert!(parse(br#"{"type":"ADDED"}"#).is_err());
    }

    #[tokio::test]
    async fn a_body_is_split_into_its_lines_however_it_is_cut() {
        let body = Body::from(b"{\"a\":1}\n\n{\"b\":2}\n{\"unfinished".to_vec());
        let lines: Vec<Bytes> = lines(body)
            .filter_map(|line| async { line.ok() })
            .collect()
            .await;
        assert_eq!(lines, ["{\"a\":1}", "{\"b\":2}"]);
    }

    #[test]
    fn continue_tokens_are_encoded_for_the_query() {
        assert_eq!(percent_encode("a+b/c=~"), "a%2Bb%2Fc%3D~");
    }
}
