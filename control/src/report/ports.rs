//! How many of the SNAT ports towards each endpoint are in use, and how many there are: before none is left.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use ringway_dataplane::flow::PortUse;
use ringway_shared::snapshot::Services;
use ringway_shared::{FiveTuple, PortSet, Protocol};
use serde::{Deserialize, Serialize};

use super::services::ServicesReport;
pub use warnings::Warnings;

mod warnings;

/// The endpoints that `status` and the metrics name: those with the most ports in use.
pub const NAMED: usize = 10;

/// The SNAT ports towards one endpoint, from one SNAT address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointPorts {
    /// `IP:PORT`.
    pub endpoint: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// The SNAT address.
    pub address: String,
    /// Ports in use, over all workers.
    pub used: u64,
    /// Ports that there are, over all workers.
    pub limit: u64,
    /// The most that were in use: each worker's own most, added up.
    pub high_water: u64,
    /// Percent in use of the share of the worker that is nearest to its end.
    pub fullest_worker_percent: u64,
}

/// Ports of UDP Services among the SNAT ports, by address: no new UDP flow gets one on its SNAT address.
#[derive(Clone, Debug, Default)]
pub struct Frontends(HashMap<IpAddr, Vec<u16>>);

impl Frontends {
    /// Those of these Services.
    pub fn of(services: &Services, snat: &PortSet) -> Self {
        let mut all: HashMap<IpAddr, Vec<u16>> = HashMap::new();
        for (at, _) in services.frontends.iter() {
            if at.protocol == Protocol::Udp && snat.contains(at.port) {
                all.entry(at.address).or_default().push(at.port);
            }
        }
        Frontends(all)
    }

    /// How many of these ports new flows with such a reply do not get.
    fn among(&self, ports: &PortSet, reply: &FiveTuple) -> u64 {
        let all = self.0.get(&reply.destination_address()).filter(|_| reply.protocol() == Protocol::Udp);
        all.into_iter().flatten().filter(|port| ports.contains(**port)).count() as u64
    }
}

/// What several workers use towards one endpoint from one SNAT address.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    /// Ports that there are, over all workers.
    limit: u64,
    used: u64,
    high_water: u64,
    fullest_percent: u64,
}

/// All of them at one moment.
#[derive(Clone, Debug, Default)]
pub struct PortUses {
    // By endpoint and SNAT address: the reply tuple, with 0 for the SNAT port.
    sums: HashMap<FiveTuple, Sum>,
    ports: PortSet,
    frontends: Frontends,
    // By worker, how many flows its table has that no new one pushes out, and how many it can have.
    tables: BTreeMap<u16, (u32, u32)>,
}

impl PortUses {
    /// Nothing in use of these ports.
    pub fn of(ports: PortSet, frontends: Frontends) -> Self {
        PortUses { sums: HashMap::new(), ports, frontends, tables: BTreeMap::new() }
    }

    /// Notes how many flows a worker's table has that no new one pushes out, and how many it can have.
    pub fn note_table(&mut self, worker: u16, certain: u32, capacity: u32) {
        self.tables.insert(worker, (certain, capacity));
    }

    /// Adds what one worker uses of its share.
    pub fn add(&mut self, port_use: &PortUse, share: &PortSet) {
        let there =
            |ports: &PortSet, all: u32| u64::from(all).saturating_sub(self.frontends.among(ports, &port_use.reply));
        let (limit, own) = (there(&self.ports, self.ports.len()), there(share, port_use.total));
        let sum = self.sums.entry(port_use.reply).or_default();
        sum.limit = limit;
        sum.used += u64::from(port_use.used);
        sum.high_water += u64::from(port_use.high_water);
        let percent = u64::from(port_use.used) * 100 / own.max(1);
        sum.fullest_percent = sum.fullest_percent.max(percent);
    }

    /// Those with the most ports in use, the fullest first.
    pub fn fullest(&self) -> Vec<EndpointPorts> {
        self.first().into_iter().map(|(tuple, sum)| self.named(tuple, sum)).collect()
    }

    fn first(&self) -> Vec<(&FiveTuple, &Sum)> {
        let mut all: Vec<_> = self.sums.iter().collect();
        let order = |(tuple, sum): &(&FiveTuple, &Sum)| {
            let address = (tuple.source_address(), tuple.source_port(), tuple.destination_address());
            (Reverse((sum.fullest_percent, sum.used, sum.high_water)), address, tuple.protocol())
        };
        if all.len() > NAMED {
            all.select_nth_unstable_by_key(NAMED, order);
            all.truncate(NAMED);
        }
        all.sort_by_key(order);
        all
    }

    /// From all SNAT addresses, by protocol and endpoint.
    fn by_endpoint(&self) -> HashMap<(Protocol, SocketAddr), EndpointPortCounts> {
        let mut all: HashMap<_, EndpointPortCounts> = HashMap::new();
        for (tuple, sum) in &self.sums {
            let endpoint = SocketAddr::new(tuple.source_address(), tuple.source_port());
            let counts = all.entry((tuple.protocol(), endpoint)).or_default();
            counts.used += sum.used;
            counts.high_water += sum.high_water;
            counts.limit += sum.limit;
        }
        all
    }

    /// Notes in a report about all Services what their endpoints use.
    pub fn note(&self, report: &mut ServicesReport) {
        let counts = self.by_endpoint();
        let labels: HashMap<String, Protocol> =
            counts.keys().map(|(protocol, _)| (protocol.to_string(), *protocol)).collect();
        for port in report.services.iter_mut().flat_map(|service| &mut service.ports) {
            let Some(protocol) = labels.get(&port.protocol) else { continue };
            for endpoint in &mut port.endpoints {
                let at = endpoint.endpoint.parse().ok();
                endpoint.snat_ports = at.and_then(|at| counts.get(&(*protocol, at)).copied());
            }
        }
    }

    /// What a new masqueraded flow to this endpoint will find, in words; `None` when none ever was.
    pub fn sentence(&self, protocol: Protocol, endpoint: SocketAddr) -> Option<String> {
        let EndpointPortCounts { used, limit, .. } = self.by_endpoint().get(&(protocol, endpoint)).copied()?;
        Some(format!("{used} of {limit} SNAT ports towards {endpoint} are in use."))
    }

    fn named(&self, tuple: &FiveTuple, sum: &Sum) -> EndpointPorts {
        EndpointPorts {
            endpoint: SocketAddr::new(tuple.source_address(), tuple.source_port()).to_string(),
            protocol: tuple.protocol().to_string(),
            address: tuple.destination_address().to_string(),
            used: sum.used,
            limit: sum.limit,
            high_water: sum.high_water,
            fullest_worker_percent: sum.fullest_percent,
        }
    }
}

/// The SNAT ports towards one endpoint, from all SNAT addresses that were ever used to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointPortCounts {
    /// Ports in use.
    pub used: u64,
    /// Ports that there are.
    pub limit: u64,
    /// The most that were in use: each worker's own most, added up.
    pub high_water: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::services::{EndpointReport, ServicePortReport, ServiceReport};

    /// Nothing in use of so many ports.
    pub(super) fn of(count: u16) -> PortUses {
        PortUses::of(ports(count), Frontends::default())
    }

    pub(super) fn ports(count: u16) -> PortSet {
        PortSet::from(1..=count)
    }

    pub(super) fn port_use(endpoint: &str, address: &str, used: u32, total: u32) -> PortUse {
        let address = SocketAddr::new(address.parse().unwrap(), 0);
        let reply = FiveTuple::new(Protocol::Tcp, endpoint.parse().unwrap(), address);
        PortUse { reply, used, high_water: used + 1, total }
    }

    #[test]
    fn the_fullest_endpoints_are_named_with_what_all_workers_use() {
        let mut uses = of(200);
        for number in 0..20u8 {
            uses.add(&port_use(&format!("10.0.0.{number}:80"), "192.0.2.1", u32::from(number), 100), &ports(100));
        }
        uses.add(&port_use("10.0.0.7:80", "192.0.2.1", 90, 100), &ports(100));
        uses.add(&port_use("10.0.0.7:80", "192.0.2.2", 3, 100), &ports(100));
        let fullest = uses.fullest();
        assert_eq!(fullest.len(), NAMED);
        let first = EndpointPorts {
            endpoint: "10.0.0.7:80".into(),
            protocol: "tcp".into(),
            address: "192.0.2.1".into(),
            used: 97,
            limit: 200,
            high_water: 99,
            fullest_worker_percent: 90,
        };
        assert_eq!(fullest.first(), Some(&first));
        assert_eq!(fullest.get(1).map(|ports| ports.used), Some(19));
        let counts = EndpointPortCounts { used: 100, limit: 400, high_water: 103 };
        let endpoint: SocketAddr = "10.0.0.7:80".parse().unwrap();
        assert_eq!(uses.by_endpoint().get(&(Protocol::Tcp, endpoint)), Some(&counts));
        let told = uses.sentence(Protocol::Tcp, endpoint);
        assert_eq!(told.as_deref(), Some("100 of 400 SNAT ports towards 10.0.0.7:80 are in use."));
        assert_eq!(uses.sentence(Protocol::Udp, endpoint), None);
        let [web, dns] =
            [("tcp", "10.0.0.7:80"), ("udp", "10.0.0.7:80")].map(|(protocol, endpoint)| ServicePortReport {
                protocol: protocol.into(),
                endpoints: vec![EndpointReport { endpoint: endpoint.into(), ..EndpointReport::default() }],
                ..ServicePortReport::default()
            });
        let service = ServiceReport { ports: vec![web, dns], ..ServiceReport::default() };
        let mut report = ServicesReport { services: vec![service] };
        uses.note(&mut report);
        let noted: Vec<_> = report.services[0].ports.iter().map(|port| port.endpoints[0].snat_ports).collect();
        assert_eq!(noted, [Some(counts), None]);
    }

    #[test]
    fn ports_of_udp_services_are_none_that_udp_flows_may_have() {
        let frontends = Frontends(HashMap::from([("192.0.2.1".parse().unwrap(), vec![3, 4, 150, 7000])]));
        let mut uses = PortUses::of(ports(200), frontends);
        let reply = |protocol, address: &str| {
            let address = SocketAddr::new(address.parse().unwrap(), 0);
            FiveTuple::new(protocol, "10.0.0.7:53".parse().unwrap(), address)
        };
        let all = [(Protocol::Udp, "192.0.2.1"), (Protocol::Udp, "192.0.2.2"), (Protocol::Tcp, "192.0.2.1")];
        for (protocol, address) in all {
            let port_use = PortUse { reply: reply(protocol, address), used: 49, high_water: 49, total: 100 };
            uses.add(&port_use, &ports(100));
        }
        let found = all.map(|(protocol, address)| {
            let sum = uses.sums[&reply(protocol, address)];
            (sum.limit, sum.fullest_percent)
        });
        assert_eq!(found, [(197, 50), (200, 49), (200, 49)]);
        assert_eq!(uses.by_endpoint()[&(Protocol::Udp, "10.0.0.7:53".parse().unwrap())].limit, 397);
    }
}
