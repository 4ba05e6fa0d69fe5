//! What a heading leads to: the route that counts, the next hops of its paths, which of them is taken, and its adjacency.

use std::net::IpAddr;

use super::path::Heading;
use super::{Network, NoAdjacency, Path, Route, RouteTarget, path, table::Tables};
use crate::adjacency::{AdjacencyId, InterfaceId};
use crate::service::ForwardingMode;

impl Network {
    pub(super) fn tables(&self, destination: IpAddr) -> &Tables {
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
    pub(super) fn path(&self, heading: &Heading) -> Result<(InterfaceId, IpAddr, Option<IpAddr>), NoAdjacency> {
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
            RouteTarget::Unlisted(_) => return Err(NoAdjacency::NoInterface),
            RouteTarget::Local => return Err(NoAdjacency::Local),
            RouteTarget::Nowhere => return Err(NoAdjacency::NoRoute),
        };
        Ok((interface, via.unwrap_or(heading.destination), source))
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
        let (interface, next_hop, _) = self.path(heading)?;
        if !self.interface(interface).is_some_and(|interface| interface.up) {
            return Err(NoAdjacency::InterfaceDown(interface));
        }
        self.neighbors.get(&(interface, next_hop)).copied().ok_or(NoAdjacency::Unresolved { interface, next_hop })
    }

    /// What was found for a packet to `destination`, where that has to be its own next hop.
    pub fn on_link(
        &self,
        destination: IpAddr,
        found: Result<AdjacencyId, NoAdjacency>,
    ) -> Result<AdjacencyId, NoAdjacency> {
        let interface = match found {
            Ok(id) => {
                let interface = self.adjacency(id).ok_or(NoAdjacency::NoRoute)?.out;
                if self.neighbors.get(&(interface, destination)) == Some(&id) {
                    return found;
                }
                interface
            }
            Err(NoAdjacency::Unresolved { interface, next_hop }) if next_hop != destination => interface,
            Err(_) => return found,
        };
        Err(NoAdjacency::Routed { interface })
    }

    /// That of another of several paths, whose next hop is known: for a packet whose own has a next hop that does not answer, or an
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

    /// Some adjacency for `destination`: a known one, if there is any for whatever packet.
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

    /// Why packets of a Service that forwards so do not get to an endpoint, for whatever packet.
    pub fn unreachable(&self, endpoint: IpAddr, forwarding: ForwardingMode) -> Option<NoAdjacency> {
        let found = self.resolve_any(endpoint);
        let found = if forwarding == ForwardingMode::DsrL2 { self.on_link(endpoint, found) } else { found };
        found.err()
    }

    /// Whether `taken`, which an older network gave for this heading, is still that of one of several paths that it can take.
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
