//! What an object takes in memory, about: so that what others send can be bounded by it.

use std::mem::size_of;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::endpoint_slice::{EndpointSlice, SliceEndpoint, SlicePort};
use super::node::Node;
use super::service::{Port, Service};
use super::{Document, Object, ServiceCidr};

/// What an allocation costs beside its content, and what a reference to an object does in the maps around it.
const ALLOCATION: usize = 16;
const ENTRY: usize = 256;

impl Object {
    /// Its bytes in memory, about.
    pub fn weight(&self) -> usize {
        ENTRY
            + match self {
                Object::Service(service) => of_service(service),
                Object::EndpointSlice(slice) => of_slice(slice),
                Object::Node(node) => of_node(node),
                Object::ServiceCidr(cidr) => size_of::<ServiceCidr>() + cidr.cidrs.len() * size_of::<IpNet>(),
            }
    }
}

impl Document {
    /// Its bytes in memory, about.
    pub fn weight(&self) -> usize {
        match self {
            Document::Taken(parsed) => parsed.object.weight() + parsed.notes.iter().map(String::len).sum::<usize>(),
            Document::Refused(..) | Document::Skipped(_) => 512,
        }
    }
}

fn of_service(service: &Service) -> usize {
    let Service { cluster_ips, external_ips, load_balancer_ips, proxied_ips, source_ranges, ports, .. } = service;
    let addresses = cluster_ips.len() + external_ips.len() + load_balancer_ips.len() + proxied_ips.len();
    size_of::<Service>()
        + addresses * size_of::<IpAddr>()
        + source_ranges.len() * size_of::<IpNet>()
        + ports.iter().map(|port| size_of::<Port>() + of_text(&port.name)).sum::<usize>()
}

fn of_slice(slice: &EndpointSlice) -> usize {
    size_of::<EndpointSlice>()
        + slice.ports.iter().map(|port| size_of::<SlicePort>() + of_text(&port.name)).sum::<usize>()
        + slice.endpoints.iter().map(of_endpoint).sum::<usize>()
}

fn of_endpoint(endpoint: &SliceEndpoint) -> usize {
    let SliceEndpoint { node, zone, node_hints, zone_hints, .. } = endpoint;
    let texts = node.iter().chain(zone).chain(node_hints).chain(zone_hints);
    let hints = (node_hints.len() + zone_hints.len()) * size_of::<Arc<str>>();
    size_of::<SliceEndpoint>() + hints + texts.map(|text| of_text(text)).sum::<usize>()
}

fn of_node(node: &Node) -> usize {
    let labels =
        node.labels.iter().map(|(key, value)| 2 * (size_of::<String>() + ALLOCATION) + key.len() + value.len());
    size_of::<Node>()
        + node.addresses.len() * size_of::<IpAddr>()
        + node.pod_cidrs.len() * size_of::<IpNet>()
        + labels.sum::<usize>()
}

fn of_text(text: &str) -> usize {
    ALLOCATION + text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::{Document, document};
    use serde_json::json;

    fn weight(endpoints: usize, node: &str) -> usize {
        let endpoint = json!({"addresses": ["10.0.0.1"], "nodeName": node});
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "s"},
            "addressType": "IPv4", "endpoints": vec![endpoint; endpoints]});
        let mut documents = Vec::new();
        document(&slice, &mut documents);
        let Some(Document::Taken(parsed)) = documents.pop() else { panic!("{slice}") };
        parsed.object.weight()
    }

    #[test]
    fn what_is_in_a_list_counts() {
        let each = size_of::<SliceEndpoint>() + of_text("n");
        assert_eq!(weight(1_000, "n") - weight(0, "n"), 1_000 * each);
        assert_eq!(weight(1, &"n".repeat(1_001)) - weight(1, "n"), 1_000);
    }
}
