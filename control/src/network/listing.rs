//! The links of this network namespace at one moment, for those who ask before anything runs: which of them can be listed
//! as interfaces, what a glob means, and what would carry them.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::IpAddr;

use ringway_shared::network::Lowers;
use ringway_shared::{MacAddress, Network};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage, LinkXdp, XdpAttached};

use super::attachments::Attachments;
use super::links::{Link, LinkAddress};
use super::lowers;
use super::questions::Asker;
use crate::config::InterfacePattern;

const RTM_GETLINK: u16 = 18;
/// `struct ifinfomsg`, all zero: every link.
const EVERY: [u8; 16] = [0; 16];
const RTM_GETADDR: u16 = 22;
/// `struct ifaddrmsg`, all zero: every address.
const EVERY_ADDRESS: [u8; 8] = [0; 8];

/// What the kernel says of every link of the calling thread's network namespace. Does not wait.
pub(super) fn messages() -> io::Result<Vec<LinkMessage>> {
    let link = |bytes: Vec<u8>| match NetlinkMessage::<RouteNetlinkMessage>::deserialize(&bytes).ok()?.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message)) => Some(message),
        _ => None,
    };
    Ok(Asker::open()?.dump(RTM_GETLINK, &EVERY)?.into_iter().filter_map(link).collect())
}

/// Every address that the kernel has in the calling thread's network namespace. Does not wait.
pub fn addresses() -> io::Result<HashSet<IpAddr>> {
    let address = |bytes: Vec<u8>| match NetlinkMessage::<RouteNetlinkMessage>::deserialize(&bytes).ok()?.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(message)) => LinkAddress::from_message(&message),
        _ => None,
    };
    let messages = Asker::open()?.dump(RTM_GETADDR, &EVERY_ADDRESS)?;
    Ok(messages.into_iter().filter_map(address).map(|address| address.ip()).collect())
}

/// Every link there is.
#[derive(Debug, Default)]
pub struct Listing {
    links: Vec<Link>,
    /// By ifindex, those that an XDP program is attached to, and what each stands on.
    programs: Vec<(u32, Vec<u32>)>,
    /// By ifindex, the MAC addresses that devices have from the factory.
    permanent: BTreeMap<u32, MacAddress>,
}

impl Listing {
    /// Those of the calling thread's network namespace.
    pub fn read() -> io::Result<Self> {
        let link = |message: &LinkMessage| Link::from_message(message).map(|link| (link, has_program(message)));
        let messages = messages()?;
        let links: Vec<(Link, bool)> = messages.iter().filter_map(link).collect();
        let permanent = messages.iter().filter_map(permanent).collect();
        let with = links.iter().filter(|(_, has_program)| *has_program).map(|(link, _)| link);
        let programs = with.map(|link| (link.index, below(link, &links))).collect();
        Ok(Listing { links: links.into_iter().map(|(link, _)| link).collect(), programs, permanent })
    }

    /// The interfaces that these patterns mean, with what carries them, and without addresses and routes.
    pub fn network(&self, patterns: Vec<InterfacePattern>) -> Network {
        let (interfaces, _) = Attachments::new(patterns).interfaces(&self.links, &[]);
        Network::new(0, interfaces, [], [])
    }

    /// Whether the kernel would refuse another XDP program on this link: it has one, or what stands on it has.
    pub fn has_program(&self, index: u32) -> bool {
        self.programs.iter().any(|(link, below)| *link == index || below.contains(&index))
    }

    /// The ifindex and the name of every link.
    pub fn names(&self) -> impl Iterator<Item = (u32, &str)> {
        self.links.iter().map(|link| (link.index, &*link.name))
    }

    /// The MAC address that a device has from the factory; `None` for one without, and on Linux before 5.6.
    pub fn permanent_mac(&self, index: u32) -> Option<MacAddress> {
        self.permanent.get(&index).copied()
    }

    fn find(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| &*link.name == name)
    }

    /// Why Ringway cannot be attached to the link of this name; `None` where it can, or there is no such link.
    pub fn why_not(&self, name: &str) -> Option<String> {
        self.find(name).and_then(|link| lowers::of(link, &self.links).err())
    }

    /// Whether frames of another link come by this one: a member of a bond, a port of a bridge, and the like.
    pub fn is_member(&self, name: &str) -> bool {
        self.find(name).is_some_and(|link| link.layer.member.is_some())
    }

    /// Whether an entry of the configuration means this link: a plain name is taken at its word, of a glob not all that it
    /// matches is meant.
    pub fn is_meant(&self, pattern: &InterfacePattern, name: &str) -> bool {
        let meant = |link| lowers::is_meant(link, &self.links, |name| pattern.matches(name));
        pattern.matches(name) && (!pattern.is_glob() || self.find(name).is_some_and(meant))
    }

    /// What carries the link of this name, or would.
    pub fn lowers(&self, name: &str) -> Option<Lowers> {
        self.find(name).and_then(|link| lowers::of(link, &self.links).ok())
    }
}

/// The ifindex of a device, and the MAC address that it has from the factory.
fn permanent(message: &LinkMessage) -> Option<(u32, MacAddress)> {
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::PermAddress(bytes) => <[u8; 6]>::try_from(bytes.as_slice()).ok(),
        _ => None,
    });
    Some((message.header.index, MacAddress(mac?)))
}

fn has_program(message: &LinkMessage) -> bool {
    let all = message.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::Xdp(all) => Some(all),
        _ => None,
    });
    // What the NIC itself runs is in nobody's way.
    let is_in_the_way = |xdp: &LinkXdp| {
        matches!(xdp, LinkXdp::Attached(XdpAttached::Driver | XdpAttached::SocketBuffer | XdpAttached::Multiple))
    };
    all.flatten().any(is_in_the_way)
}

/// The links that a link stands on: the members of a bond or bridge, and what a VLAN device is on.
fn below(link: &Link, all: &[(Link, bool)]) -> Vec<u32> {
    let is_member = |other: &Link| other.layer.member.as_ref().is_some_and(|(upper, _)| *upper == link.index);
    let members = all.iter().map(|(other, _)| other).filter(|other| is_member(other)).map(|other| other.index);
    members.chain(link.layer.below).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_asked_for_every_link() {
        let listing = Listing::read().unwrap();
        let told = listing.why_not("lo").unwrap();
        assert!(told.starts_with("is not an Ethernet interface"), "{told}");
        assert_eq!(listing.why_not("rwnosuch0"), None);
        assert!(!listing.is_meant(&InterfacePattern::parse("l*").unwrap(), "lo"));
        assert!(listing.is_meant(&InterfacePattern::parse("lo").unwrap(), "lo"), "it is told why that cannot be");
    }

    #[test]
    fn a_device_has_its_address_from_the_factory_whatever_it_uses_now() {
        let mut message = LinkMessage::default();
        message.header.index = 7;
        message.attributes = vec![LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1])];
        assert_eq!(permanent(&message), None);
        message.attributes.push(LinkAttribute::PermAddress(vec![2, 0, 0, 0, 0, 9]));
        assert_eq!(permanent(&message), Some((7, MacAddress([2, 0, 0, 0, 0, 9]))));
    }
}
