//! The network as the packet path sees it: attached interfaces, routes and neighbours at one moment.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::{HashMap, HashSet};
pub use host::HostAddresses;
use ipnet::IpNet;
pub use reverse_path::ReversePath;

use crate::address::{Family, MacAddress};
use crate::adjacency::{Adjacency, AdjacencyId, InterfaceId};
use crate::drop_reason::DropReason;

mod host;
mod reverse_path;

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

/// An adjacency, and whether a packet has left by it since control looked last. The mark stands beside what the packet
/// path reads anyway, and is written once until control takes it.
#[derive(Debug)]
struct Hop {
    adjacency: Adjacency,
    used: AtomicBool,
}

impl Clone for Hop {
    fn clone(&self) -> Self {
        Hop { adjacency: self.adjacency, used: AtomicBool::new(self.used.load(Ordering::Relaxed)) }
    }
}

/// Interfaces, routes and neighbours, immutable but for the marks of what is used.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Counts changes; adjacencies that a flow remembers are valid for one value only.
    pub generation: u32,
    interfaces: Vec<Interface>,
    // Longest prefix first; few lengths are in use on any node, so a lookup is a few hash probes.
    v4: Vec<PrefixLevel>,
    v6: Vec<PrefixLevel>,
    neighbors: HashMap<(InterfaceId, IpAddr), AdjacencyId>,
    hops: Vec<Hop>,
    host: Arc<HostAddresses>,
    broadcast: HashSet<IpAddr>,
    reverse_paths: Vec<ReversePath>,
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
        let mut host = Vec::new();
        for interface in &interfaces {
            for address in &interface.addresses {
                host.push(IpNet::from(address.addr()));
                if let IpNet::V4(v4) = address
                    && v4.prefix_len() < 31
                {
                    network.broadcast.insert(IpAddr::V4(v4.broadcast()));
                }
            }
        }
        for route in routes {
            if route.target == RouteTarget::Local {
                host.push(route.to);
            }
            add(route);
        }
        network.host = Arc::new(host.into_iter().collect());
        for interface in &interfaces {
            for address in &interface.addresses {
                let target = RouteTarget::Out { interface: interface.id, via: None };
                add(Route { to: address.trunc(), target, source: Some(address.addr()), metric: u32::MAX });
            }
        }
        let sorted = |map: HashMap<u8, HashMap<IpAddr, Route>>| {
            let mut levels: Vec<_> = map.into_iter().map(|(length, routes)| PrefixLevel { length, routes }).collect();
            levels.sort_by_key(|level| Reverse(level.length));
            levels
        };
        let [v4, v6] = levels;
        (network.v4, network.v6) = (sorted(v4), sorted(v6));
        for (interface, address, mac) in neighbors {
            let Some(out) = interfaces.get(usize::from(interface.0)) else { continue };
            let id = AdjacencyId(network.hops.len() as u32);
            let adjacency = Adjacency { out: interface, source_mac: out.mac, destination_mac: mac, mtu: out.mtu };
            network.hops.push(Hop { adjacency, used: AtomicBool::new(false) });
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

    /// How many adjacencies there are.
    pub fn adjacencies(&self) -> usize {
        self.hops.len()
    }

    /// The adjacency with this number.
    #[inline]
    pub fn adjacency(&self, id: AdjacencyId) -> Option<&Adjacency> {
        self.hops.get(id.0 as usize).map(|hop| &hop.adjacency)
    }

    /// The adjacency with this number, for a packet that leaves by it: it is marked as used.
    #[inline]
    pub fn leave_by(&self, id: AdjacencyId) -> Option<&Adjacency> {
        let hop = self.hops.get(id.0 as usize)?;
        // Workers share the mark: it is written only where it is not set yet.
        if !hop.used.load(Ordering::Relaxed) {
            hop.used.store(true, Ordering::Relaxed);
        }
        Some(&hop.adjacency)
    }

    /// The next hops that packets left by since this was asked last.
    pub fn take_used(&self) -> impl Iterator<Item = (InterfaceId, IpAddr)> {
        self.neighbors.iter().filter_map(|(next_hop, id)| {
            let used = &self.hops.get(id.0 as usize)?.used;
            (used.load(Ordering::Relaxed) && used.swap(false, Ordering::Relaxed)).then_some(*next_hop)
        })
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

    /// The addresses that the kernel has: those of the attached interfaces, and what local routes lead to.
    pub fn host(&self) -> &Arc<HostAddresses> {
        &self.host
    }

    /// Whether `address` is one that the kernel has, on whatever interface.
    #[inline]
    pub fn is_local(&self, address: IpAddr) -> bool {
        self.host.contains(address)
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

    /// The address that Linux would use as source towards `destination`: the route's preferred source, else the best
    /// address of the family on the way out, else the best of any interface: those of pods often have none.
    pub fn source_address(&self, destination: IpAddr) -> Option<IpAddr> {
        let route = self.route(destination)?;
        if route.source.is_some() {
            return route.source;
        }
        let RouteTarget::Out { interface, via } = route.target else { return None };
        let next_hop = via.unwrap_or(destination);
        let family = Family::of(destination);
        let usable = |net: &&IpNet| Family::of(net.addr()) == family && !is_link_local(net.addr());
        let on_way_out = self.interface(interface)?.addresses.iter().filter(usable);
        // Of equals the first.
        let best = on_way_out.min_by_key(|net| Reverse(rank(net, destination, next_hop)));
        let anywhere = || {
            let all =
                self.interfaces.iter().flat_map(|other| other.addresses.iter().map(move |net| (other.index, net)));
            let usable = all.filter(|(_, net)| usable(net));
            usable.min_by_key(|(index, net)| (Reverse(rank(net, destination, next_hop)), *index)).map(|(_, net)| net)
        };
        best.or_else(anywhere).map(|net| net.addr())
    }
}

/// How well an address of the node suits as a source: for IPv4 whether it is in the next hop's network, for IPv6 rules 6
/// and 8 of RFC 6724, as far as they tell addresses apart that a node can have.
fn rank(net: &IpNet, destination: IpAddr, next_hop: IpAddr) -> (bool, u32) {
    match (net, destination) {
        (IpNet::V6(net), IpAddr::V6(destination)) => {
            let same_label = net.addr().is_unique_local() == destination.is_unique_local();
            let common = (net.addr().to_bits() ^ destination.to_bits()).leading_zeros();
            (same_label, common.min(u32::from(net.prefix_len())))
        }
        _ => (net.contains(&next_hop), 0),
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
mod tests;
