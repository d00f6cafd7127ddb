//! The socket side without kubectl: protocols, upgrades, concurrency.

mod support;

use std::sync::Arc;

use kube::Client;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use support::https::{Served, serve};
use support::{client, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

async fn connect(served: &Served, protocol: &[u8]) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(served.ca.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(("127.0.0.1", served.port))
        .await
        .unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap()
}

async fn request(served: &Served, text: &str) -> String {
    let mut stream = connect(served, b"http/1.1").await;
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

#[tokio::test]
async fn callers_are_told_apart_by_token_and_unknown_ones_refused() {
    // K-001, K-004, K-020, K-089, K-090, K-209
    let served = serve().await;
    let get = |path: &str, extra: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{extra}\r\n")
    };
    let version = request(&served, &get("/version", "")).await;
    assert!(
        version.contains("200 OK") && version.contains("\"gitVersion\":\"v1.36.0\""),
        "{version}"
    );
    assert!(request(&served, &get("/readyz", "")).await.ends_with("ok"));
    let anonymous = request(&served, &get("/api/v1/pods", "")).await;
    let expected = "pods is forbidden: User \\\"system:anonymous\\\" cannot list resource \\\"pods\\\" in API group \\\"\\\" at the cluster scope";
    assert!(
        anonymous.contains("403 Forbidden") && anonymous.contains(expected),
        "{anonymous}"
    );
    let wrong = request(
        &served,
        &get("/api/v1/pods", "authorization: Bearer nonsense\r\n"),
    )
    .await;
    assert!(wrong.contains("401 Unauthorized"), "{wrong}");
    let right = request(
        &served,
        &get("/api/v1/pods", "authorization: Bearer secret\r\n"),
    )
    .await;
    assert!(
        right.contains("200 OK") && right.contains("PodList"),
        "{right}"
    );
}

#[tokio::test]
async fn watches_travel_over_websockets() {
    // K-142
    let served = serve().await;
    let mut stream = connect(&served, b"http/1.1").await;
    let handshake = "GET /api/v1/namespaces/default/secrets?watch=true&resourceVersion=1000000000 HTTP/1.1\r\nhost: x\r\n\
                     authorization: Bearer secret\r\nconnection: Upgrade\r\nupgrade: websocket\r\norigin: http://elsewhere\r\n\
                     sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let revision = support::get(&client(&served.server), "/api/v1/secrets")
        .await
        .1["metadata"]["resourceVersion"]
        .clone();
    let handshake = handshake.replace("1000000000", revision.as_str().unwrap());
    stream.write_all(handshake.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.windows(4).any(|window| window == b"\r\n\r\n") {
        seen.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(seen).unwrap();
    assert!(
        head.starts_with("HTTP/1.1 101") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        "{head}"
    );
    post(
        &client(&served.server),
        "/api/v1/namespaces/default/secrets",
        json!({"metadata": {"name": "s"}}),
    )
    .await;
    assert_eq!(stream.read_u8().await.unwrap(), 0x81);
    assert_eq!(stream.read_u8().await.unwrap(), 126);
    let length = stream.read_u16().await.unwrap();
    let mut payload = vec![0; usize::from(length)];
    stream.read_exact(&mut payload).await.unwrap();
    let event: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(
        (
            event["type"].as_str(),
            event["object"]["metadata"]["name"].as_str()
        ),
        (Some("ADDED"), Some("s"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_watches_on_one_connection_do_not_hold_up_requests() {
    // K-001
    let served = serve().await;
    let stream = connect(&served, b"h2").await;
    let executor = hyper_util::rt::TokioExecutor::new();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, http_body_util::Empty<bytes::Bytes>>(
            executor, io,
        )
        .await
        .unwrap();
    tokio::spawn(connection);
    let send = |path: &str| {
        let uri = format!("https://127.0.0.1:{}{path}", served.port);
        let request = http::Request::get(uri)
            .header("authorization", "Bearer secret")
            .body(http_body_util::Empty::new());
        let mut sender = sender.clone();
        async move { sender.send_request(request.unwrap()).await.unwrap() }
    };
    let mut watches = Vec::new();
    for _ in 0..60 {
        let response = send("/api/v1/namespaces/default/configmaps?watch=true").await;
        assert_eq!(response.status(), 200);
        watches.push(response);
    }
    assert_eq!(send("/api/v1/namespaces/default").await.status(), 200);
    let own: Client = client(&served.server);
    assert_eq!(support::get(&own, "/version").await.0, 200);
}
