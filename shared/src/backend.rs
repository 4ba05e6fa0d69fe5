//! Backends: endpoints in their numbered form, which packets are sent to.

use std::net::{IpAddr, SocketAddr};

/// The number of a backend: one endpoint (address and port) of one service port. Stable from snapshot to snapshot while
/// the endpoint exists; it indexes the per-worker counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId(pub u32);

/// An endpoint in the form that the packet path uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its number.
    pub id: BackendId,
    /// The pod's address.
    pub address: IpAddr,
    /// The pod's port, host byte order.
    pub port: u16,
    /// Its share of new flows in relation to the others; 1 unless `services.weights` says otherwise.
    pub weight: u16,
}

impl Backend {
    /// Address and port.
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}
