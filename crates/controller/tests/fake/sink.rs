//! A server that takes whatever is posted to it.

use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use serde_json::Value;

/// A sink: what came in, and how it answers next.
#[derive(Clone, Default)]
pub struct Sink {
    pub heard: Arc<Mutex<Vec<Heard>>>,
    pub answers: Arc<Mutex<Vec<u16>>>,
}

#[derive(Clone, Debug)]
pub struct Heard {
    pub target: String,
    pub headers: HeaderMap,
    pub data: Value,
}

impl Heard {
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

async fn hear(
    State(sink): State<Sink>,
    target: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    sink.heard.lock().unwrap().push(Heard {
        target: target.to_string(),
        headers,
        data: serde_json::from_slice(&body).unwrap_or_default(),
    });
    let next = sink.answers.lock().unwrap().pop();
    StatusCode::from_u16(next.unwrap_or(202)).unwrap()
}

impl Sink {
    /// Listens on this machine; the URL to send to.
    pub async fn listen(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = axum::Router::new().fallback(hear).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}/in?a=b")
    }
}
