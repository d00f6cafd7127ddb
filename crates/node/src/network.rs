//! Addresses for pods with a network of their own.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::degraded::{Degraded, Lack};
use crate::launcher::Launcher;
use crate::launcher::protocol::{Interface, Uplink};
use crate::options::NetworkMode;

/// The network pods are connected to.
pub(crate) struct Network {
    uplink: Uplink,
    /// Addresses in use, by last byte; the pod that has it.
    used: Arc<Mutex<HashMap<u8, String>>>,
}

/// A pod's place on it, given back when dropped.
pub(crate) struct Lease {
    pod: String,
    interface: Interface,
    used: Arc<Mutex<HashMap<u8, String>>>,
}

impl Lease {
    pub fn interface(&self) -> &Interface {
        &self.interface
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        release(&self.used, &self.pod);
    }
}

fn release(used: &Mutex<HashMap<u8, String>>, pod: &str) {
    used.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .retain(|_, user| user != pod);
}

/// What came of setting the network up.
pub(crate) struct Started {
    pub network: Option<Network>,
    pub warning: Option<Degraded>,
}

impl Network {
    /// Sets the network up as asked, as far as the machine permits: without a way out of it, pods share the machine's
    /// network unless a bridge was asked for.
    pub async fn start(mode: NetworkMode, launcher: &Launcher, name: &str) -> Started {
        let shared = |why: &str| Started {
            network: None,
            warning: Some(Degraded::new(
                Lack::Network,
                format!("pods share this machine's network: {why}"),
            )),
        };
        if mode == NetworkMode::Host {
            return Started {
                network: None,
                warning: None,
            };
        }
        if launcher.greeting().rootless {
            return shared("a network of their own needs root");
        }
        let uplink = match launcher.network(name).await {
            Ok(uplink) => uplink,
            Err(failure) => return shared(&failure.message),
        };
        let warning = match (&uplink.no_way_out, mode) {
            (None, _) => None,
            (Some(why), NetworkMode::Auto) => {
                return shared(&format!("the kernel does not translate addresses ({why})"));
            }
            (Some(why), _) => Some(Degraded::new(
                Lack::Network,
                format!(
                    "pods do not reach beyond this machine: the kernel does not translate addresses ({why})"
                ),
            )),
        };
        let network = Self {
            uplink,
            used: Arc::default(),
        };
        {
            let mut used = network.used.lock().unwrap_or_else(PoisonError::into_inner);
            for (pod, interface) in &launcher.greeting().sandboxes {
                if let Some(interface) = interface {
                    used.insert(interface.address.octets()[3], pod.clone());
                }
            }
        }
        Started {
            network: Some(network),
            warning,
        }
    }

    /// Gives back the address of a pod that an earlier node set up and nobody has leased since.
    pub fn release(&self, pod: &str) {
        release(&self.used, pod);
    }

    /// An address for a pod, or the one it has.
    pub fn lease(&self, pod: &str) -> Result<Lease, String> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let own = used
            .iter()
            .find(|(_, user)| *user == pod)
            .map(|(last, _)| *last);
        let last = own
            .or_else(|| (2..=254).find(|last| !used.contains_key(last)))
            .ok_or("no address is free for the pod")?;
        used.insert(last, pod.to_string());
        let [a, b, c, _] = self.uplink.gateway.octets();
        let hash = pod.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        let interface = Interface {
            host_name: format!("tk{:012x}", hash & 0xffff_ffff_ffff),
            bridge: self.uplink.bridge,
            address: Ipv4Addr::new(a, b, c, last),
            prefix: self.uplink.prefix,
            gateway: self.uplink.gateway,
        };
        Ok(Lease {
            pod: pod.to_string(),
            interface,
            used: self.used.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_given_once_and_given_back() {
        let uplink = Uplink {
            bridge: 7,
            gateway: Ipv4Addr::new(10, 97, 3, 1),
            prefix: 24,
            no_way_out: None,
        };
        let network = Network {
            uplink,
            used: Arc::default(),
        };
        let first = network.lease("a").expect("an address");
        let second = network.lease("b").expect("an address");
        assert_eq!(first.interface().address, Ipv4Addr::new(10, 97, 3, 2));
        assert_eq!(second.interface().address, Ipv4Addr::new(10, 97, 3, 3));
        assert_eq!(
            first.interface().host_name.len(),
            14,
            "an interface name has at most fifteen bytes"
        );
        drop(first);
        assert_eq!(
            network.lease("c").expect("an address").interface().address,
            Ipv4Addr::new(10, 97, 3, 2)
        );
        let all: Vec<Lease> = (0..252)
            .map(|number| network.lease(&format!("p{number}")).expect("an address"))
            .collect();
        assert!(network.lease("one too many").is_err());
        drop(all);
    }
}
