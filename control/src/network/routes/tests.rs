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
    let mut attachments = super::super::attachments::Attachments::new(vec![InterfacePattern::parse("eth*").unwrap()]);
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
    assert_eq!(route.mtu, None);
    let metrics =
        RouteAttribute::Metrics(vec![RouteMetric::Lock(4), RouteMetric::Advmss(1200), RouteMetric::Mtu(1280)]);
    let message = unicast("10.0.0.0/16", vec![RouteAttribute::Oif(2), metrics]);
    assert_eq!(KernelRoute::from_message(&message).unwrap().mtu, Some(1280));
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
    let path =
        |via: &str, weight| Path { interface: InterfaceId(0), via: Some(via.parse().unwrap()), source: None, weight };
    let both = RouteTarget::Paths([path("192.0.2.1", 1), path("192.0.2.2", 3)].into());
    assert_eq!(route(vec![first.clone(), second.clone()]), both);
    let dead = hop(2, "192.0.2.1", RouteNextHopFlags::Dead);
    assert_eq!(route(vec![dead.clone(), second.clone()]), out(0, Some("192.0.2.2")));
    assert_eq!(route(vec![hop(3, "192.0.3.1", none), second.clone()]), out(0, Some("192.0.2.2")), "eth1 is down");
    assert_eq!(route(vec![hop(4, "192.0.4.1", none), second]), out(0, Some("192.0.2.2")), "lan0 is not attached");
    assert_eq!(route(vec![hop(4, "192.0.4.1", none)]), RouteTarget::Unlisted("lan0".into()));
    assert_eq!(route(vec![dead]), out(0, Some("192.0.2.1")));
}
