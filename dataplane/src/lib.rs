//! The packet path of Ringway: frames in from the kernel's AF_XDP rings, a verdict for each, frames out.

pub mod af_xdp;
pub mod affinity;
pub mod batch;
pub mod clock;
pub mod config;
pub mod direct;
pub mod directory;
pub mod dispatch;
pub mod flow;
pub mod forward;
pub mod fragments;
pub mod handover;
pub mod io;
pub mod pipeline;
pub mod query;
pub mod resolver;
pub mod trace;
pub mod verdict;
pub mod waker;
pub mod wire;
pub mod worker;
