//! Next hops and their adjacencies: one for each neighbour, and one more for each smaller packet size that a route to or through it
//! asks for.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::HashMap;

use super::{Interface, Network};
use crate::address::MacAddress;
use crate::adjacency::{Adjacency, AdjacencyId, InterfaceId};

/// Where a packet goes on its way: by which interface, to which neighbour, and how large it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct NextHop {
    pub(super) interface: InterfaceId,
    pub(super) address: IpAddr,
    /// The largest packet that the interface and the route carry, in bytes.
    pub(super) mtu: u32,
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

/// The adjacencies by number, and the numbers by next hop.
#[derive(Clone, Debug, Default)]
pub(super) struct Hops {
    numbers: HashMap<NextHop, AdjacencyId>,
    hops: Vec<Hop>,
}

impl Hops {
    /// Those of known neighbours, by routes that carry what their interfaces carry.
    pub(super) fn of(
        interfaces: &[Interface],
        neighbors: impl IntoIterator<Item = (InterfaceId, IpAddr, MacAddress)>,
    ) -> Self {
        let mut hops = Hops::default();
        for (interface, address, mac) in neighbors {
            let Some(out) = interfaces.get(usize::from(interface.0)) else { continue };
            let adjacency = Adjacency { out: interface, source_mac: out.mac, destination_mac: mac, mtu: out.mtu };
            hops.add(NextHop { interface, address, mtu: out.mtu }, adjacency);
        }
        hops
    }

    fn add(&mut self, next_hop: NextHop, adjacency: Adjacency) {
        let id = AdjacencyId(self.hops.len() as u32);
        self.hops.push(Hop { adjacency, used: AtomicBool::new(false) });
        self.numbers.insert(next_hop, id);
    }

    #[inline]
    pub(super) fn number(&self, next_hop: &NextHop) -> Option<AdjacencyId> {
        self.numbers.get(next_hop).copied()
    }

    /// Numbers, given out or free.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.hops.len()
    }

    /// Gives every next hop that `older` has the number that it has there.
    fn keep_numbers(&mut self, older: &Hops) {
        let mut hops = older.hops.clone();
        let mut taken = vec![false; hops.len()];
        let kept = self.numbers.keys().filter_map(|key| older.numbers.get(key));
        kept.filter_map(|id| usize::try_from(id.0).ok()).for_each(|place| {
            taken.get_mut(place).into_iter().for_each(|taken| *taken = true);
        });
        let mut free = (0..).zip(taken).filter(|(_, taken)| !taken).map(|(place, _)| place);
        for (key, id) in &mut self.numbers {
            let Some(hop) = self.hops.get(id.0 as usize).cloned() else { continue };
            let number = older.numbers.get(key).map(|id| id.0).or_else(|| free.next());
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
}

impl Network {
    /// Adds the next hops of routes that carry less than their interfaces. Only those of known neighbours count, so there are never
    /// more than the routes ask for.
    pub(super) fn add_smaller_hops(&mut self) {
        let mut wanted: Vec<NextHop> = Vec::new();
        let mut on_link = false;
        for route in self.routes().filter(|route| route.mtu.is_some()) {
            for (interface, via) in route.ways() {
                match via {
                    Some(address) => wanted.push(NextHop { interface, address, mtu: self.mtu_by(route, interface) }),
                    None => on_link = true,
                }
            }
        }
        if on_link {
            let known = self.hops.numbers.keys();
            wanted.extend(known.flat_map(|known| {
                let address = known.address;
                self.ways_to(address).filter(move |way| way.address == address && way.interface == known.interface)
            }));
        }
        for next_hop in wanted {
            let Some(out) = self.interface(next_hop.interface) else { continue };
            let Some(plain) = self.hops.number(&NextHop { mtu: out.mtu, ..next_hop }) else { continue };
            if self.hops.number(&next_hop).is_none()
                && let Some(adjacency) = self.adjacency(plain).copied()
            {
                self.hops.add(next_hop, Adjacency { mtu: next_hop.mtu, ..adjacency });
            }
        }
    }

    /// Gives every next hop that `older` has the number that it has there, so that flows find the way that they took.
    pub fn keep_numbers(&mut self, older: &Network) {
        self.hops.keep_numbers(&older.hops);
    }

    /// How many adjacencies there are.
    pub fn adjacencies(&self) -> usize {
        self.hops.numbers.len()
    }

    /// The adjacency with this number.
    #[inline]
    pub fn adjacency(&self, id: AdjacencyId) -> Option<&Adjacency> {
        self.hops.hops.get(id.0 as usize).map(|hop| &hop.adjacency)
    }

    /// The adjacency with this number, for a packet that leaves by it: it is marked as used.
    #[inline]
    pub fn leave_by(&self, id: AdjacencyId) -> Option<&Adjacency> {
        let hop = self.hops.hops.get(id.0 as usize)?;
        // Workers share the mark: it is written only where it is not set yet.
        if !hop.used.load(Ordering::Relaxed) {
            hop.used.store(true, Ordering::Relaxed);
        }
        Some(&hop.adjacency)
    }

    /// The next hops that packets left by since this was asked last.
    pub fn take_used(&self) -> impl Iterator<Item = (InterfaceId, IpAddr)> {
        self.hops.numbers.iter().filter_map(|(next_hop, id)| {
            let used = &self.hops.hops.get(id.0 as usize)?.used;
            let taken = used.load(Ordering::Relaxed) && used.swap(false, Ordering::Relaxed);
            taken.then_some((next_hop.interface, next_hop.address))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Family;
    use crate::network::{Heading, Lowers, NoAdjacency, Path, Perspective, Route, RouteTarget};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// eth0 and eth1 carry 1,500 bytes; `pods` is the MTU of the route to 10.8.0.0/16.
    fn network(pods: Option<u32>) -> Network {
        let interface = |id: u16| Interface {
            id: InterfaceId(id),
            name: format!("eth{id}").as_str().into(),
            index: u32::from(id) + 1,
            mac: MacAddress([2; 6]),
            mtu: 1500,
            addresses: vec![format!("10.{id}.0.1/24").parse().unwrap(), format!("fd00:{id}::1/64").parse().unwrap()],
            up: true,
            lowers: Lowers::default(),
        };
        let route = |to: &str, out, via: Option<&str>, mtu| {
            let target = RouteTarget::Out { interface: InterfaceId(out), via: via.map(ip) };
            Route { mtu, ..Route::new(to.parse().unwrap(), target) }
        };
        let path = |out, via| Path { interface: InterfaceId(out), via: Some(ip(via)), source: None, weight: 1 };
        let paths = RouteTarget::Paths([path(0, "10.0.0.9"), path(1, "10.1.0.9")].into());
        let routes = [
            route("10.8.0.0/16", 1, Some("10.1.0.9"), pods),
            route("10.9.0.0/16", 1, Some("10.1.0.9"), None),
            route("10.10.0.0/16", 1, Some("10.1.0.9"), Some(9000)),
            route("10.11.0.0/16", 1, Some("10.1.0.9"), Some(40)),
            route("10.12.0.0/16", 1, Some("10.1.0.8"), Some(1400)),
            route("fd08::/16", 1, Some("fd00:1::9"), Some(1000)),
            route("10.1.0.64/26", 1, None, Some(1300)),
            Route { mtu: Some(1350), ..Route::new("10.13.0.0/16".parse().unwrap(), paths) },
        ];
        let neighbors = [(0, "10.0.0.9"), (1, "10.1.0.9"), (1, "fd00:1::9"), (1, "10.1.0.70"), (1, "10.1.0.7")];
        let neighbors = neighbors.map(|(out, address)| (InterfaceId(out), ip(address), MacAddress([7; 6])));
        let from = Route {
            mtu: Some(1290),
            ..Route::new(
                "10.9.0.0/16".parse().unwrap(),
                RouteTarget::Out { interface: InterfaceId(1), via: Some(ip("10.1.0.9")) },
            )
        };
        let seen = Perspective { family: Family::V4, arrived: Some(InterfaceId(0)), from: None, routes: vec![from] };
        Network::new(1, vec![interface(0), interface(1)], routes, neighbors).with_answers(vec![seen], Vec::new().into())
    }

    fn size(network: &Network, heading: &Heading) -> Option<u32> {
        Some(network.adjacency(network.resolve_for(heading).ok()?)?.mtu)
    }

    #[test]
    fn a_way_carries_what_its_route_and_its_interface_do() {
        let network = network(Some(1280));
        for (destination, mtu) in [
            ("10.8.0.1", 1280),
            ("10.9.0.1", 1500),
            ("10.10.0.1", 1500),
            // The families have to carry that much.
            ("10.11.0.1", 68),
            ("fd08::1", 1280),
            ("10.1.0.9", 1500),
            ("10.1.0.70", 1300),
            ("10.1.0.7", 1500),
        ] {
            assert_eq!(size(&network, &Heading::to(ip(destination))), Some(mtu), "{destination}");
        }
        let by_rule = Heading { arrived: Some(InterfaceId(0)), ..Heading::to(ip("10.9.0.1")) };
        assert_eq!(size(&network, &by_rule), Some(1290));
        for hash in 0..64 {
            assert_eq!(size(&network, &Heading { hash, ..Heading::to(ip("10.13.0.1")) }), Some(1350), "{hash}");
        }
        let shared = Heading::to(ip("10.13.0.1"));
        let taken = network.resolve_beside(&shared).unwrap();
        assert!(network.still_leads(&shared, taken) && network.adjacency(taken).unwrap().mtu == 1350);
        let unknown = NoAdjacency::Unresolved { interface: InterfaceId(1), next_hop: ip("10.1.0.8"), mtu: 1400 };
        assert_eq!(network.resolve(ip("10.12.0.1")), Err(unknown));
        assert_eq!(
            network.on_link(ip("10.1.0.70"), network.resolve(ip("10.1.0.70"))),
            network.resolve(ip("10.1.0.70"))
        );
        assert_eq!(
            network.on_link(ip("10.8.0.1"), network.resolve(ip("10.8.0.1"))),
            Err(NoAdjacency::Routed { interface: InterfaceId(1) })
        );
    }

    #[test]
    fn another_size_is_another_way_to_one_neighbour() {
        let before = network(Some(1280));
        let mut after = network(Some(1400));
        after.keep_numbers(&before);
        let (pods, others) = (ip("10.8.0.1"), ip("10.9.0.1"));
        let of = |network: &Network, to| network.resolve(to).unwrap();
        assert_eq!(of(&after, others), of(&before, others));
        assert_ne!(of(&after, pods), of(&after, others));
        assert_eq!(size(&after, &Heading::to(pods)), Some(1400));
        assert!(!before.has_same_routes(&after) && before.has_same_routes(&network(Some(1280))));
        // Whatever a packet's size may be, it is the neighbour that is in use.
        after.leave_by(of(&after, pods)).unwrap();
        assert_eq!(after.take_used().collect::<Vec<_>>(), [(InterfaceId(1), ip("10.1.0.9"))]);
    }
}
