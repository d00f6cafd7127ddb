//! The smallest Kubernetes API a node can live with: objects in a map, a watch on pods.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};

type Answer = Response<UnsyncBoxBody<bytes::Bytes, Infallible>>;

/// Objects by path, such as `/api/v1/namespaces/n/pods/p`.
#[derive(Clone)]
pub struct Api {
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<String>,
    version: watch::Sender<u64>,
    holds: Arc<Mutex<Vec<Held>>>,
}

/// How the request line ends, and what is heard when it may be answered.
type Held = (String, watch::Receiver<()>);

/// Requests wait until this is dropped; see [`Api::hold`].
pub struct Hold(#[expect(dead_code, reason = "its drop is what is heard")] watch::Sender<()>);

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    /// Requests that change something, as method and path.
    writes: Vec<String>,
}

impl Api {
    pub fn new() -> Self {
        Self {
            state: Arc::default(),
            events: broadcast::Sender::new(4096),
            version: watch::Sender::new(0),
            holds: Arc::default(),
        }
    }

    /// Keeps back the answers to requests whose line, method and path, ends in a text. Reads look only afterwards; writes
    /// are done before.
    pub fn hold(&self, ending: &str) -> Hold {
        let sender = watch::Sender::new(());
        let hold = (ending.to_string(), sender.subscribe());
        self.holds
            .lock()
            .expect("no test panics while it holds this")
            .push(hold);
        Hold(sender)
    }

    async fn held(&self, line: &str) {
        let found = self
            .holds
            .lock()
            .expect("no test panics while it holds this")
            .iter()
            .find(|(ending, _)| line.ends_with(ending))
            .map(|(_, hold)| hold.clone());
        if let Some(mut hold) = found {
            while hold.changed().await.is_ok() {}
        }
    }

    pub fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let line = format!("{} {}", request.method(), request.uri().path());
                let reads = request.method() == Method::GET;
                if reads {
                    api.held(&line).await;
                }
                let answer = api.answer(request).await;
                if !reads {
                    api.held(&line).await;
                }
                Ok::<_, Infallible>(answer)
            }
        });
        kube::Client::new(service, "default")
    }

    /// Stores an object under its path, as a client's create would.
    pub fn put(&self, path: &str, mut object: Value) {
        let mut state = self
            .state
            .lock()
            .expect("no test panics while it holds this");
        state.version += 1;
        let known = state.objects.contains_key(path);
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        if path.contains("/pods/") {
            object["apiVersion"] = json!("v1");
            object["kind"] = json!("Pod");
            let kind = if known { "MODIFIED" } else { "ADDED" };
            let _ = self
                .events
                .send(format!("{}\n", json!({"type": kind, "object": object})));
        }
        state.objects.insert(path.to_string(), object);
        self.version.send_replace(state.version);
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        self.state
            .lock()
            .expect("no test panics while it holds this")
            .objects
            .get(path)
            .cloned()
    }

    /// Changes an object in place.
    pub fn change(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.get(path).expect("it exists");
        change(&mut object);
        self.put(path, object);
    }

    pub fn remove(&self, path: &str) {
        let mut state = self
            .state
            .lock()
            .expect("no test panics while it holds this");
        state.version += 1;
        if let Some(mut object) = state.objects.remove(path) {
            object["metadata"]["resourceVersion"] = json!(state.version.to_string());
            let _ = self.events.send(format!(
                "{}\n",
                json!({"type": "DELETED", "object": object})
            ));
        }
        self.version.send_replace(state.version);
    }

    /// Writes so far whose line contains a text.
    pub fn writes(&self, containing: &str) -> usize {
        let state = self
            .state
            .lock()
            .expect("no test panics while it holds this");
        state
            .writes
            .iter()
            .filter(|line| line.contains(containing))
            .count()
    }

    /// Waits until an object is as wanted.
    pub async fn until(
        &self,
        path: &str,
        wanted: impl Fn(Option<&Value>) -> bool,
    ) -> Option<Value> {
        let mut version = self.version.subscribe();
        let found = tokio::time::timeout(Duration::from_secs(15), async {
            loop {
                version.borrow_and_update();
                let object = self.get(path);
                if wanted(object.as_ref()) {
                    return object;
                }
                if version.changed().await.is_err() {
                    return None;
                }
            }
        });
        found.await.unwrap_or_else(|_| {
            panic!(
                "{path} did not become as wanted: {:#}",
                self.get(path).unwrap_or_default()
            )
        })
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let (head, body) = request.into_parts();
        let path = head.uri.path().to_string();
        let query = head.uri.query().unwrap_or_default().to_string();
        let bytes = body
            .collect()
            .await
            .map(|body| body.to_bytes())
            .unwrap_or_default();
        let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if head.method != Method::GET {
            self.state
                .lock()
                .expect("no test panics while it holds this")
                .writes
                .push(format!("{} {path}", head.method));
        }
        match (head.method, path.as_str()) {
            (Method::GET, "/api/v1/pods") if query.contains("watch=true") => self.watch(&query),
            (Method::GET, "/api/v1/pods") => {
                let state = self
                    .state
                    .lock()
                    .expect("no test panics while it holds this");
                let items: Vec<&Value> = state
                    .objects
                    .iter()
                    .filter(|(path, _)| path.contains("/pods/"))
                    .map(|(_, pod)| pod)
                    .collect();
                reply(
                    200,
                    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": state.version.to_string()}, "items": items}),
                )
            }
            (Method::GET, _) => match self.get(&path) {
                Some(object) => reply(200, object),
                None => missing(),
            },
            (Method::POST, path) if path.ends_with("/binding") => {
                self.change(path.trim_end_matches("/binding"), |pod| {
                    pod["spec"]["nodeName"] = body["target"]["name"].clone()
                });
                reply(
                    201,
                    json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "metadata": {}}),
                )
            }
            (Method::POST, path) => {
                let name = body["metadata"]["name"].as_str().unwrap_or_default();
                self.put(&format!("{path}/{name}"), body.clone());
                reply(201, body)
            }
            (Method::PATCH, path) => {
                let path = path.trim_end_matches("/status");
                if self.get(path).is_none() {
                    return missing();
                }
                self.change(path, |object| merge(object, &body));
                reply(200, self.get(path).unwrap_or_default())
            }
            (Method::DELETE, path) => {
                let object = self.get(path);
                self.remove(path);
                object.map_or_else(missing, |object| reply(200, object))
            }
            _ => reply(
                405,
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 405, "reason": "MethodNotAllowed", "message": "no"}),
            ),
        }
    }

    fn watch(&self, query: &str) -> Answer {
        let after: u64 = query
            .split('&')
            .find_map(|part| part.strip_prefix("resourceVersion="))
            .and_then(|text| text.parse().ok())
            .unwrap_or_default();
        let receiver = self.events.subscribe();
        let missed: Vec<String> = {
            let state = self
                .state
                .lock()
                .expect("no test panics while it holds this");
            let version = |object: &Value| {
                object["metadata"]["resourceVersion"]
                    .as_str()
                    .and_then(|text| text.parse::<u64>().ok())
                    .unwrap_or_default()
            };
            let pods = state
                .objects
                .iter()
                .filter(|(path, object)| path.contains("/pods/") && version(object) > after);
            pods.map(|(_, pod)| format!("{}\n", json!({"type": "MODIFIED", "object": pod})))
                .collect()
        };
        let live = futures::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.ok().map(|line| (line, receiver))
        });
        let lines = futures::stream::iter(missed).chain(live);
        let frames =
            lines.map(|line| Ok::<_, Infallible>(http_body::Frame::data(bytes::Bytes::from(line))));
        Response::new(StreamBody::new(frames).boxed_unsync())
    }
}

fn merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    target.remove(key);
                } else {
                    merge(target.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (target, patch) => *target = patch.clone(),
    }
}

fn missing() -> Answer {
    reply(
        404,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound", "message": "not found", "metadata": {}}),
    )
}

fn reply(code: u16, body: Value) -> Answer {
    let mut response =
        Response::new(Full::new(bytes::Bytes::from(body.to_string())).boxed_unsync());
    *response.status_mut() = http::StatusCode::from_u16(code).expect("a known code");
    response
}
