//! What compile remembers from one call to the next.

use super::NodeFacts;
use super::assembly::Assembly;
use super::remembered::RememberedServices;
use super::stock::Stock;
use crate::cluster::ClusterState;
use crate::problem::Problem;

/// Which number means what, and the results of the last call, so that a Service whose objects did not change is not compiled
/// again. A result does not depend on it but for the numbers.
#[derive(Debug, Default)]
pub struct Memory {
    pub(super) stock: Stock,
    /// The objects of the last call, and what its Services became.
    pub(super) cluster: ClusterState,
    pub(super) services: RememberedServices,
    pub(super) assembly: Assembly,
    pub(super) facts: Option<NodeFacts>,
    pub(super) node_problems: Vec<Problem>,
    pub(super) generation: u32,
}

impl Memory {
    /// Nothing compiled yet, and no numbers given out.
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares that every worker has left the snapshots before the one whose `services.generation` is `generation`:
    /// numbers that it no longer uses may get a new meaning.
    pub fn release(&mut self, generation: u32) {
        self.stock.service_ports.release(generation);
        self.stock.backends.release(generation);
    }

    /// All service port numbers given out so far are below this.
    pub fn service_port_bound(&self) -> u32 {
        self.stock.service_ports.bound()
    }

    /// All backend numbers given out so far are below this.
    pub fn backend_bound(&self) -> u32 {
        self.stock.backends.bound()
    }
}
