//! The cluster state as packets need it: each Service on its own, then all frontends put together. Pure.
//!
//! Nothing here asks the kernel or the clock. [`Ids`] is memory, not input: it gives numbers, and spares the work for
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
mod ids;
mod node;
mod overlooked;
mod service;

use assembly::Assembly;
pub use ids::Ids;
use node::NodeFacts;
pub use node::{CompileOptions, ZONE_LABEL};

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
pub fn compile(cluster: &ClusterState, options: &CompileOptions, ids: &mut Ids) -> Compiled {
    ids.generation = ids.generation.wrapping_add(1);
    let generation = ids.generation;
    let mut problems = Vec::new();
    let facts = NodeFacts::new(cluster, options, &mut problems);
    // Another node means other sets: then everything is compiled, although sets that stay the same keep their tables.
    let before = ids.facts.replace(facts.clone());
    let same_node = before.as_ref().is_some_and(|before| before.is_same_node(&facts));
    let mut changed = cluster.changed_services(&ids.compiled);
    // An address that comes or goes on an interface concerns the VIPs and endpoints that it equals, and nothing else.
    if let Some(before) = before.filter(|before| same_node && before.host != facts.host) {
        let moved = |address| before.owns(address) != facts.owns(address);
        let concerned = ids.remembered.iter().filter(|(_, compiled)| compiled.has_endpoint(moved));
        changed.extend(concerned.map(|(name, _)| name.clone()));
        changed.sort();
        changed.dedup();
        ids.assembly.touch(moved);
    }
    if !same_node {
        changed.extend(ids.remembered.keys().cloned());
        changed.sort();
        changed.dedup();
        ids.assembly = Assembly::default();
    }
    ids.assembly.services.generation = generation;
    for name in changed {
        watch::beat();
        let before = ids.remembered.remove(&name);
        let compiled = cluster
            .service(&name)
            .map(|service| service::compile(service, cluster.slice_list(&name), &facts, before.as_ref(), ids));
        let endpoints = |of: &Option<_>| of.as_ref().map_or(0, service::Remembered::endpoints);
        ids.endpoints = ids.endpoints - endpoints(&before) + endpoints(&compiled);
        let frontends = |of: &Option<service::Remembered>| of.as_ref().map_or(0, |of| of.frontends);
        ids.frontends = ids.frontends - frontends(&before) + frontends(&compiled);
        if let Some(before) = &before {
            before.retire(compiled.as_ref(), generation, ids);
        }
        ids.assembly.replace(before.as_ref().filter(|_| same_node), compiled.as_ref(), &facts);
        ids.remembered.extend(compiled.map(|compiled| (name, compiled)));
    }
    ids.assembly.settle(&ids.remembered, &facts);
    let services = &mut ids.assembly.services;
    services.service_cidrs = service_cidrs(cluster, options);
    services.node = Node { addresses: facts.addresses.iter().copied().collect(), pod_cidrs: facts.pod_cidrs.clone() };
    services.masquerade_all = options.masquerade_all;
    let bound = ids.service_ports.bound() as usize;
    if services.service_ports.len() < bound {
        services.service_ports.resize(bound, None);
    }
    if services.changed.len() < bound {
        Arc::make_mut(&mut services.changed).resize(bound, generation);
    }
    let services = services.clone();
    let problems_changed = !same_node || ids.node_problems != problems;
    let (new_service_ports, new_backends) = ids.take_new();
    let compiled = Compiled {
        services,
        problems: ids.assembly.problems(&problems, problems_changed),
        new_service_ports,
        new_backends,
        health_checks: ids.assembly.health_checks(),
    };
    ids.node_problems = problems;
    ids.compiled = cluster.clone();
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
