//! The cluster state as packets need it: each Service on its own, then all frontends put together. Pure.
//!
//! Nothing here asks the kernel or the clock. [`Memory`] is not input: it gives numbers, and spares the work for
//! everything that did not change. What a change costs does not depend on the size of the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use ringway_shared::service::ServiceName;
use ringway_shared::snapshot::{Node, Services};
use ringway_shared::{BackendId, Family, ServicePortId};

use crate::cluster::ClusterState;
use crate::problem::Problem;
use crate::watch;

mod assembly;
mod claims;
mod eligible;
mod memory;
mod node;
mod numbers;
mod overlooked;
mod remembered;
mod service;
mod stock;

use assembly::Assembly;
pub use memory::Memory;
use node::NodeFacts;
pub use node::{CompileOptions, ZONE_LABEL};
use remembered::Remembered;

/// What [`compile`] makes.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    /// The Services for the snapshot. Their generation is one more than the last call's.
    pub services: Services,
    /// What did not count, and why; beyond [`ClusterState::problems`].
    pub problems: Arc<[Problem]>,
    /// Service port numbers that mean something else than before, or are used for the first time.
    pub new_service_ports: Vec<ServicePortId>,
    /// Backend numbers that mean something else than before, or are used for the first time: their counters start anew.
    pub new_backends: Vec<BackendId>,
    /// The health check ports that the node has to serve.
    pub health_checks: Arc<[HealthCheck]>,
}

/// A healthCheckNodePort: it tells load balancers in front whether this node has endpoints of the Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// The port.
    pub port: u16,
    /// The Service.
    pub service: ServiceName,
    /// How many of its ready endpoints are on this node, for each family that the Service has.
    pub local_endpoints: BTreeMap<Family, usize>,
}

/// Compiles the cluster state for one node.
pub fn compile(cluster: &ClusterState, options: &CompileOptions, memory: &mut Memory) -> Compiled {
    memory.generation = memory.generation.wrapping_add(1);
    let generation = memory.generation;
    let mut problems = Vec::new();
    let facts = NodeFacts::new(cluster, options, &mut problems);
    // Another node means other sets: then everything is compiled, although sets that stay the same keep their tables.
    let before = memory.facts.replace(facts.clone());
    let same_node = before.as_ref().is_some_and(|before| before.is_same_node(&facts));
    let mut changed = cluster.changed_services(&memory.cluster);
    // An address that comes or goes on an interface concerns the VIPs and endpoints that it equals, and one that is drained
    // its endpoints: nothing else.
    if let Some(before) = before.filter(|before| same_node && *before != facts) {
        let moved = |address| before.differs_at(&facts, address);
        let concerned = memory.services.iter().filter(|(_, compiled)| compiled.has_endpoint(moved));
        changed.extend(concerned.map(|(name, _)| name.clone()));
        changed.sort();
        changed.dedup();
        memory.assembly.touch(moved);
    }
    if !same_node {
        changed.extend(memory.services.keys().cloned());
        changed.sort();
        changed.dedup();
        memory.assembly = Assembly::default();
    }
    memory.assembly.services.generation = generation;
    for name in changed {
        watch::beat();
        let (before, stock) = (memory.services.remove(&name), &mut memory.stock);
        let compiled = cluster
            .service(&name)
            .map(|service| service::compile(service, cluster.slice_list(&name), &facts, before.as_ref(), stock));
        let endpoints = |of: &Option<_>| of.as_ref().map_or(0, Remembered::endpoints);
        stock.endpoints = stock.endpoints - endpoints(&before) + endpoints(&compiled);
        let frontends = |of: &Option<Remembered>| of.as_ref().map_or(0, |of| of.frontends);
        stock.frontends = stock.frontends - frontends(&before) + frontends(&compiled);
        if let Some(before) = &before {
            before.retire(compiled.as_ref(), generation, stock);
        }
        memory.assembly.replace(before.as_ref().filter(|_| same_node), compiled.as_ref(), &facts);
        memory.services.extend(compiled.map(|compiled| (name, compiled)));
    }
    memory.assembly.settle(&memory.services, &facts);
    let services = &mut memory.assembly.services;
    services.service_cidrs = service_cidrs(cluster, options);
    services.node = Node { addresses: facts.addresses.iter().copied().collect(), pod_cidrs: facts.pod_cidrs.clone() };
    services.masquerade_all = options.masquerade_all;
    let bound = memory.stock.service_ports.bound() as usize;
    if services.service_ports.len() < bound {
        services.service_ports.resize(bound, None);
    }
    if services.changed.len() < bound {
        Arc::make_mut(&mut services.changed).resize(bound, generation);
    }
    let services = services.clone();
    let problems_changed = !same_node || memory.node_problems != problems;
    let (new_service_ports, new_backends) = memory.stock.take_new();
    let compiled = Compiled {
        services,
        problems: memory.assembly.problems(&problems, problems_changed),
        new_service_ports,
        new_backends,
        health_checks: memory.assembly.health_checks(),
    };
    memory.node_problems = problems;
    memory.cluster = cluster.clone();
    compiled
}

/// Those of the configuration and of the ServiceCIDR objects.
fn service_cidrs(cluster: &ClusterState, options: &CompileOptions) -> Vec<IpNet> {
    let mut service_cidrs: Vec<IpNet> = options.service_cidrs.clone();
    service_cidrs.extend(cluster.service_cidrs().flat_map(|object| &object.cidrs));
    service_cidrs.sort();
    service_cidrs.dedup();
    service_cidrs
}

#[cfg(test)]
pub(crate) mod tests;
