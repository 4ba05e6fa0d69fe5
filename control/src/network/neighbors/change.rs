//! What the kernel says about a neighbour.

use std::net::IpAddr;

use ringway_shared::MacAddress;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};

use super::Key;

// The kernel's NUD_* bits.
pub(super) const REACHABLE: u16 = 0x02;
pub(super) const STALE: u16 = 0x04;
pub(super) const DELAY: u16 = 0x08;
pub(super) const PROBE: u16 = 0x10;
pub(super) const FAILED: u16 = 0x20;
pub(super) const NOARP: u16 = 0x40;
pub(super) const PERMANENT: u16 = 0x80;
pub(super) const FRESH: u16 = REACHABLE | DELAY | PROBE | NOARP | PERMANENT;
pub(super) const USABLE: u16 = FRESH | STALE;

/// What a netlink message says about a neighbour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub(super) key: Key,
    pub(super) mac: Option<MacAddress>,
    /// NUD_* bits; 0 when the entry is gone.
    pub(super) state: u16,
}

impl Change {
    /// The change that a message describes; `None` for bridge and proxy entries. `deleted`: it is an RTM_DELNEIGH.
    pub fn from_message(message: &NeighbourMessage, deleted: bool) -> Option<Self> {
        let header = &message.header;
        if !matches!(header.family, AddressFamily::Inet | AddressFamily::Inet6)
            || header.flags.contains(NeighbourFlags::Proxy)
        {
            return None;
        }
        let (mut address, mut mac) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::from(*v4)),
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::from(*v6)),
                NeighbourAttribute::LinkLayerAddress(bytes) => {
                    mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(MacAddress);
                }
                _ => {}
            }
        }
        let state = if deleted { 0 } else { u16::from(header.state) };
        Some(Change { key: (header.ifindex, address?), mac, state })
    }

    /// The MAC address that packets can be sent to.
    pub fn usable(&self) -> Option<MacAddress> {
        self.mac.filter(|mac| self.state & USABLE != 0 && !mac.is_group() && *mac != MacAddress::default())
    }
}

/// The state that makes the kernel resolve a neighbour without changing anything else: none, with NTF_USE.
pub fn question() -> (NeighbourState, NeighbourFlags) {
    (NeighbourState::None, NeighbourFlags::Use)
}
