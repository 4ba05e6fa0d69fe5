//! The packet path of Ringway: frames in from the kernel's AF_XDP rings, a verdict for each, frames out.

pub mod af_xdp;
pub mod clock;
pub mod flow;
pub mod forward;
pub mod io;
pub mod trace;
pub mod wire;
