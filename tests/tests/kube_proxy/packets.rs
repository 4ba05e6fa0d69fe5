//! Random packets towards the addresses of random Services.

use crate::random::Draw;
use ringway_shared::Protocol;
use ringway_tests::world::probe::Probe;
use ringway_tests::world::{CLIENTS, NODE_ADDRESSES, PODS, Place, pod_address};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};

/// How many a set of objects gets.
const PACKETS: usize = 110;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The addresses under `field` of an object, those that are none left out.
fn addresses(value: &Value) -> Vec<IpAddr> {
    value.as_array().into_iter().flatten().filter_map(|text| text.as_str()?.parse().ok()).collect()
}

/// Connections from everywhere to every kind of address, and to some that nobody has.
pub(crate) fn packets(draw: &mut Draw, services: &[Value]) -> Vec<Probe> {
    let mut goals: Vec<(Protocol, SocketAddr)> = Vec::new();
    for service in services {
        let spec = &service["spec"];
        let mut vips = addresses(&spec["clusterIPs"]);
        vips.extend(addresses(&spec["externalIPs"]));
        let ingress = service["status"]["loadBalancer"]["ingress"].as_array();
        vips.extend(ingress.into_iter().flatten().filter_map(|entry| entry["ip"].as_str()?.parse::<IpAddr>().ok()));
        for port in spec["ports"].as_array().into_iter().flatten() {
            let protocol = if port["protocol"] == "UDP" { Protocol::Udp } else { Protocol::Tcp };
            let number = |key: &str| port[key].as_u64().and_then(|port| u16::try_from(port).ok());
            if let Some(number) = number("port") {
                goals.extend(vips.iter().map(|vip| (protocol, SocketAddr::new(*vip, number))));
            }
            if let Some(number) = number("nodePort") {
                // On the primary addresses; and on one where it is not served.
                let on: &[&str] = if draw.chance(20) { &NODE_ADDRESSES } else { &NODE_ADDRESSES[..2] };
                goals.extend(on.iter().map(|address| (protocol, SocketAddr::new(ip(address), number))));
            }
        }
        if draw.chance(60) && !vips.is_empty() {
            let protocol = draw.pick(&[Protocol::Tcp, Protocol::Udp]);
            goals.push((protocol, SocketAddr::new(draw.pick(&vips), 999)));
        }
    }
    for unallocated in ["172.30.200.7", "fd00:30::beef"] {
        goals.push((Protocol::Tcp, SocketAddr::new(ip(unallocated), 80)));
    }
    let mut probes = Vec::new();
    for (protocol, destination) in goals {
        let v6 = destination.is_ipv6();
        let mut sources: Vec<(Place, IpAddr)> = Vec::new();
        sources.extend(CLIENTS.iter().map(|client| (Place::Client, ip(client))));
        sources.extend(NODE_ADDRESSES[..4].iter().map(|address| (Place::Node, ip(address))));
        let pod = |index| (Place::Pod(index), pod_address(index, v6));
        sources.extend([pod(draw.below(PODS / 2)), pod(PODS / 2 + draw.below(PODS / 2))]);
        sources.retain(|(_, source)| source.is_ipv6() == v6);
        for (place, source) in draw.some(&sources, 2) {
            // The kernel does not let a connection to an own address have another one as its source on all paths.
            let from = Probe { protocol, place, source, destination };
            if place != Place::Node || source != destination.ip() {
                probes.push(from);
            }
        }
    }
    draw.some(&probes, PACKETS)
}
