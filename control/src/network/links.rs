//! Links and their addresses as the kernel reports them.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use ringway_shared::MacAddress;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};

use super::layers::Layer;
use super::unfit;

/// A network device of this namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its ifindex.
    pub index: u32,
    /// Its name.
    pub name: Arc<str>,
    /// Its MAC address; `None` where Ringway cannot be attached to it (`unfit.rs`).
    pub mac: Option<MacAddress>,
    /// The largest IP packet it carries.
    pub mtu: u32,
    /// Administratively up, with a carrier.
    pub up: bool,
    /// Why Ringway cannot be attached to it, in words that go on after its name (`unfit.rs`).
    pub(super) unfit: Option<Arc<str>>,
    /// What it is made of.
    pub layer: Layer,
}

impl Link {
    /// The link that a message describes; `None` for messages of other kinds that share the type (bridge ports).
    pub fn from_message(message: &LinkMessage) -> Option<Self> {
        let header = &message.header;
        if u8::from(header.interface_family) != 0 {
            return None;
        }
        let (mut name, mut mac, mut mtu) = (None, None, 0);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(text) => name = Some(text.as_str()),
                LinkAttribute::Address(bytes) => mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(MacAddress),
                LinkAttribute::Mtu(bytes) => mtu = *bytes,
                _ => {}
            }
        }
        let unfit = unfit::why(message);
        Some(Link {
            index: header.index,
            name: name?.into(),
            mac: mac.filter(|_| unfit.is_none()),
            mtu,
            // IFF_RUNNING would say the same, up to a second later.
            up: header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp) && !header.flags.contains(LinkFlags::Dormant),
            unfit: unfit.map(Arc::from),
            layer: Layer::of(message),
        })
    }

    /// Whether this is one of the TAP devices through which Ringway gives packets to the kernel (`rw<ifindex>`): a glob
    /// never attaches Ringway to itself.
    pub(super) fn is_own_tap(&self) -> bool {
        is_tap_name(&self.name)
    }
}

/// Whether a device may be one of our TAP devices, by its name.
pub(super) fn is_tap_name(name: &str) -> bool {
    name.strip_prefix("rw").is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// An address of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkAddress {
    /// The link's ifindex.
    pub link: u32,
    /// The address with its prefix length (the host's own length where the address brings no connected route).
    pub address: IpNet,
    /// What it is good for.
    pub standing: Standing,
}

/// What an address is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Everything.
    Preferred,
    /// Everything, but others come first: a second one of its network (IPv4), or a temporary one (IPv6).
    Secondary,
    /// Not for new connections; a source of last resort.
    Deprecated,
    /// Not for anything yet: it may be somebody else's.
    Tentative,
}

impl LinkAddress {
    /// The address alone.
    pub fn ip(&self) -> IpAddr {
        self.address.addr()
    }

    /// The address that a message describes; `None` for one that somebody else has.
    pub fn from_message(message: &AddressMessage) -> Option<Self> {
        let (mut local, mut peer) = (None, None);
        let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(address) => local = Some(*address),
                AddressAttribute::Address(address) => peer = Some(*address),
                // The header has room for the first eight flags only.
                AddressAttribute::Flags(all) => flags = *all,
                _ => {}
            }
        }
        if flags.contains(AddressFlags::Dadfailed) {
            return None;
        }
        let own: IpAddr = local.or(peer)?;
        // With a peer the prefix is the peer's network, not the address's own.
        let connected = peer.is_none_or(|peer| peer == own) && !flags.contains(AddressFlags::Noprefixroute);
        let host = if own.is_ipv4() { 32 } else { 128 };
        let length = if connected { message.header.prefix_len } else { host };
        Some(LinkAddress {
            link: message.header.index,
            address: IpNet::new(own, length).ok()?,
            standing: if flags.contains(AddressFlags::Tentative) && !flags.contains(AddressFlags::Optimistic) {
                Standing::Tentative
            } else if flags.intersects(AddressFlags::Deprecated | AddressFlags::Optimistic) {
                Standing::Deprecated
            } else if flags.contains(AddressFlags::Secondary) {
                // The same bit means a temporary one in IPv6.
                Standing::Secondary
            } else {
                Standing::Preferred
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtnetlink::packet_route::AddressFamily;
    use rtnetlink::packet_route::link::LinkLayerType;

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.into(),
            mac: Some(MacAddress([2, 0, 0, 0, 0, index as u8])),
            mtu: 1500,
            up: true,
            ..Link::default()
        }
    }

    #[test]
    fn a_link_message_gives_name_mac_mtu_and_state() {
        let mut message = LinkMessage::default();
        message.header.index = 4;
        message.header.link_layer_type = LinkLayerType::Ether;
        message.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
        message.attributes = vec![
            LinkAttribute::IfName("eth0".into()),
            LinkAttribute::Mtu(9000),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, 4]),
        ];
        assert_eq!(Link::from_message(&message), Some(Link { mtu: 9000, ..link(4, "eth0") }));
        message.header.flags = LinkFlags::Up;
        assert!(!Link::from_message(&message).unwrap().up, "no carrier");
        message.header.flags = LinkFlags::Up | LinkFlags::LowerUp | LinkFlags::Loopback;
        assert_eq!(Link::from_message(&message).unwrap().mac, None);
        message.header.interface_family = AddressFamily::Bridge;
        assert_eq!(Link::from_message(&message), None);
    }

    #[test]
    fn an_address_message_gives_the_own_address_and_its_standing() {
        let message = |attributes: Vec<AddressAttribute>| {
            let mut message = AddressMessage::default();
            message.header.index = 4;
            message.header.prefix_len = 24;
            message.attributes = attributes;
            let address = LinkAddress::from_message(&message)?;
            Some(format!("{} {:?}", address.address, address.standing))
        };
        let v4 = |text: &str| text.parse::<IpAddr>().unwrap();
        let (own, peer) = (v4("10.0.0.1"), v4("10.9.0.1"));
        use AddressAttribute::{Address, Flags, Local};
        assert_eq!(message(vec![Address(own), Local(own)]).unwrap(), "10.0.0.1/24 Preferred");
        assert_eq!(message(vec![Address(peer), Local(own)]).unwrap(), "10.0.0.1/32 Preferred");
        let flagged = |flags| message(vec![Address(own), Flags(flags)]);
        assert_eq!(flagged(AddressFlags::Noprefixroute).unwrap(), "10.0.0.1/32 Preferred");
        assert_eq!(flagged(AddressFlags::Tentative).unwrap(), "10.0.0.1/24 Tentative");
        // Usable at once, but only when there is nothing better.
        let optimistic = AddressFlags::Tentative | AddressFlags::Optimistic;
        assert_eq!(flagged(optimistic).unwrap(), "10.0.0.1/24 Deprecated");
        assert_eq!(flagged(AddressFlags::Deprecated).unwrap(), "10.0.0.1/24 Deprecated");
        assert_eq!(flagged(AddressFlags::Secondary).unwrap(), "10.0.0.1/24 Secondary");
        assert_eq!(flagged(AddressFlags::Tentative | AddressFlags::Dadfailed), None);
        assert_eq!(message(vec![]), None);
    }
}
