//! The network as the packet path sees it: attached interfaces, routes and neighbours at one moment.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::{HashMap, HashSet};
pub use host::HostAddresses;
use ipnet::IpNet;
pub use lowers::{Lower, Lowers};
pub use path::{Heading, Path};
pub use reverse_path::ReversePath;
use reverse_path::Sources;
pub use rss::QueueChoice;
use rss::Rss;
pub use table::Perspective;
use table::Tables;

use crate::address::{Family, MacAddress};
use crate::adjacency::{Adjacency, AdjacencyId, InterfaceId};
use crate::drop_reason::DropReason;

mod host;
mod lowers;
mod path;
mod resolve;
mod reverse_path;
pub mod rss;
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
    /// What carries its frames.
    pub lowers: Lowers,
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
    /// Out by attached interfaces, by one of several paths that share the traffic.
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

/// Why there is no adjacency for a destination. The packet path passes it around, so it counts no references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAdjacency {
    /// No route, or one that leads nowhere.
    NoRoute,
    /// The route leaves by an interface that is not attached; [`Network::unlisted`] has its name.
    NoInterface,
    /// The interface is down.
    InterfaceDown(InterfaceId),
    /// The destination is the node itself.
    Local,
    /// A router is between, where only the destination itself will do (`dsr-l2`).
    Routed {
        /// The interface that leads to it.
        interface: InterfaceId,
    },
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
            NoAdjacency::NoInterface => DropReason::NoInterface,
            NoAdjacency::InterfaceDown(_) => DropReason::InterfaceDown,
            NoAdjacency::Local => DropReason::EndpointRefused,
            NoAdjacency::Routed { .. } => DropReason::EndpointOffLink,
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
    // How lower devices choose queues, by ifindex, and what that makes of each interface.
    queue_choices: Vec<(u32, QueueChoice)>,
    rss: Vec<Option<Arc<Rss>>>,
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

    /// Adds how lower devices choose the queue of a packet, by ifindex.
    pub fn with_queue_choices(mut self, choices: Vec<(u32, QueueChoice)>) -> Self {
        self.queue_choices = choices;
        self.rss = self.interfaces.iter().map(|interface| self.common_rss(interface)).collect();
        self
    }

    /// The RSS of the devices that receive an interface's frames, when all have the same.
    fn common_rss(&self, interface: &Interface) -> Option<Arc<Rss>> {
        let receivers = interface.lowers.devices.iter().filter(|lower| lower.receives);
        let mut all = receivers.map(|lower| match self.queue_choice(lower.index) {
            Some(QueueChoice::Computed(rss)) => Some(rss),
            _ => None,
        });
        let first = all.next()??;
        all.all(|other| other == Some(first)).then(|| first.clone())
    }

    /// How a lower device chooses the queue of a packet; `None` where nobody asked.
    pub fn queue_choice(&self, index: u32) -> Option<&QueueChoice> {
        self.queue_choices.iter().find(|(of, _)| *of == index).map(|(_, choice)| choice)
    }

    /// How queues are chosen for the packets that arrive by an interface, where that can be computed.
    #[inline]
    pub fn rss(&self, interface: InterfaceId) -> Option<&Rss> {
        self.rss.get(usize::from(interface.0))?.as_deref()
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
    pub fn has_same_routes(&self, other: &Network) -> bool {
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
}

#[cfg(test)]
mod tests;
