//! ringway-dataplane

pub mod forward;
pub mod wire;
