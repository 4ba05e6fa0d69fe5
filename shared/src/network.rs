//! The network as the packet path sees it: attached interfaces, routes and neighbours at one moment.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use ipnet::IpNet;

use crate::address::{Family, MacAddress};
use crate::adjacency::{Adjacency, AdjacencyId, InterfaceId};
use crate::drop_reason::DropReason;

/// An interface that Ringway is attached to (or was: an interface that went away keeps its number and is down).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number; equals its place in [`Network::interfaces`].
    pub id: InterfaceId,
    /// The name in the kernel.
    pub name: Arc<str>,
    /// The kernel's ifindex; 0 where there is no kernel (replay).
    pub index: u32,
    /// Its MAC address.
    pub mac: MacAddress,
    /// The largest IP packet it carries, in bytes.
    pub mtu: u32,
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<IpNet>,
    /// Whether it can carry packets now.
    pub up: bool,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteTarget {
    /// Out by an attached interface, to `via` or to the destination itself.
    Out {
        /// The interface.
        interface: InterfaceId,
        /// The gateway; `None` when the destination is on link.
        via: Option<IpAddr>,
    },
    /// Out by an interface that Ringway is not attached to.
    Unlisted(Arc<str>),
    /// To the node itself.
    Local,
    /// Nowhere: a blackhole, unreachable or prohibit route.
    Nowhere,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destinations.
    pub to: IpNet,
    /// Where they are.
    pub target: RouteTarget,
    /// The source address that Linux would choose on this way.
    pub source: Option<IpAddr>,
    /// Preference among routes to the same prefix; lower wins.
    pub metric: u32,
}

/// Why there is no adjacency for a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAdjacency {
    /// No route, or one that leads nowhere.
    NoRoute,
    /// The route leaves by an interface that is not attached.
    NoInterface(Arc<str>),
    /// The interface is down.
    InterfaceDown(InterfaceId),
    /// The destination is the node itself.
    Local,
    /// The neighbour's MAC address is not known yet.
    Unresolved {
        /// The interface to ask on.
        interface: InterfaceId,
        /// The neighbour to ask for.
        next_hop: IpAddr,
    },
}

impl NoAdjacency {
    /// The drop reason of a packet that meets this.
    pub fn reason(&self) -> DropReason {
        match self {
            NoAdjacency::NoRoute => DropReason::NoRoute,
            NoAdjacency::NoInterface(_) => DropReason::NoInterface,
            NoAdjacency::InterfaceDown(_) => DropReason::InterfaceDown,
            NoAdjacency::Local => DropReason::EndpointRefused,
            NoAdjacency::Unresolved { .. } => DropReason::NeighborUnresolved,
        }
    }
}

/// Routes of one prefix length, by network address.
#[derive(Clone, Debug, Default, PartialEq)]
struct PrefixLevel {
    length: u8,
    routes: HashMap<IpAddr, Route>,
}

/// Interfaces, routes and neighbours, immutable.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Counts changes; adjacencies that a flow remembers are valid for one value only.
    pub generation: u32,
    interfaces: Vec<Interface>,
    // Longest prefix first; few lengths are in use on any node, so a lookup is a few hash probes.
    v4: Vec<PrefixLevel>,
    v6: Vec<PrefixLevel>,
    neighbors: HashMap<(InterfaceId, IpAddr), AdjacencyId>,
    adjacencies: Vec<Adjacency>,
    local: HashSet<IpAddr>,
    broadcast: HashSet<IpAddr>,
}

impl Network {
    /// Builds the lookup structures. `interfaces` stand at the place that their number says. Addresses give connected
    /// routes. Of several routes to one prefix the one with the lowest metric wins; the first among equals.
    pub fn new(
        generation: u32,
        interfaces: Vec<Interface>,
        routes: impl IntoIterator<Item = Route>,
        neighbors: impl IntoIterator<Item = (InterfaceId, IpAddr, MacAddress)>,
    ) -> Self {
        let mut network = Network { generation, ..Network::default() };
        let mut levels: [HashMap<u8, HashMap<IpAddr, Route>>; 2] = Default::default();
        let mut add = |route: Route| {
            let level = levels[usize::from(Family::of(route.to.addr()) == Family::V6)]
                .entry(route.to.prefix_len())
                .or_default();
            let route = Route { to: route.to.trunc(), ..route };
            match level.entry(route.to.network()) {
                hashbrown::hash_map::Entry::Vacant(vacant) => {
                    vacant.insert(route);
                }
                hashbrown::hash_map::Entry::Occupied(mut other) => {
                    if route.metric < other.get().metric {
                        other.insert(route);
                    }
                }
            }
        };
        for interface in &interfaces {
            for address in &interface.addresses {
                network.local.insert(address.addr());
                if let IpNet::V4(v4) = address
                    && v4.prefix_len() < 31
                {
                    network.broadcast.insert(IpAddr::V4(v4.broadcast()));
                }
            }
        }
        for route in routes {
            add(route);
        }
        for interface in &interfaces {
            for address in &interface.addresses {
                let target = RouteTarget::Out { interface: interface.id, via: None };
                add(Route { to: address.trunc(), target, source: Some(address.addr()), metric: u32::MAX });
            }
        }
        let sorted = |map: HashMap<u8, HashMap<IpAddr, Route>>| {
            let mut levels: Vec<_> = map.into_iter().map(|(length, routes)| PrefixLevel { length, routes }).collect();
            levels.sort_by_key(|level| std::cmp::Reverse(level.length));
            levels
        };
        let [v4, v6] = levels;
        (network.v4, network.v6) = (sorted(v4), sorted(v6));
        for (interface, address, mac) in neighbors {
            let Some(out) = interfaces.get(usize::from(interface.0)) else { continue };
            let id = AdjacencyId(network.adjacencies.len() as u32);
            let adjacency = Adjacency { out: interface, source_mac: out.mac, destination_mac: mac, mtu: out.mtu };
            network.adjacencies.push(adjacency);
            network.neighbors.insert((interface, address), id);
        }
        network.interfaces = interfaces;
        network
    }

    /// The attached interfaces, by number.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// The interface with this number.
    #[inline]
    pub fn interface(&self, id: InterfaceId) -> Option<&Interface> {
        self.interfaces.get(usize::from(id.0))
    }

    /// Every adjacency.
    pub fn adjacencies(&self) -> &[Adjacency] {
        &self.adjacencies
    }

    /// The adjacency with this number.
    #[inline]
    pub fn adjacency(&self, id: AdjacencyId) -> Option<&Adjacency> {
        self.adjacencies.get(id.0 as usize)
    }

    /// Every route, longest prefix first.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.v4.iter().chain(&self.v6).flat_map(|level| level.routes.values())
    }

    /// Whether interfaces and routes are the same, so that only neighbours differ: then every destination has the same next
    /// hop and the same source.
    pub fn has_same_ways(&self, other: &Network) -> bool {
        self.interfaces == other.interfaces && self.v4 == other.v4 && self.v6 == other.v6
    }

    /// Whether `address` is on one of the attached interfaces.
    #[inline]
    pub fn is_local(&self, address: IpAddr) -> bool {
        self.local.contains(&address)
    }

    /// Whether `address` is the directed broadcast address of an attached interface's network.
    #[inline]
    pub fn is_broadcast(&self, address: IpAddr) -> bool {
        self.broadcast.contains(&address)
    }

    /// The longest matching route.
    pub fn route(&self, destination: IpAddr) -> Option<&Route> {
        let levels = if destination.is_ipv4() { &self.v4 } else { &self.v6 };
        levels.iter().find_map(|level| level.routes.get(&masked(destination, level.length)))
    }

    /// The way to `destination`: route, then neighbour.
    pub fn resolve(&self, destination: IpAddr) -> Result<AdjacencyId, NoAdjacency> {
        if self.is_local(destination) {
            return Err(NoAdjacency::Local);
        }
        let route = self.route(destination).ok_or(NoAdjacency::NoRoute)?;
        let (interface, next_hop) = match &route.target {
            RouteTarget::Out { interface, via } => (*interface, via.unwrap_or(destination)),
            RouteTarget::Unlisted(name) => return Err(NoAdjacency::NoInterface(name.clone())),
            RouteTarget::Local => return Err(NoAdjacency::Local),
            RouteTarget::Nowhere => return Err(NoAdjacency::NoRoute),
        };
        if !self.interface(interface).is_some_and(|interface| interface.up) {
            return Err(NoAdjacency::InterfaceDown(interface));
        }
        self.neighbors.get(&(interface, next_hop)).copied().ok_or(NoAdjacency::Unresolved { interface, next_hop })
    }

    /// The address that Linux would use as source towards `destination`: the route's preferred source, else the first
    /// address of the family on the way out, in the destination's own network if there is one.
    pub fn source_address(&self, destination: IpAddr) -> Option<IpAddr> {
        let route = self.route(destination)?;
        if route.source.is_some() {
            return route.source;
        }
        let RouteTarget::Out { interface, via } = route.target else { return None };
        let next_hop = via.unwrap_or(destination);
        let addresses = &self.interface(interface)?.addresses;
        let family = Family::of(destination);
        let usable = |net: &&IpNet| Family::of(net.addr()) == family && !is_link_local(net.addr());
        let on_link = addresses.iter().filter(usable).find(|net| net.contains(&next_hop));
        on_link.or_else(|| addresses.iter().find(usable)).map(|net| net.addr())
    }
}

/// IPv6 link-local addresses reach one link only, so they are no source for a forwarded packet.
fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)).into()),
        IpAddr::V6(v6) => {
            IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bed() -> Network {
        let interface = |id, name: &str, address: &str, up| Interface {
            id: InterfaceId(id),
            name: name.into(),
            index: u32::from(id) + 1,
            mac: MacAddress([2, 0, 0, 0, 0, id as u8]),
            mtu: 1500,
            addresses: vec![address.parse().unwrap(), "fe80::1/64".parse().unwrap()],
            up,
        };
        let route = |to: &str, target, metric| Route { to: to.parse().unwrap(), target, source: None, metric };
        let out = |id, via: Option<&str>| RouteTarget::Out {
            interface: InterfaceId(id),
            via: via.map(|via| via.parse().unwrap()),
        };
        let routes = vec![
            route("0.0.0.0/0", out(0, Some("192.168.0.254")), 0),
            route("10.0.0.0/8", RouteTarget::Unlisted("wg0".into()), 0),
            route("10.1.0.0/16", out(1, Some("192.168.1.9")), 100),
            route("10.1.0.0/16", out(0, None), 200),
            route("10.1.2.0/24", RouteTarget::Nowhere, 0),
            route("10.9.0.0/16", out(2, None), 0),
        ];
        let interfaces = vec![
            interface(0, "a", "192.168.0.1/24", true),
            interface(1, "b", "192.168.1.1/24", true),
            interface(2, "c", "192.168.2.1/24", false),
        ];
        let neighbors = vec![
            (InterfaceId(1), "192.168.1.9".parse().unwrap(), MacAddress([6; 6])),
            (InterfaceId(9), "192.168.1.9".parse().unwrap(), MacAddress([7; 6])),
        ];
        Network::new(1, interfaces, routes, neighbors)
    }

    #[test]
    fn the_longest_prefix_and_then_the_lowest_metric_wins() {
        let network = bed();
        let resolve = |address: &str| network.resolve(address.parse().unwrap());
        let adjacency = network.adjacency(resolve("10.1.1.1").unwrap()).unwrap();
        assert_eq!((adjacency.out, adjacency.destination_mac), (InterfaceId(1), MacAddress([6; 6])));
        assert_eq!(resolve("10.1.2.1"), Err(NoAdjacency::NoRoute));
        assert_eq!(resolve("10.2.0.1"), Err(NoAdjacency::NoInterface("wg0".into())));
        assert_eq!(resolve("10.9.0.1"), Err(NoAdjacency::InterfaceDown(InterfaceId(2))));
        assert_eq!(resolve("192.168.0.1"), Err(NoAdjacency::Local));
        let next_hop = "192.168.0.254".parse().unwrap();
        assert_eq!(resolve("8.8.8.8"), Err(NoAdjacency::Unresolved { interface: InterfaceId(0), next_hop }));
        assert_eq!(resolve("2001:db8::1"), Err(NoAdjacency::NoRoute));
    }

    #[test]
    fn the_source_is_in_the_next_hops_network_and_never_link_local() {
        let network = bed();
        assert_eq!(network.source_address("10.1.1.1".parse().unwrap()), Some("192.168.1.1".parse().unwrap()));
        assert_eq!(network.source_address("192.168.0.7".parse().unwrap()), Some("192.168.0.1".parse().unwrap()));
        assert_eq!(network.source_address("10.2.0.1".parse().unwrap()), None);
        assert!(network.is_broadcast("192.168.0.255".parse().unwrap()));
    }
}
