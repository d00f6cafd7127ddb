//! Which addresses a resolver may connect to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// What resolvers may connect to: everything but the denied networks, and of those what is allowed nevertheless.
///
/// It is asked about addresses, after names were looked up, for every connection and every redirect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressPolicy {
    denied: Vec<Network>,
    allowed: Vec<Network>,
}

/// Networks that hold no server of definitions, but things that trust whoever can reach them: link-local addresses, where
/// clouds serve machine credentials, the other addresses of such services, multicast, and what is reserved.
const NEVER: &str = "0.0.0.0/8, 169.254.0.0/16, 192.0.0.0/24, 224.0.0.0/3, 100.100.100.200, 168.63.129.16, ::, \
                     fe80::/10, fec0::/10, ff00::/8, fd00:ec2::254, fd20:ce::254";
/// This machine.
const LOOPBACK: &str = "127.0.0.0/8, ::1";

impl AddressPolicy {
    /// For a controller in a cluster: neither link-local and metadata addresses nor the controller's own machine.
    pub fn cluster() -> Self {
        Self::local().deny(LOOPBACK)
    }

    /// For a controller on somebody's own machine, whose servers may well be there too.
    pub fn local() -> Self {
        let nothing = Self {
            denied: Vec::new(),
            allowed: Vec::new(),
        };
        nothing.deny(NEVER)
    }

    fn deny(mut self, networks: &str) -> Self {
        // The invariant: the lists of this file parse; a test reads them.
        self.denied
            .extend(parse_networks(networks).unwrap_or_default());
        self
    }

    /// The same policy with the lists of networks that are given, each separated by commas.
    ///
    /// # Errors
    /// If an entry is no address and no network.
    pub fn with(
        mut self,
        denied: Option<&str>,
        allowed: Option<&str>,
    ) -> Result<Self, NetworkError> {
        if let Some(denied) = denied {
            self.denied = parse_networks(denied)?;
        }
        if let Some(allowed) = allowed {
            self.allowed = parse_networks(allowed)?;
        }
        Ok(self)
    }

    /// Whether a connection to `address` may be made.
    pub fn permits(&self, address: IpAddr) -> bool {
        let bits = meant(address);
        let within = |networks: &[Network]| networks.iter().any(|network| network.contains(bits));
        within(&self.allowed) || !within(&self.denied)
    }
}

/// The bits of the address that packets reach in the end: IPv4 in the form mapped to IPv6, also where it is wrapped in
/// the prefixes of translators and tunnels.
fn meant(address: IpAddr) -> u128 {
    let v6 = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let part = |from: usize| {
        let octets = v6.octets();
        Ipv4Addr::new(
            octets[from],
            octets[from + 1],
            octets[from + 2],
            octets[from + 3],
        )
    };
    let v4 = match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(part(12)),
        [0x2002, ..] => Some(part(2)),
        [0, 0, 0, 0, 0, 0, high, _] if high != 0 => Some(part(12)),
        _ => None,
    };
    u128::from(v4.map_or(v6, |v4| v4.to_ipv6_mapped()))
}

/// Addresses that begin with the same bits.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Network {
    bits: u128,
    length: u32,
}

impl Network {
    fn contains(self, bits: u128) -> bool {
        let mask = u128::MAX.checked_shl(128 - self.length).unwrap_or(0);
        (self.bits ^ bits) & mask == 0
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv6Addr::from(self.bits), self.length)
    }
}

/// A text that names no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is neither an address nor a network: write 10.0.0.7, 10.0.0.0/8 or fd00::/8, separated by commas"
)]
pub struct NetworkError(String);

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let wrong = || NetworkError(text.to_owned());
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let (bits, whole) = match address {
            IpAddr::V4(v4) => (u128::from(v4.to_ipv6_mapped()), 32),
            IpAddr::V6(v6) => (u128::from(v6), 128),
        };
        let length = match length {
            Some(length) => length.parse().map_err(|_| wrong())?,
            None => whole,
        };
        if length > whole {
            return Err(wrong());
        }
        Ok(Self {
            bits,
            length: length + 128 - whole,
        })
    }
}

fn parse_networks(list: &str) -> Result<Vec<Network>, NetworkError> {
    list.split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .map(str::parse)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_and_link_local_addresses_are_refused_in_every_notation() {
        assert_eq!(parse_networks(NEVER).unwrap().len(), 12);
        assert_eq!(parse_networks(LOOPBACK).unwrap().len(), 2);
        for (address, local, cluster) in [
            ("93.184.216.34", true, true),
            ("10.0.0.7", true, true),
            ("2606:4700::1111", true, true),
            ("127.0.0.1", true, false),
            ("127.1.2.3", true, false),
            ("::1", true, false),
            ("::ffff:127.0.0.1", true, false),
            ("::127.0.0.1", true, false),
            ("169.254.169.254", false, false),
            ("::ffff:169.254.169.254", false, false),
            ("64:ff9b::a9fe:a9fe", false, false),
            ("2002:a9fe:a9fe::1", false, false),
            ("fd00:ec2::254", false, false),
            ("fe80::1", false, false),
            ("100.100.100.200", false, false),
            ("224.0.0.1", false, false),
            ("255.255.255.255", false, false),
            ("0.0.0.0", false, false),
            ("::", false, false),
            ("ff02::1", false, false),
        ] {
            let ip: IpAddr = address.parse().unwrap();
            assert_eq!(AddressPolicy::local().permits(ip), local, "{address}");
            assert_eq!(AddressPolicy::cluster().permits(ip), cluster, "{address}");
        }
    }

    #[test]
    fn lists_replace_the_defaults_and_what_is_allowed_wins() {
        let policy = AddressPolicy::cluster()
            .with(Some("10.0.0.0/8, ::/0"), Some("10.1.0.0/16"))
            .unwrap();
        for (address, permitted) in [
            ("10.2.0.1", false),
            ("10.1.0.1", true),
            ("fd00::1", false),
            // Every IPv4 address is also one of IPv6.
            ("192.0.2.1", false),
        ] {
            assert_eq!(
                policy.permits(address.parse().unwrap()),
                permitted,
                "{address}"
            );
        }
        for wrong in [
            "10.0.0.0/33",
            "example.com",
            "10.0.0/8",
            "::1/129",
            "1.2.3.4/x",
        ] {
            let error = AddressPolicy::cluster()
                .with(Some(wrong), None)
                .unwrap_err();
            assert!(error.to_string().contains(wrong), "{error}");
        }
    }
}
