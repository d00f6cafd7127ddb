//! Watches (K-130 to K-144): a stream of changes from a point in history on.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt as _};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use rand::Rng as _;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::form::{Include, partial, partial_bytes};
use super::input::Selection;
use super::read::revision;
use super::{Answer, Call};
use crate::accept::Form;
use crate::error::{ApiError, Cause};
use crate::registry::Resource;
use crate::server::{Body, Inner};
use crate::storage::{Change, Stored, TooOld, Watcher};
use crate::table;
use crate::target::Path;

const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// The longest a watch lasts, in seconds, whatever it asks for.
const LONGEST: u64 = 7 * 24 * 3600;
/// Bytes of events put into one frame.
const FRAME: usize = 64 << 10;

/// How a watch starts.
enum Start {
    /// With the current objects, then perhaps the bookmark that ends them.
    Initial { end_bookmark: bool },
    /// With the changes after a revision.
    From(u64),
}

struct Session {
    inner: Arc<Inner>,
    resource: Arc<Resource>,
    selection: Selection,
    form: Form,
    include: Include,
    watcher: Option<Watcher>,
    /// Events not yet sent.
    queue: Vec<(&'static str, Arc<Stored>)>,
    end_bookmark: bool,
    bookmarks: bool,
    next_bookmark: Instant,
    deadline: Instant,
    too_old: Option<u64>,
    columns_sent: bool,
    done: bool,
}

impl Inner {
    /// `GET` with `watch=true`.
    pub(super) async fn watch(
        self: &Arc<Self>,
        call: &Call,
        resource: &Arc<Resource>,
        path: &Path,
    ) -> Answer {
        let mut selection = self.selection(&call.query, resource)?;
        if !path.name.is_empty() {
            let only = format!("metadata.name={}", path.name);
            selection.fields =
                crate::selector::Fields::parse(&only).map_err(ApiError::bad_request)?;
        }
        let bookmarks = call.query.flag("allowWatchBookmarks");
        let start = start(call, bookmarks)?;
        let timeout = match call.query.text("timeoutSeconds") {
            Some(text) => text
                .parse()
                .map_err(|_| ApiError::bad_request(format!("invalid timeoutSeconds {text:?}")))?,
            None => 0,
        };
        let timeout = if timeout == 0 {
            rand::rng().random_range(1800..3600)
        } else {
            timeout
        };
        let now = Instant::now();
        let mut session = Session {
            inner: Arc::clone(self),
            resource: Arc::clone(resource),
            selection,
            form: call.form.clone(),
            include: Include::from(call),
            watcher: None,
            queue: Vec::new(),
            end_bookmark: false,
            bookmarks,
            next_bookmark: now + BOOKMARK_EVERY,
            deadline: now + Duration::from_secs(timeout.min(LONGEST)),
            too_old: None,
            columns_sent: false,
            done: false,
        };
        let namespace = (!path.namespace.is_empty()).then_some(path.namespace.as_str());
        match start {
            Start::Initial { end_bookmark } => {
                let (items, _, watcher) = self.storage.list_and_watch(&resource.storage, namespace);
                let items = items
                    .into_iter()
                    .filter(|object| session.selection.matches(object));
                session.queue = items.map(|object| ("ADDED", object)).collect();
                session.end_bookmark = end_bookmark;
                session.watcher = Some(watcher);
            }
            Start::From(revision) => {
                match self.storage.watch(&resource.storage, namespace, revision) {
                    Ok(watcher) => session.watcher = Some(watcher),
                    Err(TooOld(floor)) => session.too_old = Some(floor.max(revision + 1)),
                }
            }
        }
        let asked = match start {
            Start::From(revision) => revision,
            Start::Initial { .. } => 0,
        };
        let frames = stream::unfold(session, move |mut session| async move {
            let frame = session.frame(asked).await?;
            Some((Ok::<_, io::Error>(Frame::data(frame)), session))
        });
        let mut response: Response<Body> =
            Response::new(StreamBody::new(frames.boxed()).boxed_unsync());
        *response.status_mut() = StatusCode::OK;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }
}

fn start(call: &Call, bookmarks: bool) -> Result<Start, ApiError> {
    let asked = revision(call)?;
    let refuse = |cause: Cause| {
        Err(ApiError::invalid(
            "meta.k8s.io",
            "ListOptions",
            "",
            vec![cause],
        ))
    };
    let not_older = call.query.text("resourceVersionMatch");
    match call.query.text("sendInitialEvents") {
        Some(flag) => {
            if not_older != Some("NotOlderThan") {
                let text =
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
                return refuse(Cause::forbidden("resourceVersionMatch", text));
            }
            if matches!(flag, "true" | "1") {
                return Ok(Start::Initial {
                    end_bookmark: bookmarks,
                });
            }
        }
        None if not_older.is_some() => {
            let text =
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            return refuse(Cause::forbidden("resourceVersionMatch", text));
        }
        None => {}
    }
    Ok(match asked {
        None | Some(0) => Start::Initial {
            end_bookmark: bookmarks,
        },
        Some(revision) => Start::From(revision),
    })
}

impl Session {
    /// The next piece of the stream; `None` ends it.
    async fn frame(&mut self, asked: u64) -> Option<Bytes> {
        if self.done {
            return None;
        }
        if let Some(floor) = self.too_old {
            self.done = true;
            return Some(expired(asked, floor));
        }
        loop {
            let mut out = BytesMut::new();
            while !self.queue.is_empty() && out.len() < FRAME {
                let batch: Vec<_> = self.queue.drain(..self.queue.len().min(64)).collect();
                for (kind, object) in batch {
                    match self.event(kind, &object).await {
                        Ok(event) => event
                            .into_iter()
                            .for_each(|part| out.extend_from_slice(&part)),
                        Err(error) => {
                            self.done = true;
                            out.extend_from_slice(&error_event(&error));
                            return Some(out.freeze());
                        }
                    }
                }
            }
            if self.queue.is_empty() && self.end_bookmark {
                self.end_bookmark = false;
                out.extend_from_slice(&self.bookmark(true));
            }
            if !out.is_empty() {
                return Some(out.freeze());
            }
            let watcher = self.watcher.as_mut()?;
            // The last bookmark comes two seconds before the end (K-140).
            let last = self
                .deadline
                .checked_sub(Duration::from_secs(2))
                .unwrap_or(self.deadline);
            let bookmark_at = if self.next_bookmark > last && last > Instant::now() {
                last
            } else {
                self.next_bookmark
            };
            tokio::select! {
                biased;
                changes = watcher.next() => match changes {
                    Ok(changes) => self.queue = changes.iter().filter_map(|change| self.select(change)).collect(),
                    Err(TooOld(floor)) => {
                        self.done = true;
                        return Some(expired(floor.saturating_sub(1), floor));
                    }
                },
                () = sleep_until(self.deadline) => return None,
                () = sleep_until(bookmark_at), if self.bookmarks => {
                    self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                    return Some(self.bookmark(false));
                }
                () = self.inner.closing() => return None,
            }
        }
    }

    /// What a change means to somebody who sees only what the selection matches (K-136).
    fn select(&self, change: &Change) -> Option<(&'static str, Arc<Stored>)> {
        let before = change
            .before
            .as_ref()
            .is_some_and(|object| self.selection.matches(object));
        let after = !change.deleted && self.selection.matches(&change.after);
        match (before, after) {
            (false, true) => Some(("ADDED", Arc::clone(&change.after))),
            (true, true) => Some(("MODIFIED", Arc::clone(&change.after))),
            (true, false) if change.deleted => Some(("DELETED", Arc::clone(&change.after))),
            (true, false) => {
                let last = change.before.as_ref()?.at_revision(change.revision);
                Some(("DELETED", Arc::new(last)))
            }
            (false, false) => None,
        }
    }

    /// The pieces of one event; the object's bytes are shared by all watchers of its version.
    async fn event(
        &mut self,
        kind: &'static str,
        object: &Arc<Stored>,
    ) -> Result<[Bytes; 3], ApiError> {
        let bytes = match self.form {
            Form::Table => {
                let value = self.inner.load(&self.resource, object).await?;
                self.table(value)
            }
            Form::Partial if self.resource.is_stored_form(object.revision) => partial_bytes(object),
            Form::Partial => partial(&self.inner.load(&self.resource, object).await?)
                .to_string()
                .into(),
            _ => self.inner.bytes(&self.resource, object).await?,
        };
        Ok([head(kind), bytes, Bytes::from_static(b"}\n")])
    }

    fn table(&mut self, value: Value) -> Bytes {
        let metadata = json!({"resourceVersion": value.pointer("/metadata/resourceVersion")});
        let with_columns = !std::mem::replace(&mut self.columns_sent, true);
        table::render(
            &self.resource,
            &[value],
            metadata,
            self.include.as_str(),
            with_columns,
        )
        .to_string()
        .into()
    }

    fn bookmark(&mut self, end: bool) -> Bytes {
        let revision = self
            .watcher
            .as_ref()
            .map_or(0, Watcher::revision)
            .to_string();
        let mut metadata = json!({"resourceVersion": revision});
        if end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let (kind, version) = (self.resource.kind.clone(), self.resource.api_version());
        let object = match self.form {
            Form::Table => {
                let value = json!({"kind": kind, "apiVersion": version, "metadata": metadata});
                self.table(value)
            }
            Form::Partial => json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
                .to_string()
                .into(),
            _ => json!({"kind": kind, "apiVersion": version, "metadata": metadata}).to_string().into(),
        };
        let mut out = BytesMut::new();
        for part in [head("BOOKMARK"), object, Bytes::from_static(b"}\n")] {
            out.extend_from_slice(&part);
        }
        out.freeze()
    }
}

fn head(kind: &str) -> Bytes {
    Bytes::from_static(match kind {
        "ADDED" => b"{\"type\":\"ADDED\",\"object\":",
        "MODIFIED" => b"{\"type\":\"MODIFIED\",\"object\":",
        "DELETED" => b"{\"type\":\"DELETED\",\"object\":",
        _ => b"{\"type\":\"BOOKMARK\",\"object\":",
    })
}

fn error_event(error: &ApiError) -> Bytes {
    format!(
        "{}\n",
        json!({"type": "ERROR", "object": error.to_status()})
    )
    .into()
}

/// K-137
fn expired(asked: u64, floor: u64) -> Bytes {
    error_event(&ApiError::expired(format!(
        "too old resource version: {asked} ({floor})"
    )))
}
