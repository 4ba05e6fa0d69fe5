//! The network as the packet path sees it: attached interfaces, routes and neighbours at one moment.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashSet;
use hops::Hops;
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
use crate::adjacency::InterfaceId;
use crate::drop_reason::DropReason;

mod hops;
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
    /// The largest packet that the way carries, in bytes, where the route says so; the interface may carry less.
    pub mtu: Option<u32>,
}

impl Route {
    /// A route of which no more is said.
    pub fn new(to: IpNet, target: RouteTarget) -> Self {
        Route { to, target, source: None, metric: 0, mtu: None }
    }

    /// The interfaces and gateways that it leads by.
    pub fn ways(&self) -> impl Iterator<Item = (InterfaceId, Option<IpAddr>)> {
        let (single, several): (_, &[Path]) = match &self.target {
            RouteTarget::Out { interface, via } => (Some((*interface, *via)), &[]),
            RouteTarget::Paths(paths) => (None, paths),
            _ => (None, &[]),
        };
        single.into_iter().chain(several.iter().map(|path| (path.interface, path.via)))
    }
}

/// Why there is no adjacency for a destination. The packet path passes it around, so it counts no references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAdjacency {
    /// No route, or one that leads nowhere.
    NoRoute,
    /// The route leaves by an interface that is not attached; [`Network::unlisted`] has its name.
    NoInterface,
    /// The interface is down, or Ringway is not attached to it.
    InterfaceDown(InterfaceId),
    /// The destination is the node itself.
    Local,
    /// A router is between, where only the destination itself will do (`dsr-l2`).
    Routed {
        /// The interface that leads to it.
        interface: InterfaceId,
    },
    /// It carries less than whoever sends over it has to be able to send, with an outer header (`dsr-ipip` over IPv6).
    Narrow {
        /// The interface that leads to it.
        interface: InterfaceId,
        /// The largest packet that it carries, in bytes.
        mtu: u32,
    },
    /// The neighbour's MAC address is not known yet.
    Unresolved {
        /// The interface to ask on.
        interface: InterfaceId,
        /// The neighbour to ask for.
        next_hop: IpAddr,
        /// The largest packet that the way will carry, in bytes.
        mtu: u32,
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
            NoAdjacency::Narrow { .. } => DropReason::EndpointWayNarrow,
            NoAdjacency::Unresolved { .. } => DropReason::NeighborUnresolved,
        }
    }
}

/// Interfaces, routes and neighbours, immutable but for the marks of what is used.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Counts changes; adjacencies that a flow remembers are valid for one value only.
    pub generation: u32,
    interfaces: Vec<Interface>,
    // Those that nothing of ours can leave by, up or not.
    unattached: Vec<InterfaceId>,
    v4: Tables,
    v6: Tables,
    // Whoever made the routes knows all sources: none is guessed.
    sources_known: bool,
    // What policy rules ask for that is not looked at.
    overlooked: Arc<[String]>,
    hops: Hops,
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
                let (source, metric) = (Some(address.addr()), u32::MAX);
                routes.push(Route { source, metric, ..Route::new(address.trunc(), target) });
            }
        }
        let (v4, v6): (Vec<Route>, Vec<Route>) = routes.into_iter().partition(|route| route.to.addr().is_ipv4());
        (network.v4, network.v6) = (Tables::new(v4), Tables::new(v6));
        network.hops = Hops::of(&interfaces, neighbors);
        network.interfaces = interfaces;
        network.add_smaller_hops();
        network
    }

    /// Adds what packets see that arrived by some interfaces or came from some networks. From now on no source address is
    /// guessed: whoever asked the kernel for all this asked for those, too.
    pub fn with_answers(mut self, perspectives: Vec<Perspective>, overlooked: Arc<[String]>) -> Self {
        let (v4, v6): (Vec<_>, Vec<_>) = perspectives.into_iter().partition(|one| one.family == Family::V4);
        self.v4.add(v4);
        self.v6.add(v6);
        (self.sources_known, self.overlooked) = (true, overlooked);
        self.add_smaller_hops();
        self
    }

    /// Says which interfaces Ringway should be attached to and is not: no packet of ours can leave by them, though they are up.
    pub fn with_unattached(mut self, interfaces: impl IntoIterator<Item = InterfaceId>) -> Self {
        self.unattached = interfaces.into_iter().collect();
        self
    }

    /// Those that Ringway should be attached to and is not.
    pub fn unattached(&self) -> &[InterfaceId] {
        &self.unattached
    }

    /// Whether packets can leave by an interface: it is up, and attached.
    #[inline]
    pub fn is_way(&self, id: InterfaceId) -> bool {
        self.interface(id).is_some_and(|interface| interface.up) && !self.unattached.contains(&id)
    }

    /// Why no packet can leave by an interface, in words that go on after its name.
    pub fn why_no_way(&self, id: InterfaceId) -> &'static str {
        match self.interface(id).is_some_and(|interface| interface.up) {
            true => "to which Ringway is not attached",
            false => "which is down",
        }
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
