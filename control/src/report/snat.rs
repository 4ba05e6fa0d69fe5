//! What `status` says of SNAT, and what is odd about the configured addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ringway_shared::service::Matched;
use ringway_shared::snapshot::Services;
use ringway_shared::{Endpoint, PortSet};
use serde::{Deserialize, Serialize};

use super::ports::EndpointPorts;

/// The SNAT ports: each worker has its share, and a port can be used once towards each endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnatReport {
    /// All of them, as `1024-29999,61000-65535`.
    pub ports: String,
    /// How many: the limit of all workers together, towards each endpoint and for each SNAT address.
    #[serde(default)]
    pub total: u64,
    /// The smallest share of a worker.
    pub per_worker: u64,
    /// The most that one worker ever used at once towards one endpoint.
    pub high_water: u64,
    /// Ports that were taken back from half-open, unreplied and silent UDP flows because none was free.
    #[serde(default)]
    pub reclaimed: u64,
    /// The endpoints with the most ports in use, the fullest first, as they were within the last seconds.
    #[serde(default)]
    pub endpoints: Vec<EndpointPorts>,
    /// What is odd about `snat.addresses`, and about `snat.ports`.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// What is odd about `snat.addresses`: replies to one that is not this node's need not come here, and one that something else
/// answers to is worse. `is_local` says whether the node's kernel has an address, or may have it.
pub fn odd_addresses(addresses: &[IpAddr], services: &Services, is_local: impl Fn(IpAddr) -> bool) -> Vec<String> {
    let mut notes = Vec::new();
    for (place, address) in addresses.iter().enumerate() {
        if addresses.iter().take(place).any(|earlier| earlier == address) {
            notes.push(format!("snat.addresses: {address} is listed twice, which adds no ports; remove one"));
            continue;
        }
        let is_local = is_local(*address);
        if let Some(vip) = services.vips.get(address).filter(|vip| vip.cluster_ip || !is_local) {
            let of = vip.targets.first().map(|target| format!(" of Service {}", target.service_port.service));
            notes.push(format!(
                "snat.addresses: {address} is a VIP{}: replies go to whichever node the network leads it to, and those to a port \
                 of a Service are not told from what its clients send; list an address that is this node's alone",
                of.unwrap_or_default()
            ));
            continue;
        }
        if is_local {
            continue;
        }
        let has_it = |endpoint: &Endpoint| endpoint.backend.address == *address;
        let mut ports = services.service_ports.iter().flatten();
        notes.push(match ports.find(|port| port.endpoints.iter().any(has_it)) {
            Some(port) => format!(
                "snat.addresses: {address} is the address of an endpoint of Service {}: replies go there, not to this node; list \
                 an address of this node",
                port.service
            ),
            None => format!(
                "snat.addresses: {address} is no address of this node: replies find back only if the network routes it here; add it \
                 to an interface, or list an address of this node"
            ),
        });
    }
    notes
}

/// What is to be said of NodePorts among ports that the configuration names.
pub fn node_ports_among(snat: &PortSet, services: &Services) -> Option<String> {
    const FEW: usize = 5;
    let node_ports = services.frontends.iter().filter(|(_, target)| target.matched == Matched::NodePort);
    let inside: BTreeSet<u16> = node_ports.map(|(at, _)| at.port).filter(|port| snat.contains(*port)).collect();
    let first: Vec<String> = inside.iter().take(FEW).map(u16::to_string).collect();
    let more = inside.len().saturating_sub(FEW);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!inside.is_empty()).then(|| {
        format!(
            "snat.ports holds NodePorts of Services ({}{more}): no new UDP flow gets one of a UDP Service, so there are fewer ports than it says, and flows \
             that have one when its Service comes keep it; leave NodePorts out (30000-32767, unless the API server says otherwise)",
            first.join(", ")
        )
    })
}
