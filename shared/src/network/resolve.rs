//! What a heading leads to: the route that counts, the next hops of its paths, which of them is taken, and its adjacency.

use std::net::IpAddr;

use super::hops::NextHop;
use super::path::Heading;
use super::{Network, NoAdjacency, Path, Route, RouteTarget, path, table::Tables};
use crate::adjacency::{Adjacency, AdjacencyId, InterfaceId};
use crate::service::ForwardingMode;

/// What a way has to carry for IPv6 packets inside IPv6: whoever sends heeds no path MTU below 1,280 (RFC 8201 4), and the outer
/// header has 40.
const LEAST_AROUND_V6: u32 = 1280 + 40;

impl Network {
    pub(super) fn tables(&self, destination: IpAddr) -> &Tables {
        if destination.is_ipv4() { &self.v4 } else { &self.v6 }
    }

    /// Which of several tables counts for such a packet. Equal numbers: what differs is the destination and the hash alone.
    #[inline]
    pub fn table(&self, heading: &Heading) -> u16 {
        self.tables(heading.destination).number(heading)
    }

    /// Whether the one table counts for every packet, with number 0.
    #[inline]
    pub fn has_one_table(&self) -> bool {
        self.v4.is_one() && self.v6.is_one()
    }

    /// The longest matching route, for a packet of which nothing but the destination is known.
    pub fn route(&self, destination: IpAddr) -> Option<&Route> {
        self.route_of(&Heading::to(destination))
    }

    /// The longest matching route.
    pub fn route_of(&self, heading: &Heading) -> Option<&Route> {
        self.tables(heading.destination).find(heading)
    }

    /// The largest packet that a route carries by this interface.
    pub(super) fn mtu_by(&self, route: &Route, interface: InterfaceId) -> u32 {
        // What the families have to carry at least, whatever a route says.
        let least = if route.to.addr().is_ipv4() { 68 } else { 1280 };
        let own = self.interface(interface).map_or(0, |interface| interface.mtu);
        route.mtu.map_or(own, |mtu| mtu.max(least).min(own))
    }

    /// The next hop of a packet to `destination` that takes this way of a route.
    fn next_hop(&self, route: &Route, (interface, via): (InterfaceId, Option<IpAddr>), destination: IpAddr) -> NextHop {
        NextHop { interface, address: via.unwrap_or(destination), mtu: self.mtu_by(route, interface) }
    }

    /// The next hop of a packet.
    fn way(&self, heading: &Heading) -> Result<NextHop, NoAdjacency> {
        if self.is_local(heading.destination) {
            return Err(NoAdjacency::Local);
        }
        let route = self.route_of(heading).ok_or(NoAdjacency::NoRoute)?;
        let way = match &route.target {
            RouteTarget::Out { interface, via } => (*interface, *via),
            RouteTarget::Paths(paths) => {
                let path = path::pick(paths, heading.hash).ok_or(NoAdjacency::NoRoute)?;
                (path.interface, path.via)
            }
            RouteTarget::Unlisted(_) => return Err(NoAdjacency::NoInterface),
            RouteTarget::Local => return Err(NoAdjacency::Local),
            RouteTarget::Nowhere => return Err(NoAdjacency::NoRoute),
        };
        Ok(self.next_hop(route, way, heading.destination))
    }

    /// The interface that is not attached by which packets to `destination` would leave; for those who are to be told.
    pub fn unlisted(&self, destination: IpAddr) -> Option<&str> {
        self.tables(destination).find_all(destination).find_map(|route| match &route.target {
            RouteTarget::Unlisted(name) => Some(&**name),
            _ => None,
        })
    }

    /// The adjacency for `destination`, for a packet of which nothing else is known.
    pub fn resolve(&self, destination: IpAddr) -> Result<AdjacencyId, NoAdjacency> {
        self.resolve_for(&Heading::to(destination))
    }

    /// The adjacency for a packet: route, then neighbour.
    pub fn resolve_for(&self, heading: &Heading) -> Result<AdjacencyId, NoAdjacency> {
        let way = self.way(heading)?;
        if !self.is_way(way.interface) {
            return Err(NoAdjacency::InterfaceDown(way.interface));
        }
        self.hops.number(&way).ok_or(way.unresolved())
    }

    /// What was found for a packet to `destination`, where that has to be its own next hop.
    pub fn on_link(
        &self,
        destination: IpAddr,
        found: Result<AdjacencyId, NoAdjacency>,
    ) -> Result<AdjacencyId, NoAdjacency> {
        let interface = match found {
            Ok(id) => {
                let Adjacency { out, mtu, .. } = *self.adjacency(id).ok_or(NoAdjacency::NoRoute)?;
                if self.hops.number(&NextHop { interface: out, address: destination, mtu }) == Some(id) {
                    return found;
                }
                out
            }
            Err(NoAdjacency::Unresolved { interface, next_hop, .. }) if next_hop != destination => interface,
            Err(_) => return found,
        };
        Err(NoAdjacency::Routed { interface })
    }

    /// What was found for a packet that goes inside another one to `destination`, of the same family: nothing where the way does
    /// not carry what its sender cannot be told to make smaller.
    pub fn around(
        &self,
        destination: IpAddr,
        found: Result<AdjacencyId, NoAdjacency>,
    ) -> Result<AdjacencyId, NoAdjacency> {
        let (interface, mtu) = match found {
            Ok(id) => self.adjacency(id).map(|adjacency| (adjacency.out, adjacency.mtu)).ok_or(NoAdjacency::NoRoute)?,
            Err(NoAdjacency::Unresolved { interface, mtu, .. }) => (interface, mtu),
            Err(_) => return found,
        };
        if destination.is_ipv6() && mtu < LEAST_AROUND_V6 { Err(NoAdjacency::Narrow { interface, mtu }) } else { found }
    }

    /// That of another of several paths, whose next hop is known: for a packet whose own has a next hop that does not answer, or an
    /// interface that is down. Each gets its share of all hashes.
    pub fn resolve_beside(&self, heading: &Heading) -> Option<AdjacencyId> {
        let route = self.route_of(heading)?;
        let RouteTarget::Paths(paths) = &route.target else { return None };
        let known = |path: &Path| {
            let next_hop = self.next_hop(route, (path.interface, path.via), heading.destination);
            self.hops.number(&next_hop).filter(|_| self.is_way(path.interface))
        };
        path::pick_of(paths.iter().filter(|path| known(path).is_some()), heading.hash).and_then(known)
    }

    /// Some adjacency for `destination`: a known one, if there is any for whatever packet.
    pub fn resolve_any(&self, destination: IpAddr) -> Result<AdjacencyId, NoAdjacency> {
        let first = self.resolve(destination);
        let ways = || self.ways_to(destination).filter(|way| self.is_way(way.interface));
        let known = || ways().find_map(|way| self.hops.number(&way));
        let unresolved = || ways().next();
        match first {
            Ok(id) => Ok(id),
            Err(none) => match (known(), unresolved()) {
                (Some(id), _) => Ok(id),
                (None, Some(way)) => Err(way.unresolved()),
                (None, None) => Err(none),
            },
        }
    }

    /// What was found for a packet to `endpoint`, if that will do for a Service that forwards so.
    pub fn suits(
        &self,
        endpoint: IpAddr,
        forwarding: ForwardingMode,
        found: Result<AdjacencyId, NoAdjacency>,
    ) -> Result<AdjacencyId, NoAdjacency> {
        match forwarding {
            ForwardingMode::Nat => found,
            ForwardingMode::DsrL2 => self.on_link(endpoint, found),
            ForwardingMode::DsrIpip => self.around(endpoint, found),
        }
    }

    /// Why packets of a Service that forwards so do not get to an endpoint, for whatever packet.
    pub fn unreachable(&self, endpoint: IpAddr, forwarding: ForwardingMode) -> Option<NoAdjacency> {
        let found = self.resolve_any(endpoint);
        self.suits(endpoint, forwarding, found).err()
    }

    /// Whether `taken`, which an older network gave for this heading, is still that of one of several paths that it can take.
    pub fn still_leads(&self, heading: &Heading, taken: AdjacencyId) -> bool {
        let Some(route) = self.route_of(heading) else { return false };
        let RouteTarget::Paths(paths) = &route.target else { return false };
        paths.iter().any(|path| {
            let next_hop = self.next_hop(route, (path.interface, path.via), heading.destination);
            self.hops.number(&next_hop) == Some(taken) && self.is_way(path.interface)
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
        self.ways_to(destination).map(|way| (way.interface, way.address))
    }

    /// The same, with what each carries.
    pub(super) fn ways_to(&self, destination: IpAddr) -> impl Iterator<Item = NextHop> {
        let is_own = self.is_local(destination);
        let routes = self.tables(destination).find_all(destination).filter(move |_| !is_own);
        let ways = routes.flat_map(move |route| route.ways().map(move |way| self.next_hop(route, way, destination)));
        ways.filter(|way| self.interface(way.interface).is_some_and(|interface| interface.up))
    }
}

impl NextHop {
    fn unresolved(&self) -> NoAdjacency {
        NoAdjacency::Unresolved { interface: self.interface, next_hop: self.address, mtu: self.mtu }
    }
}
