//! The cluster's own certificate authority, its server certificate and the administrator's token.

use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// Why certificates cannot be made or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot prepare the cluster's certificates: {0}")]
pub struct AuthorityError(String);

fn failed(error: impl std::fmt::Display) -> AuthorityError {
    AuthorityError(error.to_string())
}

/// A certificate authority and the administrator's bearer token, the same at every start on one directory.
pub struct Authority {
    key: KeyPair,
    /// The authority's certificate, in PEM.
    pub certificate: String,
    /// The administrator's bearer token.
    pub token: String,
}

impl Authority {
    /// Made anew and kept nowhere.
    pub fn in_memory() -> Result<Self, AuthorityError> {
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = parameters().self_signed(&key).map_err(failed)?.pem();
        Ok(Self {
            key,
            certificate,
            token: random_token(),
        })
    }

    /// Read from `directory`, or made and written there, readable by its owner only.
    pub fn in_directory(directory: &Path) -> Result<Self, AuthorityError> {
        let read = |name: &str| fs::read_to_string(directory.join(name));
        if let (Ok(key), Ok(certificate), Ok(token)) =
            (read("ca.key"), read("ca.crt"), read("admin.token"))
        {
            let key = KeyPair::from_pem(&key).map_err(failed)?;
            return Ok(Self {
                key,
                certificate,
                token,
            });
        }
        let authority = Self::in_memory()?;
        let files = [
            ("ca.key", authority.key.serialize_pem()),
            ("ca.crt", authority.certificate.clone()),
            ("admin.token", authority.token.clone()),
        ];
        for (name, content) in files {
            write_private(&directory.join(name), &content).map_err(failed)?;
        }
        Ok(authority)
    }

    /// TLS for a server at `address`: a fresh certificate of this authority; client certificates of this authority are
    /// accepted, none is required.
    pub fn server_config(&self, address: SocketAddr) -> Result<Arc<ServerConfig>, AuthorityError> {
        let key = KeyPair::generate().map_err(failed)?;
        let names = [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ];
        let mut leaf = CertificateParams::new(names.map(str::to_owned)).map_err(failed)?;
        let mut addresses = vec![
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
            address.ip(),
        ];
        addresses.extend(KUBERNETES_SERVICE);
        leaf.subject_alt_names
            .extend(addresses.into_iter().map(SanType::IpAddress));
        leaf.distinguished_name.push(DnType::CommonName, "tektite");
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let issuer = Issuer::from_params(&PARAMETERS, &self.key);
        let certificate = leaf.signed_by(&key, &issuer).map_err(failed)?;
        let authority = pem_to_der(&self.certificate)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone()).map_err(failed)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()
                .map_err(failed)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate.der().clone(), authority], key)
            .map_err(failed)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// A server's certificate, the key to it, and the authority that vouches for it, all in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerCertificate {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
    /// The authority's certificate.
    pub authority: String,
}

impl ServerCertificate {
    /// For a server of these names, for that long from now, by an authority of its own whose key nobody keeps.
    ///
    /// # Errors
    /// A name is none.
    pub fn issue(names: Vec<String>, valid: Duration) -> Result<Self, AuthorityError> {
        let now = SystemTime::now();
        // Clocks differ.
        let begin = now - Duration::from_secs(300);
        let end = now.checked_add(valid).unwrap_or(now);
        let mut root = parameters();
        let authority_key = KeyPair::generate().map_err(failed)?;
        let key = KeyPair::generate().map_err(failed)?;
        let mut leaf = CertificateParams::new(names).map_err(failed)?;
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        for parameters in [&mut root, &mut leaf] {
            (parameters.not_before, parameters.not_after) = (begin.into(), end.into());
        }
        let authority = root.self_signed(&authority_key).map_err(failed)?.pem();
        let issuer = Issuer::from_params(&root, &authority_key);
        let certificate = leaf.signed_by(&key, &issuer).map_err(failed)?.pem();
        Ok(Self {
            certificate,
            key: key.serialize_pem(),
            authority,
        })
    }

    /// When it ends; none if it is no certificate.
    pub fn end(&self) -> Option<Timestamp> {
        tektite_apiserver::not_after(&pem_to_der(&self.certificate).ok()?)
    }

    /// TLS for a server that shows it and asks clients for none.
    ///
    /// # Errors
    /// Certificate or key cannot be read, or do not belong together.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, AuthorityError> {
        use rustls::pki_types::pem::PemObject as _;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(failed)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_no_client_auth()
            .with_single_cert(vec![pem_to_der(&self.certificate)?], key)
            .map_err(failed)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// The first address of the service range, where `kubernetes.default` is.
const KUBERNETES_SERVICE: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)));

/// What the authority's certificate says, the same each time, so that the key alone makes the issuer again.
static PARAMETERS: std::sync::LazyLock<CertificateParams> = std::sync::LazyLock::new(parameters);

fn parameters() -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters
        .distinguished_name
        .push(DnType::CommonName, "tektite-ca");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    parameters
}

fn pem_to_der(pem: &str) -> Result<CertificateDer<'static>, AuthorityError> {
    use rustls::pki_types::pem::PemObject as _;
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(failed)
}

/// 244 random bits, as text.
fn random_token() -> String {
    let part = || uuid::Uuid::new_v4().simple().to_string();
    format!("{}{}", part(), part())
}

/// Writes a file that only its owner may read, all of it or nothing.
pub(crate) fn write_private(path: &Path, content: &str) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let _ = fs::remove_file(&temporary);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_the_same_at_the_next_start() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = Authority::in_directory(directory.path()).expect("made");
        let second = Authority::in_directory(directory.path()).expect("read");
        assert_eq!(first.certificate, second.certificate);
        assert_eq!(first.token, second.token);
        let address = "127.0.0.1:6443".parse().expect("an address");
        second
            .server_config(address)
            .expect("a certificate signed by the read key");
    }

    #[test]
    fn an_issued_certificate_ends_when_it_is_meant_to_and_serves_until_then() {
        let day = Duration::from_secs(86_400);
        let issued = ServerCertificate::issue(vec!["a.b.svc".into()], day).expect("issued");
        let end = Timestamp::now() + jiff::SignedDuration::from_hours(24);
        let off = issued.end().expect("an end").duration_until(end).as_secs();
        assert!((0..60).contains(&off), "{off}");
        issued.server_config().expect("key and certificate fit");
        let other = ServerCertificate::issue(vec!["a.b.svc".into()], day).expect("issued");
        let mixed = ServerCertificate {
            key: other.key,
            ..issued
        };
        assert!(mixed.server_config().is_err());
    }
}
