//! What a Service became.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use ringway_shared::service::{ServiceName, ServicePort};
use ringway_shared::{BackendId, Family, Protocol, ServicePortId};

use super::stock::{ServicePortKey, Stock};
use crate::parse::Service;
use crate::problem::Problem;

/// All Services that there are.
pub(super) type RememberedServices = HashMap<ServiceName, Remembered>;

/// A Service and what it was compiled to.
#[derive(Clone, Debug)]
pub(super) struct Remembered {
    pub(super) service: Arc<Service>,
    pub(super) ports: Vec<CompiledPort>,
    /// How many frontends it wants; an address without ports counts as one.
    pub(super) frontends: usize,
    /// Why it is refused.
    pub(super) problem: Option<Problem>,
    /// What of it gets no packets.
    pub(super) overlooked: Vec<Problem>,
}

/// A compiled service port and what its frontends need to know beyond it.
#[derive(Clone, Debug)]
pub(super) struct CompiledPort {
    pub(super) port: Arc<ServicePort>,
    pub(super) node_port: Option<u16>,
}

impl Remembered {
    /// Whether one of its endpoints, eligible or not, has such an address.
    pub(super) fn has_endpoint(&self, is_meant: impl Fn(IpAddr) -> bool) -> bool {
        let endpoints = self.ports.iter().flat_map(|compiled| compiled.port.endpoints.iter());
        endpoints.map(|endpoint| endpoint.backend.address).any(is_meant)
    }

    /// The endpoints of all its ports.
    pub(super) fn endpoints(&self) -> usize {
        self.ports.iter().map(|compiled| compiled.port.endpoints.len()).sum()
    }

    /// Retires every number that `newer` does not use.
    pub(super) fn retire(&self, newer: Option<&Remembered>, generation: u32, stock: &mut Stock) {
        let newer = || newer.iter().flat_map(|newer| &newer.ports);
        let ports: HashSet<ServicePortId> = newer().map(|compiled| compiled.port.id).collect();
        let backends: HashSet<BackendId> =
            newer().flat_map(|compiled| compiled.port.endpoints.iter()).map(|endpoint| endpoint.backend.id).collect();
        for port in self.ports.iter().map(|compiled| &compiled.port) {
            for backend in port.endpoints.iter().map(|endpoint| endpoint.backend) {
                if !backends.contains(&backend.id) {
                    stock.backends.retire((port.id, backend.address, backend.port), generation);
                }
            }
            if !ports.contains(&port.id) {
                stock.service_ports.retire(key(&self.service, port.family, port.protocol, port.port), generation);
            }
        }
    }
}

/// What makes this port of a Service the same one from compile to compile.
pub(super) fn key(service: &Service, family: Family, protocol: Protocol, port: u16) -> ServicePortKey {
    ServicePortKey { service: service.name.clone(), family, protocol, port }
}
