//! The cluster state as packets need it: each Service on its own, then all frontends put together. Pure.
//!
//! Nothing here asks the kernel or the clock. [`Ids`] is memory, not input: it gives numbers, and spares the work for
//! Services whose objects did not change.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use ringway_shared::service::{ServiceName, ServicePort};
use ringway_shared::snapshot::{Node, Services, Target};
use ringway_shared::{BackendId, Family, Frontend, Matched, Protocol, ServicePortId};

use crate::cluster::ClusterState;
use crate::parse::{ObjectKey, Service};
use crate::problem::{Problem, Severity};

mod eligible;
mod ids;
mod node;
mod service;

pub use ids::Ids;
use node::NodeFacts;
pub use node::{CompileOptions, ZONE_LABEL};
use service::Remembered;

/// What [`compile`] makes.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    /// The Services for the snapshot. Their generation is one more than the last call's.
    pub services: Services,
    /// What did not count, and why; beyond [`ClusterState::problems`].
    pub problems: Vec<Problem>,
    /// Service port numbers that mean something else than before, or are used for the first time.
    pub new_service_ports: Vec<ServicePortId>,
    /// Backend numbers that mean something else than before, or are used for the first time: their counters start anew.
    pub new_backends: Vec<BackendId>,
    /// The health check ports that the node has to serve.
    pub health_checks: Vec<HealthCheck>,
}

/// A healthCheckNodePort: it tells load balancers in front whether this node has endpoints of the Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// The port.
    pub port: u16,
    /// The Service.
    pub service: ServiceName,
    /// How many of its ready endpoints are on this node.
    pub local_endpoints: usize,
}

/// Compiles the cluster state for one node.
pub fn compile(cluster: &ClusterState, options: &CompileOptions, ids: &mut Ids) -> Compiled {
    ids.generation = ids.generation.wrapping_add(1);
    let generation = ids.generation;
    let mut problems = Vec::new();
    let facts = NodeFacts::new(cluster, options, &mut problems);
    let same_node = ids.facts.as_ref() == Some(&facts);
    let mut services: Vec<(&Service, Remembered)> = Vec::new();
    let mut gone = std::mem::take(&mut ids.remembered);
    for service in cluster.services() {
        let slices: Vec<_> = cluster.slices_of(&service.name).cloned().collect();
        let before = gone.remove(&service.name);
        let compiled = match before {
            Some(before) if same_node && before.is_of(service, &slices) => before,
            before => {
                let compiled = service::compile(service, slices, &facts, before.as_ref(), ids);
                if let Some(before) = before {
                    before.retire(Some(&compiled), generation, ids);
                }
                compiled
            }
        };
        problems.extend(compiled.problem.clone());
        services.push((service, compiled));
    }
    for before in gone.into_values() {
        before.retire(None, generation, ids);
    }
    let mut assembly = Assembly::new(&facts, options, cluster);
    // The oldest Service gets what two claim; one without a date counts as the youngest.
    services.sort_by_key(|(service, _)| (service.created.is_none(), service.created, &service.name));
    assembly.add_all(&services);
    problems.extend(assembly.problems);
    let mut compiled = Compiled {
        services: assembly.services,
        problems,
        health_checks: services
            .iter()
            .filter_map(|(service, compiled)| health_check(service, compiled, &facts))
            .collect(),
        ..Compiled::default()
    };
    compiled.services.generation = generation;
    compiled.services.service_ports.resize(ids.service_port_bound() as usize, None);
    for port in services.iter().flat_map(|(_, compiled)| &compiled.ports).map(|compiled| &compiled.port) {
        if let Some(place) = compiled.services.service_ports.get_mut(port.id.0 as usize) {
            *place = Some(port.clone());
        }
    }
    ids.remembered = services.into_iter().map(|(service, compiled)| (service.name.clone(), compiled)).collect();
    ids.facts = Some(facts);
    (compiled.new_service_ports, compiled.new_backends) = ids.take_new();
    compiled
}

fn health_check(service: &Service, compiled: &Remembered, facts: &NodeFacts) -> Option<HealthCheck> {
    let port = service.health_check_node_port.filter(|_| service.ignored.is_none())?;
    let here = |node: &Option<Arc<str>>| node.as_ref() == Some(&facts.name);
    let endpoints = compiled.ports.iter().flat_map(|compiled| compiled.port.endpoints.iter());
    let ready: HashSet<IpAddr> =
        endpoints.filter(|e| e.state.ready && here(&e.node)).map(|endpoint| endpoint.backend.address).collect();
    Some(HealthCheck { port, service: service.name.clone(), local_endpoints: ready.len() })
}

/// The frontends of all Services, put together in the order of rule 6.
struct Assembly<'f> {
    services: Services,
    facts: &'f NodeFacts,
    problems: Vec<Problem>,
}

impl<'f> Assembly<'f> {
    fn new(facts: &'f NodeFacts, options: &CompileOptions, cluster: &ClusterState) -> Self {
        let mut service_cidrs: Vec<IpNet> = options.service_cidrs.clone();
        service_cidrs.extend(cluster.service_cidrs().flat_map(|object| &object.cidrs));
        service_cidrs.sort();
        service_cidrs.dedup();
        let services = Services {
            service_cidrs,
            node: Node { addresses: facts.addresses.iter().copied().collect(), pod_cidrs: facts.pod_cidrs.clone() },
            masquerade_all: options.masquerade_all,
            ..Services::default()
        };
        Assembly { services, facts, problems: Vec::new() }
    }

    fn add_all(&mut self, services: &[(&Service, Remembered)]) {
        for matched in [Matched::ClusterIp, Matched::ExternalIp, Matched::LoadBalancerIp] {
            for (service, compiled) in services {
                self.add_vips(matched, service, compiled);
            }
        }
        let health_checks: HashMap<u16, &ServiceName> = services
            .iter()
            .filter(|(service, _)| service.ignored.is_none())
            .filter_map(|(service, _)| Some((service.health_check_node_port?, &service.name)))
            .collect();
        for (service, compiled) in services {
            self.add_node_ports(service, compiled, &health_checks);
        }
    }

    fn add_vips(&mut self, matched: Matched, service: &Service, compiled: &Remembered) {
        // A Service that does not count, or is refused, owns nothing. One without ports still owns its addresses.
        if service.ignored.is_some() || compiled.problem.is_some() {
            return;
        }
        let addresses = match matched {
            Matched::ClusterIp => &service.cluster_ips,
            Matched::ExternalIp => &service.external_ips,
            Matched::LoadBalancerIp | Matched::NodePort => &service.load_balancer_ips,
        };
        // Rule 3: a family without a ClusterIP ignores the Service.
        for address in addresses.iter().copied().filter(|a| service.cluster_ip(Family::of(*a)).is_some()) {
            let family = Family::of(address);
            let ports = || compiled.ports.iter().map(|compiled| &compiled.port).filter(|port| port.family == family);
            // The source ranges guard every packet to a load-balancer address, also when the address is listed among the
            // external IPs.
            let guarded = service.load_balancer_ips.contains(&address) && ports().any(|p| p.source_ranges.is_some());
            let matched = if guarded && matched == Matched::ExternalIp { Matched::LoadBalancerIp } else { matched };
            let vip = self.services.vips.entry(address).or_default();
            vip.cluster_ip |= matched == Matched::ClusterIp;
            // Rule 7: on a ClusterIP every port is ours.
            vip.host_owned = self.facts.owns(address) && !vip.cluster_ip;
            for port in ports() {
                self.add(Frontend { address, protocol: port.protocol, port: port.port }, matched, port);
            }
        }
    }

    fn add_node_ports(&mut self, service: &Service, compiled: &Remembered, health: &HashMap<u16, &ServiceName>) {
        for compiled in &compiled.ports {
            let (Some(number), port) = (compiled.node_port, &compiled.port) else { continue };
            // Rule 9.
            if let Some(other) = health.get(&number).filter(|_| port.protocol == Protocol::Tcp) {
                self.problems.push(Problem::of_object(
                    Severity::Warning,
                    &ObjectKey::of_service(&service.name),
                    format!("the nodePort {number} is not served: it is the healthCheckNodePort of {other}"),
                ));
                continue;
            }
            let facts = self.facts;
            for address in facts.node_port_addresses.iter().copied().filter(|a| Family::of(*a) == port.family) {
                self.add(Frontend { address, protocol: port.protocol, port: number }, Matched::NodePort, port);
            }
        }
    }

    fn add(&mut self, frontend: Frontend, matched: Matched, port: &Arc<ServicePort>) {
        let Some(first) = self.services.frontends.get(&frontend) else {
            let target = Target { matched, service_port: port.clone() };
            if matched != Matched::NodePort {
                self.services.vips.entry(frontend.address).or_default().targets.push(target.clone());
            }
            self.services.frontends.insert(frontend, target);
            return;
        };
        let first = &first.service_port.service;
        if *first != port.service {
            self.problems.push(Problem::of_object(
                Severity::Warning,
                &ObjectKey::of_service(&port.service),
                format!("{frontend} belongs to Service {first} already, which has it first; change one of the two"),
            ));
        }
    }
}
