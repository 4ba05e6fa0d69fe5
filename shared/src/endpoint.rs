//! Endpoints as the control side knows them, and the sets that new connections choose from.

use std::fmt;
use std::sync::Arc;

use crate::address::Family;
pub use crate::backend::{Backend, BackendId};
use crate::maglev::Maglev;
use crate::policy::TrafficPolicy;

/// The conditions of an EndpointSlice endpoint after their defaults (rule 4 of the Service semantics).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EndpointState {
    /// May get new flows.
    pub ready: bool,
    /// Answers, although it may be about to go.
    pub serving: bool,
    /// The pod is being deleted.
    pub terminating: bool,
}

/// Why an endpoint is not in a set. Printed by `trace` and `services`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exclusion {
    /// Not ready, and not a fallback either.
    NotReady,
    /// Terminating while others are ready.
    Terminating,
    /// Its hints name other nodes.
    OtherNodeHint,
    /// Its hints name other zones.
    OtherZoneHint,
    /// The set is local and the endpoint is on another node (or on none that is known).
    OtherNode(Option<Arc<str>>),
    /// Its weight is 0, and others have more.
    Weightless,
    /// Drained by command, and others are ready.
    Drained,
    /// It cannot be forwarded to, with the reason.
    Refused(Arc<str>),
    /// Its slice gives the port this name, which is the name of no port of the Service.
    OtherPortName(Arc<str>),
    /// It has an address of this family, and the packet is of the other one.
    OtherFamily(Family),
}

impl Exclusion {
    /// The number of the rule that takes an endpoint out of the set for `policy`.
    pub const fn rule(&self, policy: TrafficPolicy) -> u8 {
        match (self, policy) {
            (Exclusion::OtherPortName(_), _) => 2,
            (Exclusion::OtherFamily(_), _) => 3,
            (Exclusion::NotReady | Exclusion::Terminating, TrafficPolicy::Cluster) => 10,
            (Exclusion::OtherNodeHint | Exclusion::OtherZoneHint, _) => 11,
            (Exclusion::NotReady | Exclusion::Terminating, TrafficPolicy::Local) | (Exclusion::OtherNode(_), _) => 12,
            (Exclusion::Refused(_), _) => 13,
            (Exclusion::Weightless, _) => 24,
            (Exclusion::Drained, _) => 25,
        }
    }
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exclusion::NotReady => f.write_str("not ready"),
            Exclusion::Terminating => f.write_str("terminating, and other endpoints are ready"),
            Exclusion::OtherNodeHint => f.write_str("its hints name other nodes"),
            Exclusion::OtherZoneHint => f.write_str("its hints name other zones"),
            Exclusion::OtherNode(Some(node)) => write!(f, "on node {node}, not on this one"),
            Exclusion::OtherNode(None) => f.write_str("names no node, so it is not on this one"),
            Exclusion::Weightless => f.write_str("its weight is 0, and others have more"),
            Exclusion::Drained => f.write_str("drained by command"),
            Exclusion::Refused(reason) => write!(f, "refused: {reason}"),
            Exclusion::OtherPortName(name) if name.is_empty() => f.write_str("its slice gives the port no name"),
            Exclusion::OtherPortName(name) => write!(f, "its slice gives the port the name {name:?}"),
            Exclusion::OtherFamily(family) => write!(f, "it has an {family} address"),
        }
    }
}

/// An endpoint of a service port with everything that a person would ask about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its form in the packet path.
    pub backend: Backend,
    /// Conditions.
    pub state: EndpointState,
    /// By command, it is to get no new flows.
    pub drained: bool,
    /// The node it runs on.
    pub node: Option<Arc<str>>,
    /// The zone it runs in.
    pub zone: Option<Arc<str>>,
    /// The EndpointSlice (namespace/name) that named it.
    pub slice: Arc<str>,
    /// Why it is not in the cluster set; `None` when it is.
    pub excluded_from_cluster: Option<Exclusion>,
    /// Why it is not in the local set; `None` when it is.
    pub excluded_from_local: Option<Exclusion>,
}

/// A set of backends that a new connection may go to, with the Maglev table that picks one. Backends are sorted by
/// address and port, so that equal sets make equal tables everywhere.
#[derive(Clone, Debug)]
pub struct EndpointSet {
    backends: Arc<[Backend]>,
    table: Arc<Maglev>,
    refused: bool,
}

impl EndpointSet {
    /// The set of `backends` with its table. Duplicates (same address and port) count once.
    pub fn new(mut backends: Vec<Backend>) -> Self {
        backends.sort_by_key(|backend| (backend.address, backend.port));
        backends.dedup_by_key(|backend| (backend.address, backend.port));
        let table = Maglev::for_backends(&backends);
        EndpointSet { backends: backends.into(), table: Arc::new(table), refused: false }
    }

    /// The set without backends.
    pub fn empty() -> Self {
        Self::new(Vec::new())
    }

    /// The set that is empty only because its endpoints cannot be forwarded to.
    pub fn refused() -> Self {
        EndpointSet { refused: true, ..Self::empty() }
    }

    /// True when the set is empty only because its endpoints cannot be forwarded to.
    pub fn is_refused(&self) -> bool {
        self.refused
    }

    /// The backends, sorted by address and port.
    pub fn backends(&self) -> &[Backend] {
        &self.backends
    }

    /// True when no connection can go anywhere.
    pub fn is_empty(&self) -> bool {
        self.backends.is_empty()
    }

    /// The Maglev table.
    pub fn table(&self) -> &Maglev {
        &self.table
    }

    /// The backend for a connection with this hash; `None` only in an empty set.
    #[inline]
    pub fn select(&self, hash: u64) -> Option<&Backend> {
        self.backends.get(self.table.lookup(hash)? as usize)
    }
}
