//! Plain data shared by Ringway's control thread and its workers, and the handoff between them.
//!
//! Nothing here does I/O, waits, or is unsafe. The control side builds a [`Snapshot`]; workers read it once a batch;
//! [`decision::decide`] is the one place where a packet's tuple meets a Service, so the packet path and `ringway trace`
//! cannot disagree.
#![forbid(unsafe_code)]

pub mod address;
pub mod adjacency;
pub mod answers;
pub mod backend;
mod candidates;
pub mod counters;
pub mod decision;
pub mod drivers;
pub mod drop_reason;
pub mod endpoint;
pub mod handoff;
pub mod maglev;
pub mod network;
pub mod policy;
pub mod port_set;
pub mod service;
pub mod sharing;
pub mod snapshot;
pub mod suspects;

pub use address::{Family, FiveTuple, Frontend, MacAddress, Protocol};
pub use adjacency::{Adjacency, AdjacencyId, InterfaceId};
pub use backend::{Backend, BackendId};
pub use drop_reason::DropReason;
pub use endpoint::{Endpoint, EndpointSet};
pub use network::Network;
pub use port_set::PortSet;
pub use service::{Matched, ServicePort, ServicePortId};
pub use snapshot::{Generation, Services, Snapshot};
