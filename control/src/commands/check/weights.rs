//! Weights that no endpoint has.

use std::collections::BTreeSet;

use ringway_shared::snapshot::Services;

use crate::config::Weights;

/// A note for each zone and node of `services.weights` where no endpoint is: most likely a slip of the pen.
pub(super) fn unused(weights: &Weights, services: &Services) -> Vec<String> {
    let endpoints = || services.service_ports.iter().flatten().flat_map(|port| port.endpoints.iter());
    let nodes: BTreeSet<&str> = endpoints().filter_map(|endpoint| endpoint.node.as_deref()).collect();
    let zones: BTreeSet<&str> = endpoints().filter_map(|endpoint| endpoint.zone.as_deref()).collect();
    let unknown = |kind: &str, one: &str, names: Vec<&String>, known: &BTreeSet<&str>| -> Vec<String> {
        let absent = names.into_iter().filter(|name| !known.contains(name.as_str()));
        let there = match known.is_empty() {
            true => format!("no endpoint says its {one}"),
            false => format!("endpoints are in {}", first(known)),
        };
        absent.map(|name| format!("services.weights.{kind}.{name}: no endpoint is there; {there}")).collect()
    };
    let mut notes = unknown("zones", "zone", weights.zones.keys().collect(), &zones);
    notes.extend(unknown("nodes", "node", weights.nodes.keys().collect(), &nodes));
    notes
}

/// The first few of them.
fn first(names: &BTreeSet<&str>) -> String {
    const FEW: usize = 5;
    let few = names.iter().take(FEW).copied().collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(FEW);
    if more == 0 { few } else { format!("{few} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ClusterState;
    use crate::compile::{CompileOptions, Memory, compile};
    use crate::parse::Document;
    use crate::source::manifest;

    const OBJECTS: &str = "
{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: 172.30.0.1, ports: [{port: 80}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web, labels: {kubernetes.io/service-name: web}},
 addressType: IPv4, ports: [{port: 80}], endpoints: [{addresses: [10.0.0.1], zone: a}, {addresses: [10.0.0.2], zone: b}]}
";

    #[test]
    fn a_zone_or_node_where_no_endpoint_is_is_noted() {
        let mut cluster = ClusterState::default();
        for document in manifest::read(OBJECTS).documents {
            let Document::Taken(parsed) = document else { panic!("{document:?}") };
            cluster.apply(parsed, None);
        }
        let services = compile(&cluster, &CompileOptions::default(), &mut Memory::new()).services;
        let map = |name: &str| [(name.to_owned(), 2)].into();
        assert_eq!(unused(&Weights { zones: map("a"), ..Weights::default() }, &services), [""; 0]);
        assert_eq!(
            unused(&Weights { zones: map("A"), nodes: map("worker-1") }, &services),
            [
                "services.weights.zones.A: no endpoint is there; endpoints are in a, b",
                "services.weights.nodes.worker-1: no endpoint is there; no endpoint says its node",
            ]
        );
    }
}
