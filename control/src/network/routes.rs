//! Routes as the kernel reports them, turned into the routes of the packet path.
//!
//! The tables `local` and `main` count, in that order, as Linux looks them up without policy rules. Of a multipath route
//! one next hop is used for every packet: the first that is alive and leaves by an attached interface that is up, else
//! the first that is alive, else the first. When that one dies, the next is taken with the next snapshot. Routes for one
//! type of service, for one source network (IPv6) or in other tables are left out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use ringway_shared::InterfaceId;
use ringway_shared::network::{Interface, Route, RouteTarget};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHopFlags, RouteType, RouteVia,
};

use super::links::Link;

/// The tables that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    Local,
    Main,
}

/// One way of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NextHop {
    link: u32,
    via: Option<IpAddr>,
    dead: bool,
    encapsulated: bool,
}

/// Where a kernel route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Ways(Vec<NextHop>),
    Local,
    Nowhere,
}

/// A route as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelRoute {
    table: Table,
    to: IpNet,
    metric: u32,
    source: Option<IpAddr>,
    kind: Kind,
}

impl KernelRoute {
    /// The route that a message describes; `None` where it is none that the packet path follows.
    pub fn from_message(message: &RouteMessage) -> Option<Self> {
        let header = &message.header;
        let unspecified: IpAddr = match header.address_family {
            AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
            AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => return None,
        };
        // Cloned entries are path MTU exceptions and redirects, not routes.
        if header.source_prefix_length != 0 || header.tos != 0 || header.flags.contains(RouteFlags::Cloned) {
            return None;
        }
        let (mut table, mut to, mut metric, mut source) = (u32::from(header.table), unspecified, 0, None);
        let mut single = NextHop {
            link: 0,
            via: None,
            dead: header.flags.intersects(RouteFlags::Dead | RouteFlags::Linkdown),
            encapsulated: false,
        };
        let mut ways = Vec::new();
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Table(number) => table = *number,
                RouteAttribute::Destination(address) => to = ip(address)?,
                RouteAttribute::Priority(value) => metric = *value,
                RouteAttribute::PrefSource(address) => source = ip(address),
                RouteAttribute::MultiPath(hops) => {
                    ways.extend(hops.iter().map(|hop| {
                        let mut way = NextHop {
                            link: hop.interface_index,
                            via: None,
                            dead: hop.flags.intersects(RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown),
                            encapsulated: false,
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
        Some(KernelRoute {
            table: match table {
                255 => Table::Local,
                254 => Table::Main,
                _ => return None,
            },
            to: IpNet::new(to, header.destination_prefix_length).ok()?.trunc(),
            metric,
            source,
            kind: match header.kind {
                RouteType::Unicast => Kind::Ways(ways),
                RouteType::Local | RouteType::Anycast => Kind::Local,
                _ => Kind::Nowhere,
            },
        })
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

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

/// The links that the default routes leave by, those of IPv4 first; each once.
pub fn default_links(routes: &[KernelRoute]) -> Vec<u32> {
    let mut links = Vec::new();
    for v4 in [true, false] {
        let defaults = routes.iter().filter(|route| {
            route.table == Table::Main && route.to.prefix_len() == 0 && route.to.addr().is_ipv4() == v4
        });
        if let Some(KernelRoute { kind: Kind::Ways(ways), .. }) = defaults.min_by_key(|route| route.metric) {
            links.extend(ways.iter().map(|way| way.link).filter(|link| *link != 0));
        }
    }
    let mut seen = Vec::new();
    links.retain(|link| {
        !seen.contains(link) && {
            seen.push(*link);
            true
        }
    });
    links
}

/// The routes of the packet path. `numbers` are the attached interfaces by ifindex.
pub fn convert(
    routes: &[KernelRoute],
    links: &[Link],
    numbers: &HashMap<u32, InterfaceId>,
    interfaces: &[Interface],
) -> Vec<Route> {
    let names: HashMap<u32, &Arc<str>> = links.iter().map(|link| (link.index, &link.name)).collect();
    let of = |table| routes.iter().filter(move |route| route.table == table);
    // Table local is asked first, whatever the prefix lengths: what it covers, table main cannot reach.
    let wide: Vec<IpNet> =
        of(Table::Local).map(|route| route.to).filter(|to| to.prefix_len() < to.max_prefix_len()).collect();
    let covered = |to: &IpNet| wide.iter().any(|local| local.contains(to) && local != to);
    let mut converted: Vec<Route> = Vec::with_capacity(routes.len());
    for route in of(Table::Local).chain(of(Table::Main).filter(|route| !covered(&route.to))) {
        let target = match &route.kind {
            Kind::Local => RouteTarget::Local,
            Kind::Nowhere => RouteTarget::Nowhere,
            Kind::Ways(ways) => target(ways, &names, numbers, interfaces),
        };
        // A local route beats an equal one of table main.
        let metric = if route.table == Table::Local { 0 } else { route.metric };
        converted.push(Route { to: route.to, target, source: route.source, metric });
    }
    converted
}

fn target(
    ways: &[NextHop],
    names: &HashMap<u32, &Arc<str>>,
    numbers: &HashMap<u32, InterfaceId>,
    interfaces: &[Interface],
) -> RouteTarget {
    let attached = |way: &NextHop| {
        let id = numbers.get(&way.link).copied().filter(|_| !way.encapsulated)?;
        interfaces.get(usize::from(id.0)).map(|interface| (id, interface.up))
    };
    let best = ways.iter().max_by_key(|way| {
        // Of equals the first: max_by_key takes the last, so the place counts downwards.
        let place = ways.iter().position(|other| std::ptr::eq(other, *way)).unwrap_or(0);
        let up = attached(way).is_some_and(|(_, up)| up);
        (!way.dead && up, !way.dead, std::cmp::Reverse(place))
    });
    let Some(way) = best else { return RouteTarget::Nowhere };
    match (attached(way), names.get(&way.link)) {
        (Some((interface, _)), _) => RouteTarget::Out { interface, via: way.via },
        (None, Some(name)) if way.encapsulated => RouteTarget::Unlisted(format!("{name} (encapsulated)").into()),
        (None, Some(name)) => RouteTarget::Unlisted((*name).clone()),
        // The link is gone, the route follows.
        (None, None) => RouteTarget::Nowhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::InterfacePattern;
    use ringway_shared::MacAddress;
    use ringway_shared::network::Network;
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

    /// eth0 (2) and eth1 (3, down) are attached, wg0 (4) is not.
    fn network(messages: &[RouteMessage]) -> Network {
        let link = |index, name: &str, up| Link {
            index,
            name: name.into(),
            mac: Some(MacAddress([2, 0, 0, 0, 0, index as u8])),
            mtu: 1500,
            up,
        };
        let links = [link(2, "eth0", true), link(3, "eth1", false), link(4, "wg0", true)];
        let mut attachments = super::super::links::Attachments::new(vec![InterfacePattern::parse("eth*").unwrap()]);
        let (interfaces, numbers) = attachments.interfaces(&links, &[]);
        let routes: Vec<_> = messages.iter().filter_map(KernelRoute::from_message).collect();
        let routes = convert(&routes, &links, &numbers, &interfaces);
        Network::new(1, interfaces, routes, [])
    }

    fn out(interface: u16, via: Option<&str>) -> RouteTarget {
        RouteTarget::Out { interface: InterfaceId(interface), via: via.map(|via| via.parse().unwrap()) }
    }

    #[test]
    fn gateways_links_sources_and_metrics_are_read() {
        let v6_gateway = RouteAttribute::Via(RouteVia::Inet6("fe80::9".parse().unwrap()));
        let network = network(&[
            unicast("0.0.0.0/0", vec![RouteAttribute::Oif(2), gateway("192.0.2.1")]),
            unicast("10.0.0.0/16", vec![RouteAttribute::Oif(3), RouteAttribute::Priority(100)]),
            unicast(
                "10.0.0.0/16",
                vec![
                    RouteAttribute::Oif(2),
                    RouteAttribute::Priority(50),
                    RouteAttribute::PrefSource("192.0.2.7".parse::<IpAddr>().unwrap().into()),
                ],
            ),
            unicast("10.1.0.0/16", vec![RouteAttribute::Oif(4)]),
            unicast("10.2.0.0/16", vec![RouteAttribute::Oif(2), v6_gateway]),
            unicast("10.3.0.0/16", vec![RouteAttribute::Oif(99)]),
            unicast("::/0", vec![RouteAttribute::Oif(2), gateway("fe80::1"), RouteAttribute::Priority(1024)]),
        ]);
        let route = |to: &str| network.route(to.parse().unwrap()).unwrap().clone();
        assert_eq!(route("8.8.8.8").target, out(0, Some("192.0.2.1")));
        assert_eq!(route("10.0.0.1").target, out(0, None));
        assert_eq!(route("10.0.0.1").source, Some("192.0.2.7".parse().unwrap()));
        assert_eq!(route("10.1.0.1").target, RouteTarget::Unlisted("wg0".into()));
        assert_eq!(route("10.2.0.1").target, out(0, Some("fe80::9")));
        assert_eq!(route("10.3.0.1").target, RouteTarget::Nowhere);
        assert_eq!(route("2001:db8::1").target, out(0, Some("fe80::1")));
    }

    #[test]
    fn what_leads_nowhere_or_to_the_node_says_so() {
        let network = network(&[
            unicast("0.0.0.0/0", vec![RouteAttribute::Oif(2)]),
            message(254, RouteType::BlackHole, "10.1.0.0/16", vec![]),
            message(254, RouteType::Unreachable, "10.2.0.0/16", vec![]),
            message(254, RouteType::Prohibit, "10.3.0.0/16", vec![]),
            message(255, RouteType::Local, "192.0.2.1/32", vec![RouteAttribute::Oif(4)]),
            unicast("192.0.2.1/32", vec![RouteAttribute::Oif(2)]),
            // AnyIP: all of it is the node, whatever table main says about parts of it.
            message(255, RouteType::Local, "172.16.0.0/12", vec![RouteAttribute::Oif(1)]),
            unicast("172.16.5.0/24", vec![RouteAttribute::Oif(2)]),
            message(100, RouteType::Unicast, "10.4.0.0/16", vec![RouteAttribute::Oif(4)]),
        ]);
        let target = |to: &str| network.route(to.parse().unwrap()).unwrap().target.clone();
        for nowhere in ["10.1.0.1", "10.2.0.1", "10.3.0.1"] {
            assert_eq!(target(nowhere), RouteTarget::Nowhere);
        }
        for local in ["192.0.2.1", "172.16.0.1", "172.16.5.1"] {
            assert_eq!(target(local), RouteTarget::Local, "{local}");
        }
        assert_eq!(target("10.4.0.1"), out(0, None), "table 100 does not count");
    }

    #[test]
    fn a_table_number_in_the_attribute_wins_over_the_header() {
        let mut other = unicast("10.0.0.0/8", vec![RouteAttribute::Oif(2), RouteAttribute::Table(1000)]);
        other.header.table = 254;
        assert_eq!(KernelRoute::from_message(&other), None);
    }

    #[test]
    fn of_a_multipath_route_the_first_usable_way_is_taken() {
        let none = RouteNextHopFlags::empty();
        let route = |hops: Vec<RouteNextHop>| {
            let network = network(&[unicast("10.0.0.0/8", vec![RouteAttribute::MultiPath(hops)])]);
            network.route("10.0.0.1".parse().unwrap()).unwrap().target.clone()
        };
        let first = hop(2, "192.0.2.1", none);
        let second = hop(2, "192.0.2.2", none);
        assert_eq!(route(vec![first.clone(), second.clone()]), out(0, Some("192.0.2.1")));
        let dead = hop(2, "192.0.2.1", RouteNextHopFlags::Dead);
        assert_eq!(route(vec![dead.clone(), second.clone()]), out(0, Some("192.0.2.2")));
        assert_eq!(route(vec![hop(3, "192.0.3.1", none), second.clone()]), out(0, Some("192.0.2.2")), "eth1 is down");
        assert_eq!(route(vec![hop(4, "192.0.4.1", none), second]), out(0, Some("192.0.2.2")), "wg0 is not attached");
        assert_eq!(route(vec![hop(4, "192.0.4.1", none)]), RouteTarget::Unlisted("wg0".into()));
        assert_eq!(route(vec![dead]), out(0, Some("192.0.2.1")));
    }
}
