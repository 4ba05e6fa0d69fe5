//! Adjacencies found lately, with the source address for their destination, so that opening a flow to an endpoint that has
//! many walks no routes.
//!
//! Two small direct-mapped caches in the worker's own memory: one for endpoints, and one for clients, so that many clients
//! push out no endpoint. An entry is good for one generation of the network and one of its tables; only those that exist are
//! kept, so a neighbour that is being resolved is looked for anew with every packet, and none of a route with several
//! paths, since those differ from flow to flow. Where the next hop of one path does not answer, another takes its flows.

use std::net::IpAddr;
use std::sync::Arc;

use ringway_shared::address::address_words;
use ringway_shared::network::{Heading, NoAdjacency, RouteTarget};
use ringway_shared::{Adjacency, AdjacencyId, InterfaceId, Network};

use crate::resolver::Resolver;

/// Entries of a cache, a power of two. With 48 bytes each they stay in the second cache.
const ENTRIES: usize = 2048;

#[derive(Clone, Copy)]
struct Entry {
    destination: [u64; 2],
    generation: u32,
    adjacency: AdjacencyId,
    source: Option<IpAddr>,
    table: u16,
}

/// No network has an adjacency with this number.
const EMPTY: Entry =
    Entry { destination: [0; 2], generation: 0, adjacency: AdjacencyId(u32::MAX), source: None, table: 0 };

/// What a destination leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resolved<'n> {
    /// The adjacency's number, valid in the network's generation.
    pub(super) id: AdjacencyId,
    /// Where frames leave, and with which addresses.
    pub(super) adjacency: &'n Adjacency,
    /// The source address that Linux would choose.
    pub(super) source: Option<IpAddr>,
}

/// The caches.
pub(super) struct Adjacencies {
    endpoints: Cache,
    clients: Cache,
    resolver: Arc<Resolver>,
}

#[allow(clippy::wrong_self_convention, reason = "a way to somebody, no conversion")]
impl Adjacencies {
    pub(super) fn new(resolver: Arc<Resolver>) -> Self {
        Adjacencies { endpoints: Cache::new(), clients: Cache::new(), resolver }
    }

    /// The adjacency for a packet to an endpoint, which leaves by it.
    #[inline]
    pub(super) fn to_endpoint<'n>(
        &mut self,
        network: &'n Network,
        heading: &Heading,
    ) -> Result<Resolved<'n>, NoAdjacency> {
        self.to_endpoint_at(network, address_words(heading.destination), || *heading)
    }

    /// The same by the words of the endpoint's address. The heading is needed where nothing is remembered, or policy rules count.
    #[inline(always)]
    pub(super) fn to_endpoint_at<'n>(
        &mut self,
        network: &'n Network,
        endpoint: [u64; 2],
        heading: impl Fn() -> Heading,
    ) -> Result<Resolved<'n>, NoAdjacency> {
        match self.endpoints.remembered(network, endpoint, &heading) {
            Some(found) => Ok(found),
            None => self.endpoints.learn(network, &heading(), true, &self.resolver),
        }
    }

    /// Whether packets to an endpoint, by the words of its address, are remembered to leave by this interface. They may do so, too,
    /// when none is remembered.
    pub(super) fn leads_out_by(&self, network: &Network, endpoint: [u64; 2], interface: InterfaceId) -> bool {
        let entry = self.endpoints.0.get(place(endpoint));
        let known = entry.filter(|entry| entry.destination == endpoint && entry.generation == network.generation);
        known.and_then(|entry| network.adjacency(entry.adjacency)).is_some_and(|adjacency| adjacency.out == interface)
    }

    /// The number of the adjacency for packets to a client, by the words of its address, which leave by it.
    #[inline(always)]
    pub(super) fn number_to_client(
        &mut self,
        network: &Network,
        client: [u64; 2],
        heading: impl Fn() -> Heading,
    ) -> Result<AdjacencyId, NoAdjacency> {
        match self.clients.entry(network, client, &heading) {
            Some(entry) if network.leave_by(entry.adjacency).is_some() => Ok(entry.adjacency),
            _ => self.clients.learn(network, &heading(), false, &self.resolver).map(|found| found.id),
        }
    }

    /// The adjacency for a packet to a client, which leaves by it. Such packets have their source.
    #[inline]
    pub(super) fn to_client<'n>(
        &mut self,
        network: &'n Network,
        heading: &Heading,
    ) -> Result<Resolved<'n>, NoAdjacency> {
        match self.clients.remembered(network, address_words(heading.destination), || *heading) {
            Some(found) => Ok(found),
            None => self.clients.learn(network, heading, false, &self.resolver),
        }
    }
}

/// One cache.
struct Cache(Box<[Entry]>);

/// Where a destination's entry stands.
#[inline]
fn place([high, low]: [u64; 2]) -> usize {
    ((high.rotate_left(32) ^ low).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize % ENTRIES
}

impl Cache {
    fn new() -> Self {
        Cache(vec![EMPTY; ENTRIES].into_boxed_slice())
    }

    #[inline(always)]
    fn entry(&self, network: &Network, destination: [u64; 2], heading: impl Fn() -> Heading) -> Option<&Entry> {
        let entry = self.0.get(place(destination))?;
        let table = if network.has_one_table() { 0 } else { network.table(&heading()) };
        let is_it = entry.destination == destination && entry.generation == network.generation && entry.table == table;
        is_it.then_some(entry)
    }

    #[inline(always)]
    fn remembered<'n>(
        &self,
        network: &'n Network,
        destination: [u64; 2],
        heading: impl Fn() -> Heading,
    ) -> Option<Resolved<'n>> {
        let entry = self.entry(network, destination, heading)?;
        let adjacency = network.leave_by(entry.adjacency)?;
        Some(Resolved { id: entry.adjacency, adjacency, source: entry.source })
    }

    /// Asks the network, for the source address as well if that is wanted: always by one cache, never by the other.
    #[cold]
    fn learn<'n>(
        &mut self,
        network: &'n Network,
        heading: &Heading,
        with_source: bool,
        resolver: &Resolver,
    ) -> Result<Resolved<'n>, NoAdjacency> {
        let id = network.resolve_for(heading).or_else(|none| {
            let other = network.resolve_beside(heading);
            // Nobody would ask for it again if no packet waited for it.
            if let (NoAdjacency::Unresolved { interface, next_hop, .. }, Some(_)) = (&none, other) {
                resolver.ask(*interface, *next_hop);
            }
            other.ok_or(none)
        })?;
        let adjacency = network.leave_by(id).ok_or(NoAdjacency::NoRoute)?;
        let source = if with_source { network.source_address_for(heading) } else { None };
        let has_several =
            || matches!(network.route_of(heading).map(|route| &route.target), Some(RouteTarget::Paths(_)));
        let single = !network.has_several_paths() || !has_several();
        let (destination, generation) = (address_words(heading.destination), network.generation);
        if let Some(entry) = self.0.get_mut(place(destination)).filter(|_| single) {
            *entry = Entry { destination, generation, adjacency: id, source, table: network.table(heading) };
        }
        Ok(Resolved { id, adjacency, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ringway_shared::MacAddress;
    use ringway_shared::network::{Interface, Lowers, Path, Route};

    fn adjacencies() -> Adjacencies {
        Adjacencies::new(Resolver::new().unwrap())
    }

    /// A router that dies silently: its flows go by the other one, until it answers again.
    #[test]
    fn one_of_several_paths_takes_the_flows_of_another_that_does_not_answer() {
        let via = |last: u8| Some(address(last));
        let path = |last| Path { interface: InterfaceId(0), via: via(last), source: None, weight: 1 };
        let network = |generation, known: &[u8]| {
            let target = RouteTarget::Paths([path(2), path(4)].into());
            let to = "10.9.0.0/16".parse().unwrap();
            let routes = [Route::new(to, target)];
            let neighbors = known.iter().map(|last| (InterfaceId(0), address(*last), MacAddress([*last; 6])));
            Network::new(generation, vec![interface()], routes, neighbors)
        };
        let mut adjacencies = adjacencies();
        let mut taken = |network: &Network| {
            let mut macs: Vec<u8> = (0..64u64)
                .filter_map(|hash| {
                    let heading = Heading { hash: hash << 58 | hash, ..Heading::to("10.9.0.1".parse().unwrap()) };
                    Some(adjacencies.to_endpoint(network, &heading).ok()?.adjacency.destination_mac.0[0])
                })
                .collect();
            macs.sort_unstable();
            (macs.iter().filter(|mac| **mac == 2).count(), macs.iter().filter(|mac| **mac == 4).count())
        };
        let (first, second) = taken(&network(1, &[2, 4]));
        assert!(first > 16 && second > 16 && first + second == 64, "{first} and {second}");
        assert_eq!(taken(&network(2, &[4])), (0, 64));
        assert_eq!(taken(&network(3, &[])), (0, 0), "nobody answers");
        assert_eq!(taken(&network(4, &[2, 4])), (first, second));
        let mut asked: Vec<_> = std::iter::from_fn(|| adjacencies.resolver.next_question()).collect();
        asked.dedup();
        assert_eq!(asked, [(InterfaceId(0), address(2))], "who does not answer is asked again");
    }

    fn network(generation: u32, known: &[u8]) -> Network {
        let neighbors = known.iter().map(|last| (InterfaceId(0), address(*last), MacAddress([*last; 6])));
        Network::new(generation, vec![interface()], [], neighbors)
    }

    fn interface() -> Interface {
        Interface {
            id: InterfaceId(0),
            name: "a".into(),
            index: 1,
            mac: MacAddress([2; 6]),
            mtu: 1500,
            addresses: vec!["10.0.0.254/24".parse().unwrap(), "fd00::254/64".parse().unwrap()],
            up: true,
            lowers: Lowers::default(),
        }
    }

    /// Odd ones are IPv6; some have no route.
    fn address(last: u8) -> IpAddr {
        if last.is_multiple_of(2) {
            IpAddr::from([10, 0, last % 4 / 2 * (last / 200), last])
        } else {
            format!("fd00::{last:x}").parse().unwrap()
        }
    }

    proptest! {
        /// However the network changes, the cache says what the network says.
        #[test]
        fn adjacencies_are_those_of_the_network(
            networks in proptest::collection::vec(proptest::collection::vec(0u8..=255, 0..40), 1..5),
            asked in proptest::collection::vec((0usize..5, 0u8..=255), 0..200),
        ) {
            let networks: Vec<Network> =
                networks.iter().zip(0..).map(|(known, generation)| network(generation, known)).collect();
            let mut adjacencies = adjacencies();
            for (which, last) in asked {
                let network = &networks[which % networks.len()];
                let destination = address(last);
                let found = adjacencies.to_endpoint(network, &Heading::to(destination));
                prop_assert_eq!(found.map(|found| found.id), network.resolve(destination));
                if let Ok(found) = found {
                    prop_assert_eq!(Some(found.adjacency), network.adjacency(found.id));
                    prop_assert_eq!(found.source, network.source_address(destination));
                }
                let back = adjacencies.to_client(network, &Heading::to(destination));
                prop_assert_eq!(back.map(|found| found.id), network.resolve(destination));
                let heading = || Heading::to(destination);
                let number = adjacencies.number_to_client(network, address_words(destination), heading);
                prop_assert_eq!(number, network.resolve(destination));
                // What was found in another network counts for nothing.
                for network in &networks {
                    let leads = adjacencies.leads_out_by(network, address_words(destination), InterfaceId(0));
                    let may_lead = network.next_hops(destination).any(|(out, _)| out == InterfaceId(0));
                    prop_assert!(may_lead || !leads);
                    prop_assert!(!adjacencies.leads_out_by(network, address_words(destination), InterfaceId(1)));
                }
                let leads = adjacencies.leads_out_by(network, address_words(destination), InterfaceId(0));
                prop_assert_eq!(leads, found.is_ok());
            }
        }
    }

    #[test]
    fn the_blank_entry_is_no_adjacency() {
        let unspecified = IpAddr::from([0u8; 16]);
        assert!(adjacencies().to_endpoint(&network(0, &[2]), &Heading::to(unspecified)).is_err());
    }
}
