//! A Kubernetes API in memory, just enough for a controller: objects, patches, watches, a record of requests.

#![allow(dead_code, reason = "each test file uses its own part")]

pub mod cluster;
pub mod sink;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::StreamExt;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use serde_json::{Value, json};

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// What admission makes of the description of an object that is created by way of trial.
pub const ADMITTED: &str = "as admission made it";

/// The API; clones share it.
#[derive(Clone, Default)]
pub struct FakeApi {
    state: Arc<Mutex<State>>,
}

/// An object's address: collection such as `/apis/tekton.dev/v1/taskruns`, namespace, name.
type Address = (String, String, String);

#[derive(Default)]
struct State {
    version: u64,
    objects: BTreeMap<Address, Value>,
    watchers: Vec<Watcher>,
    requests: Vec<String>,
    dry_runs: Vec<Value>,
    refusals: Vec<Refusal>,
}

struct Watcher {
    collection: String,
    namespace: Option<String>,
    sender: UnboundedSender<Bytes>,
}

/// Requests to be refused: method and end of the path, how often, and with what.
struct Refusal {
    method: Method,
    path: String,
    times: usize,
    code: u16,
    reason: String,
    message: String,
}

struct Target {
    collection: String,
    namespace: Option<String>,
    name: Option<String>,
    subresource: Option<String>,
}

impl FakeApi {
    /// An API with namespace `ns` and its default service account.
    pub fn new() -> Self {
        let api = Self::default();
        api.create(
            "/api/v1/serviceaccounts",
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": "ns", "name": "default"}}),
        );
        api
    }

    /// A client of this API.
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.clone(), "default")
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an object in, as a user would.
    pub fn create(&self, collection: &str, object: Value) -> Value {
        self.lock()
            .create(collection, object)
            .expect("the test's object is new")
    }

    /// Changes an object by a merge patch.
    pub fn merge(&self, collection: &str, namespace: &str, name: &str, patch: &Value) {
        let address = (collection.to_owned(), namespace.to_owned(), name.to_owned());
        let mut state = self.lock();
        let mut object = state
            .objects
            .get(&address)
            .expect("the object is there")
            .clone();
        json_patch::merge(&mut object, patch);
        state.store(address, object);
    }

    /// Takes an object out.
    pub fn remove(&self, collection: &str, namespace: &str, name: &str) {
        self.lock()
            .remove(&(collection.to_owned(), namespace.to_owned(), name.to_owned()));
    }

    /// The object, if it is there.
    pub fn get(&self, collection: &str, namespace: &str, name: &str) -> Option<Value> {
        let address = (collection.to_owned(), namespace.to_owned(), name.to_owned());
        self.lock().objects.get(&address).cloned()
    }

    /// All objects of a collection.
    pub fn list(&self, collection: &str) -> Vec<Value> {
        let state = self.lock();
        state
            .objects
            .iter()
            .filter(|((c, ..), _)| c == collection)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// The requests so far: method, path and, for patches, what kind.
    pub fn requests(&self) -> Vec<String> {
        self.lock().requests.clone()
    }

    /// The objects that were to be created by way of trial only. Each comes back with a description.
    pub fn dry_runs(&self) -> Vec<Value> {
        self.lock().dry_runs.clone()
    }

    /// Refuses the next `times` requests of this method whose path ends in `path`.
    pub fn refuse(
        &self,
        method: Method,
        path: &str,
        times: usize,
        code: u16,
        reason: &str,
        message: &str,
    ) {
        self.lock().refusals.push(Refusal {
            method,
            path: path.into(),
            times,
            code,
            reason: reason.into(),
            message: message.into(),
        });
    }

    /// Ends every watch, as a server does now and then.
    pub fn end_watches(&self) {
        self.lock().watchers.clear();
    }

    fn answer(&self, request: &Request<()>, body: &[u8]) -> Answer {
        let mut state = self.lock();
        let path = request.uri().path().to_owned();
        state
            .requests
            .push(format!("{} {}", request.method(), request.uri()));
        if let Some(refusal) = state.refusals.iter_mut().find(|refusal| {
            refusal.times > 0
                && refusal.method == *request.method()
                && path.ends_with(&refusal.path)
        }) {
            refusal.times -= 1;
            return *failure(refusal.code, &refusal.reason, &refusal.message);
        }
        let query = request.uri().query().unwrap_or_default();
        let target = parse(&path);
        let result = match *request.method() {
            Method::GET if query.contains("watch=true") => return state.watch(&target, query),
            Method::GET => state.read(&target),
            Method::POST => serde_json::from_slice(body)
                .map_err(|error| failure(400, "BadRequest", &error.to_string()))
                .and_then(|mut object: Value| {
                    if let Some(namespace) = &target.namespace {
                        object["metadata"]["namespace"] = json!(namespace);
                    }
                    if query.contains("dryRun=All") {
                        state.dry_runs.push(object.clone());
                        object["spec"]["description"] = json!(ADMITTED);
                        return Ok(object);
                    }
                    state.create(&target.collection, object)
                }),
            Method::PATCH => state.patch(&target, request, body),
            Method::PUT => state.put(&target, body),
            Method::DELETE => match target.address().and_then(|address| state.remove(&address)) {
                Some(object) => Ok(object),
                None => Err(target.not_found()),
            },
            _ => Err(failure(405, "MethodNotAllowed", "no")),
        };
        match result {
            Ok(object) => success(&object),
            Err(answer) => *answer,
        }
    }
}

impl State {
    fn store(&mut self, address: Address, mut object: Value) -> Value {
        let kind = if self.objects.contains_key(&address) {
            "MODIFIED"
        } else {
            "ADDED"
        };
        if self.objects.get(&address) == Some(&object) {
            return object;
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(address.clone(), object.clone());
        self.tell(&address, kind, &object);
        object
    }

    fn tell(&mut self, (collection, namespace, _): &Address, kind: &str, object: &Value) {
        let line = Bytes::from(format!("{}\n", json!({"type": kind, "object": object})));
        self.watchers.retain(|watcher| {
            watcher.collection != *collection
                || watcher
                    .namespace
                    .as_ref()
                    .is_some_and(|wanted| wanted != namespace)
                || watcher.sender.unbounded_send(line.clone()).is_ok()
        });
    }

    fn create(&mut self, collection: &str, mut object: Value) -> Result<Value, Box<Answer>> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let address = (
            collection.to_owned(),
            text(&object["metadata"]["namespace"]),
            text(&object["metadata"]["name"]),
        );
        if self.objects.contains_key(&address) {
            let message = format!(
                "{} \"{}\" already exists",
                collection.rsplit('/').next().unwrap_or_default(),
                address.2
            );
            return Err(failure(409, "AlreadyExists", &message));
        }
        object["metadata"]["uid"] =
            json!(format!("00000000-0000-4000-8000-{:012x}", self.version + 1));
        if object["metadata"]["creationTimestamp"].is_null() {
            object["metadata"]["creationTimestamp"] = json!(
                jiff::Timestamp::now()
                    .strftime("%Y-%m-%dT%H:%M:%SZ")
                    .to_string()
            );
        }
        object["metadata"]["generation"] = json!(1);
        Ok(self.store(address, object))
    }

    fn read(&self, target: &Target) -> Result<Value, Box<Answer>> {
        if let Some(address) = target.address() {
            return self
                .objects
                .get(&address)
                .cloned()
                .ok_or_else(|| target.not_found());
        }
        let items: Vec<&Value> = self
            .objects
            .iter()
            .filter(|((collection, namespace, _), _)| {
                *collection == target.collection
                    && target
                        .namespace
                        .as_ref()
                        .is_none_or(|wanted| wanted == namespace)
            })
            .map(|(_, object)| object)
            .collect();
        Ok(
            json!({"kind": "List", "metadata": {"resourceVersion": self.version.to_string()}, "items": items}),
        )
    }

    fn patch(
        &mut self,
        target: &Target,
        request: &Request<()>,
        body: &[u8],
    ) -> Result<Value, Box<Answer>> {
        let address = target.address().ok_or_else(|| target.not_found())?;
        let old = self
            .objects
            .get(&address)
            .cloned()
            .ok_or_else(|| target.not_found())?;
        let bad = |error: String| failure(400, "BadRequest", &error);
        let mut new = old.clone();
        if request.headers()["content-type"] == "application/json-patch+json" {
            // As the real one, `replace` accepts a key that is missing (K-098).
            let body = String::from_utf8_lossy(body).replace(r#""op":"replace""#, r#""op":"add""#);
            let patch: json_patch::Patch =
                serde_json::from_str(&body).map_err(|error| bad(error.to_string()))?;
            json_patch::patch(&mut new, &patch).map_err(|error| bad(error.to_string()))?;
        } else {
            let patch: Value =
                serde_json::from_slice(body).map_err(|error| bad(error.to_string()))?;
            let guard = &patch["metadata"]["resourceVersion"];
            if !guard.is_null() && *guard != old["metadata"]["resourceVersion"] {
                return Err(failure(409, "Conflict", "the object has been modified"));
            }
            json_patch::merge(&mut new, &patch);
        }
        // A status write changes nothing else and the other way round.
        let (status, rest) = if target.subresource.as_deref() == Some("status") {
            (&new, &old)
        } else {
            (&old, &new)
        };
        let mut merged = rest.clone();
        let status = status.get("status").cloned();
        match (status, merged.as_object_mut()) {
            (Some(status), Some(object)) => drop(object.insert("status".into(), status)),
            (None, Some(object)) => drop(object.remove("status")),
            (_, None) => {}
        }
        merged["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        Ok(self.store(address, merged))
    }

    fn put(&mut self, target: &Target, body: &[u8]) -> Result<Value, Box<Answer>> {
        let address = target.address().ok_or_else(|| target.not_found())?;
        let new: Value = serde_json::from_slice(body)
            .map_err(|error| failure(400, "BadRequest", &error.to_string()))?;
        let old = self
            .objects
            .get(&address)
            .ok_or_else(|| target.not_found())?;
        let guard = &new["metadata"]["resourceVersion"];
        if !guard.is_null() && *guard != old["metadata"]["resourceVersion"] {
            return Err(failure(409, "Conflict", "the object has been modified"));
        }
        Ok(self.store(address, new))
    }

    fn remove(&mut self, address: &Address) -> Option<Value> {
        let mut object = self.objects.remove(address)?;
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.tell(address, "DELETED", &object);
        Some(object)
    }

    fn watch(&mut self, target: &Target, query: &str) -> Answer {
        let since: u64 = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("resourceVersion=")?.parse().ok())
            .unwrap_or(0);
        let (sender, receiver) = unbounded();
        for ((collection, namespace, _), object) in &self.objects {
            let version: u64 = object["metadata"]["resourceVersion"]
                .as_str()
                .unwrap_or("0")
                .parse()
                .unwrap_or(0);
            let wanted = target
                .namespace
                .as_ref()
                .is_none_or(|wanted| wanted == namespace);
            if *collection == target.collection && wanted && version > since {
                let line = format!("{}\n", json!({"type": "MODIFIED", "object": object}));
                let _ = sender.unbounded_send(Bytes::from(line));
            }
        }
        self.watchers.push(Watcher {
            collection: target.collection.clone(),
            namespace: target.namespace.clone(),
            sender,
        });
        let frames = receiver.map(|line| Ok::<_, Infallible>(http_body::Frame::data(line)));
        Response::new(StreamBody::new(frames).boxed_unsync())
    }
}

impl Target {
    fn address(&self) -> Option<Address> {
        Some((
            self.collection.clone(),
            self.namespace.clone().unwrap_or_default(),
            self.name.clone()?,
        ))
    }

    fn not_found(&self) -> Box<Answer> {
        let plural = self.collection.rsplit('/').next().unwrap_or_default();
        let group = match self.collection.split('/').collect::<Vec<_>>()[..] {
            ["", "apis", group, ..] => format!(".{group}"),
            _ => String::new(),
        };
        let name = self.name.as_deref().unwrap_or_default();
        failure(
            404,
            "NotFound",
            &format!("{plural}{group} \"{name}\" not found"),
        )
    }
}

fn parse(path: &str) -> Target {
    let mut parts = path.trim_start_matches('/').split('/').map(str::to_owned);
    let mut prefix = String::new();
    let count = if path.starts_with("/apis/") { 3 } else { 2 };
    for part in parts.by_ref().take(count) {
        prefix.push('/');
        prefix.push_str(&part);
    }
    let mut next = parts.next().unwrap_or_default();
    let mut namespace = None;
    let rest: Vec<String> = parts.collect();
    let mut rest = rest.into_iter();
    if next == "namespaces" && rest.len() >= 2 {
        namespace = rest.next();
        next = rest.next().unwrap_or_default();
    }
    Target {
        collection: format!("{prefix}/{next}"),
        namespace,
        name: rest.next(),
        subresource: rest.next(),
    }
}

fn success(object: &Value) -> Answer {
    Response::new(Full::from(object.to_string()).boxed_unsync())
}

fn failure(code: u16, reason: &str, message: &str) -> Box<Answer> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": code});
    let mut answer = success(&status);
    *answer.status_mut() = StatusCode::from_u16(code).expect("a status code");
    Box::new(answer)
}

impl tower::Service<Request<Body>> for FakeApi {
    type Response = Answer;
    type Error = Infallible;
    type Future = futures::future::BoxFuture<'static, Result<Answer, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let api = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap_or_default();
            Ok(api.answer(&Request::from_parts(head, ()), &body))
        })
    }
}
