//! The kubeconfig that `kubectl` uses on a local cluster.

use std::net::SocketAddr;

use base64::Engine as _;

use crate::authority::Authority;

/// A complete kubeconfig for the administrator: server, authority, token, context `tektite`.
pub fn kubeconfig(address: SocketAddr, authority: &Authority) -> String {
    let certificate = base64::engine::general_purpose::STANDARD.encode(&authority.certificate);
    let token = &authority.token;
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         current-context: tektite\n\
         clusters:\n\
         - name: tektite\n  \
           cluster:\n    \
             server: https://{address}\n    \
             certificate-authority-data: {certificate}\n\
         users:\n\
         - name: tektite\n  \
           user:\n    \
             token: {token}\n\
         contexts:\n\
         - name: tektite\n  \
           context:\n    \
             cluster: tektite\n    \
             user: tektite\n    \
             namespace: default\n"
    )
}

/// An address that clients on this machine can dial.
pub fn dialable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => ([127, 0, 0, 1], v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            (std::net::Ipv6Addr::LOCALHOST, v6.port()).into()
        }
        other => other,
    }
}
