//! The next hops of all endpoints, counted: a change of some endpoints costs what they cost, and a neighbour that comes or
//! goes nothing.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ringway_shared::Network;
use ringway_shared::network::Route;
use ringway_shared::sharing::ShardedMap;

use super::neighbors::Key;

/// The next hops, and what they were counted from.
#[derive(Debug, Default)]
pub(super) struct NextHops {
    network: Arc<Network>,
    endpoints: ShardedMap<IpAddr, u32>,
    // How many endpoints have it.
    counts: HashMap<Key, i64>,
}

/// Next hops that there were none of before, and those that there are none of any more.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) new: Vec<Key>,
    pub(super) gone: Vec<Key>,
}

impl NextHops {
    /// Goes on to newer endpoints and a newer network.
    pub(super) fn advance(&mut self, network: &Arc<Network>, endpoints: ShardedMap<IpAddr, u32>) -> Changes {
        let older = std::mem::replace(&mut self.endpoints, endpoints);
        let ways = std::mem::replace(&mut self.network, network.clone());
        let mut deltas: HashMap<Key, i64> = HashMap::new();
        if Arc::ptr_eq(&ways, network) || ways.has_same_routes(network) {
            for difference in older.differences(&self.endpoints) {
                let delta = i64::from(difference.new.is_some()) - i64::from(difference.old.is_some());
                // Most entries are only in the neighbourhood of a change.
                if delta != 0 {
                    next_hops(network, *difference.at).for_each(|key| *deltas.entry(key).or_default() += delta);
                }
            }
        } else {
            deltas.extend(self.counts.iter().map(|(key, count)| (*key, -count)));
            for key in self.endpoints.keys().flat_map(|endpoint| next_hops(network, *endpoint)) {
                *deltas.entry(key).or_default() += 1;
            }
        }
        let mut changes = Changes::default();
        for (key, delta) in deltas.into_iter().filter(|(_, delta)| *delta != 0) {
            let count = self.counts.entry(key).or_default();
            if *count == 0 {
                changes.new.push(key);
            }
            *count += delta;
            if *count == 0 {
                changes.gone.push(key);
                self.counts.remove(&key);
            }
        }
        changes
    }
}

/// The neighbours that packets to `endpoint` can go to; neighbours themselves make no difference to it.
fn next_hops(network: &Network, endpoint: IpAddr) -> impl Iterator<Item = Key> {
    let hops = network.next_hops(endpoint);
    let mut keys: Vec<Key> = hops.filter_map(|(out, address)| Some((network.interface(out)?.index, address))).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter()
}

/// The neighbours that routes lead by.
pub(super) fn routers(network: &Network) -> HashSet<Key> {
    let hops = network.routes().flat_map(Route::ways);
    hops.filter_map(|(interface, via)| Some((network.interface(interface)?.index, via?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ringway_shared::network::{Interface, Lowers, RouteTarget};
    use ringway_shared::{InterfaceId, MacAddress};

    /// Two interfaces; pods of 10.`n`.0.0/16 are behind 192.168.0.`n`, those of 10.9.0.0/16 on link.
    fn network(generation: u32, nodes: &[u8], up: bool) -> Arc<Network> {
        let interface = |id: u16, address: &str, up| Interface {
            id: InterfaceId(id),
            name: format!("eth{id}").into(),
            index: u32::from(id) + 7,
            mac: MacAddress([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            addresses: vec![address.parse().unwrap()],
            up,
            lowers: Lowers::default(),
        };
        let interfaces = vec![interface(0, "192.168.0.1/24", true), interface(1, "10.9.0.1/16", up)];
        let route = |node: &u8| {
            let via = Some(format!("192.168.0.{node}").parse().unwrap());
            let target = RouteTarget::Out { interface: InterfaceId(0), via };
            Route::new(format!("10.{node}.0.0/16").parse().unwrap(), target)
        };
        let routes: Vec<Route> = nodes.iter().map(route).collect();
        // A neighbour that is known or not makes no difference.
        let known =
            generation.is_multiple_of(2).then(|| (InterfaceId(0), "192.168.0.2".parse().unwrap(), MacAddress([6; 6])));
        Arc::new(Network::new(generation, interfaces, routes, known))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn changes_add_up_to_the_next_hops_of_all_endpoints(
            steps in prop::collection::vec((prop::collection::vec((2..10u8, 1..4u8, any::<bool>()), 0..6), any::<u8>()), 1..20),
        ) {
            let (mut hops, mut endpoints) = (NextHops::default(), ShardedMap::default());
            let mut kept: HashSet<Key> = HashSet::new();
            let mut network = network(1, &[2, 3], true);
            for (generation, (moves, other)) in (2..).zip(steps) {
                for (node, last, add) in moves {
                    let address = IpAddr::from([10, node, 0, last]);
                    match add {
                        true => endpoints.insert(address, 1),
                        false => endpoints.remove(&address),
                    };
                }
                network = match other % 4 {
                    0 => self::network(generation, &[2, 3], true),
                    1 => self::network(generation, &[3, 4, 5], other > 100),
                    _ => network,
                };
                let changes = hops.advance(&network, endpoints.clone());
                for key in &changes.gone {
                    prop_assert!(kept.remove(key));
                }
                for key in &changes.new {
                    prop_assert!(kept.insert(*key));
                }
                let all: HashSet<Key> = endpoints.keys().flat_map(|endpoint| next_hops(&network, *endpoint)).collect();
                prop_assert_eq!(&kept, &all);
            }
        }
    }
}
