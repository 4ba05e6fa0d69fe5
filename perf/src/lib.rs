//! Load for Ringway and what comes of it: traffic mixes, generators, recorders, and the beds that benchmarks run in.

pub mod bed;
pub mod control_cost;
pub mod failure;
pub mod flood;
pub mod forged;
pub mod forwarder;
pub mod generator;
pub mod memory_bed;
pub mod recorder;
pub mod traffic;
pub mod ways;
