//! One Service with its slices, compiled on its own: what it becomes depends on no other Service.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use ringway_shared::backend::Backend;
use ringway_shared::endpoint::{Endpoint, EndpointSet, Exclusion};
use ringway_shared::policy::TrafficPolicy;
use ringway_shared::service::{Affinity, ForwardingMode, OtherFamily, ServicePort, SourceRanges};
use ringway_shared::{BackendId, Family, ServicePortId};

use super::NodeFacts;
use super::eligible::{Candidate, candidates, crowd, eligibility, strays};
use super::overlooked;
use super::remembered::{CompiledPort, Remembered, key};
use super::stock::Stock;
use crate::parse::service::{FORWARDING_ANNOTATION, Port};
use crate::parse::{EndpointSlice, ObjectKey, Service};
use crate::problem::{Problem, Severity};

/// Compiles one Service. `before` is what it was: sets that did not change keep their tables.
pub(super) fn compile(
    service: &Arc<Service>,
    slices: Arc<[Arc<EndpointSlice>]>,
    facts: &NodeFacts,
    before: Option<&Remembered>,
    stock: &mut Stock,
) -> Remembered {
    let (service, ports) = (service.clone(), Vec::new());
    let mut compiled = Remembered { service, ports, frontends: 0, problem: None, overlooked: Vec::new() };
    let service = &compiled.service.clone();
    if service.ignored.is_some() {
        return compiled;
    }
    let forwarding = service.forwarding.unwrap_or(facts.forwarding);
    if let Some(text) = other_port(service, &slices, forwarding) {
        compiled.problem = Some(Problem::of_object(Severity::Refused, &ObjectKey::of_service(&service.name), text));
        return compiled;
    }
    let (wanted, others) = (frontends(service, facts), stock.frontends - before.map_or(0, |before| before.frontends));
    if wanted.saturating_add(others) > stock.most_frontends {
        let text = format!(
            "its addresses and ports make {wanted} frontends, those of all other Services {others}, and {} are the most \
             together; this Service is left out",
            stock.most_frontends
        );
        compiled.problem = Some(Problem::of_object(Severity::Refused, &ObjectKey::of_service(&service.name), text));
        return compiled;
    }
    let with_strays: Vec<_> = slices.iter().map(|slice| (&**slice, strays(slice, service))).collect();
    let (crowd, others) = (crowd(&with_strays, service), stock.endpoints - before.map_or(0, Remembered::endpoints));
    if crowd.saturating_add(others) > stock.most_endpoints {
        let text = format!(
            "its ports have {crowd} endpoints, those of all other Services have {others}, and {} are the most together; \
             this Service is left out",
            stock.most_endpoints
        );
        compiled.problem = Some(Problem::of_object(Severity::Refused, &ObjectKey::of_service(&service.name), text));
        return compiled;
    }
    compiled.frontends = wanted;
    let known: HashMap<ServicePortId, &ServicePort> =
        before.iter().flat_map(|before| &before.ports).map(|before| (before.port.id, &*before.port)).collect();
    // Rule 3: a family without a ClusterIP ignores the Service.
    for family in [Family::V4, Family::V6].into_iter().filter(|family| service.cluster_ip(*family).is_some()) {
        let source_ranges = source_ranges(service, family, facts);
        for port in &service.ports {
            let id = ServicePortId(stock.service_ports.number(key(service, family, port.protocol, port.port)));
            let found = candidates(&with_strays, family, port, facts);
            let sets = sets(id, service, &found, facts, known.get(&id).copied(), stock);
            compiled.ports.push(CompiledPort {
                node_port: port.node_port,
                port: Arc::new(ServicePort {
                    id,
                    service: service.name.clone(),
                    port_name: port.name.clone(),
                    protocol: port.protocol,
                    port: port.port,
                    family,
                    internal_policy: service.internal_policy,
                    external_policy: service.external_policy,
                    affinity: service.affinity.map(|timeout| Affinity::new(&service.name, timeout)),
                    forwarding,
                    source_ranges: source_ranges.clone(),
                    endpoints: sets.endpoints.into(),
                    other_family: other_family(service, &slices, family, port),
                    cluster: sets.cluster,
                    local: sets.local,
                    has_endpoint: sets.exists,
                }),
            });
        }
    }
    compiled.overlooked = overlooked::overlooked(service, &with_strays, &compiled.ports, facts);
    compiled
}

/// Why direct server return cannot work: packets keep their destination port, and an endpoint listens on another.
fn other_port(service: &Service, slices: &[Arc<EndpointSlice>], forwarding: ForwardingMode) -> Option<String> {
    let mut served = slices.iter().filter(|slice| forwarding.is_dsr() && service.cluster_ip(slice.family).is_some());
    served.find_map(|slice| {
        let endpoint = slice.endpoints.first()?;
        let differs = |port: &&Port| {
            let mut own = slice.ports.iter().filter(|own| own.protocol == port.protocol && own.name == port.name);
            own.any(|own| own.port != port.port)
        };
        let port = service.ports.iter().find(differs)?;
        let is_other = |own: &&crate::parse::SlicePort| {
            own.protocol == port.protocol && own.name == port.name && own.port != port.port
        };
        let socket = SocketAddr::new(endpoint.address, slice.ports.iter().find(is_other)?.port);
        let by = match service.forwarding {
            Some(_) => format!("its annotation {FORWARDING_ANNOTATION}"),
            None => "the key forwarding of the configuration".to_owned(),
        };
        Some(format!(
            "{by} asks for {}, which leaves the destination port as it is, but port {}/{} leads to {socket}: make targetPort \
             equal to port, or set the annotation to nat",
            forwarding.label(),
            port.port,
            port.protocol
        ))
    })
}

/// How many frontends a Service wants.
fn frontends(service: &Service, facts: &NodeFacts) -> usize {
    let addresses = [&service.cluster_ips, &service.external_ips, &service.load_balancer_ips].into_iter().flatten();
    let addresses = addresses.filter(|address| service.cluster_ip(Family::of(**address)).is_some()).count();
    let node_ports = service.ports.iter().filter(|port| port.node_port.is_some()).count();
    let of_vips = addresses.saturating_mul(service.ports.len().max(1));
    of_vips.saturating_add(node_ports.saturating_mul(facts.node_port_addresses.len()))
}

/// What slices of the other family name for this port, where the Service has no part in that family (rule 3).
fn other_family(service: &Service, slices: &[Arc<EndpointSlice>], family: Family, port: &Port) -> Arc<[OtherFamily]> {
    let foreign = slices.iter().filter(|slice| slice.family != family && service.cluster_ip(slice.family).is_none());
    foreign
        .flat_map(|slice| {
            let ports = slice.ports.iter().filter(|of| of.protocol == port.protocol && of.name == port.name);
            ports.flat_map(move |port| {
                slice.endpoints.iter().map(move |endpoint| OtherFamily {
                    socket: SocketAddr::new(endpoint.address, port.port),
                    slice: slice.label.clone(),
                })
            })
        })
        .collect()
}

/// Rule 18.
fn source_ranges(service: &Service, family: Family, facts: &NodeFacts) -> Option<SourceRanges> {
    let ranges: Arc<[_]> = service.source_ranges.iter().copied().filter(|r| Family::of(r.addr()) == family).collect();
    if ranges.is_empty() {
        return None;
    }
    let has_node = facts.primary(family).is_some_and(|primary| ranges.iter().any(|range| range.contains(&primary)));
    let vips = service.load_balancer_ips.iter().copied().filter(|vip| has_node && Family::of(*vip) == family);
    Some(SourceRanges { own_vips: vips.collect(), ranges })
}

struct Sets {
    endpoints: Vec<Endpoint>,
    cluster: EndpointSet,
    local: EndpointSet,
    exists: bool,
}

fn sets(
    id: ServicePortId,
    service: &Service,
    found: &[Candidate<'_>],
    facts: &NodeFacts,
    before: Option<&ServicePort>,
    stock: &mut Stock,
) -> Sets {
    let eligibility = eligibility(found, facts);
    let endpoints: Vec<Endpoint> = found
        .iter()
        .zip(eligibility.cluster.into_iter().zip(eligibility.local))
        .map(|(candidate, (excluded_from_cluster, excluded_from_local))| {
            let Candidate { address, port, endpoint, slice, weight, drained, .. } = *candidate;
            let number = BackendId(stock.backends.number((id, address, port)));
            Endpoint {
                backend: Backend { id: number, address, port, weight },
                state: endpoint.state,
                drained,
                node: endpoint.node.clone(),
                zone: endpoint.zone.clone(),
                slice: slice.label.clone(),
                excluded_from_cluster,
                excluded_from_local,
            }
        })
        .collect();
    let known: Vec<&EndpointSet> = before.iter().flat_map(|before| [&before.cluster, &before.local]).collect();
    let cluster = set(&endpoints, |endpoint| &endpoint.excluded_from_cluster, &known);
    // A table is worth building only where a policy may ask for it.
    let local = if [service.internal_policy, service.external_policy].contains(&TrafficPolicy::Local) {
        set(&endpoints, |endpoint| &endpoint.excluded_from_local, &[&known[..], &[&cluster]].concat())
    } else {
        EndpointSet::empty()
    };
    Sets { endpoints, cluster, local, exists: eligibility.exists }
}

/// The set of the endpoints that are not excluded, with the table of an equal set where one is known.
fn set(endpoints: &[Endpoint], excluded: fn(&Endpoint) -> &Option<Exclusion>, known: &[&EndpointSet]) -> EndpointSet {
    let eligible = || endpoints.iter().filter(|endpoint| excluded(endpoint).is_none());
    let backends: Vec<Backend> = eligible().map(|endpoint| endpoint.backend).collect();
    if backends.is_empty() && endpoints.iter().any(|e| matches!(excluded(e), Some(Exclusion::Refused(_)))) {
        return EndpointSet::refused();
    }
    match known.iter().find(|known| known.backends() == backends) {
        Some(known) if !backends.is_empty() => (*known).clone(),
        _ => EndpointSet::new(backends),
    }
}

#[cfg(test)]
mod tests {
    use crate::cluster::ClusterState;
    use crate::compile::{CompileOptions, Memory, compile};
    use crate::parse::Document;
    use crate::source::manifest;

    fn apply(cluster: &mut ClusterState, name: &str, ports: usize, endpoints: usize) {
        let ports = (1..=ports).map(|port| format!("{{name: p{port}, port: {port}}}")).collect::<Vec<_>>().join(", ");
        let endpoints = (1..=endpoints).map(|last| format!("{{addresses: [10.0.0.{last}]}}")).collect::<Vec<_>>();
        let text = format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{clusterIP: 172.30.0.1, ports: [{ports}]}}}}\n---\n\
             {{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {name}, labels: {{kubernetes.io/service-name: {name}}}}},
              addressType: IPv4, ports: [{ports}], endpoints: [{}]}}",
            endpoints.join(", ")
        );
        for document in manifest::read(&text).documents {
            let Document::Taken(parsed) = document else { panic!("{document:?}") };
            cluster.apply(parsed, None);
        }
    }

    #[test]
    fn a_service_whose_ports_and_endpoints_multiply_beyond_measure_is_left_out() {
        let (mut cluster, mut memory) = (ClusterState::default(), Memory::default());
        memory.stock.most_endpoints = 20;
        let mut served = |cluster: &ClusterState| {
            let compiled = compile(cluster, &CompileOptions::default(), &mut memory);
            let problems: Vec<String> = compiled.problems.iter().map(ToString::to_string).collect();
            (compiled.services.service_ports.iter().flatten().count(), problems)
        };
        apply(&mut cluster, "a", 2, 5);
        apply(&mut cluster, "b", 1, 11);
        let (ports, problems) = served(&cluster);
        assert_eq!(ports, 2, "{problems:?}");
        let text = "Service default/b: refused: its ports have 11 endpoints, those of all other Services have 10, and 20 \
                    are the most together; this Service is left out";
        assert_eq!(problems[1..], [text], "the first one is about the node");
        apply(&mut cluster, "b", 1, 10);
        assert_eq!(served(&cluster).0, 3);
        apply(&mut cluster, "b", 2, 10);
        assert_eq!(served(&cluster).0, 2);
        apply(&mut cluster, "a", 1, 1);
        apply(&mut cluster, "b", 2, 9);
        assert_eq!(served(&cluster).0, 3);
    }

    /// A Service with external IPs, and with NodePorts if wanted.
    fn external(cluster: &mut ClusterState, name: &str, addresses: u32, ports: u16, node_ports: bool) {
        let addresses = (0..addresses).map(|n| format!("\"{}\"", std::net::Ipv4Addr::from(0x1400_0000 + n)));
        let addresses = addresses.collect::<Vec<_>>().join(",");
        let node_port = |port| if node_ports { format!(r#","nodePort":{}"#, 30_000 + port) } else { String::new() };
        let ports = (1..=ports).map(|port| format!(r#"{{"name":"p{port}","port":{port}{}}}"#, node_port(port)));
        let ports = ports.collect::<Vec<_>>().join(",");
        let text = format!(
            r#"{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{name}"}},"spec":{{"type":"NodePort",
            "clusterIP":"172.30.0.1","externalIPs":[{addresses}],"ports":[{ports}]}}}}"#
        );
        for document in manifest::read(&text).documents {
            let Document::Taken(parsed) = document else { panic!("{document:?}") };
            cluster.apply(parsed, None);
        }
    }

    #[test]
    fn a_service_whose_addresses_and_ports_multiply_beyond_measure_is_left_out() {
        let (mut cluster, mut memory) = (ClusterState::default(), Memory::default());
        memory.stock.most_frontends = 20;
        let mut served = |cluster: &ClusterState| {
            let compiled = compile(cluster, &CompileOptions::default(), &mut memory);
            let problems: Vec<String> = compiled.problems.iter().map(ToString::to_string).collect();
            (compiled.services.service_ports.iter().flatten().count(), problems)
        };
        external(&mut cluster, "a", 4, 2, false);
        external(&mut cluster, "b", 10, 1, false);
        let (ports, problems) = served(&cluster);
        assert_eq!(ports, 2, "{problems:?}");
        let text = "Service default/b: refused: its addresses and ports make 11 frontends, those of all other Services 10, \
                    and 20 are the most together; this Service is left out";
        assert!(problems.iter().any(|problem| problem == text), "{problems:?}");
        external(&mut cluster, "b", 9, 1, false);
        assert_eq!(served(&cluster).0, 3);
        external(&mut cluster, "b", 20, 0, false);
        assert_eq!(served(&cluster).0, 2, "addresses without ports count, too");
        external(&mut cluster, "a", 1, 1, false);
        external(&mut cluster, "b", 8, 2, false);
        assert_eq!(served(&cluster).0, 3);
    }

    /// What each has to itself costs no look at all the others: these would not come to their end.
    #[test]
    fn very_many_addresses_and_claims_to_one_node_port_are_put_together() {
        let (mut cluster, mut memory) = (ClusterState::default(), Memory::default());
        external(&mut cluster, "wide", 100_000, 1, false);
        for n in 0..10_000 {
            external(&mut cluster, &format!("s{n}"), 0, 1, true);
        }
        let compiled = compile(&cluster, &CompileOptions::default(), &mut memory);
        assert_eq!(compiled.services.vips.len(), 100_001);
        assert_eq!(compiled.services.frontends.len(), 100_001);
    }
}
