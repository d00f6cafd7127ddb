//! The few rtnetlink requests that connect a pod: bridge, veth pair, address, route; synchronous and without threads.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const REQUEST_ACK: u16 = 0x1 | 0x4;
const CREATE_EXCLUSIVELY: u16 = 0x400 | 0x200;

const LINK_NET_NS_FD: u16 = 28;
const LINK_NAME: u16 = 3;
const LINK_MASTER: u16 = 10;
const LINK_INFO: u16 = 18;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;
const ADDRESS_ADDRESS: u16 = 1;
const ADDRESS_LOCAL: u16 = 2;
const ROUTE_GATEWAY: u16 = 5;

const UP: u32 = 1;

/// A route socket. It acts on the network namespace it was opened in.
pub(crate) struct Route {
    socket: OwnedFd,
}

impl Route {
    /// Opens the socket in the present network namespace.
    pub fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        Ok(Self { socket })
    }

    /// A veth pair: the host's end attached to `bridge` and up, the other end `peer` in the namespace `target`, not
    /// up: the kernel refuses that before both ends exist.
    pub fn add_veth(
        &mut self,
        host: &str,
        bridge: u32,
        peer: &str,
        target: RawFd,
    ) -> io::Result<()> {
        let mut message = Payload::link(0, UP);
        message.text(LINK_NAME, host);
        message.number(LINK_MASTER, bridge);
        message.nested(LINK_INFO, |info| {
            info.text(INFO_KIND, "veth");
            info.nested(INFO_DATA, |data| {
                data.nested(VETH_PEER, |other| {
                    other.0.extend_from_slice(&Payload::link(0, 0).0);
                    other.text(LINK_NAME, peer);
                    other.bytes(LINK_NET_NS_FD, &target.to_ne_bytes());
                });
            });
        });
        self.request(NEW_LINK, CREATE_EXCLUSIVELY, &message)
    }

    /// A bridge, up.
    pub fn add_bridge(&mut self, name: &str) -> io::Result<()> {
        let mut message = Payload::link(0, UP);
        message.text(LINK_NAME, name);
        message.nested(LINK_INFO, |info| info.text(INFO_KIND, "bridge"));
        self.request(NEW_LINK, CREATE_EXCLUSIVELY, &message)
    }

    /// Removes an interface.
    pub fn remove(&mut self, name: &str) -> io::Result<()> {
        let mut message = Payload::link(0, 0);
        message.text(LINK_NAME, name);
        self.request(DELETE_LINK, 0, &message)
    }

    /// Brings an interface up.
    pub fn up(&mut self, index: u32) -> io::Result<()> {
        self.request(NEW_LINK, 0, &Payload::link(index, UP))
    }

    /// Gives an interface an address.
    pub fn add_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let mut message = Payload(vec![2, prefix, 0, 0]);
        message.0.extend_from_slice(&index.to_ne_bytes());
        message.bytes(ADDRESS_LOCAL, &address.octets());
        message.bytes(ADDRESS_ADDRESS, &address.octets());
        self.request(NEW_ADDRESS, CREATE_EXCLUSIVELY, &message)
    }

    fn add_default_route(&mut self, gateway: Ipv4Addr) -> io::Result<()> {
        // Family IPv4, main table, protocol boot, scope universe, unicast.
        let mut message = Payload(vec![2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0]);
        message.bytes(ROUTE_GATEWAY, &gateway.octets());
        self.request(NEW_ROUTE, CREATE_EXCLUSIVELY, &message)
    }

    fn request(&mut self, kind: u16, flags: u16, payload: &Payload) -> io::Result<()> {
        let length = 16 + payload.0.len();
        let mut message = Vec::with_capacity(length);
        message.extend_from_slice(&(length as u32).to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&(REQUEST_ACK | flags).to_ne_bytes());
        message.extend_from_slice(&[0; 8]);
        message.extend_from_slice(&payload.0);
        let descriptor = self.socket.as_raw_fd();
        sendto(
            descriptor,
            &message,
            &NetlinkAddr::new(0, 0),
            MsgFlags::empty(),
        )?;
        let mut answer = [0; 8192];
        let read = recv(descriptor, &mut answer, MsgFlags::empty())?;
        let code = answer
            .get(16..20)
            .filter(|_| read >= 20)
            .and_then(|bytes| bytes.try_into().ok())
            .map(i32::from_ne_bytes)
            .ok_or_else(|| io::Error::other("short answer from the kernel"))?;
        if code == 0 {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(-code))
        }
    }
}

/// Brings an interface of the present namespace up.
pub(super) fn up(name: &str) -> io::Result<()> {
    Route::open()?.up(index(name)?)
}

/// Gives an interface of the present namespace an address.
pub(super) fn address(name: &str, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
    Route::open()?.add_address(index(name)?, address, prefix)
}

/// Sets the default route of the present namespace.
pub(super) fn default_route(gateway: Ipv4Addr) -> io::Result<()> {
    Route::open()?.add_default_route(gateway)
}

/// Index of an interface of the present namespace.
pub(crate) fn index(name: &str) -> io::Result<u32> {
    Ok(nix::net::if_::if_nametoindex(name)?)
}

/// Body of a request: fixed header, then attributes padded to four bytes.
pub(super) struct Payload(pub Vec<u8>);

impl Payload {
    fn link(index: u32, up: u32) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&index.to_ne_bytes());
        bytes.extend_from_slice(&up.to_ne_bytes());
        bytes.extend_from_slice(&up.to_ne_bytes());
        Self(bytes)
    }

    /// Header of a netfilter message.
    pub fn netfilter(family: u8, resource: u16) -> Self {
        let [high, low] = resource.to_be_bytes();
        Self(vec![family, 0, high, low])
    }

    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.0
            .extend_from_slice(&((4 + value.len()) as u16).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    pub fn text(&mut self, kind: u16, value: &str) {
        let mut terminated = value.as_bytes().to_vec();
        terminated.push(0);
        self.bytes(kind, &terminated);
    }

    fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    pub fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self(Vec::new());
        fill(&mut inner);
        self.bytes(kind, &inner.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested_as_netlink_wants() {
        let mut payload = Payload(Vec::new());
        payload.nested(18, |info| info.text(1, "veth"));
        let mut expected = Vec::new();
        expected.extend_from_slice(&16u16.to_ne_bytes());
        expected.extend_from_slice(&18u16.to_ne_bytes());
        expected.extend_from_slice(&9u16.to_ne_bytes());
        expected.extend_from_slice(&1u16.to_ne_bytes());
        expected.extend_from_slice(b"veth\0\0\0\0");
        assert_eq!(payload.0, expected);
    }
}
