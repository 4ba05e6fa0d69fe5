//! What a worker reads frames from and writes frames to.

pub mod memory;
pub mod pcap;
