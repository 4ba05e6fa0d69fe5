//! What a worker reads frames from and writes frames to.

pub mod bare;
pub mod kernel_side;
mod large;
pub mod memory;
pub mod pcap;
pub mod port;
pub mod ports;

pub use kernel_side::KernelSide;
pub use port::{Port, PortCounters, PortError, PortOptions};
pub use ports::Ports;
