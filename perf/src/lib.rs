//! Load for Ringway and what comes of it: traffic mixes, generators, recorders, and the beds that benchmarks run in.

pub mod memory_bed;
pub mod traffic;
