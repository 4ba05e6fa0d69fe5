//! What of a Service and its slices gets no packets although each object is good in itself: said to whoever wrote them.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::IpAddr;

use ringway_shared::Family;
use ringway_shared::endpoint::Exclusion;

use super::NodeFacts;
use super::remembered::CompiledPort;
use crate::parse::{EndpointSlice, ObjectKey, Service, SlicePort};
use crate::problem::{Problem, Severity};

/// A slice with those of its ports that no port of the Service is named like.
type WithStrays<'s> = (&'s EndpointSlice, Vec<&'s SlicePort>);

/// What gets no packets, of one Service, in a few sentences at most.
pub(super) fn overlooked(
    service: &Service,
    slices: &[WithStrays<'_>],
    ports: &[CompiledPort],
    facts: &NodeFacts,
) -> Vec<Problem> {
    let told = [
        foreign_addresses(service),
        foreign_slices(service, slices),
        strays(service, slices),
        unnamed_ports(service, slices),
        own_addresses(ports, facts),
    ];
    let key = ObjectKey::of_service(&service.name);
    told.into_iter().flatten().map(|text| Problem::of_object(Severity::Warning, &key, text)).collect()
}

/// The first few of a list, and how many more there are; `None` when there are none.
fn listed<T: Display + Ord>(all: impl Iterator<Item = T>) -> Option<String> {
    const FEW: usize = 3;
    let all: BTreeSet<T> = all.collect();
    let more = all.len().saturating_sub(FEW);
    let first = all.iter().take(FEW).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!all.is_empty()).then(|| first + &more)
}

/// Addresses of a family that the Service has no part in (rule 3).
fn foreign_addresses(service: &Service) -> Option<String> {
    let has_none = |address: &IpAddr| service.cluster_ip(Family::of(*address)).is_none();
    let all = service.external_ips.iter().chain(&service.load_balancer_ips).copied();
    let addresses = listed(all.filter(has_none))?;
    Some(format!("it has no ClusterIP of the family of {addresses}, which therefore gets no packets: add one"))
}

/// Slices of such a family.
fn foreign_slices(service: &Service, slices: &[WithStrays<'_>]) -> Option<String> {
    let foreign = |slice: &&EndpointSlice| !slice.endpoints.is_empty() && service.cluster_ip(slice.family).is_none();
    let labels = listed(slices.iter().map(|(slice, _)| *slice).filter(foreign).map(|slice| &slice.label))?;
    Some(format!(
        "it has no ClusterIP of the family of EndpointSlice {labels}, whose endpoints get no packets: add one"
    ))
}

/// Ports of slices that no port of the Service is named like.
fn strays(service: &Service, slices: &[WithStrays<'_>]) -> Option<String> {
    let with_endpoints = || slices.iter().filter(|(slice, strays)| !slice.endpoints.is_empty() && !strays.is_empty());
    let named = |name: &str, protocol: ringway_shared::Protocol| match name {
        "" => format!("\"\" ({protocol})"),
        name => format!("{name} ({protocol})"),
    };
    let strays = with_endpoints().flat_map(|(_, strays)| strays.iter());
    let ports = listed(strays.map(|port| named(&port.name, port.protocol)))?;
    let labels = listed(with_endpoints().map(|(slice, _)| &slice.label))?;
    let own = listed(service.ports.iter().map(|port| named(&port.name, port.protocol)));
    let own = own.map_or_else(|| "which has none".to_owned(), |own| format!("which has {own}"));
    Some(format!(
        "port {ports} of EndpointSlice {labels} gets no packets: name and protocol must be those of a port of the Service, \
         {own}"
    ))
}

/// Ports that no slice names, while slices of that family have endpoints.
fn unnamed_ports(service: &Service, slices: &[WithStrays<'_>]) -> Option<String> {
    let families = [Family::V4, Family::V6].into_iter().filter(|family| service.cluster_ip(*family).is_some());
    let unnamed = families.flat_map(|family| {
        let slices: Vec<&EndpointSlice> =
            slices.iter().map(|(slice, _)| *slice).filter(|s| s.family == family && !s.endpoints.is_empty()).collect();
        let named: BTreeSet<_> = slices
            .iter()
            .flat_map(|slice| &slice.ports)
            .map(|port| (port.protocol.number(), port.name.clone()))
            .collect();
        let ports = service
            .ports
            .iter()
            .filter(move |port| !slices.is_empty() && !named.contains(&(port.protocol.number(), port.name.clone())));
        ports.map(|port| match &*port.name {
            "" => format!("{}/{}", port.port, port.protocol),
            name => format!("{name} ({}/{})", port.port, port.protocol),
        })
    });
    let ports = listed(unnamed)?;
    Some(format!("port {ports} has no endpoint: none of its EndpointSlices has a port of that name and protocol"))
}

/// Endpoints that would be the node itself.
fn own_addresses(ports: &[CompiledPort], facts: &NodeFacts) -> Option<String> {
    let endpoints = ports.iter().flat_map(|compiled| compiled.port.endpoints.iter());
    let refused = endpoints.filter(|endpoint| matches!(endpoint.excluded_from_cluster, Some(Exclusion::Refused(_))));
    let addresses = listed(refused.map(|endpoint| endpoint.backend.address).filter(|address| facts.owns(*address)))?;
    Some(format!(
        "endpoint {addresses} gets no packets: it has one of this node's own addresses, which this version does not \
         forward to"
    ))
}

#[cfg(test)]
mod tests {
    use crate::cluster::ClusterState;
    use crate::compile::{CompileOptions, Memory, compile};
    use crate::parse::Document;
    use crate::source::manifest;

    const SERVICE: &str = "{apiVersion: v1, kind: Service, metadata: {namespace: n, name: s}, spec: {clusterIP: 172.30.0.1, \
                           ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]}}";

    fn slice(family: &str, ports: &str, address: &str) -> String {
        format!(
            "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{namespace: n, name: s-{family}, labels: \
             {{kubernetes.io/service-name: s}}}}, addressType: {family}, ports: [{ports}], endpoints: [{address}]}}"
        )
    }

    /// What is said of these objects on a node with one address.
    fn told(documents: &[&str]) -> Vec<String> {
        let mut cluster = ClusterState::default();
        for document in manifest::read(&documents.join("\n---\n")).documents {
            let Document::Taken(parsed) = document else { panic!("{document:?}") };
            cluster.apply(parsed, None);
        }
        let addresses = Some(vec!["192.168.0.2".parse().unwrap()]);
        let options = CompileOptions { addresses, ..CompileOptions::default() };
        compile(&cluster, &options, &mut Memory::default()).problems.iter().map(ToString::to_string).collect()
    }

    const PORTS: &str = "{name: http, port: 8080}, {name: dns, port: 53, protocol: UDP}";

    #[test]
    fn what_gets_packets_is_not_told() {
        let good = slice("IPv4", PORTS, "{addresses: [10.0.0.1]}");
        assert_eq!(told(&[SERVICE, &good]), [""; 0]);
        // As the cluster has it before there are pods, and before it knows the ports.
        assert_eq!(told(&[SERVICE]), [""; 0]);
        assert_eq!(told(&[SERVICE, &slice("IPv4", "{name: old, port: 1}", "")]), [""; 0]);
    }

    #[test]
    fn ports_that_are_named_otherwise_are_told_from_both_sides() {
        let renamed = slice("IPv4", &PORTS.replace("http", "web"), "{addresses: [10.0.0.1]}");
        assert_eq!(
            told(&[SERVICE, &renamed]),
            [
                "Service n/s: port web (tcp) of EndpointSlice n/s-IPv4 gets no packets: name and protocol must be those of a \
                 port of the Service, which has dns (udp), http (tcp)",
                "Service n/s: port http (80/tcp) has no endpoint: none of its EndpointSlices has a port of that name and protocol",
            ]
        );
        let tcp = slice("IPv4", &PORTS.replace(", protocol: UDP", ""), "{addresses: [10.0.0.1]}");
        let tcp = told(&[SERVICE, &tcp]);
        assert!(
            tcp[0].contains("port dns (tcp) of") && tcp[1].contains("port dns (53/udp) has no endpoint"),
            "{tcp:?}"
        );
        let one = slice("IPv4", "{name: http, port: 8080}", "{addresses: [10.0.0.1]}");
        let one = told(&[SERVICE, &one]);
        assert!(one.len() == 1 && one[0].contains("port dns (53/udp) has no endpoint"), "{one:?}");
    }

    #[test]
    fn endpoints_that_are_this_node_are_told() {
        let own = slice("IPv4", PORTS, "{addresses: [192.168.0.2]}, {addresses: [10.0.0.1]}");
        assert_eq!(
            told(&[SERVICE, &own]),
            [
                "Service n/s: endpoint 192.168.0.2 gets no packets: it has one of this node's own addresses, which this version \
              does not forward to"
            ]
        );
    }

    #[test]
    fn a_family_without_a_cluster_ip_is_told_of_addresses_and_slices() {
        let both = SERVICE.replace("clusterIP:", "externalIPs: [\"2001:db8::1\", 198.51.100.1], clusterIP:");
        let good = slice("IPv4", PORTS, "{addresses: [10.0.0.1]}");
        let foreign = slice("IPv6", PORTS, "{addresses: [\"2001:db8::2\"]}");
        assert_eq!(
            told(&[&both, &good, &foreign]),
            [
                "Service n/s: it has no ClusterIP of the family of 2001:db8::1, which therefore gets no packets: add one",
                "Service n/s: it has no ClusterIP of the family of EndpointSlice n/s-IPv6, whose endpoints get no packets: add one",
            ]
        );
    }
}
