//! The bridge of a node's pods and its way out, made and removed by the launcher, whose lifetime is that of its pods.

use std::fs;
use std::net::Ipv4Addr;

use super::nat::Nat;
use super::network::{self, Route};
use super::protocol::{Failure, Uplink};

/// A bridge that exists.
pub(super) struct Bridge {
    name: String,
    uplink: Uplink,
    _nat: Option<Nat>,
}

impl Bridge {
    /// Makes the bridge with a free network of its own.
    pub fn make(name: &str) -> Result<Self, Failure> {
        let failed =
            |what: &str, error: std::io::Error| Failure::new(format!("cannot {what}: {error}"));
        let mut route = Route::open().map_err(|error| failed("open a route socket", error))?;
        // Left by a launcher that was killed.
        let _ = route.remove(name);
        route
            .add_bridge(name)
            .map_err(|error| failed("make the pods' bridge", error))?;
        let index = network::index(name).map_err(|error| failed("find the pods' bridge", error))?;
        let taken = fs::read_to_string("/proc/net/route").unwrap_or_default();
        let first = name
            .bytes()
            .fold(0u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
        let gateway = free_network(&taken, first)
            .ok_or_else(|| Failure::new("no network is free for pods"))?;
        route
            .add_address(index, gateway, 24)
            .map_err(|error| failed("give the pods' bridge an address", error))?;
        route
            .up(index)
            .map_err(|error| failed("bring the pods' bridge up", error))?;
        let nat = fs::write("/proc/sys/net/ipv4/ip_forward", "1")
            .and_then(|()| Nat::start(name, gateway));
        let (nat, warning) = match nat {
            Ok(nat) => (Some(nat), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let uplink = Uplink {
            bridge: index,
            gateway,
            prefix: 24,
            no_way_out: warning,
        };
        Ok(Self {
            name: name.to_string(),
            uplink,
            _nat: nat,
        })
    }

    pub fn uplink(&self) -> &Uplink {
        &self.uplink
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = Route::open().and_then(|mut route| route.remove(&self.name));
    }
}

/// First address of a network 10.97.x.0/24 that no route of `/proc/net/route` leads to, tried from `first` on.
fn free_network(routes: &str, first: u8) -> Option<Ipv4Addr> {
    let taken: Vec<(u32, u32)> = routes
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let number = |at: usize| {
                fields
                    .get(at)
                    .and_then(|text| u32::from_str_radix(text, 16).ok())
                    .map(u32::from_be)
            };
            Some((number(1)?, number(7)?))
        })
        .filter(|(_, mask)| *mask != 0)
        .collect();
    (0..=255u8)
        .map(|step| Ipv4Addr::new(10, 97, first.wrapping_add(step), 1))
        .find(|gateway| {
            let address = u32::from(*gateway);
            !taken
                .iter()
                .any(|(network, mask)| address & mask & 0xffff_ff00 == network & mask & 0xffff_ff00)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_somebody_uses_is_passed_over() {
        let header = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n";
        let default = "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\n";
        let own = "br0\t0007610A\t00000000\t0001\t0\t0\t0\t00FFFFFF\n";
        let wide = "tun0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\n";
        assert_eq!(
            free_network(&format!("{header}{default}"), 7),
            Some(Ipv4Addr::new(10, 97, 7, 1))
        );
        assert_eq!(
            free_network(&format!("{header}{default}{own}"), 7),
            Some(Ipv4Addr::new(10, 97, 8, 1))
        );
        assert_eq!(free_network(&format!("{header}{wide}"), 7), None);
    }
}
