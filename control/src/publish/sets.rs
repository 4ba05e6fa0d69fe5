//! What the steering program must send up to the workers, derived from a snapshot.

use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use ringway_dataplane::af_xdp::program::SteeringEntry;
use ringway_shared::service::TrafficPolicy;
use ringway_shared::{Frontend, Snapshot};

/// Everything that is ours on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SteeringSets {
    /// Every (address, protocol, port) that is balanced, NodePorts included.
    pub frontends: HashSet<Frontend>,
    /// VIPs that no host owns: every packet to them.
    pub vips: HashSet<IpAddr>,
    /// Service CIDRs: every packet into them.
    pub service_cidrs: HashSet<IpNet>,
    /// Addresses that masqueraded flows come from: replies to them, on the SNAT ports.
    pub snat_addresses: HashSet<IpAddr>,
    /// The SNAT ports of all workers.
    pub snat_ports: RangeInclusive<u16>,
    /// Endpoints of flows whose source is kept: their replies go to the client's own address.
    pub endpoints: HashSet<Frontend>,
}

impl SteeringSets {
    /// Nothing is ours.
    pub fn empty(snat_ports: RangeInclusive<u16>) -> Self {
        SteeringSets {
            frontends: HashSet::new(),
            vips: HashSet::new(),
            service_cidrs: HashSet::new(),
            snat_addresses: HashSet::new(),
            snat_ports,
            endpoints: HashSet::new(),
        }
    }

    /// What `snapshot` needs. `snat_addresses`: those of the configuration; without any, the addresses that Linux would
    /// choose towards the endpoints.
    pub fn of(snapshot: &Snapshot, snat_addresses: &[IpAddr], snat_ports: RangeInclusive<u16>) -> Self {
        let services = &snapshot.services;
        let mut sets = SteeringSets::empty(snat_ports);
        sets.frontends.extend(services.frontends.keys().copied());
        sets.vips.extend(services.vips.iter().filter(|(_, vip)| !vip.host_owned).map(|(address, _)| *address));
        sets.service_cidrs.extend(services.service_cidrs.iter().copied());
        sets.snat_addresses.extend(snat_addresses.iter().copied());
        let mut seen = HashSet::new();
        for port in services.service_ports.iter().flatten() {
            // Rules 14 to 16: when a source can be kept at all.
            let keeps_source = !services.masquerade_all || port.external_policy == TrafficPolicy::Local;
            for endpoint in port.endpoints.iter() {
                let backend = &endpoint.backend;
                if keeps_source {
                    sets.endpoints.insert(Frontend {
                        address: backend.address,
                        protocol: port.protocol,
                        port: backend.port,
                    });
                }
                if snat_addresses.is_empty() && seen.insert(backend.address) {
                    sets.snat_addresses.extend(snapshot.network.source_address(backend.address));
                }
            }
        }
        sets
    }

    /// The entries of the steering program.
    pub fn entries(&self) -> HashSet<SteeringEntry> {
        let mut entries = HashSet::with_capacity(self.len());
        entries.extend(self.frontends.iter().copied().map(SteeringEntry::Frontend));
        entries.extend(self.vips.iter().copied().map(SteeringEntry::Vip));
        entries.extend(self.service_cidrs.iter().copied().map(SteeringEntry::ServiceCidr));
        let ports = &self.snat_ports;
        entries.extend(self.snat_addresses.iter().map(|address| SteeringEntry::Snat(*address, ports.clone())));
        entries.extend(self.endpoints.iter().copied().map(SteeringEntry::Endpoint));
        entries
    }

    /// How many entries the steering program holds for this.
    pub fn len(&self) -> usize {
        self.frontends.len()
            + self.vips.len()
            + self.service_cidrs.len()
            + self.snat_addresses.len()
            + self.endpoints.len()
    }

    /// Whether nothing is ours.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
