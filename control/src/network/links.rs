//! Links and their addresses as the kernel reports them, and which of them Ringway is attached to.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use ringway_shared::network::{Interface, Lowers};
use ringway_shared::{InterfaceId, MacAddress};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};

use super::layers::Layer;
use super::{lowers, unfit};
use crate::config::InterfacePattern;

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

/// Which interfaces Ringway is attached to, and their numbers. A number belongs to a name for as long as the process
/// runs: an interface that is deleted and made again keeps it.
#[derive(Debug)]
pub struct Attachments {
    patterns: Vec<InterfacePattern>,
    names: Vec<Arc<str>>,
}

impl Attachments {
    /// Nothing attached yet; links whose names match one of `patterns` will be.
    pub fn new(patterns: Vec<InterfacePattern>) -> Self {
        Attachments { patterns, names: Vec::new() }
    }

    /// Other interfaces from now on. Those that are no longer meant keep their numbers, and are gone.
    pub fn set(&mut self, patterns: Vec<InterfacePattern>) {
        self.patterns = patterns;
    }

    /// Whether this link is an interface. A plain name is taken at its word; a glob leaves out what it hardly means
    /// ([`lowers::is_meant`]).
    fn wants(&self, link: &Link, all: &[Link]) -> bool {
        let is_known = link.mac.is_some() || link.unfit.is_some();
        let means = |pattern: &InterfacePattern| {
            !pattern.is_glob() || lowers::is_meant(link, all, |name| pattern.matches(name))
        };
        is_known && self.patterns.iter().any(|pattern| pattern.matches(&link.name) && means(pattern))
    }

    /// The attached interfaces by number, with their addresses; and the number of each attached ifindex.
    pub fn interfaces(
        &mut self,
        links: &[Link],
        addresses: &[LinkAddress],
    ) -> (Vec<Interface>, HashMap<u32, InterfaceId>) {
        let mut wanted: Vec<&Link> = links.iter().filter(|link| self.wants(link, links)).collect();
        // New numbers follow the order of the configuration, then of the names, so that equal nodes number alike.
        wanted.sort_by_key(|link| {
            (self.patterns.iter().position(|pattern| pattern.matches(&link.name)), link.name.clone())
        });
        for link in &wanted {
            if !self.names.contains(&link.name) && self.names.len() < usize::from(u16::MAX) {
                self.names.push(link.name.clone());
            }
        }
        let (mut numbers, mut carried) = (HashMap::new(), HashMap::new());
        let interfaces = self.names.iter().enumerate().map(|(number, name)| {
            let id = InterfaceId(number as u16);
            let Some(link) = wanted.iter().find(|link| link.name == *name) else {
                return gone(id, name.clone());
            };
            numbers.insert(link.index, id);
            let usable = |address: &&LinkAddress| address.standing != Standing::Tentative;
            let own = addresses.iter().filter(|address| address.link == link.index).filter(usable);
            let mut own: Vec<&LinkAddress> = own.collect();
            // The kernel lists primary addresses first; deprecated ones go last.
            own.sort_by_key(|address| address.standing == Standing::Deprecated);
            let lowers = carried_once(link, links, &mut carried);
            Interface {
                id,
                name: name.clone(),
                index: link.index,
                mac: link.mac.unwrap_or_default(),
                mtu: link.mtu,
                addresses: own.into_iter().map(|address| address.address).collect(),
                up: link.up && !lowers.devices.is_empty(),
                lowers,
            }
        });
        let interfaces = interfaces.collect();
        (interfaces, numbers)
    }
}

/// What carries a link. A frame belongs to one interface: what a device carries under a tag for one, it carries for no other.
fn carried_once<'a>(link: &'a Link, links: &[Link], carried: &mut HashMap<(u32, Option<u16>), &'a str>) -> Lowers {
    let lowers = lowers::of(link, links).unwrap_or_else(Lowers::nothing);
    for device in &*lowers.devices {
        if let Some(other) = carried.get(&(device.index, lowers.vlan)) {
            let tag = lowers.vlan.map_or_else(String::new, |id| format!(" under VLAN {id}"));
            return Lowers::nothing(format!(
                "is carried by {}{tag}, and so is {other}, which is listed as well; list one of them",
                device.name
            ));
        }
    }
    carried.extend(lowers.devices.iter().map(|device| ((device.index, lowers.vlan), &*link.name)));
    lowers
}

/// An interface that went away: down, without ifindex and addresses.
fn gone(id: InterfaceId, name: Arc<str>) -> Interface {
    let (mac, addresses, lowers) = Default::default();
    Interface { id, name, index: 0, mac, mtu: 0, addresses, up: false, lowers }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtnetlink::packet_route::AddressFamily;
    use rtnetlink::packet_route::link::LinkLayerType;

    fn attachments(patterns: &[&str]) -> Attachments {
        Attachments::new(patterns.iter().map(|pattern| InterfacePattern::parse(pattern).unwrap()).collect())
    }

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
    fn an_interface_keeps_its_number_when_it_comes_back_with_another_ifindex() {
        let mut attachments = attachments(&["eth*", "uplink"]);
        let standing = Standing::Preferred;
        let address = |link| LinkAddress { link, address: "10.0.0.1/24".parse().unwrap(), standing };
        let (first, numbers) = attachments.interfaces(&[link(7, "uplink"), link(3, "eth1"), link(9, "lan")], &[]);
        assert_eq!(first.iter().map(|i| &*i.name).collect::<Vec<_>>(), ["eth1", "uplink"]);
        assert_eq!(numbers[&7], InterfaceId(1));
        let (second, _) = attachments.interfaces(&[link(7, "uplink"), link(4, "eth0")], &[address(7)]);
        assert_eq!(
            second.iter().map(|i| (&*i.name, i.index, i.up)).collect::<Vec<_>>(),
            [("eth1", 0, false), ("uplink", 7, true), ("eth0", 4, true)]
        );
        assert_eq!(second[1].addresses, ["10.0.0.1/24".parse().unwrap()]);
        let (third, numbers) = attachments.interfaces(&[link(30, "eth1"), link(7, "uplink")], &[]);
        assert_eq!((third[0].index, third[0].up), (30, true));
        assert_eq!(numbers[&30], InterfaceId(0));
    }

    #[test]
    fn an_interface_that_is_no_longer_meant_is_gone_and_the_others_keep_their_numbers() {
        let mut attachments = attachments(&["eth0", "eth1"]);
        let links = [link(3, "eth0"), link(4, "eth1"), link(5, "eth2")];
        attachments.interfaces(&links, &[]);
        attachments.set(["eth2", "eth1"].map(|name| InterfacePattern::parse(name).unwrap()).to_vec());
        let (interfaces, numbers) = attachments.interfaces(&links, &[]);
        assert_eq!(
            interfaces.iter().map(|i| (&*i.name, i.index)).collect::<Vec<_>>(),
            [("eth0", 0), ("eth1", 4), ("eth2", 5)]
        );
        assert_eq!(numbers.get(&3), None);
        assert_eq!(numbers[&4], InterfaceId(1));
    }

    #[test]
    fn a_glob_attaches_neither_to_our_own_taps_nor_to_what_is_not_ethernet() {
        let mut attachments = attachments(&["*"]);
        let loopback = Link { mac: None, ..link(1, "lo") };
        let (interfaces, _) = attachments.interfaces(&[loopback, link(2, "rw5"), link(5, "rwan")], &[]);
        assert_eq!(interfaces.iter().map(|i| &*i.name).collect::<Vec<_>>(), ["rwan"]);
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
