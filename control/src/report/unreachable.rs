//! Endpoints that no packet can be sent to, and why.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ringway_shared::network::NoAdjacency;
use ringway_shared::service::ForwardingMode;
use ringway_shared::snapshot::Snapshot;
use serde::{Deserialize, Serialize};

/// An endpoint that no packet can be sent to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnreachableReport {
    /// Its address.
    pub endpoint: String,
    /// The drop reason's label.
    pub reason: String,
    /// Why, in words.
    pub text: String,
}

/// Endpoints that a route or an interface is missing for.
pub(super) fn unreachable(snapshot: &Snapshot) -> Vec<UnreachableReport> {
    let ports = snapshot.services.service_ports.iter().flatten();
    let endpoints =
        ports.flat_map(|port| port.endpoints.iter().map(move |endpoint| (endpoint.backend.address, port.forwarding)));
    // An address may serve several Services, and be out of reach for some of them.
    let endpoints: BTreeMap<(IpAddr, &str), ForwardingMode> =
        endpoints.map(|(address, forwarding)| ((address, forwarding.label()), forwarding)).collect();
    let told =
        endpoints.iter().filter_map(|((address, _), forwarding)| unreachable_endpoint(snapshot, *address, *forwarding));
    // As nobody is told twice of what is so whatever the forwarding.
    let mut told: Vec<UnreachableReport> = told.collect();
    told.dedup();
    told
}

fn unreachable_endpoint(snapshot: &Snapshot, address: IpAddr, forwarding: ForwardingMode) -> Option<UnreachableReport> {
    let why = snapshot.network.unreachable(address, forwarding)?;
    let text = why_unreachable(snapshot, address, why);
    // Neighbours come and go, and are asked for anyway; `services` tells.
    if matches!(why, NoAdjacency::Unresolved { .. }) {
        return None;
    }
    Some(UnreachableReport { endpoint: address.to_string(), reason: why.reason().label().to_owned(), text })
}

/// Why there is no way to an address, in words.
pub(super) fn why_unreachable(snapshot: &Snapshot, address: IpAddr, why: NoAdjacency) -> String {
    let network = &snapshot.network;
    let name = |id| network.interface(id).map_or("?", |interface| &*interface.name);
    match why {
        NoAdjacency::NoRoute => "the node has no route to it".to_owned(),
        NoAdjacency::NoInterface => {
            let interface = network.unlisted(address).unwrap_or("an interface");
            format!("its route leaves by {interface}, which interfaces does not list")
        }
        NoAdjacency::InterfaceDown(interface) => {
            format!("its route leaves by {}, {}", name(interface), network.why_no_way(interface))
        }
        NoAdjacency::Routed { interface } => {
            let out = name(interface);
            format!("its route leaves by {out} to a router, and with dsr-l2 it has to be on a link of this node")
        }
        NoAdjacency::Narrow { interface, mtu } => format!(
            "its route leaves by {} and carries {mtu} bytes, and with dsr-ipip it has to carry 1,320 over IPv6; raise its MTU, or \
             use dsr-l2 or nat",
            name(interface)
        ),
        NoAdjacency::Local => "it is one of the node's own addresses".to_owned(),
        NoAdjacency::Unresolved { interface, next_hop, .. } => {
            format!("its next hop {next_hop} on {} does not answer", name(interface))
        }
    }
}
