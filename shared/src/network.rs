//! The network as the packet path sees it: attached interfaces, routes and neighbours at one moment.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::{HashMap, HashSet};
pub use host::HostAddresses;
use ipnet::IpNet;
pub use path::{Heading, Path};
pub use reverse_path::ReversePath;
use reverse_path::Sources;
pub use table::Perspective;
use table::Tables;

use crate::address::{Family, MacAddress};
use crate::adjacency::{Adjacency, AdjacencyId, InterfaceId};
use crate::drop_reason::DropReason;

mod host;
mod path;
mod reverse_path;
mod source;
mod table;

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
    /// Out by attached interfaces, by one of several ways that share the traffic.
    Paths(Arc<[Path]>),
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
    v4: Tables,
    v6: Tables,
    // Whoever made the routes knows all sources: none is guessed.
    sources_known: bool,
    // What policy rules ask for that is not looked at.
    overlooked: Arc<[String]>,
    neighbors: HashMap<(InterfaceId, IpAddr), AdjacencyId>,
    hops: Vec<Hop>,
    host: Arc<HostAddresses>,
    broadcast: HashSet<IpAddr>,
    // Broadcast addresses and the kernel's single ones together, so that judging a source is one look.
    impossible_sources: Sources,
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
        let mut routes: Vec<Route> = routes.into_iter().collect();
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
        host.extend(routes.iter().filter(|route| route.target == RouteTarget::Local).map(|route| route.to));
        let host: HostAddresses = host.into_iter().collect();
        network.impossible_sources = network.broadcast.iter().copied().chain(host.single()).collect();
        network.host = Arc::new(host);
        for interface in &interfaces {
            for address in &interface.addresses {
                let target = RouteTarget::Out { interface: interface.id, via: None };
                routes.push(Route { to: address.trunc(), target, source: Some(address.addr()), metric: u32::MAX });
            }
        }
        let (v4, v6): (Vec<Route>, Vec<Route>) = routes.into_iter().partition(|route| route.to.addr().is_ipv4());
        (network.v4, network.v6) = (Tables::new(v4), Tables::new(v6));
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

    /// Adds what packets see that arrived by some interfaces or came from some networks. From now on no source address is
    /// guessed: whoever asked the kernel for all this asked for those, too.
    pub fn with_answers(mut self, perspectives: Vec<Perspective>, overlooked: Arc<[String]>) -> Self {
        let (v4, v6): (Vec<_>, Vec<_>) = perspectives.into_iter().partition(|one| one.family == Family::V4);
        self.v4.add(v4);
        self.v6.add(v6);
        (self.sources_known, self.overlooked) = (true, overlooked);
        self
    }

    /// Gives every next hop that `older` has the number that it has there, so that flows find the way that they took.
    pub fn keep_numbers(&mut self, older: &Network) {
        let mut hops = older.hops.clone();
        let mut taken = vec![false; hops.len()];
        let kept = self.neighbors.keys().filter_map(|key| older.neighbors.get(key));
        kept.filter_map(|id| usize::try_from(id.0).ok()).for_each(|place| {
            taken.get_mut(place).into_iter().for_each(|taken| *taken = true);
        });
        let mut free = (0..).zip(taken).filter(|(_, taken)| !taken).map(|(place, _)| place);
        for (key, id) in &mut self.neighbors {
            let Some(hop) = self.hops.get(id.0 as usize).cloned() else { continue };
            let number = older.neighbors.get(key).map(|id| id.0).or_else(|| free.next());
            match number.and_then(|number| hops.get_mut(number as usize).map(|place| (number, place))) {
                Some((number, place)) => (*id, *place) = (AdjacencyId(number), hop),
                None => {
                    *id = AdjacencyId(hops.len() as u32);
                    hops.push(hop);
                }
            }
        }
        self.hops = hops;
    }

    /// What decides about ways and is not looked at, one sentence each.
    pub fn overlooked(&self) -> &Arc<[String]> {
        &self.overlooked
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
        self.neighbors.len()
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

    /// Every route.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.v4.routes().chain(self.v6.routes())
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

    fn tables(&self, destination: IpAddr) -> &Tables {
        if destination.is_ipv4() { &self.v4 } else { &self.v6 }
    }

    /// Which of several tables counts for such a packet. Equal numbers: what differs is the destination and the hash alone.
    #[inline]
    pub fn table(&self, heading: &Heading) -> u16 {
        self.tables(heading.destination).number(heading)
    }

    /// The longest matching route, for a packet of which nothing but the destination is known.
    pub fn route(&self, destination: IpAddr) -> Option<&Route> {
        self.route_of(&Heading::to(destination))
    }

    /// The longest matching route.
    pub fn route_of(&self, heading: &Heading) -> Option<&Route> {
        self.tables(heading.destination).find(heading)
    }

    /// The interface and the next hop, and the route's source address.
    fn path(&self, heading: &Heading) -> Result<(InterfaceId, IpAddr, Option<IpAddr>), NoAdjacency> {
        if self.is_local(heading.destination) {
            return Err(NoAdjacency::Local);
        }
        let route = self.route_of(heading).ok_or(NoAdjacency::NoRoute)?;
        let (interface, via, source) = match &route.target {
            RouteTarget::Out { interface, via } => (*interface, *via, route.source),
            RouteTarget::Paths(paths) => {
                let path = path::pick(paths, heading.hash).ok_or(NoAdjacency::NoRoute)?;
                (path.interface, path.via, path.source)
            }
            RouteTarget::Unlisted(name) => return Err(NoAdjacency::NoInterface(name.clone())),
            RouteTarget::Local => return Err(NoAdjacency::Local),
            RouteTarget::Nowhere => return Err(NoAdjacency::NoRoute),
        };
        Ok((interface, via.unwrap_or(heading.destination), source))
    }

    /// The way to `destination`, for a packet of which nothing else is known.
    pub fn resolve(&self, destination: IpAddr) -> Result<AdjacencyId, NoAdjacency> {
        self.resolve_for(&Heading::to(destination))
    }

    /// The way of a packet: route, then neighbour.
    pub fn resolve_for(&self, heading: &Heading) -> Result<AdjacencyId, NoAdjacency> {
        let (interface, next_hop, _) = self.path(heading)?;
        if !self.interface(interface).is_some_and(|interface| interface.up) {
            return Err(NoAdjacency::InterfaceDown(interface));
        }
        self.neighbors.get(&(interface, next_hop)).copied().ok_or(NoAdjacency::Unresolved { interface, next_hop })
    }

    /// Another of several ways, whose next hop is known: for a packet whose own has a next hop that does not answer, or an
    /// interface that is down. Each gets its share of all hashes.
    pub fn resolve_beside(&self, heading: &Heading) -> Option<AdjacencyId> {
        let Some(Route { target: RouteTarget::Paths(paths), .. }) = self.route_of(heading) else { return None };
        let known = |path: &Path| {
            let up = self.interface(path.interface).is_some_and(|interface| interface.up);
            let key = (path.interface, path.via.unwrap_or(heading.destination));
            self.neighbors.get(&key).copied().filter(|_| up)
        };
        path::pick_of(paths.iter().filter(|path| known(path).is_some()), heading.hash).and_then(known)
    }

    /// Some way to `destination`: a known one, if there is any for whatever packet.
    pub fn resolve_any(&self, destination: IpAddr) -> Result<AdjacencyId, NoAdjacency> {
        let first = self.resolve(destination);
        let known = || self.next_hops(destination).find_map(|next_hop| self.neighbors.get(&next_hop).copied());
        let unresolved = || self.next_hops(destination).next();
        match first {
            Ok(id) => Ok(id),
            Err(none) => match (known(), unresolved()) {
                (Some(id), _) => Ok(id),
                (None, Some((interface, next_hop))) => Err(NoAdjacency::Unresolved { interface, next_hop }),
                (None, None) => Err(none),
            },
        }
    }

    /// Whether `taken`, which an older network gave for this heading, is still one of several ways that it can take.
    pub fn still_leads(&self, heading: &Heading, taken: AdjacencyId) -> bool {
        let Some(Route { target: RouteTarget::Paths(paths), .. }) = self.route_of(heading) else { return false };
        paths.iter().any(|path| {
            let key = (path.interface, path.via.unwrap_or(heading.destination));
            self.neighbors.get(&key) == Some(&taken) && self.interface(path.interface).is_some_and(|out| out.up)
        })
    }

    /// Whether a packet with this heading can leave by `interface`: for its reverse, whether it came from where the answers
    /// go.
    pub fn leads_out_by(&self, heading: &Heading, interface: InterfaceId) -> bool {
        match self.route_of(heading).map(|route| &route.target) {
            Some(RouteTarget::Out { interface: out, .. }) => *out == interface,
            Some(RouteTarget::Paths(paths)) => paths.iter().any(|path| path.interface == interface),
            _ => false,
        }
    }

    /// Every next hop that packets to `destination` can go to, whatever else is known of them.
    pub fn next_hops(&self, destination: IpAddr) -> impl Iterator<Item = (InterfaceId, IpAddr)> {
        let is_own = self.is_local(destination);
        let routes = self.tables(destination).find_all(destination).filter(move |_| !is_own);
        let hops = routes.flat_map(move |route| {
            let (single, several): (_, &[Path]) = match &route.target {
                RouteTarget::Out { interface, via } => (Some((*interface, *via)), &[]),
                RouteTarget::Paths(paths) => (None, paths),
                _ => (None, &[]),
            };
            let several = several.iter().map(|path| (path.interface, path.via));
            single.into_iter().chain(several).map(move |(out, via)| (out, via.unwrap_or(destination)))
        });
        hops.filter(|(interface, _)| self.interface(*interface).is_some_and(|interface| interface.up))
    }
}

#[cfg(test)]
mod tests;
