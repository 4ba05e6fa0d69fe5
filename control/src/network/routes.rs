//! Routes as the kernel reports them, and what their ways mean for the packet path.
//!
//! Of a multipath route all ways are used that are alive and leave by an attached interface that is up. Without any, the first
//! that is alive says where it would have gone, else the first.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use ringway_shared::InterfaceId;
use ringway_shared::network::{Interface, Path, RouteTarget};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHopFlags, RouteType, RouteVia,
};

use super::links::Link;
use super::objects::NextHopObjects;

/// The tables, of which two have a part of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// The machine's own addresses.
    Local,
    /// Everything, where there are no policy rules.
    Main,
    /// For policy rules.
    Other(u32),
}

/// One way of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NextHop {
    pub(super) link: u32,
    pub(super) via: Option<IpAddr>,
    pub(super) weight: u16,
    pub(super) dead: bool,
    pub(super) encapsulated: bool,
}

/// Where a kernel route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// By one of these.
    Ways(Vec<NextHop>),
    /// By what this next hop object says.
    Object(u32),
    /// To the machine itself.
    Local,
    /// Nowhere, or to many.
    Nowhere,
}

impl Kind {
    /// The ways, looked up where it is an object that says them.
    pub(super) fn ways(&self, objects: &NextHopObjects) -> Vec<NextHop> {
        match self {
            Kind::Ways(ways) => ways.clone(),
            Kind::Object(number) => objects.ways(*number),
            Kind::Local | Kind::Nowhere => Vec::new(),
        }
    }

    /// Whether it has ways and none of them is alive.
    pub(super) fn is_dead(&self, objects: &NextHopObjects) -> bool {
        match self {
            Kind::Ways(ways) => ways.iter().all(|way| way.dead),
            Kind::Object(_) => self.ways(objects).iter().all(|way| way.dead),
            Kind::Local | Kind::Nowhere => false,
        }
    }
}

/// A route as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelRoute {
    pub(super) table: Table,
    pub(super) to: IpNet,
    /// For packets from there only.
    pub(super) from: Option<IpNet>,
    /// For packets of one type of service only.
    pub(super) for_service: bool,
    pub(super) metric: u32,
    pub(super) source: Option<IpAddr>,
    pub(super) kind: Kind,
}

impl KernelRoute {
    /// The route that a message of a dump describes; `None` where it is none.
    pub fn from_message(message: &RouteMessage) -> Option<Self> {
        // Cloned entries are path MTU exceptions and redirects, not routes.
        Self::from_answer(message).filter(|_| !message.header.flags.contains(RouteFlags::Cloned))
    }

    /// The route that an answer describes.
    pub(super) fn from_answer(message: &RouteMessage) -> Option<Self> {
        let header = &message.header;
        let unspecified: IpAddr = match header.address_family {
            AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
            AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => return None,
        };
        let (mut table, mut to, mut from) = (u32::from(header.table), unspecified, unspecified);
        let (mut metric, mut source, mut object) = (0, None, None);
        let mut single = NextHop {
            weight: 1,
            dead: header.flags.intersects(RouteFlags::Dead | RouteFlags::Linkdown),
            ..NextHop::default()
        };
        let mut ways = Vec::new();
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Table(number) => table = *number,
                RouteAttribute::Destination(address) => to = ip(address)?,
                RouteAttribute::Source(address) => from = ip(address)?,
                RouteAttribute::Priority(value) => metric = *value,
                RouteAttribute::PrefSource(address) => source = ip(address),
                RouteAttribute::NhId(number) => object = Some(*number),
                RouteAttribute::MultiPath(hops) => {
                    ways.extend(hops.iter().map(|hop| {
                        let mut way = NextHop {
                            link: hop.interface_index,
                            weight: u16::from(hop.hops) + 1,
                            dead: hop.flags.intersects(RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown),
                            ..NextHop::default()
                        };
                        hop.attributes.iter().for_each(|attribute| way.read(attribute));
                        way
                    }));
                }
                other => single.read(other),
            }
        }
        if ways.is_empty() {
            ways.push(single);
        }
        let from = IpNet::new(from, header.source_prefix_length).ok()?.trunc();
        Some(KernelRoute {
            table: match table {
                255 => Table::Local,
                254 => Table::Main,
                other => Table::Other(other),
            },
            to: IpNet::new(to, header.destination_prefix_length).ok()?.trunc(),
            from: Some(from).filter(|from| from.prefix_len() > 0),
            for_service: header.tos != 0,
            metric,
            source,
            kind: match (header.kind, object) {
                // The kernel may say nothing but the number.
                (RouteType::Unicast, Some(object)) if ways.iter().all(|way| way.link == 0) => Kind::Object(object),
                (RouteType::Unicast, _) => Kind::Ways(ways),
                (RouteType::Local | RouteType::Anycast, _) => Kind::Local,
                _ => Kind::Nowhere,
            },
        })
    }

    /// A route that leads nowhere.
    pub(super) fn nowhere(to: IpNet) -> Self {
        KernelRoute {
            table: Table::Main,
            to,
            from: None,
            for_service: false,
            metric: 0,
            source: None,
            kind: Kind::Nowhere,
        }
    }

    /// Whether it counts for some packets only, whatever their destination.
    pub(super) fn is_special(&self) -> bool {
        self.for_service || self.from.is_some()
    }

    /// Whether the dump can say for itself what the kernel does with it.
    pub(super) fn is_mirrored(&self) -> bool {
        matches!(self.table, Table::Local | Table::Main) && !self.is_special()
    }
}

impl NextHop {
    fn read(&mut self, attribute: &RouteAttribute) {
        match attribute {
            RouteAttribute::Oif(index) => self.link = *index,
            RouteAttribute::Gateway(address) => self.via = ip(address),
            // An IPv4 route by an IPv6 next hop.
            RouteAttribute::Via(RouteVia::Inet6(address)) => self.via = Some((*address).into()),
            RouteAttribute::Via(RouteVia::Inet(address)) => self.via = Some((*address).into()),
            RouteAttribute::Encap(_) | RouteAttribute::EncapType(_) => self.encapsulated = true,
            _ => {}
        }
    }
}

pub(super) fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

/// What ways mean for the packet path.
pub(super) struct Targets<'a> {
    links: HashMap<u32, &'a Link>,
    numbers: &'a HashMap<u32, InterfaceId>,
    interfaces: &'a [Interface],
    objects: &'a NextHopObjects,
}

impl<'a> Targets<'a> {
    /// `numbers` are the attached interfaces by ifindex.
    pub(super) fn new(
        links: &'a [Link],
        numbers: &'a HashMap<u32, InterfaceId>,
        interfaces: &'a [Interface],
        objects: &'a NextHopObjects,
    ) -> Self {
        let links = links.iter().map(|link| (link.index, link)).collect();
        Targets { links, numbers, interfaces, objects }
    }

    /// The ifindex of an attached interface.
    pub(super) fn link(&self, interface: InterfaceId) -> u32 {
        self.interfaces.get(usize::from(interface.0)).map_or(0, |interface| interface.index)
    }

    /// Where packets go.
    pub(super) fn of(&self, kind: &Kind) -> RouteTarget {
        match kind {
            Kind::Local => RouteTarget::Local,
            Kind::Nowhere => RouteTarget::Nowhere,
            Kind::Ways(ways) => self.among(ways),
            Kind::Object(number) => self.among(&self.objects.ways(*number)),
        }
    }

    fn attached(&self, way: &NextHop) -> Option<(InterfaceId, bool)> {
        let id = self.numbers.get(&way.link).copied().filter(|_| !way.encapsulated)?;
        self.interfaces.get(usize::from(id.0)).map(|interface| (id, interface.up))
    }

    fn among(&self, ways: &[NextHop]) -> RouteTarget {
        let usable = ways.iter().filter(|way| !way.dead).filter_map(|way| {
            let (interface, _) = self.attached(way).filter(|(_, up)| *up)?;
            Some(Path { interface, via: way.via, source: None, weight: way.weight })
        });
        let paths: Arc<[Path]> = usable.collect();
        match &*paths {
            [] => {}
            [only] => return RouteTarget::Out { interface: only.interface, via: only.via },
            _ => return RouteTarget::Paths(paths),
        }
        let Some(way) = ways.iter().find(|way| !way.dead).or(ways.first()) else { return RouteTarget::Nowhere };
        match (self.attached(way), self.links.get(&way.link)) {
            (Some((interface, _)), _) => RouteTarget::Out { interface, via: way.via },
            (None, Some(link)) => RouteTarget::Unlisted(match link.mac {
                _ if way.encapsulated => format!("{} (encapsulated)", link.name).into(),
                None => format!("{} (cannot be listed)", link.name).into(),
                Some(_) => link.name.clone(),
            }),
            // The link is gone, the route follows.
            (None, None) => RouteTarget::Nowhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::InterfacePattern;
    use ringway_shared::MacAddress;
    use rtnetlink::packet_route::route::RouteNextHop;

    fn message(table: u8, kind: RouteType, to: &str, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let to: IpNet = to.parse().unwrap();
        let mut message = RouteMessage::default();
        message.header.address_family = if to.addr().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        message.header.destination_prefix_length = to.prefix_len();
        message.header.table = table;
        message.header.kind = kind;
        message.attributes = attributes;
        if to.prefix_len() > 0 {
            message.attributes.push(RouteAttribute::Destination(to.addr().into()));
        }
        message
    }

    fn unicast(to: &str, attributes: Vec<RouteAttribute>) -> RouteMessage {
        message(254, RouteType::Unicast, to, attributes)
    }

    fn gateway(address: &str) -> RouteAttribute {
        RouteAttribute::Gateway(address.parse::<IpAddr>().unwrap().into())
    }

    fn hop(link: u32, via: &str, flags: RouteNextHopFlags) -> RouteNextHop {
        let mut hop = RouteNextHop::default();
        hop.interface_index = link;
        hop.flags = flags;
        hop.attributes = vec![gateway(via)];
        hop
    }

    /// Where the routes lead: eth0 (2) and eth1 (3, down) are attached, lan0 (4) is not, wg0 (5) cannot be.
    fn target(message: &RouteMessage) -> RouteTarget {
        let link = |index, name: &str, up| Link {
            index,
            name: name.into(),
            mac: Some(MacAddress([2, 0, 0, 0, 0, index as u8])).filter(|_| name != "wg0"),
            mtu: 1500,
            up,
            ..Link::default()
        };
        let links = [link(2, "eth0", true), link(3, "eth1", false), link(4, "lan0", true), link(5, "wg0", true)];
        let mut attachments = super::super::links::Attachments::new(vec![InterfacePattern::parse("eth*").unwrap()]);
        let (interfaces, numbers) = attachments.interfaces(&links, &[]);
        let objects = NextHopObjects::default();
        Targets::new(&links, &numbers, &interfaces, &objects).of(&KernelRoute::from_message(message).unwrap().kind)
    }

    fn out(interface: u16, via: Option<&str>) -> RouteTarget {
        RouteTarget::Out { interface: InterfaceId(interface), via: via.map(|via| via.parse().unwrap()) }
    }

    #[test]
    fn gateways_links_sources_and_metrics_are_read() {
        let v6_gateway = RouteAttribute::Via(RouteVia::Inet6("fe80::9".parse().unwrap()));
        for (to, attributes, expected) in [
            ("0.0.0.0/0", vec![RouteAttribute::Oif(2), gateway("192.0.2.1")], out(0, Some("192.0.2.1"))),
            ("10.0.0.0/16", vec![RouteAttribute::Oif(3)], out(1, None)),
            ("10.1.0.0/16", vec![RouteAttribute::Oif(4)], RouteTarget::Unlisted("lan0".into())),
            ("10.1.0.0/16", vec![RouteAttribute::Oif(5)], RouteTarget::Unlisted("wg0 (cannot be listed)".into())),
            ("10.2.0.0/16", vec![RouteAttribute::Oif(2), v6_gateway], out(0, Some("fe80::9"))),
            ("10.3.0.0/16", vec![RouteAttribute::Oif(99)], RouteTarget::Nowhere),
            ("::/0", vec![RouteAttribute::Oif(2), gateway("fe80::1")], out(0, Some("fe80::1"))),
        ] {
            assert_eq!(target(&unicast(to, attributes)), expected, "{to}");
        }
        let source = RouteAttribute::PrefSource("192.0.2.7".parse::<IpAddr>().unwrap().into());
        let message = unicast("10.0.0.0/16", vec![RouteAttribute::Oif(2), RouteAttribute::Priority(50), source]);
        let route = KernelRoute::from_message(&message).unwrap();
        assert_eq!((route.metric, route.source), (50, Some("192.0.2.7".parse().unwrap())));
        assert!(route.is_mirrored());
    }

    #[test]
    fn what_leads_nowhere_or_to_the_node_says_so() {
        for kind in [RouteType::BlackHole, RouteType::Unreachable, RouteType::Prohibit, RouteType::Broadcast] {
            assert_eq!(target(&message(254, kind, "10.1.0.0/16", vec![])), RouteTarget::Nowhere, "{kind:?}");
        }
        let local = message(255, RouteType::Local, "192.0.2.1/32", vec![RouteAttribute::Oif(4)]);
        assert_eq!(target(&local), RouteTarget::Local);
    }

    #[test]
    fn a_table_number_in_the_attribute_wins_over_the_header() {
        let mut other = unicast("10.0.0.0/8", vec![RouteAttribute::Oif(2), RouteAttribute::Table(1000)]);
        other.header.table = 254;
        let route = KernelRoute::from_message(&other).unwrap();
        assert_eq!((route.table, route.is_mirrored()), (Table::Other(1000), false));
    }

    #[test]
    fn routes_for_some_packets_only_are_none_for_all() {
        let mut from = unicast("fd00:9::/64", vec![RouteAttribute::Oif(2)]);
        from.header.source_prefix_length = 64;
        from.attributes.push(RouteAttribute::Source("fd00:1::".parse::<IpAddr>().unwrap().into()));
        let route = KernelRoute::from_message(&from).unwrap();
        assert_eq!((route.from, route.is_mirrored()), (Some("fd00:1::/64".parse().unwrap()), false));
        let mut urgent = unicast("10.0.0.0/8", vec![RouteAttribute::Oif(2)]);
        urgent.header.tos = 0x10;
        assert!(!KernelRoute::from_message(&urgent).unwrap().is_mirrored());
    }

    #[test]
    fn of_a_multipath_route_all_usable_ways_are_taken() {
        let none = RouteNextHopFlags::empty();
        let route = |hops: Vec<RouteNextHop>| target(&unicast("10.0.0.0/8", vec![RouteAttribute::MultiPath(hops)]));
        let first = hop(2, "192.0.2.1", none);
        let mut second = hop(2, "192.0.2.2", none);
        second.hops = 2;
        let path = |via: &str, weight| Path {
            interface: InterfaceId(0),
            via: Some(via.parse().unwrap()),
            source: None,
            weight,
        };
        let both = RouteTarget::Paths([path("192.0.2.1", 1), path("192.0.2.2", 3)].into());
        assert_eq!(route(vec![first.clone(), second.clone()]), both);
        let dead = hop(2, "192.0.2.1", RouteNextHopFlags::Dead);
        assert_eq!(route(vec![dead.clone(), second.clone()]), out(0, Some("192.0.2.2")));
        assert_eq!(route(vec![hop(3, "192.0.3.1", none), second.clone()]), out(0, Some("192.0.2.2")), "eth1 is down");
        assert_eq!(route(vec![hop(4, "192.0.4.1", none), second]), out(0, Some("192.0.2.2")), "lan0 is not attached");
        assert_eq!(route(vec![hop(4, "192.0.4.1", none)]), RouteTarget::Unlisted("lan0".into()));
        assert_eq!(route(vec![dead]), out(0, Some("192.0.2.1")));
    }
}
