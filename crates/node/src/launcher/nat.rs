//! Masquerading of a pod network, by nf_tables over netlink: no tool has to be installed.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

use super::network::Payload;

const SUBSYSTEM: u16 = 10 << 8;
const NEW_TABLE: u16 = SUBSYSTEM;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const IPV4: u8 = 2;

/// Rules that vanish with this value: the table is owned by its socket.
pub(super) struct Nat {
    _socket: OwnedFd,
}

impl Nat {
    /// Masquerades what leaves the /24 network of `gateway`.
    pub fn start(name: &str, gateway: Ipv4Addr) -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        )?;
        let network = &gateway.octets()[..3];
        let mut table = Payload::netfilter(IPV4, 0);
        table.text(1, name);
        // NFT_TABLE_F_OWNER.
        table.bytes(2, &2u32.to_be_bytes());
        let mut chain = Payload::netfilter(IPV4, 0);
        chain.text(1, name);
        chain.text(3, "postrouting");
        chain.nested(4, |hook| {
            hook.bytes(1, &4u32.to_be_bytes());
            hook.bytes(2, &100u32.to_be_bytes());
        });
        chain.text(7, "nat");
        let mut rule = Payload::netfilter(IPV4, 0);
        rule.text(1, name);
        rule.text(2, "postrouting");
        rule.nested(4, |list| {
            // From the network (source address at byte 12) to outside of it (destination at 16).
            for (offset, operator) in [(12u32, 0u32), (16, 1)] {
                expression(list, "payload", |data| {
                    for (attribute, value) in [(1, 1), (2, 1), (3, offset), (4, 3)] {
                        data.bytes(attribute, &value.to_be_bytes());
                    }
                });
                expression(list, "cmp", |data| {
                    data.bytes(1, &1u32.to_be_bytes());
                    data.bytes(2, &operator.to_be_bytes());
                    data.nested(3, |value| value.bytes(1, network));
                });
            }
            expression(list, "masq", |_| {});
        });
        let begin = Payload::netfilter(0, SUBSYSTEM >> 8);
        let messages = [
            (BATCH_BEGIN, 0, &begin),
            (NEW_TABLE, 0x404, &table),
            (NEW_CHAIN, 0x404, &chain),
            (NEW_RULE, 0xC04, &rule),
            (BATCH_END, 0, &begin),
        ];
        let mut batch = Vec::new();
        for (number, (kind, flags, payload)) in messages.into_iter().enumerate() {
            let length = 16 + payload.0.len();
            batch.extend_from_slice(&(length as u32).to_ne_bytes());
            batch.extend_from_slice(&kind.to_ne_bytes());
            batch.extend_from_slice(&(flags | 1u16).to_ne_bytes());
            batch.extend_from_slice(&(number as u32).to_ne_bytes());
            batch.extend_from_slice(&0u32.to_ne_bytes());
            batch.extend_from_slice(&payload.0);
        }
        sendto(
            socket.as_raw_fd(),
            &batch,
            &NetlinkAddr::new(0, 0),
            MsgFlags::empty(),
        )?;
        // One acknowledgement for each of the three that asked for it; after a failure there may be fewer.
        let mut answer = [0; 8192];
        let mut acknowledged = 0;
        while acknowledged < 3 {
            let count = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
            let mut rest = answer.get(..count).unwrap_or_default();
            while rest.len() >= 20 {
                let word = |at: usize| {
                    rest.get(at..at + 4)
                        .and_then(|bytes| bytes.try_into().ok())
                        .map_or(0, i32::from_ne_bytes)
                };
                let (length, code) = (word(0), word(16));
                if code != 0 {
                    return Err(io::Error::from_raw_os_error(-code));
                }
                acknowledged += 1;
                let step = usize::try_from(length)
                    .unwrap_or(20)
                    .max(20)
                    .next_multiple_of(4);
                rest = rest.get(step..).unwrap_or_default();
            }
        }
        Ok(Self { _socket: socket })
    }
}

fn expression(list: &mut Payload, name: &str, fill: impl FnOnce(&mut Payload)) {
    list.nested(1, |element| {
        element.text(1, name);
        element.nested(2, fill);
    });
}
