//! The kernel's AF_XDP interface, one file per kernel noun. All unsafe code of the packet path is below here.
#![allow(dead_code, reason = "the rings, which use the rest of these files, land next")]

mod frame;
mod mapping;
pub mod program;
pub mod umem;

pub use frame::Frame;
pub use umem::{Umem, UmemError, UmemLayout};
