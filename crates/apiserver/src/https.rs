//! The HTTPS client side of webhooks.

use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;

/// Sends one request, trusting the `caBundle` of `config`, to `address` or else to the host of its URL.
pub async fn send(
    config: &Value,
    request: Request<Full<Bytes>>,
    address: Option<(String, u16)>,
) -> Result<Response<Bytes>, String> {
    let host = request
        .uri()
        .host()
        .ok_or("the webhook has no host")?
        .to_owned();
    let port = request.uri().port_u16().unwrap_or(443);
    let address = address.unwrap_or_else(|| (host.clone(), port));
    let stream = tokio::net::TcpStream::connect(address)
        .await
        .map_err(|error| format!("dial tcp: {error}"))?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client_config(config)?));
    let name = ServerName::try_from(host.clone()).map_err(|error| error.to_string())?;
    let stream = connector
        .connect(name, stream)
        .await
        .map_err(|error| format!("tls: {error}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let (mut head, body) = request.into_parts();
    let authority = format!("{host}:{port}");
    head.headers.insert(
        http::header::HOST,
        authority.parse().map_err(|_| "bad host")?,
    );
    let path = head
        .uri
        .path_and_query()
        .map_or("/", |path| path.as_str())
        .to_owned();
    head.uri = path.parse().map_err(|_| "bad path")?;
    let response = sender
        .send_request(Request::from_parts(head, body))
        .await
        .map_err(|error| error.to_string())?;
    let (head, body) = response.into_parts();
    let body = body
        .collect()
        .await
        .map_err(|error| error.to_string())?
        .to_bytes();
    connection.abort();
    Ok(Response::from_parts(head, body))
}

fn client_config(config: &Value) -> Result<rustls::ClientConfig, String> {
    let bundle = config
        .get("caBundle")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let pem = base64::engine::general_purpose::STANDARD
        .decode(bundle)
        .map_err(|error| error.to_string())?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
