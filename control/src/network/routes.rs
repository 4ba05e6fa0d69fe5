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
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHopFlags, RouteType, RouteVia,
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
    /// The largest packet that it carries, where it says so: of all its ways, whatever is locked.
    pub(super) mtu: Option<u32>,
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
        let (mut metric, mut source, mut object, mut mtu) = (0, None, None, None);
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
                RouteAttribute::Metrics(metrics) => mtu = metrics.iter().find_map(largest),
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
            mtu,
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
            mtu: None,
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

/// The packet size that a metric is about.
fn largest(metric: &RouteMetric) -> Option<u32> {
    match metric {
        RouteMetric::Mtu(bytes) => Some(*bytes).filter(|bytes| *bytes > 0),
        _ => None,
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
mod tests;
