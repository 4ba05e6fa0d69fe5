//! What all Services draw from: numbers, and room.

use std::net::IpAddr;

use ringway_shared::service::ServiceName;
use ringway_shared::{BackendId, Family, Protocol, ServicePortId};

use super::numbers::Numbers;

/// What makes a service port the same one from compile to compile.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ServicePortKey {
    pub(super) service: ServiceName,
    pub(super) family: Family,
    pub(super) protocol: Protocol,
    pub(super) port: u16,
}

/// What makes a backend the same one.
pub(super) type BackendKey = (ServicePortId, IpAddr, u16);

/// The most endpoints of all service ports together: an endpoint counts for each port that leads to it.
const MOST_ENDPOINTS: usize = 2_000_000;

/// The most frontends of all Services together, those counted that another Service has first.
const MOST_FRONTENDS: usize = 2_000_000;

/// Numbers for service ports and backends, and room for endpoints and frontends.
#[derive(Debug)]
pub(super) struct Stock {
    pub(super) service_ports: Numbers<ServicePortKey>,
    pub(super) backends: Numbers<BackendKey>,
    /// The endpoints of all service ports, and the most there may be.
    pub(super) endpoints: usize,
    pub(super) most_endpoints: usize,
    /// The frontends that all Services want, and the most there may be.
    pub(super) frontends: usize,
    pub(super) most_frontends: usize,
}

impl Default for Stock {
    fn default() -> Self {
        Stock {
            service_ports: Numbers::default(),
            backends: Numbers::default(),
            endpoints: 0,
            most_endpoints: MOST_ENDPOINTS,
            frontends: 0,
            most_frontends: MOST_FRONTENDS,
        }
    }
}

impl Stock {
    /// The numbers that got a new meaning since the last call.
    pub(super) fn take_new(&mut self) -> (Vec<ServicePortId>, Vec<BackendId>) {
        let (ports, backends) = (self.service_ports.take_new(), self.backends.take_new());
        (ports.into_iter().map(ServicePortId).collect(), backends.into_iter().map(BackendId).collect())
    }
}
