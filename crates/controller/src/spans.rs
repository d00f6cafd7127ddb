//! What runs took, sent to a collector of traces by OTLP over HTTP, in JSON (T-143, T-424, P-301, P-302).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use tektite_engine::trace::Span;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio_util::sync::CancellationToken;

use crate::endpoint::Endpoints;
use crate::rest::Resource;
use crate::world::World;

/// How many runs' spans may wait; what does not fit is lost, and told of.
const WAITING: usize = 4096;
/// How many go into one request at most.
const AT_ONCE: usize = 256;
/// How long a request waits for company.
const COMPANY: Duration = Duration::from_millis(200);

/// The spans of one run.
struct Ended {
    /// What the spans are said to come from.
    service: &'static str,
    spans: Vec<Span>,
}

/// Spans on their way.
pub(crate) struct Outbox {
    sender: Sender<Ended>,
    /// Until somebody sends them.
    receiver: Mutex<Option<Receiver<Ended>>>,
}

impl Default for Outbox {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Self {
            sender,
            receiver: Mutex::new(Some(receiver)),
        }
    }
}

impl Outbox {
    /// Hands over the spans of a run that has ended.
    pub(crate) fn add(&self, service: &'static str, spans: impl IntoIterator<Item = Span>) {
        let spans: Vec<Span> = spans.into_iter().collect();
        if !spans.is_empty() && self.sender.try_send(Ended { service, spans }).is_err() {
            tracing::warn!("too many spans wait for the collector of traces: some are lost");
        }
    }
}

/// Sends what comes until `stop`, and then what is left.
pub(crate) async fn run(world: Arc<World>, stop: CancellationToken) {
    let receiver = world
        .spans
        .receiver
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let Some(mut receiver) = receiver else {
        return;
    };
    let mut collectors = Endpoints::of("endpoint of config-tracing");
    loop {
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            _ = receiver.recv_many(&mut batch, AT_ONCE) => {}
            () = stop.cancelled() => return,
        }
        if receiver.is_empty() {
            tokio::select! {
                () = tokio::time::sleep(COMPANY) => {}
                () = stop.cancelled() => {}
            }
        }
        while batch.len() < AT_ONCE
            && let Ok(more) = receiver.try_recv()
        {
            batch.push(more);
        }
        if let Err(error) = send(&world, &mut collectors, &batch).await {
            tracing::warn!(error, runs = batch.len(), "spans are lost");
        }
    }
}

async fn send(world: &World, collectors: &mut Endpoints, batch: &[Ended]) -> Result<(), String> {
    let tracing = world.options.config.current().tracing.clone();
    if !tracing.enabled {
        return Ok(());
    }
    let collector = collectors.get(&tracing.endpoint)?;
    let login = match tracing.credentials_secret.as_str() {
        "" => None,
        secret => Some(login(world, secret).await?),
    };
    let headers = login
        .as_ref()
        .map(|login| ("authorization", login.as_str()));
    let body = serde_json::to_vec(&request(batch)).map_err(|error| error.to_string())?;
    collector.post(headers.as_slice(), &body).await
}

/// The value of `Authorization` that a Secret with `username` and `password` makes (P-302).
async fn login(world: &World, secret: &str) -> Result<String, String> {
    let path = Resource::SECRETS.object(&world.options.system_namespace, secret);
    let unread = |error: String| format!("Secret {secret} of config-tracing: {error}");
    let body = world.rest.get(&path).await;
    let body = body.map_err(|error| unread(error.to_string()))?;
    let secret: Secret =
        serde_json::from_slice(&body).map_err(|error| unread(error.to_string()))?;
    let data = secret.data.unwrap_or_default();
    let part = |key: &str| {
        data.get(key)
            .map(|value| value.0.clone())
            .unwrap_or_default()
    };
    let pair = [part("username"), part("password")].join(&b':');
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    Ok(format!("Basic {encoded}"))
}

/// The request of OTLP's trace service.
fn request(batch: &[Ended]) -> Value {
    let mut services: Vec<&str> = batch.iter().map(|ended| ended.service).collect();
    services.sort_unstable();
    services.dedup();
    let resources = services.into_iter().map(|service| {
        let of_service = batch.iter().filter(|ended| ended.service == service);
        let spans: Vec<Value> = of_service
            .flat_map(|ended| &ended.spans)
            .map(span)
            .collect();
        json!({
            "resource": {"attributes": [attribute("service.name", service)]},
            "scopeSpans": [{"scope": {"name": "tektite"}, "spans": spans}],
        })
    });
    json!({"resourceSpans": resources.collect::<Vec<_>>()})
}

fn span(span: &Span) -> Value {
    let attributes = span.attributes.iter();
    let attributes: Vec<Value> = attributes
        .map(|(key, value)| attribute(key, value))
        .collect();
    let mut json = json!({
        "traceId": span.trace,
        "spanId": span.id,
        "name": span.name,
        // Internal: neither end of a call.
        "kind": 1,
        "startTimeUnixNano": nanoseconds(span.start),
        "endTimeUnixNano": nanoseconds(span.end),
        "attributes": attributes,
        "status": match &span.error {
            None => json!({"code": 1}),
            Some(message) => json!({"code": 2, "message": message}),
        },
    });
    if let Some(parent) = &span.parent {
        json["parentSpanId"] = parent.as_str().into();
    }
    json
}

/// Numbers of 64 bits are text in this form.
fn nanoseconds(time: Timestamp) -> String {
    time.as_nanosecond().to_string()
}

fn attribute(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}
