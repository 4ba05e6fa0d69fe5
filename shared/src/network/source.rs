//! Source addresses: the one that the kernel chooses on a way, as it said, or as far as it can be told without one.

use std::cmp::Reverse;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Heading, Network, Route, RouteTarget, path};
use crate::address::Family;

impl Network {
    /// Every source address that packets to `destination` can get, whatever else is known of them.
    pub fn source_addresses(&self, destination: IpAddr) -> Vec<IpAddr> {
        let mut sources: Vec<IpAddr> = Vec::new();
        for route in self.tables(destination).find_all(destination) {
            match &route.target {
                RouteTarget::Paths(paths) => sources.extend(paths.iter().filter_map(|path| path.source)),
                _ => sources.extend(self.source_of(route, destination)),
            }
        }
        sources.sort_unstable();
        sources.dedup();
        sources
    }

    /// The address that Linux would use as source towards `destination`, for a packet of which nothing else is known.
    pub fn source_address(&self, destination: IpAddr) -> Option<IpAddr> {
        self.source_address_for(&Heading::to(destination))
    }

    /// The address that Linux would use as source on the way of this packet.
    pub fn source_address_for(&self, heading: &Heading) -> Option<IpAddr> {
        let route = self.route_of(heading)?;
        match &route.target {
            RouteTarget::Paths(paths) => path::pick(paths, heading.hash)?.source,
            _ => self.source_of(route, heading.destination),
        }
    }

    /// The route's preferred source. Where nobody asked the kernel: else the best address of the family on the way out, else
    /// the best of any interface, since those of pods often have none.
    fn source_of(&self, route: &Route, destination: IpAddr) -> Option<IpAddr> {
        if route.source.is_some() || self.sources_known {
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
