//! What `status` says of SNAT, and what is odd about the configured addresses.

use std::net::IpAddr;

use ringway_shared::Endpoint;
use ringway_shared::snapshot::Services;
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
    /// What is odd about `snat.addresses`.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// What is odd about `snat.addresses`: replies to one that is not this node's need not come here, and one that something else
/// answers to is worse. `is_local` says whether the kernel has an address.
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
