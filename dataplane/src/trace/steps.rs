//! The sentences of an explanation, one a step.

use std::net::{IpAddr, SocketAddr};

use ringway_shared::decision::SourceKind;
use ringway_shared::network::{Interface, NoAdjacency, ReversePath};
use ringway_shared::policy::TrafficPolicy;
use ringway_shared::service::{Affinity, ForwardingMode, Matched, ServicePort};
use ringway_shared::snapshot::{Services, Target};
use ringway_shared::{Backend, DropReason, EndpointSet, FiveTuple, Network};

use super::{Exit, Slot};

/// A clause as a sentence: capital letter, full stop.
pub(super) fn sentence(clause: &str) -> String {
    let mut letters = clause.chars();
    letters.next().map_or(String::new(), |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}

/// Which Service's port was asked for.
pub(super) fn frontend(target: &Target, tuple: &FiveTuple) -> String {
    let (address, port, protocol) = (tuple.destination_address(), tuple.destination_port(), tuple.protocol());
    let service = &target.service_port.service;
    let name = match &*target.service_port.port_name {
        "" => String::new(),
        name => format!(" (port {name:?})"),
    };
    let kind = match target.matched {
        Matched::ClusterIp => "a ClusterIP",
        Matched::ExternalIp => "an external IP",
        Matched::LoadBalancerIp => "a load-balancer IP",
        Matched::NodePort => {
            return format!("{address} is this node's and {protocol} {port} is a NodePort of Service {service}{name}.");
        }
    };
    format!("{address} is {kind} of Service {service}, which has {protocol} {port}{name}.")
}

/// Why no Service's port was asked for.
pub(super) fn no_frontend(services: &Services, tuple: &FiveTuple) -> String {
    let address = tuple.destination_address();
    let asked = format!("{} {}", tuple.protocol(), SocketAddr::new(address, tuple.destination_port()));
    match services.vips.get(&address) {
        Some(vip) if vip.host_owned => format!(
            "No Service has {asked}; {address} is a Service's address but also this node's own, so its other ports are \
             the node's."
        ),
        Some(_) => {
            format!(
                "{address} is a Service's address, but no Service has {} {}.",
                tuple.protocol(),
                tuple.destination_port()
            )
        }
        None => match services.service_cidrs.iter().find(|cidr| cidr.contains(&address)) {
            Some(cidr) => format!("{address} lies in the service CIDR {cidr}, but no Service has it."),
            None => format!("No Service has {asked}."),
        },
    }
}

/// Where the source stands.
pub(super) fn source(services: &Services, source: IpAddr) -> String {
    match SourceKind::of(services, source) {
        SourceKind::Pod => format!("The source {source} is in this node's pod CIDRs."),
        SourceKind::Node => format!("The source {source} is one of this node's own addresses."),
        SourceKind::Other => {
            format!("The source {source} is neither in this node's pod CIDRs nor one of its own addresses.")
        }
    }
}

/// What the traffic policy says; nothing where the source is refused before the policy is asked.
pub(super) fn policy(services: &Services, target: &Target, source: IpAddr) -> Option<String> {
    let port = &*target.service_port;
    let refused = target.matched == Matched::LoadBalancerIp
        && port.source_ranges.as_ref().is_some_and(|ranges| !ranges.admit(source));
    if refused || !port.has_endpoint {
        return None;
    }
    let words = match (target.matched, port.internal_policy, port.external_policy, SourceKind::of(services, source)) {
        (Matched::ClusterIp, TrafficPolicy::Cluster, ..) => {
            "internalTrafficPolicy is Cluster: endpoints of the whole cluster."
        }
        (Matched::ClusterIp, TrafficPolicy::Local, ..) => {
            "internalTrafficPolicy is Local: endpoints on this node only."
        }
        (_, _, TrafficPolicy::Cluster, _) => "externalTrafficPolicy is Cluster: endpoints of the whole cluster.",
        (_, _, TrafficPolicy::Local, SourceKind::Pod) => {
            "externalTrafficPolicy is Local, but a pod of this node asks: endpoints of the whole cluster."
        }
        (_, _, TrafficPolicy::Local, SourceKind::Node) => {
            "externalTrafficPolicy is Local, but the node itself asks: endpoints of the whole cluster."
        }
        (_, _, TrafficPolicy::Local, SourceKind::Other) => {
            "externalTrafficPolicy is Local: endpoints on this node only, and the source is kept."
        }
    };
    Some(words.to_owned())
}

/// Whom the Service's source ranges let in, when that is not everybody.
pub(super) fn ranges(port: &ServicePort, source: IpAddr) -> Option<String> {
    let ranges = port.source_ranges.as_ref()?;
    let list: Vec<String> = ranges.ranges.iter().map(ToString::to_string).collect();
    Some(format!("loadBalancerSourceRanges lets in {} only, and {source} is not in there (rule 18).", list.join(", ")))
}

/// Which endpoints a new connection may go to.
pub(super) fn eligible(target: &Target, set: &EndpointSet) -> String {
    let endpoints = &target.service_port.endpoints;
    let weighted = set.backends().windows(2).any(|two| two[0].weight != two[1].weight);
    let said = |backend: &Backend| match weighted {
        true => format!("{} (weight {})", backend.socket(), backend.weight),
        false => backend.socket().to_string(),
    };
    let list: Vec<String> = set.backends().iter().map(said).collect();
    let is_ready = |backend: &Backend| {
        endpoints
            .iter()
            .any(|e| (e.backend.address, e.backend.port) == (backend.address, backend.port) && e.state.ready)
    };
    let is_drained = |backend: &Backend| {
        endpoints.iter().any(|e| (e.backend.address, e.backend.port) == (backend.address, backend.port) && e.drained)
    };
    let fallback = if set.backends().iter().any(is_drained) {
        " None is ready that is not drained, so those that are drained or terminating but still serve take over."
    } else if set.backends().iter().any(is_ready) {
        ""
    } else {
        " None is ready, so those that are terminating but still serve take over."
    };
    format!(
        "{} of {} endpoints {} eligible: {}.{fallback}",
        list.len(),
        endpoints.len(),
        are(list.len()),
        list.join(", ")
    )
}

fn are(number: usize) -> &'static str {
    if number == 1 { "is" } else { "are" }
}

/// How one of them was chosen.
pub(super) fn choice(port: &ServicePort, slot: Slot, chosen: &Backend) -> String {
    let hashed = match port.affinity {
        Some(Affinity { timeout, .. }) => {
            format!("sessionAffinity is ClientIP ({} s), so the client's address alone is hashed", timeout.as_secs())
        }
        None => "The five-tuple is hashed".to_owned(),
    };
    format!("{hashed}: Maglev slot {} of {} holds {}.", slot.slot, slot.slots, chosen.socket())
}

/// That it was chosen before.
pub(super) fn kept(port: &ServicePort, client: IpAddr, chosen: &Backend) -> String {
    let timeout = port.affinity.map_or(0, |affinity| affinity.timeout.as_secs());
    format!(
        "sessionAffinity is ClientIP: {client} opened a connection to {} within the last {timeout} s, and keeps that \
         endpoint: {}.",
        chosen.address,
        chosen.socket()
    )
}

/// What masquerade makes of the source.
pub(super) fn snat(addresses: &[IpAddr]) -> String {
    let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let one_of = if list.len() > 1 { "one of " } else { "" };
    format!("The source becomes {one_of}{} with a port of the SNAT range.", list.join(", "))
}

/// How the packet gets to an endpoint that answers the client itself; `source`: of what it goes inside, where that is known.
pub(super) fn forwarding(forwarding: ForwardingMode, endpoint: IpAddr, source: Option<IpAddr>) -> Option<String> {
    match (forwarding, source) {
        (ForwardingMode::Nat, _) => None,
        (ForwardingMode::DsrL2, _) => {
            Some("Forwarding is dsr-l2: the packet stays as it is, and goes to the endpoint's MAC address.".to_owned())
        }
        (ForwardingMode::DsrIpip, Some(source)) => Some(format!(
            "Forwarding is dsr-ipip: the packet goes as it is inside another one, from {source} to {endpoint}."
        )),
        (ForwardingMode::DsrIpip, None) => {
            Some(format!("Forwarding is dsr-ipip: the packet goes as it is inside another one to {endpoint}."))
        }
    }
}

/// By which interfaces a packet from `source` would be refused.
pub(super) fn reverse_paths(network: &Network, source: IpAddr) -> impl Iterator<Item = String> {
    let refused =
        move |interface: &&Interface| network.objection_to(source, interface.id) == Some(DropReason::ReversePath);
    network.interfaces().iter().filter(refused).map(move |interface| {
        let asked = network.reverse_path(interface.id);
        let missing = match asked {
            ReversePath::Strict => format!("the answer would not leave by {}", interface.name),
            _ => "there is no route for the answer".to_owned(),
        };
        format!(
            "Where it arrives by {}, it is dropped ({}): rp_filter is {} there, and {missing}.",
            interface.name,
            DropReason::ReversePath.label(),
            asked.label()
        )
    })
}

/// Where it leaves, and how large it may be where the route carries less than the interface.
pub(super) fn leaves(exit: &Exit, of_interface: u32) -> String {
    let size = if exit.mtu < of_interface {
        format!(", in packets of at most {} bytes: the route says so, the interface carries {of_interface}", exit.mtu)
    } else {
        String::new()
    };
    format!("It leaves by {} to {}{size}.", exit.interface, exit.next_hop_mac)
}

/// Why there is no way to `endpoint`, and what would help.
pub(super) fn no_way(network: &Network, endpoint: IpAddr, error: &NoAdjacency) -> String {
    match error {
        NoAdjacency::NoRoute => format!("There is no route to {endpoint}."),
        NoAdjacency::NoInterface => {
            let name = network.unlisted(endpoint).unwrap_or("an interface");
            format!("The route to {endpoint} leaves by {name}, which the configuration's interfaces do not list.")
        }
        NoAdjacency::InterfaceDown(id) => {
            let name = network.interface(*id).map_or("an interface", |interface| &*interface.name);
            format!("The route to {endpoint} leaves by {name}, {}.", network.why_no_way(*id))
        }
        NoAdjacency::Local => format!("{endpoint} is one of this node's own addresses."),
        NoAdjacency::Routed { interface } => {
            let name = network.interface(*interface).map_or("an interface", |interface| &*interface.name);
            format!(
                "The route to {endpoint} leaves by {name} to a router; with dsr-l2 an endpoint has to be on a link of this node."
            )
        }
        NoAdjacency::Narrow { interface, mtu } => {
            let name = network.interface(*interface).map_or("an interface", |interface| &*interface.name);
            format!(
                "The route to {endpoint} leaves by {name} and carries {mtu} bytes; with dsr-ipip it has to carry 1,320 over IPv6, \
                 since clients may send 1,280 and the outer header has 40."
            )
        }
        NoAdjacency::Unresolved { interface, next_hop, .. } => {
            let name = network.interface(*interface).map_or("an interface", |interface| &*interface.name);
            format!("The next hop {next_hop} on {name} has no known MAC address.")
        }
    }
}
