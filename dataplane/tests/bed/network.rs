//! The node's network: clients behind a router, pods on link, and a few ways that lead nowhere.

use std::net::IpAddr;

use ringway_shared::network::{Interface, Lowers, Route, RouteTarget};
use ringway_shared::{InterfaceId, MacAddress, Network};

/// Towards clients: 203.0.113.0/24 and 2001:db8:c::/48 behind the router 192.168.0.254, the host 192.168.0.77 on link.
pub const OUTSIDE: InterfaceId = InterfaceId(0);
/// Towards pods, 10.0.0.0/16 and fd00:10::/64 on link; 10.0.1.1 to 10.0.1.9 and fd00:10::1 to fd00:10::9 have MACs.
pub const INSIDE: InterfaceId = InterfaceId(1);
/// Has no IPv6 address, but a route to fd00:20::/64.
pub const BARE: InterfaceId = InterfaceId(2);
/// Is down: 10.4.0.0/24.
pub const DOWN: InterfaceId = InterfaceId(3);
/// Has an MTU of 1280: 10.5.0.0/24 and fd00:5::/64.
pub const NARROW: InterfaceId = InterfaceId(4);

/// The interfaces' names, by number.
pub const INTERFACES: [&str; 5] = ["outside", "inside", "bare", "down", "narrow"];

/// The node's addresses as Services know them.
pub const NODE: [&str; 2] = ["192.168.0.2", "2001:db8::2"];

/// Which neighbours are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbors {
    All,
    None,
    /// Only those towards clients.
    Outside,
    /// All, but no interface has an IPv6 address beside those of the link.
    AllWithoutAddress6,
}

/// The MAC address of an interface.
pub fn own_mac(interface: InterfaceId) -> MacAddress {
    MacAddress([2, 0, 0, 0, 0, interface.0 as u8 + 1])
}

/// The MAC address of the next hop to `address`, which is itself but for clients behind the router.
pub fn neighbor_mac(interface: InterfaceId, address: IpAddr) -> MacAddress {
    let last = match address {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    };
    let behind_router = ["203.0.113.0/24", "2001:db8:c::/48"];
    let routed = behind_router.iter().any(|net| net.parse::<ipnet::IpNet>().unwrap().contains(&address));
    MacAddress([2, 0, 0, 1, interface.0 as u8, if routed { 254 } else { last }])
}

/// The network, in which 10.0.1.50 and fd00:10::50 are behind 10.0.1.1 and fd00:10::1.
pub fn network_behind(generation: u32) -> Network {
    let plain = network(generation, Neighbors::All);
    let behind = |to: &str, via: &str| {
        Route::new(to.parse().unwrap(), RouteTarget::Out { interface: INSIDE, via: Some(via.parse().unwrap()) })
    };
    let routes =
        plain.routes().cloned().chain([behind("10.0.1.50/32", "10.0.1.1"), behind("fd00:10::50/128", "fd00:10::1")]);
    let known = ["10.0.1.1", "fd00:10::1"].map(|address| {
        let address = address.parse().unwrap();
        (INSIDE, address, neighbor_mac(INSIDE, address))
    });
    Network::new(generation, plain.interfaces().to_vec(), routes.collect::<Vec<_>>(), known)
}

/// The network.
pub fn network(generation: u32, neighbors: Neighbors) -> Network {
    let interface = |id: InterfaceId, addresses: &[&str], mtu| Interface {
        id,
        name: INTERFACES[usize::from(id.0)].into(),
        index: u32::from(id.0) + 1,
        mac: own_mac(id),
        mtu,
        addresses: addresses
            .iter()
            .filter(|address| {
                neighbors != Neighbors::AllWithoutAddress6 || !address.contains(':') || address.starts_with("fe80")
            })
            .map(|address| address.parse().unwrap())
            .collect(),
        up: id != DOWN,
        lowers: Lowers::itself(u32::from(id.0) + 1, INTERFACES[usize::from(id.0)].into()),
    };
    let interfaces = vec![
        interface(OUTSIDE, &["192.168.0.2/24", "2001:db8::2/64"], 1500),
        interface(INSIDE, &["10.0.255.254/16", "fd00:10::fffe/64"], 1500),
        interface(BARE, &["10.3.0.254/24", "fe80::1/64"], 1500),
        interface(DOWN, &["10.4.0.254/24"], 1500),
        interface(NARROW, &["10.5.0.254/24", "fd00:5::fffe/64"], 1280),
    ];
    let route = |to: &str, target| Route::new(to.parse().unwrap(), target);
    let out = |interface, via: Option<&str>| RouteTarget::Out { interface, via: via.map(|via| via.parse().unwrap()) };
    let narrow = |to: &str, interface| Route { mtu: Some(1280), ..route(to, out(interface, None)) };
    let routes = vec![
        route("203.0.113.0/24", out(OUTSIDE, Some("192.168.0.254"))),
        route("2001:db8:c::/48", out(OUTSIDE, Some("2001:db8::fe"))),
        route("fd00:20::/64", out(BARE, None)),
        route("10.99.0.0/16", RouteTarget::Unlisted("wg0".into())),
        route("10.98.0.0/16", RouteTarget::Nowhere),
        route("10.97.0.0/16", RouteTarget::Local),
        narrow("10.7.0.0/24", INSIDE),
        narrow("fd00:7::/64", INSIDE),
        narrow("198.18.7.0/24", OUTSIDE),
        narrow("2001:db8:7::/64", OUTSIDE),
    ];
    let mut known: Vec<(InterfaceId, IpAddr)> = Vec::new();
    let mut know = |interface, address: String| known.push((interface, address.parse().unwrap()));
    if neighbors != Neighbors::None {
        for address in ["192.168.0.254", "2001:db8::fe", "192.168.0.77", "198.18.7.9", "2001:db8:7::9"] {
            know(OUTSIDE, address.into());
        }
    }
    if matches!(neighbors, Neighbors::All | Neighbors::AllWithoutAddress6) {
        for last in 1..=9 {
            know(INSIDE, format!("10.0.1.{last}"));
            know(INSIDE, format!("fd00:10::{last}"));
        }
        know(INSIDE, "10.7.0.1".into());
        know(INSIDE, "fd00:7::1".into());
        know(BARE, "fd00:20::1".into());
        know(NARROW, "10.5.0.1".into());
        know(NARROW, "fd00:5::1".into());
    }
    let known = known.into_iter().map(|(interface, address)| (interface, address, neighbor_mac(interface, address)));
    Network::new(generation, interfaces, routes, known)
}
