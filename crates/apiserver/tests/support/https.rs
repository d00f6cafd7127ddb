//! A server on a socket with its own certificate authority, and kubectl pointed at it.

use std::process::Output;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use tektite_apiserver::{ApiServer, Identity, Options};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

pub struct Served {
    pub server: ApiServer,
    pub port: u16,
    pub directory: TempDir,
    pub ca: String,
}

/// Starts a server; `admin` is a client certificate's user, `secret` a token's.
pub async fn serve() -> Served {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca_parameters = CertificateParams::new(Vec::<String>::new()).unwrap();
    ca_parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca_parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    ca_parameters
        .distinguished_name
        .push(DnType::CommonName, "test-ca");
    let ca = ca_parameters.self_signed(&ca_key).unwrap();
    let (ca_pem, ca_der) = (ca.pem(), ca.der().clone());
    let issuer = Issuer::new(ca_parameters, ca_key);
    let leaf = |names: Vec<String>, user: Option<(&str, &str)>| {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(names).unwrap();
        if let Some((user, group)) = user {
            parameters.distinguished_name = rcgen::DistinguishedName::new();
            parameters.distinguished_name.push(DnType::CommonName, user);
            parameters
                .distinguished_name
                .push(DnType::OrganizationName, group);
        }
        (parameters.signed_by(&key, &issuer).unwrap(), key)
    };
    let (certificate, key) = leaf(vec!["127.0.0.1".into(), "localhost".into()], None);
    let (admin, admin_key) = leaf(vec![], Some(("admin", "system:masters")));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(ca_der).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let verifier = verifier.allow_unauthenticated().build().unwrap();
    let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let options = Options {
        root_ca: Some(ca_pem.clone()),
        tokens: vec![(
            "secret".into(),
            Identity::user("token-admin", ["system:masters"]),
        )],
        ..Options::default()
    };
    let server = ApiServer::start(options).await.unwrap();
    let serving = server.clone();
    tokio::spawn(async move {
        serving
            .serve(listener, Arc::new(tls), std::future::pending())
            .await
    });
    let directory = tempfile::tempdir().unwrap();
    let encode =
        |text: String| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
    let kubeconfig = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "t",
        "clusters": [{"name": "t", "cluster": {
            "server": format!("https://127.0.0.1:{port}"), "certificate-authority-data": encode(ca_pem.clone()),
        }}],
        "users": [{"name": "t", "user": {
            "client-certificate-data": encode(admin.pem()), "client-key-data": encode(admin_key.serialize_pem()),
        }}],
        "contexts": [{"name": "t", "context": {"cluster": "t", "user": "t", "namespace": "default"}}],
    });
    std::fs::write(directory.path().join("kubeconfig"), kubeconfig.to_string()).unwrap();
    Served {
        server,
        port,
        directory,
        ca: ca_pem,
    }
}

/// Whether kubectl is installed; says so if not.
pub fn kubectl_missing(test: &str) -> bool {
    let found = std::process::Command::new("kubectl")
        .args(["version", "--client"])
        .output();
    let missing = found.is_err();
    if missing {
        println!("SKIPPED {test}: kubectl is not installed");
    }
    missing
}

impl Served {
    fn command(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("kubectl");
        command
            .args(arguments)
            .env("KUBECONFIG", self.directory.path().join("kubeconfig"))
            .env("HOME", self.directory.path())
            .env("KUBECACHEDIR", self.directory.path().join("cache"))
            .kill_on_drop(true);
        command
    }

    /// Runs kubectl with `input` on its standard input.
    pub async fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.command(arguments);
        command.stdin(std::process::Stdio::piped());
        command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        let write = tokio::spawn(async move { stdin.write_all(input.as_bytes()).await });
        let output = child.wait_with_output().await.unwrap();
        let _ = write.await;
        output
    }

    /// Standard output of a command that must succeed.
    pub async fn ok(&self, arguments: &[&str], input: &str) -> String {
        let output = self.run(arguments, input).await;
        let stdout = String::from_utf8(output.stdout).unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "kubectl {arguments:?}: {stdout}{stderr}"
        );
        stdout.trim_end().to_owned()
    }

    /// Standard error of a command that must fail.
    pub async fn fails(&self, arguments: &[&str], input: &str) -> String {
        let output = self.run(arguments, input).await;
        assert!(!output.status.success(), "kubectl {arguments:?} succeeded");
        String::from_utf8(output.stderr)
            .unwrap()
            .trim_end()
            .to_owned()
    }

    /// A command left running, its output piped.
    pub fn spawn(&self, arguments: &[&str]) -> tokio::process::Child {
        self.command(arguments)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    }
}
